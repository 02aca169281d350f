package e2e

import (
	"bytes"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"regexp"
	"strings"
	"testing"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// A step is a request and what its answer must be.
type step struct {
	method string   // GET where empty
	fields []string // name, value, name, value
	until  bool     // asked again until the answer is that
	status int      // 200 where 0
	// cache is the pattern of our member of Cache-Status; body that of the body without
	// its content coding, any where empty.
	cache, body string
	// header has names and patterns in turn; an empty pattern: no such field.
	header []string
	early  string // Link of a 103 that came before
	// trailer is the value of X-Check after the body.
	trailer string
}

// plain stands for the text that shrinks below.
var plain = strings.Repeat("body { color: red }\n", 100)

const (
	tagged  = `"v1"`
	cssType = "Content-Type:text/css"
)

// cachingScenarios are what the stories of the cache show in virtual time, over real
// sockets: targets are those of the sample origin. Nothing waits for time to pass:
// what is stale is so from the start.
var cachingScenarios = []struct {
	name   string
	target string
	steps  []step
}{
	{"hit", respond("body", "x", "header", "Cache-Control:max-age=60", "header", "Age:5"), []step{
		{cache: miss, body: "x", header: []string{"Age", "^5$"}},
		{cache: hit, body: "x", header: []string{"Age", `^\d+$`, "Via", `^1\.1 edge$`}},
	}},
	{"head", respond("body", "hello", "header", "Cache-Control:max-age=60"), []step{
		{method: "HEAD", cache: miss, header: []string{"Content-Length", "^5$"}},
		{cache: `edge; (hit; ttl=\d+|fwd=uri-miss; ttl=\d+; stored; collapsed)`, body: "hello", header: []string{"X-Origin-Count", "^1$"}},
		{method: "HEAD", cache: hit, header: []string{"Content-Length", "^5$"}},
	}},
	{"conditions of clients", respond("body", "tagged", "etag", tagged, "header", "Cache-Control:max-age=60", "header", "Last-Modified:Mon, 01 Jan 2024 00:00:00 GMT"), []step{
		{cache: miss, body: "tagged"},
		{fields: []string{"If-None-Match", `"0", W/"v1"`}, status: 304, cache: hit, header: []string{"ETag", `^"v1"$`, "Content-Type", ""}},
		{fields: []string{"If-None-Match", `"other"`}, cache: hit, body: "tagged"},
		{fields: []string{"If-Modified-Since", "Mon, 01 Jan 2024 00:00:00 GMT"}, status: 304, cache: hit},
		{fields: []string{"If-Modified-Since", "Sun, 31 Dec 2023 00:00:00 GMT"}, cache: hit, body: "tagged"},
		{fields: []string{"If-Match", `"v1"`}, cache: hit, body: "tagged"},
		{method: "HEAD", fields: []string{"If-None-Match", "*"}, status: 304, cache: hit},
	}},
	{"stale and validated", respond("body", "x", "etag", tagged, "header", "Cache-Control:max-age=0"), []step{
		{cache: soonStale, body: "x", header: []string{"X-Origin-Count", "^1$"}},
		{cache: `edge; fwd=stale; fwd-status=304; ttl=-?\d+; stored`, body: "x", header: []string{"X-Origin-Count", "^2$"}},
		{fields: []string{"If-None-Match", tagged}, status: 304, cache: `edge; fwd=stale; ttl=-?\d+; stored`},
	}},
	{"goes stale", respond("body", "x", "etag", tagged, "header", "Cache-Control:max-age=60", "header", "Age:59"), []step{
		{cache: soonStale, body: "x"},
		{until: true, cache: `edge; fwd=stale; fwd-status=304; ttl=-?\d+; stored`, body: "x"},
	}},
	{"stale-while-revalidate", respond("body", "x", "header", "Cache-Control:max-age=0, stale-while-revalidate=600"), []step{
		{cache: soonStale, header: []string{"X-Origin-Count", "^1$"}},
		{cache: `edge; hit; ttl=-?\d+`, header: []string{"X-Origin-Count", "^1$"}},
		{until: true, cache: `edge; hit; ttl=-?\d+`, header: []string{"X-Origin-Count", "^([2-9]|\\d\\d+)$"}},
	}},
	{"stale-if-error", respond("body", "x", "fail", "2", "header", "Cache-Control:max-age=0, stale-if-error=600"), []step{
		{cache: soonStale, body: "x"},
		{cache: `edge; fwd=stale; fwd-status=503; ttl=-?\d+; detail=stale-if-error`, body: "x", header: []string{"X-Origin-Count", "^1$"}},
		{cache: `edge; fwd=stale; ttl=-?\d+; stored`, body: "x", header: []string{"X-Origin-Count", "^3$"}},
	}},
	{"vary", respond("echo", "Accept-Language", "header", "Cache-Control:max-age=60", "header", "Vary:Accept-Language"), []step{
		{fields: []string{"Accept-Language", "de"}, cache: miss, body: "Accept-Language: de\n"},
		{fields: []string{"Accept-Language", "fr"}, cache: `edge; fwd=vary-miss; ttl=\d+; stored`, body: "Accept-Language: fr\n"},
		{fields: []string{"Accept-Language", "de"}, cache: hit, body: "Accept-Language: de\n"},
		{fields: []string{"Accept-Language", "fr"}, cache: hit, body: "Accept-Language: fr\n"},
	}},
	{"ranges", respond("body", "0123456789", "etag", tagged, "header", "Cache-Control:max-age=60"), []step{
		{cache: miss, body: "0123456789"},
		{fields: []string{"Range", "bytes=2-4"}, status: 206, cache: hit, body: "234", header: []string{"Content-Range", "^bytes 2-4/10$"}},
		{fields: []string{"Range", "bytes=-3"}, status: 206, cache: hit, body: "789"},
		{fields: []string{"Range", "bytes=0-1,-2"}, status: 206, cache: hit, body: `bytes 0-1/10 01\nbytes 8-9/10 89\n`, header: []string{"Content-Type", "^multipart/byteranges; boundary="}},
		{fields: []string{"Range", "bytes=10-"}, status: 416, cache: hit, header: []string{"Content-Range", `^bytes \*/10$`}},
		{fields: []string{"Range", "bytes=1-1", "If-Range", tagged}, status: 206, cache: hit, body: "1"},
		{fields: []string{"Range", "bytes=1-1", "If-Range", `"v0"`}, cache: hit, body: "0123456789"},
	}},
	{"range of a miss", respond("size", "10", "ranges", "1", "etag", tagged, "header", "Cache-Control:max-age=60"), []step{
		{fields: []string{"Range", "bytes=-2"}, status: 206, cache: `edge; fwd=uri-miss; ttl=\d+; stored`, header: []string{"Content-Range", "^bytes 8-9/10$", "Content-Length", "^2$"}},
		{fields: []string{"Range", "bytes=0-1"}, status: 206, cache: hit, header: []string{"Content-Range", "^bytes 0-1/10$"}},
		{cache: hit, header: []string{"X-Origin-Count", "^1$", "Content-Length", "^10$"}},
	}},
	{"unsafe methods", respond("body", "x", "header", "Cache-Control:max-age=60"), []step{
		{cache: miss, header: []string{"X-Origin-Count", "^1$"}},
		{cache: hit},
		{method: "POST", cache: "edge; fwd=method"},
		{cache: miss, header: []string{"X-Origin-Count", "^3$"}},
		{method: "DELETE", cache: "edge; fwd=method"},
		{cache: miss},
	}},
	{"set-cookie", respond("body", "x", "header", "Cache-Control:max-age=60", "header", "Set-Cookie:a=b"), []step{
		{cache: "edge; fwd=uri-miss; detail=set-cookie", header: []string{"Set-Cookie", "^a=b$"}},
		{cache: "edge; fwd=uri-miss; detail=hit-for-miss", header: []string{"X-Origin-Count", "^2$"}},
	}},
	{"targeted", respond("body", "x", "header", "Cache-Control:no-store", "header", "CDN-Cache-Control:max-age=60"), []step{
		{cache: miss},
		{cache: hit, header: []string{"Cache-Control", "^no-store$", "CDN-Cache-Control", "^max-age=60$"}},
	}},
	{"what the origin is told", respond("echo", "Via", "echo", "CDN-Loop", "echo", "X-Forwarded-Host", "echo", "Range", "header", "Cache-Control:max-age=60"), []step{
		{fields: []string{"Via", "1.0 before", "CDN-Loop", "other", "X-Forwarded-Host", "evil.test"}, cache: miss,
			body: `Via: 1\.0 before, (1\.1|2|3) edge\nCDN-Loop: other, edge;id=[0-9a-f]+\nX-Forwarded-Host: 127\.0\.0\.1(:\d+)?\nRange: \n`},
	}},
	{"early hints", respond("body", "x", "early", "Link:</a.css>;rel=preload", "header", "Cache-Control:max-age=60"), []step{
		{cache: miss, body: "x", early: "</a.css>;rel=preload", header: []string{"Link", ""}},
		{cache: hit, body: "x"},
	}},
	{"early hints that pass", respond("body", "x", "early", "Link:</a.css>;rel=preload", "header", "Cache-Control:no-store"), []step{
		{cache: "edge; fwd=uri-miss; detail=no-store", early: "</a.css>;rel=preload"},
		{cache: "edge; fwd=uri-miss; detail=hit-for-miss", early: "</a.css>;rel=preload"},
	}},
	{"trailers", respond("body", "x", "trailer", "X-Check:42", "header", "Cache-Control:max-age=60"), []step{
		{cache: miss, body: "x", trailer: "42"},
		{cache: hit, body: "x", trailer: "42"},
	}},
	{"trailers that pass", respond("body", "x", "trailer", "X-Check:42", "header", "Cache-Control:no-store"), []step{
		{cache: "edge; fwd=uri-miss; detail=no-store", body: "x", trailer: "42"},
	}},
	{"coded here", respond("body", plain, "etag", tagged, "header", "Cache-Control:max-age=60", "header", cssType), []step{
		{fields: []string{"Accept-Encoding", "gzip, br, zstd"}, cache: miss, body: "CSS", header: []string{"Content-Encoding", "", "Vary", "^Accept-Encoding$", "ETag", `^"v1"$`}},
		{until: true, fields: []string{"Accept-Encoding", "gzip, br, zstd"}, cache: hit, body: "CSS", header: []string{"Content-Encoding", "^br$", "ETag", `^W/"v1"$`, "Vary", "^Accept-Encoding$"}},
		{until: true, fields: []string{"Accept-Encoding", "gzip, br;q=0.5, zstd;q=0.1"}, cache: hit, body: "CSS", header: []string{"Content-Encoding", "^gzip$"}},
		{until: true, fields: []string{"Accept-Encoding", "zstd, *;q=0.1"}, cache: hit, body: "CSS", header: []string{"Content-Encoding", "^zstd$"}},
		{fields: []string{"Accept-Encoding", "br;q=0, gzip;q=0"}, cache: hit, body: "CSS", header: []string{"Content-Encoding", "", "ETag", `^"v1"$`, "X-Origin-Count", "^1$"}},
		{fields: []string{"Accept-Encoding", "br", "If-None-Match", `W/"v1"`}, status: 304, cache: hit, header: []string{"ETag", `^W/"v1"$`}},
	}},
	{"decoded here", respond("body", plain, "gzip", "1", "etag", tagged, "header", "Cache-Control:max-age=60", "header", cssType), []step{
		{fields: []string{"Accept-Encoding", "gzip"}, cache: miss, body: "CSS", header: []string{"Content-Encoding", "^gzip$", "ETag", `^"v1"$`}},
		{fields: []string{"Accept-Encoding", "br"}, cache: hit, body: "CSS", header: []string{"Content-Encoding", "", "ETag", `^W/"v1"$`, "Vary", "^Accept-Encoding$"}},
		{fields: []string{"Accept-Encoding", "gzip"}, cache: hit, body: "CSS", header: []string{"Content-Encoding", "^gzip$", "X-Origin-Count", "^1$"}},
	}},
}

// TestCaching runs each scenario over each protocol, on a target of its own.
func TestCaching(t *testing.T) {
	n := startEdge(t, startOrigin(t))
	for _, protocol := range protocols {
		c := newClient(t, n, protocol)
		for _, scenario := range cachingScenarios {
			t.Run(protocol+"/"+scenario.name, func(t *testing.T) {
				target := scenario.target + "&for=" + protocol
				for i, s := range scenario.steps {
					problem := s.run(t, c, target)
					if s.until && problem != "" {
						eventually(t, fmt.Sprintf("step %d", i+1), func() bool { problem = s.run(t, c, target); return problem == "" })
					}
					if problem != "" {
						t.Errorf("step %d: %s", i+1, problem)
					}
				}
			})
		}
	}
}

// run takes a step and says what is wrong.
func (s *step) run(t *testing.T, c *client, target string) string {
	t.Helper()
	method, status := "GET", 200
	if s.method != "" {
		method = s.method
	}
	if s.status != 0 {
		status = s.status
	}
	var early string
	trace := &httptrace.ClientTrace{Got1xxResponse: func(code int, header textproto.MIMEHeader) error {
		if code == 103 {
			early = header.Get("Link")
		}
		return nil
	}}
	var upload io.Reader
	if method == "POST" {
		upload = strings.NewReader("upload")
	}
	req := c.request(t, method, target, upload)
	for i := 0; i < len(s.fields); i += 2 {
		req.Header.Set(s.fields[i], s.fields[i+1])
	}
	a := c.do(t, req.WithContext(httptrace.WithClientTrace(req.Context(), trace)))
	body, err := a.text()
	switch got := a.Header.Get("Cache-Status"); {
	case err != nil:
		return "body: " + err.Error()
	case a.StatusCode != status:
		return fmt.Sprintf("status %d, want %d", a.StatusCode, status)
	case !matches(s.cache, got):
		return fmt.Sprintf("Cache-Status %q, want %s", got, s.cache)
	case s.body == "CSS" && body != plain, s.body != "" && s.body != "CSS" && !matches(s.body, body), (method == "HEAD" || status == 304) && body != "":
		return fmt.Sprintf("body %.100q, want %.100q", body, s.body)
	case early != s.early:
		return fmt.Sprintf("early hints %q, want %q", early, s.early)
	case a.Trailer.Get("X-Check") != s.trailer:
		return fmt.Sprintf("trailers %v, want %q", a.Trailer, s.trailer)
	}
	for i := 0; i < len(s.header); i += 2 {
		name, want := s.header[i], s.header[i+1]
		got := strings.Join(a.Header.Values(name), ", ")
		if want == "" && got != "" || want != "" && !regexp.MustCompile(want).MatchString(got) {
			return fmt.Sprintf("%s %q, want %s", name, got, want)
		}
	}
	return ""
}

func matches(pattern, text string) bool {
	return regexp.MustCompile(`(?s)^(` + pattern + `)$`).MatchString(text)
}

// text returns the body without its content coding; of several ranges, each with its
// Content-Range on a line.
func (a answer) text() (string, error) {
	raw, err := io.Reader(strings.NewReader(a.body)), error(nil)
	switch a.Header.Get("Content-Encoding") {
	case "br":
		raw = brotli.NewReader(raw)
	case "gzip":
		raw, err = gzip.NewReader(raw)
	case "zstd":
		raw, err = zstd.NewReader(raw, zstd.WithDecoderConcurrency(1))
	}
	if err != nil || a.Request.Method == http.MethodHead || a.body == "" {
		return a.body, err
	}
	kind, params, _ := mime.ParseMediaType(a.Header.Get("Content-Type"))
	if kind != "multipart/byteranges" {
		var text bytes.Buffer
		_, err = text.ReadFrom(raw)
		return text.String(), err
	}
	var text strings.Builder
	for parts := multipart.NewReader(raw, params["boundary"]); ; {
		part, err := parts.NextPart()
		if err == io.EOF {
			return text.String(), nil
		}
		if err != nil {
			return "", err
		}
		content, err := io.ReadAll(part)
		if err != nil {
			return "", err
		}
		fmt.Fprintf(&text, "%s %s\n", part.Header.Get("Content-Range"), content)
	}
}

// An edge whose origin is itself says so instead of asking without end (RFC 8586).
func TestLoopIsBroken(t *testing.T) {
	n := newNode(t)
	n.args = []string{"serve", "--origin", "http://" + n.http, "--http", n.http, "--https", n.https, "--admin", n.admin, "--data", n.data}
	n.start(t)
	for _, protocol := range protocols {
		a := newClient(t, n, protocol).get(t, "/"+protocol)
		a.want(t, 508, "edge")
		if got := a.Header.Get("Proxy-Status"); got != "edge; error=proxy_loop_detected" {
			t.Errorf("%s: Proxy-Status %q", protocol, got)
		}
	}
}
