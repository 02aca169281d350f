package pool

// health.go watches over one endpoint by probes: some in a row take it down, some in
// a row bring it up. The first one decides alone.

import (
	"context"
	"math/rand/v2"
	"time"
)

// firstProbe bounds the wait for the first probe, which is random so that not all
// endpoints are probed at once.
const firstProbe = time.Second

// watch probes until ctx ends.
func (p *Pool) watch(ctx context.Context, e *endpoint) {
	p.mu.Lock()
	h := p.cfg.Health
	p.mu.Unlock()
	pause := rand.N(min(h.Interval, firstProbe))
	for {
		select {
		case <-ctx.Done():
			p.unwatched(e)
			return
		case <-time.After(pause):
		}
		p.mu.Lock()
		probe := p.cfg.Probe.by(h)
		p.mu.Unlock()
		start := time.Now()
		err := probe.Check(ctx, e.address)
		if ctx.Err() != nil {
			continue
		}
		p.probed(e, err, &h)
		pause = max(0, jitter(h.Interval)-time.Since(start))
	}
}

// unwatched forgets what probes said, which nobody will correct any more.
func (p *Pool) unwatched(e *endpoint) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !e.up {
		e.up, e.since = true, time.Now()
	}
	e.probed, e.row, e.probeErr = false, 0, ""
}

// probed takes the result of a probe.
func (p *Pool) probed(e *endpoint, err error, h *Health) {
	p.stats.Probes.Add(1)
	if err != nil {
		p.stats.ProbesFailed.Add(1)
	}
	p.mu.Lock()
	first := !e.probed
	e.probed, e.probeErr = true, ""
	if err != nil {
		e.probeErr = err.Error()
	}
	if (err == nil) == e.up {
		e.row = 0
		p.mu.Unlock()
		return
	}
	e.row++
	need := h.Fall
	if !e.up {
		need = h.Rise
	}
	if e.row < need && !first {
		p.mu.Unlock()
		return
	}
	now := time.Now()
	e.up, e.since, e.row = err == nil, now, 0
	up := e.up
	if up {
		e.recovered = now
		e.breaker.until = now // a trial at once, where the breaker is open
	}
	p.mu.Unlock()
	if up {
		p.stats.WentUp.Add(1)
		p.log.Info("pool: an endpoint is up again", "endpoint", e.address)
	} else {
		p.stats.WentDown.Add(1)
		p.log.Warn("pool: an endpoint is down", "endpoint", e.address, "err", err)
	}
}
