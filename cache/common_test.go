package cache

import (
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"edgecdn/cache/store"
)

// Whatever is stored, purged and becomes common in whatever order: who hits looks further
// whenever there is something to find.
func TestCommonNamesMissNothing(t *testing.T) {
	seed := testSeed(t)
	for run := range uint64(4) {
		rng := rand.New(rand.NewPCG(seed, run))
		g := newGenerations()
		names := make([]uint64, 300)
		for i := range names {
			names[i] = rng.Uint64()
		}
		some := func() uint64 { return names[int(rng.ExpFloat64()*30)%len(names)] } // a few of them often
		var metas []store.Meta
		spared := 0
		for range 20_000 {
			if rng.IntN(3) > 0 {
				meta := store.Meta{Order: g.order.Load(), Host: names[0], Groups: []uint64{names[0]}}
				for range rng.IntN(printsMax + 1) {
					meta.Groups = append(meta.Groups, some())
				}
				if meta.Order > 0 {
					meta.Order -= rng.Uint64N(min(meta.Order, 5)) // its fetch took a while
				}
				g.setPrints(&meta)
				metas = append(metas, meta)
				continue
			}
			name := rng.Uint64() // that nothing has
			if rng.IntN(20) == 0 {
				name = some()
			}
			if _, err := g.apply([]mark{{hash: name, shows: name, kind: PurgeGroup, soft: rng.IntN(2) == 0}}); err != nil {
				t.Fatal(err)
			}
			for i := range min(len(metas), 20) {
				meta := &metas[len(metas)-1-rng.IntN(min(len(metas), 20*(i+1)))]
				above := max(meta.Order, g.order.Load()-min(g.order.Load(), rng.Uint64N(200)))
				untouched, found := g.untouched(meta, above), g.match(meta, above)
				if untouched && (found.hard != 0 || found.soft != 0) {
					t.Fatalf("seed %d, run %d: of %x above %d nothing is known, but %+v", seed, run, meta.Groups, above, found)
				}
				if untouched && g.view.Load().floor <= above && hasFewOwn(&meta.Prints) {
					spared++
				}
			}
		}
		if n := g.stats.CommonNames.Load(); n < 10 || spared == 0 {
			t.Errorf("run %d: %d names are common, and spared %d looks", run, n, spared)
		}
	}
}

// Prints of names that are not common come first. Those alone are looked at where they are
// few, and always all that there are.
func TestPrintsOfCommonNamesAreLast(t *testing.T) {
	g := newGenerations()
	common, own := make([]uint64, printsMax), make([]uint64, printsMax)
	for i := range printsMax {
		common[i], own[i] = rand.Uint64(), rand.Uint64()
		g.makeCommon(common[i])
	}
	for owns := range printsMax + 1 {
		for commons := range printsMax + 1 - owns {
			all := append(slices.Clone(own[:owns]), common[:commons]...)
			rand.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
			var meta store.Meta
			if len(all) > 0 {
				meta.Host, meta.Groups = all[0], append([]uint64{rand.Uint64()}, all[1:]...)
			}
			g.setPrints(&meta)
			for _, name := range all {
				if !slices.Contains(meta.Prints[:], printOf(name)) {
					t.Errorf("%d own and %d common: one has no print", owns, commons)
				}
			}
			for _, name := range own[:min(owns, ownPrints)] {
				if hasFewOwn(&meta.Prints) && !slices.Contains(meta.Prints[:ownPrints], printOf(name)) {
					t.Errorf("%d own and %d common: an own print is not among the first", owns, commons)
				}
			}
			for _, print := range meta.Prints {
				if want := len(all) == 0; print == 0 != want {
					t.Errorf("%d own and %d common: %x", owns, commons, meta.Prints)
				}
			}
			if few := hasFewOwn(&meta.Prints); few && owns > ownPrints || !few && owns <= ownPrints && len(all) > 1 {
				t.Errorf("%d own and %d common: few is %v", owns, commons, few)
			}
		}
	}
}

