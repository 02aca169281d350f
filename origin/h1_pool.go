package origin

// h1_pool.go keeps the connections to one endpoint: so many at once and no more,
// the one that was used last first. Who finds none may dial while there is room,
// and else waits in line.
//
//	dialed -> in use <-> resting -> closed (too long, found dead, retired)
//
// mu is held for moments only, never over I/O but for a look at resting sockets.

import (
	"context"
	"slices"
	"sync"
	"time"
)

// sweepMax bounds how long a connection that the origin has closed keeps its place
// while it rests.
const sweepMax = 5 * time.Second

type h1Pool struct {
	cfg   *Config
	stats *Stats
	dial  func(ctx context.Context, client string) (*h1Conn, error)

	mu      sync.Mutex
	resting []*h1Conn // the one used last is last
	open    int       // resting, in use, or being dialed
	line    []*h1Waiter
	retired bool
	sweeper *time.Timer // nil while nothing rests
}

// h1Waiter waits in line. It is given a connection, or nil and a place to dial one.
type h1Waiter struct {
	client string
	given  chan *h1Conn
}

// get returns a connection that can be used, for the exchange of a client whose
// address matters where connections tell it. fresh wants one that is dialed now.
func (p *h1Pool) get(ctx context.Context, client string, fresh bool) (*h1Conn, error) {
	if !fresh {
		if c := p.take(client); c != nil {
			return c, nil
		}
	}
	p.stats.Waiting.Add(1)
	defer p.stats.Waiting.Add(-1)
	within, stop := context.WithTimeout(ctx, p.cfg.DialTimeout)
	defer stop()
	c, err := p.place(within, client, fresh)
	switch {
	case err != nil && ctx.Err() == nil && within.Err() != nil:
		return nil, errorf(KindConnectionLimit, "all %d connections were busy for %v", p.cfg.Connections, p.cfg.DialTimeout)
	case err != nil || c != nil:
		return c, err
	}
	c, err = p.dial(within, client)
	switch {
	case err == nil:
		return c, nil
	case ctx.Err() == nil && within.Err() != nil:
		err = errorf(KindConnectTimeout, "no connection within %v: %w", p.cfg.DialTimeout, err)
	}
	p.leave()
	return nil, err
}

// take returns a resting connection, or nil.
func (p *h1Pool) take(client string) *h1Conn {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.rested(client)
}

// rested is take with mu held.
func (p *h1Pool) rested(client string) *h1Conn {
	for i := len(p.resting) - 1; i >= 0; i-- {
		c := p.resting[i]
		if c.client != client {
			continue
		}
		p.resting = slices.Delete(p.resting, i, i+1)
		return c
	}
	return nil
}

// place returns a connection, or nil and a place to dial one, when there is one or
// the other.
func (p *h1Pool) place(ctx context.Context, client string, fresh bool) (*h1Conn, error) {
	p.mu.Lock()
	if !fresh {
		if c := p.rested(client); c != nil { // it came back since we looked
			p.mu.Unlock()
			return c, nil
		}
	}
	if p.open >= p.cfg.Connections && len(p.resting) > 0 { // of other clients, or older than wanted
		p.discard(0)
	}
	if p.open < p.cfg.Connections {
		p.open++
		p.mu.Unlock()
		return nil, nil
	}
	if most := p.cfg.Connections * waitingPerConnection; len(p.line) >= most {
		p.mu.Unlock()
		return nil, errorf(KindConnectionLimit, "%d requests wait for a connection already", most)
	}
	w := &h1Waiter{client: client, given: make(chan *h1Conn, 1)}
	p.line = append(p.line, w)
	p.mu.Unlock()
	select {
	case c := <-w.given:
		return c, nil
	case <-ctx.Done():
	}
	p.mu.Lock()
	if i := slices.Index(p.line, w); i >= 0 {
		p.line = slices.Delete(p.line, i, i+1)
		p.mu.Unlock()
		return nil, ctx.Err()
	}
	p.mu.Unlock()
	if c := <-w.given; c != nil { // it came at this very moment
		p.put(c)
	} else {
		p.leave()
	}
	return nil, ctx.Err()
}

// put gives a connection back that can be used again.
func (p *h1Pool) put(c *h1Conn) {
	if c.isCut() {
		p.drop(c)
		return
	}
	p.mu.Lock()
	if p.retired {
		p.mu.Unlock()
		p.drop(c)
		return
	}
	if len(p.line) > 0 {
		w := p.line[0]
		if w.client == c.client {
			p.line = slices.Delete(p.line, 0, 1)
			p.mu.Unlock()
			w.given <- c
			return
		}
		p.mu.Unlock()
		p.drop(c) // its place is for who waits
		return
	}
	c.resting = time.Now()
	p.resting = append(p.resting, c)
	if p.sweeper == nil {
		p.sweeper = time.AfterFunc(p.pause(), p.sweep)
	}
	p.mu.Unlock()
}

// drop closes a connection that was in use and lets the next in line have its place.
func (p *h1Pool) drop(c *h1Conn) {
	c.close()
	p.leave()
}

// leave gives a place up.
func (p *h1Pool) leave() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.line) == 0 {
		p.open--
		return
	}
	w := p.line[0]
	p.line = slices.Delete(p.line, 0, 1)
	w.given <- nil
}

// discard closes a resting connection. Called with mu held.
func (p *h1Pool) discard(i int) {
	p.resting[i].close()
	p.resting = slices.Delete(p.resting, i, i+1)
	p.open--
}

func (p *h1Pool) pause() time.Duration {
	return min(max(p.cfg.IdleTimeout/4, time.Millisecond), sweepMax)
}

// sweep closes what has rested for too long and what the origin has closed.
func (p *h1Pool) sweep() {
	p.mu.Lock()
	defer p.mu.Unlock()
	oldest := time.Now().Add(-p.cfg.IdleTimeout)
	for i := len(p.resting) - 1; i >= 0; i-- {
		if c := p.resting[i]; c.resting.Before(oldest) || !c.fresh() {
			p.discard(i)
		}
	}
	p.sweeper = nil
	if len(p.resting) > 0 && !p.retired {
		p.sweeper = time.AfterFunc(p.pause(), p.sweep)
	}
}

// add gives the pool a connection that was dialed elsewhere, if there is room.
func (p *h1Pool) add(c *h1Conn) {
	p.mu.Lock()
	if p.open >= p.cfg.Connections {
		p.mu.Unlock()
		c.close()
		return
	}
	p.open++
	p.mu.Unlock()
	p.put(c)
}

// retire closes what rests; what is in use is closed when it comes back.
func (p *h1Pool) retire() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.retired = true
	for len(p.resting) > 0 {
		p.discard(len(p.resting) - 1)
	}
	if p.sweeper != nil {
		p.sweeper.Stop()
		p.sweeper = nil
	}
}
