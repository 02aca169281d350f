package store

import "math/bits"

// A sketch estimates how often a key was asked for lately: four rows of 4-bit
// counters in one table, halved whenever as many increments as window came in.
type sketch struct {
	table  []uint64 // 16 counters each
	window int64    // increments between two halvings
	added  int64
	since  int64 // the clock when what the counters hold began, on average
}

// sketchBytesMin gives small tiers a memory of some thousands of keys.
const sketchBytesMin = 64 << 10

func newSketch(bytes int64) *sketch {
	words := max(sketchBytesMin, bytes) / 8
	words = 1 << (bits.Len64(uint64(words)) - 1)
	return &sketch{table: make([]uint64, words), window: 8 * words}
}

// at returns the word and the shift of the counter of a key in a row. The key
// is a good hash already; each row takes a different product of it.
func (s *sketch) at(key uint64, row int) (word *uint64, shift uint) {
	h := (key ^ uint64(row+1)*0x9e3779b97f4a7c15) * 0xbf58476d1ce4e5b9
	h ^= h >> 32
	return &s.table[h&uint64(len(s.table)-1)], uint(h>>58) & 15 * 4
}

// add counts one request for key at a time of the clock.
func (s *sketch) add(key uint64, now int64) {
	for row := range 4 {
		word, shift := s.at(key, row)
		if *word>>shift&15 < 15 {
			*word += 1 << shift
		}
	}
	if s.added++; s.added >= s.window {
		s.halve(now)
	}
}

func (s *sketch) halve(now int64) {
	for i := range s.table {
		s.table[i] = s.table[i] >> 1 & 0x7777777777777777
	}
	s.added /= 2
	s.since = now - (now-s.since)/2
}

// estimate returns how often key was counted, 15 at most, too high at times.
func (s *sketch) estimate(key uint64) int64 {
	least := uint64(15)
	for row := range 4 {
		word, shift := s.at(key, row)
		least = min(least, *word>>shift&15)
	}
	return int64(least)
}
