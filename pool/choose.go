package pool

// choose.go decides who gets a request: who may, then by the policy.

import (
	"math"
	"math/rand/v2"
	"slices"
	"time"
)

// endpoint is what is known of one address. All but the address is guarded by the
// pool's lock.
type endpoint struct {
	address  string
	spec     Endpoint
	found    bool // by DNS
	inflight int
	picks    uint64
	failures uint64
	current  int64 // of smooth round robin
	latency  latency
	breaker  breaker

	up        bool // what probes say
	probed    bool
	since     time.Time // of up, or of the endpoint
	row       int       // probes in a row that say otherwise
	probeErr  string
	recovered time.Time // slow start from here; zero for none
}

// way is how an endpoint came to be chosen.
type way uint8

const (
	wayClosed way = iota
	wayTrial      // its breaker lets a trial through
	wayForced     // its breaker is open, and all are tried
)

// candidates returns who may be asked, of one tier, in a slice that the next call
// uses again. all says that more of the pool is unusable than may be believed.
// Called with mu held.
func (p *Pool) candidates(now time.Time, hint Hint) (list []*endpoint, all bool) {
	out := 0
	for _, e := range p.endpoints {
		if !e.up || e.breaker.state != breakerClosed {
			out++
		}
	}
	all = out*100 > p.cfg.Breaker.OpenShare*len(p.endpoints)
	list = p.tier(now, hint, all, false)
	if len(list) == 0 && !hint.Only && len(hint.Avoid) > 0 {
		list = p.tier(now, hint, all, true)
	}
	return list, all
}

// tier returns those of the lowest tier that has any. Called with mu held.
func (p *Pool) tier(now time.Time, hint Hint, all, again bool) []*endpoint {
	list, lowest := p.scratch[:0], math.MaxInt
	for _, e := range p.endpoints {
		if e.spec.Priority > lowest || !again && slices.Contains(hint.Avoid, e.address) {
			continue
		}
		if !all && (!e.up || e.breaker.state != breakerClosed && !e.breaker.due(now, &p.cfg.Breaker)) {
			continue
		}
		if e.spec.Priority < lowest {
			list, lowest = list[:0], e.spec.Priority
		}
		list = append(list, e)
	}
	p.scratch = list
	return list
}

// choose picks an endpoint, nil if there is none. One that is due for a trial comes
// first: the policy alone might never ask it again. Called with mu held.
func (p *Pool) choose(now time.Time, hint Hint) (*endpoint, way) {
	list, all := p.candidates(now, hint)
	if len(list) == 0 {
		return nil, wayClosed
	}
	if all {
		p.stats.AllTried.Add(1)
		e := p.policy(now, hint, list)
		if e.breaker.state != breakerClosed {
			return e, wayForced
		}
		return e, wayClosed
	}
	closed := list[:0:0]
	for _, e := range list {
		switch {
		case e.breaker.state == breakerClosed:
			closed = append(closed, e)
		case !hint.Steady:
			e.breaker.admit()
			return e, wayTrial
		}
	}
	if len(closed) == 0 { // a steady one, and nobody is
		list[0].breaker.admit()
		return list[0], wayTrial
	}
	return p.policy(now, hint, closed), wayClosed
}

// policy picks one of a list. Called with mu held.
func (p *Pool) policy(now time.Time, hint Hint, list []*endpoint) *endpoint {
	if len(list) == 1 {
		return list[0]
	}
	switch p.cfg.Policy {
	case PolicyRoundRobin:
		return p.roundRobin(now, list)
	case PolicyLeastConnections:
		return p.leastConnections(now, list)
	case PolicyMaglev:
		return p.byHash(now, hint.Hash, list)
	}
	return p.ewma(now, list)
}

// slowest is the share of its weight that an endpoint begins with.
const slowest = 0.1

