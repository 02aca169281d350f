package store

import (
	"math"
	"time"
)

// Which object is worth the least: one that will not be asked for again soon
// and that takes much room. The time to the next request is guessed from how
// often it was asked for since we know it, the sketch's memory of the time
// before it came included, so that newcomers and residents are judged alike.
// Room counts by its square root: many small objects win over one large object
// that is asked for as often as each of them, but not over one that is asked
// for as often as all. All times are in requests served, not in seconds.
const (
	samples     = 16 // residents looked at for one eviction
	sampleTries = 4 * samples
	idleGaps    = 4 // an object idle for longer has likely died
	// forgetWindows: what is older than so many windows of the sketch counts half.
	forgetWindows = 4
	// copyMargin is by how much a copy must be worth more than what it displaces.
	copyMargin = 2
	// probationShare is the part of the budget that probation may fill before its
	// oldest object has to compete: 1/20.
	probationShare = 20
)

// gap returns how many requests pass between two for b.
func (p *policy) gap(b *object, now int64) float64 {
	if now-b.since > forgetWindows*p.sketch.window {
		b.since += (now - b.since) / 2
		b.before -= (b.before + float64(b.hits.Load())) / 2
	}
	mean := float64(now-b.since) / (b.before + float64(b.hits.Load()))
	if idle := float64(now - max(b.last.Load(), b.born)); idle > idleGaps*mean {
		return idle
	}
	return max(mean, 1)
}

// worth of b at a time of the clock and of the wall; none where it is of no use
// any more, not even stale.
func (p *policy) worth(b *object, now int64, wall uint32) float64 {
	if b.keep < wall {
		return 0
	}
	return 1 / (p.gap(b, now) * math.Sqrt(float64(max(b.cost, 1))))
}

// evict chooses an object, forgets it and returns it; nil when all are in use.
func (p *policy) evict(now, budget int64) *object {
	p.mu.Lock()
	defer p.mu.Unlock()
	share := budget / probationShare
	p.settle(share, budget-share)
	wall := uint32(time.Now().Unix())
	victim := p.leastWorthy(now, wall)
	if p.probationBytes > share || victim == nil {
		switch b := p.candidate(); {
		case b == nil:
		case victim == nil || p.worth(b, now, wall) <= p.worth(victim, now, wall):
			victim = b
		default:
			p.promote(b)
		}
	}
	if victim != nil {
		p.unlink(victim)
		victim.place = placeGone
	}
	return victim
}

// prefers says whether an object that is not here, but was just asked for, is worth
// so much more than the least worthy of a few residents that it pays to copy it in.
// Without a margin objects that are wanted alike would take turns for ever.
func (p *policy) prefers(key uint64, cost, now int64) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	victim := p.leastWorthy(now, uint32(time.Now().Unix()))
	if victim == nil {
		return true // nobody to compete with
	}
	gap := max(float64(now-p.sketch.since)/float64(max(p.sketch.estimate(key), 1)), 1)
	newcomer := 1 / (gap * math.Sqrt(float64(max(cost, 1))))
	return newcomer > copyMargin*p.worth(victim, now, uint32(time.Now().Unix()))
}

// settle moves objects out of probation unjudged while the main part is far from
// full: at the start there is nobody to compete with. It stops short of full, as
// what slips in later unjudged crowds out what was judged. A few at a time, so
// that no one waits long.
func (p *policy) settle(share, room int64) {
	for range 4 * samples {
		b := p.oldest
		if b == nil || p.probationBytes-b.cost < share || p.mainBytes+b.cost > room/4*3 {
			return
		}
		p.promote(b)
	}
}

// candidate returns the object that has been in probation longest and that
// nobody is reading, or nil.
func (p *policy) candidate() *object {
	b := p.oldest
	for range samples {
		if b == nil || !b.pinned() {
			return b
		}
		b = b.next
	}
	return nil
}

// leastWorthy samples the main part; nil when it is empty or all in use.
func (p *policy) leastWorthy(now int64, wall uint32) (victim *object) {
	if len(p.main) == 0 {
		return nil
	}
	var least float64
	seen := 0
	for range sampleTries {
		b := p.main[p.rng.IntN(len(p.main))]
		if b.pinned() {
			continue
		}
		if w := p.worth(b, now, wall); victim == nil || w < least {
			victim, least = b, w
		}
		if seen++; seen == samples {
			break
		}
	}
	return victim
}

// pinned says whether someone is reading the body: evicting it would free
// nothing now.
func (o *object) pinned() bool { return o.refs.Load() > 1 }
