package server

// hit_test.go answers from a real cache over a real store in memory.

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"edgecdn/cache"
	"edgecdn/cache/store"
)

// origin makes responses without a network.
type origin func(r *http.Request) (*http.Response, error)

func (o origin) RoundTrip(r *http.Request) (*http.Response, error) { return o(r) }

type targetKey struct{}

// made builds the response of an origin.
func made(status int, body string, fields ...string) *http.Response {
	h := http.Header{}
	for i := 0; i < len(fields); i += 2 {
		h.Add(fields[i], fields[i+1])
	}
	return &http.Response{
		StatusCode: status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: h,
		Body: io.NopCloser(strings.NewReader(body)), ContentLength: int64(len(body)),
	}
}

// realCache returns a cache in memory in front of o.
func realCache(t testing.TB, o origin) *cache.Cache {
	t.Helper()
	kept, err := store.Open(store.Config{Memory: store.MemoryConfig{Bytes: 64 << 20}, Prepare: cache.Preparer(Encoders())}, nil)
	if err != nil {
		t.Fatal(err)
	}
	c := cache.New(cache.Config{Store: kept, Origin: o, Direct: func(ctx context.Context, _, target string) context.Context {
		return context.WithValue(ctx, targetKey{}, target)
	}})
	ctx, cancel := context.WithCancel(context.Background())
	ran := make(chan error, 1)
	go func() { ran <- kept.Run(ctx) }()
	t.Cleanup(func() {
		c.Close()
		cancel()
		if err := <-ran; err != nil && !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		if err := kept.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// startCached starts a server in front of a real cache; asked counts requests of
// the origin, inline the hits that needed no handler.
func startCached(t testing.TB, o origin) (e *edge, asked, inline *atomic.Int64) {
	asked, inline = new(atomic.Int64), new(atomic.Int64)
	c := realCache(t, func(r *http.Request) (*http.Response, error) {
		asked.Add(1)
		return o(r)
	})
	e = start(t, setup{
		handler: c.ServeHTTP,
		lookup: func(r *cache.Request) (cache.Hit, bool) {
			hit, ok := c.Lookup(r)
			if ok {
				inline.Add(1)
			}
			return hit, ok
		},
	})
	return e, asked, inline
}

const page = "<p>kept</p>"

func pageOrigin(*http.Request) (*http.Response, error) {
	return made(200, page, "Cache-Control", "max-age=60", "Content-Type", "text/html", "Etag", `"v1"`,
		"Link", "</a>; rel=preload", "Link", "</b>; rel=preload"), nil
}

func TestHits(t *testing.T) {
	e, asked, inline := startCached(t, pageOrigin)
	warm, _ := e.h1().get(t, "/page")
	if warm.StatusCode != 200 {
		t.Fatal(warm.Status)
	}
	tests := []struct {
		name, method   string
		field, value   string
		status         int
		body           string
		length         int64
		has, hasNot    string
		contentLengths bool
	}{
		{name: "GET", method: "GET", status: 200, body: page, length: int64(len(page)), has: "Age"},
		{name: "HEAD", method: "HEAD", status: 200, length: int64(len(page)), has: "Age"},
		{name: "304", method: "GET", field: "If-None-Match", value: `"v1"`, status: 304, hasNot: "Content-Type"},
		{name: "range", method: "GET", field: "Range", value: "bytes=1-2", status: 206, body: page[1:3], length: 2, has: "Content-Range"},
		{name: "no range", method: "GET", field: "Range", value: "bytes=900-", status: 416, has: "Content-Range"},
	}
	e.each(t, func(t *testing.T, c *client) {
		// Another Host would be another key: all ask for the same.
		for _, test := range tests {
			t.Run(test.name, func(t *testing.T) {
				first := c.request(t, "GET", "/page", nil)
				first.Host = "a.test"
				c.do(t, first)
				before, asked0 := inline.Load(), asked.Load()
				r := c.request(t, test.method, "/page", nil)
				r.Host = "a.test"
				if test.field != "" {
					r.Header.Set(test.field, test.value)
				}
				resp, body := c.do(t, r)
				if inline.Load() != before+1 || asked.Load() != asked0 {
					t.Fatalf("not answered inline (status %s, %s)", resp.Status, resp.Header.Get("Cache-Status"))
				}
				if resp.StatusCode != test.status || body != test.body {
					t.Errorf("%d %q, want %d %q", resp.StatusCode, body, test.status, test.body)
				}
				if test.status != 304 && resp.ContentLength != test.length {
					t.Errorf("Content-Length %d, want %d", resp.ContentLength, test.length)
				}
				if test.has != "" && resp.Header.Get(test.has) == "" {
					t.Errorf("no %s in %v", test.has, resp.Header)
				}
				if test.hasNot != "" && resp.Header.Get(test.hasNot) != "" {
					t.Errorf("%s in %v", test.hasNot, resp.Header)
				}
				if n := len(resp.Header["Date"]); n != 1 {
					t.Errorf("%d Date fields", n)
				}
				if test.status == 200 && len(resp.Header["Link"]) != 2 {
					t.Errorf("Link fields: %q", resp.Header["Link"])
				}
				if !strings.Contains(resp.Header.Get("Cache-Status"), "; hit") {
					t.Errorf("Cache-Status %q", resp.Header.Get("Cache-Status"))
				}
			})
		}
	})
}

// TestFieldsGoOutAsSet: nothing is guessed, nothing doubled, on either path.
func TestFieldsGoOutAsSet(t *testing.T) {
	date := time.Now().Add(-10 * time.Second).UTC().Format(http.TimeFormat)
	e, _, inline := startCached(t, func(r *http.Request) (*http.Response, error) {
		return made(200, "<html>looks like HTML", "Cache-Control", "max-age=600", "Date", date, "Alt-Svc", `h3=":1"`), nil
	})
	e.each(t, func(t *testing.T, c *client) {
		for _, path := range []string{"handler", "inline"} {
			resp, _ := c.get(t, "/"+c.name)
			if got, ok := resp.Header["Content-Type"]; ok {
				t.Errorf("%s: Content-Type %q was made up", path, got)
			}
			if got := resp.Header["Date"]; len(got) != 1 || got[0] != date {
				t.Errorf("%s: Date %q", path, got)
			}
			want := ""
			if strings.HasPrefix(c.base, "https") && c.proto != cache.HTTP3 {
				want = `h3=":` + e.https[strings.LastIndexByte(e.https, ':')+1:] + `"; ma=86400`
			}
			if got := strings.Join(resp.Header["Alt-Svc"], "|"); got != want {
				t.Errorf("%s: Alt-Svc %q, want %q", path, got, want)
			}
		}
	})
	if n := inline.Load(); n != 4 {
		t.Errorf("%d answers were inline, want 4", n)
	}
}

func TestAltSvcOnlyWithHTTP3(t *testing.T) {
	off := false
	e := start(t, setup{config: Config{HTTPS: []string{"127.0.0.1:0"}, HTTP3: &off}})
	resp, _ := e.h2().get(t, "/")
	if got := resp.Header.Get("Alt-Svc"); got != "" {
		t.Errorf("Alt-Svc %q without HTTP/3", got)
	}
}

func TestLargeHitsArriveWhole(t *testing.T) {
	large := strings.Repeat("0123456789abcdef", 40<<10) // 640 KiB, many pieces
	e, _, inline := startCached(t, func(*http.Request) (*http.Response, error) {
		return made(200, large, "Cache-Control", "max-age=60"), nil
	})
	e.each(t, func(t *testing.T, c *client) {
		for range 2 {
			resp, body := c.get(t, "/"+c.name)
			if body != large || resp.ContentLength != int64(len(large)) {
				t.Fatalf("%d bytes of %d, Content-Length %d", len(body), len(large), resp.ContentLength)
			}
		}
	})
	if n := inline.Load(); n != 4 {
		t.Errorf("%d answers were inline, want 4", n)
	}
}

func TestHeadFromHandlerClaimsNoLength(t *testing.T) {
	e := start(t, setup{handler: func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/known" {
			w.Header().Set("Content-Length", "1234")
		}
		w.WriteHeader(200)
	}})
	e.each(t, func(t *testing.T, c *client) {
		resp, _ := c.do(t, c.request(t, "HEAD", "/unknown", nil))
		if got, ok := resp.Header["Content-Length"]; ok {
			t.Errorf("Content-Length %q of a response whose length nobody knows", got)
		}
		resp, _ = c.do(t, c.request(t, "HEAD", "/known", nil))
		if got := resp.Header.Get("Content-Length"); got != "1234" {
			t.Errorf("Content-Length %q, want 1234", got)
		}
	})
}
