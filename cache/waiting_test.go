package cache

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// Other requests for what a GET is fetching wait for its header and answer from it:
// HEAD and conditions that hold at once, a range as soon as its bytes are there.
func TestOthersWhileAGetFills(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		body, in := io.Pipe()
		b.origin.answers[""] = answering(200, body, 8, "Cache-Control", "max-age=60", "ETag", `"1"`)
		var wg sync.WaitGroup
		wg.Go(func() { b.do(context.Background(), b.request("GET", "/a")) })
		_, _ = in.Write([]byte("half"))
		synctest.Wait()
		head := b.do(context.Background(), b.request("HEAD", "/a"))
		same := b.do(context.Background(), b.request("GET", "/a", Field{"if-none-match", `"1"`}))
		first := b.do(context.Background(), b.request("GET", "/a", Field{"range", "bytes=1-2"}))
		if head.status != 200 || head.sent.Get("Content-Length") != "8" || head.body.Len() > 0 ||
			same.status != 304 || first.status != 206 || first.body.String() != "al" {
			t.Error(head.status, head.sent, same.status, first.status, first.body.String())
		}
		var last *recorder
		wg.Go(func() { last = b.do(context.Background(), b.request("GET", "/a", Field{"range", "bytes=-2"})) })
		synctest.Wait()
		_, _ = in.Write([]byte("full"))
		_ = in.Close()
		wg.Wait()
		if last.status != 206 || last.body.String() != "ll" || b.origin.requests != 1 {
			t.Error(last.status, last.body.String(), b.origin.requests)
		}
	})
}

// Who waits with Authorization for a fetch begun without gets nothing of it, unless
// it allows sharing (RFC 9111 3.5).
func TestCollapseWithAuthorization(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		control := "max-age=60"
		b.origin.answers[""] = func(r *http.Request) (*http.Response, error) {
			time.Sleep(time.Second)
			who := "for all"
			if r.Header.Get("Authorization") != "" {
				who = "for one"
			}
			return answering(200, bytes.NewReader([]byte(who)), 7, "Cache-Control", control, "ETag", `"`+who+`"`)(r)
		}
		for _, want := range []string{"for one", "for all"} {
			b.do(context.Background(), b.request("GET", "/a")) // stored, and stale below
			time.Sleep(61 * time.Second)
			b.origin.requests = 0
			var plain, authorized *recorder
			var wg sync.WaitGroup
			wg.Go(func() { plain = b.do(context.Background(), b.request("GET", "/a")) })
			synctest.Wait()
			wg.Go(func() {
				authorized = b.do(context.Background(), b.request("GET", "/a", Field{"authorization", "Basic eDp5"}))
			})
			wg.Wait()
			if plain.body.String() != "for all" || authorized.body.String() != want {
				t.Errorf("%s: %q and %q", control, plain.body.String(), authorized.body.String())
			}
			control = "public, max-age=60"
			time.Sleep(61 * time.Second)
		}
	})
}

// A part of a sliced body that is one client's voids the rest, and is not kept.
func TestPrivateSliceIsNotKept(t *testing.T) {
	bothTiers(t, func(t *testing.T, disk bool) {
		b, o := newRangingBed(t, 3<<20, disk)
		b.getRange("bytes=0-9")
		b.origin.answers[""] = func(r *http.Request) (*http.Response, error) {
			resp, err := o.answer(r)
			resp.Header.Set("Cache-Control", "private")
			return resp, err
		}
		w := b.getRange("bytes=2000000-2000009")
		if w.status != 206 || !bytes.Equal(w.body.Bytes(), o.bytes(2000000, 10)) || b.cache.stats.SlicesVoid.Load() != 1 {
			t.Error(w.status, w.sent, b.cache.stats.SlicesVoid.Load())
		}
		o.ranges = nil
		for range 2 {
			b.getRange("bytes=2000000-2000009")
		}
		if len(o.ranges) != 2 {
			t.Error("a private part was kept:", o.ranges)
		}
	})
}

// Two POSTs at once: the answer of the one that the other outdates is not kept.
func TestPostOutdatedByAnother(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		body, in := io.Pipe()
		b.origin.answers[""] = answering(200, body, 3, "Cache-Control", "max-age=60", "Content-Location", "/a")
		post := func() *Request { r := b.request("POST", "/a"); r.HasBody = true; return r }
		var wg sync.WaitGroup
		wg.Go(func() { b.do(context.Background(), post()) })
		_, _ = in.Write([]byte("ol"))
		synctest.Wait()
		b.origin.answers[""] = answering(204, http.NoBody, 0)
		b.do(context.Background(), post())
		_, _ = in.Write([]byte("d"))
		_ = in.Close()
		wg.Wait()
		b.origin.answers[""] = func(*http.Request) (*http.Response, error) { return nil, errors.New("asked") }
		if w := b.do(context.Background(), b.request("GET", "/a")); w.status != 502 {
			t.Error(w.status, w.body.String())
		}
	})
}

// However many are sent what is stale meanwhile, it is validated once for each key
// (RFC 5861 3), and again when that has ended, well or badly.
func TestRevalidatedOnceAtATime(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		var status, asked atomic.Int32
		status.Store(200)
		b.origin.answers[""] = func(r *http.Request) (*http.Response, error) {
			asked.Add(1)
			time.Sleep(2 * time.Second)
			return answering(int(status.Load()), bytes.NewReader([]byte("ok")), 2, "Cache-Control", "max-age=9, stale-while-revalidate=600, stale-if-error=600", "ETag", `"1"`)(r)
		}
		b.do(context.Background(), b.request("GET", "/a"))
		b.do(context.Background(), b.request("GET", "/b"))
		for round, next := range []int32{503, 304, 200} {
			asked.Store(0)
			status.Store(next)
			time.Sleep(15 * time.Second)
			began := time.Now()
			var wg sync.WaitGroup
			for i := range 100 {
				target := []string{"/a", "/b"}[i%2]
				wg.Go(func() {
					time.Sleep(time.Duration(i) * time.Millisecond)
					if w := b.do(context.Background(), b.request("GET", target)); w.body.String() != "ok" || w.aborted {
						t.Error(w.status, w.sent)
					}
				})
			}
			wg.Wait()
			if d := time.Since(began); d > time.Second {
				t.Errorf("round %d: clients waited, %v in all", round, d)
			}
			time.Sleep(5 * time.Second)
			if n := asked.Load(); n != 2 {
				t.Errorf("round %d: %d requests for two targets", round, n)
			}
		}
		if n := b.cache.stats.Background.Load(); n != 6 {
			t.Errorf("%d revalidations behind stale answers are counted", n)
		}
	})
}
