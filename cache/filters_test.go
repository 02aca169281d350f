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
		names := recentNames[run%2]
		r.init(names)
		type shown struct {
			print uint32
			order uint64
		}
		var all []shown
		order := uint64(0)
		for len(all) < 100_000 {
			purged := 1
			switch rng.IntN(200) {
			case 0:
				purged = 5 * names
			case 1, 2, 3:
				purged = names / 2
			}
			for range purged {
				s := shown{printOf(rng.Uint64()), order + 1}
				r.show(s.print)
				all = append(all, s)
			}
			r.turn(order + 1)
			order++
			f := r.read.Load()
			if f.order > order || f.names > names*3/2 || r.next.names > names/2 {
				t.Fatalf("run %d, order %d: a filter for %d of what came after %d has %d names, the next %d", run, order, names, f.order, f.names, r.next.names)
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

// Where purges come one by one half of what they are made for is in the filters of the last purges. A
// full one keeps five of six records from a second look, and that all but a few from a
// look at their groups.
func TestFiltersTellMuch(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	var recent [len(recentNames)]recentFilter
	for i, names := range recentNames {
		recent[i].init(names)
	}
	const purges = 100_000
	table := newGenerationTable(purges)
	for order := range uint64(purges) {
		hash := rng.Uint64()
		for i, names := range recentNames {
			r, behind := &recent[i], uint64(names/2)-1
			r.show(printOf(hash))
			r.turn(order + 1)
			if order > behind && r.read.Load().order > order-behind {
				t.Fatalf("order %d: no filter for who is %d behind", order, behind)
			}
		}
		table.place(hash, 0).key.Store(hash)
	}
	for name, f := range map[string]*filter{"last": &recent[0].read.Load().filter, "recent": &recent[1].read.Load().filter, "table": &table.filter} {
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
