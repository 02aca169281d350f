package store

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"
	"time"

	"edgecdn/internal/unit"
)

func TestMemoryLookupAllocatesNothing(t *testing.T) {
	m, hasher := benchMemory(t, 64*unit.MiB), NewHasher(1)
	keys := texts(1000)
	for _, text := range keys {
		put(t, m, hasher.Key(text), []byte(text))
	}
	n := 0
	if allocs := testing.AllocsPerRun(5000, func() {
		text := keys[n%len(keys)]
		n++
		s, ok := m.Lookup(hasher.Key(text))
		if !ok || string(s.Bytes()) != text {
			t.Fatalf("%s: %v, %q", text, ok, s.Bytes())
		}
		s.Close()
		if _, ok := m.Lookup(Key{Hash{uint64(n), uint64(n)}, text}); ok {
			t.Fatal("found under another hash")
		}
	}); allocs > 0 {
		t.Errorf("%v allocations a lookup", allocs)
	}
	if st := m.Stats(); st.Hits != int64(n) || st.Misses != int64(n) {
		t.Errorf("%d hits and %d misses counted, want %d of each", st.Hits, st.Misses, n)
	}
}

// Blocks are used again at once here, by bodies of all sizes: a reader must
// never find another object's bytes in what it holds.
func TestMemoryNeverMixesUpBodies(t *testing.T) {
	m, hasher := benchMemory(t, 8*unit.MiB), NewHasher(1)
	stop := startMemory(t, m)
	defer stop()
	const goroutines, rounds, keys = 6, 2500, 2000
	var group sync.WaitGroup
	for g := range goroutines {
		group.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(g), 1))
			for range rounds {
				k := rng.Uint64N(1 + rng.Uint64N(keys))
				key := hasher.Key(fmt.Sprint(k))
				s, ok := m.Lookup(key)
				switch {
				case rng.IntN(50) == 0:
					if err := m.Remove(key); err != nil {
						t.Error(err)
					}
				case !ok:
					putSigned(t, m, key, k, 8*rng.IntN(1<<rng.IntN(15)))
				}
				if !ok {
					continue
				}
				body := s.Bytes()
				for range 3 {
					if !signed(body, k) {
						t.Errorf("the body of %d is another's", k)
						return
					}
					runtime.Gosched()
				}
				s.Close()
			}
		})
	}
	group.Wait()
	if st := m.Stats(); st.Evictions == 0 || st.Hits == 0 {
		t.Errorf("%d evictions and %d hits: this proves nothing", st.Evictions, st.Hits)
	}
}

func putSigned(t *testing.T, m *Memory, key Key, k uint64, size int) {
	body := bytes.Repeat(binary.LittleEndian.AppendUint64(nil, k), size/8)
	meta := Meta{Length: int64(len(body))}
	w, err := m.Create(key, meta)
	if err != nil {
		return // all is being read
	}
	defer w.Abort()
	if _, err := w.Write(body); err != nil {
		return
	}
	if s, err := w.Commit(meta); err == nil {
		if !signed(s.Bytes(), k) {
			t.Errorf("what was committed under %d is another's", k)
		}
		s.Close()
	}
}

func signed(body []byte, k uint64) bool {
	for ; len(body) >= 8; body = body[8:] {
		if binary.LittleEndian.Uint64(body) != k {
			return false
		}
	}
	return len(body) == 0
}

// startMemory runs m until the function it returns is called.
func startMemory(t testing.TB, m *Memory) func() {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- m.Run(ctx) }()
	return func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// What is asked for again and again outlives a flood of what is asked for once.
func TestMemoryResistsScans(t *testing.T) {
	m, hasher := benchMemory(t, 16*unit.MiB), NewHasher(1)
	stop := startMemory(t, m)
	defer stop()
	body := make([]byte, 10_000)
	hot := texts(500)
	for _, text := range hot {
		put(t, m, hasher.Key(text), body)
	}
	for n := range 15_000 {
		put(t, m, hasher.Key(fmt.Sprint("once ", n)), body)
		if s, ok := m.Lookup(hasher.Key(hot[n%len(hot)])); ok {
			s.Close()
		} else if n < 3000 {
			put(t, m, hasher.Key(hot[n%len(hot)]), body)
		}
	}
	left := 0
	for _, text := range hot {
		if s, ok := m.Lookup(hasher.Key(text)); ok {
			left++
			s.Close()
		}
	}
	if left < len(hot)*95/100 {
		t.Errorf("%d of %d hot objects are left", left, len(hot))
	}
}

