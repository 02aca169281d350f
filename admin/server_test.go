package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestTokenIsWantedForAllButHealth(t *testing.T) {
	s, token, _ := newTestServer(t, &node{})
	right := "Bearer " + token
	tests := []struct {
		name string
		ask  ask
		want int
	}{
		{"health needs none", ask{path: "/healthz"}, 200},
		{"readiness needs none", ask{path: "/readyz"}, 200},
		{"metrics without", ask{path: "/metrics"}, 401},
		{"metrics with", ask{path: "/metrics", authorization: right}, 200},
		{"scheme in any case", ask{path: "/metrics", authorization: "bearer " + token}, 200},
		{"wrong token", ask{path: "/metrics", authorization: "Bearer " + strings.Repeat("x", 43)}, 401},
		{"token cut short", ask{path: "/metrics", authorization: right[:len(right)-1]}, 401},
		{"the hash is not the token", ask{path: "/metrics", authorization: "Bearer " + s.cfg.Tokens[0].SHA256}, 401},
		{"empty token", ask{path: "/metrics", authorization: "Bearer "}, 401},
		{"other scheme", ask{path: "/metrics", authorization: "Basic " + token}, 401},
		{"token in the query", ask{path: "/metrics?access_token=" + token}, 401},
		{"status without", ask{path: "/v1/status"}, 401},
		{"config without", ask{path: "/v1/config"}, 401},
		{"reload without", ask{method: "POST", path: "/v1/reload"}, 401},
		{"profiles without", ask{path: "/debug/pprof/heap"}, 401},
		{"profiles with", ask{path: "/debug/pprof/heap", authorization: right}, 200},
		{"a profile that is not there", ask{path: "/debug/pprof/nothing", authorization: right}, 404},
		{"a path that is not there, without", ask{path: "/nothing"}, 401},
		{"a path that is not there, with", ask{path: "/nothing", authorization: right}, 404},
		{"below a path that is open", ask{path: "/healthz/x"}, 401},
		{"wrong method", ask{path: "/v1/reload", authorization: right}, 405},
		{"wrong method on health", ask{method: "POST", path: "/healthz"}, 405},
		{"HEAD goes with GET", ask{method: "HEAD", path: "/v1/status", authorization: right}, 200},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s.failures = failures{}
			w := s.answer(tt.ask)
			if w.Code != tt.want {
				t.Fatalf("status %d, want %d: %s", w.Code, tt.want, w.Body)
			}
			if w.Code == 401 && !strings.HasPrefix(w.Header().Get("WWW-Authenticate"), "Bearer") {
				t.Errorf("401 without WWW-Authenticate (RFC 9110 15.5.2)")
			}
			if w.Code >= 400 && !strings.HasPrefix(tt.ask.path, "/debug/pprof/nothing") {
				var p problem
				if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil || p.Status != tt.want || p.Detail == "" || w.Header().Get("Content-Type") != "application/problem+json" {
					t.Errorf("not a problem: %v %s", err, w.Body)
				}
			}
		})
	}
	if got := s.Stats().AuthFailures.Load(); got != 13 {
		t.Errorf("counted %d failures, want 13", got)
	}
}

func TestTwoAuthorizationFieldsAreRefused(t *testing.T) {
	s, token, _ := newTestServer(t, &node{})
	r := httptest.NewRequest("GET", "http://localhost/metrics", nil)
	r.Header["Authorization"] = []string{"Bearer " + token, "Bearer " + token}
	w := httptest.NewRecorder()
	s.http.Handler.ServeHTTP(w, r)
	if w.Code != 401 {
		t.Errorf("status %d, want 401", w.Code)
	}
}

func TestHostMustBeOurs(t *testing.T) {
	s, token, _ := newTestServer(t, &node{})
	tests := []struct {
		host string
		want int
	}{
		{"localhost", 200},
		{"LOCALHOST:8081", 200},
		{"localhost.", 200},
		{"127.0.0.1:1", 200},
		{"[::1]:8081", 200},
		{"[::1]", 200},
		{"edge1.example.net:8081", 200},
		{"evil.example", 421},
		{"evil.example:8081", 421},
		{"localhost.evil.example", 421},
		{"127.0.0.1.evil.example", 421},
		{"evil.example@localhost", 421},
		{"192.0.2.9", 421},
		{"[::1", 421},
		{"[]", 421},
	}
	for _, tt := range tests {
		for _, path := range []string{"/v1/status", "/readyz"} {
			if w := s.answer(ask{path: path, host: tt.host, authorization: "Bearer " + token}); w.Code != tt.want {
				t.Errorf("%s with Host %s: %d, want %d", path, tt.host, w.Code, tt.want)
			}
		}
	}
	if got := s.Stats().HostRefused.Load(); got != 16 {
		t.Errorf("counted %d, want 16", got)
	}
}

