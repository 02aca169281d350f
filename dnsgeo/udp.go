package dnsgeo

import (
	"context"
	"net"
)

// queryBytesMax is the largest query that is read over UDP: a large OPT record
// with cookie, subnet and padding fits.
const queryBytesMax = 4096

// serveUDP answers what a socket receives, one after the other: nothing in an
// answer blocks.
func (r *Responder) serveUDP(ctx context.Context, u *net.UDPConn) error {
	defer context.AfterFunc(ctx, func() { u.Close() })()
	in, out := make([]byte, queryBytesMax), make([]byte, 0, udpBytesMax)
	for {
		n, from, err := u.ReadFromUDPAddrPort(in)
		if err != nil {
			if ctx.Err() != nil || closed(err) {
				return nil
			}
			continue // such as a refusal of an earlier answer
		}
		if out = r.respond(out[:0], in[:n], from, udp); len(out) > 0 {
			_, _ = u.WriteToUDPAddrPort(out, from)
		}
	}
}
