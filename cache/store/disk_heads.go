package store

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"unsafe"
)

// Heads of what is asked for on disk, decoded, in memory: with its head there a hit
// on disk reads nothing but its body, and that the kernel can send by itself. The
// index stays the truth: a head counts only while the index names the record that
// it was read from, so that whatever replaces, freshens or removes an object makes
// its head worthless without knowing of it.
//
// Heads are charged to the memory tier and take at most a part of it; who has to
// leave is drawn by lot among those that were not asked for lately. Locks: a
// shard's, last in the order of Disk's; nothing is charged under it.
type heads struct {
	shards [headShards]headShard
	bytes  atomic.Int64
	used   atomic.Int64 // hits that needed no reading
	// reserve asks the memory tier for bytes and budget says how many there may be
	// in all. nil: no heads are kept.
	reserve func(int64) bool
	free    func(int64)
	budget  func() int64
}

type headShard struct {
	mu    sync.Mutex
	at    map[uint64]int // by fingerprint
	heads []*diskHead
}

// diskHead is the head of an object whose body is in one piece.
type diskHead struct {
	v      *volume
	word   slotWord
	h      *objectHead
	value  any
	seen   atomic.Uint64 // Stored.Seen
	charge int64
	slot   *headShard // that has it

	asked atomic.Bool // since the last draw
	hits  atomic.Uint32
}

const (
	headShards = 64
	// headsShare is the part of the memory tier that heads may take: 1/4. They take
	// it only where bodies of at least headBodyMin are asked for on disk.
	headsShare  = 4
	headBodyMin = 16 << 10
	headDraws   = 4
	// headOverhead: both structs, places in map and list.
	headOverhead = int64(unsafe.Sizeof(diskHead{})+unsafe.Sizeof(objectHead{})) + 64
)

func (x *heads) shard(print uint64) *headShard { return &x.shards[print%headShards] }

// get returns the head of the object under key, or nil.
func (x *heads) get(key Key) *diskHead {
	if x.reserve == nil {
		return nil
	}
	print := printOf(key.Hash)
	s := x.shard(print)
	s.mu.Lock()
	defer s.mu.Unlock()
	i, ok := s.at[print]
	if !ok || s.heads[i].h.hash != key.Hash || s.heads[i].h.key != key.Text {
		return nil
	}
	if !s.heads[i].asked.Load() {
		s.heads[i].asked.Store(true)
	}
	return s.heads[i]
}

// keep adds a head, in place of an older one of the same fingerprint.
func (x *heads) keep(head *diskHead, prepared int64) {
	length := head.h.meta.Length
	if x.reserve == nil || length < headBodyMin || head.h.fill != 0 {
		return
	}
	head.charge = headOverhead + int64(len(head.h.key)+len(head.h.meta.Header)+8*len(head.h.meta.Groups)+4*len(head.h.sums)) + max(prepared, 0)
	if head.charge > length/headsShare || !x.reserve(head.charge) {
		return
	}
	x.bytes.Add(head.charge)
	print := printOf(head.h.hash)
	s := x.shard(print)
	s.mu.Lock()
	var out int64
	if i, ok := s.at[print]; ok {
		out = s.drop(i)
	}
	if s.at == nil {
		s.at = map[uint64]int{}
	}
	head.slot, s.at[print] = s, len(s.heads)
	s.heads = append(s.heads, head)
	s.mu.Unlock()
	x.gave(out)
	x.trim(s)
}

// trim draws heads of a shard until all of them are within the budget, or the shard
// has no more.
func (x *heads) trim(s *headShard) {
	for x.bytes.Load() > x.budget()/headsShare {
		s.mu.Lock()
		if len(s.heads) == 0 {
			s.mu.Unlock()
			return
		}
		i := 0
		for range headDraws {
			i = rand.IntN(len(s.heads))
			if !s.heads[i].asked.Swap(false) {
				break
			}
		}
		out := s.drop(i)
		s.mu.Unlock()
		x.gave(out)
	}
}

// trimAll is trim of all shards, for a budget that has shrunk.
func (x *heads) trimAll() {
	if x.reserve == nil {
		return
	}
	for i := range x.shards {
		x.trim(&x.shards[i])
	}
}

// forget drops a head that is worth nothing any more.
func (x *heads) forget(head *diskHead) {
	s := head.slot
	s.mu.Lock()
	var out int64
	if i, ok := s.at[printOf(head.h.hash)]; ok && s.heads[i] == head {
		out = s.drop(i)
	}
	s.mu.Unlock()
	x.gave(out)
}

// drop takes the head at i out and returns what it was charged; mu is held.
func (s *headShard) drop(i int) int64 {
	head, last := s.heads[i], len(s.heads)-1
	delete(s.at, printOf(head.h.hash))
	if i < last {
		s.heads[i] = s.heads[last]
		s.at[printOf(s.heads[i].h.hash)] = i
	}
	s.heads[last] = nil
	s.heads = s.heads[:last]
	return head.charge
}

func (x *heads) gave(bytes int64) {
	if bytes > 0 {
		x.bytes.Add(-bytes)
		x.free(bytes)
	}
}

// openHead returns a Stored of what a head is of, if that is still what the index has.
// It reads nothing from the disk and waits for none.
func (d *Disk) openHead(head *diskHead) (Stored, bool) {
	v, print := head.v, printOf(head.h.hash)
	if !v.health.readable() {
		return Stored{}, false
	}
	if word := v.index.touch(print); word == 0 || word.pos() != head.word.pos() {
		d.heads.forget(head)
		return Stored{}, false
	}
	seg := v.segmentAt(head.word.pos())
	if seg == nil {
		d.heads.forget(head)
		return Stored{}, false
	}
	body, err := v.body(seg, head.word, head.h)
	if err != nil {
		d.heads.forget(head)
		return Stored{}, false
	}
	d.heads.used.Add(1)
	return Stored{meta: &head.h.meta, value: head.value, seen: &head.seen, tier: tierDisk, src: body}, true
}

// lookup returns the object under key if its head is in memory.
func (d *Disk) lookup(key Key) (Stored, *diskHead, bool) {
	head := d.heads.get(key)
	if head == nil || d.closed.Load() {
		return Stored{}, nil, false
	}
	s, ok := d.openHead(head)
	return s, head, ok
}

// dropHead forgets the head of the object under key.
func (d *Disk) dropHead(key Key) {
	if head := d.heads.get(key); head != nil {
		d.heads.forget(head)
	}
}

// remember keeps the head of an object that was opened.
func (d *Disk) remember(s *Stored) {
	if b, ok := s.src.(*diskBody); ok && b.head != nil {
		d.heads.keep(b.head, b.prepared)
	}
}
