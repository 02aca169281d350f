package origin

// budget.go bounds what we add to an origin's load: retries and hedges together may
// be a share of the requests of the last ten seconds, and a few where there are few
// requests. An origin that fails as a whole gets 1.2 times its load, not three times.

import (
	"sync"
	"time"
)

type budget struct {
	mu      sync.Mutex
	percent int
	floor   int // in a window, whatever the load
	slices  [budgetSlices]struct{ requests, extra int }
	last    int64
}

const (
	budgetSlices = 10
	budgetSlice  = time.Second
)

func (b *budget) apply(percent, floor int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.percent, b.floor = percent, floor
}

// slice returns the newest slice. Called with mu held.
func (b *budget) slice(now time.Time) *struct{ requests, extra int } {
	n := now.UnixNano() / int64(budgetSlice)
	if n-b.last >= budgetSlices {
		b.slices, b.last = [budgetSlices]struct{ requests, extra int }{}, n
	}
	for ; b.last < n; b.last++ {
		b.slices[(b.last+1)%budgetSlices] = struct{ requests, extra int }{}
	}
	return &b.slices[b.last%budgetSlices]
}

func (b *budget) request(now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.slice(now).requests++
}

// take asks for one request more than was asked for.
func (b *budget) take(now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.slice(now)
	requests, extra := 0, 0
	for i := range b.slices {
		requests += b.slices[i].requests
		extra += b.slices[i].extra
	}
	if extra >= max(b.floor, requests*b.percent/100) {
		return false
	}
	s.extra++
	return true
}

func (b *budget) giveBack(now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if s := b.slice(now); s.extra > 0 {
		s.extra--
	}
}
