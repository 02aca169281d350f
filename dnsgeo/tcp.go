package dnsgeo

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

// serveTCP accepts connections (RFC 7766) until ctx ends and all are gone.
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
			continue
		}
		all.Go(func() { r.serveConn(ctx, c) })
	}
}

// serveConn answers the queries of one connection in their order.
func (r *Responder) serveConn(ctx context.Context, c *net.TCPConn) {
	defer c.Close()
	defer context.AfterFunc(ctx, func() { c.Close() })()
	from, err := netip.ParseAddrPort(c.RemoteAddr().String())
	if err != nil {
		return
	}
	limits := r.snap.Load().zones.limits
	in := bufio.NewReaderSize(c, 2048)
	var raw, out []byte
	for range limits.Queries {
		if c.SetDeadline(time.Now().Add(limits.IdleTimeout)) != nil {
			return
		}
		var length [2]byte
		if _, err := io.ReadFull(in, length[:]); err != nil {
			return
		}
		n := int(binary.BigEndian.Uint16(length[:]))
		if cap(raw) < n {
			raw = make([]byte, n)
		}
		raw = raw[:n]
		if _, err := io.ReadFull(in, raw); err != nil {
			return
		}
		out = r.respond(append(out[:0], 0, 0), raw, from, tcp)
		if len(out) == 2 {
			return
		}
		binary.BigEndian.PutUint16(out, uint16(len(out)-2))
		if _, err := c.Write(out); err != nil {
			return
		}
	}
}
