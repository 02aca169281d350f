package admin

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// asksFor is an ask for each endpoint that its scopes let through, whatever
// comes of it, and the PURGE method.
func asksFor(s *Server) (asks []ask, scopes [][]Scope, open []bool) {
	for _, e := range s.endpoints() {
		a := ask{method: e.method, path: strings.NewReplacer("{id}", "p1", "{name}", "nobody").Replace(e.path)}
		switch a.path {
		case "/v1/purges/events", "/debug/pprof/profile", "/debug/pprof/trace":
			a.gone = true // they would go on
		case "/v1/purges":
			if a.method == "POST" {
				a.body = `{"urls":["https://www.example.com/"]}`
			}
		}
		asks, scopes, open = append(asks, a), append(scopes, e.scopes), append(open, e.open)
	}
	asks, scopes, open = append(asks, ask{path: "/debug/pprof/goroutine"}), append(scopes, []Scope{ScopeRead}), append(open, false)
	purge := ask{method: "PURGE", path: "https://www.example.com/"}
	return append(asks, purge), append(scopes, []Scope{ScopePurge}), append(open, false)
}

// Every endpoint times every scope: a token gets in where it has the scope, and
// nowhere else.
func TestAuthorisationMatrix(t *testing.T) {
	s, _, _ := newTestServer(t, &node{purges: &purgesFake{}})
	tokens := map[Scope]string{}
	for i, scope := range allScopes {
		tokens[scope] = addToken(t, s, Token{Name: fmt.Sprint("only-", i), Scopes: []string{string(scope)}})
	}
	asks, wants, open := asksFor(s)
	for i, a := range asks {
		for _, scope := range allScopes {
			a.authorization = "Bearer " + tokens[scope]
			w := s.answer(a)
			want := open[i] || slices.Contains(wants[i], scope)
			if a.method == "POST" && a.path == "/v1/purges" && scope == ScopePurgeAll {
				want = false // gets in, but not with URLs
			}
			if got := w.Code != 403; got != want || w.Code == 401 {
				t.Errorf("%s %s with scope %s: %d %s", a.method, a.path, scope, w.Code, w.Body)
			}
			if w.Code == 403 && !strings.Contains(w.Header().Get("WWW-Authenticate"), `error="insufficient_scope"`) {
				t.Errorf("%s %s: 403 with %q", a.method, a.path, w.Header().Get("WWW-Authenticate"))
			}
		}
		for _, authorization := range []string{"", "Bearer wrong"} {
			s.failures = failures{}
			a.authorization = authorization
			if w := s.answer(a); (w.Code == 401) == open[i] {
				t.Errorf("%s %s with %q: %d", a.method, a.path, authorization, w.Code)
			}
		}
		if a.method == methodPurge {
			continue // its Host is that of what is purged
		}
		a.host = "evil.example"
		if w := s.answer(a); w.Code != 421 {
			t.Errorf("%s %s with another Host: %d", a.method, a.path, w.Code)
		}
	}
}

func TestTokensAreLimited(t *testing.T) {
	s, _, _ := newTestServer(t, &node{purges: &purgesFake{}})
	token := addToken(t, s, Token{Name: "busy", Scopes: []string{"purge", "read", "config", "drain", "dns"}})
	busy := identify(s.live.Load().credentials, token)
	exhaust := func() {
		busy.use.mu.Lock()
		defer busy.use.mu.Unlock()
		busy.use.paid = time.Now().Add(useBurst*useEvery + time.Minute)
	}
	exhaust()
	asks, _, open := asksFor(s)
	for i, a := range asks {
		a.authorization = "Bearer " + token
		w := s.answer(a)
		if want := !open[i]; (w.Code == 429) != want || want && w.Header().Get("Retry-After") == "" {
			t.Errorf("%s %s: %d %s", a.method, a.path, w.Code, w.Body)
		}
	}
	if got := s.stats.TokenLimited.Load(); got != uint64(len(asks)-2) {
		t.Errorf("counted %d", got)
	}
	// A reload forgives nothing.
	if err := s.Apply(s.cfg); err != nil {
		t.Fatal(err)
	}
	if w := s.answer(ask{path: "/v1/status", authorization: "Bearer " + token}); w.Code != 429 {
		t.Errorf("after a reload: %d", w.Code)
	}
}