func TestHostMayBeTheAddressReached(t *testing.T) {
	_, hash := NewToken()
	s, err := New(Config{Listen: "0.0.0.0:0", Public: true, Tokens: []Token{{Name: "ops", SHA256: hash, Scopes: []string{"read"}}}}, (&node{}).sources(t.TempDir()), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	for host, want := range map[string]int{"192.0.2.7:8081": 200, "192.0.2.8:8081": 421, "0.0.0.0:8081": 421} {
		r := httptest.NewRequest("GET", "http://"+host+"/healthz", nil)
		r = r.WithContext(context.WithValue(r.Context(), http.LocalAddrContextKey, net.Addr(&net.TCPAddr{IP: net.IPv4(192, 0, 2, 7), Port: 8081})))
		w := httptest.NewRecorder()
		s.http.Handler.ServeHTTP(w, r)
		if w.Code != want {
			t.Errorf("Host %s: %d, want %d", host, w.Code, want)
		}
	}
}

// Failures are forgiven one a second: only in a bubble are these at once on any machine.
func TestFailuresAreLimitedPerAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, token, _ := newTestServer(t, &node{})
		wrong := ask{path: "/metrics", authorization: "Bearer wrong"}
		for i := range failuresBurst {
			if w := s.answer(wrong); w.Code != 401 {
				t.Fatalf("failure %d: %d, want 401", i, w.Code)
			}
		}
		w := s.answer(wrong)
		if w.Code != 429 || w.Header().Get("Retry-After") == "" {
			t.Errorf("after %d failures: %d, Retry-After %q", failuresBurst, w.Code, w.Header().Get("Retry-After"))
		}
		if w := s.answer(ask{path: "/metrics", authorization: "Bearer " + token}); w.Code != 429 {
			t.Errorf("a guess that is right must not be told apart while refused: %d", w.Code)
		}
		if w := s.answer(ask{path: "/healthz"}); w.Code != 200 {
			t.Errorf("health for an address that is refused: %d", w.Code)
		}
		if w := s.answer(ask{path: "/metrics", authorization: "Bearer " + token, client: "192.0.2.2:1"}); w.Code != 200 {
			t.Errorf("another address: %d", w.Code)
		}
		if got := s.Stats().RateLimited.Load(); got != 2 {
			t.Errorf("counted %d refusals, want 2", got)
		}
	})
}

func TestReadiness(t *testing.T) {
	n := &node{notReady: []string{"starting"}}
	s, _, _ := newTestServer(t, n)
	for _, step := range []struct {
		notReady []string
		code     int
		body     string
	}{
		{[]string{"starting"}, 503, `{"ready":false,"reasons":["starting"]}`},
		{nil, 200, `{"ready":true}`},
		{[]string{"draining"}, 503, `{"ready":false,"reasons":["draining"]}`},
	} {
		n.notReady = step.notReady
		w := s.answer(ask{path: "/readyz"})
		var compact bytes.Buffer
		if err := json.Compact(&compact, w.Body.Bytes()); err != nil {
			t.Fatal(err)
		}
		if w.Code != step.code || compact.String() != step.body {
			t.Errorf("%v: %d %s, want %d %s", step.notReady, w.Code, &compact, step.code, step.body)
		}
		if w := s.answer(ask{path: "/healthz"}); w.Code != 200 {
			t.Errorf("alive while %v: %d", step.notReady, w.Code)
		}
	}
}

