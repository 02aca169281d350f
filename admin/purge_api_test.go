package admin

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
)

func postPurge(token, body string, header ...string) ask {
	return ask{method: "POST", path: "/v1/purges", authorization: "Bearer " + token, body: body, header: header}
}

func TestPurgesOfEachKind(t *testing.T) {
	fake := &purgesFake{}
	s, token, _ := newTestServer(t, &node{purges: fake})
	for _, tt := range []struct {
		name, body string
		want       PurgeRequest
	}{
		{"URLs in canonical form, once", `{"urls":["HTTPS://WWW.Example.COM:443/a%2Fb?x=1&y","https://www.example.com./a%2Fb?x=1&y","http://[0:0::1]:080","http://a.example?q"]}`,
			PurgeRequest{Kind: PurgeURL, Targets: []string{"https://www.example.com/a%2Fb?x=1&y", "http://[::1]/", "http://a.example/?q"}}},
		{"soft, with a reason", `{"urls":["http://a.example/"],"mode":"soft","reason":"typo \u00fc","dry_run":false}`,
			PurgeRequest{Kind: PurgeURL, Targets: []string{"http://a.example/"}, Soft: true, Reason: "typo ü"}},
		{"prefixes", `{"prefixes":["WWW.example.com/static/","www.example.com/static","a.example:8443//x%20/"],"mode":"hard"}`,
			PurgeRequest{Kind: PurgePrefix, Targets: []string{"www.example.com/static", "a.example:8443//x%20"}}},
		{"hosts", `{"hosts":["A.example.","b.example:8443","[::1]"]}`,
			PurgeRequest{Kind: PurgeHost, Targets: []string{"a.example", "b.example:8443", "[::1]"}}},
		{"groups", `{"groups":{"host":"A.example","names":["one","two, with a comma","one"]}}`,
			PurgeRequest{Kind: PurgeGroup, Host: "a.example", Targets: []string{"one", "two, with a comma"}}},
		{"all", `{"all":true}`, PurgeRequest{Kind: PurgeAll}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := s.answer(postPurge(token, tt.body))
			var got accepted
			if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil || w.Code != 202 {
				t.Fatalf("%d %v %s", w.Code, err, w.Body)
			}
			self := "/v1/purges/" + got.ID
			if want := (accepted{got.ID, PurgeApplied, purgesLinks{self, "/v1/purges/events"}}); got != want || w.Header().Get("Location") != self {
				t.Errorf("answer %+v, Location %s", got, w.Header().Get("Location"))
			}
			made := fake.last(t)
			if made.Actor != "ops" || made.Fingerprint == [32]byte{} {
				t.Errorf("made %+v", made)
			}
			made.Actor, made.Fingerprint = "", [32]byte{}
			if diff := cmp.Diff(tt.want, made); diff != "" {
				t.Error(diff)
			}
			if w := s.answer(ask{path: self, authorization: "Bearer " + token}); w.Code != 200 || !strings.Contains(w.Body.String(), got.ID) {
				t.Errorf("receipt: %d %s", w.Code, w.Body)
			}
		})
	}
	if got := s.stats.PurgesAccepted.Load(); got != 6 {
		t.Errorf("counted %d", got)
	}
}