// share is the weight that an endpoint has now: less than its own while it is new
// or has just recovered.
func (p *Pool) share(now time.Time, e *endpoint) float64 {
	weight := float64(e.spec.Weight)
	if e.recovered.IsZero() {
		return weight
	}
	age := now.Sub(e.recovered)
	if age >= p.cfg.SlowStart {
		e.recovered = time.Time{}
		return weight
	}
	return weight * max(slowest, float64(age)/float64(p.cfg.SlowStart))
}

// roundRobin is smooth: an endpoint of weight 5 beside two of weight 1 gets
// a a b a c a a, not a a a a a b c. Each gains its weight, the richest is chosen
// and pays what all have gained.
func (p *Pool) roundRobin(now time.Time, list []*endpoint) *endpoint {
	var best *endpoint
	total := int64(0)
	for _, e := range list {
		gain := int64(p.share(now, e)*1000 + 0.5)
		e.current += gain
		total += gain
		if best == nil || e.current > best.current {
			best = e
		}
	}
	best.current -= total
	return best
}

// leastConnections takes the one with the fewest requests under way for its weight,
// any of them where several are.
func (p *Pool) leastConnections(now time.Time, list []*endpoint) *endpoint {
	var best *endpoint
	lowest, ties := math.Inf(1), 0
	for _, e := range list {
		load := float64(e.inflight+1) / p.share(now, e)
		switch {
		case load < lowest:
			best, lowest, ties = e, load, 1
		case load == lowest:
			if ties++; rand.IntN(ties) == 0 {
				best = e
			}
		}
	}
	return best
}

// ewma takes the cheaper of two that are drawn by weight: not all nodes run to the
// one that is best at the moment.
func (p *Pool) ewma(now time.Time, list []*endpoint) *endpoint {
	total := 0.0
	for _, e := range list {
		total += p.share(now, e)
	}
	a := p.draw(now, list, total, nil)
	b := p.draw(now, list, total-p.share(now, a), a)
	if b.latency.cost(now, b.inflight) < a.latency.cost(now, a.inflight) {
		return b
	}
	return a
}

// draw picks one by weight, not the one given. total is the weight of the others.
func (p *Pool) draw(now time.Time, list []*endpoint, total float64, not *endpoint) *endpoint {
	x := rand.Float64() * total
	var last *endpoint
	for _, e := range list {
		if e == not {
			continue
		}
		if last = e; x < p.share(now, e) {
			break
		}
		x -= p.share(now, e)
	}
	return last
}

// latency is a moving average that jumps up to a peak at once and comes down
// slowly: the average of what an endpoint was, the worst of what it is.
type latency struct {
	value time.Duration
	at    time.Time
}

const (
	// latencyTau is the time in which what was seen loses 63 % of its say.
	latencyTau = 10 * time.Second
	// failurePenalty is the latency that a failure counts as, at the least: an
	// endpoint that fails at once is not a fast one.
	failurePenalty = time.Second
	// unknownPenalty is the cost of each request under way to an endpoint of which
	// nothing is known: one is worth a try, not all.
	unknownPenalty = 100 * time.Millisecond
)

func (l *latency) now(now time.Time) time.Duration {
	return time.Duration(float64(l.value) * math.Exp(-max(0, now.Sub(l.at).Seconds())/latencyTau.Seconds()))
}

func (l *latency) observe(now time.Time, o Outcome) {
	old := l.now(now)
	seen := o.Latency
	if o.Failed {
		seen = max(seen, failurePenalty)
	}
	switch {
	case l.at.IsZero() || seen >= old:
		l.value = seen // a peak
	case o.Canceled:
		return // it says that the latency is more than seen, and so it is
	default:
		// What has decayed since the last look makes room for what is seen.
		w := math.Exp(-now.Sub(l.at).Seconds() / latencyTau.Seconds())
		l.value = time.Duration(float64(l.value)*w + float64(seen)*(1-w))
	}
	l.at = now
}

// cost of another request beside those under way.
func (l *latency) cost(now time.Time, inflight int) float64 {
	if l.at.IsZero() {
		return float64(unknownPenalty) * float64(inflight)
	}
	return float64(l.now(now)) * float64(inflight+1)
}
