package h1

// context.go is the context of a connection's requests without a body.

import (
	"context"
	"sync"
)

// requestsContext tells one at a time of its end without an allocation for each, as
// context.AfterFunc would need.
type requestsContext struct {
	context.Context

	mu   sync.Mutex
	stop func() // nil for none
}

func newRequestsContext(parent context.Context) (*requestsContext, context.CancelFunc) {
	within, cancel := context.WithCancel(parent)
	c := &requestsContext{Context: within}
	context.AfterFunc(within, c.ended)
	return c, cancel
}

// Watch has stop called when the context ends; false where it is another's turn, or
// where the context has ended.
func (c *requestsContext) Watch(stop func()) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stop != nil || c.Err() != nil {
		return false
	}
	c.stop = stop
	return true
}

// Unwatch says whether stop has not been called and will not be.
func (c *requestsContext) Unwatch() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	waits := c.stop != nil
	c.stop = nil
	return waits
}

func (c *requestsContext) ended() {
	c.mu.Lock()
	stop := c.stop
	c.stop = nil
	c.mu.Unlock()
	if stop != nil {
		stop()
	}
}
