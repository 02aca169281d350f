package pool

import (
	"sync/atomic"
	"time"
)

// Stats counts since the pool was made. Every field may be read at any time.
type Stats struct {
	Picks             atomic.Uint64 // leases given
	Unavailable       atomic.Uint64 // refused: no endpoint usable
	AllTried          atomic.Uint64 // chosen among all, because too many were unusable
	Queued            atomic.Uint64 // waited for a slot
	QueueFull         atomic.Uint64 // refused: too many waited
	QueueTimeout      atomic.Uint64 // refused: waited too long
	BreakerOpened     atomic.Uint64 // from closed
	BreakerClosed     atomic.Uint64
	Probes            atomic.Uint64
	ProbesFailed      atomic.Uint64
	WentUp, WentDown  atomic.Uint64 // endpoints, by what probes say
	Resolutions       atomic.Uint64 // answers of DNS that were used
	ResolutionsFailed atomic.Uint64
	EndpointsDropped  atomic.Uint64 // beyond what a pool may have
}

// Stats returns the pool's counters.
func (p *Pool) Stats() *Stats { return &p.stats }

// EndpointState is what is known of an endpoint.
type EndpointState struct {
	Address    string
	Weight     int
	Priority   int
	Discovered bool
	Up         bool
	Probed     bool
	ProbeError string // of the last probe; "" if it went well
	Since      time.Time
	Breaker    string
	OpenUntil  time.Time // zero unless the breaker is open
	Active     int
	Requests   uint64
	Failures   uint64
	Latency    time.Duration // peak-sensitive moving average
	Share      float64       // of its weight that it gets, less than 1 in slow start
}

// State is a pool at one instant.
type State struct {
	Policy          string
	Endpoints       []EndpointState
	Active, Waiting int // requests
	Concurrency     int
	Resolved        time.Time // last look-up in DNS; zero without
	NextResolution  time.Time
	ResolutionError string
}

// State returns how the pool is.
func (p *Pool) State() State {
	busy, waiting := p.limit.load()
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	s := State{Policy: p.cfg.Policy, Active: busy, Waiting: waiting, Concurrency: p.cfg.Concurrency,
		Resolved: p.resolved.at, NextResolution: p.resolved.next}
	if p.resolved.err != nil {
		s.ResolutionError = p.resolved.err.Error()
	}
	for _, e := range p.endpoints {
		state := EndpointState{
			Address: e.address, Weight: e.spec.Weight, Priority: e.spec.Priority, Discovered: e.found,
			Up: e.up, Probed: e.probed, ProbeError: e.probeErr, Since: e.since,
			Breaker: e.breaker.state.String(), Active: e.inflight, Requests: e.picks, Failures: e.failures,
			Latency: e.latency.now(now), Share: p.share(now, e) / float64(e.spec.Weight),
		}
		if e.breaker.state == breakerOpen {
			state.OpenUntil = e.breaker.until
		}
		s.Endpoints = append(s.Endpoints, state)
	}
	return s
}
