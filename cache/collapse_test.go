package cache

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/textproto"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"net/http/httptrace"

	"edgecdn/route"
)

// answering returns an origin's answer with this body; fields are name, value, ...
func answering(status int, body io.Reader, length int64, fields ...string) answerFunc {
	return func(r *http.Request) (*http.Response, error) {
		h := http.Header{}
		for i := 0; i < len(fields); i += 2 {
			h.Add(fields[i], fields[i+1])
		}
		closer, ok := body.(io.ReadCloser)
		if !ok {
			closer = io.NopCloser(body)
		}
		return &http.Response{StatusCode: status, Header: h, Body: closer, ContentLength: length,
			Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Request: r}, nil
	}
}

// inBubble runs a test with a cache of its own in virtual time, on both tiers.
func inBubble(t *testing.T, run func(t *testing.T, b *bed)) {
	for _, tiers := range []string{"memory", "tiered"} {
		t.Run(tiers, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { run(t, newBed(t, route.Host{}, tiers == "tiered")) })
		})
	}
}

func pattern(n int, seed uint64) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{byte(seed)})
	_, _ = r.Read(b)
	return b
}

func TestCollapseThousand(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		body, in := io.Pipe()
		b.origin.answers[""] = func(r *http.Request) (*http.Response, error) {
			time.Sleep(time.Second)
			return answering(200, body, 8, "Cache-Control", "max-age=60")(r)
		}
		clients := make([]*recorder, 1000)
		var wg sync.WaitGroup
		for i := range clients {
			wg.Go(func() { clients[i] = b.do(context.Background(), b.request("GET", "/a")) })
		}
		time.Sleep(2 * time.Second) // the header is there, the body is not
		_, _ = in.Write([]byte("half"))
		synctest.Wait()
		_, _ = in.Write([]byte("half"))
		_ = in.Close()
		wg.Wait()
		collapsed := 0
		for _, w := range clients {
			if w.status != 200 || w.body.String() != "halfhalf" || w.aborted {
				t.Fatal(w.status, w.body.String(), w.aborted)
			}
			if w.sent.Get("Cache-Status") == "edge; fwd=uri-miss; ttl=59; stored; collapsed" {
				collapsed++
			}
		}
		if b.origin.requests != 1 || collapsed != 999 || b.cache.stats.Collapsed.Load() != 999 {
			t.Error(b.origin.requests, "requests,", collapsed, "collapsed")
		}
	})
}

// An answer that may not be shared releases the waiters before any of them has
// seen a byte of it, and for a while nobody waits for that URL.
// closeCounter counts that it was closed.
type closeCounter struct {
	io.ReadCloser
	closed *atomic.Int64
}

func (c *closeCounter) Close() error {
	c.closed.Add(1)
	return c.ReadCloser.Close()
}

func TestCollapseReleasesOnPrivate(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		var mu sync.Mutex
		var closed atomic.Int64
		n := 0
		b.origin.answers[""] = func(r *http.Request) (*http.Response, error) {
			mu.Lock()
			n++
			body := fmt.Sprint("for request ", n)
			mu.Unlock()
			time.Sleep(time.Second)
			resp, err := answering(200, bytes.NewReader([]byte(body)), int64(len(body)), "Cache-Control", "private, max-age=60")(r)
			resp.Body = &closeCounter{resp.Body, &closed}
			return resp, err
		}
		seen := map[string]bool{}
		var wg sync.WaitGroup
		start := time.Now()
		for range 50 {
			wg.Go(func() {
				w := b.do(context.Background(), b.request("GET", "/a"))
				mu.Lock()
				defer mu.Unlock()
				if seen[w.body.String()] {
					t.Error("shared:", w.body.String())
				}
				seen[w.body.String()] = true
			})
		}
		wg.Wait()
		if d := time.Since(start); len(seen) != 50 || n != 50 || closed.Load() != 50 || d != 2*time.Second {
			t.Error(len(seen), "bodies of", n, "in", d, closed.Load(), "of them closed")
		}
		start = time.Now()
		for range 10 {
			wg.Go(func() { b.do(context.Background(), b.request("GET", "/a")) })
		}
		wg.Wait()
		if d := time.Since(start); d != time.Second {
			t.Error("requests waited for each other:", d)
		}
	})
}

