package cache

import (
	"math/rand/v2"
	"testing"
)

// The filter of what was purged since an order knows all that was, however many names a
// purge has, and is never overfilled.
func TestRecentFilters(t *testing.T) {
	seed := testSeed(t)
	for run := range uint64(8) {
		rng := rand.New(rand.NewPCG(seed, run))
		var r recentFilter
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
				r.show(s.print)
				all = append(all, s)
			}
			r.turn(order + 1)
			order++
			f := r.read.Load()
			if f.order > order || f.names > recentNames*3/2 || r.next.names > recentNames/2 {
				t.Fatalf("run %d, order %d: a filter for %d of what came after %d has %d names, the next %d", run, order, recentNames, f.order, f.names, r.next.names)
			}
			if rng.IntN(100) != 0 {
				continue
			}
			for _, s := range all {
				if s.order > f.order && !f.mayHaveAny(&[printsMax]uint32{9: s.print}) {
					t.Fatalf("run %d: a filter of what came after %d does not have a purge of order %d", run, f.order, s.order)
				}
			}
		}
	}
}

// Where purges come one by one the last two thousand are in the filter of the last purges. A
// full one keeps five of six records from a second look, and that all but a few from a
// look at their groups.
func TestFiltersTellMuch(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	var r recentFilter
	r.init()
	const purges = 100_000
	table := newGenerationTable(purges)
	for order := range uint64(purges) {
		hash := rng.Uint64()
		r.show(printOf(hash))
		r.turn(order + 1)
		table.place(hash, 0).key.Store(hash)
		if order > 2_000 && r.read.Load().order > order-2_000 {
			t.Fatalf("order %d: no filter for who is 2000 behind", order)
		}
	}
	for name, f := range map[string]*filter{"recent": &r.read.Load().filter, "table": &table.filter} {
		const records = 20_000
		first, both := 0, 0
		for range records {
			var prints [printsMax]uint32
			for k := range prints {
				prints[k] = printOf(rng.Uint64())
			}
			if f.mayHaveAny(&prints) {
				first++
				if table.mayHaveAny(f, &prints) {
					both++
				}
			}
		}
		if first > records/5 || both > records/100 {
			t.Errorf("%s: of %d records %d need a second look, and %d one at their groups", name, records, first, both)
		}
	}
}
