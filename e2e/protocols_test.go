package e2e

import (
	"encoding/json"
	"net/http"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"edgecdn/cmd/origin/script"
)

const (
	miss = `edge; fwd=uri-miss; ttl=\d+; stored`
	hit  = `edge; hit; ttl=\d+`
	// soonStale is a miss of what may be stale by the time that it is answered.
	soonStale = `edge; fwd=uri-miss; ttl=-?\d+; stored`
)

// What the README tells a newcomer to type.
func TestFlagsAlone(t *testing.T) {
	need(t, "curl")
	n := startEdge(t, startOrigin(t))
	for _, tt := range []struct {
		name, line string
		args       []string
	}{
		{"h1", "HTTP/1.1 200 OK", []string{"http://" + n.http + "/?h1"}},
		{"h1 over TLS", "HTTP/1.1 200 OK", []string{"--http1.1", "--cacert", n.ca(), "https://" + n.https + "/?h1s"}},
		{"h2", "HTTP/2 200", []string{"--http2", "--cacert", n.ca(), "https://" + n.https + "/?h2"}},
	} {
		for _, cacheStatus := range []string{miss, hit} {
			stdout, stderr, code := run(t, "curl", append([]string{"-sSi", "--max-time", "20"}, tt.args...)...)
			if code != 0 {
				t.Fatalf("%s: curl: exit code %d: %s", tt.name, code, stderr)
			}
			head, body, _ := strings.Cut(stdout, "\r\n\r\n")
			if !strings.HasPrefix(head, tt.line) || !strings.Contains(body, "<html") {
				t.Errorf("%s: want %q and a page, got:\n%.500s", tt.name, tt.line, stdout)
			}
			if !regexp.MustCompile(`(?im)^cache-status: ` + cacheStatus + `\r?$`).MatchString(head) {
				t.Errorf("%s: want Cache-Status: %s, got:\n%s", tt.name, cacheStatus, head)
			}
		}
	}
	report := edge(t, "get", "--http3", "--repeat", "2", "--data", n.data, "https://"+n.https+"/?h3")
	for _, want := range []string{
		`1\. 200 OK, HTTP/3\.0, [^\n]*\n[^\n]*\n   Cache-Status: ` + miss + `\n     edge had nothing under this URL and asked the origin`,
		`2\. 200 OK, HTTP/3\.0, [^\n]*\n[^\n]*\n   Cache-Status: ` + hit + `\n     edge answered from what it had stored`,
	} {
		if !regexp.MustCompile(want).MatchString(report) {
			t.Errorf("edge get --http3 does not say %q:\n%s", want, report)
		}
	}
}

// A response stored over one protocol is a hit over the others.
func TestOneCache(t *testing.T) {
	o := startOrigin(t)
	n := startEdge(t, o)
	for i, protocol := range protocols {
		answer := newClient(t, n, protocol).get(t, respond("body", "shared", "header", "Cache-Control:max-age=60"), "X-From", protocol)
		want := hit
		if i == 0 {
			want = miss
		}
		// Scheme is part of the key: h1 is clear here.
		if protocol == "h2" {
			want = miss
		}
		answer.want(t, 200, want)
		if answer.body != "shared" {
			t.Errorf("%s: body %q", protocol, answer.body)
		}
	}
	if got := o.requests(t, "/_origin/respond"); got != 2 {
		t.Errorf("the origin saw %d requests, want one for each scheme", got)
	}
}

// Targets reach the origin byte for byte.
func TestRawTargets(t *testing.T) {
	n := startEdge(t, startOrigin(t))
	for _, target := range []string{
		"/_origin/raw/a%2Fb", "/_origin/raw/a%2fb", "/_origin/raw//x", "//_origin/raw/x", "/_origin/raw/./y", "/_origin/raw/z/../w",
		"/_origin/raw/%7Euser?q=%20+&&=", "/_origin/raw/?", "/_origin/raw/;p=1", "/_origin/raw/%E2%82%AC",
	} {
		for _, protocol := range protocols {
			var got string
			if protocol == "h1" {
				response := rawHTTP1(t, n.http, "GET "+target+" HTTP/1.1\r\nHost: edge.test\r\nConnection: close\r\n\r\n")
				head, _, _ := strings.Cut(response, "\r\n")
				if head != "HTTP/1.1 200 OK" {
					t.Errorf("h1 %s: %s", target, head)
					continue
				}
				got = echoedTarget(t, response[strings.Index(response, "{"):strings.LastIndex(response, "}")+1])
			} else {
				a := newClient(t, n, protocol).get(t, target)
				if a.StatusCode != 200 {
					t.Errorf("%s %s: status %d, %.100q", protocol, target, a.StatusCode, a.body)
					continue
				}
				got = echoedTarget(t, a.body)
			}
			if got != target {
				t.Errorf("%s: sent %s, the origin saw %s", protocol, target, got)
			}
		}
	}
}

func echoedTarget(t *testing.T, body string) string {
	t.Helper()
	var echo script.Echo
	if err := json.Unmarshal([]byte(body), &echo); err != nil {
		t.Fatalf("%v in %q", err, body)
	}
	return echo.Target
}

