package store

import (
	"sync"
	"sync/atomic"
	"time"
)

// seenFilter remembers which keys were asked for lately: two Bloom filters of
// 10 bits a key, of which the younger takes new keys and the older is dropped
// when the younger is full. A key is so remembered for one to two lengths of
// the filter.
type seenFilter struct {
	keys int64 // a filter takes
	rows uint64

	young, old atomic.Pointer[[]uint64]
	added      atomic.Int64
	rotation   sync.Mutex
}

const (
	filterBits   = 10
	filterProbes = 6
	rowWords     = 8 // a row is one cache line; all bits of a key are in it
)

func newSeenFilter(keys int64) *seenFilter {
	rows := (keys*filterBits + rowWords*64 - 1) / (rowWords * 64)
	f := &seenFilter{keys: keys, rows: uint64(rows)}
	for _, p := range []*atomic.Pointer[[]uint64]{&f.young, &f.old} {
		words := make([]uint64, rows*rowWords)
		p.Store(&words)
	}
	return f
}

// see reports whether the key was seen before, and remembers it.
func (f *seenFilter) see(h Hash) bool {
	row := (h.Lo >> 32 * f.rows) >> 32 * rowWords
	young, old := *f.young.Load(), *f.old.Load()
	inYoung, inOld := true, true
	bits := h.Hi
	for range filterProbes {
		word, bit := row+bits&7, uint64(1)<<(bits>>3&63)
		inOld = inOld && atomic.LoadUint64(&old[word])&bit != 0
		if atomic.LoadUint64(&young[word])&bit == 0 {
			inYoung = false
			atomic.OrUint64(&young[word], bit)
		}
		bits >>= 9
	}
	if !inYoung && f.added.Add(1) >= f.keys {
		f.rotate()
	}
	return inYoung || inOld
}

// rotate drops the older filter. Those who still read it while it is cleared
// may take a known key for a new one.
func (f *seenFilter) rotate() {
	f.rotation.Lock()
	defer f.rotation.Unlock()
	if f.added.Load() < f.keys {
		return
	}
	f.added.Store(0)
	fresh := f.old.Load()
	for i := range *fresh {
		atomic.StoreUint64(&(*fresh)[i], 0)
	}
	f.old.Store(f.young.Load())
	f.young.Store(fresh)
}

func (f *seenFilter) bytes() int64 { return int64(f.rows) * rowWords * 8 * 2 }

// debtBucket is a token bucket that may be overdrawn: what was begun is
// written out, and nothing new begins until the debt is paid.
type debtBucket struct {
	rate atomic.Int64 // bytes a second; 0 is without bound

	mu     sync.Mutex
	tokens int64
	filled time.Time
}

func (b *debtBucket) refill() {
	now, rate := time.Now(), b.rate.Load()
	if b.filled.IsZero() {
		b.tokens = rate
	} else if gone := now.Sub(b.filled); gone > 0 {
		b.tokens = min(rate, b.tokens+int64(min(gone.Seconds(), 3600)*float64(rate)))
	}
	b.filled = now
}

// allows reports whether something new may begin.
func (b *debtBucket) allows() bool {
	if b.rate.Load() == 0 {
		return true
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.refill()
	return b.tokens > 0
}

// take pays for n bytes.
func (b *debtBucket) take(n int64) {
	if b.rate.Load() == 0 {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.refill()
	b.tokens -= n
}