func TestUse(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	var u use
	for i := range useBurst {
		if u.take(1, now) > 0 {
			t.Fatalf("refused after %d", i)
		}
	}
	if wait := u.take(1, now); wait != useEvery {
		t.Errorf("wait %v, want %v", wait, useEvery)
	}
	if wait := u.take(100, now.Add(50*useEvery)); wait != 50*useEvery {
		t.Errorf("a large one waits %v", wait)
	}
	if wait := u.take(50, now.Add(50*useEvery)); wait != 0 {
		t.Errorf("one that fits waits %v", wait)
	}
	if u.take(useBurst, now.Add(time.Hour)) != 0 || u.take(1, now.Add(time.Hour)) == 0 {
		t.Error("time saves up more than the burst")
	}
}

func TestHostsOfAToken(t *testing.T) {
	scopes := []Scope{ScopePurge}
	for _, tt := range []struct {
		hosts []string
		host  string
		want  bool
	}{
		{nil, "anything.example", true},
		{[]string{"www.example.com"}, "www.example.com", true},
		{[]string{"www.example.com"}, "www.example.com:8443", true},
		{[]string{"www.example.com"}, "example.com", false},
		{[]string{"www.example.com"}, "a.www.example.com", false},
		{[]string{"www.example.com"}, "www.example.com.evil.example", false},
		{[]string{"*.example.com"}, "www.example.com", true},
		{[]string{"*.example.com"}, "a.b.example.com:1", true},
		{[]string{"*.example.com"}, "example.com", false},
		{[]string{"*.example.com"}, ".example.com", false},
		{[]string{"*.example.com"}, "evilexample.com", false},
		{[]string{"a.example", "[2001:db8::1]"}, "[2001:db8::1]", true},
		{[]string{"a.example", "[2001:db8::1]"}, "[2001:db8::1]:8080", true},
		{[]string{"[2001:db8::1]"}, "[2001:db8::2]", false},
	} {
		c := &credential{scopes: scopes, hosts: tt.hosts}
		if got := c.mayPurge(tt.host); got != tt.want {
			t.Errorf("%v: %s is %v", tt.hosts, tt.host, got)
		}
	}
	if (&credential{scopes: []Scope{ScopePurgeAll, ScopeRead}}).mayPurge("a") {
		t.Error("without the scope")
	}
}

func TestExpiry(t *testing.T) {
	s, _, _ := newTestServer(t, &node{})
	old := addToken(t, s, Token{Name: "old", Scopes: []string{"read"}, Expires: time.Now().Add(-time.Second).Format(time.RFC3339)})
	young := addToken(t, s, Token{Name: "young", Scopes: []string{"read"}, Expires: time.Now().Add(time.Hour).Format(time.RFC3339)})
	if w := s.answer(ask{path: "/v1/status", authorization: "Bearer " + old}); w.Code != 401 || !strings.Contains(w.Body.String(), "expired") {
		t.Errorf("expired: %d %s", w.Code, w.Body)
	}
	if w := s.answer(ask{path: "/v1/status", authorization: "Bearer " + young}); w.Code != 200 {
		t.Errorf("not yet expired: %d", w.Code)
	}
}

