package cache

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"

	"edgecdn/cache/store"
	"edgecdn/route"
)

func newGenerations() *generations {
	g := &generations{}
	g.init(&Stats{})
	return g
}

// The table says what a map would, whatever is purged, and forgets what is swept and
// no more.
func TestGenerationsAsAMap(t *testing.T) {
	seed := testSeed(t)
	rng := rand.New(rand.NewPCG(seed, 0))
	g := newGenerations()
	type orders struct{ hard, soft uint64 }
	want := map[uint64]*orders{}
	hashes := make([]uint64, 3000)
	for i := range hashes {
		hashes[i] = rng.Uint64()>>1 | uint64(i%2)<<63
		if i%5 == 0 { // of one place in slots and filter
			hashes[i] = uint64(i)<<40 | 77
		}
	}
	for range 20_000 {
		hash := hashes[rng.IntN(len(hashes))]
		m := mark{hash: hash, shows: hash, kind: []PurgeKind{PurgeURL, PurgePrefix, PurgeHost, PurgeGroup}[hash%4], soft: rng.IntN(2) == 0, since: 1}
		order, err := g.apply([]mark{m})
		if err != nil {
			t.Fatal(err)
		}
		if want[hash] == nil {
			want[hash] = &orders{}
		}
		if m.soft {
			want[hash].soft = order
		} else {
			want[hash].hard = order
		}
		if rng.IntN(1000) == 0 {
			swept := order - rng.Uint64N(2000)%order
			g.forget(swept)
		}
		hash = hashes[rng.IntN(len(hashes))]
		above := max(g.swept.Load(), order-rng.Uint64N(3000)%order)
		var expected orders
		if w := want[hash]; w != nil {
			expected = *w
		}
		got := g.match(&store.Meta{Groups: []uint64{hash}}, above)
		got.since = 0
		for _, n := range []*uint64{&expected.hard, &expected.soft} {
			if *n <= above {
				*n = 0
			}
		}
		if hash%4 == 0 || hash%4 == 2 { // not among labels that are looked up by URL and host
			got = g.match(&store.Meta{URL: hash, Host: hash}, above)
			got.since = 0
		}
		if got != (match{hard: expected.hard, soft: expected.soft}) {
			t.Fatalf("seed %d: %x above %d: %+v, want %+v", seed, hash, above, got, expected)
		}
		meta := store.Meta{Groups: []uint64{0, hash}}
		g.setPrints(&meta)
		if expected != (orders{}) && g.untouched(&meta, above) {
			t.Fatalf("seed %d: the filters do not have %x above %d: %+v", seed, hash, above, expected)
		}
	}
	if n := g.table.Load().used; n > len(want) {
		t.Errorf("%d entries for %d hashes", n, len(want))
	}
}

// Two invalidations in one place hit too much rather than too little, and a place
// that is swept is free.
func TestInvalidationsShareAPlace(t *testing.T) {
	g := newGenerations()
	a, b, other := uint64(5)<<50, uint64(5)<<50|1, uint64(5)<<50|2
	hit := func(hash, above uint64) bool { return g.match(&store.Meta{URL: hash}, above).hard != 0 }
	first, _ := g.invalidate([]uint64{a}, nil, 0)
	if !hit(a, first-1) || hit(a, first) || hit(b, first-1) {
		t.Error("one alone")
	}
	second, _ := g.invalidate([]uint64{b}, nil, 0)
	if !hit(a, first-1) || !hit(b, first) || !hit(other, first) || g.stats.InvalidShared.Load() != 1 {
		t.Error("two in a place")
	}
	g.forget(second)
	third, _ := g.invalidate([]uint64{other}, nil, 0)
	if !hit(other, second) || hit(a, second) || g.stats.InvalidShared.Load() != 1 {
		t.Error("after the sweep")
	}
	const elsewhere = uint64(9) << 50
	if _, ok := g.invalidate([]uint64{elsewhere}, &store.Meta{URL: other}, third-1); ok {
		t.Error("a response that was invalidated while it was fetched may stay")
	}
	if _, ok := g.invalidate([]uint64{elsewhere}, &store.Meta{URL: other}, third); !ok {
		t.Error("one that was not may not")
	}
}