func TestFillOutlivesItsClient(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		body, in := io.Pipe()
		b.origin.answers[""] = answering(200, body, 8, "Cache-Control", "max-age=60")
		ctx, cancel := context.WithCancel(context.Background())
		var first *recorder
		var wg sync.WaitGroup
		wg.Go(func() { first = b.do(ctx, b.request("GET", "/a")) })
		_, _ = in.Write([]byte("half"))
		synctest.Wait()
		cancel()
		wg.Wait()
		if !first.aborted {
			t.Error("the client that left got an end")
		}
		wg.Go(func() { _, _ = in.Write([]byte("half")); _ = in.Close() })
		second := b.do(context.Background(), b.request("GET", "/a"))
		wg.Wait()
		if second.body.String() != "halfhalf" || b.origin.requests != 1 {
			t.Error(second.body.String(), b.origin.requests)
		}
	})
}

func TestSlowClientHoldsUpNobody(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		body := pattern(900<<10, 1)
		b.origin.answers[""] = answering(200, bytes.NewReader(body), int64(len(body)), "Cache-Control", "max-age=60")
		release := make(chan struct{})
		slow := &recorder{header: http.Header{}, slow: func() { <-release }}
		var wg sync.WaitGroup
		wg.Go(func() { b.serve(context.Background(), slow, b.request("GET", "/a")) })
		synctest.Wait()
		if w := b.do(context.Background(), b.request("GET", "/a")); !bytes.Equal(w.body.Bytes(), body) {
			t.Error("the other client got", w.body.Len(), "bytes")
		}
		if got := b.cache.stats.Stored.Load(); got != 1 {
			t.Error("stored", got)
		}
		close(release)
		wg.Wait()
		if !bytes.Equal(slow.body.Bytes(), body) {
			t.Error("the slow client got", slow.body.Len(), "bytes")
		}
	})
}

// When the store takes no more in the middle of a body of unknown length, every
// reader still gets all of it, in bounded memory.
func TestOverflowGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t, route.Host{}, false)
		body := pattern(5<<20, 2)
		b.origin.answers[""] = answering(200, bytes.NewReader(body), -1, "Cache-Control", "max-age=60")
		gate := make(chan struct{})
		slow := &recorder{header: http.Header{}, slow: func() { <-gate }}
		var wg sync.WaitGroup
		wg.Go(func() { b.serve(context.Background(), slow, b.request("GET", "/a")) })
		synctest.Wait()
		b.cache.mu.Lock()
		joinable := len(b.cache.fills)
		b.cache.mu.Unlock()
		if joinable != 0 {
			t.Error("a fill that is not stored can be joined")
		}
		close(gate)
		wg.Wait()
		if !bytes.Equal(slow.body.Bytes(), body) || slow.aborted {
			t.Error("got", slow.body.Len(), "bytes, aborted", slow.aborted)
		}
		if b.cache.stats.Stored.Load() != 0 || b.cache.stats.StoreErrors.Load() != 1 {
			t.Error("stored", b.cache.stats.Stored.Load(), "errors", b.cache.stats.StoreErrors.Load())
		}
	})
}

