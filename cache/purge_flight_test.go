package cache

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"edgecdn/route"
)

// numbered answers after a second: the body is the number of the request.
func numbered(b *bed, fields string) {
	n := 0
	var mu sync.Mutex
	b.origin.answers[""] = func(r *http.Request) (*http.Response, error) {
		mu.Lock()
		n++
		text := fmt.Sprintf("200\nX-Delay: 1s\n%s\n\n%d", fields, n)
		mu.Unlock()
		return scripted([]byte(text))(r)
	}
}

// Who comes after a purge does not wait for a fetch that began before it, whatever
// the purge names; who came before gets what that brings.
func TestNobodyJoinsAcrossAPurge(t *testing.T) {
	for _, p := range []Purge{
		{Kind: PurgeURL, Host: "a.test", Name: "/a/b"}, {Kind: PurgePrefix, Host: "a.test", Name: "/a"},
		{Kind: PurgeHost, Host: "a.test"}, {Kind: PurgeGroup, Host: "a.test", Name: "g"}, {Kind: PurgeEverything},
	} {
		for _, p.Soft = range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				b := newBed(t, route.Host{}, false)
				numbered(b, "Cache-Control: max-age=60\nCache-Tag: g")
				var got [4]*recorder
				var all sync.WaitGroup
				ask := func(i int) {
					all.Go(func() { got[i] = b.do(context.Background(), b.request("GET", "/a/b")) })
					synctest.Wait()
				}
				ask(0)
				ask(1)
				b.purge(Purge{Kind: PurgeHost, Host: "b.test"}, p)
				ask(2)
				ask(3)
				all.Wait()
				for i, want := range []string{"1", "1", "2", "2"} {
					if body := got[i].body.String(); body != want {
						t.Errorf("%v: request %d got %s: %s", p, i, body, got[i].sent.Get("Cache-Status"))
					}
				}
				w := b.do(context.Background(), b.request("GET", "/a/b"))
				if w.body.String() != "2" || !strings.Contains(w.sent.Get("Cache-Status"), "; hit;") {
					t.Errorf("%v: %s: %s", p, w.body.String(), w.sent.Get("Cache-Status"))
				}
			})
		}
	}
}

// A revalidation that a purge overtakes renews nothing and brings nothing back: a 304
// makes it ask again without conditions, a failure is a failure.
func TestPurgeDuringRevalidation(t *testing.T) {
	for _, tt := range []struct {
		answer string // to the revalidation
		soft   bool
		want   string // body for who waits
		status string // of the next request
	}{
		{"304\nX-Delay: 1s\nCache-Control: max-age=60\nETag: \"1\"\n\n", false, "new", "; hit;"},
		{"503\nX-Delay: 1s\n\nfailed", false, "failed", "fwd=uri-miss"},
		{"304\nX-Delay: 1s\nCache-Control: max-age=60, stale-if-error=600\nETag: \"1\"\n\n", true, "old", "fwd=stale"},
		{"503\nX-Delay: 1s\n\nfailed", true, "old", "fwd=stale"},
	} {
		synctest.Test(t, func(t *testing.T) {
			b := newBed(t, route.Host{}, true)
			b.origin.answers[""] = scripted([]byte("200\nCache-Control: max-age=9, stale-if-error=600\nETag: \"1\"\n\nold"))
			b.get("/a", "")
			time.Sleep(10 * time.Second)
			b.origin.answers[""] = func(r *http.Request) (*http.Response, error) {
				if r.Header.Get("If-None-Match") != "" {
					return scripted([]byte(tt.answer))(r)
				}
				return scripted([]byte("200\nCache-Control: max-age=60\nETag: \"2\"\n\nnew"))(r)
			}
			var w *recorder
			var done sync.WaitGroup
			done.Go(func() { w = b.do(context.Background(), b.request("GET", "/a")) })
			synctest.Wait()
			b.purge(Purge{Kind: PurgePrefix, Host: "a.test", Name: "/", Soft: tt.soft})
			done.Wait()
			if w.body.String() != tt.want {
				t.Errorf("%+v: %d %s: %s", tt, w.status, w.body.String(), w.sent.Get("Cache-Status"))
			}
			next := b.do(context.Background(), b.request("GET", "/a"))
			if status := next.sent.Get("Cache-Status"); !strings.Contains(status, tt.status) {
				t.Errorf("%+v: the next: %s", tt, status)
			}
		})
	}
}

// A request that has joined a fetch learns that a purge came in between also when the
// fetch has ended meanwhile and the purge is swept: the table does not know it any
// more.
func TestPurgedIsKnownAfterTheSweep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t, route.Host{}, false)
		begin := func() *fill {
			f := b.cache.newFill(b.request("GET", "/a"), b.cache.purges.order.Load())
			f.resp = &response{status: 200, fields: []Field{{"cache-tag", "g"}}}
			b.cache.mu.Lock()
			defer b.cache.mu.Unlock()
			b.cache.begin(f)
			return f
		}
		end := func(f *fill) {
			b.cache.mu.Lock()
			defer b.cache.mu.Unlock()
			b.cache.flights.remove(f)
		}
		f := begin()
		if b.cache.purged(f) {
			t.Error("purged before anything was")
		}
		order := b.purge(Purge{Kind: PurgeGroup, Host: "a.test", Name: "g"})
		time.Sleep(30 * time.Second)
		if b.cache.SweptOrder() >= order {
			t.Fatal("swept while the fetch is under way")
		}
		end(f)
		if err := b.sweep(); err != nil {
			t.Fatal(err)
		}
		if b.cache.SweptOrder() < order || b.cache.purges.match(&f.named, f.order) != (match{}) {
			t.Fatal("the table still knows the purge")
		}
		if !b.cache.purged(f) {
			t.Error("a request that came after the purge is given what was fetched before")
		}
		if later := begin(); b.cache.purged(later) {
			t.Error("what was fetched after the purge is taken for purged")
		} else {
			end(later)
		}
	})
}
