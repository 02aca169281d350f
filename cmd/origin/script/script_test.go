package script_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/textproto"
	"net/url"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"
	"go.uber.org/goleak"

	"edgecdn/cmd/origin/script"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// origin is a scripted origin under test and a client that changes nothing.
type origin struct {
	*script.Script
	t      *testing.T
	url    string
	client *http.Client
}

func start(t *testing.T, proto string) *origin {
	t.Helper()
	s := script.New()
	server := httptest.NewUnstartedServer(s)
	if proto == "h2" {
		server.EnableHTTP2 = true
		server.StartTLS()
	} else {
		server.Start()
	}
	t.Cleanup(func() {
		server.Client().CloseIdleConnections()
		server.CloseClientConnections()
		server.Close()
	})
	client := server.Client()
	client.Transport.(*http.Transport).DisableCompression = true
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &origin{s, t, server.URL, client}
}

// both runs a test over HTTP/1.1 and over HTTP/2.
func both(t *testing.T, test func(t *testing.T, o *origin)) {
	for _, proto := range []string{"h1", "h2"} {
		t.Run(proto, func(t *testing.T) { test(t, start(t, proto)) })
	}
}

// do sends a request; fields are pairs of name and value.
func (o *origin) do(method, target string, body io.Reader, fields ...string) (*http.Response, error) {
	o.t.Helper()
	ctx, cancel := context.WithTimeout(o.t.Context(), 30*time.Second)
	o.t.Cleanup(cancel)
	r, err := http.NewRequestWithContext(ctx, method, o.url+"/", body)
	if err != nil {
		o.t.Fatal(err)
	}
	path, query, hasQuery := strings.Cut(target, "?")
	unescaped, err := url.PathUnescape(path)
	if err != nil {
		o.t.Fatal(err)
	}
	r.URL.Path, r.URL.RawPath, r.URL.RawQuery, r.URL.ForceQuery = unescaped, path, query, hasQuery
	for i := 0; i < len(fields); i += 2 {
		r.Header.Add(fields[i], fields[i+1])
	}
	resp, err := o.client.Do(r)
	if err == nil {
		o.t.Cleanup(func() { resp.Body.Close() })
	}
	return resp, err
}

// get wants an answer whose body ends well.
func (o *origin) get(target string, fields ...string) (*http.Response, string) {
	o.t.Helper()
	resp, err := o.do(http.MethodGet, target, nil, fields...)
	if err != nil {
		o.t.Fatalf("GET %s: %v", target, err)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		o.t.Fatalf("GET %s: body: %v", target, err)
	}
	return resp, string(body)
}

