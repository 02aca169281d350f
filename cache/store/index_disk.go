package store

import (
	"math/bits"
	"sync"
)

// The index of one directory: which record holds which key. A slot is two
// words and there are no pointers, so that the collector never walks it:
//
//	word 0: 64 bits of the key's hash
//	word 1: 40 bits position of the record in units, 9 bits units of its head,
//	        2 bits hits, then one bit each: body verified since start, body in
//	        another record, slice of a large object
//
// A bucket is four slots, one cache line. A key may live in one of two buckets;
// an insert that finds both full moves others to their second bucket (cuckoo),
// so a lookup touches two lines at most and shards run at 75 to 95 % full.
//
// Two keys with equal hash bits share a slot: the later one wins, and the key
// text in the record keeps the other from ever being answered with it.
type diskIndex struct {
	shards []diskShard
	shift  uint // fingerprint >> shift is the shard
}

type diskShard struct {
	mu      sync.Mutex
	buckets [][bucketSlots]slot
	max     int // buckets it may grow to
	objects int
	slices  int
	_       [64]byte // shards are locked by different cores
}

type slot struct {
	print uint64
	word  slotWord
}

// slotWord is the second word of a slot; zero marks a free slot, which no
// record has because unit 0 of each segment is the segment's header.
type slotWord uint64

const (
	bucketSlots = 4
	positionMax = 1<<40 - 1

	headShift = 40
	headMask  = 1<<9 - 1
	hitShift  = 49
	hitMask   = 3

	slotVerified  slotWord = 1 << 51
	slotElsewhere slotWord = 1 << 52
	slotSlice     slotWord = 1 << 53
)

func makeSlot(pos uint64, headUnits int, flags slotWord) slotWord {
	return slotWord(pos&positionMax) | slotWord(headUnits&headMask)<<headShift | flags
}

func (w slotWord) pos() uint64    { return uint64(w) & positionMax }
func (w slotWord) headUnits() int { return int(w>>headShift) & headMask }
func (w slotWord) hits() int      { return int(w>>hitShift) & hitMask }

// newDiskIndex makes an index for at most entries entries.
func newDiskIndex(entries int64) *diskIndex {
	shardBits := 4
	for shardBits < 10 && entries>>shardBits > 4096 {
		shardBits++
	}
	x := &diskIndex{shards: make([]diskShard, 1<<shardBits), shift: uint(64 - shardBits)}
	x.limit(entries)
	return x
}

// limit sets how many entries there may be. What is there beyond stays.
func (x *diskIndex) limit(entries int64) {
	buckets := max(int(entries/int64(len(x.shards)))/bucketSlots, 2)
	for i := range x.shards {
		s := &x.shards[i]
		s.mu.Lock()
		s.max = buckets
		s.mu.Unlock()
	}
}

func (x *diskIndex) shard(print uint64) *diskShard { return &x.shards[print>>x.shift] }

// buckets returns the two places of a fingerprint among n buckets.
func bucketsOf(print uint64, n int) (int, int) {
	first, _ := bits.Mul64(print<<32, uint64(n))
	second, _ := bits.Mul64(print*0x9E3779B97F4A7C15, uint64(n))
	return int(first), int(second)
}

// find returns the slot of a fingerprint or nil; s.mu is held.
func (s *diskShard) find(print uint64) *slot {
	if len(s.buckets) == 0 {
		return nil
	}
	i, k := bucketsOf(print, len(s.buckets))
	first, second := &s.buckets[i], &s.buckets[k]
	// Both are asked of memory before either is looked into: the processor then
	// waits for them together.
	ahead := second[0].print == print
	for i := range first {
		if at := &first[i]; at.print == print && at.word != 0 {
			return at
		}
	}
	if ahead && second[0].word != 0 {
		return &second[0]
	}
	for i := 1; i < bucketSlots; i++ {
		if at := &second[i]; at.print == print && at.word != 0 {
			return at
		}
	}
	return nil
}

// get returns the slot's word, or 0.
func (x *diskIndex) get(print uint64) slotWord {
	s := x.shard(print)
	s.mu.Lock()
	defer s.mu.Unlock()
	if at := s.find(print); at != nil {
		return at.word
	}
	return 0
}

