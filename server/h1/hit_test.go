package h1

// hit_test.go answers from a real cache over a real store.

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"edgecdn/cache"
	"edgecdn/cache/store"
)

// origin makes responses without a network.
type origin func(r *http.Request) (*http.Response, error)

func (o origin) RoundTrip(r *http.Request) (*http.Response, error) { return o(r) }

type targetKey struct{}

func target(r *http.Request) string { return r.Context().Value(targetKey{}).(string) }

// made builds the response of an origin.
func made(status int, body []byte, fields ...string) *http.Response {
	h := http.Header{}
	for i := 0; i < len(fields); i += 2 {
		h.Add(fields[i], fields[i+1])
	}
	return &http.Response{
		StatusCode: status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: h,
		Body: io.NopCloser(bytes.NewReader(body)), ContentLength: int64(len(body)),
	}
}

// cached is an engine before a real cache.
type cached struct {
	*edge
	cache  *cache.Cache
	kept   *store.Tiered
	asked  atomic.Int64 // requests of the origin
	inline atomic.Int64 // hits that needed no handler
}

func startCached(t testing.TB, o setup, config store.Config, from origin) *cached {
	t.Helper()
	config.Prepare = cache.Preparer([3]cache.Encoder{Encode})
	kept, err := store.Open(config, nil)
	if err != nil {
		t.Fatal(err)
	}
	c := &cached{kept: kept}
	c.cache = cache.New(cache.Config{
		Store: kept,
		Origin: origin(func(r *http.Request) (*http.Response, error) {
			c.asked.Add(1)
			return from(r)
		}),
		Direct: func(ctx context.Context, _, target string) context.Context {
			return context.WithValue(ctx, targetKey{}, target)
		},
	})
	ctx, cancel := context.WithCancel(context.Background())
	ran := make(chan error, 1)
	go func() { ran <- kept.Run(ctx) }()
	o.handler = c.cache.ServeHTTP
	o.lookup = func(r *cache.Request) (cache.Hit, bool) {
		hit, ok := c.cache.Lookup(r)
		if ok {
			c.inline.Add(1)
		}
		return hit, ok
	}
	t.Cleanup(func() { // after the engine has stopped
		c.cache.Close()
		cancel()
		if err := <-ran; err != nil && !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		if err := kept.Close(); err != nil {
			t.Error(err)
		}
	})
	c.edge = start(t, o)
	return c
}

// warm asks for a path until memory answers.
func (e *cached) warm(c *client, path string) {
	e.t.Helper()
	eventually(e.t, path+" in memory", func() bool {
		before := e.inline.Load()
		c.get(path)
		return e.inline.Load() > before
	})
}

// pattern is a body of n bytes that shows where a byte belongs.
func pattern(n int) []byte {
	b := make([]byte, 0, n+16)
	for i := 0; len(b) < n; i++ {
		b = fmt.Appendf(b, "%08x", i)
	}
	return b[:n]
}

// sized answers /N with N bytes.
func sized(r *http.Request) (*http.Response, error) {
	n, err := strconv.Atoi(strings.Trim(strings.SplitN(target(r), "?", 2)[0], "/"))
	if err != nil {
		return made(404, nil), nil
	}
	return made(200, pattern(n), "Cache-Control", "max-age=600", "Content-Type", "application/octet-stream", "Etag", `"v`+strconv.Itoa(n)+`"`), nil
}

