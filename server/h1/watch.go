package h1

// watch.go notices that a client goes away while a handler works.

import (
	"context"
	"errors"
	"os"
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

	// Guarded by the connection's looking.
	begun   bool
	done    chan struct{} // closed when nobody reads; nil before the timer has fired
	stopped bool
}

func (w *watch) start() {
	c := w.c
	c.looking.Lock()
	defer c.looking.Unlock()
	if w.stopped || w.begun {
		return
	}
	w.begun, c.watched = true, w
	if c.look == nil {
		c.look = time.AfterFunc(watchAfter, c.lookOut)
	} else {
		c.look.Reset(watchAfter)
	}
}

// lookOut is the timer's. It may come late, for the next watch; that looks early then.
func (c *conn) lookOut() {
	c.looking.Lock()
	w := c.watched
	c.watched = nil
	if w == nil {
		c.looking.Unlock()
		return
	}
	w.done = make(chan struct{})
	c.readBy(time.Time{})
	c.looking.Unlock()
	defer close(w.done)
	for c.makeRoom(inBytes) == nil { // else so much is waiting that nobody looks further
		err := c.read()
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return
		}
		if err != nil {
			c.gone = true
			c.engine.stats.ClientsGone.Add(1)
			w.gone()
			return
		}
	}
}

// stop ends the watch; the connection's input is the caller's again.
func (w *watch) stop() {
	c := w.c
	c.looking.Lock()
	if c.watched == w {
		c.watched = nil
		c.look.Stop()
	}
	w.stopped = true
	done := w.done
	c.looking.Unlock()
	if done == nil {
		return
	}
	c.readBy(time.Unix(1, 0)) // wakes it
	<-done
	c.readBy(time.Time{})
}
