package store

import (
	"sync"
	"sync/atomic"
)

// The index finds objects by key. Readers take no lock: they walk a table of
// atomic pointers by linear probing and meet, for each key that is there
// throughout, its old or its new object. Writers of one shard exclude each other.
const (
	shards       = 256
	tableSlots   = 8  // of a new shard; a power of two
	clockStep    = 16 // requests of one shard between two moves of the clock
	sampleSlots  = 16 // accesses that a shard keeps for the owner
	tagEmpty     = 0  // ends a probe
	tagRemoved   = 1  // does not
	tagsReserved = 2
)

type index struct {
	shards [shards]shard
}

type shard struct {
	table    atomic.Pointer[table]
	mu       sync.Mutex // excludes writers
	occupied int        // slots that are not empty
	live     int        // slots with an object
	// What each lookup changes is not on the cache line that each has to read.
	_ [32]byte

	requests atomic.Uint64 // hits and fills; drives the clock
	fills    atomic.Uint64
	misses   atomic.Uint64
	sampled  atomic.Uint32
	// Accesses for the owner: the last sampleSlots of them, overwritten at will.
	samples [sampleSlots]atomic.Uint64
}

// A table is a power of two of slots.
type table struct{ slots []indexSlot }

type indexSlot struct {
	tag    atomic.Uint32
	object atomic.Pointer[object]
}

func newTable(slots int) *table { return &table{make([]indexSlot, slots)} }

func newIndex() *index {
	x := &index{}
	for i := range x.shards {
		x.shards[i].table.Store(newTable(tableSlots))
		// Spread over the shards, the steps of the clock come evenly.
		x.shards[i].requests.Store(headStart(i))
	}
	return x
}

// headStart is what the requests of a shard start from.
func headStart(shard int) uint64 { return uint64(shard % clockStep) }

func (x *index) shard(h Hash) *shard { return &x.shards[h.Lo%shards] }

func tagOf(h Hash) uint32 { return max(uint32(h.Hi>>32), tagsReserved) }

func (t *table) start(h Hash) int { return int(h.Lo>>8) & (len(t.slots) - 1) }
func (t *table) next(i int) int   { return (i + 1) & (len(t.slots) - 1) }

// find returns the object under key, or nil, and where it is.
func (t *table) find(key Key) (*object, int) {
	tag := tagOf(key.Hash)
	for i := t.start(key.Hash); ; i = t.next(i) {
		switch t.slots[i].tag.Load() {
		case tagEmpty:
			return nil, -1
		case tag:
			if o := t.slots[i].object.Load(); o != nil && o.is(key) {
				return o, i
			}
		}
	}
}

// find returns the object under key, or nil.
func (x *index) find(key Key) *object {
	o, _ := x.shard(key.Hash).table.Load().find(key)
	return o
}

// findHash returns an object of the hash, whatever its key, or nil.
func (x *index) findHash(h Hash) *object {
	t := x.shard(h).table.Load()
	for i := t.start(h); t.slots[i].tag.Load() != tagEmpty; i = t.next(i) {
		if o := t.slots[i].object.Load(); o != nil && o.hash == h {
			return o
		}
	}
	return nil
}

// acquire returns the object under key with a reference and what a lookup
// answers, or nil.
func (x *index) acquire(key Key) (*object, Stored) {
	for {
		o := x.find(key)
		if o == nil {
			return nil, Stored{}
		}
		// Read before the reference is taken, so that it is asked of memory
		// together with the key: taking it waits for all that was asked before.
		r := o.record.Load()
		stored := r.stored()
		if o.acquire() {
			stored.src = o
			return o, stored
		}
		// It went after we found it, and it goes only once it is unlinked: look
		// again for what has taken its place.
	}
}

// put publishes o under its key and returns the object that it replaces, or nil.
func (x *index) put(o *object) *object {
	s := x.shard(o.hash)
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.table.Load()
	if old, i := t.find(o.key()); old != nil {
		t.slots[i].object.Store(o)
		return old
	}
	if (s.occupied+1)*4 > len(t.slots)*3 {
		t = s.rebuild(t)
	}
	t.place(o)
	s.occupied++
	s.live++
	return nil
}

// place puts o into the first empty slot of its probe.
func (t *table) place(o *object) {
	i := t.start(o.hash)
	for t.slots[i].tag.Load() != tagEmpty {
		i = t.next(i)
	}
	t.slots[i].object.Store(o) // before the tag, which readers look at first
	t.slots[i].tag.Store(tagOf(o.hash))
}

// rebuild gives the shard a table without removed slots and with room to grow.
func (s *shard) rebuild(old *table) *table {
	slots := tableSlots
	for slots < 2*(s.live+1) {
		slots *= 2
	}
	t := newTable(slots)
	for i := range old.slots {
		if o := old.slots[i].object.Load(); o != nil {
			t.place(o)
		}
	}
	s.occupied = s.live
	s.table.Store(t)
	return t
}

// freshen replaces the record of o, unless o or the record has gone.
func (x *index) freshen(o *object, old, r *record) bool {
	s := x.shard(o.hash)
	s.mu.Lock()
	defer s.mu.Unlock()
	if at, _ := s.table.Load().find(o.key()); at != o {
		return false
	}
	return o.record.CompareAndSwap(old, r)
}

// remove unlinks the object under key and returns it, or nil.
func (x *index) remove(key Key) *object {
	s := x.shard(key.Hash)
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.table.Load()
	o, i := t.find(key)
	if o != nil {
		s.unlink(t, i)
	}
	return o
}

// unlink takes o out; false when it is not there any more.
func (x *index) unlink(o *object) bool {
	s := x.shard(o.hash)
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.table.Load()
	if at, i := t.find(o.key()); at == o {
		s.unlink(t, i)
		return true
	}
	return false
}

func (s *shard) unlink(t *table, i int) {
	t.slots[i].tag.Store(tagRemoved)
	t.slots[i].object.Store(nil)
	s.live--
}

// all calls do for each object there is; what comes or goes meanwhile may be
// missed.
func (x *index) all(do func(*object)) {
	for i := range x.shards {
		t := x.shards[i].table.Load()
		for j := range t.slots {
			if o := t.slots[j].object.Load(); o != nil {
				do(o)
			}
		}
	}
}

// count returns how many objects there are.
func (x *index) count() (n int64) {
	for i := range x.shards {
		s := &x.shards[i]
		s.mu.Lock()
		n += int64(s.live)
		s.mu.Unlock()
	}
	return n
}
