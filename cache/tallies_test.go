package cache

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"edgecdn/route"
)

// Counts of memory are exact as soon as somebody asks for them, whatever has become of
// what was purged: still there, replaced, removed, found by several requests; and no
// sweep has passed.
func TestCountsAtOnce(t *testing.T) {
	for _, disk := range []bool{false, true} {
		t.Run(fmt.Sprintf("disk=%v", disk), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { testCountsAtOnce(t, disk) })
		})
	}
}

func testCountsAtOnce(t *testing.T, disk bool) {
	b := newBed(t, route.Host{}, disk)
	b.origin.answers[""] = scripted([]byte("200\nCache-Control: max-age=60\nCache-Tag: g\n\nx"))
	get := func(target string) {
		b.do(context.Background(), b.request("GET", target))
		synctest.Wait()
	}
	const n = 100
	for i := range n {
		get(fmt.Sprintf("/a/%d", i))
		get(fmt.Sprintf("/b/%d", i))
	}
	soft := b.purge(Purge{Kind: PurgePrefix, Host: "a.test", Name: "/b", Soft: true})
	group := []Purge{{Kind: PurgeGroup, Host: "a.test", Name: "g"}}
	if c, err := b.cache.CountPurge(t.Context(), group); err != nil || c.Memory != 2*n || !c.MemoryCounted {
		t.Errorf("before: %+v, %v", c, err)
	}
	// What is found stale counts for the soft purge, whoever counts it.
	for i := range 10 {
		get(fmt.Sprintf("/b/%d", i))
	}
	if err := b.cache.CountMemory(t.Context(), soft); err != nil {
		t.Fatal(err)
	}
	order := b.purge(group...)
	for i := range 30 { // replaced
		get(fmt.Sprintf("/a/%d", i))
		get(fmt.Sprintf("/a/%d", i))
	}
	for i := 30; i < 40; i++ { // removed
		if err := b.cache.store.Remove(b.cache.store.Hasher().Key("https://a.test/a/" + fmt.Sprint(i))); err != nil {
			t.Fatal(err)
		}
	}
	var all sync.WaitGroup
	for range 3 {
		all.Go(func() {
			if err := b.cache.CountMemory(t.Context(), order); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	for order, want := range map[uint64]int64{soft: n, order: 2 * n} {
		if c, ok := b.cache.PurgeCount(order); !ok || c.Memory != want || !c.MemoryCounted {
			t.Errorf("%+v, want %d in memory", c, want)
		}
	}
	if disk { // what is not in memory is taken to be as what is
		c, _ := b.cache.PurgeCount(order)
		if more := b.cache.onlyOnDisk(b.cache.store.Stats().Memory.Objects); c.Disk < 0 || c.Disk > more+2*n {
			t.Errorf("%+v, with %d on disk alone", c, more)
		}
	}
	// What is purged once is not purged again, and what came since is.
	again := b.purge(group...)
	if err := b.cache.CountMemory(t.Context(), again); err != nil {
		t.Fatal(err)
	}
	if c, _ := b.cache.PurgeCount(again); c.Memory != 30 {
		t.Errorf("again: %+v, want 30", c)
	}
	if err := b.sweep(); err != nil {
		t.Fatal(err)
	}
	for order, want := range map[uint64]int64{soft: n, order: 2 * n, again: 30} {
		if c, _ := b.cache.PurgeCount(order); c.Memory != want || !c.Counted {
			t.Errorf("swept: %+v, want %d in memory", c, want)
		}
	}
}

// Who counts leaves the processor to others, and gives up when asked to.
func TestCountsAreBounded(t *testing.T) {
	b, _ := purgeBed(t, 3) // which nobody sweeps
	b.cache.countNext = time.Now().Add(time.Hour)
	order, err := b.cache.Purge([]Purge{{Kind: PurgeHost, Host: "a.test"}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := b.cache.CountMemory(ctx, order); err == nil {
		t.Error("counted though it was not its turn")
	}
	if c, ok := b.cache.PurgeCount(order); !ok || c.MemoryCounted {
		t.Errorf("%+v", c)
	}
	if err := b.cache.CountMemory(t.Context(), order+1); err != nil {
		t.Errorf("an order that there is not: %v", err)
	}
	b.cache.countNext = time.Time{}
	if err := b.cache.CountMemory(t.Context(), order); err != nil {
		t.Error(err)
	}
	if c, _ := b.cache.PurgeCount(order); c != (PurgeCount{Memory: 3, MemoryCounted: true}) {
		t.Errorf("%+v", c)
	}
}
