package gate

// exchange.go is the record of one request and its response.

import (
	"context"
	"crypto/tls"
	"net/http"
	"time"

	"edgecdn/cache"
)

// Decision is what becomes of a request.
type Decision uint8

// The three decisions.
const (
	// SendHit: send Exchange.Hit, release it, End.
	SendHit Decision = iota + 1
	// SendReply: send Exchange.Reply, End.
	SendReply
	// Handle: call Serve where it may block, then End. Nothing in the Exchange
	// points into the engine's buffers any more.
	Handle
)

// Exchange is one request and its response. An engine begins it when a header
// has arrived, fills in the first group of fields, and ends it when the last byte
// has left. It belongs to one goroutine at a time.
type Exchange struct {
	// Request: the engine sets Method, Authority (Host or :authority, "" if there
	// is none), Target (as sent), Fields (names in lower case, without host and
	// pseudo-header fields), Client, EarlyData, HasBody.
	Request cache.Request
	// OtherHost is the Host field where :authority is there too, else "".
	OtherHost string
	// HTTP10 says that the request came in HTTP/1.0.
	HTTP10 bool
	// HeaderBytes is the size of the header as in HTTP/1.1, line and field lines.
	HeaderBytes int
	// ContentLength of the request's body, -1 if unknown.
	ContentLength int64
	// TLS state of the connection, nil in the clear. Shared, not changed.
	TLS *tls.ConnectionState

	// Hit to send, with SendHit.
	Hit cache.Hit
	// Reply to send, with SendReply.
	Reply Reply

	// Status is the final status, set by Decide and Serve; engines set it with
	// what they send on their own.
	Status int
	// Written counts body bytes of the response; engines add what they send of
	// hits and replies.
	Written int64
	// FirstByte is the time from Begin to the final header, if the engine notes
	// it; else until End.
	FirstByte time.Duration
	// Aborted says that the response broke off; engines set it.
	Aborted bool

	door     *Door
	start    time.Time
	general  bool // the handler was called; others may still know this exchange
	slot     bool // of the handlers' bound is taken
	hijacked bool
	own      bool // the request's strings are its own
	entry    record
	line     []byte
	response response
	bare     bareRequest
}

// Reply is a short answer of the edge's own: an error, a redirect.
type Reply struct {
	Status int
	// Fields in lower case, Content-Length included.
	Fields []cache.Field
	// Body, "" for HEAD.
	Body string
	// Close: what follows on an HTTP/1.1 connection cannot be trusted.
	Close bool
}

// Begin starts an exchange for a request whose header has been read over p.
func (d *Door) Begin(p cache.Proto) *Exchange {
	x := d.pool.Get().(*Exchange)
	x.Request.Reset()
	x.Request.Proto, x.Request.Scheme, x.Request.Listener = p, d.Scheme, d.Listener
	x.OtherHost, x.HTTP10, x.HeaderBytes, x.ContentLength, x.TLS = "", false, 0, 0, nil
	x.Hit, x.Reply = cache.Hit{}, Reply{Fields: x.Reply.Fields[:0]}
	x.Status, x.Written, x.FirstByte, x.Aborted = 0, 0, 0, false
	x.door, x.start = d, time.Now()
	x.general, x.slot, x.hijacked, x.own = false, false, false, false
	d.inflight.enter(p)
	return x
}

// HSTS returns the value of Strict-Transport-Security that the response must have,
// "" for none: it says nothing over connections in the clear (RFC 6797 7.2).
func (x *Exchange) HSTS() string {
	if x.TLS == nil || x.Request.Route == nil {
		return ""
	}
	return x.Request.Route.HSTS
}

// Door returns the listener that the exchange came in by.
func (x *Exchange) Door() *Door { return x.door }

// End counts and logs the exchange and gives it back; nobody may touch it
// afterwards. It closes nothing.
func (x *Exchange) End() {
	g := x.door.Gate
	took := time.Since(x.start)
	if x.FirstByte == 0 {
		x.FirstByte = took
	}
	if x.slot {
		g.stats.HandlersBusy.Add(-1)
	}
	if x.Aborted {
		g.stats.Aborted.Add(1)
	}
	g.stats.finished(x, took)
	g.lines.write(x, took)
	g.inflight.leave(x.Request.Proto)
	if x.general && (!x.Request.Spent || x.Aborted) {
		// What the handler has seen is left to the garbage collector: who outlives
		// the request must not read the next one's fields.
		return
	}
	if x.general {
		x.response = response{}
	}
	x.Hit, x.TLS = cache.Hit{}, nil
	g.pool.Put(x)
}

// Own makes the request's strings independent of the engine's buffers, for
// exchanges that last longer than those.
func (x *Exchange) Own() {
	if x.own {
		return
	}
	x.own = true
	r := &x.Request
	r.Own()
	x.OtherHost = "" // judged
}

// Serve calls the handler and sends what it answers on s: complete, or broken off
// visibly. ctx should derive from Gate.Requests and end when the client is known
// to be gone.
func (x *Exchange) Serve(ctx context.Context, s Stream) {
	w := &x.response
	w.x, w.stream = x, s
	w.serve(ctx)
}

var _ http.ResponseWriter = (*response)(nil)
