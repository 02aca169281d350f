package relay

import (
	"container/heap"
	"context"
	"sync"
	"time"
)

// air holds the packets that are on their way, by the time of their arrival.
type air struct {
	mu      sync.Mutex
	packets arrivals
	wake    chan struct{}
}

type packet struct {
	due     time.Time
	data    []byte
	deliver func([]byte)
}

func openAir(ctx context.Context, running *sync.WaitGroup) *air {
	a := &air{wake: make(chan struct{}, 1)}
	running.Go(func() { a.deliver(ctx) })
	return a
}

// send reports false where too many are on their way.
func (a *air) send(wait time.Duration, data []byte, deliver func([]byte)) bool {
	if wait <= 0 {
		deliver(data)
		return true
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.packets) >= queueMax {
		return false
	}
	heap.Push(&a.packets, packet{time.Now().Add(wait), data, deliver})
	select {
	case a.wake <- struct{}{}:
	default:
	}
	return true
}

func (a *air) deliver(ctx context.Context) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		next := time.Hour
		a.mu.Lock()
		for len(a.packets) > 0 {
			if next = time.Until(a.packets[0].due); next > 0 {
				break
			}
			p := heap.Pop(&a.packets).(packet)
			a.mu.Unlock()
			p.deliver(p.data)
			a.mu.Lock()
			next = time.Hour
		}
		a.mu.Unlock()
		timer.Reset(next)
		select {
		case <-timer.C:
		case <-a.wake:
		case <-ctx.Done():
			return
		}
	}
}

// arrivals is a heap, the next first.
type arrivals []packet

func (h arrivals) Len() int           { return len(h) }
func (h arrivals) Less(i, j int) bool { return h[i].due.Before(h[j].due) }
func (h arrivals) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }

// Push adds what heap.Push says.
func (h *arrivals) Push(x any) { *h = append(*h, x.(packet)) }

// Pop takes the last.
func (h *arrivals) Pop() any {
	old := *h
	last := old[len(old)-1]
	old[len(old)-1] = packet{}
	*h = old[:len(old)-1]
	return last
}
