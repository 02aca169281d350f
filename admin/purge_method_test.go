package admin

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"
)

func TestPurgeMethod(t *testing.T) {
	fake := &purgesFake{}
	s, token, _ := newTestServer(t, &node{purges: fake})
	limited := addToken(t, s, Token{Name: "cms", Scopes: []string{"purge"}, Hosts: []string{"www.example.com"}})
	reader := addToken(t, s, Token{Name: "prometheus", Scopes: []string{"read"}})
	for _, tt := range []struct {
		name   string
		ask    ask
		token  string
		status int
		want   string // URL, or part of the problem
	}{
		{"absolute form", ask{path: "https://www.example.com/a%2F?b"}, token, 200, "https://www.example.com/a%2F?b"},
		{"absolute form of a path of this listener", ask{path: "http://www.example.com/v1/status"}, token, 200, "http://www.example.com/v1/status"},
		{"absolute form with a path that a mux would clean", ask{path: "http://www.example.com//a/../b"}, token, 200, "http://www.example.com//a/../b"},
		{"Host and a scheme", ask{path: "/a?b", host: "WWW.example.com:443", header: []string{"Purge-Scheme", "https"}}, token, 200, "https://www.example.com/a?b"},
		{"Host alone", ask{path: "/a", host: "www.example.com"}, token, 400, "Purge-Scheme"},
		{"Host and another scheme", ask{path: "/a", host: "www.example.com", header: []string{"Purge-Scheme", "ftp"}}, token, 400, "Purge-Scheme"},
		{"Host that is none", ask{path: "/a", host: "a@b", header: []string{"Purge-Scheme", "http"}}, token, 400, "host"},
		{"asterisk", ask{path: "*"}, token, 400, "absolute"},
		{"limited, within", ask{path: "https://www.example.com/"}, limited, 200, "https://www.example.com/"},
		{"limited, by Host, beyond", ask{path: "/", host: "example.com", header: []string{"Purge-Scheme", "https"}}, limited, 403, "may not purge"},
		{"limited, beyond", ask{path: "https://example.com/", host: "www.example.com"}, limited, 403, "may not purge"},
		{"without the scope", ask{path: "https://www.example.com/"}, reader, 403, "no scope purge"},
		{"without a token", ask{path: "https://www.example.com/"}, "", 401, "Bearer"},
		{"soft that is none", ask{path: "https://www.example.com/", header: []string{"Soft-Purge", "yes"}}, token, 400, "Soft-Purge"},
		{"key that is none", ask{path: "https://www.example.com/", header: []string{"Idempotency-Key", ""}}, token, 400, "Idempotency-Key"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s.failures = failures{}
			before := len(fake.made)
			tt.ask.method = "PURGE"
			if tt.token != "" {
				tt.ask.authorization = "Bearer " + tt.token
			}
			w := s.answer(tt.ask)
			if w.Code != tt.status || !strings.Contains(w.Body.String(), tt.want) {
				t.Fatalf("%d %s, want %d and %s", w.Code, w.Body, tt.status, tt.want)
			}
			if purged := len(fake.made) > before; purged != (tt.status == 200) {
				t.Errorf("purged: %v", purged)
			} else if purged && (fake.last(t).Targets[0] != tt.want || fake.last(t).Kind != PurgeURL || fake.last(t).Soft) {
				t.Errorf("made %+v", fake.last(t))
			}
		})
	}
	for value, soft := range map[string]bool{"1": true, "0": false} {
		s.answer(ask{method: "PURGE", path: "http://a/", authorization: "Bearer " + token, header: []string{"Soft-Purge", value}})
		if fake.last(t).Soft != soft {
			t.Errorf("Soft-Purge: %s gives %+v", value, fake.last(t))
		}
	}
}

// On public listeners the engine says what is purged, and what fails there does
// not shut operators out.
func TestPurgeOnPublicListener(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // failures are forgiven one a second
		fake := &purgesFake{}
		s, token, _ := newTestServer(t, &node{purges: fake})
		purge := func(authorization string) *httptest.ResponseRecorder {
			r := ask{method: "PURGE", path: "/a", host: "www.example.com", authorization: authorization}.request()
			w := httptest.NewRecorder()
			s.PurgeOnPublicListener(w, r, "https://www.example.com/a")
			contract.check(r, "", w)
			return w
		}
		w := purge("Bearer " + token)
		var receipt Receipt
		if err := json.Unmarshal(w.Body.Bytes(), &receipt); err != nil || w.Code != 200 || w.Header().Get("Cache-Control") != "no-store" {
			t.Errorf("%d %v %v", w.Code, err, w.Header())
		}
		if diff := cmp.Diff([]string{"https://www.example.com/a"}, receipt.Targets); diff != "" || receipt.Actor != "ops" {
			t.Errorf("%s, by %s", diff, receipt.Actor)
		}
		reader := addToken(t, s, Token{Name: "prometheus", Scopes: []string{"read"}})
		if w := purge("Bearer " + reader); w.Code != 403 {
			t.Errorf("without the scope: %d", w.Code)
		}
		for i := range failuresBurst {
			if w := purge(""); w.Code != 401 {
				t.Fatalf("failure %d: %d", i, w.Code)
			}
		}
		if w := purge("Bearer " + token); w.Code != 429 {
			t.Errorf("after %d failures: %d", failuresBurst, w.Code)
		}
		if w := s.answer(ask{path: "/v1/status", authorization: "Bearer " + token}); w.Code != http.StatusOK {
			t.Errorf("operators are shut out: %d", w.Code)
		}
		if len(fake.made) != 1 {
			t.Errorf("%d purges", len(fake.made))
		}
	})
}