func TestTokensAreListedAndRevoked(t *testing.T) {
	data := t.TempDir()
	s, token, logged := newTestServer(t, &node{})
	s.src.Data = data
	s.revoked, _ = openRevoked(data)
	s.audit.path = filepath.Join(data, AuditFile)
	ci := addToken(t, s, Token{Name: "ci", Scopes: []string{"purge"}, Hosts: []string{"www.example.com"}, Expires: "2999-01-01T00:00:00Z"})
	addToken(t, s, Token{Name: "old", Scopes: []string{"read"}, Expires: "2001-01-01T00:00:00Z"})
	ops := "Bearer " + token
	list := func() (list TokenList) {
		if err := json.Unmarshal(s.answer(ask{path: "/v1/tokens", authorization: ops}).Body.Bytes(), &list); err != nil {
			t.Fatal(err)
		}
		return list
	}
	states := func() (states string) {
		for _, one := range list().Tokens {
			states += one.Name + "=" + one.State + " "
		}
		return states
	}
	if got := states(); got != "ops=active ci=active old=expired " {
		t.Errorf("tokens %s", got)
	}
	purge := ask{method: "PURGE", path: "https://www.example.com/", authorization: "Bearer " + ci}
	if w := s.answer(purge); w.Code != 503 { // the fake starts
		t.Errorf("before: %d", w.Code)
	}
	if w := s.answer(ask{method: "DELETE", path: "/v1/tokens/nobody", authorization: ops}); w.Code != 404 {
		t.Errorf("a name that is not there: %d", w.Code)
	}
	for range 2 { // twice is as once
		w := s.answer(ask{method: "DELETE", path: "/v1/tokens/ci", authorization: ops})
		if w.Code != 200 || !strings.Contains(w.Body.String(), `"state": "revoked"`) {
			t.Errorf("revoke: %d %s", w.Code, w.Body)
		}
	}
	if w := s.answer(purge); w.Code != 401 || !strings.Contains(w.Body.String(), "revoked") {
		t.Errorf("after: %d %s", w.Code, w.Body)
	}
	if got := states(); got != "ops=active ci=revoked old=expired " {
		t.Errorf("tokens %s", got)
	}
	if err := s.Apply(s.cfg); err != nil {
		t.Fatal(err)
	}
	if w := s.answer(purge); w.Code != 401 {
		t.Errorf("after a reload: %d", w.Code)
	}
	// And after a restart.
	again, err := openRevoked(data)
	if err != nil || len(again.list) != 1 || again.list[0].By != "ops" {
		t.Fatalf("%v, %+v", err, again)
	}
	if info, _ := os.Stat(again.path); info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v", info.Mode())
	}
	s.revoked = again
	if w := s.answer(purge); w.Code != 401 {
		t.Errorf("after a restart: %d", w.Code)
	}
	// A new token may have the name.
	s.cfg.Tokens = slices.DeleteFunc(s.cfg.Tokens, func(t Token) bool { return t.Name == "ci" })
	purge.authorization = "Bearer " + addToken(t, s, Token{Name: "ci", Scopes: []string{"purge"}})
	if w := s.answer(purge); w.Code != 503 {
		t.Errorf("a new one of that name: %d", w.Code)
	}
	audit, err := os.ReadFile(s.audit.path)
	if err != nil || !bytes.Contains(audit, []byte(`"token":"ops","client":"192.0.2.1","method":"DELETE","path":"/v1/tokens/ci","what":"revoke the token ci","status":200`)) {
		t.Errorf("%v: %s", err, audit)
	}
	for _, secret := range []string{token, ci} {
		if bytes.Contains(audit, []byte(secret)) || strings.Contains(logged.String(), secret) {
			t.Error("a token is written down")
		}
	}
}

