package cache

import (
	"context"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"edgecdn/route"
)

// A fetch that began before the fence is joined by nobody who comes after it and
// leaves nothing behind; a 304 that it brings does not renew what is behind.
func TestFenceDuringFetch(t *testing.T) {
	for _, disk := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			b := newBed(t, route.Host{}, disk)
			numbered(b, "Cache-Control: max-age=60")
			var first, second *recorder
			var all sync.WaitGroup
			all.Go(func() { first = b.do(context.Background(), b.request("GET", "/a")) })
			synctest.Wait()
			b.cache.Fence()
			all.Go(func() { second = b.do(context.Background(), b.request("GET", "/a")) })
			all.Wait()
			if first.body.String() != "1" || second.body.String() != "2" {
				t.Errorf("before the fence %q, after it %q", first.body.String(), second.body.String())
			}
			w := b.do(context.Background(), b.request("GET", "/a"))
			if status := w.sent.Get("Cache-Status"); w.body.String() != "2" || !strings.Contains(status, "; hit;") {
				t.Errorf("fetched while fenced and asked for again: %q, %s", w.body.String(), status)
			}
		})
	}
}

func TestFenceDuringRevalidation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t, route.Host{}, true)
		b.origin.answers[""] = scripted([]byte("200\nCache-Control: max-age=9, stale-while-revalidate=60\nETag: \"1\"\n\nold"))
		b.get("/a", "")
		time.Sleep(10 * time.Second)
		b.origin.answers[""] = scripted([]byte("304\nX-Delay: 1s\nCache-Control: max-age=60\nETag: \"1\"\n\n"))
		if w := b.do(context.Background(), b.request("GET", "/a")); w.body.String() != "old" {
			t.Fatalf("stale while revalidated: %q", w.body.String())
		}
		synctest.Wait()
		b.cache.Fence()
		b.origin.mu.Lock()
		b.origin.answers[""] = scripted([]byte("200\nX-Delay: 1s\nCache-Control: max-age=60\nETag: \"2\"\n\nnew"))
		b.origin.mu.Unlock()
		time.Sleep(5 * time.Second)
		if w := b.do(context.Background(), b.request("GET", "/a")); w.body.String() != "new" {
			t.Errorf("after the fence: %q, %s", w.body.String(), w.sent.Get("Cache-Status"))
		}
	})
}
