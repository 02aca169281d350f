package cache

// filters.go tells those who hit at the least cost that nothing was purged of what a
// stored response belongs to: most have only a few purges to make up for, and the
// names of those few are in a filter that stays in the processor's near caches.

import "math/bits"

// A print is the part of a hash that filters need: which word, in the upper 17 bits, and
// three or four bits of that in the lower 15. Never 0, which is no print.
const (
	printBits  = 15
	wordsMax   = 1 << (32 - printBits)
	printOfAll = 1<<printBits - 1
)

// printMasks are what the lower bits of a print can be.
var printMasks = func() (masks []uint32) {
	for m := range uint32(1 << printBits) {
		if n := bits.OnesCount32(m); n == 3 || n == 4 {
			masks = append(masks, m)
		}
	}
	return masks
}()

func printOf(hash uint64) uint32 {
	return uint32(hash>>32)<<printBits | printMasks[hash>>49*uint64(len(printMasks))>>15]
}

// other is another print of what has a print: a second filter, of those, is wrong about
// others than the first.
func other(print uint32) uint32 { return printOf(uint64(print) * 0x9E3779B97F4A7C15) }

// A filter is a Bloom filter of prints, all bits of one in one word (Putze, Sanders,
// Singler, "Cache-, Hash- and Space-Efficient Bloom Filters", 2007). It tells that a name
// is not there: four of five records learn so of all that they are looked up by, where a
// filter has as many names as words. Bits of names that were shown are 0, those of a print
// 1, so that a look is a test of one by the other: there are fourteen for a hit.
//
// One at a time shows, while others look. They do so out of the race detector's sight,
// for there is nothing atomic of 16 bits; the memory model promises that a read of a word
// or less finds what was written before or meanwhile, and what a purge has to show it has
// shown when the counter moves, which all read first.
type filter struct{ words []uint16 }

// newFilter returns a filter of two bytes for each name, up to 256 kB.
func newFilter(names int) filter {
	words := make([]uint16, min(max(1, 1<<bits.Len(uint(names-1))), wordsMax))
	for i := range words {
		words[i] = printOfAll
	}
	return filter{words}
}

// mayHave says whether a print may have been shown.
//
//go:norace
func (f filter) mayHave(print uint32) bool {
	return f.words[int(print>>printBits)&(len(f.words)-1)]&uint16(print) == 0
}

// mayHaveAny says whether one of some prints may have been shown: to this filter, and to a
// second one that has others of the same names.
func (f filter) mayHaveAny(second filter, prints []uint32) bool {
	for _, print := range prints {
		if f.mayHave(print) && second.mayHaveOther(print) {
			return true
		}
	}
	return false
}

// mayHaveOther is apart from what is asked often.
//
//go:noinline
func (f filter) mayHaveOther(print uint32) bool { return f.mayHave(other(print)) }

// show has the filter say yes to a print.
func (f filter) show(print uint32) {
	f.words[print>>printBits&uint32(len(f.words)-1)] &^= uint16(print)
}

// recentNames is how many prints the filters of the last purges are made for: 2, 16 and
// 64 kB, the smaller of which the processor keeps near.
var recentNames = [...]int{1 << 10, 1 << 13, 1 << 15}

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
