package store

import (
	"sync"
	"sync/atomic"
)

// The index finds entries by key. Readers take no lock: they walk a table of
// atomic pointers by linear probing and meet, for each key that is there
// throughout, its old or its new entry. Writers of one shard exclude each other.
const (
	shards       = 256
	tableSlots   = 8  // of a new shard; a power of two
	clockStep    = 16 // requests of one shard between two moves of the clock
	sampleSlots  = 16 // accesses that a shard keeps for the owner
	tagEmpty     = 0  // ends a probe
	tagRemoved   = 1  // does not
	tagsReserved = 2
)

// An entry binds a key to a meta and a body. It never changes once it is
// published and is never reused: the collector keeps it for whoever still
// looks at it. What a lookup compares and takes comes first: one cache line.
type entry struct {
	hash   Hash
	text   string
	body   *body
	value  any
	charge int64 // bytes on the heap, for the account
	meta   Meta
}

type index struct {
	shards [shards]shard
}

type shard struct {
	table    atomic.Pointer[table]
	requests atomic.Uint64 // hits and fills; drives the clock
	fills    atomic.Uint64
	misses   atomic.Uint64
	sampled  atomic.Uint32
	// Accesses for the owner: the last sampleSlots of them, overwritten at will.
	samples  [sampleSlots]atomic.Uint64
	mu       sync.Mutex // excludes writers
	occupied int        // slots that are not empty
	live     int        // slots with an entry
}

type table struct {
	tags    []atomic.Uint32
	entries []atomic.Pointer[entry]
}

func newTable(slots int) *table {
	return &table{make([]atomic.Uint32, slots), make([]atomic.Pointer[entry], slots)}
}

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

func (t *table) start(h Hash) int { return int(h.Lo>>8) & (len(t.tags) - 1) }
func (t *table) next(i int) int   { return (i + 1) & (len(t.tags) - 1) }

// find returns the entry of key, or nil, and where it is.
func (t *table) find(key Key) (*entry, int) {
	tag := tagOf(key.Hash)
	for i := t.start(key.Hash); ; i = t.next(i) {
		switch t.tags[i].Load() {
		case tagEmpty:
			return nil, -1
		case tag:
			e := t.entries[i].Load()
			if e != nil && e.hash == key.Hash && e.text == key.Text {
				return e, i
			}
		}
	}
}

// find returns the entry of key, or nil.
func (x *index) find(key Key) *entry {
	e, _ := x.shard(key.Hash).table.Load().find(key)
	return e
}

// findHash returns an entry of the hash, whatever its text, or nil.
func (x *index) findHash(h Hash) *entry {
	t := x.shard(h).table.Load()
	for i := t.start(h); t.tags[i].Load() != tagEmpty; i = t.next(i) {
		if e := t.entries[i].Load(); e != nil && e.hash == h {
			return e
		}
	}
	return nil
}

// acquire returns the entry of key with a reference to its body, or nil.
func (x *index) acquire(key Key) *entry {
	for {
		e := x.find(key)
		if e == nil || e.body.acquire() {
			return e
		}
		// The body went after we found it, and it goes only once the entry is
		// unlinked: look again for what has taken its place.
	}
}

// put publishes e under its key and returns the entry that it replaces, or nil.
func (x *index) put(e *entry) *entry {
	s := x.shard(e.hash)
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.table.Load()
	if old, i := t.find(Key{e.hash, e.text}); old != nil {
		t.entries[i].Store(e)
		return old
	}
	if (s.occupied+1)*4 > len(t.tags)*3 {
		t = s.rebuild(t)
	}
	t.place(e)
	s.occupied++
	s.live++
	return nil
}

// place puts e into the first empty slot of its probe.
func (t *table) place(e *entry) {
	i := t.start(e.hash)
	for t.tags[i].Load() != tagEmpty {
		i = t.next(i)
	}
	t.entries[i].Store(e) // before the tag, which readers look at first
	t.tags[i].Store(tagOf(e.hash))
}

// rebuild gives the shard a table without removed slots and with room to grow.
func (s *shard) rebuild(old *table) *table {
	slots := tableSlots
	for slots < 2*(s.live+1) {
		slots *= 2
	}
	t := newTable(slots)
	for i := range old.entries {
		if e := old.entries[i].Load(); e != nil {
			t.place(e)
		}
	}
	s.occupied = s.live
	s.table.Store(t)
	return t
}

// swap replaces old by e, which has the same key, unless old has gone.
func (x *index) swap(old, e *entry) bool {
	s := x.shard(e.hash)
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.table.Load()
	if at, i := t.find(Key{e.hash, e.text}); at == old {
		t.entries[i].Store(e)
		return true
	}
	return false
}

// remove unlinks the entry of key and returns it, or nil.
func (x *index) remove(key Key) *entry {
	s := x.shard(key.Hash)
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.table.Load()
	e, i := t.find(key)
	if e != nil {
		s.unlink(t, i)
	}
	return e
}

// removeBody unlinks the entry whose body is b and returns it, or nil.
func (x *index) removeBody(b *body) *entry {
	s := x.shard(b.hash)
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.table.Load()
	for i := t.start(b.hash); t.tags[i].Load() != tagEmpty; i = t.next(i) {
		if e := t.entries[i].Load(); e != nil && e.body == b {
			s.unlink(t, i)
			return e
		}
	}
	return nil
}

func (s *shard) unlink(t *table, i int) {
	t.tags[i].Store(tagRemoved)
	t.entries[i].Store(nil)
	s.live--
}

// all calls do for each entry there is; what comes or goes meanwhile may be
// missed.
func (x *index) all(do func(*entry)) {
	for i := range x.shards {
		t := x.shards[i].table.Load()
		for j := range t.entries {
			if e := t.entries[j].Load(); e != nil {
				do(e)
			}
		}
	}
}

// count returns how many entries there are.
func (x *index) count() (n int64) {
	for i := range x.shards {
		s := &x.shards[i]
		s.mu.Lock()
		n += int64(s.live)
		s.mu.Unlock()
	}
	return n
}