func want[T comparable](t *testing.T, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

func bytesAt(off int64, n int) string {
	b := make([]byte, n)
	script.Pattern(b, off)
	return string(b)
}

func TestPatternDependsOnOffsetAlone(t *testing.T) {
	whole := bytesAt(0, 100)
	for off := range 90 {
		if got := bytesAt(int64(off), 10); got != whole[off:off+10] {
			t.Fatalf("bytes at %d differ from the same bytes read from 0", off)
		}
	}
	if bytesAt(0, 8) == bytesAt(8, 8) {
		t.Error("neighbouring words are alike")
	}
}

func TestSite(t *testing.T) {
	both(t, func(t *testing.T, o *origin) {
		resp, body := o.get("/")
		want(t, "status", resp.StatusCode, 200)
		want(t, "type", resp.Header.Get("Content-Type"), "text/html; charset=utf-8")
		if !strings.Contains(resp.Header.Get("Cache-Control"), "stale-while-revalidate=") {
			t.Errorf("page may not be served stale: %q", resp.Header.Get("Cache-Control"))
		}
		for _, kind := range []string{"style", "app", "tide"} {
			_, rest, ok := strings.Cut(body, `"/assets/`+kind+".")
			name, _, _ := strings.Cut(rest, `"`)
			if !ok {
				t.Fatalf("page names no asset %s", kind)
			}
			asset, _ := o.get("/assets/" + kind + "." + name)
			want(t, kind, asset.StatusCode, 200)
			want(t, kind+" control", asset.Header.Get("Cache-Control"), "public, max-age=31536000, immutable")
		}
		for _, path := range []string{"/gallery.html", "/about.html", "/favicon.ico", "/robots.txt", "/_origin/"} {
			resp, body := o.get(path)
			want(t, path, resp.StatusCode, 200)
			if strings.Contains(body, "{{") {
				t.Errorf("%s: a link was not filled in", path)
			}
		}
		etag := resp.Header.Get("ETag")
		again, _ := o.get("/", "If-None-Match", etag)
		want(t, "If-None-Match", again.StatusCode, 304)
		again, _ = o.get("/", "If-Modified-Since", resp.Header.Get("Last-Modified"))
		want(t, "If-Modified-Since", again.StatusCode, 304)
		part, text := o.get("/", "Range", "bytes=0-14")
		want(t, "range", part.StatusCode, 206)
		want(t, "range", text, "<!doctype html>")
		missing, _ := o.get("/nothing")
		want(t, "missing", missing.StatusCode, 404)
		head, err := o.do(http.MethodHead, "/", nil)
		if err != nil {
			t.Fatal(err)
		}
		want(t, "HEAD length", head.ContentLength, int64(len(body)))
		post, err := o.do(http.MethodPost, "/", nil)
		if err != nil {
			t.Fatal(err)
		}
		want(t, "POST", post.StatusCode, 405)
	})
}

func TestSiteForOneVisitor(t *testing.T) {
	o := start(t, "h1")
	resp, body := o.get("/account")
	want(t, "control", resp.Header.Get("Cache-Control"), "private, max-age=60")
	want(t, "cookies", len(resp.Cookies()), 1)
	want(t, "body", body, "hello, stranger\n")
	_, body = o.get("/account", "Cookie", "visitor=ann")
	want(t, "body", body, "hello, ann\n")
	_, first := o.get("/time")
	_, second := o.get("/time")
	if first == second {
		t.Error("/time answered the same twice")
	}
}

func TestVideo(t *testing.T) {
	both(t, func(t *testing.T, o *origin) {
		resp, body := o.get("/video/100kB.bin")
		want(t, "length", resp.ContentLength, 100_000)
		if body != bytesAt(0, 100_000) {
			t.Error("wrong bytes")
		}
		etag := resp.Header.Get("ETag")
		resp, body = o.get("/video/60GiB.bin", "Range", "bytes=50000000000-50000000999")
		want(t, "status", resp.StatusCode, 206)
		want(t, "Content-Range", resp.Header.Get("Content-Range"), fmt.Sprintf("bytes 50000000000-50000000999/%d", int64(60)<<30))
		want(t, "bytes", body, bytesAt(50_000_000_000, 1000))
		_, body = o.get("/video/100kB.bin", "Range", "bytes=-5")
		want(t, "suffix", body, bytesAt(99_995, 5))
		resp, _ = o.get("/video/100kB.bin", "Range", "bytes=0-0", "If-Range", etag)
		want(t, "If-Range, same", resp.StatusCode, 206)
		resp, _ = o.get("/video/100kB.bin", "Range", "bytes=0-0", "If-Range", `"other"`)
		want(t, "If-Range, other", resp.StatusCode, 200)
		resp, _ = o.get("/video/100kB.bin", "Range", "bytes=100000-")
		want(t, "beyond", resp.StatusCode, 416)
		for _, name := range []string{"65GiB.bin", "x.bin", "10", "-1.bin"} {
			resp, _ = o.get("/video/" + name)
			want(t, name, resp.StatusCode, 404)
		}
	})
}

func TestRespond(t *testing.T) {
	both(t, func(t *testing.T, o *origin) {
		resp, body := o.get("/_origin/respond?status=404&size=10&body=hey&header=Cache-Control:max-age=60&header=X-A:1&header=X-A:2&header=Content-Type:text/x")
		want(t, "status", resp.StatusCode, 404)
		want(t, "length", resp.ContentLength, 13)
		want(t, "body", body, "hey"+bytesAt(0, 10))
		want(t, "control", resp.Header.Get("Cache-Control"), "max-age=60")
		want(t, "type", strings.Join(resp.Header["Content-Type"], "|"), "text/x")
		want(t, "repeated", strings.Join(resp.Header["X-A"], "|"), "1|2")
		want(t, "count", resp.Header.Get("X-Origin-Count"), "1")

		resp, body = o.get("/_origin/respond?chunked=1&size=100000&chunks=7")
		want(t, "chunked length", resp.ContentLength, -1)
		want(t, "chunked body", body, bytesAt(0, 100_000))

		resp, body = o.get(`/_origin/respond?etag=W/"v1"&size=10`, "If-None-Match", `"v0", "v1"`)
		want(t, "conditional", resp.StatusCode, 304)
		want(t, "conditional body", body, "")
		resp, _ = o.get("/_origin/respond?status=304&header=ETag:%22x%22")
		want(t, "always 304", resp.StatusCode, 304)
		resp, body = o.get("/_origin/respond?ranges=1&size=1000&etag=%22v%22", "Range", "bytes=10-19")
		want(t, "range", resp.StatusCode, 206)
		want(t, "range", body, bytesAt(10, 10))
		_, body = o.get("/_origin/respond?header=Vary:Accept-Language&echo=Accept-Language", "Accept-Language", "de")
		want(t, "echo", body, "Accept-Language: de\n")

		resp, body = o.get("/_origin/respond?body=x&trailer=X-Check:abc")
		want(t, "trailer", resp.Trailer.Get("X-Check"), "abc")
		want(t, "trailer body", body, "x")
	})
}

func TestRespondRefusesNonsense(t *testing.T) {
	o := start(t, "h1")
	for _, query := range []string{
		"status=99", "status=x", "size=1e30", "size=-1", "delay=1h", "delay=-1s", "chunks=0", "chunked=maybe",
		"header=novalue", "header=A%20B:c", "header=A:b%0D%0Ac", "early=x", "fail=x", "fail=1-y", "bad=%zz",
		strings.Repeat("header=A:b&", 201),
	} {
		resp, body := o.get("/_origin/respond?" + query)
		if resp.StatusCode != 400 || body == "" {
			t.Errorf("%.40s: got %d %q, want 400 and a reason", query, resp.StatusCode, body)
		}
	}
}

func TestRespondFails(t *testing.T) {
	o := start(t, "h1")
	for query, statuses := range map[string][]int{
		"fail=2":                       {200, 503, 200},
		"fail=1-2,4&fail_status=500":   {500, 500, 200, 500, 200},
		"fail=3-&etag=%22v%22&x=after": {200, 200, 503, 503},
	} {
		for i, status := range statuses {
			resp, _ := o.get("/_origin/respond?" + query)
			want(t, fmt.Sprintf("%s, request %d", query, i+1), resp.StatusCode, status)
		}
	}
}

func TestRespondDelays(t *testing.T) {
	o := start(t, "h1")
	begin := time.Now()
	o.get("/_origin/respond?delay=30ms&size=3&chunks=3&chunk_delay=20ms")
	if took := time.Since(begin); took < 70*time.Millisecond {
		t.Errorf("took %v, want 70ms at least", took)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	r, _ := http.NewRequestWithContext(ctx, http.MethodGet, o.url+"/_origin/hang", nil)
	if resp, err := o.client.Do(r); err == nil {
		t.Errorf("hang answered %d", resp.StatusCode)
	}
	if _, err := o.do(http.MethodGet, "/_origin/hang?for=10ms", nil); err == nil {
		t.Error("hang answered in the end")
	}
}

func TestEarlyHints(t *testing.T) {
	both(t, func(t *testing.T, o *origin) {
		var codes []int
		var links []string
		ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
			Got1xxResponse: func(code int, header textproto.MIMEHeader) error {
				codes, links = append(codes, code), header.Values("Link")
				return nil
			},
		})
		r, _ := http.NewRequestWithContext(ctx, http.MethodGet, o.url+"/_origin/respond?early=Link:%3C/a%3E&early=Link:%3C/b%3E&body=x", nil)
		resp, err := o.client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		want(t, "codes", fmt.Sprint(codes), "[103]")
		want(t, "links", fmt.Sprint(links), "[</a> </b>]")
		want(t, "status", resp.StatusCode, 200)
		want(t, "link in the final response", resp.Header.Get("Link"), "")
	})
}

