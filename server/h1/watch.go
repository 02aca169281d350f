package h1

// watch.go notices that a client goes away while a handler works.

import (
	"context"
	"errors"
	"os"
	"sync"
	"time"
)

// watchAfter is how long a handler may work before somebody looks: most are done
// by then.
const watchAfter = 10 * time.Millisecond

// watch reads ahead once the body of a request has ended. What comes is kept for
// the next request; the end of the connection ends the request's context.
type watch struct {
	c    *conn
	gone context.CancelFunc

	mu      sync.Mutex // guards what follows
	timer   *time.Timer
	done    chan struct{} // closed when nobody reads; nil before the timer has fired
	stopped bool
}

func (w *watch) start() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.stopped && w.timer == nil {
		w.timer = time.AfterFunc(watchAfter, w.run)
	}
}

func (w *watch) run() {
	w.mu.Lock()
	if w.stopped {
		w.mu.Unlock()
		return
	}
	w.done = make(chan struct{})
	w.c.readBy(time.Time{})
	w.mu.Unlock()
	defer close(w.done)
	for w.c.makeRoom(inBytes) == nil { // else so much is waiting that nobody looks further
		err := w.c.read()
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return
		}
		if err != nil {
			w.c.gone = true
			w.c.engine.stats.ClientsGone.Add(1)
			w.gone()
			return
		}
	}
}

// stop ends the watch; the connection's input is the caller's again.
func (w *watch) stop() {
	w.mu.Lock()
	w.stopped = true
	done := w.done
	if w.timer != nil {
		w.timer.Stop()
	}
	w.mu.Unlock()
	if done == nil {
		return
	}
	w.c.readBy(time.Unix(1, 0)) // wakes it
	<-done
	w.c.readBy(time.Time{})
}