func TestStatusConfigReload(t *testing.T) {
	n := &node{}
	s, token, logged := newTestServer(t, n)
	auth := "Bearer " + token

	var st Status
	if err := json.Unmarshal(s.answer(ask{path: "/v1/status", authorization: auth}).Body.Bytes(), &st); err != nil {
		t.Fatal(err)
	}
	if st.Version != "test" || st.UptimeSeconds < 60 || st.Phase != "serving" || st.NotReady == nil {
		t.Errorf("status %+v", st)
	}
	w := s.answer(ask{path: "/v1/config", authorization: auth})
	if w.Code != 200 || !strings.Contains(w.Body.String(), `"origins"`) || w.Header().Get("Cache-Control") != "no-store" {
		t.Errorf("config: %d %v %s", w.Code, w.Header(), w.Body)
	}
	n.configErr = errFake
	if w := s.answer(ask{path: "/v1/config", authorization: auth}); w.Code != 500 || strings.Contains(w.Body.String(), "broken") {
		t.Errorf("a configuration that cannot be shown: %d %s", w.Code, w.Body)
	}
	var cs ConfigStatus
	w = s.answer(ask{method: "POST", path: "/v1/reload", authorization: auth})
	if err := json.Unmarshal(w.Body.Bytes(), &cs); err != nil || w.Code != 200 || cs.Reloads != 1 {
		t.Errorf("reload: %d %v %s", w.Code, err, w.Body)
	}
	if !strings.Contains(logged.String(), "token=ops") || strings.Contains(logged.String(), token) {
		t.Errorf("the log must name who asked and not show the token: %s", logged)
	}
	n.reloadErr = errors.New("edge.yaml:3: no such origin")
	w = s.answer(ask{method: "POST", path: "/v1/reload", authorization: auth})
	if w.Code != 422 || !strings.Contains(w.Body.String(), "edge.yaml:3") {
		t.Errorf("bad reload: %d %s", w.Code, w.Body)
	}
}

func TestDrain(t *testing.T) {
	n := &node{}
	s, token, _ := newTestServer(t, n)
	post := func(path string) (int, string) {
		w := s.answer(ask{method: "POST", path: path, authorization: "Bearer " + token})
		return w.Code, strings.Join(strings.Fields(w.Body.String()), "")
	}
	for _, step := range []struct{ path, want string }{
		{"/v1/drain", `{"ready":false,"reasons":["drained"]}`}, {"/v1/undrain", `{"ready":true}`}, {"/v1/release", `{"ready":true}`},
	} {
		if code, body := post(step.path); code != 200 || body != step.want {
			t.Errorf("%s: %d %s", step.path, code, body)
		}
	}
	n.drainErr = errors.New("the node stops")
	for _, path := range []string{"/v1/drain", "/v1/undrain", "/v1/release"} {
		if code, body := post(path); code != 409 || !strings.Contains(body, "thenodestops") {
			t.Errorf("%s: %d %s", path, code, body)
		}
	}
}

func TestApplyReplacesTokensAndHosts(t *testing.T) {
	s, old, _ := newTestServer(t, &node{})
	token, hash := NewToken()
	next := Config{Listen: "127.0.0.1:0", Hosts: []string{"other.example"}, Tokens: []Token{{Name: "new", SHA256: hash, Scopes: []string{"read"}}}}
	if err := s.Apply(next); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		ask  ask
		want int
	}{
		{ask{path: "/metrics", authorization: "Bearer " + old}, 401},
		{ask{path: "/metrics", authorization: "Bearer " + token}, 200},
		{ask{path: "/metrics", authorization: "Bearer " + token, host: "other.example"}, 200},
		{ask{path: "/metrics", authorization: "Bearer " + token, host: "edge1.example.net"}, 421},
	} {
		if w := s.answer(tt.ask); w.Code != tt.want {
			t.Errorf("%+v: %d, want %d", tt.ask, w.Code, tt.want)
		}
	}
	next.Listen, next.Hosts = "127.0.0.1:9999", []string{"third.example"}
	if err := s.Apply(next); err == nil || !strings.Contains(err.Error(), "restart") {
		t.Errorf("a new listen address: %v", err)
	}
	if w := s.answer(ask{path: "/healthz", host: "third.example"}); w.Code != 421 {
		t.Errorf("part of a refused configuration is in force")
	}
}