// Removing more than the owner's queue holds waits for nobody, though nobody
// reads the queue; what did not fit is counted.
func TestMemoryRemoveNeverWaits(t *testing.T) {
	m, hasher := benchMemory(t, 256*unit.MiB), NewHasher(1)
	const objects = 3 * opsMax
	for n := range objects {
		put(t, m, hasher.Key(fmt.Sprint(n)), nil)
	}
	for n := range objects {
		m.policy.mu.Lock()
		m.policy.promote(m.index.find(hasher.Key(fmt.Sprint(n))))
		m.policy.mu.Unlock()
	}
	for n := range objects {
		if err := m.Remove(hasher.Key(fmt.Sprint(n))); err != nil {
			t.Fatal(err)
		}
	}
	if st := m.Stats(); st.Objects != 0 || st.OpsDropped != 2*objects-opsMax || st.Removes != objects {
		t.Errorf("%d objects left, %d removed, %d ops dropped; want 0, %d, %d", st.Objects, st.Removes, st.OpsDropped, objects, 2*objects-opsMax)
	}
}

// Whom ristretto gives up leaves, unless someone reads it or it has been
// replaced by what ristretto does not know.
func TestOwnerEvictsWhomRistrettoGivesUp(t *testing.T) {
	m, hasher := benchMemory(t, 64*unit.MiB), NewHasher(1)
	o, err := newOwner(m)
	if err != nil {
		t.Fatal(err)
	}
	defer o.close()
	drive := &ours{m: m, owner: o}
	for n := range 200 {
		put(t, m, hasher.Key(fmt.Sprint(n)), make([]byte, 10_000))
		m.policy.mu.Lock()
		m.policy.promote(m.policy.oldest)
		m.policy.mu.Unlock()
	}
	drive.work()
	if st := m.Stats(); st.Objects != 200 || st.Duels != 0 {
		t.Fatalf("%d objects and %d duels before there is too little room", st.Objects, st.Duels)
	}
	read, _ := m.Lookup(hasher.Key("7"))
	o.cache.UpdateMaxCost(100 * 11_000) // as if it had lost track
	for n := range 50 {
		key := hasher.Key(fmt.Sprint("more ", n))
		drive.fill(key, 11_000)
		m.policy.mu.Lock()
		if b := m.policy.oldest; b != nil {
			m.policy.promote(b)
		}
		m.policy.mu.Unlock()
		drive.work()
	}
	st := m.Stats()
	if st.Duels == 0 {
		t.Error("ristretto gave nobody up, or nobody listened")
	}
	if s, ok := m.Lookup(hasher.Key("7")); !ok {
		t.Error("an object was evicted while it was read")
	} else {
		s.Close()
	}
	read.Close()
}

// A queue that nobody reads and odd items must harm nothing.
func TestOwnerSurvivesFullQueues(t *testing.T) {
	m := benchMemory(t, 16*unit.MiB)
	o, err := newOwner(m)
	if err != nil {
		t.Fatal(err)
	}
	for n := range uint64(3 * victimsMax) {
		o.apply(op{hash: Hash{n, n}, cost: 1 << 20}) // far more than there is room for
	}
	o.apply(op{hash: Hash{1, 2}, remove: true}) // never set
	o.evict(Hash{9, 9})                         // not there
	o.cache.Wait()
	if m.stats.victimsDropped.Load() == 0 {
		t.Error("no victim was dropped: the queue was not full")
	}
	o.close()
}

func TestSketchCounts(t *testing.T) {
	s := newSketch(0)
	hash := func(n uint64) uint64 { return NewHasher(1).Sum(fmt.Sprint(n)) }
	for key := range uint64(200) {
		for range key % 20 {
			s.add(hash(key), 0)
		}
	}
	for key := range uint64(200) {
		got, want := s.estimate(hash(key)), min(int64(key%20), 15)
		if got < want || got > want+2 {
			t.Errorf("key %d: %d, was counted %d times", key, got, want)
		}
	}
	if got := s.estimate(12345); got > 2 {
		t.Errorf("a key never counted: %d", got)
	}
	before := s.estimate(hash(15))
	s.halve(1000)
	if got := s.estimate(hash(15)); got != before/2 || s.since != 500 {
		t.Errorf("halved: %d of %d, memory since %d, want half of it and 500", got, before, s.since)
	}
}

