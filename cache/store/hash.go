package store

import "github.com/zeebo/xxh3"

// Hasher makes the hashes of one store. Its seed is drawn when the store is
// made and kept with it on disk.
type Hasher struct{ seed uint64 }

// NewHasher returns the Hasher of a seed.
func NewHasher(seed uint64) Hasher { return Hasher{seed} }

// Key hashes a cache key. The Key keeps text, and with it the caller's buffer.
func (h Hasher) Key(text string) Key {
	sum := xxh3.HashString128Seed(text, h.seed)
	return Key{Hash{sum.Hi, sum.Lo}, text}
}

// Sum hashes what a purge can name: a URL, a host, a group.
func (h Hasher) Sum(text string) uint64 { return xxh3.HashStringSeed(text, h.seed) }

// Domain returns a Hasher whose sums have nothing to do with those of h or of
// another domain, so that what is named the same in two ways is told apart.
func (h Hasher) Domain(n uint64) Hasher { return Hasher{h.seed ^ n*0x9E3779B97F4A7C15} }
