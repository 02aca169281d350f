package e2e

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// After a failure comes what is stale, then the fallback origin, then the page; each
// shows in Cache-Status, Proxy-Status, metrics and log.
func TestAfterFailure(t *testing.T) {
	o := startOrigin(t)
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "index.html"), "from the mirror")
	if err := os.Mkdir(filepath.Join(dir, "_origin"), 0o755); err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(dir, "_origin", "respond"), "from the mirror")
	writeFile(t, filepath.Join(dir, "sorry.html"), "<p>sorry</p>")
	n, _ := startConfigured(t, `data: {data}
server: {http: ["{http}"], access_log: {format: "off"}}
admin: {listen: "{admin}"}
origins:
  web: {url: "`+o.url+`", breaker: {off: true}}
  dead: {url: "http://`+address(t)+`"}
  mirror: {directory: "`+dir+`"}
hosts:
  - names: ["*"]
    origin: web
    fallback: {origin: mirror, page: "`+filepath.Join(dir, "sorry.html")+`"}
    response: {set: {X-Rule: "yes"}}
    routes:
      - {path: /teapot/*, fallback: {origin: dead, status: 418}}
`)
	ttl := regexp.MustCompile(`ttl=-?\d+`) // says how slow the machine was
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	defer client.CloseIdleConnections()
	ask := func(method, target string, status int, text, cacheStatus, proxyStatus string) {
		t.Helper()
		var body io.Reader
		if method == "POST" {
			body = strings.NewReader("x")
		}
		r, err := http.NewRequestWithContext(t.Context(), method, "http://"+n.http+target, body)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		got, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != status || string(got) != text {
			t.Errorf("%s %s: %d %q, %v; want %d %q", method, target, resp.StatusCode, got, err, status, text)
		}
		if have := ttl.ReplaceAllString(resp.Header.Get("Cache-Status"), "ttl=N"); have != cacheStatus {
			t.Errorf("%s %s: Cache-Status: %s, want %s", method, target, have, cacheStatus)
		}
		if have := resp.Header.Get("Proxy-Status"); have != proxyStatus {
			t.Errorf("%s %s: Proxy-Status: %s, want %s", method, target, have, proxyStatus)
		}
		if resp.Header.Get("X-Rule") != "yes" {
			t.Errorf("%s %s: the route's rules do not hold", method, target)
		}
	}
	stale := respond("body", "kept", "header", "Cache-Control:max-age=1, stale-if-error=600")
	ask("GET", stale, 200, "kept", "edge; fwd=uri-miss; ttl=N; stored", "")
	// It answers, but has nothing to say.
	for _, status := range []string{"502", "503", "504"} {
		ask("GET", respond("status", status), 200, "from the mirror", "edge; fwd=uri-miss; detail=fallback", "edge; received-status="+status+"; next-hop=mirror")
	}
	o.kill()
	expired := time.NewTimer(1100 * time.Millisecond)
	defer expired.Stop()
	ask("GET", "/", 200, "from the mirror", "edge; fwd=uri-miss; detail=fallback", "edge; error=connection_refused; next-hop=mirror")
	ask("GET", "/", 200, "from the mirror", "edge; fwd=uri-miss; detail=fallback", "edge; error=connection_refused; next-hop=mirror")
	ask("HEAD", "/", 200, "", "edge; fwd=uri-miss; detail=fallback", "edge; error=connection_refused; next-hop=mirror")
	ask("GET", "/missing", 404, "404 Not Found\n", "edge; fwd=uri-miss; detail=fallback", "edge; error=connection_refused; next-hop=mirror")
	ask("POST", "/", 502, "<p>sorry</p>", "edge; fwd=method; detail=error-page", "edge; error=connection_refused")
	ask("GET", "/teapot/x", 418, "<p>sorry</p>", "edge; fwd=uri-miss; detail=error-page", "edge; error=connection_refused")
	<-expired.C
	ask("GET", stale, 200, "kept", "edge; fwd=stale; ttl=N; detail=stale-if-error", "")
	for metric, want := range map[string]float64{"edge_cache_fallbacks_total": 7, "edge_cache_fallback_errors_total": 1, "edge_cache_error_pages_total": 2} {
		eventually(t, fmt.Sprintf("%s is %v", metric, want), func() bool { return count(t, n, metric) == want })
	}
	n.says(t, "answered by the fallback", "the fallback fails, too", "cache: fetch failed")
}