func TestRevokedListThatFails(t *testing.T) {
	s, token, _ := newTestServer(t, &node{})
	ci := addToken(t, s, Token{Name: "ci", Scopes: []string{"read"}})
	s.revoked.path = filepath.Join(s.src.Data, "file", "below")
	if err := os.WriteFile(filepath.Join(s.src.Data, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	w := s.answer(ask{method: "DELETE", path: "/v1/tokens/ci", authorization: "Bearer " + token})
	if w.Code != 500 || !strings.Contains(w.Body.String(), "until the next start") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if w := s.answer(ask{path: "/v1/status", authorization: "Bearer " + ci}); w.Code != 401 {
		t.Errorf("still let in: %d", w.Code)
	}
	for _, content := range []string{"", "{", `[{"sha256":"ab"}]`, `[{"sha256":"x"}]`, strings.Repeat(" ", revokedBytesMax+1)} {
		data := t.TempDir()
		if err := os.WriteFile(filepath.Join(data, RevokedFile), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := openRevoked(data); err == nil || !strings.Contains(err.Error(), RevokedFile) {
			t.Errorf("%.20q: %v", content, err)
		}
	}
}

func TestRevokedListIsBounded(t *testing.T) {
	r, err := openRevoked(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	r.list = make([]revocation, revokedMax)
	c := &credential{name: "x", hash: [32]byte{1}}
	if err := r.add(c.hash, c.name, "ops", time.Now()); err == nil || !strings.Contains(err.Error(), "until the next start") {
		t.Errorf("error %v", err)
	}
	if _, is := r.at(c.hash); !is {
		t.Error("not revoked")
	}
}

func TestAuditLogIsBounded(t *testing.T) {
	s, token, _ := newTestServer(t, &node{})
	s.audit.bytesMax = 1000
	for range 50 {
		s.answer(ask{method: "POST", path: "/v1/reload", authorization: "Bearer " + token})
	}
	for _, name := range []string{s.audit.path, s.audit.path + ".1"} {
		b, err := os.ReadFile(name)
		if err != nil || len(b) == 0 || len(b) > 1000 {
			t.Errorf("%s: %v, %d bytes", name, err, len(b))
		}
		for line := range bytes.Lines(b) {
			var l auditLine
			if err := json.Unmarshal(line, &l); err != nil || l.What != "reload" || l.Token != "ops" || l.Result != "in force" || time.Since(l.Time) > time.Hour {
				t.Errorf("%v in %s", err, line)
			}
		}
	}
	if entries, _ := os.ReadDir(s.src.Data); len(entries) != 2 {
		t.Errorf("files %v", entries)
	}
	if info, err := os.Stat(s.audit.path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, mode %v", err, info.Mode())
	}
	s.audit.path = filepath.Join(s.src.Data, "not", "there")
	if w := s.answer(ask{method: "POST", path: "/v1/reload", authorization: "Bearer " + token}); w.Code != 200 || s.stats.AuditErrors.Load() != 1 {
		t.Errorf("%d, counted %d", w.Code, s.stats.AuditErrors.Load())
	}
	long := strings.Repeat("x", 1<<20)
	r := httptest.NewRequest("POST", "/v1/reload?"+long, nil)
	s.audit.path = filepath.Join(s.src.Data, "long")
	s.audit.note(&credential{name: "a"}, r, long, 200, long)
	if b, _ := os.ReadFile(s.audit.path); len(b) > 4*auditTextBytesMax {
		t.Errorf("a line of %d bytes", len(b))
	}
}

// What only reads, and what is denied: the one leaves no line, the other does.
func TestAuditLogNamesWhatWasDenied(t *testing.T) {
	s, _, _ := newTestServer(t, &node{})
	token := addToken(t, s, Token{Name: "prometheus", Scopes: []string{"read"}})
	s.answer(ask{path: "/metrics", authorization: "Bearer " + token})
	if b, err := os.ReadFile(s.audit.path); err == nil {
		t.Errorf("reading left %s", b)
	}
	s.answer(ask{method: "POST", path: "/v1/reload", authorization: "Bearer " + token})
	if b, _ := os.ReadFile(s.audit.path); !bytes.Contains(b, []byte(`"token":"prometheus"`)) || !bytes.Contains(b, []byte(`"status":403,"result":"no scope config"`)) {
		t.Errorf("line %s", b)
	}
}