func TestRunServesUntilStopped(t *testing.T) {
	s, token, _ := newTestServer(t, &node{})
	if err := s.Listen(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ran := make(chan error, 1)
	go func() { ran <- s.Run(ctx) }()
	req, _ := http.NewRequest("GET", "http://"+s.Addr()+"/v1/status", nil)
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	io.Copy(io.Discard, resp.Body)
	resp.Body.Close()
	if resp.StatusCode != 200 {
		t.Errorf("status %d", resp.StatusCode)
	}
	// A profile under way ends with the server instead of holding it up.
	profile := make(chan error, 1)
	go func() {
		req, _ := http.NewRequest("GET", "http://"+s.Addr()+"/debug/pprof/trace?seconds=60", nil)
		req.Header.Set("Authorization", "Bearer "+token)
		resp, err := http.DefaultClient.Do(req)
		if err == nil {
			buf := make([]byte, 1)
			_, err = resp.Body.Read(buf) // the trace has begun
			cancel()
			io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
		}
		profile <- err
	}()
	if err := <-profile; err != nil {
		t.Errorf("profile: %v", err)
	}
	if err := <-ran; err != nil {
		t.Errorf("Run: %v", err)
	}
	// Not by dialling: its port may be somebody else's by now.
	if _, err := s.listener.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("the listener is still open: %v", err)
	}
	http.DefaultClient.CloseIdleConnections()
}