func TestHits(t *testing.T) {
	both(t, func(t *testing.T, secure bool) {
		e := startCached(t, setup{secure: secure, altSvc: `h3=":443"`}, store.Config{}, sized)
		c := e.dial()
		for _, n := range []int{0, 1, 1000, 16_000, 100_000, 1 << 20} {
			path := "/" + strconv.Itoa(n)
			body := string(pattern(n))
			e.warm(c, path)
			for _, test := range []struct {
				method, field string
				status        int
				body          string
				length        int64
			}{
				{"GET", "", 200, body, int64(n)},
				{"HEAD", "", 200, "", int64(n)},
				{"GET", `If-None-Match: "v` + strconv.Itoa(n) + `"`, 304, "", 0},
				{"GET", "Range: bytes=0-0", 206, body[:min(n, 1)], 1},
				{"GET", "Range: bytes=99999999-", 416, "", 0},
			} {
				if n == 0 && test.status == 206 {
					continue
				}
				inline := e.inline.Load()
				line := test.field
				if line != "" {
					line += "\r\n"
				}
				c.send(test.method + " " + path + " HTTP/1.1\r\nHost: A.test\r\n" + line + "\r\n")
				a := c.read(test.method)
				if a.StatusCode != test.status || a.body != test.body || a.err != nil {
					t.Errorf("%s %s %s: %s, %d bytes, %v", test.method, path, test.field, a.Status, len(a.body), a.err)
				}
				if test.status != 304 && a.ContentLength != test.length {
					t.Errorf("%s %s %s: length %d", test.method, path, test.field, a.ContentLength)
				}
				if a.Header.Get("Alt-Svc") == "" || a.Header.Get("Cache-Status") == "" || a.Header.Get("Date") == "" {
					t.Errorf("%s %s %s: %v", test.method, path, test.field, a.Header)
				}
				if e.inline.Load() != inline+1 {
					t.Errorf("%s %s %s was not answered inline", test.method, path, test.field)
				}
			}
		}
	})
}

func TestPipelinedHits(t *testing.T) {
	both(t, func(t *testing.T, secure bool) {
		e := startCached(t, setup{secure: secure}, store.Config{}, sized)
		c := e.dial()
		sizes := []int{10, 20_000, 3000, 0, 70_000, 500}
		for _, n := range sizes {
			c.get("/" + strconv.Itoa(n))
		}
		var requests strings.Builder
		for range 20 {
			for _, n := range sizes {
				fmt.Fprintf(&requests, "GET /%d HTTP/1.1\r\nHost: a.test\r\n\r\n", n)
			}
		}
		go io.WriteString(c, requests.String())
		for range 20 {
			for _, n := range sizes {
				if a := c.read("GET"); a.err != nil || a.body != string(pattern(n)) {
					t.Fatalf("/%d: %d bytes, %v", n, len(a.body), a.err)
				}
			}
		}
	})
}

// TestHitAllocatesNothing asks distinct paths of a memory that has them all. It is
// run without the race detector, which allocates.
func TestHitAllocatesNothing(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	for _, secure := range []bool{false, true} {
		const paths = 400
		e := startCached(t, setup{secure: secure}, store.Config{}, sized)
		c := e.dial()
		var requests [paths][]byte
		for i := range requests {
			requests[i] = fmt.Appendf(nil, "GET /%d?%d HTTP/1.1\r\nHost: a.test\r\nUser-Agent: Mozilla/5.0\r\nAccept-Encoding: gzip, br\r\nAccept: */*\r\n\r\n", []int{1000, 40_000}[i%2], i)
			_, path, _ := bytes.Cut(requests[i], []byte(" "))
			path, _, _ = bytes.Cut(path, []byte(" "))
			e.warm(c, string(path))
		}
		from, inline := c.Conn, e.inline.Load()
		buffer := make([]byte, 64<<10)
		round := func() {
			for i, request := range requests {
				if _, err := from.Write(request); err != nil {
					t.Fatal(err)
				}
				read(t, from, buffer, []int{1000, 40_000}[i%2])
			}
		}
		round()
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		round()
		round()
		runtime.ReadMemStats(&after)
		if n := e.inline.Load() - inline; n != 3*paths {
			t.Fatalf("%d of %d requests were answered inline", n, 3*paths)
		}
		// Timers of the runtime and of the store may allocate now and then, and
		// crypto/tls does for each record that it reads, here and at the client.
		most := uint64(paths / 5)
		if secure {
			most += 2*2*paths + paths
		}
		if n := after.Mallocs - before.Mallocs; n > most {
			t.Errorf("TLS %v: %d allocations in %d hits", secure, n, 2*paths)
		}
	}
}

// read reads an answer with a body of n bytes without allocating.
func read(t testing.TB, c net.Conn, buffer []byte, n int) {
	got := 0
	for {
		m, err := c.Read(buffer[got:])
		if err != nil {
			t.Fatal(err)
		}
		got += m
		if end := bytes.Index(buffer[:got], []byte("\r\n\r\n")); end > 0 && got >= end+4+n {
			return
		}
	}
}
