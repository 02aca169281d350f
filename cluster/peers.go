package cluster

// A stream to each peer. Both sides of a pair may dial, so that one firewall does
// not keep them apart; of two streams the one lives that the node with the smaller
// name has dialled, which both sides know, and of two such ones the newer. The
// other side waits before it dials, so that there is seldom a second one.

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"time"
)

const (
	stewardInterval = 250 * time.Millisecond
	yieldDelay      = time.Second // of the node with the larger name
	dialBackoffMin  = 250 * time.Millisecond
	dialBackoffMax  = 5 * time.Second
	suspectNever    = 5 * time.Second // without any stream since it joined
	unheardDelay    = 2 * time.Second // without any stream, before it may be that the peer has not heard of us
)

// peers is the streams there are.
type peers struct {
	mu      sync.Mutex
	streams map[string]*stream
	dials   map[string]*dialling
	running sync.WaitGroup
}

// dialling is how reaching a peer goes.
type dialling struct {
	under   bool
	next    time.Time
	backoff time.Duration
	since   time.Time // without a stream
	asked   bool      // since then joinRound has been asked to tell the peer of us
}

// unheard says whether the peer may not know this node, so that it refuses its
// streams. Gossip tells of a new node a few times, to a few each time: in one of ten
// starts of eight nodes at once, some node hears of another only by memberlist's next
// exchange of all that is known, half a minute later.
func (d *dialling) unheard(now time.Time) bool {
	return !d.since.IsZero() && now.Sub(d.since) >= unheardDelay
}

// unheardBy returns the peers that may not know this node.
func (c *Cluster) unheardBy(now time.Time) map[string]bool {
	c.peers.mu.Lock()
	defer c.peers.mu.Unlock()
	all := make(map[string]bool)
	for name, d := range c.peers.dials {
		if d.unheard(now) {
			all[name] = true
		}
	}
	return all
}

// stream returns the one to a node that is up.
func (c *Cluster) stream(node string) *stream {
	c.peers.mu.Lock()
	defer c.peers.mu.Unlock()
	if s := c.peers.streams[node]; s != nil && s.up() {
		return s
	}
	return nil
}

// allStreams returns those that are up.
func (c *Cluster) allStreams() []*stream {
	c.peers.mu.Lock()
	defer c.peers.mu.Unlock()
	all := make([]*stream, 0, len(c.peers.streams))
	for _, s := range c.peers.streams {
		if s.up() {
			all = append(all, s)
		}
	}
	return all
}

// reach dials the peers that want it.
func (c *Cluster) reach(ctx context.Context, now time.Time) {
	type target struct {
		name string
		to   netip.AddrPort
	}
	var targets []target
	c.mu.RLock()
	for _, m := range c.members {
		if m.Status == Alive && m.Address.IsValid() {
			targets = append(targets, target{m.Name, m.Address})
		}
	}
	c.mu.RUnlock()
	c.peers.mu.Lock()
	defer c.peers.mu.Unlock()
	wanted := make(map[string]bool, len(targets))
	for _, t := range targets {
		wanted[t.name] = true
	}
	maps.DeleteFunc(c.peers.dials, func(name string, d *dialling) bool { return !d.under && !wanted[name] })
	for _, t := range targets {
		d := c.peers.dials[t.name]
		if d == nil {
			d = &dialling{since: now}
			c.peers.dials[t.name] = d
		}
		if c.peers.streams[t.name] != nil {
			d.since = time.Time{}
			continue
		}
		if d.since.IsZero() {
			d.since, d.asked, d.backoff, d.next = now, false, 0, now
		}
		if d.unheard(now) && !d.asked {
			d.asked = true
			poke(c.rejoin)
		}
		if d.under || now.Before(d.next) || c.cfg.Name > t.name && now.Sub(d.since) < yieldDelay {
			continue
		}
		d.under = true
		c.peers.running.Go(func() { c.dial(ctx, t.name, t.to) })
	}
}

// dial makes a stream to a peer and serves it to its end.
func (c *Cluster) dial(ctx context.Context, name string, to netip.AddrPort) {
	s, guard, err := c.connect(ctx, name, to)
	c.peers.mu.Lock()
	if d := c.peers.dials[name]; d != nil {
		d.under = false
		d.backoff = min(max(2*d.backoff, dialBackoffMin), dialBackoffMax)
		d.next = time.Now().Add(d.backoff/2 + rand.N(d.backoff))
	}
	c.peers.mu.Unlock()
	if err != nil {
		if ctx.Err() == nil {
			c.log.Debug("no stream", "peer", name, "address", to, "err", err)
		}
		return
	}
	c.serve(ctx, s, guard)
}

func (c *Cluster) connect(ctx context.Context, name string, to netip.AddrPort) (*stream, *guarded, error) {
	ctx, cancel := context.WithTimeout(ctx, handshakeTimeout)
	defer cancel()
	raw, err := c.door.network.dial(ctx, c.door.local, to)
	if err != nil {
		return nil, nil, err
	}
	guard := &guarded{Conn: raw, stats: &c.stats}
	conn := tls.Client(guard, c.trust.config())
	signer, err := c.shake(ctx, conn, func(got string) error {
		if got != name {
			return fmt.Errorf("cluster: the node there is %s, not %s", got, name)
		}
		return nil
	})
	if err != nil {
		raw.Close()
		return nil, nil, err
	}
	return newStream(conn, name, signer, true, &c.stats), guard, nil
}

