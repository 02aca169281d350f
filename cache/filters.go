package cache

// filters.go tells those who hit at the least cost that nothing was purged of what a
// stored response belongs to: most have only a few purges to make up for, and the
// names of those few are in a filter that stays in the processor's first cache.

import (
	"math/bits"
	"sync/atomic"
)

// A filter is a Bloom filter of prints with at least 16 bits for each of the names that
// it is made for, two of which are set, in one word. It tells that a name is not there:
// five of six records learn so, where it is full, of all that they are looked up by.
// Bits are set by one at a time and never cleared.
type filter struct{ words []atomic.Uint64 }

func newFilter(names int) filter {
	return filter{make([]atomic.Uint64, max(1, 1<<bits.Len(uint(names-1))/4))}
}

// printOf is the part of a hash that a filter needs; never 0, which is no print.
func printOf(hash uint64) uint32 { return max(uint32(hash>>32), 1) }

// other is another print of what has a print: a second filter, of those, is wrong about
// others than the first.
func other(print uint32) uint32 { return max(bits.ReverseBytes32(print*0x9E3779B1), 1) }

// shown is the print that records have of what has a hash: near, or where that is 0 the
// hash's own.
func shown(hash uint64, near uint32) uint32 {
	if near != 0 {
		return near
	}
	return printOf(hash)
}

// wordOf is where the bits of a print are.
func (f filter) wordOf(print uint32) *atomic.Uint64 {
	return &f.words[int(print>>12)&(len(f.words)-1)]
}

// with is a word with the bits of a print.
func with(word uint64, print uint32) uint64 {
	return word | 1<<(print&63) | 1<<(print>>6&63)
}

// mayHave says whether a print may have been shown.
func (f filter) mayHave(print uint32) bool {
	word := f.wordOf(print).Load()
	return with(word, print) == word
}

// mayHaveAny says whether one of some prints may have been shown: to this filter, and to a
// second one that has others of the same names.
func (f filter) mayHaveAny(second filter, prints *[printsMax]uint32) bool {
	for _, print := range prints {
		if f.mayHave(print) && second.mayHave(other(print)) {
			return true
		}
	}
	return false
}

// show has the filter say yes to a print.
func (f filter) show(print uint32) {
	word := f.wordOf(print)
	word.Store(with(word.Load(), print))
}

// recentNames is how many prints the filters of the last purges are made for: 8 and 64 kB,
// which the processor keeps near. The table's own has some hundred when many purges wait
// for the sweep.
var recentNames = [...]int{1 << 12, 1 << 15}

// A recentFilter has the names of all purges since some order. Two are written; the
// second begins when the first is half full, and takes its place when that is full.
// What readers may hold is never cleared.
type recentFilter struct {
	read, next *sinceFilter
	names      int // that each is made for
}

// sinceFilter has what was purged after an order.
type sinceFilter struct {
	filter
	order uint64
	names int
}

func (r *recentFilter) init(names int) {
	r.names = names
	r.read = r.since(0)
	r.next = r.since(0)
}

func (r *recentFilter) since(order uint64) *sinceFilter {
	return &sinceFilter{filter: newFilter(r.names), order: order}
}

// show notes a name by its print; called by writers, which exclude each other, before
// the counter moves.
func (r *recentFilter) show(print uint32) {
	for _, f := range []*sinceFilter{r.read, r.next} {
		f.filter.show(print)
		f.names++
	}
}

// turn makes room, once all up to an order is shown. A filter that one purge overfills
// is not read: who was last looked at before asks the table's.
func (r *recentFilter) turn(order uint64) {
	if r.next.names < r.names/2 {
		return
	}
	if r.next.names > r.names {
		r.next = r.since(order)
	}
	r.read = r.next
	r.next = r.since(order)
}
