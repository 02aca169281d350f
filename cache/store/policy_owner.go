package store

import (
	"context"
	"encoding/binary"
	"fmt"

	"github.com/dgraph-io/ristretto/v2"
)

// The owner is the one goroutine that talks to ristretto. Ristretto keeps the
// long-term frequencies of the main part and has a duel of its own; whom it
// gives up is evicted here. It is never asked for a value and holds none: sets
// and deletes may be dropped or late, and then it errs about what there is, but
// nothing is lost or served wrongly, for the index decides.
type owner struct {
	m       *Memory
	cache   *ristretto.Cache[[]byte, struct{}]
	victims chan Hash
	key     [16]byte
	batch   [sampleSlots]uint64
	maxCost int64
}

const victimsMax = 1024

func newOwner(m *Memory) (*owner, error) {
	o := &owner{m: m, victims: make(chan Hash, victimsMax), maxCost: m.budget.Load()}
	// Ristretto's own goroutine calls these: they must not wait, nor call back.
	// Items may be empty, and OnExit is not set as no value needs freeing.
	giveUp := func(item *ristretto.Item[struct{}]) {
		if item == nil || item.Key == 0 {
			return
		}
		select {
		case o.victims <- Hash{item.Conflict, item.Key}:
		default:
			m.stats.victimsDropped.Add(1)
		}
	}
	cache, err := ristretto.NewCache(&ristretto.Config[[]byte, struct{}]{
		NumCounters:        m.counters(),
		MaxCost:            o.maxCost,
		BufferItems:        64,
		IgnoreInternalCost: true, // objectCharge has it
		KeyToHash:          splitHash,
		OnEvict:            giveUp,
		OnReject:           giveUp,
	})
	if err != nil {
		return nil, fmt.Errorf("memory: ristretto: %w", err)
	}
	o.cache = cache
	return o, nil
}

// splitHash gives ristretto both halves of our seeded hash: with one, it would
// not check for collisions.
func splitHash(key []byte) (hash, conflict uint64) {
	return binary.LittleEndian.Uint64(key), binary.LittleEndian.Uint64(key[8:])
}

func (o *owner) bytes(h Hash) []byte {
	binary.LittleEndian.PutUint64(o.key[:], h.Lo)
	binary.LittleEndian.PutUint64(o.key[8:], h.Hi)
	return o.key[:]
}

func (o *owner) run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case op := <-o.m.ops:
			o.apply(op)
		case s := <-o.m.accesses:
			o.access(s)
		case h := <-o.victims:
			o.evict(h)
		}
	}
}

// apply hands one op on. Del may wait until ristretto's goroutine has caught
// up; nobody waits for us.
func (o *owner) apply(op op) {
	if budget := o.m.budget.Load(); budget != o.maxCost {
		o.maxCost = budget
		o.cache.UpdateMaxCost(budget)
	}
	key := o.bytes(op.hash)
	if op.remove {
		o.cache.Del(key)
		return
	}
	o.cache.Get(key) // Set alone does not count as a request
	if !o.cache.Set(key, struct{}{}, op.cost) {
		o.m.stats.setsDropped.Add(1)
	}
}

// access counts the requests that a shard has sampled.
func (o *owner) access(s *shard) {
	for i := range s.samples {
		o.batch[i] = s.samples[i].Load()
		o.cache.Get(o.bytes(Hash{Lo: o.batch[i]}))
	}
	o.m.policy.requests(o.batch[:], o.m.clock.Load())
}

// evict drops whom ristretto has given up, if it is still in the main part.
func (o *owner) evict(h Hash) {
	victim := o.m.index.findHash(h)
	if victim == nil || !o.m.policy.giveUp(victim, placeMain) {
		return
	}
	o.m.stats.duels.Add(1)
	o.m.evicted(victim)
}

func (o *owner) close() { o.cache.Close() }
