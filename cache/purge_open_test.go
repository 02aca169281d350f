package cache

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"edgecdn/cache/store"
	"edgecdn/route"
)

// pausing is a store after whose next Open something happens.
type pausing struct {
	Keeper
	then func()
}

func (k *pausing) Open(key store.Key) (*store.Stored, error) {
	stored, err := k.Keeper.Open(key)
	if then := k.then; then != nil {
		k.then = nil
		then()
	}
	return stored, err
}

// Between a look into the store and the next step a purge may come, be swept and leave
// the table. Who comes after it still gets nothing of before.
func TestPurgeSweptWhileOpening(t *testing.T) {
	for _, host := range []route.Host{{}, {Policy: route.Policy{Cache: route.Cache{StaleWhileRevalidate: new(time.Hour)}}}} {
		synctest.Test(t, func(t *testing.T) {
			b := newBed(t, host, false)
			b.origin.answers[""] = scripted([]byte("200\nX-Delay: 1s\nCache-Control: max-age=9\nETag: \"1\"\n\nold"))
			b.get("/a", "")
			time.Sleep(10 * time.Second)
			first := scripted([]byte("304\nX-Delay: 1s\nCache-Control: max-age=60\nETag: \"1\"\n\n"))
			next := scripted([]byte("200\nX-Delay: 1s\nCache-Control: max-age=60\nETag: \"2\"\n\nnew"))
			b.origin.answers[""] = first
			purged := make(chan struct{})
			b.cache.store = &pausing{b.cache.store, func() {
				b.purge(Purge{Kind: PurgeURL, Host: "a.test", Name: "/a"})
				if err := b.sweep(); err != nil {
					t.Error(err)
				}
				close(purged)
			}}
			var all sync.WaitGroup
			all.Go(func() { b.do(context.Background(), b.request("GET", "/a")) }) // it came before
			<-purged
			synctest.Wait()
			b.origin.answers[""] = next
			if w := b.do(context.Background(), b.request("GET", "/a")); w.body.String() != "new" {
				t.Errorf("after the purge: %q, %s", w.body.String(), w.sent.Get("Cache-Status"))
			}
			all.Wait()
		})
	}
}
