package origin

// hedge.go sends a safe request to a second endpoint when the first takes longer
// than most do, takes what comes first, and calls the other back (Dean and Barroso,
// "The Tail at Scale", 2013). The second counts against the budget of retries.

import (
	"context"
	"net/http"
	"sync"
	"time"
)

// mayHedge says whether the request may be at two endpoints at once.
func (c *call) mayHedge() bool {
	return c.up.cfg.Hedging.Enabled && c.tape == nil && !c.has("upgrade") &&
		(c.Method == http.MethodGet || c.Method == http.MethodHead)
}

// hedged is a first try and, if it is late, a second beside it. It returns the
// better of the two.
func (c *call) hedged() *try {
	one := c.begin(c.hint)
	if one.err != nil {
		return one
	}
	delay, ok := c.up.delays.late(time.Now())
	if !ok || !c.up.pool.Spare(c.hint.Avoid) {
		c.send(one)
		return one
	}
	one.detach()
	back := make(chan *try, 2) // both find room, whoever still listens
	go c.fly(one, back)
	timer := time.NewTimer(max(delay, c.up.cfg.Hedging.DelayMin))
	defer timer.Stop()
	select {
	case t := <-back:
		return t
	case <-timer.C:
	}
	two := c.second()
	if two == nil {
		return <-back
	}
	c.up.stats.Hedges.Add(1)
	go c.fly(two, back)
	won := <-back
	lost := one
	if won == one {
		lost = two
	}
	if c.good(won) {
		lost.cancel()
		go func() { (<-back).discard() }() // it returns soon: its context has ended
	} else {
		<-back
		if c.good(lost) || won.err != nil {
			won, lost = lost, won
		}
		lost.discard()
	}
	if won == two && c.good(won) {
		c.up.stats.HedgesWon.Add(1)
	}
	return won
}

// second picks another endpoint, nil if there is none or no budget.
func (c *call) second() *try {
	if !c.up.budget.take(time.Now()) {
		c.up.stats.RetriesRefused[RefusedBudget].Add(1)
		return nil
	}
	hint := c.hint
	hint.Only, hint.Steady = true, true // two trials at once would prove nothing
	t := c.begin(hint)
	if t.err != nil {
		c.up.budget.giveBack(time.Now())
		return nil
	}
	t.detach()
	return t
}

// detach gives the try a context of its own.
func (t *try) detach() { t.ctx, t.cancel = context.WithCancel(t.ctx) }

func (c *call) fly(t *try, back chan<- *try) {
	c.send(t)
	back <- t
}

// delays knows how long responses' headers take, in buckets that grow by a quarter,
// for the last ten to twenty seconds.
type delays struct {
	mu       sync.Mutex
	at       time.Time
	now, old [delayBuckets]uint32
	n, oldN  uint32
}

const (
	delayBuckets = 80 // from 100 µs to more than an hour
	delayFirst   = 100 * time.Microsecond
	delaySpan    = 10 * time.Second
	// delaySamples is how many there must be before anything is said of them.
	delaySamples = 20
	latePercent  = 95
)

func (d *delays) turn(now time.Time) {
	switch age := now.Sub(d.at); {
	case age < delaySpan:
		return
	case age < 2*delaySpan:
		d.old, d.oldN = d.now, d.n
	default:
		d.old, d.oldN = [delayBuckets]uint32{}, 0
	}
	d.now, d.n, d.at = [delayBuckets]uint32{}, 0, now
}

func (d *delays) observe(now time.Time, took time.Duration) {
	i := 0
	for bound := delayFirst; i < delayBuckets-1 && took > bound; i++ {
		bound += bound / 4
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.turn(now)
	d.now[i]++
	d.n++
}

// late returns the time within which 95 % of responses came.
func (d *delays) late(now time.Time) (time.Duration, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.turn(now)
	total := d.n + d.oldN
	if total < delaySamples {
		return 0, false
	}
	seen := uint32(0)
	bound := delayFirst
	for i := range d.now {
		if seen += d.now[i] + d.old[i]; uint64(seen)*100 >= uint64(total)*latePercent {
			break
		}
		bound += bound / 4
	}
	return bound, true
}