// What the origin learns of the client, and what it must not.
func TestForwardedFields(t *testing.T) {
	n := startEdge(t, startOrigin(t))
	for _, protocol := range protocols {
		c := newClient(t, n, protocol)
		req := c.request(t, "GET", "/_origin/echo", nil)
		req.Host = "www.example.test"
		if protocol == "h1" {
			req.Header.Set("Connection", "X-Private")
			req.Header.Set("X-Private", "hop")
			req.Header.Set("Keep-Alive", "5")
		}
		req.Header.Set("Via", "1.0 before")
		a := c.do(t, req)
		var echo script.Echo
		if err := json.Unmarshal([]byte(a.body), &echo); err != nil {
			t.Fatalf("%s: %v in %q", protocol, err, a.body)
		}
		seen := http.Header(echo.Header)
		if echo.Host != "www.example.test" {
			t.Errorf("%s: the origin saw Host %q", protocol, echo.Host)
		}
		for _, name := range []string{"X-Private", "Keep-Alive"} {
			if seen.Get(name) != "" {
				t.Errorf("%s: %s reached the origin", protocol, name)
			}
		}
		version := map[string]string{"h1": "1.1", "h2": "2", "h3": "3"}[protocol]
		if via := strings.Join(seen.Values("Via"), ", "); !strings.HasPrefix(via, "1.0 before, "+version+" ") {
			t.Errorf("%s: the origin saw Via %q", protocol, via)
		}
		if seen.Get("X-Forwarded-For") != "127.0.0.1" || !strings.Contains(seen.Get("Forwarded"), "for=127.0.0.1") {
			t.Errorf("%s: the origin saw X-Forwarded-For %q, Forwarded %q", protocol, seen.Get("X-Forwarded-For"), seen.Get("Forwarded"))
		}
		if seen.Get("Cdn-Loop") == "" {
			t.Errorf("%s: the origin saw no CDN-Loop", protocol)
		}
	}
}

// A body that the origin cuts ends as an error at the client, never cleanly,
// and is not stored.
func TestAbortsAreSeen(t *testing.T) {
	o := startOrigin(t)
	n := startEdge(t, o)
	for _, how := range [][]string{{"rst", "0"}, {"rst", "1"}, {"chunked", "1"}} {
		for _, protocol := range protocols {
			c := newClient(t, n, protocol)
			target := respond(append([]string{"size", "300kB", "truncate", "200kB", "chunks", "3", "for", protocol, "header", "Cache-Control:max-age=60"}, how...)...)
			before := o.requests(t, "/_origin/respond")
			for range 2 {
				if a, err := c.try(c.request(t, "GET", target, nil)); err == nil && a.StatusCode < 500 {
					t.Errorf("%s %v: ended cleanly: status %d, %d bytes, %s", protocol, how, a.StatusCode, len(a.body), a.Header.Get("Cache-Status"))
				}
			}
			if got := o.requests(t, "/_origin/respond") - before; got < 2 {
				t.Errorf("%s %v: %d requests reached the origin for two fetches: a cut body was stored", protocol, how, got)
			}
		}
	}
}

func TestRanges(t *testing.T) {
	n := startEdge(t, startOrigin(t))
	whole := make([]byte, 1_000_000)
	script.Pattern(whole, 0)
	for _, protocol := range protocols {
		c := newClient(t, n, protocol)
		target := "/video/1MB.bin?" + protocol
		c.get(t, target).want(t, 200, miss)
		for _, tt := range []struct{ field, contentRange, body string }{
			{"bytes=0-99", "bytes 0-99/1000000", string(whole[:100])},
			{"bytes=999990-", "bytes 999990-999999/1000000", string(whole[999990:])},
			{"bytes=-5", "bytes 999995-999999/1000000", string(whole[999995:])},
			{"bytes=300000-700000", "bytes 300000-700000/1000000", string(whole[300000:700001])},
		} {
			a := c.get(t, target, "Range", tt.field)
			a.want(t, 206, hit)
			if got := a.Header.Get("Content-Range"); got != tt.contentRange || a.body != tt.body {
				t.Errorf("%s %s: Content-Range %q, %d bytes, right %t", protocol, tt.field, got, len(a.body), a.body == tt.body)
			}
		}
		unsatisfiable := c.get(t, target, "Range", "bytes=1000000-")
		unsatisfiable.want(t, 416, hit)
		if got := unsatisfiable.Header.Get("Content-Range"); got != "bytes */1000000" {
			t.Errorf("%s: 416 with Content-Range %q", protocol, got)
		}
	}
}

func TestUpload(t *testing.T) {
	n := startEdge(t, startOrigin(t))
	body := make([]byte, 3_000_000)
	script.Pattern(body, 0)
	for _, protocol := range protocols {
		c := newClient(t, n, protocol)
		a := c.do(t, c.request(t, "POST", "/_origin/upload", strings.NewReader(string(body))))
		var upload script.Upload
		if err := json.Unmarshal([]byte(a.body), &upload); err != nil || upload.Length != int64(len(body)) {
			t.Errorf("%s: %d %q: %v", protocol, a.StatusCode, a.body, err)
		}
		a.want(t, 200, "edge; fwd=method")
	}
}

// Every command has help with an example.
func TestHelp(t *testing.T) {
	for _, command := range []string{"serve", "check", "get", "status", "reload", "purge", "token", "version"} {
		if help := edge(t, command, "--help"); !strings.Contains(help, "Example") || !strings.Contains(help, "edge "+command) {
			t.Errorf("edge %s --help shows no example:\n%s", command, help)
		}
	}
	stdout, _, code := run(t, filepath.Join(bin, "edge"))
	if code != 0 || !strings.Contains(stdout, "serve") {
		t.Errorf("edge alone: exit code %d\n%s", code, stdout)
	}
}