// Over the bound a purge waits for the sweep, and fails when that does not come. No
// invalidation takes its room.
func TestPurgesFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGenerations()
		marks := make([]mark, generationsMax)
		for i := range marks {
			marks[i] = mark{hash: rand.Uint64(), kind: PurgeGroup}
		}
		order, err := g.apply(marks)
		if err != nil {
			t.Fatal(err)
		}
		for range 100 {
			g.invalidate([]uint64{rand.Uint64()}, nil, 0)
		}
		one := []mark{{hash: 3, kind: PurgeURL}}
		start := time.Now()
		if _, err := g.apply(one); !errors.Is(err, ErrPurgesFull) || time.Since(start) != roomWait {
			t.Error(err, "after", time.Since(start))
		}
		if g.match(&store.Meta{URL: 3}, 0).hard != 0 {
			t.Error("applied though refused")
		}
		go func() {
			time.Sleep(time.Second)
			g.forget(order)
		}()
		if _, err := g.apply(one); err != nil || time.Since(start) != roomWait+time.Second {
			t.Error(err, "after", time.Since(start))
		}
		if g.match(&store.Meta{URL: 3}, 0).hard == 0 {
			t.Error("not applied")
		}
		if g.stats.PurgesFull.Load() == 0 || g.stats.PurgeEntries.Load() != 1 {
			t.Error(g.stats.PurgesFull.Load(), g.stats.PurgeEntries.Load())
		}
	})
}

// Walks over memory may come one after the other, those over a disk leave it alone most of
// the time.
func TestPauseAfterSweep(t *testing.T) {
	for _, tt := range []struct{ memory, disk, pause time.Duration }{
		{0, 0, time.Second}, {10 * time.Second, 0, 10 * time.Second}, {0, 10 * time.Second, 40 * time.Second},
		{10 * time.Second, 20 * time.Second, 90 * time.Second}, {0, time.Hour, 10 * time.Minute},
	} {
		if pause := pauseAfter(tt.memory, tt.disk); pause != tt.pause {
			t.Errorf("memory %v, disk %v: %v", tt.memory, tt.disk, pause)
		}
	}
	synctest.Test(t, func(t *testing.T) {
		b, _ := purgeBed(t, 1)
		if pause, err := b.cache.pass(t.Context(), func() bool { return false }); pause != sweepPause || err != nil {
			t.Error(pause, err)
		}
	})
}

// No Lookup that begins after a purge has returned finds what it named, while others
// purge, sweep and store.
func TestLookupAgainstPurge(t *testing.T) {
	b, requests := purgeBed(t, 64)
	ctx, cancel := context.WithCancel(context.Background())
	var group sync.WaitGroup
	group.Go(func() {
		for ctx.Err() == nil {
			if _, err := b.cache.pass(ctx, b.cache.purges.crowded); err != nil && ctx.Err() == nil {
				t.Error(err)
			}
		}
	})
	group.Go(func() {
		for i := 0; ctx.Err() == nil && i < generationsMax/4; i++ {
			if _, err := b.cache.Purge([]Purge{otherPurge(i)}); err != nil {
				t.Error(err)
				return
			}
		}
	})
	var gone atomic.Int64 // those before it are purged
	for range 2 {
		group.Go(func() {
			for ctx.Err() == nil {
				n := int(gone.Load())
				for i := range requests {
					r := *requests[i]
					r.scratch, r.values = nil, nil
					hit, ok := b.cache.Lookup(&r)
					if ok {
						hit.Release()
					}
					if ok && i < n {
						t.Errorf("%s is served after its purge", r.Target)
						return
					}
				}
			}
		})
	}
	for i, r := range requests {
		p := Purge{Kind: PurgeURL, Host: r.Host, Name: r.Target}
		if i%2 == 0 {
			p = Purge{Kind: PurgeGroup, Host: r.Host, Name: fmt.Sprint("item-", i)}
		}
		if _, err := b.cache.Purge([]Purge{p}); err != nil {
			t.Fatal(err)
		}
		gone.Store(int64(i + 1))
	}
	cancel()
	group.Wait()
}

