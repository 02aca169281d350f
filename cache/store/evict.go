package store

import "math"

// Which object is worth the least: one that will not be asked for again soon
// and that takes much room. The time to the next request is guessed from the
// time between the past ones, and room counts by its square root, so that many
// small objects win over one large object that is asked for as often as each.
// All times are in requests served, not in seconds.
const (
	samples     = 16 // residents looked at for one eviction
	idleGaps    = 4  // an object idle for longer has likely died
	sampleTries = 4 * samples
)

// worth of an object that is asked for once in gap requests.
func worth(gap float64, cost int64) float64 {
	return 1 / (max(gap, 1) * math.Sqrt(float64(cost)))
}

// gap of a resident: the mean of its past, or how long it has been idle when
// that is much more.
func (b *body) gap(now int64) float64 {
	last := max(b.last.Load(), b.born)
	mean := float64(last-b.born) / float64(max(b.hits.Load(), 1))
	if idle := float64(now - last); idle > idleGaps*mean {
		return idle
	}
	return mean
}

// newcomerWorth judges an object at the end of probation, whose own past is
// short: the sketch remembers those before it under the same key.
func (p *policy) newcomerWorth(b *body) float64 {
	frequency := max(p.sketch.estimate(b.hash.Lo), 1)
	return worth(float64(p.sketch.window)/float64(frequency), b.cost)
}

// evict chooses an object, forgets it and returns it; nil when all are in use.
func (p *policy) evict(now, budget int64) *body {
	p.mu.Lock()
	defer p.mu.Unlock()
	share := budget / probationShare
	p.settle(share, budget-share)
	victim, least := p.leastWorthy(now)
	if p.probationBytes > share || victim == nil {
		if b := p.candidate(); b != nil {
			if victim == nil || p.newcomerWorth(b) <= least {
				victim = b
			} else {
				p.promote(b)
			}
		}
	}
	if victim != nil {
		p.unlink(victim)
		victim.place = placeGone
	}
	return victim
}

// settle moves objects out of probation while the main part has room for them:
// nobody has to compete before the budget is used. A few at a time, so that no
// one waits long.
func (p *policy) settle(share, room int64) {
	for range 4 * samples {
		b := p.oldest
		if b == nil || p.probationBytes-b.cost < share || p.mainBytes+b.cost > room {
			return
		}
		p.promote(b)
	}
}

// candidate returns the object that has been in probation longest and that
// nobody is reading, or nil.
func (p *policy) candidate() *body {
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
func (p *policy) leastWorthy(now int64) (victim *body, least float64) {
	if len(p.main) == 0 {
		return nil, 0
	}
	seen := 0
	for range sampleTries {
		b := p.main[p.rng.IntN(len(p.main))]
		if b.pinned() {
			continue
		}
		if w := worth(b.gap(now), b.cost); victim == nil || w < least {
			victim, least = b, w
		}
		if seen++; seen == samples {
			break
		}
	}
	return victim, least
}

// pinned says whether someone is reading the body: evicting it would free
// nothing now.
func (b *body) pinned() bool { return b.refs.Load() > 1 }