// Nobody left to read what is not stored: the fetch ends.
func TestOverflowEndsWithItsReaders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t, route.Host{}, false)
		endless, in := io.Pipe()
		wrote := make(chan error, 1)
		go func() {
			var err error
			for err == nil {
				_, err = in.Write(make([]byte, 64<<10))
			}
			wrote <- err
		}()
		b.origin.answers[""] = answering(200, endless, -1, "Cache-Control", "max-age=60")
		ctx, cancel := context.WithCancel(context.Background())
		var wg sync.WaitGroup
		w := &recorder{header: http.Header{}, gone: ctx, slow: func() { time.Sleep(time.Second) }}
		wg.Go(func() { b.serve(ctx, w, b.request("GET", "/a")) })
		time.Sleep(40 * time.Second)
		cancel()
		wg.Wait()
		if err := <-wrote; !errors.Is(err, io.ErrClosedPipe) {
			t.Error(err)
		}
		synctest.Wait()
		if n := b.cache.stats.Fills.Load(); n != 0 {
			t.Error("fills under way:", n)
		}
	})
}

func TestBrokenBodyIsSeenByAll(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		body, in := io.Pipe()
		b.origin.answers[""] = answering(200, body, -1, "Cache-Control", "max-age=60")
		clients := make([]*recorder, 5)
		var wg sync.WaitGroup
		for i := range clients {
			wg.Go(func() { clients[i] = b.do(context.Background(), b.request("GET", "/a")) })
		}
		_, _ = in.Write([]byte("half"))
		synctest.Wait()
		in.CloseWithError(io.ErrUnexpectedEOF)
		wg.Wait()
		for i, w := range clients {
			if !w.aborted {
				t.Error("client", i, "got an end")
			}
		}
		b.origin.answers[""] = answering(200, bytes.NewReader([]byte("whole")), 5, "Cache-Control", "max-age=60")
		if w := b.do(context.Background(), b.request("GET", "/a")); w.body.String() != "whole" {
			t.Error("half a body was kept:", w.body.String())
		}
	})
}

// Waiters whose Vary fields differ from the first's collapse again among themselves.
func TestCollapseByVariant(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.origin.answers[""] = func(r *http.Request) (*http.Response, error) {
			time.Sleep(time.Second)
			lang := r.Header.Get("Accept-Language")
			return answering(200, bytes.NewReader([]byte(lang)), 2, "Cache-Control", "max-age=60", "Vary", "Accept-Language")(r)
		}
		var wg sync.WaitGroup
		for i := range 90 {
			lang := []string{"de", "en", "fr"}[i%3]
			wg.Go(func() {
				w := b.do(context.Background(), b.request("GET", "/a", Field{"accept-language", lang}))
				if w.body.String() != lang {
					t.Error("asked for", lang, "got", w.body.String())
				}
			})
		}
		wg.Wait()
		if b.origin.requests != 3 {
			t.Error("requests:", b.origin.requests)
		}
	})
}

func TestEarlyHintsReachEveryWaiter(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.origin.answers[""] = func(r *http.Request) (*http.Response, error) {
			trace := httptrace.ContextClientTrace(r.Context())
			time.Sleep(time.Second)
			if err := trace.Got1xxResponse(103, textproto.MIMEHeader{"Link": {"</a.css>"}}); err != nil {
				return nil, err
			}
			time.Sleep(time.Second)
			return answering(200, bytes.NewReader([]byte("ok")), 2, "Cache-Control", "max-age=60")(r)
		}
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() {
				w := b.do(context.Background(), b.request("GET", "/a"))
				if len(w.early) != 1 || w.early[0].Get("Link") != "</a.css>" || w.sent.Get("Link") != "" {
					t.Error(w.early, w.sent)
				}
			})
		}
		wg.Wait()
	})
}

func TestTrailersAreRelayedAndStored(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.origin.answers[""] = func(r *http.Request) (*http.Response, error) {
			resp, err := answering(200, bytes.NewReader([]byte("ok")), -1, "Cache-Control", "max-age=60")(r)
			resp.Trailer = http.Header{"X-Sum": {"1"}}
			return resp, err
		}
		for _, status := range []string{"edge; fwd=uri-miss; ttl=60; stored", "edge; hit; ttl=60"} {
			w := b.do(context.Background(), b.request("GET", "/a"))
			if w.sent.Get("Cache-Status") != status || w.header.Get(http.TrailerPrefix+"X-Sum") != "1" {
				t.Error(w.sent, w.header)
			}
		}
	})
}

