package cache

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"edgecdn/cache/store"
)

// The filter of what was purged since an order knows all that was, however many names a
// purge has, and is never overfilled.
func TestRecentFilters(t *testing.T) {
	seed := testSeed(t)
	for run := range uint64(8) {
		rng := rand.New(rand.NewPCG(seed, run))
		var r recentFilter
		names := recentNames[run%uint64(len(recentNames))]
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
			f := r.read
			if f.order > order || f.names > names*3/2 || r.next.names > names/2 {
				t.Fatalf("run %d, order %d: a filter for %d of what came after %d has %d names, the next %d", run, order, names, f.order, f.names, r.next.names)
			}
			if rng.IntN(100) != 0 {
				continue
			}
			for _, s := range all {
				if s.order > f.order && !f.mayHave(s.print) {
					t.Fatalf("run %d: a filter of what came after %d does not have a purge of order %d", run, f.order, s.order)
				}
			}
		}
	}
}

// Where purges come one by one half of what they are made for is in the filters of the last
// purges. All filters keep four of five records from a second look, and that all but a few
// from a look at their groups; where more names wait for the sweep than there are words, it
// keeps many.
func TestFiltersTellMuch(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	var recent [len(recentNames)]recentFilter
	for i, names := range recentNames {
		recent[i].init(names)
	}
	order := uint64(0)
	for _, tt := range []struct{ purges, first, both int }{{25_000, 5, 200}, {50_000, 5, 200}, {100_000, 5, 100}, {200_000, 2, 4}} {
		table := newGenerationTable(tt.purges)
		for range tt.purges {
			hash := rng.Uint64()
			for i, names := range recentNames {
				r, behind := &recent[i], uint64(names/2)-1
				r.show(printOf(hash))
				r.turn(order + 1)
				if order > behind && r.read.order > order-behind {
					t.Fatalf("order %d: no filter for who is %d behind", order, behind)
				}
			}
			table.place(hash, printOf(hash)).key.Store(hash)
			order++
		}
		filters := map[string]filter{"table": table.filter}
		for i, names := range recentNames {
			filters[fmt.Sprintf("last %d", names)] = recent[i].read.filter
		}
		for name, f := range filters {
			const records = 20_000
			first, both := 0, 0
			for range records {
				var prints [printsMax]uint32
				for k := range prints {
					prints[k] = printOf(rng.Uint64())
				}
				if slices.ContainsFunc(prints[:], f.mayHave) {
					first++
				}
				if f.mayHaveAny(table.second, prints[:]) {
					both++
				}
			}
			if first > records/tt.first || both > records/tt.both {
				t.Errorf("%d purges, %s: of %d records %d need a second look, and %d one at their groups", tt.purges, name, records, first, both)
			}
		}
	}
}

// Who has the last purge before a filter to make up for is told by one that has it, and a
// larger one has no fewer, however many names a purge has.
func TestViewHasAllSince(t *testing.T) {
	g := newGenerations()
	hashOf := func(order uint64) uint64 { return order * 0x9E3779B97F4A7C15 }
	var turns [len(recentNames)]int
	for range 3 * recentNames[len(recentNames)-1] {
		before := *g.view.Load()
		hash := hashOf(g.order.Load() + 1)
		order, err := g.apply([]mark{{hash: hash, shows: hash, kind: PurgeGroup}})
		if err != nil {
			t.Fatal(err)
		}
		for i, since := range g.view.Load().orders {
			if since == before.orders[i] {
				continue
			}
			turns[i]++
			var meta store.Meta
			meta.Groups = []uint64{0, hashOf(since)}
			g.setPrints(&meta)
			if g.untouched(&meta, since-1) {
				t.Fatalf("order %d: nothing is known of the purge of order %d", order, since)
			}
		}
	}
	for range 200 {
		marks := make([]mark, []int{1, 600, 5000, 20_000}[rand.IntN(4)])
		for i := range marks {
			marks[i].hash = rand.Uint64()
			marks[i].shows, marks[i].kind = marks[i].hash, PurgeGroup
		}
		if !g.fits(len(marks)) {
			g.forget(g.order.Load())
		}
		if _, err := g.apply(marks); err != nil {
			t.Fatal(err)
		}
		if at := g.view.Load().orders; !slices.IsSortedFunc(at[:], func(a, b uint64) int { return cmp.Compare(b, a) }) {
			t.Fatalf("filters have what came after %d", at)
		}
	}
	if turns[0] < 10 || turns[len(turns)-1] < 2 {
		t.Errorf("the filters turned %v times", turns)
	}
}
