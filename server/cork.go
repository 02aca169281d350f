package server

// cork.go gathers what crypto/tls writes record by record, so that a large answer
// leaves in few system calls.

import "sync"

// corkMax is how much is held back at most. Whoever corks writes less at a time.
const corkMax = 256 << 10

// corkBuffers is a table of room, not of state.
var corkBuffers = sync.Pool{New: func() any { b := make([]byte, 0, 64<<10); return &b }}

// cork is what a connection holds back.
type cork struct {
	mu   sync.Mutex
	held *[]byte // nil: nothing is held back
}

// Write implements net.Conn.
func (c *conn) Write(p []byte) (int, error) {
	c.cork.mu.Lock()
	defer c.cork.mu.Unlock()
	held := c.cork.held
	if held == nil {
		return c.Conn.Write(p)
	}
	if *held = append(*held, p...); len(*held) < corkMax {
		return len(p), nil
	}
	_, err := c.Conn.Write(*held)
	*held = (*held)[:0]
	return len(p), err
}

// Cork holds back what is written until Uncork.
func (c *conn) Cork() {
	c.cork.mu.Lock()
	defer c.cork.mu.Unlock()
	if c.cork.held == nil {
		c.cork.held = corkBuffers.Get().(*[]byte)
	}
}

// Uncork sends what was held back.
func (c *conn) Uncork() error {
	c.cork.mu.Lock()
	defer c.cork.mu.Unlock()
	held := c.cork.held
	if held == nil {
		return nil
	}
	c.cork.held = nil
	_, err := c.Conn.Write(*held)
	*held = (*held)[:0]
	corkBuffers.Put(held)
	return err
}