// The index against a map, through growth and many removals.
func TestIndexModel(t *testing.T) {
	x := newIndex()
	rng := rand.New(rand.NewPCG(1, 2))
	model := map[Hash]*object{}
	for range 20_000 {
		// One shard, few tags: long probes, and hashes that differ late.
		h := Hash{Hi: rng.Uint64N(3) << 32, Lo: rng.Uint64N(300) << 8}
		key := Key{h, fmt.Sprint(h)}
		switch rng.IntN(3) {
		case 0:
			o := &object{}
			o.setKey(key)
			if old := x.put(o); old != model[h] {
				t.Fatalf("put %v replaced %p, want %p", h, old, model[h])
			}
			model[h] = o
		case 1:
			if old := x.remove(key); old != model[h] {
				t.Fatalf("remove %v gave %p, want %p", h, old, model[h])
			}
			delete(model, h)
		default:
			if o := x.find(key); o != model[h] {
				t.Fatalf("find %v gave %p, want %p", h, o, model[h])
			}
			if o := x.find(Key{h, "another text"}); o != nil {
				t.Fatalf("find of another text gave %v", o)
			}
		}
	}
	if got := x.count(); got != int64(len(model)) {
		t.Errorf("%d entries counted, %d there", got, len(model))
	}
	seen := 0
	x.all(func(o *object) {
		if model[o.hash] == o {
			seen++
		}
	})
	if seen != len(model) {
		t.Errorf("all showed %d of %d", seen, len(model))
	}
}

func TestMemoryClosed(t *testing.T) {
	m := NewMemory(MemoryConfig{Bytes: 16 * unit.MiB}, nil, slog.New(slog.DiscardHandler))
	hasher := NewHasher(1)
	put(t, m, hasher.Key("a"), []byte("body"))
	s, _ := m.Lookup(hasher.Key("a"))
	w, err := m.Create(hasher.Key("b"), Meta{Length: 1})
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	if string(s.Bytes()) != "body" {
		t.Error("an open reference lost its bytes")
	}
	if _, ok := m.Lookup(hasher.Key("a")); ok {
		t.Error("found after Close")
	}
	if _, err := m.Create(hasher.Key("c"), Meta{}); err != ErrClosed {
		t.Errorf("Create after Close: %v", err)
	}
	if _, err := w.Write([]byte("x")); err != nil {
		t.Error(err)
	}
	if got, err := w.Commit(Meta{Length: 1}); err == nil {
		got.Close()
	}
	if _, ok := m.Lookup(hasher.Key("b")); ok {
		t.Error("what was committed after Close is found")
	}
	s.Close()
	if len(m.slabs.chunks) != 0 {
		t.Error("memory stays mapped after the last reader")
	}
}

// What is of no use any more leaves before what is of use, however often it was asked
// for; freshening makes it useful again.
func TestMemoryEvictsTheUselessFirst(t *testing.T) {
	const n = 100
	m, hasher := benchMemory(t, 16*unit.MiB), NewHasher(1)
	key := func(i int) Key { return hasher.Key(fmt.Sprint(i)) }
	meta := func(useful bool) Meta {
		meta := Meta{Header: []byte("h"), Length: 1000, KeepUntil: time.Now().Add(-time.Minute).UnixNano()}
		if useful {
			meta.KeepUntil = time.Now().Add(time.Hour).UnixNano()
		}
		return meta
	}
	useful := func(i int) bool { return i%2 == 0 || i < 10 }
	for i := range n {
		w, err := m.Create(key(i), meta(i%2 == 0))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(make([]byte, 1000)); err != nil {
			t.Fatal(err)
		}
		s, err := w.Commit(meta(i%2 == 0))
		if err != nil {
			t.Fatal(err)
		}
		s.Close()
		for range 20 * (i % 2) {
			if s, ok := m.Lookup(key(i)); ok {
				s.Close()
			}
		}
	}
	for i := range 10 {
		if err := m.Freshen(key(i), meta(true)); err != nil {
			t.Fatal(err)
		}
	}
	for range 20 { // of 45 that are useless, some of them in probation
		if o := m.policy.evict(m.clock.Load(), m.used.Load()); o != nil {
			m.evicted(o)
		}
	}
	lost := 0
	for i := range n {
		s, ok := m.Lookup(key(i))
		if ok {
			s.Close()
		} else if useful(i) {
			lost++
		}
	}
	// It is a sample that is looked at for each eviction.
	if lost > 3 {
		t.Errorf("%d of 20 evicted objects were of use, and useless ones are left", lost)
	}
}