// touch is get that counts a hit.
func (x *diskIndex) touch(print uint64) slotWord {
	s := x.shard(print)
	s.mu.Lock()
	defer s.mu.Unlock()
	at := s.find(print)
	if at == nil {
		return 0
	}
	if at.word.hits() < hitMask {
		at.word += 1 << hitShift
	}
	return at.word
}

// mark sets flags of the slot if it still names the record at pos.
func (x *diskIndex) mark(print, pos uint64, flags slotWord) {
	s := x.shard(print)
	s.mu.Lock()
	defer s.mu.Unlock()
	if at := s.find(print); at != nil && at.word.pos() == pos {
		at.word |= flags
	}
}

// hasRoom reports whether put of the fingerprint would find a place.
func (x *diskIndex) hasRoom(print uint64) bool {
	s := x.shard(print)
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.hasRoom() || s.find(print) != nil
}

// hasRoom stays a little under what fits, so that the cuckoo walk succeeds.
func (s *diskShard) hasRoom() bool {
	return s.objects+s.slices < s.max*bucketSlots*15/16
}

// put points the fingerprint at a record, in place of what it pointed at, and
// reports whether there was room.
func (x *diskIndex) put(print uint64, word slotWord) bool {
	s := x.shard(print)
	s.mu.Lock()
	defer s.mu.Unlock()
	if at := s.find(print); at != nil {
		s.count(at.word, -1)
		at.word = word
		s.count(word, 1)
		return true
	}
	if !s.hasRoom() {
		return false
	}
	rest := slot{print, word}
	for !s.insert(&rest) {
		s.grow()
	}
	s.count(word, 1)
	return true
}

func (s *diskShard) count(word slotWord, by int) {
	if word&slotSlice != 0 {
		s.slices += by
	} else {
		s.objects += by
	}
}

// insert places a slot, moving others when both its buckets are full. When it
// gives up, rest holds whichever slot was left without a place.
func (s *diskShard) insert(rest *slot) bool {
	if len(s.buckets) == 0 {
		return false
	}
	const movesMax = 128
	from, random := -1, rest.print
	for range movesMax {
		first, second := bucketsOf(rest.print, len(s.buckets))
		for _, b := range [2]int{first, second} {
			for i := range bucketSlots {
				if s.buckets[b][i].word == 0 {
					s.buckets[b][i] = *rest
					return true
				}
			}
		}
		b := first
		if b == from { // it has just been moved from there
			b = second
		}
		random = random*6364136223846793005 + 1442695040888963407
		victim := &s.buckets[b][random>>62]
		*rest, *victim = *victim, *rest
		from = b
	}
	return false
}

// grow makes the shard a quarter larger. It may pass max by the little that
// an unlucky walk needs.
func (s *diskShard) grow() {
	old := s.buckets
	n := max(len(old), min(len(old)+max(len(old)/4, 2), s.max))
	for {
		if n == len(old) {
			n++
		}
		s.buckets = make([][bucketSlots]slot, n)
		if s.refill(old) {
			return
		}
		n++
	}
}

func (s *diskShard) refill(old [][bucketSlots]slot) bool {
	for i := range old {
		for _, rest := range old[i] {
			if rest.word != 0 && !s.insert(&rest) {
				return false
			}
		}
	}
	return true
}

// remove forgets the fingerprint and returns the word it had, or 0.
func (x *diskIndex) remove(print uint64) slotWord {
	s := x.shard(print)
	s.mu.Lock()
	defer s.mu.Unlock()
	at := s.find(print)
	if at == nil {
		return 0
	}
	word := at.word
	s.count(word, -1)
	*at = slot{}
	return word
}

// removeAt forgets the fingerprint if it names the record at pos.
func (x *diskIndex) removeAt(print, pos uint64) bool {
	s := x.shard(print)
	s.mu.Lock()
	defer s.mu.Unlock()
	at := s.find(print)
	if at == nil || at.word.pos() != pos {
		return false
	}
	s.count(at.word, -1)
	*at = slot{}
	return true
}

// sizes returns the number of objects and slices and the bytes of the index.
func (x *diskIndex) sizes() (objects, slices int, bytes int64) {
	for i := range x.shards {
		s := &x.shards[i]
		s.mu.Lock()
		objects += s.objects
		slices += s.slices
		bytes += int64(len(s.buckets)) * bucketSlots * 16
		s.mu.Unlock()
	}
	return objects, slices, bytes
}
