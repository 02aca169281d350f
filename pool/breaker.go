package pool

// breaker.go is the circuit breaker of one endpoint:
//
//	closed --failures in a row, or a share of them--> open --time--> half-open
//	   ^                                               ^  (longer each time) |
//	   |                                               +----a trial fails----+
//	   +--------------------------trials succeed-----------------------------+
//
// It is not a library's because it shares the pool's lock and is asked by the
// choice: how many of the pool are open, who is due for a trial.

import (
	"math/rand/v2"
	"time"
)

type breakerState uint8

const (
	breakerClosed breakerState = iota
	breakerOpen
	breakerHalfOpen
)

// breakerNames are the states' names in snapshots and metrics.
var breakerNames = [...]string{"closed", "open", "half-open"}

func (s breakerState) String() string { return breakerNames[s] }

// breaker is guarded by its pool's lock. The zero value is closed.
type breaker struct {
	state  breakerState
	row    int       // failures in a row while closed
	window window    // while closed
	until  time.Time // open: when the first trial may begin
	times  int       // opened in a row, without a time closed between
	trials int       // let through and not yet judged
	passed int       // trials that succeeded
}

// due says whether a request may go through as a trial.
func (b *breaker) due(now time.Time, cfg *Breaker) bool {
	switch b.state {
	case breakerOpen:
		return !now.Before(b.until) && b.trials < cfg.Trials
	case breakerHalfOpen:
		return b.trials < cfg.Trials
	}
	return false
}

// admit lets a trial through, which due allowed.
func (b *breaker) admit() {
	if b.state == breakerOpen {
		b.state, b.passed = breakerHalfOpen, 0
	}
	b.trials++
}

// observe judges the outcome of a request. One that began while the breaker was
// closed and ends after it has opened says nothing new: trial marks those that were
// let through since.
func (b *breaker) observe(now time.Time, failed, trial bool, cfg *Breaker) {
	if cfg.Off {
		*b = breaker{trials: b.trials}
		return
	}
	switch b.state {
	case breakerClosed:
		b.window.add(now, cfg.Window, failed)
		if !failed {
			b.row = 0
			return
		}
		b.row++
		total, bad := b.window.sum(now, cfg.Window)
		if b.row >= cfg.Consecutive || total >= cfg.Requests && bad*100 >= total*cfg.Ratio {
			b.open(now, cfg)
		}
	default:
		switch {
		case !trial: // it began before the breaker opened
		case !failed:
			if b.passed++; b.passed >= cfg.Trials {
				*b = breaker{trials: b.trials}
			}
		case b.state == breakerHalfOpen:
			b.open(now, cfg)
		default: // one of all that are tried
			b.passed = 0
		}
	}
}

// open opens the breaker, for longer each time, and not for all nodes and endpoints
// the same.
func (b *breaker) open(now time.Time, cfg *Breaker) {
	d := cfg.Open
	for range b.times {
		if d *= 2; d >= cfg.OpenMax {
			d = cfg.OpenMax
			break
		}
	}
	b.state, b.row, b.passed, b.window = breakerOpen, 0, 0, window{}
	b.times = min(b.times+1, 32)
	b.until = now.Add(jitter(d))
}

// jitter returns d give or take a fifth.
func jitter(d time.Duration) time.Duration {
	return d*4/5 + rand.N(d*2/5+1)
}

// window counts outcomes in ten slices of time.
type window struct {
	slices [10]struct{ total, failed int }
	last   int64 // number of the newest slice since the epoch
}

// turn forgets what is older than the window.
func (w *window) turn(now time.Time, length time.Duration) int64 {
	n := now.UnixNano() / max(int64(length)/int64(len(w.slices)), 1)
	if n-w.last >= int64(len(w.slices)) {
		*w = window{last: n}
	}
	for ; w.last < n; w.last++ {
		w.slices[(w.last+1)%int64(len(w.slices))] = struct{ total, failed int }{}
	}
	return n
}

func (w *window) add(now time.Time, length time.Duration, failed bool) {
	s := &w.slices[w.turn(now, length)%int64(len(w.slices))]
	s.total++
	if failed {
		s.failed++
	}
}

func (w *window) sum(now time.Time, length time.Duration) (total, failed int) {
	w.turn(now, length)
	for _, s := range w.slices {
		total += s.total
		failed += s.failed
	}
	return total, failed
}
