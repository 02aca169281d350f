package store

import (
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

// The policy decides which object leaves when room is needed. A new object
// starts in probation, a FIFO of a few percent of the budget that gives each a
// chance to be asked for again; what reaches its end competes with the least
// worthy of a few residents of the main part (evict.go). It keeps lists only:
// who finds an object, and when its bytes are freed, is the index's affair.
type policy struct {
	mu             sync.Mutex
	oldest, newest *object // probation, linked by next towards newest
	probationBytes int64
	main           []*object
	mainBytes      int64
	sketch         *sketch
	rng            *rand.Rand
	feed           chan<- op // to the owner; what does not fit is dropped
	dropped        int64
}

type place uint8

const (
	placeNone place = iota // not yet added
	placeProbation
	placeMain
	placeGone // removed, evicted or replaced
)

// An op tells ristretto of a resident of the main part that came or went.
type op struct {
	hash   Hash
	cost   int64
	remove bool
}

func newPolicy(sketchBytes int64, seed uint64, feed chan<- op) *policy {
	return &policy{sketch: newSketch(sketchBytes), rng: rand.New(rand.NewPCG(seed, seed)), feed: feed}
}

// add puts a new object into probation, unless it has gone already.
func (p *policy) add(b *object, cost, now int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if b.place != placeNone {
		return
	}
	b.cost, b.born, b.place = cost, now, placeProbation
	b.keep = keepSeconds(b.record.Load().meta.KeepUntil)
	b.since, b.before = p.sketch.since, float64(max(p.sketch.estimate(b.hash.Lo), 1))
	b.prev = p.newest
	if p.newest != nil {
		p.newest.next = b
	} else {
		p.oldest = b
	}
	p.newest = b
	p.probationBytes += cost
}

// gone forgets an object.
func (p *policy) gone(b *object) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.unlink(b)
	b.place = placeGone
}

// giveUp forgets an object that is in one of the places and that nobody reads;
// false when it is not such a one.
func (p *policy) giveUp(b *object, from ...place) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !slices.Contains(from, b.place) || b.pinned() {
		return false
	}
	p.unlink(b)
	b.place = placeGone
	return true
}

// recharge tells that an object has a new record, which costs so much more.
func (p *policy) recharge(b *object, by int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch b.place {
	case placeProbation:
		p.probationBytes += by
	case placeMain:
		p.mainBytes += by
	default:
		return
	}
	b.cost += by
	b.keep = keepSeconds(b.record.Load().meta.KeepUntil)
}

const keepForever = math.MaxUint32

// keepSeconds makes whole seconds of Meta.KeepUntil; 0 there is no end.
func keepSeconds(nanoseconds int64) uint32 {
	if nanoseconds == 0 {
		return keepForever
	}
	return uint32(min(max(nanoseconds/int64(time.Second)+1, 0), keepForever))
}

// request counts a request in the sketch and returns the estimate.
func (p *policy) request(key uint64, now int64) int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sketch.add(key, now)
	return p.sketch.estimate(key)
}

// requests counts several.
func (p *policy) requests(keys []uint64, now int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, key := range keys {
		p.sketch.add(key, now)
	}
}

func (p *policy) unlink(b *object) {
	switch b.place {
	case placeProbation:
		if b.prev != nil {
			b.prev.next = b.next
		} else {
			p.oldest = b.next
		}
		if b.next != nil {
			b.next.prev = b.prev
		} else {
			p.newest = b.prev
		}
		b.prev, b.next = nil, nil
		p.probationBytes -= b.cost
	case placeMain:
		last := p.main[len(p.main)-1]
		p.main[b.pos] = last
		last.pos = b.pos
		p.main[len(p.main)-1] = nil
		p.main = p.main[:len(p.main)-1]
		p.mainBytes -= b.cost
		p.tell(op{hash: b.hash, remove: true})
	}
	b.place = placeNone
}

// promote moves an object from probation to the main part.
func (p *policy) promote(b *object) {
	p.unlink(b)
	b.place, b.pos = placeMain, int32(len(p.main))
	p.main = append(p.main, b)
	p.mainBytes += b.cost
	p.tell(op{hash: b.hash, cost: b.cost})
}

func (p *policy) tell(o op) {
	select {
	case p.feed <- o:
	default:
		p.dropped++
	}
}