// shake does the handshake and has somebody look at the peer's name.
func (c *Cluster) shake(ctx context.Context, conn *tls.Conn, look func(name string) error) (*authority, error) {
	err := conn.HandshakeContext(ctx)
	var name string
	var signer *authority
	if err == nil {
		name, signer, err = c.trust.verify(conn.ConnectionState())
	}
	if err == nil {
		err = look(name)
	}
	if err != nil && !errors.Is(err, context.Canceled) {
		c.stats.StreamsRefused.Add(1)
	}
	return signer, err
}

// accept takes a connection that a peer has dialled.
func (c *Cluster) accept(ctx context.Context, raw *doorConn) {
	defer raw.Close()
	limited, cancel := context.WithTimeout(ctx, handshakeTimeout)
	defer cancel()
	guard := &guarded{Conn: raw, stats: &c.stats}
	conn := tls.Server(guard, c.trust.config())
	var name string
	signer, err := c.shake(limited, conn, func(got string) error {
		name = got
		c.mu.RLock()
		defer c.mu.RUnlock()
		if c.members[got] == nil { // it dials again when gossip has told us
			return fmt.Errorf("cluster: %s is no member", got)
		}
		return nil
	})
	if err != nil {
		c.log.Debug("stream refused", "from", raw.RemoteAddr(), "err", err)
		return
	}
	raw.gone() // no stranger any more
	c.serve(ctx, newStream(conn, name, signer, false, &c.stats), guard)
}

// serve runs a stream to its end.
func (c *Cluster) serve(ctx context.Context, s *stream, guard *guarded) {
	defer s.conn.NetConn().Close()
	guard.SetDeadline(time.Time{})
	guard.armed.Store(true)
	if !c.adopt(s) {
		return
	}
	defer context.AfterFunc(ctx, s.close)()
	c.stats.StreamsOpened.Add(1)
	s.say(c.heartbeat())
	var writer sync.WaitGroup
	writer.Go(s.write)
	err := s.read(guard, func(f frame) error { return c.take(s, f) })
	writer.Wait()
	c.release(s)
	if ctx.Err() == nil && !errors.Is(err, net.ErrClosed) {
		level := c.log.Info
		if errors.Is(err, io.EOF) {
			level = c.log.Debug
		}
		level("stream ended", "peer", s.peer, "err", err)
	}
}

// adopt makes it the stream to its peer, unless there is one that wins.
func (c *Cluster) adopt(s *stream) bool {
	c.peers.mu.Lock()
	defer c.peers.mu.Unlock()
	if old := c.peers.streams[s.peer]; old != nil {
		if old.byUs != s.byUs && old.byUs == (c.cfg.Name < s.peer) {
			return false
		}
		old.close()
	}
	c.peers.streams[s.peer] = s
	return true
}

func (c *Cluster) release(s *stream) {
	c.peers.mu.Lock()
	defer c.peers.mu.Unlock()
	if c.peers.streams[s.peer] == s {
		delete(c.peers.streams, s.peer)
	}
}

// take handles a frame of a peer.
func (c *Cluster) take(s *stream, f frame) error {
	switch {
	case f.kind == kindHeartbeat:
		h, err := decodeHeartbeat(f.payload)
		if err != nil {
			return err
		}
		c.heardFrom(s, h)
	case f.kind == kindFacts:
		isNew, err := c.facts.merge(f.payload)
		if err != nil {
			return err
		}
		if isNew && f.flags&flagBroadcast != 0 {
			c.gossip(kindFacts, s.peer, f.payload)
		}
	case f.kind >= KindMin && c.handlers[f.kind] != nil:
		if c.handlers[f.kind](s.peer, f.payload) && f.flags&flagBroadcast != 0 {
			c.gossip(f.kind, s.peer, f.payload)
		}
	default: // of a later version: not for us
	}
	return nil
}

// heardFrom notes what a heartbeat says.
func (c *Cluster) heardFrom(s *stream, h heartbeat) {
	now := time.Now()
	s.boot.Store(h.boot)
	if c.facts.differs(s.peer, h.facts, now) {
		c.stats.FactsExchanged.Add(1)
		for _, part := range c.facts.parts() {
			_ = s.send(appendFrame(nil, 0, kindFacts, part)) // the next heartbeat tells whether it was enough
		}
	}
	agreed := h.facts == c.facts.sum()
	c.mu.Lock()
	defer c.mu.Unlock()
	m := c.members[s.peer]
	if m == nil {
		return
	}
	if agreed { // now was before the sum: whoever waits for a fact waits too long rather than too short
		m.Agreed = now
	}
	m.Heard, m.ReportAt, m.Report, m.Skew = now, now, h.report, h.sent.Sub(now)
	if h.boot >= m.Boot {
		m.Boot, m.Phase = h.boot, h.phase
	}
}

// dropUntrusted ends the streams of peers whose certificates are of a secret that
// is none of ours any more.
func (c *Cluster) dropUntrusted() {
	c.peers.mu.Lock()
	defer c.peers.mu.Unlock()
	for _, s := range c.peers.streams {
		if !c.trust.trusts(s.signer) {
			s.close()
		}
	}
}