// A lookup finds out itself what a purge has made stale: no sweep has come before it.
func TestLookupOfWhatGoesStale(t *testing.T) {
	b, requests := purgeBed(t, 2)
	for _, p := range []Purge{{Kind: PurgeURL, Soft: true, Host: "a.test", Name: requests[0].Target}, {Kind: PurgeGroup, Soft: true, Host: "a.test", Name: "a1"}} {
		if _, err := b.cache.Purge([]Purge{p}); err != nil {
			t.Fatal(err)
		}
	}
	for _, r := range requests {
		if _, ok := b.cache.Lookup(r); ok {
			t.Errorf("%s is served as fresh after its soft purge", r.Target)
		}
	}
}

func TestPurgeAllocatesNothingInLookup(t *testing.T) {
	b, requests := purgeBed(t, 4)
	r := requests[0]
	if n := testing.AllocsPerRun(200, func() {
		b.cache.purges.order.Add(1)
		b.cache.purges.newestLabel.Store(b.cache.purges.order.Load())
		hit, ok := b.cache.Lookup(r)
		if !ok {
			t.Fatal("no hit")
		}
		hit.Release()
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestPurgeCheck(t *testing.T) {
	deep := strings.Repeat("/a", PrefixDepthMax)
	for _, tt := range []struct {
		p    Purge
		good bool
	}{
		{Purge{Kind: PurgeURL, Host: "a.test", Name: "/"}, true},
		{Purge{Kind: PurgeURL, Host: "a.test:8443", Scheme: "https", Name: "/a?b"}, true},
		{Purge{Kind: PurgeURL, Host: "a.test", Name: "a"}, false},
		{Purge{Kind: PurgeURL, Host: "a.test", Name: "/a b"}, false},
		{Purge{Kind: PurgeURL, Host: "A.test", Name: "/"}, false},
		{Purge{Kind: PurgeURL, Name: "/"}, false},
		{Purge{Kind: PurgeURL, Host: "a.test", Scheme: "ftp", Name: "/"}, false},
		{Purge{Kind: PurgePrefix, Host: "a.test", Name: deep}, true},
		{Purge{Kind: PurgePrefix, Host: "a.test", Name: deep + "/"}, true},
		{Purge{Kind: PurgePrefix, Host: "a.test", Name: deep + "/a"}, false},
		{Purge{Kind: PurgePrefix, Host: "a.test", Name: "/a?b"}, false},
		{Purge{Kind: PurgeGroup, Host: "a.test"}, false},
		{Purge{Kind: PurgeHost, Host: "a.test/x"}, false},
		{Purge{Kind: PurgeEverything}, true},
		{Purge{}, false},
		{Purge{Kind: 6}, false},
	} {
		if err := tt.p.Check(); (err == nil) != tt.good || err != nil && !errors.Is(err, ErrPurge) {
			t.Errorf("%+v: %v", tt.p, err)
		}
	}
}

// A path is under its prefixes of up to 32 segments, however deep it is, and a prefix
// names what is under it.
func TestPrefixes(t *testing.T) {
	n := newNames(store.NewHasher(1))
	under := func(path, prefix string) bool {
		return slices.Contains(n.appendPrefixes(nil, "https://a", path), n.prefix.Sum("https://a"+prefixOf(prefix)))
	}
	deep := strings.Repeat("/a", PrefixDepthMax)
	for _, tt := range []struct {
		path, prefix string
		want         bool
	}{
		{"/", "/", true}, {"/a", "/", true}, {"/a/b", "/a", true}, {"/a/b", "/a/", true}, {"/a/b", "/a/b", true},
		{"/a/b", "/a/b/", true}, {"/a/", "/a", true}, {"/a/", "/a/", true}, {"/ab", "/a", false}, {"/a", "/a/b", false},
		{"/a//b", "/a/", true}, {"/a//b", "/a//", true}, {"/a/b", "/a//", false}, {"/A", "/a", false}, {"/a/", "/a//", false},
		{deep, deep, true}, {deep + "/a", deep, true}, {deep + "/a/a", deep, true}, {deep + "/", deep, true}, {deep + "b", deep, false},
	} {
		if got := under(tt.path, tt.prefix); got != tt.want {
			t.Errorf("%s under %s: %v", tt.path, tt.prefix, got)
		}
	}
	if got := len(n.appendPrefixes(nil, "https://a", strings.Repeat("/", keyMax))); got > PrefixDepthMax+1 {
		t.Errorf("%d hashes", got)
	}
}

// Counts are those of stored responses: each variant, no marker, slice or coded body.
func TestPurgeCounts(t *testing.T) {
	bothTiers(t, func(t *testing.T, disk bool) {
		b := newBed(t, route.Host{}, disk)
		b.origin.answers["/text"] = textOrigin(prose(2000, "x"), "Cache-Tag", "g")
		b.origin.answers["/v"] = textOrigin(prose(2000, "y"), "Cache-Tag", "g", "Vary", "Accept-Language")
		b.origin.answers["/other"] = textOrigin(prose(2000, "z"))
		for range 3 {
			b.get("/text", "br")
			b.get("/other", "br")
			for _, lang := range []string{"de", "en"} {
				b.do(context.Background(), b.request("GET", "/v", Field{"accept-language", lang}))
			}
			synctest.Wait()
		}
		group := []Purge{{Kind: PurgeGroup, Host: "a.test", Name: "g"}}
		if n, err := b.cache.CountPurge(context.Background(), group); err != nil || n.Memory != 3 {
			t.Errorf("%+v, %v", n, err)
		}
		order := b.purge(group...)
		if _, ok := b.cache.PurgeCount(order); !ok {
			t.Error("no count yet")
		}
		soft := b.purge(Purge{Kind: PurgePrefix, Host: "a.test", Name: "/other", Soft: true})
		if err := b.sweep(); err != nil {
			t.Fatal(err)
		}
		for order, want := range map[uint64]PurgeCount{order: {Memory: 3, MemoryCounted: true, Counted: true}, soft: {Memory: 1, MemoryCounted: true, Counted: true}} {
			if n, ok := b.cache.PurgeCount(order); !ok || n != want {
				t.Errorf("%d: %+v, want %+v", order, n, want)
			}
		}
		if _, ok := b.cache.PurgeCount(order + 100); ok {
			t.Error("a count of an order that was never made")
		}
	})
}

// A fetch keeps the purges that came meanwhile from being forgotten, but not for
// ever: what takes too long is not stored.
func TestSlowFetchAndSweep(t *testing.T) {
	for _, tt := range []struct {
		took  time.Duration
		named bool
		kept  bool
	}{{time.Minute, true, false}, {time.Minute, false, true}, {flightMax + time.Minute, true, false}, {flightMax + time.Minute, false, false}} {
		synctest.Test(t, func(t *testing.T) {
			b := newBed(t, route.Host{}, false)
			quick := textOrigin(prose(2000, "x"), "Cache-Tag", "g")
			b.origin.answers[""] = scripted([]byte("200\nCache-Control: max-age=9000\nCache-Tag: g\nX-Delay: " + tt.took.String() + "\n\na"))
			var done sync.WaitGroup
			done.Go(func() { b.do(context.Background(), b.request("GET", "/a")) })
			synctest.Wait()
			group := "g"
			if !tt.named {
				group = "other"
			}
			order := b.purge(Purge{Kind: PurgeGroup, Host: "a.test", Name: group})
			time.Sleep(30 * time.Second)
			if b.cache.SweptOrder() >= order {
				t.Error("swept while a fetch is under way that began before")
			}
			done.Wait()
			if err := b.sweep(); err != nil {
				t.Error(err)
			}
			b.origin.answers[""] = quick
			w := b.do(context.Background(), b.request("GET", "/a"))
			if kept := strings.Contains(w.sent.Get("Cache-Status"), "; hit;"); kept != tt.kept {
				t.Errorf("%+v: %s", tt, w.sent.Get("Cache-Status"))
			}
		})
	}
}

// TestDecodedHeaderFillsItsClass: prepare charges what the allocator gives for a decoded
// header, and that begins with a line of the processor's cache.
func TestDecodedHeaderFillsItsClass(t *testing.T) {
	var p response
	if size := unsafe.Sizeof(p); size <= 288 || size > 320 {
		t.Errorf("a decoded header takes %d bytes: adapt what prepare charges", size)
	}
}