func TestGzip(t *testing.T) {
	both(t, func(t *testing.T, o *origin) {
		resp, body := o.get("/_origin/respond?body=hello&gzip=1")
		want(t, "coding", resp.Header.Get("Content-Encoding"), "gzip")
		z, err := gzip.NewReader(strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(z)
		want(t, "text", fmt.Sprint(string(text), err), "hello<nil>")
	})
}

func TestBrokenBodies(t *testing.T) {
	both(t, func(t *testing.T, o *origin) {
		for _, query := range []string{
			"size=1000&truncate=500", "size=1000&truncate=500&chunked=1", "size=1000&truncate=500&rst=1",
			"size=500&truncate=500&chunked=1", "size=1000&truncate=0",
		} {
			resp, err := o.do(http.MethodGet, "/_origin/respond?"+query, nil)
			if err != nil {
				t.Errorf("%s: %v", query, err)
				continue
			}
			body, err := io.ReadAll(resp.Body)
			if err == nil {
				t.Errorf("%s: the body ended well", query)
			}
			if len(body) > 500 {
				t.Errorf("%s: got %d bytes", query, len(body))
			}
		}
		for _, target := range []string{"/_origin/close", "/_origin/close?rst=1"} {
			if resp, err := o.do(http.MethodPost, target, strings.NewReader("x")); err == nil {
				t.Errorf("%s: got %d", target, resp.StatusCode)
			}
		}
	})
}

func TestResetIsAReset(t *testing.T) {
	o := start(t, "h1")
	_, err := o.do(http.MethodPost, "/_origin/close?rst=1", nil)
	if !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("got %v, want a reset", err)
	}
}