// An unsafe request that succeeds while a fetch is under way: what the fetch
// brings is older than the change and must not stay.
func TestInvalidationBeatsFill(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		body, in := io.Pipe()
		b.origin.answers[""] = answering(200, body, 3, "Cache-Control", "max-age=60")
		var wg sync.WaitGroup
		wg.Go(func() { b.do(context.Background(), b.request("GET", "/a")) })
		_, _ = in.Write([]byte("ol"))
		synctest.Wait()
		b.origin.answers[""] = answering(204, http.NoBody, 0)
		post := b.request("POST", "/a")
		post.HasBody = true
		b.do(context.Background(), post)
		_, _ = in.Write([]byte("d"))
		_ = in.Close()
		wg.Wait()
		b.origin.answers[""] = answering(200, bytes.NewReader([]byte("new")), 3, "Cache-Control", "max-age=60")
		if w := b.do(context.Background(), b.request("GET", "/a")); w.body.String() != "new" {
			t.Error("got", w.body.String())
		}
	})
}

func TestFillsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t, route.Host{}, false)
		b.cache.fillsMax = 3
		b.origin.answers[""] = func(r *http.Request) (*http.Response, error) {
			time.Sleep(time.Second)
			return answering(200, bytes.NewReader([]byte("ok")), 2, "Cache-Control", "max-age=60")(r)
		}
		var wg sync.WaitGroup
		for i := range 10 {
			wg.Go(func() {
				if w := b.do(context.Background(), b.request("GET", fmt.Sprint("/", i))); w.body.String() != "ok" {
					t.Error(w.status, w.body.String())
				}
			})
		}
		wg.Wait()
		if refused := b.cache.stats.FillsRefused.Load(); refused != 7 {
			t.Error("refused", refused)
		}
	})
}

func TestLoopIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t, route.Host{}, false)
		b.origin.answers[""] = answering(200, http.NoBody, 0)
		b.do(context.Background(), b.request("GET", "/a"))
		loop := b.origin.last.Header.Get("Cdn-Loop")
		w := b.do(context.Background(), b.request("GET", "/a", Field{"cdn-loop", "other, " + loop}))
		if w.status != http.StatusLoopDetected || b.cache.stats.Loops.Load() != 1 {
			t.Error(w.status)
		}
	})
}

// Who comes when a fetch is known to have failed does not get that failure, but asks.
func TestNobodyJoinsAFailure(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		c, r := b.cache, b.request("GET", "/a")
		f := c.newFill(r, 0)
		f.ready, f.joined, f.keys = make(chan struct{}), "key", []string{"key"}
		c.mu.Lock()
		c.begin(f)
		c.fills["key"] = f
		c.mu.Unlock()
		f.fail(errors.New("refused"))
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.fills["key"] != nil {
			t.Error("others can join it still")
		}
	})
}

func TestRangeFarAheadOfAFill(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		body, in := io.Pipe()
		b.origin.answers[""] = func(r *http.Request) (*http.Response, error) {
			if r.Header.Get("Range") != "" {
				return answering(206, bytes.NewReader([]byte("far")), 3, "Content-Range", "bytes 900000000-900000002/1000000000")(r)
			}
			return answering(200, body, 1e9, "Cache-Control", "max-age=60")(r)
		}
		ctx, cancel := context.WithCancel(context.Background())
		var wg sync.WaitGroup
		wg.Go(func() { b.do(ctx, b.request("GET", "/a")) })
		_, _ = in.Write([]byte("begin"))
		synctest.Wait()
		w := b.do(context.Background(), b.request("GET", "/a", Field{"range", "bytes=900000000-900000002"}))
		if w.status != 206 || w.body.String() != "far" {
			t.Error(w.status, w.body.String())
		}
		cancel()
		_ = in.CloseWithError(io.ErrUnexpectedEOF)
		wg.Wait()
	})
}
