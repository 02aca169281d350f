package cache

import (
	"math/rand/v2"
	"testing"
)

// The filter of what was purged since an order knows all that was, for every order and
// however many names a purge has; and it is small for who is not far behind.
func TestRecentFilters(t *testing.T) {
	seed := testSeed(t)
	for run := range uint64(8) {
		rng := rand.New(rand.NewPCG(seed, run))
		var r recentFilters
		r.init()
		type shown struct {
			print uint32
			order uint64
		}
		var all []shown
		order := uint64(0)
		for len(all) < 100_000 {
			names := 1
			switch rng.IntN(200) {
			case 0:
				names = 20_000
			case 1, 2, 3:
				names = 2_000
			}
			for range names {
				s := shown{printOf(rng.Uint64()), order + 1}
				r.show(s.print, 0)
				all = append(all, s)
			}
			r.turn(order + 1)
			order++
			if f := r.since(order); f == nil || len(f.words) != recentNames[0]/2 {
				t.Fatalf("run %d, order %d: the first filter does not have what came since the last purge: nothing", run, order)
			}
			if rng.IntN(100) != 0 {
				continue
			}
			above := order - min(order, rng.Uint64N(1<<rng.IntN(16)))
			f := r.since(above)
			for _, s := range all {
				if f != nil && s.order > above && !f.mayHaveAny(&[printsMax]uint32{9: s.print}) {
					t.Fatalf("run %d: a filter of what came after %d does not have a purge of order %d", run, above, s.order)
				}
			}
		}
		for i, names := range recentNames {
			if r[i].read.Load().names > 2*names+names/2 || r[i].next.names > names {
				t.Errorf("run %d: filters for %d have %d and %d names", run, names, r[i].read.Load().names, r[i].next.names)
			}
		}
	}
}

// A full filter keeps nineteen of twenty records from a look at the table, and where
// purges come one by one the last five hundred are in the first.
func TestRecentFiltersTellMuch(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	var r recentFilters
	r.init()
	for order := range uint64(50_000) {
		r.show(printOf(rng.Uint64()))
		r.turn(order + 1)
		for i, back := range []uint64{400, 6_000} {
			if order > back && len(r.since(order-back).words) > recentNames[i]/2 {
				t.Fatalf("order %d: filter of %d words for who is %d behind", order, len(r.since(order-back).words), back)
			}
		}
	}
	for i := range r {
		found := 0
		for range 10_000 {
			var prints [printsMax]uint32
			for k := range prints {
				prints[k] = printOf(rng.Uint64())
			}
			if r[i].read.Load().mayHaveAny(&prints) {
				found++
			}
		}
		if found > 1000 {
			t.Errorf("filter %d says of %d of 10000 records that something may be purged", i, found)
		}
	}
}
