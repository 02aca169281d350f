package main

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"edgecdn/admin"
	"edgecdn/cache"
	"edgecdn/config"
)

// Whatever becomes of a PURGE, no origin sees it.
func TestPurgeOnPublicListeners(t *testing.T) {
	var forwarded atomic.Int64
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == methodPurge {
			forwarded.Add(1)
		}
		w.Header().Set("Cache-Control", "max-age=1000")
		_, _ = io.WriteString(w, "page")
	}))
	t.Cleanup(origin.Close)
	allowed, hash := admin.NewToken()
	other, otherHash := admin.NewToken()
	reader, readerHash := admin.NewToken()
	r := &reloadable{t: t, file: filepath.Join(t.TempDir(), "edge.yaml")}
	r.write(fmt.Sprintf(`
data: %s
server: {http: ["127.0.0.1:0"], access_log: {format: off}}
admin:
  listen: "off"
  tokens:
    - {name: cms, sha256: %s, scopes: [purge], hosts: [www.example.com]}
    - {name: other, sha256: %s, scopes: [purge], hosts: ["*.example.com"]}
    - {name: reader, sha256: %s, scopes: [read]}
origins: {web: {url: "%s"}}
hosts:
  - {names: [www.example.com, example.com], origin: web, methods: [GET], purge: true, routes: [{path: /fixed/*, purge: false}]}
  - {names: [open.example.com], origin: web}
`, t.TempDir(), hash, otherHash, readerHash, origin.URL))
	cfg, err := config.Load(r.file)
	if err != nil {
		t.Fatal(err)
	}
	r.node = startServing(t, cfg, r.file)
	front, _ := r.server.Addresses()
	ask := func(method, host, path, token string) *http.Response {
		t.Helper()
		req, err := http.NewRequest(method, "http://"+front[0]+path, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		req.Host = host
		if token != "" {
			req.Header.Set("Authorization", "Bearer "+token)
		}
		resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { resp.Body.Close() })
		return resp
	}
	for _, tt := range []struct {
		host, path, token string
		status            int
	}{
		{"www.example.com", "/a", "", 401},
		{"www.example.com", "/a", "wrong", 401},
		{"www.example.com", "/a", reader, 403},
		{"example.com", "/a", allowed, 403},
		{"example.com", "/a", other, 403},
		{"www.example.com", "/fixed/a", allowed, 405},
		{"open.example.com", "/a", other, 405},
		{"unknown.example.com", "/a", other, 421},
	} {
		resp := ask(methodPurge, tt.host, tt.path, tt.token)
		if resp.StatusCode != tt.status {
			t.Errorf("%+v: %s", tt, resp.Status)
		}
		if allow := resp.Header.Get("Allow"); tt.status == 405 && (allow == "" || strings.Contains(allow, methodPurge)) {
			t.Errorf("%+v: Allow: %q", tt, allow)
		}
	}
	stored := func() string {
		t.Helper()
		resp := ask("GET", "www.example.com", "/a", "")
		if body, err := io.ReadAll(resp.Body); err != nil || string(body) != "page" {
			t.Errorf("%v %q", err, body)
		}
		return resp.Header.Get("Cache-Status")
	}
	if first, second := stored(), stored(); !strings.Contains(first, "fwd=uri-miss") || !strings.Contains(second, "hit") {
		t.Errorf("%s, then %s", first, second)
	}
	resp := ask(methodPurge, "www.example.com", "/a", allowed)
	if body, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode != 200 || !strings.Contains(string(body), `"http://www.example.com/a"`) {
		t.Errorf("%v %s: %s", err, resp.Status, body)
	}
	if status := stored(); strings.Contains(status, "hit") {
		t.Errorf("after a purge: %s", status)
	}
	if n := forwarded.Load(); n != 0 {
		t.Errorf("the origin saw %d", n)
	}
}

func TestPurgeInEarlyData(t *testing.T) {
	w := httptest.NewRecorder()
	r := httptest.NewRequest(methodPurge, "https://www.example.com/", nil)
	r = r.WithContext(cache.NewContext(r.Context(), &cache.Request{EarlyData: true}))
	(&node{}).keepPurges(nil).ServeHTTP(w, r)
	if w.Code != http.StatusTooEarly {
		t.Errorf("status %d", w.Code)
	}
}
