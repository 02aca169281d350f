package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync/atomic"
)

// The memory tier. Its truth is the index (memory_index.go) and one account of
// bytes (used); a policy (policy.go, evict.go) only names who must leave, and
// ristretto (policy_owner.go) only advises it.
//
// The life of an object:
//
//	Create   a fill: an object with one reference, charged as it grows; in no list
//	Commit   it is put into the index (one more reference, the index's), then into
//	         probation; the object it replaces takes the way out
//	Lookup   one more reference for each Stored, none once the count is zero
//	Freshen  another record takes the place of the first; body and key stay
//	the way out, by Remove, eviction or a newer object: unlinked from the index,
//	         forgotten by the policy, then the index's reference is given back
//	Close    of the last Stored: the block is free for others
//
// Objects and records are left to the collector and never reused; blocks are.
// So a late reader finds zero references and looks again, and cannot meet
// another object's bytes.
//
// Locks: a shard's, the policy's, a size class's, the list of chunks. Nobody
// holds two of them, calls back or does I/O under one. Lookup takes none. Of the
// others each is held for a bounded number of steps; sends to the owner's queue
// never wait.

// Memory keeps bodies of at most BodyMax in memory that the collector does not
// scan. It implements Store.
type Memory struct {
	index   *index
	policy  *policy
	slabs   *slabs
	prepare func(*Meta) (any, int64, error)
	prints  func(*Meta) // see Tiered.SetPrints; may be nil
	log     *slog.Logger

	budget atomic.Int64 // bytes allowed
	used   atomic.Int64 // bytes granted: pages of bodies, objects, what is fixed
	clock  atomic.Int64 // requests served, in steps of clockStep
	fills  atomic.Int64 // open writers
	closed atomic.Bool

	ops      chan op     // residents of main that came and went, for the owner
	accesses chan *shard // shards with new samples, for the owner
	// again, when set, is called by Lookup when an object is asked for the first,
	// second, fourth ... time since its fill. It must not wait.
	again func(*object)
	// leaving, when set, is called with what leaves and is in no other tier.
	leaving func(Stored)
	stats   memoryCounters
}

// Bounds of the queues to the owner; parts of the budget that the sketch has and
// that holes in spans may be before spans are cleared.
const (
	sketchShare = 256
	holesShare  = 32
	opsMax      = 8192
	accessesMax = shards
)

// NewMemory returns a memory tier. prepare may be nil; see Config.Prepare.
// Without Run it works, but evicts less wisely.
func NewMemory(cfg MemoryConfig, prepare func(*Meta) (any, int64, error), log *slog.Logger) *Memory {
	cfg = Config{Memory: cfg}.WithDefaults().Memory
	ops := make(chan op, opsMax)
	m := &Memory{
		index:    newIndex(),
		policy:   newPolicy(int64(cfg.Bytes)/sketchShare, rand.Uint64(), ops),
		slabs:    newSlabs(),
		prepare:  prepare,
		log:      log,
		ops:      ops,
		accesses: make(chan *shard, accessesMax),
	}
	m.budget.Store(int64(cfg.Bytes))
	m.used.Store(m.fixed())
	return m
}

// Lookup returns the object under key if it is in memory. It takes no lock,
// waits for nothing and allocates nothing. The caller must Close what it gets.
func (m *Memory) Lookup(key Key) (Stored, bool) {
	s := m.index.shard(key.Hash)
	o, stored := m.index.acquire(key)
	if o == nil {
		s.misses.Add(1)
		return Stored{}, false
	}
	m.hit(s, o)
	return stored, true
}

// hit records a request for o.
func (m *Memory) hit(s *shard, o *object) {
	m.tick(s)
	o.last.Store(m.clock.Load())
	n := o.hits.Add(1)
	// The sketch counts to 15: every request of a cold object matters, of a hot
	// one few.
	if n <= 4 || n%8 == 0 {
		m.sample(s, o.hash.Lo)
	}
	if m.again != nil && n&(n-1) == 0 {
		m.again(o)
	}
}

// tick moves the clock by one request, now and then.
func (m *Memory) tick(s *shard) {
	if s.requests.Add(1)%clockStep == 0 {
		m.clock.Add(clockStep)
	}
}

// sample leaves an access for the owner to find.
func (m *Memory) sample(s *shard, key uint64) {
	n := s.sampled.Add(1)
	s.samples[n%sampleSlots].Store(key)
	if n%sampleSlots == 0 {
		select {
		case m.accesses <- s:
		default:
			m.stats.samplesDropped.Add(sampleSlots)
		}
	}
}

// requested records a request that found nothing and began a fill.
func (m *Memory) requested(h Hash) {
	s := m.index.shard(h)
	s.fills.Add(1)
	m.tick(s)
	m.policy.request(h.Lo, m.clock.Load())
}

// Open implements Store.
func (m *Memory) Open(key Key) (*Stored, error) {
	if s, ok := m.Lookup(key); ok {
		return &s, nil
	}
	return nil, ErrNotFound
}

