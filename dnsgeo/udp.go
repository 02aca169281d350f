package dnsgeo

// udp.go reads queries and answers them, first those whose answers are known. What
// takes longer waits until the socket has nothing else, and where too much does it is
// lost: a flood of names that nobody has asked for before takes the time that is left
// over, and names that are asked for are answered all the while. Otherwise they would
// stand behind it in the system's queue for longer than resolvers wait.

import (
	"context"
	"net/netip"
	"time"
)

const (
	backlogMax  = 2048 // of a socket
	backlogTurn = 8    // are answered before the socket is looked at again
	heldBytes   = 512  // longer queries, which are rare, do not wait
)

// backlog is queries that wait, in a ring.
type backlog struct {
	all      []heldQuery
	first, n int
}

// heldQuery is a query with what is needed to answer it.
type heldQuery struct {
	name      [sockaddrBytes6]byte
	nameBytes uint32
	control   [controlBytes]byte
	controlN  int
	from      netip.AddrPort
	data      [heldBytes]byte
	n         int
}

// hold has the i-th datagram wait; false where there is no room.
func (b *backlog) hold(d *datagrams, i int) bool {
	if b.n == len(b.all) {
		return false
	}
	raw, from := d.query(i)
	q := &b.all[(b.first+b.n)%len(b.all)]
	b.n++
	in, h := &d.in[i], &d.inHdr[i].hdr
	q.name, q.nameBytes, q.from = in.name, h.Namelen, from
	q.controlN = copy(q.control[:], in.control[:controlOf(h)])
	q.n = copy(q.data[:], raw)
	return true
}

// next is the one that has waited longest.
func (b *backlog) next() *heldQuery {
	q := &b.all[b.first]
	b.first, b.n = (b.first+1)%len(b.all), b.n-1
	return q
}

// serveUDP answers what a socket receives, one after the other: nothing in an
// answer blocks.
func (r *Responder) serveUDP(ctx context.Context, d *datagrams) error {
	defer context.AfterFunc(ctx, func() { d.conn.Close() })()
	f, waiting := newFast(r), &backlog{all: make([]heldQuery, backlogMax)}
	for {
		read := d.read
		if waiting.n > 0 {
			read = d.look
		}
		n, err := read()
		if err != nil {
			if ctx.Err() != nil || closed(err) {
				return nil
			}
			continue // such as a refusal of an earlier answer
		}
		r.serveBatch(d, n, f, waiting, time.Now())
	}
}

// serveBatch answers n datagrams, or has them wait, and then some of those that do.
func (r *Responder) serveBatch(d *datagrams, n int, f *fast, waiting *backlog, now time.Time) {
	for i := range n {
		raw, from := d.query(i)
		answer, ok := f.atOnce(d.room(), raw, from, now)
		switch {
		case ok:
			d.answer(i, answer)
		case len(raw) > heldBytes:
			d.answer(i, f.atLength(d.room(), raw, from, now))
		case !waiting.hold(d, i):
			r.stats.Overrun.Add(1)
		}
	}
	r.send(d)
	for turn := 0; turn < backlogTurn && waiting.n > 0; turn++ {
		q := waiting.next()
		d.reply(&q.name, q.nameBytes, q.control[:q.controlN], f.atLength(d.room(), q.data[:q.n], q.from, now))
	}
	r.send(d)
}

func (r *Responder) send(d *datagrams) {
	if lost := d.write(); lost > 0 {
		r.stats.Unsent.Add(uint64(lost))
	}
}