func TestConnectionsAreBounded(t *testing.T) {
	s, _, _ := newTestServer(t, &node{})
	s.http.ReadHeaderTimeout = messageTimeout // those that say nothing are all to stay open
	if err := s.Listen(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ran := make(chan error, 1)
	go func() { ran <- s.Run(ctx) }()
	conns := make([]net.Conn, connectionsMax+1)
	for i := range conns {
		c, err := net.Dial("tcp", s.Addr())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		conns[i] = c
	}
	last := conns[connectionsMax]
	last.SetReadDeadline(time.Now().Add(10 * time.Second))
	if _, err := last.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a connection over the bound stays open: %v", err)
	}
	if got := s.Stats().ConnectionsRefused.Load(); got != 1 {
		t.Errorf("counted %d, want 1", got)
	}
	// One that leaves makes room for another.
	conns[0].Close()
	for deadline := time.Now().Add(10 * time.Second); ; {
		resp, err := http.Get("http://" + s.Addr() + "/healthz")
		if err == nil {
			resp.Body.Close()
			break
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
	http.DefaultClient.CloseIdleConnections()
	cancel()
	for _, c := range conns {
		c.Close()
	}
	if err := <-ran; err != nil {
		t.Error(err)
	}
}

func TestListenWhereAnotherDoes(t *testing.T) {
	first, _, _ := newTestServer(t, &node{})
	if err := first.Listen(); err != nil {
		t.Fatal(err)
	}
	defer first.listener.Close()
	second, err := New(Config{Listen: first.Addr()}, (&node{}).sources(t.TempDir()), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if err := second.Listen(); err == nil || !strings.Contains(err.Error(), "choose another address") || !strings.Contains(err.Error(), first.Addr()) {
		t.Errorf("error %v", err)
	}
}

func TestOff(t *testing.T) {
	data := t.TempDir()
	s, err := New(Config{Listen: "off"}, (&node{}).sources(data), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Listen(); err != nil || s.Addr() != "" {
		t.Errorf("%v, address %q", err, s.Addr())
	}
	if _, err := os.Stat(filepath.Join(data, TokenFile)); err == nil {
		t.Error("a token was made for nothing")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Run(ctx); err != nil {
		t.Error(err)
	}
}

func TestValidate(t *testing.T) {
	_, hash := NewToken()
	token := func(name string, change func(*Token)) Token {
		_, hash := NewToken()
		t := Token{Name: name, SHA256: hash, Scopes: []string{"read"}}
		if change != nil {
			change(&t)
		}
		return t
	}
	tests := []struct {
		name string
		cfg  Config
		want []string // paths
	}{
		{"zero value", Config{}, nil},
		{"off", Config{Listen: "off"}, nil},
		{"localhost", Config{Listen: "localhost:1"}, nil},
		{"IPv6 loopback", Config{Listen: "[::1]:8081"}, nil},
		{"all addresses", Config{Listen: ":8081"}, []string{"listen"}},
		{"all addresses, public", Config{Listen: ":8081", Public: true}, nil},
		{"a private address", Config{Listen: "10.0.0.1:8081"}, []string{"listen"}},
		{"a name", Config{Listen: "edge1.example.net:8081"}, []string{"listen"}},
		{"no port", Config{Listen: "127.0.0.1"}, []string{"listen"}},
		{"impossible port", Config{Listen: "127.0.0.1:99999"}, []string{"listen"}},
		{"hosts", Config{Hosts: []string{"ok.example", "http://x", "x:1", ""}}, []string{"hosts[1]", "hosts[2]", "hosts[3]"}},
		{"a token", Config{Tokens: []Token{token("a", nil)}}, nil},
		{"names", Config{Tokens: []Token{token("a", nil), token("a", nil), token("", nil), token("a b", nil), token("..", nil), token(TokenFile, nil)}}, []string{"tokens[1].name", "tokens[2].name", "tokens[3].name", "tokens[4].name", "tokens[5].name"}},
		{"no hash", Config{Tokens: []Token{token("a", func(t *Token) { t.SHA256 = "secret" }), token("b", func(t *Token) { t.SHA256 = hash[:62] })}}, []string{"tokens[0].sha256", "tokens[1].sha256"}},
		{"one token twice", Config{Tokens: []Token{token("a", func(t *Token) { t.SHA256 = hash }), token("b", func(t *Token) { t.SHA256 = strings.ToUpper(hash) })}}, []string{"tokens[1].sha256"}},
		{"no scopes", Config{Tokens: []Token{token("a", func(t *Token) { t.Scopes = nil })}}, []string{"tokens[0].scopes"}},
		{"a scope that is not there", Config{Tokens: []Token{token("a", func(t *Token) { t.Scopes = []string{"read", "write"} })}}, []string{"tokens[0].scopes[1]"}},
		{"hosts", Config{Tokens: []Token{token("a", func(t *Token) {
			t.Scopes = []string{"purge"}
			t.Hosts = []string{"www.example.com", "*.example.com", "192.0.2.1", "[2001:db8::1]", "WWW.example.com", "a:80", "*", "http://a", "a.*.b", ""}
		})}}, []string{"tokens[0].hosts[4]", "tokens[0].hosts[5]", "tokens[0].hosts[6]", "tokens[0].hosts[7]", "tokens[0].hosts[8]", "tokens[0].hosts[9]"}},
		{"hosts for what has none", Config{Tokens: []Token{token("a", func(t *Token) { t.Scopes, t.Hosts = []string{"purge", "purge:all", "read"}, []string{"a"} })}}, []string{"tokens[0].scopes[1]", "tokens[0].scopes[2]"}},
		{"too many hosts", Config{Tokens: []Token{token("a", func(t *Token) { t.Scopes, t.Hosts = []string{"purge"}, slices.Repeat([]string{"a"}, tokenHostsMax+1) })}}, []string{"tokens[0].hosts"}},
		{"expiry", Config{Tokens: []Token{token("a", func(t *Token) { t.Expires = "2027-01-31T00:00:00Z" }), token("b", func(t *Token) { t.Expires = "tomorrow" })}}, []string{"tokens[1].expires"}},
		{"too many tokens", Config{Tokens: make([]Token, tokensMax+1)}, []string{"tokens"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var got []string
			tt.cfg.Validate(func(path, problem string) {
				if !strings.Contains(path, "tokens[") || len(tt.cfg.Tokens) < tokensMax {
					got = append(got, path)
				}
				if problem == "" {
					t.Error("no word of what is wrong")
				}
			})
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
	_, err := New(Config{Listen: ":8081"}, (&node{}).sources(t.TempDir()), slog.New(slog.DiscardHandler))
	if err == nil || !strings.Contains(err.Error(), "admin.public: true") || !strings.Contains(err.Error(), "127.0.0.1:8081") {
		t.Errorf("refusal must say both ways out: %v", err)
	}
}

func TestLocate(t *testing.T) {
	s, token, _ := newTestServer(t, &node{})
	auth := "Bearer " + token
	if w := s.answer(ask{path: "/v1/locate?address=192.0.2.1", authorization: auth}); w.Code != 200 || !strings.Contains(w.Body.String(), `"192.0.2.1"`) {
		t.Errorf("locate: %d %s", w.Code, w.Body)
	}
	if w := s.answer(ask{path: "/v1/locate", authorization: auth}); w.Code != 422 || !strings.Contains(w.Body.String(), "no address") {
		t.Errorf("locate nobody: %d %s", w.Code, w.Body)
	}
	for _, method := range []string{"", "PUT"} {
		if w := s.answer(ask{method: method, path: "/v1/locate"}); w.Code == 200 {
			t.Errorf("%s without a token: %d", method, w.Code)
		}
	}
}