func TestPurgeIsRefused(t *testing.T) {
	fake := &purgesFake{}
	s, token, _ := newTestServer(t, &node{purges: fake})
	many := func(n int, of string) string { return strings.TrimSuffix(strings.Repeat(of+",", n), ",") }
	for _, tt := range []struct {
		name, body string
		status     int
		want       string // parts of the answer, by |
	}{
		{"not JSON", `urls=x`, 400, "one JSON object"},
		{"cut off", `{"urls":["http://a/"]`, 400, "one JSON object"},
		{"two objects", `{"all":true}{"all":true}`, 400, "something follows"},
		{"a list", `[]`, 400, "one JSON object"},
		{"nothing named", `{}`, 422, "names nothing to purge"},
		{"unknown field", `{"urls":["http://a/"],"wildcards":true}`, 422, `"field": "wildcards"|is not known`},
		{"names are in lower case", `{"URLs":["http://a/"]}`, 422, `"field": "URLs"|is not known`},
		{"said twice", `{"all":true,"all":true}`, 422, `"field": "all"|twice`},
		{"several kinds", `{"urls":["http://a/"],"hosts":["a"]}`, 422, `"field": "hosts"|second kind beside urls`},
		{"several kinds with groups", `{"groups":{"host":"a","names":["x"]},"all":true}`, 422, `"field": "all"|second kind beside groups`},
		{"regular expressions", `{"regex":".*"}`, 422, `"field": "regex"|regular expressions are refused`},
		{"empty list", `{"urls":[]}`, 422, `"field": "urls"|is empty`},
		{"null", `{"urls":null}`, 422, `"field": "urls"|list of texts`},
		{"not a list", `{"urls":"http://a/"}`, 422, `"field": "urls"|list of texts`},
		{"not a text", `{"urls":["http://a/",7,null]}`, 422, `"field": "urls[1]"|"field": "urls[2]"|is not a text`},
		{"too many URLs", `{"urls":[` + many(PurgeURLsMax+1, `"http://a/"`) + `]}`, 422, `"field": "urls"|at most 10000`},
		{"too many prefixes", `{"prefixes":[` + many(PurgePrefixesMax+1, `"a/b"`) + `]}`, 422, `"field": "prefixes"|at most 256`},
		{"too many groups", `{"groups":{"host":"a","names":[` + many(PurgeGroupsMax+1, `"b"`) + `]}}`, 422, `"field": "groups.names"|at most 256`},
		{"too many wrong ones", `{"urls":[` + many(30, `"x"`) + `]}`, 422, `"field": "urls[19]"|and 10 more`},
		{"relative URL", `{"urls":["/a"]}`, 422, `"field": "urls[0]"|absolute`},
		{"another scheme", `{"urls":["ftp://a/"]}`, 422, `"field": "urls[0]"|absolute`},
		{"no host", `{"urls":["https:///a"]}`, 422, `"field": "urls[0]"|host`},
		{"user", `{"urls":["https://me@a/"]}`, 422, `"field": "urls[0]"|host`},
		{"fragment", `{"urls":["https://a/#b"]}`, 422, `"field": "urls[0]"|fragment`},
		{"space", `{"urls":["https://a/b c"]}`, 422, `"field": "urls[0]"|space`},
		{"beyond ASCII", `{"urls":["https://a/ü"]}`, 422, `"field": "urls[0]"|ASCII`},
		{"too long", `{"urls":["https://a/` + strings.Repeat("x", purgeTargetBytesMax) + `"]}`, 422, `"field": "urls[0]"|longer`},
		{"prefix with scheme", `{"prefixes":["https://a/b"]}`, 422, `"field": "prefixes[0]"|scheme`},
		{"prefix that is a host", `{"prefixes":["a/"]}`, 422, `"field": "prefixes[0]"|hosts`},
		{"prefix that ends in slashes", `{"prefixes":["a//","a/b//"]}`, 422, `"field": "prefixes[0]"|"field": "prefixes[1]"|two slashes`},
		{"prefix with query", `{"prefixes":["a/b?c"]}`, 422, `"field": "prefixes[0]"|query`},
		{"prefix with wildcard", `{"prefixes":["a/b/*"]}`, 422, `"field": "prefixes[0]"|* out`},
		{"prefix without host", `{"prefixes":["/b"]}`, 422, `"field": "prefixes[0]"|empty`},
		{"host with scheme", `{"hosts":["https://a"]}`, 422, `"field": "hosts[0]"|scheme`},
		{"host with path", `{"hosts":["a/b"]}`, 422, `"field": "hosts[0]"|not a host`},
		{"host with the usual port", `{"hosts":["a:443","[::1]:80"]}`, 422, `"field": "hosts[0]"|"field": "hosts[1]"|port`},
		{"wildcard host", `{"hosts":["*.a"]}`, 422, `"field": "hosts[0]"|wildcards`},
		{"groups as a list", `{"groups":["a"]}`, 422, `"field": "groups"|is an object`},
		{"groups without host", `{"groups":{"names":["a"]}}`, 422, `"field": "groups.host"|missing`},
		{"groups without names", `{"groups":{"host":"a"}}`, 422, `"field": "groups.names"|missing`},
		{"groups with more", `{"groups":{"host":"a","names":["a"],"x":1}}`, 422, `"field": "groups.x"|not known`},
		{"groups with a field twice", `{"groups":{"host":"a","host":"b","names":["a"]}}`, 422, `"field": "groups.host"|twice`},
		{"host of groups that is none", `{"groups":{"host":7,"names":["a"]}}`, 422, `"field": "groups.host"|not a text`},
		{"group of nothing", `{"groups":{"host":"a","names":[""," b","c\n","ü"]}}`, 422, `"field": "groups.names[0]"|"field": "groups.names[1]"|"field": "groups.names[2]"|"field": "groups.names[3]"`},
		{"all is false", `{"all":false}`, 422, `"field": "all"|true`},
		{"another mode", `{"all":true,"mode":"gentle"}`, 422, `"field": "mode"|hard`},
		{"dry run as a text", `{"all":true,"dry_run":"yes"}`, 422, `"field": "dry_run"|true or false`},
		{"reason too long", `{"all":true,"reason":"` + strings.Repeat("x", purgeReasonBytesMax+1) + `"}`, 422, `"field": "reason"|bytes`},
		{"too large", `{"reason":"` + strings.Repeat("x", bodyBytesMax) + `"}`, 413, "larger than 4194304"},
		{"unknown names are cut", `{"` + strings.Repeat("x", 1000) + `":1}`, 422, `"field": "` + strings.Repeat("x", 40) + `"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := s.answer(postPurge(token, tt.body))
			if w.Code != tt.status {
				t.Errorf("%d, want %d", w.Code, tt.status)
			}
			for want := range strings.SplitSeq(tt.want, "|") {
				if !strings.Contains(w.Body.String(), want) {
					t.Errorf("no %s in %s", want, w.Body)
				}
			}
		})
	}
	if len(fake.made) > 0 {
		t.Errorf("purged %+v", fake.made)
	}
	if s.stats.PurgesRefused.Load() == 0 {
		t.Error("not counted")
	}
}

func TestPurgeWantsJSON(t *testing.T) {
	fake := &purgesFake{}
	s, token, _ := newTestServer(t, &node{purges: fake})
	for media, want := range map[string]int{
		"application/json": 202, "application/json; charset=utf-8": 202, "Application/JSON": 202,
		"text/plain": 415, "application/x-www-form-urlencoded": 415, "application/jsonp": 415, ";": 415, "": 415,
	} {
		if w := s.answer(postPurge(token, `{"all":true}`, "Content-Type", media)); w.Code != want {
			t.Errorf("%q: %d, want %d", media, w.Code, want)
		}
	}
	r := postPurge(token, "x").request()
	r.Body = io.NopCloser(iotest.ErrReader(errFake))
	w := s.serve(r)
	if w.Code != 400 || !strings.Contains(w.Body.String(), "did not arrive") {
		t.Errorf("a body that breaks off: %d %s", w.Code, w.Body)
	}
}

func TestPurgeWaits(t *testing.T) {
	fake := &purgesFake{}
	s, token, _ := newTestServer(t, &node{purges: fake})
	at := func(query string) ask {
		a := postPurge(token, `{"urls":["https://a/"]}`)
		a.path += query
		return a
	}
	w := s.answer(at("?wait=all&timeout=5s"))
	var receipt Receipt
	if err := json.Unmarshal(w.Body.Bytes(), &receipt); err != nil || w.Code != 200 || receipt.ID == "" || receipt.State != PurgeApplied {
		t.Errorf("%d %v %s", w.Code, err, w.Body)
	}
	fake.applied = make(chan struct{}) // nobody applies
	if w := s.answer(at("?wait=all&timeout=1ms")); w.Code != 202 {
		t.Errorf("when the time is over: %d %s", w.Code, w.Body)
	}
	if w := s.answer(at("")); w.Code != 202 {
		t.Errorf("without: %d", w.Code)
	}
	for query, field := range map[string]string{
		"?wait=none": "wait", "?timeout=5s": "wait", "?wait=all&timeout=0s": "timeout", "?wait=all&timeout=61s": "timeout",
		"?wait=all&timeout=x": "timeout", "?wait=all&wait=all": "wait", "?x=1": "x", "?wait=all&%zz": "",
	} {
		w := s.answer(at(query))
		if w.Code != 400 || !strings.Contains(w.Body.String(), `"field": "`+field+`"`) && field != "" {
			t.Errorf("%s: %d %s", query, w.Code, w.Body)
		}
	}
	if len(fake.made) != 3 {
		t.Errorf("%d purges, want 3", len(fake.made))
	}
}

func TestDryRun(t *testing.T) {
	fake := &purgesFake{}
	s, token, _ := newTestServer(t, &node{purges: fake})
	w := s.answer(postPurge(token, `{"hosts":["a.example"],"dry_run":true}`))
	var receipt Receipt
	if err := json.Unmarshal(w.Body.Bytes(), &receipt); err != nil || w.Code != 200 || !receipt.DryRun || receipt.ID != "" || receipt.Counts.Disk != 2 {
		t.Errorf("%d %v %s", w.Code, err, w.Body)
	}
	if len(fake.made) > 0 {
		t.Error("purged")
	}
	if b, err := os.ReadFile(s.audit.path); err == nil {
		t.Errorf("a dry run changes nothing, but %s", b)
	}
	fake.err = errFake
	if w := s.answer(postPurge(token, `{"hosts":["a.example"],"dry_run":true}`)); w.Code != 500 {
		t.Errorf("one that fails: %d", w.Code)
	}
}

func TestIdempotencyKey(t *testing.T) {
	fake := &purgesFake{}
	s, token, _ := newTestServer(t, &node{purges: fake})
	body := `{"urls":["https://a/"]}`
	first := s.answer(postPurge(token, body, "Idempotency-Key", `"k1"`))
	for _, same := range []string{body, `{ "mode": "hard", "urls": ["HTTPS://A:443/"] }`} {
		if again := s.answer(postPurge(token, same, "Idempotency-Key", "k1")); again.Code != 202 || again.Body.String() != first.Body.String() {
			t.Errorf("%d %s, at first %s", again.Code, again.Body, first.Body)
		}
	}
	for _, other := range []string{`{"urls":["https://a/b"]}`, `{"urls":["https://a/"],"mode":"soft"}`, `{"prefixes":["a/b"]}`} {
		if w := s.answer(postPurge(token, other, "Idempotency-Key", "k1")); w.Code != 422 || !strings.Contains(w.Body.String(), "Idempotency-Key") {
			t.Errorf("%s: %d %s", other, w.Code, w.Body)
		}
	}
	if len(fake.made) != 1 || fake.made[0].Key != "k1" {
		t.Errorf("made %+v", fake.made)
	}
	other := addToken(t, s, Token{Name: "ci", Scopes: []string{"purge"}})
	if w := s.answer(postPurge(other, `{"urls":["https://b/"]}`, "Idempotency-Key", "k1")); w.Code != 202 {
		t.Errorf("the key of another token: %d", w.Code)
	}
	for _, bad := range []string{"", `""`, "a b", "ü", strings.Repeat("x", keyBytesMax+1), `a"b`} {
		if w := s.answer(postPurge(token, body, "Idempotency-Key", bad)); w.Code != 400 {
			t.Errorf("%q: %d", bad, w.Code)
		}
	}
	r := postPurge(token, body).request()
	r.Header["Idempotency-Key"] = []string{"a", "b"}
	if w := s.serve(r); w.Code != 400 {
		t.Errorf("two fields: %d", w.Code)
	}
}

// A token that is limited to hosts purges nothing of others, whatever the kind.
func TestPurgesAreLimitedToHosts(t *testing.T) {
	fake := &purgesFake{}
	s, _, _ := newTestServer(t, &node{purges: fake})
	token := addToken(t, s, Token{Name: "cms", Scopes: []string{"purge"}, Hosts: []string{"www.example.com", "*.img.example.com"}})
	all := addToken(t, s, Token{Name: "all", Scopes: []string{"purge:all"}})
	for _, tt := range []struct {
		token, body string
		status      int
		want        string
	}{
		{token, `{"urls":["https://www.example.com/","http://www.example.com:8080/","https://a.img.example.com/"]}`, 202, ""},
		{token, `{"urls":["https://www.example.com/","https://img.example.com/"]}`, 403, `"field": "urls[1]"`},
		{token, `{"urls":["https://www.example.com/","https://www.example.com/","https://example.com/"]}`, 403, `"field": "urls[2]"`},
		{token, `{"urls":["https://www.example.com.evil.example/"]}`, 403, `"field": "urls[0]"`},
		{token, `{"prefixes":["www.example.com/a"]}`, 202, ""},
		{token, `{"prefixes":["example.com/www.example.com"]}`, 403, `"field": "prefixes[0]"`},
		{token, `{"hosts":["WWW.EXAMPLE.COM."]}`, 202, ""},
		{token, `{"hosts":["example.com"]}`, 403, `"field": "hosts[0]"`},
		{token, `{"groups":{"host":"www.example.com","names":["x"]}}`, 202, ""},
		{token, `{"groups":{"host":"example.com","names":["x","y"]}}`, 403, `"field": "groups.host"`},
		{token, `{"all":true}`, 403, "purge:all"},
		{token, `{"all":true,"dry_run":true}`, 403, "purge:all"},
		{token, `{"hosts":["example.com"],"dry_run":true}`, 403, `"field": "hosts[0]"`},
		{all, `{"all":true}`, 202, ""},
		{all, `{"hosts":["www.example.com"]}`, 403, `"field": "hosts[0]"`},
	} {
		before := len(fake.made)
		w := s.answer(postPurge(tt.token, tt.body))
		if w.Code != tt.status || !strings.Contains(w.Body.String(), tt.want) || (len(fake.made) > before) != (tt.status == 202) {
			t.Errorf("%s: %d %s", tt.body, w.Code, w.Body)
		}
	}
	b, err := os.ReadFile(s.audit.path)
	if err != nil || !bytes.Contains(b, []byte(`"what":"purge host example.com","status":403`)) || !bytes.Contains(b, []byte(`"what":"purge group of www.example.com x","status":202,"result":"purge p000004"`)) {
		t.Errorf("%v: audit log %s", err, b)
	}
}

func TestPurgesThatFail(t *testing.T) {
	fake := &purgesFake{}
	n := &node{purges: fake}
	s, token, logged := newTestServer(t, n)
	for _, tt := range []struct {
		err    error
		status int
		want   string
	}{
		{FieldErrors{{"prefixes[0]", "is deeper than 16"}}, 422, `"field": "prefixes`},
		{fmt.Errorf("log: %w", ErrPurgesFull), 503, "sweep"},
		{fmt.Errorf("disk: %w", ErrNotDurable), 503, "could not be written"},
		{errFake, 500, "log says why"},
	} {
		fake.err = tt.err
		for _, a := range []ask{postPurge(token, `{"hosts":["a"]}`), {method: "PURGE", path: "http://a/", authorization: "Bearer " + token}} {
			if w := s.answer(a); w.Code != tt.status || !strings.Contains(w.Body.String(), tt.want) {
				t.Errorf("%v: %d %s", tt.err, w.Code, w.Body)
			}
		}
	}
	if !strings.Contains(logged.String(), "fake: broken") {
		t.Errorf("log %s", logged)
	}
	fake.err = FieldErrors{{"urls[1]", "is of no host here"}, {"", "is too large"}}
	if w := s.answer(postPurge(token, `{"urls":["https://a/","https://a/","https://b/"]}`)); !strings.Contains(w.Body.String(), `"field": "urls[2]"`) {
		t.Errorf("the place of a target after one that is there twice: %s", w.Body)
	}
	for range bodiesMax {
		s.bodies <- struct{}{}
	}
	if w := s.answer(postPurge(token, `{"hosts":["a"]}`)); w.Code != 503 || w.Header().Get("Retry-After") == "" {
		t.Errorf("with all slots taken: %d", w.Code)
	}
	n.purges = nil
	for _, a := range []ask{postPurge(token, `{"hosts":["a"]}`), {path: "/v1/purges"}, {path: "/v1/purges/p1"}, {path: "/v1/purges/events"}, {method: "PURGE", path: "http://a/"}} {
		a.authorization = "Bearer " + token
		if w := s.answer(a); w.Code != 503 || !strings.Contains(w.Body.String(), "starting") {
			t.Errorf("%s %s while starting: %d", a.method, a.path, w.Code)
		}
	}
}

func TestPurgesAreListed(t *testing.T) {
	s, token, _ := newTestServer(t, &node{purges: &purgesFake{}})
	ci := addToken(t, s, Token{Name: "ci", Scopes: []string{"purge"}})
	for i := range 25 {
		by := token
		if i%5 == 0 {
			by = ci
		}
		s.answer(postPurge(by, fmt.Sprintf(`{"urls":["https://a/%d"]}`, i)))
	}
	walk := func(token, at string) (ids []string, pages int) {
		for at != "" {
			w := s.answer(ask{path: at, authorization: "Bearer " + token})
			var p page
			if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil || w.Code != 200 {
				t.Fatalf("%d %v", w.Code, err)
			}
			for _, r := range p.Purges {
				ids = append(ids, r.ID)
			}
			at = p.Next
			pages++
		}
		return ids, pages
	}
	if ids, pages := walk(token, "/v1/purges?limit=10"); len(ids) != 25 || pages != 3 || ids[0] != "p000025" || ids[24] != "p000001" {
		t.Errorf("%d pages: %v", pages, ids)
	}
	if ids, _ := walk(ci, "/v1/purges"); fmt.Sprint(ids) != "[p000021 p000016 p000011 p000006 p000001]" {
		t.Errorf("what ci purged: %v", ids)
	}
	// Pages are short where purges are long.
	s.answer(postPurge(token, `{"hosts":["`+strings.Join(strings.Split("abcdefghijkl", ""), `","`)+`"]}`))
	var p page
	if err := json.Unmarshal(s.answer(ask{path: "/v1/purges?limit=1", authorization: "Bearer " + token}).Body.Bytes(), &p); err != nil || len(p.Purges[0].Targets) != pageTargets || p.Purges[0].TargetsTotal != 12 {
		t.Errorf("%v, %+v", err, p)
	}
	for path, want := range map[string]int{"/v1/purges/p000001": 200, "/v1/purges/p000002": 404, "/v1/purges/p9": 404} {
		if w := s.answer(ask{path: path, authorization: "Bearer " + ci}); w.Code != want {
			t.Errorf("%s for ci: %d, want %d", path, w.Code, want)
		}
	}
	for _, query := range []string{"?limit=0", "?limit=101", "?limit=x", "?limit=", "?after=1"} {
		if w := s.answer(ask{path: "/v1/purges" + query, authorization: "Bearer " + token}); w.Code != 400 {
			t.Errorf("%s: %d", query, w.Code)
		}
	}
}
