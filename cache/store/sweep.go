package store

import (
	"context"
	"fmt"
	"time"
)

// Sweeping: a walk over all objects, in small pieces with pauses between them, that
// takes out what a judge has no use for any more. Lookups never wait for it.
//
// What the judge refuses does not enter a tier either: Commit, Freshen and the
// copies between the tiers ask it under the key's stripe. So what a judge began to
// refuse before a sweep is gone when the sweep has ended, wherever it was and
// wherever it was being copied.

// Sweep says what a sweep does. A judge returns the meta that it is given: the
// object stays; nil: it is removed from both tiers; or another: it gets that header.
type Sweep struct {
	// Memory judges what is in memory, Disk what is on disk and not in memory. A Stored
	// that is given here, or by SetLeaving and Walk, has no body.
	Memory func(s Stored) *Meta
	Disk   func(m *Meta) *Meta
	// MemoryDone is called when all that was in memory has been judged.
	MemoryDone func()
	// Order: objects of this Order and above need not be judged.
	Order uint64
	// Hurry says whether to leave out the pauses.
	Hurry func() bool
}

// A sweep works a little and rests longer, so that it takes a fourth of a processor
// or a device.
const (
	sweepWork = 2 * time.Millisecond
	sweepRest = 3 * sweepWork
	// sweepStep is how many objects are asked of memory together, and judged between two
	// looks at the clock.
	sweepStep = 64
)

// pace keeps a walk from taking all there is.
type pace struct {
	ctx   context.Context
	hurry func() bool
	steps int
	since time.Time
}

// step is called for each object.
func (p *pace) step() error {
	if p.steps++; p.steps%sweepStep != 0 {
		return nil
	}
	if time.Since(p.since) < sweepWork {
		return p.ctx.Err()
	}
	if p.hurry == nil || !p.hurry() {
		waitFor(p.ctx, sweepRest)
	}
	p.since = time.Now()
	return p.ctx.Err()
}

// SetJudge sets who is asked before anything is stored, freshened or copied to
// another tier. Once, before the store is used.
func (t *Tiered) SetJudge(judge func(*Meta) *Meta) { t.judge = judge }

// SetPrints sets who fills in Meta.Prints of what memory takes and of what is opened on
// disk. It may lock, but not use the store. Once, before the store is used.
func (t *Tiered) SetPrints(fill func(*Meta)) {
	t.memory.prints = fill
	if t.disk != nil {
		t.disk.prints = fill
	}
}

// refuses asks the judge; the caller has the key's stripe.
func (t *Tiered) refuses(m *Meta) bool { return t.judge != nil && t.judge(m) != m }

// Has says whether there may be an object under key, without I/O.
func (t *Tiered) Has(key Key) bool {
	if t.memory.index.find(key) != nil {
		return true
	}
	if t.disk != nil {
		for _, v := range t.disk.volumes {
			if v.index.get(printOf(key.Hash)) != 0 {
				return true
			}
		}
	}
	return false
}

// SetLeaving sets who is told of what leaves memory and is not on disk, or no longer:
// what is replaced, removed, or evicted without a copy. Once, before the store is used.
func (t *Tiered) SetLeaving(leaving func(Stored)) { t.memory.leaving = leaving }

// Walk calls do for each object in memory, without pauses. What comes or goes meanwhile
// may be missed.
func (t *Tiered) Walk(ctx context.Context, do func(s Stored)) error {
	p := &pace{ctx: ctx, since: time.Now(), hurry: func() bool { return true }}
	return t.eachInMemory(p, func(_ *object, _ *record, s Stored) { do(s) })
}

// eachInMemory asks memory for many objects, then for all their records, before it does
// anything with the first: in a large tier a walk is nearly all waiting for them.
func (t *Tiered) eachInMemory(p *pace, do func(*object, *record, Stored)) error {
	var objects [sweepStep]*object
	var records [sweepStep]*record
	var all [sweepStep]Stored
	n := 0
	flush := func() error {
		for i, o := range objects[:n] {
			records[i] = o.record.Load()
		}
		for i, r := range records[:n] {
			all[i] = r.stored()
		}
		for i, o := range objects[:n] {
			do(o, records[i], all[i])
			if err := p.step(); err != nil {
				return err
			}
		}
		n = 0
		return p.ctx.Err()
	}
	for i := range t.memory.index.shards {
		table := t.memory.index.shards[i].table.Load()
		for j := range table.slots {
			o := table.slots[j].object.Load()
			if o == nil {
				continue
			}
			objects[n] = o
			if n++; n == sweepStep {
				if err := flush(); err != nil {
					return err
				}
			}
		}
	}
	return flush()
}

// Sweep walks over all objects. On nil, everything has been judged and what was
// removed stays so after a crash.
func (t *Tiered) Sweep(ctx context.Context, s Sweep) error {
	for i := range t.stripes { // who asked the judge before now has done what it allowed
		t.stripes[i].read()
	}
	p := &pace{ctx: ctx, hurry: s.Hurry, since: time.Now()}
	err := t.eachInMemory(p, func(o *object, r *record, stored Stored) {
		if now := s.Memory(stored); now != &r.meta {
			t.sweepObject(o, r, now)
		}
	})
	if err != nil {
		return err
	}
	if s.MemoryDone != nil {
		s.MemoryDone()
	}
	if t.disk == nil {
		return nil
	}
	for _, v := range t.disk.volumes {
		if err := v.sweep(p, s.Order, func(h *objectHead, word slotWord) { t.sweepRecord(v, h, word, s.Disk) }); err != nil {
			return fmt.Errorf("disk: sweep %s: %w", v.dir, err)
		}
	}
	for _, v := range t.disk.volumes {
		if err := v.persist(ctx); err != nil {
			return fmt.Errorf("disk: sweep %s: %w", v.dir, err)
		}
	}
	return nil
}

// sweepObject does what was judged of an object in memory, unless it has changed.
func (t *Tiered) sweepObject(o *object, r *record, now *Meta) {
	stripe := t.stripe(o.hash)
	stripe.mu.Lock()
	defer stripe.mu.Unlock()
	if t.memory.index.find(o.key()) != o || o.record.Load() != r {
		return // what has come since was judged then
	}
	stripe.version++
	if now == nil || t.freshen(o.key(), *now) != nil {
		t.drop(o.key())
	}
}

// drop removes an object that must not stay; the caller has the stripe.
func (t *Tiered) drop(key Key) {
	if err := t.remove(key); err != nil {
		t.log.Warn("store: a purged object could not be removed", "error", err)
	}
}

// sweepRecord judges an object on disk.
func (t *Tiered) sweepRecord(v *volume, h *objectHead, word slotWord, judge func(*Meta) *Meta) {
	key := Key{h.hash, h.key}
	stripe := t.stripe(key.Hash)
	stripe.mu.Lock()
	defer stripe.mu.Unlock()
	if v.index.get(printOf(h.hash)).pos() != word.pos() {
		return
	}
	inMemory := t.memory.index.find(key)
	if inMemory != nil && !t.refuses(&inMemory.record.Load().meta) && !t.refuses(&h.meta) {
		return
	}
	now := judge(&h.meta)
	if now == &h.meta {
		return
	}
	stripe.version++
	switch {
	case now == nil:
		v.removeAt(printOf(h.hash), word)
		if inMemory != nil && t.refuses(&inMemory.record.Load().meta) {
			t.drop(key)
		}
	case t.freshen(key, *now) != nil:
		t.drop(key)
	}
}
