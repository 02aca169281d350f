package pool

// maglev.go sends a hash to the same endpoint on every node, evenly, and moves
// little when endpoints come and go (Eisenbud et al., "Maglev", NSDI 2016, 3.4).
// The table is made of all endpoints of a tier. One that is not usable now keeps its
// place: its hashes alone go elsewhere, each to another, and come back to it.

import (
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/zeebo/xxh3"
)

// maglevSize is prime, and some 64 times as much as there may be endpoints.
const maglevSize = 16381

type maglev struct {
	entries [maglevSize]uint16 // indexes of endpoints
	members []*endpoint
}

// newMaglev fills a table: in turns, each endpoint takes the next free place of its
// own permutation, and one of half the weight every second turn.
func newMaglev(members []*endpoint) *maglev {
	m := &maglev{members: members}
	heaviest := 1
	for _, e := range members {
		heaviest = max(heaviest, e.spec.Weight)
	}
	type walk struct{ next, skip, credit int }
	walks := make([]walk, len(members))
	for i, e := range members {
		walks[i].next = int(xxh3.HashStringSeed(e.address, 1) % maglevSize)
		walks[i].skip = int(xxh3.HashStringSeed(e.address, 2)%(maglevSize-1)) + 1
	}
	var taken [maglevSize]bool
	for filled := 0; ; {
		for i, e := range members {
			w := &walks[i]
			if w.credit += e.spec.Weight; w.credit < heaviest {
				continue
			}
			w.credit -= heaviest
			for taken[w.next] {
				w.next = (w.next + w.skip) % maglevSize
			}
			taken[w.next] = true
			m.entries[w.next] = uint16(i)
			if filled++; filled == maglevSize {
				return m
			}
		}
	}
}

// at returns the n-th choice for a hash.
func (m *maglev) at(hash uint64, n int) *endpoint {
	step := hash>>32%(maglevSize-1) + 1
	return m.members[m.entries[(hash+uint64(n)*step)%maglevSize]]
}

// byHash returns the first choice for a hash that is in the list. One that starts
// slowly leaves some to the next. Called with mu held.
func (p *Pool) byHash(now time.Time, hash uint64, list []*endpoint) *endpoint {
	tier := list[0].spec.Priority
	if p.tables == nil {
		p.tables = make(map[int]*maglev)
	}
	table := p.tables[tier]
	if table == nil {
		var members []*endpoint
		for _, e := range p.endpoints {
			if e.spec.Priority == tier {
				members = append(members, e)
			}
		}
		// The order of DNS answers must not matter.
		slices.SortFunc(members, func(a, b *endpoint) int { return strings.Compare(a.address, b.address) })
		table = newMaglev(members)
		p.tables[tier] = table
	}
	var slow *endpoint
	for n := range 8 * len(table.members) {
		e := table.at(hash, n)
		if e == slow || !slices.Contains(list, e) {
			continue
		}
		if share := p.share(now, e) / float64(e.spec.Weight); slow == nil && share < 1 && rand.Float64() >= share {
			slow = e
			continue
		}
		return e
	}
	return list[hash%uint64(len(list))]
}