// publish makes o the object of its key.
func (m *Memory) publish(o *object) {
	if old := m.index.put(o); old != nil {
		m.leave(old, true)
	}
	m.stats.commits.Add(1)
	m.policy.add(o, o.record.Load().charge+o.memory(), m.clock.Load())
	if m.closed.Load() {
		m.clear()
	}
}

// leave takes an object that was unlinked from the index the rest of the way
// out. Its record is the last, as it is found no more. last says that no tier has it
// now.
func (m *Memory) leave(o *object, last bool) {
	if last && m.leaving != nil {
		m.leaving(o.record.Load().stored())
	}
	m.policy.gone(o)
	m.used.Add(-o.record.Load().charge)
	o.release()
}

// Freshen implements Store.
func (m *Memory) Freshen(key Key, meta Meta) error {
	if len(meta.Header) > HeaderMax {
		return ErrTooLarge
	}
	for {
		o := m.index.find(key)
		if o == nil {
			return ErrNotFound
		}
		old := o.record.Load()
		meta.Length = old.meta.Length
		r, err := m.newRecord(o.text, meta)
		if err != nil {
			return err
		}
		if !m.reserve(r.charge) {
			m.stats.full.Add(1)
			return ErrFull
		}
		r.seen = new(atomic.Uint64) // who notes what the old record was looked up for says nothing of this
		if m.index.freshen(o, old, r) {
			m.used.Add(-old.charge)
			m.policy.recharge(o, r.charge-old.charge)
			return nil
		}
		m.used.Add(-r.charge)
	}
}

// Remove implements Store.
func (m *Memory) Remove(key Key) error {
	if o := m.index.remove(key); o != nil {
		m.stats.removes.Add(1)
		m.leave(o, true)
	}
	return nil
}

// reserve asks the account for n bytes, evicting what must go for them.
func (m *Memory) reserve(n int64) bool {
	if m.used.Add(n) <= m.budget.Load() {
		return true
	}
	for m.used.Load() > m.budget.Load() {
		if !m.reclaim() {
			m.used.Add(-n)
			return false
		}
	}
	return true
}

// free gives n bytes back to the account.
func (m *Memory) free(n int64) { m.used.Add(-n) }

// wants says whether an object of so many bytes that is asked for now should be in
// memory: there is room, or it is worth clearly more than what would leave for it.
func (m *Memory) wants(h Hash, bytes int64) bool {
	if m.used.Load()+bytes <= m.budget.Load() {
		return true
	}
	return m.policy.prefers(h.Lo, bytes, m.clock.Load())
}

// reclaim frees some memory that nobody uses or evicts an object or a few. It
// returns false when there is neither.
func (m *Memory) reclaim() bool {
	if freed := m.slabs.trim(); freed > 0 {
		m.used.Add(-freed)
		return true
	}
	budget := m.budget.Load()
	if m.slabs.holes.Load() > budget/holesShare && m.clearSpan() {
		return true
	}
	o := m.policy.evict(m.clock.Load(), budget)
	if o == nil {
		return false
	}
	m.evicted(o)
	return true
}

// clearSpan evicts what is in the emptiest span, so that its memory can serve
// other sizes: when sizes shift, evictions one by one would leave holes
// everywhere and free no page. It returns false when there was nothing to evict.
func (m *Memory) clearSpan() (any bool) {
	for _, o := range m.slabs.sparse() {
		if m.policy.giveUp(o, placeMain, placeProbation) {
			m.evicted(o)
			any = true
		}
	}
	return any
}

// evicted takes an object that the policy has given up out of the index.
func (m *Memory) evicted(o *object) {
	if !m.index.unlink(o) {
		return // removed or replaced meanwhile
	}
	m.stats.evictions.Add(1)
	m.stats.evictedBytes.Add(int64(len(o.data)))
	m.leave(o, !o.onDisk.Load())
}

// Apply changes the budget. What no longer fits leaves at once.
func (m *Memory) Apply(cfg MemoryConfig) error {
	cfg = Config{Memory: cfg}.WithDefaults().Memory
	if cfg.Bytes < memoryBytesMin {
		return fmt.Errorf("memory: budget of %v: give at least %v", cfg.Bytes, memoryBytesMin)
	}
	m.budget.Store(int64(cfg.Bytes))
	if !m.reserve(0) {
		m.log.Warn("memory: more in use than the new budget; it will shrink as readers finish", "budget", cfg.Bytes.String())
	}
	return nil
}

// Close forgets everything. What readers still hold stays until they close it.
func (m *Memory) Close() error {
	if m.closed.Swap(true) {
		return errors.New("memory: closed twice")
	}
	m.clear()
	m.slabs.close()
	return nil
}

func (m *Memory) clear() {
	m.index.all(func(o *object) {
		if m.index.unlink(o) {
			m.leave(o, false)
		}
	})
}

// Run is the owner of ristretto: it tells it who came, went and was asked for,
// and evicts whom it gives up. It returns when ctx ends.
func (m *Memory) Run(ctx context.Context) error {
	o, err := newOwner(m)
	if err != nil {
		return err
	}
	defer o.close()
	return o.run(ctx)
}
