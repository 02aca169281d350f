package dnsgeo

import (
	"context"
	"time"
)

// serveUDP answers what a socket receives, one after the other: nothing in an
// answer blocks.
func (r *Responder) serveUDP(ctx context.Context, d *datagrams) error {
	defer context.AfterFunc(ctx, func() { d.conn.Close() })()
	f := newFast(r)
	for {
		n, err := d.read()
		if err != nil {
			if ctx.Err() != nil || closed(err) {
				return nil
			}
			continue // such as a refusal of an earlier answer
		}
		now := time.Now()
		for i := range n {
			raw, from := d.query(i)
			d.answer(i, f.respond(d.room(), raw, from, now))
		}
		if lost := d.write(); lost > 0 {
			r.stats.Unsent.Add(uint64(lost))
		}
	}
}