// A name is common when many had it, since it was purged, and not a few of all that there
// are; counts that are old count half, and there is a bound.
func TestNamesBecomeCommon(t *testing.T) {
	g := newGenerations()
	host := rand.Uint64()
	show := func(names ...uint64) {
		g.setPrints(&store.Meta{Host: host, Groups: append([]uint64{0}, names...)})
	}
	for i := range commonLeast {
		if g.common.has(host) {
			t.Fatalf("after %d responses the host is common", i)
		}
		show(rand.Uint64())
	}
	if !g.common.has(host) || g.stats.CommonNames.Load() != 1 {
		t.Errorf("%d names are common, the host: %v", g.stats.CommonNames.Load(), g.common.has(host))
	}
	if show(host ^ 1); g.common.has(host ^ 1) { // it shared the count
		t.Error("a name that one response has is common")
	}
	purged := rand.Uint64()
	for range 2 * commonLeast {
		show(purged)
		if _, err := g.apply([]mark{{hash: purged, shows: purged, kind: PurgeGroup}}); err != nil {
			t.Fatal(err)
		}
	}
	if g.common.has(purged) {
		t.Error("a name that is purged again and again is common")
	}
	rare := rand.Uint64()
	g.common.total.Store(commonTotal / 2)
	for range 2 * commonLeast {
		show(rare)
	}
	if g.common.has(rare) {
		t.Error("a name of few among many is common")
	}
	count := &g.common.counts[rare>>32%commonCounts]
	before := count.Load()
	g.common.total.Store(commonTotal - 1)
	show(rand.Uint64())
	if g.common.total.Load() != commonTotal/2 || count.Load() != before/2 {
		t.Errorf("after many responses there are %d, and a name of %d has %d", g.common.total.Load(), before, count.Load())
	}
	for range commonMax + 10 {
		g.makeCommon(rand.Uint64())
	}
	if n := g.stats.CommonNames.Load(); n != commonMax {
		t.Errorf("%d names are common", n)
	}
}

// What is stored has prints, and counts.
func TestStoredResponsesHavePrints(t *testing.T) {
	bed, requests := purgeBed(t, commonLeast)
	for _, r := range requests {
		stored, ok := bed.cache.lookupMemory(r)
		if !ok || slices.Contains(stored.Meta().Prints[:], 0) {
			t.Fatalf("%s: %v, %x", r.Target, ok, stored.Meta().Prints)
		}
		stored.Close()
	}
	if n := bed.cache.Stats().CommonNames.Load(); n != 2 {
		t.Errorf("%d names are common: want the host's and that of /shop", n)
	}
}

// A response whose fetch began before a name was purged is stored when that is common.
func TestPurgedBeforeItWasCommon(t *testing.T) {
	g := newGenerations()
	const name = 1 << 60
	order, err := g.apply([]mark{{hash: name, shows: name, kind: PurgeGroup}})
	if err != nil {
		t.Fatal(err)
	}
	g.makeCommon(name)
	meta := store.Meta{Order: order - 1, Host: 2 << 60, Groups: []uint64{0, name, 3 << 60}}
	if g.setPrints(&meta); !hasFewOwn(&meta.Prints) || g.untouched(&meta, meta.Order) {
		t.Error("nothing is known of the purge")
	}
	if !g.untouched(&meta, order) {
		t.Error("who has looked once looks again")
	}
}

// A purge of a name holds for what was stored with it meanwhile, while it becomes common.
func TestNamesBecomeCommonWhilePurged(t *testing.T) {
	g := newGenerations()
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for range 300 {
				name := rand.Uint64()
				for range commonLeast + 2 {
					meta := store.Meta{Order: g.order.Load(), Host: name, Groups: []uint64{0, name, rand.Uint64()}}
					purged := make(chan uint64, 1)
					go func() {
						order, err := g.apply([]mark{{hash: name, shows: name, kind: PurgeGroup}})
						if err != nil {
							t.Error(err)
						}
						purged <- order
					}()
					g.setPrints(&meta)
					if order := <-purged; g.untouched(&meta, order-1) {
						t.Errorf("nothing is known of the purge of order %d", order)
						return
					}
				}
			}
		})
	}
	all.Wait()
}
