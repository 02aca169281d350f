package pool

// lease.go is one request under way to an endpoint. Its life:
//
//	Pick --> Observe (the header, or a failure) --> Observe (the body broke off) --> Done
//
// Observe may be left out (the caller gave up) and Done may not.

import (
	"sync/atomic"
	"time"
)

// Lease is a request that an endpoint was chosen for.
type Lease struct {
	pool   *Pool
	e      *endpoint
	tier   int
	trial  bool // counted in the breaker's trials; under pool.mu
	forced bool // its breaker is open, and all are tried
	known  bool // observed; under pool.mu
	done   atomic.Bool
}

// Address is the endpoint's host and port.
func (l *Lease) Address() string { return l.e.address }

// Tier is the endpoint's priority.
func (l *Lease) Tier() int { return l.tier }

// Outcome is what became of a request.
type Outcome struct {
	// Latency until the response's header, or until the failure.
	Latency time.Duration
	// Failed says that the endpoint is to blame.
	Failed bool
	// Answered says that it failed by what it answered, as it may to one URL and not to
	// others. Where it is the only endpoint its breaker does not count that: there is
	// nobody who would answer instead.
	Answered bool
	// Canceled says that the caller gave up: the endpoint is blamed for nothing,
	// but for having been slower than that.
	Canceled bool
}

// Observe tells how it goes: to the breaker, and to what is known of the
// endpoint's latency.
func (l *Lease) Observe(o Outcome) {
	p := l.pool
	p.mu.Lock()
	now := time.Now()
	e := l.e
	if !l.known || o.Failed {
		e.latency.observe(now, o)
	}
	before := e.breaker.state
	if l.trial {
		e.breaker.trials--
	}
	if !o.Canceled {
		if o.Failed {
			e.failures++
		}
		if !l.known || o.Failed {
			e.breaker.observe(now, o.Failed && !(o.Answered && len(p.endpoints) == 1), l.trial || l.forced, &p.cfg.Breaker)
		}
	}
	l.trial, l.known = false, true
	after := e.breaker.state
	if before != breakerClosed && after == breakerClosed {
		e.recovered = now
	}
	p.mu.Unlock()
	if before != after {
		p.turned(e, before, after)
	}
}

// Done ends the lease. It may be called more than once.
func (l *Lease) Done() {
	if l.done.Swap(true) {
		return
	}
	l.pool.mu.Lock()
	l.e.inflight--
	if l.trial {
		l.e.breaker.trials--
		l.trial = false
	}
	l.pool.mu.Unlock()
	l.pool.limit.give()
}

// turned counts and logs what a breaker did.
func (p *Pool) turned(e *endpoint, before, after breakerState) {
	switch {
	case after == breakerOpen && before == breakerClosed:
		p.stats.BreakerOpened.Add(1)
		p.log.Warn("pool: an endpoint fails: its breaker is open", "endpoint", e.address)
	case after == breakerClosed:
		p.stats.BreakerClosed.Add(1)
		p.log.Info("pool: an endpoint answers again: its breaker is closed", "endpoint", e.address)
	}
}