func TestUntilClose(t *testing.T) {
	o := start(t, "h1")
	resp, body := o.get("/_origin/until-close?size=100000&header=X-A:b")
	want(t, "proto", resp.Proto, "HTTP/1.0")
	want(t, "length", resp.ContentLength, -1)
	want(t, "field", resp.Header.Get("X-A"), "b")
	want(t, "body", body, bytesAt(0, 100_000))
	resp, err := o.do(http.MethodGet, "/_origin/until-close?size=1000&truncate=10", nil)
	if err != nil {
		t.Fatal(err)
	}
	if body, err := io.ReadAll(resp.Body); err == nil || len(body) > 10 {
		t.Errorf("got %d bytes and %v, want a reset after 10", len(body), err)
	}
	h2 := start(t, "h2")
	resp, _ = h2.get("/_origin/until-close")
	want(t, "over HTTP/2", resp.StatusCode, 501)
}

func TestWire(t *testing.T) {
	o := start(t, "h1")
	text := "HTTP/1.1 299 Odd\r\nContent-Length: 2\r\nX: \tspaced \r\n\r\nokrest"
	conn, err := net.Dial("tcp", strings.TrimPrefix(o.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "GET /_origin/wire?delay=1ms&bytes=%s HTTP/1.1\r\nHost: x\r\n\r\n", url.QueryEscape(text))
	got, err := io.ReadAll(conn)
	if err != nil {
		t.Fatal(err)
	}
	want(t, "bytes", string(got), text)
}

func TestWireKeepsUntilTheClientCloses(t *testing.T) {
	o := start(t, "h1")
	resp, err := o.do(http.MethodGet, "/_origin/wire?keep=10m&bytes="+url.QueryEscape("HTTP/1.1 200 OK\r\n\r\nx"), nil)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close() // goleak sees the handler if it stays
}

func TestEcho(t *testing.T) {
	both(t, func(t *testing.T, o *origin) {
		for _, target := range []string{
			"/_origin/echo", "/_origin/raw/", "/_origin/raw/a%2Fb//c/../d/./%2e%2e/?q=%2F&&=?", "//_origin/raw/x",
			"///_origin/raw//", "/_origin/raw/x?",
		} {
			_, body := o.get(target, "X-A", "1", "X-A", "2")
			var e script.Echo
			if err := json.Unmarshal([]byte(body), &e); err != nil {
				t.Fatalf("%s: %v in %q", target, err, body)
			}
			want(t, "target", e.Target, target)
			want(t, "bytes", string(e.TargetBytes), target)
			want(t, "fields", strings.Join(e.Header["X-A"], "|"), "1|2")
		}
	})
	t.Run("absolute form, bytes that are no text", func(t *testing.T) {
		o := start(t, "h1")
		conn, err := net.Dial("tcp", strings.TrimPrefix(o.url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		fmt.Fprint(conn, "GET http://odd.example/_origin/raw/\xff\"<>|^?\xfe HTTP/1.1\r\nHost: odd.example\r\nConnection: close\r\n\r\n")
		got, _ := io.ReadAll(conn)
		_, body, _ := bytes.Cut(got, []byte("\r\n\r\n"))
		var e script.Echo
		if err := json.Unmarshal(body, &e); err != nil {
			t.Fatalf("%v in %q", err, got)
		}
		want(t, "bytes", string(e.TargetBytes), "http://odd.example/_origin/raw/\xff\"<>|^?\xfe")
		want(t, "host", e.Host, "odd.example")
	})
}

func TestRedirect(t *testing.T) {
	o := start(t, "h1")
	resp, _ := o.get("/_origin/redirect?to=/x%2Fy&status=308&header=Cache-Control:max-age=9")
	want(t, "status", resp.StatusCode, 308)
	want(t, "location", resp.Header.Get("Location"), "/x/y")
	want(t, "control", resp.Header.Get("Cache-Control"), "max-age=9")
}

func TestUpload(t *testing.T) {
	both(t, func(t *testing.T, o *origin) {
		sent := bytesAt(0, 300_000)
		resp, err := o.do(http.MethodPut, "/_origin/upload?delay=1ms", io.MultiReader(strings.NewReader(sent)))
		if err != nil {
			t.Fatal(err)
		}
		var got script.Upload
		if err := json.NewDecoder(resp.Body).Decode(&got); err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256([]byte(sent))
		want(t, "length", got.Length, int64(len(sent)))
		want(t, "hash", got.SHA256, hex.EncodeToString(sum[:]))
	})
}

func TestServerSentEvents(t *testing.T) {
	both(t, func(t *testing.T, o *origin) {
		resp, body := o.get("/_origin/sse?interval=1ms&count=3")
		want(t, "type", resp.Header.Get("Content-Type"), "text/event-stream")
		want(t, "events", body, "id: 1\ndata: event 1 of 3\n\nid: 2\ndata: event 2 of 3\n\nid: 3\ndata: event 3 of 3\n\n")
	})
}

func TestWebSocket(t *testing.T) {
	o := start(t, "h1")
	conn, _, err := websocket.Dial(t.Context(), o.url+"/_origin/ws", &websocket.DialOptions{HTTPClient: o.client})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.CloseNow()
	for _, message := range []string{"hello", "", bytesAt(0, 1000)} {
		if err := conn.Write(t.Context(), websocket.MessageBinary, []byte(message)); err != nil {
			t.Fatal(err)
		}
		_, got, err := conn.Read(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		want(t, "message", string(got), message)
	}
	if err := conn.Close(websocket.StatusNormalClosure, "done"); err != nil {
		t.Error(err)
	}
}

func TestStats(t *testing.T) {
	o := start(t, "h1")
	read := func(method string) (stats script.Stats) {
		t.Helper()
		resp, err := o.do(method, "/_origin/stats", nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.NewDecoder(resp.Body).Decode(&stats); err != nil {
			t.Fatal(err)
		}
		return stats
	}
	o.get("/_origin/respond?a")
	o.get("/_origin/respond?b")
	o.get("/x%2Fy")
	stats := read(http.MethodGet)
	want(t, "total", stats.Total, 3)
	want(t, "path", stats.Paths["/_origin/respond"], 2)
	want(t, "raw path", stats.Paths["/x%2Fy"], 1)
	want(t, "Requests", o.Requests("/x%2Fy"), 1)
	if o.Peak() < 1 {
		t.Error("nothing was ever answered")
	}
	for _, method := range []string{http.MethodPost, http.MethodDelete} {
		o.get("/_origin/respond?a")
		want(t, "after "+method, read(method).Total, 0)
	}
	resp, _ := o.get("/_origin/respond?a")
	want(t, "count after reset", resp.Header.Get("X-Origin-Count"), "1")
}
