package cache

import (
	"context"
	"net/netip"
	"strconv"

	"edgecdn/route"
)

// Field is one field line of a request or response. Names are lower case. It has no
// name of its own, so that lists go to origins and back as they are (Forwarder).
type Field = struct{ Name, Value string }

// Proto is the HTTP version that a request came over.
type Proto uint8

// The protocols that engines speak.
const (
	HTTP1 Proto = iota + 1
	HTTP2
	HTTP3
)

// protos is their number, in arrays indexed by Proto - 1.
const protos = 3

// String returns the token used in logs, metrics and Via: "1.1", "2" or "3".
func (p Proto) String() string {
	switch p {
	case HTTP2:
		return "2"
	case HTTP3:
		return "3"
	}
	return "1.1"
}

// Request is what an engine knows of a request when its header has been read.
// Engines own and reuse it: strings may point into their buffers and are valid
// only until the response is finished; whoever keeps one longer copies it.
type Request struct {
	Method string
	Scheme string // "http" or "https"
	// Authority is what the client sent in Host or :authority; Host is the same
	// in lower case and without the scheme's default port.
	Authority, Host string
	// Target is the request target in origin form, its bytes as sent: neither
	// cleaned nor decoded. "*" for OPTIONS *.
	Target string
	Fields []Field
	Client netip.AddrPort
	// Listener is the local address that took the request.
	Listener  string
	Proto     Proto
	EarlyData bool // came in TLS early data (RFC 8470)
	HasBody   bool // a body follows, even an empty chunked one
	// FromFile: the engine can send a body out of a file, inline (Hit.Body is nil then).
	FromFile bool
	// Route is matched once, by the engine, before anything is looked up.
	Route *route.Route
	// Spent is set by a handler that has answered and kept nothing of the request, nor
	// has anybody whom it asked, so that the engine may use its record again, when the
	// response has been sent: fields of that are still in room.
	Spent bool
	// Outcome is filled in by whoever answers and read by the access log.
	Outcome Outcome

	scratch []byte // for keys; kept with the Request so that Lookup allocates nothing
	values  []byte // of the response's fields; what has been cut from it stays as it is
	owned   []byte // Own's
	room    *room  // nil before the first that was not a hit
}

// room is what the handler works in. The next request has it only where this one is
// Spent.
type room struct {
	exchange exchange
	fields   []Field                          // for the origin
	values   []byte                           // of those
	origin   any                              // Forwarder's
	hint     func(status int, fields []Field) // exchange's
}

// roomKept bounds what is kept of room's and Own's buffers.
const roomKept = 4 << 10

// Reset clears r for another request and keeps its buffers.
func (r *Request) Reset() {
	clear(r.Fields)
	*r = Request{Fields: r.Fields[:0], scratch: r.scratch[:0], values: r.values[:0], owned: r.owned[:0], room: r.room}
	if cap(r.owned) > roomKept {
		r.owned = nil
	}
}

// work returns the room for a request's handler.
func (r *Request) work() *room {
	if r.room == nil {
		r.room = new(room)
		r.room.hint = r.room.exchange.hint
	}
	m := r.room
	clear(m.fields[:cap(m.fields)])
	if cap(m.values) > roomKept {
		m.values = nil
	}
	return m
}

// Path returns the target up to its query.
func (r *Request) Path() string { path, _ := splitTarget(r.Target); return path }

// Query returns what follows the first "?" of the target, without it.
func (r *Request) Query() string { _, query := splitTarget(r.Target); return query }

func splitTarget(target string) (path, query string) {
	for i := range len(target) {
		if target[i] == '?' {
			return target[:i], target[i+1:]
		}
	}
	return target, ""
}

// Field returns the first value of a field and whether there is one.
func (r *Request) Field(name string) (string, bool) {
	for i := range r.Fields {
		if r.Fields[i].Name == name {
			return r.Fields[i].Value, true
		}
	}
	return "", false
}

// number returns n in decimal, valid until Reset.
func (r *Request) number(n int64) string {
	at := len(r.values)
	r.values = strconv.AppendInt(r.values, n, 10)
	return text(r.values[at:])
}

func (r *Request) contentRange(off, n, size int64) string {
	at := len(r.values)
	r.values = appendContentRange(r.values, off, n, size)
	return text(r.values[at:])
}

type requestKey struct{}

// Context is what NewContext returns, to be used again by who knows that nobody else
// does.
type Context struct {
	context.Context
	Request *Request
}

// Value implements context.Context.
func (c *Context) Value(key any) any {
	if key == (requestKey{}) {
		return c.Request
	}
	return c.Context.Value(key)
}

// watcher is a context that can tell one of its end without an allocation.
type watcher interface {
	Watch(stop func()) bool
	Unwatch() bool
}

// Watch has stop called when the context ends, as context.AfterFunc would, where what is
// below can do that and does not for another.
func (c *Context) Watch(stop func()) bool {
	w, ok := c.Context.(watcher)
	return ok && w.Watch(stop)
}

// Unwatch takes Watch back, after it has returned true. It says whether stop has not
// been called and will not be.
func (c *Context) Unwatch() bool { return c.Context.(watcher).Unwatch() }

// NewContext returns a context that carries r to the general path's handler.
func NewContext(ctx context.Context, r *Request) context.Context {
	return &Context{ctx, r}
}

// FromContext returns the Request that an engine put there, or nil.
func FromContext(ctx context.Context) *Request {
	r, _ := ctx.Value(requestKey{}).(*Request)
	return r
}

// Own makes r independent of the buffers that its strings pointed into, with one
// allocation for all of them.
func (r *Request) Own() {
	n := len(r.Method) + len(r.Authority) + len(r.Host) + len(r.Target)
	for i := range r.Fields {
		n += len(r.Fields[i].Name) + len(r.Fields[i].Value)
	}
	b := r.owned
	if cap(b) < n {
		b = make([]byte, 0, n)
	}
	r.owned = b
	own := func(s *string) {
		at := len(b)
		b = append(b, *s...)
		*s = text(b[at:])
	}
	for _, s := range []*string{&r.Method, &r.Authority, &r.Host, &r.Target} {
		own(s)
	}
	for i := range r.Fields {
		own(&r.Fields[i].Name)
		own(&r.Fields[i].Value)
	}
}
