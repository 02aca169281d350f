package dnsgeo

// DNS over TCP (RFC 7766): what was truncated is fetched here. A connection
// costs a goroutine and a few KiB, so that there are bounds: of all, of one
// address, of queries on one, and of the time that one takes.

import (
	"bufio"
	"context"
	"encoding/binary"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"
)

// conns counts the open connections.
type conns struct {
	mu   sync.Mutex
	open int
	by   map[netip.Addr]int // never more entries than connections
}

// enter takes a place, if there is one. Of IPv6 a whole network of a customer's
// counts as one address.
func (c *conns) enter(from netip.Addr, limits *Limits) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.open >= limits.Connections || c.by[from] >= limits.ConnectionsPerAddress {
		return false
	}
	if c.by == nil {
		c.by = make(map[netip.Addr]int)
	}
	c.open++
	c.by[from]++
	return true
}

func (c *conns) leave(from netip.Addr) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.open--
	if c.by[from]--; c.by[from] == 0 {
		delete(c.by, from)
	}
}

// Connections is how many of TCP are open.
func (r *Responder) Connections() int {
	r.conns.mu.Lock()
	defer r.conns.mu.Unlock()
	return r.conns.open
}

func counted(from netip.Addr) netip.Addr {
	if from.Is6() {
		if p, err := from.Prefix(64); err == nil {
			return p.Addr()
		}
	}
	return from
}

// tcpQueryMax is the largest query that is read: no question with all options that
// there are comes near it.
const tcpQueryMax = 4096

// answerKept is how large a buffer a connection keeps.
const answerKept = 4096

// acceptPause is how long accepting waits when the system has no descriptors left.
const acceptPause = 50 * time.Millisecond

// serveTCP accepts connections until ctx ends and all are gone.
func (r *Responder) serveTCP(ctx context.Context, t *net.TCPListener) error {
	defer context.AfterFunc(ctx, func() { t.Close() })()
	var all sync.WaitGroup
	defer all.Wait()
	for {
		c, err := t.AcceptTCP()
		if err != nil {
			if ctx.Err() != nil || closed(err) {
				return nil
			}
			r.stats.AcceptFailures.Add(1)
			select {
			case <-ctx.Done():
			case <-time.After(acceptPause):
			}
			continue
		}
		peer := c.RemoteAddr().(*net.TCPAddr).AddrPort()
		from := netip.AddrPortFrom(peer.Addr().Unmap().WithZone(""), peer.Port())
		key := counted(from.Addr())
		if !r.conns.enter(key, &r.snap.Load().zones.limits) {
			r.stats.ConnectionsRefused.Add(1)
			c.Close()
			continue
		}
		r.stats.Connections.Add(1)
		all.Go(func() {
			defer r.conns.leave(key)
			r.serveConn(ctx, c, from)
		})
	}
}

// serveConn answers the queries of one connection in their order. Answers to
// queries that came together leave together.
func (r *Responder) serveConn(ctx context.Context, c net.Conn, from netip.AddrPort) {
	defer c.Close()
	defer context.AfterFunc(ctx, func() { c.Close() })()
	limits := r.snap.Load().zones.limits
	in, out := bufio.NewReaderSize(c, 2048), bufio.NewWriterSize(c, 4096)
	defer out.Flush()
	var raw, answer []byte
	for range limits.Queries {
		if in.Buffered() < 2 {
			if out.Flush() != nil {
				return
			}
		}
		// One deadline for a whole query and its answer: bytes that trickle in or
		// are not taken win nothing.
		if c.SetDeadline(time.Now().Add(limits.IdleTimeout)) != nil {
			return
		}
		var length [2]byte
		if _, err := io.ReadFull(in, length[:]); err != nil {
			return
		}
		n := int(binary.BigEndian.Uint16(length[:]))
		if n < headerBytes || n > tcpQueryMax {
			return // no query of ours is so small or large
		}
		if in.Buffered() < n && out.Flush() != nil {
			return
		}
		if cap(raw) < n {
			raw = make([]byte, n)
		}
		raw = raw[:n]
		if _, err := io.ReadFull(in, raw); err != nil {
			return
		}
		answer = r.respond(append(answer[:0], 0, 0), raw, from, tcp)
		if len(answer) == 2 { // nothing to say to that: it is no query
			return
		}
		binary.BigEndian.PutUint16(answer, uint16(len(answer)-2))
		if _, err := out.Write(answer); err != nil {
			return
		}
		if cap(answer) > answerKept {
			answer = nil // an idle connection is not to hold the largest answer
		}
	}
}
