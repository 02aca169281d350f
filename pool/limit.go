package pool

// limit.go bounds the requests under way, and those that wait for it.

import (
	"container/list"
	"context"
	"sync"
	"time"
)

// limit hands slots out, first come first served.
type limit struct {
	mu      sync.Mutex
	max     int
	queue   int // that may wait
	busy    int
	waiting list.List // of chan struct{}, closed when a slot is handed over
}

func (l *limit) apply(max, queue int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.max, l.queue = max, queue
	for l.busy < l.max && l.waiting.Len() > 0 {
		l.hand()
	}
}

// hand gives a slot to the one that waits longest. Called with mu held.
func (l *limit) hand() {
	l.busy++
	close(l.waiting.Remove(l.waiting.Front()).(chan struct{}))
}

// takeNow gets a slot if there is one.
func (l *limit) takeNow() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	free := l.busy < l.max && l.waiting.Len() == 0
	if free {
		l.busy++
	}
	return free
}

// take gets a slot, or waits for one, but not longer than patience.
func (l *limit) take(ctx context.Context, patience time.Duration, stats *Stats) error {
	l.mu.Lock()
	if l.busy < l.max && l.waiting.Len() == 0 { // one came free just now
		l.busy++
		l.mu.Unlock()
		return nil
	}
	if patience <= 0 || l.waiting.Len() >= l.queue {
		l.mu.Unlock()
		stats.QueueFull.Add(1)
		return ErrQueueFull
	}
	handed := make(chan struct{})
	place := l.waiting.PushBack(handed)
	l.mu.Unlock()
	stats.Queued.Add(1)
	timeout := time.NewTimer(patience)
	defer timeout.Stop()
	var err error
	select {
	case <-handed:
		return nil
	case <-ctx.Done():
		err = ctx.Err()
	case <-timeout.C:
		err = ErrQueueTimeout
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case <-handed: // just now
		if ctx.Err() == nil {
			return nil
		}
		l.release()
	default:
		l.waiting.Remove(place)
	}
	if err == ErrQueueTimeout {
		stats.QueueTimeout.Add(1)
	}
	return err
}

// give gives a slot back.
func (l *limit) give() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.release()
}

// release is called with mu held.
func (l *limit) release() {
	l.busy--
	if l.busy < l.max && l.waiting.Len() > 0 {
		l.hand()
	}
}

func (l *limit) load() (busy, waiting int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.busy, l.waiting.Len()
}
