package access

// buckets.go counts what each of many clients uses, in a bounded table in which
// nothing is ever evicted, so that nobody can flush a bucket of their own.

import (
	"encoding/binary"
	"hash/maphash"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// bucketRows is how many cells a key has, bucketCells how many there are in each
	// row: 2 MiB in all.
	bucketRows, bucketCells = 4, 1 << 16
	bucketLocks             = 64
)

// Buckets are token buckets for more keys than could be kept apart. Each key has
// a cell in every row, at places that nobody outside can foresee, and a cell keeps
// the instant at which a bucket is full again. Keys that share a cell raise it for
// one another; the lowest of a key's cells counts, so that it suffers only where
// all of them are shared with keys that are being limited: with a thousand of those
// not one key in ten million, with 65,536 one in six.
//
// Its methods may be called from any goroutine.
type Buckets struct {
	seed  maphash.Seed
	start time.Time
	locks [bucketLocks]sync.Mutex // by key, so that each is counted exactly
	rows  [bucketRows][bucketCells]atomic.Int64
}

// NewBuckets returns buckets that are full.
func NewBuckets() *Buckets { return &Buckets{seed: maphash.MakeSeed(), start: time.Now()} }

// Take takes a token from the bucket of a rule and a client, which gets a new one
// every interval and holds burst of them. It returns how long to wait where there
// is none, and takes nothing then. It allocates nothing.
func (b *Buckets) Take(rule uint64, client netip.Prefix, interval time.Duration, burst int) (wait time.Duration) {
	var key [25]byte
	address := client.Addr().As16()
	copy(key[:], address[:])
	key[16] = byte(client.Bits())
	binary.LittleEndian.PutUint64(key[17:], rule)
	hash := maphash.Bytes(b.seed, key[:])
	lock := &b.locks[hash%bucketLocks]
	lock.Lock()
	defer lock.Unlock()
	now := int64(time.Since(b.start))
	var cells [bucketRows]*atomic.Int64
	lowest := int64(1<<63 - 1)
	for i := range cells {
		cells[i] = &b.rows[i][hash>>(16*i)%bucketCells]
		lowest = min(lowest, cells[i].Load())
	}
	full := max(lowest, now) + int64(interval)
	if over := full - now - int64(burst)*int64(interval); over > 0 {
		return time.Duration(over)
	}
	for _, cell := range cells {
		raise(cell, full)
	}
	return 0
}

// raise makes a cell at least to.
func raise(cell *atomic.Int64, to int64) {
	for {
		was := cell.Load()
		if was >= to || cell.CompareAndSwap(was, to) {
			return
		}
	}
}
