// Package cache is the HTTP cache: a shared cache in the sense of RFC 9111.
//
// handler.go decides; key, vary, control, storable, freshness, validate and
// ranges judge (pure functions: no I/O, no clock but an argument); fetch.go
// forwards, collapses and streams while filling; status.go names outcomes;
// lookup.go is the fast path that engines call inline. Bytes are kept by
// cache/store, and the origin is behind an http.RoundTripper.
package cache

import (
	"net"
	"strconv"
	"strings"
	"syscall"
	"time"

	"edgecdn/cache/store"
)

// Hit is a stored response that can be sent at once: fresh, chosen by key and
// Vary, from memory. Release it when the last byte has left.
type Hit struct {
	// Status to send: what was stored, or 206 with a range, 304, 416.
	Status int
	// Offset and Length of the part of the body to send. Length is 0 where the
	// answer has no body; to HEAD no body is sent, but Content-Length says Length.
	Offset, Length int64
	// Age in seconds, for the Age field.
	Age int64

	stored  store.Stored
	coding  string // of the body, if the edge made it
	other   bool   // than what is stored (answer)
	resp    *response
	cache   *Cache
	request *Request
}

// Body returns the part of the stored body to send; valid until Release. nil where
// there is none, or where it is in a file: InFile.
func (h *Hit) Body() []byte {
	if h.Length == 0 {
		return nil
	}
	return h.stored.Bytes()[h.Offset : h.Offset+h.Length]
}

// InFile says that the body is to be sent with SendNow, SendTo and ReadAt.
func (h *Hit) InFile() bool { return h.Length > 0 && h.stored.Bytes() == nil }

// SendNow has the kernel send what the connection takes, without waiting, of the
// part of the body to send, from off on. errors.ErrUnsupported: ReadAt can read it.
func (h *Hit) SendNow(conn syscall.RawConn, off int64) (int64, error) {
	return h.stored.SendNow(conn, h.Offset+off, h.Length-off)
}

// SendTo is SendNow that waits for the client.
func (h *Hit) SendTo(conn *net.TCPConn, off int64) (int64, error) {
	return h.stored.SendTo(conn, h.Offset+off, h.Length-off)
}

// ReadAt reads the part of the body to send.
func (h *Hit) ReadAt(p []byte, off int64) (int, error) {
	p = p[:min(int64(len(p)), h.Length-off)]
	return h.stored.ReadAt(p, h.Offset+off)
}

// AppendFields appends the field lines to send with Status: Content-Length, Age,
// Content-Range and Cache-Status included, hop-by-hop fields left out.
func (h *Hit) AppendFields(fields []Field) []Field {
	a := answer{status: h.Status, off: h.Offset, n: h.Length, size: h.stored.Meta().Length, coding: h.coding, other: h.other}
	return h.cache.appendAnswer(fields, h.request, h.resp, &a, h.Age)
}

// Block returns the start of the header section as protocol p sends it: status and
// all fields but those of AppendTail. nil where it was not encoded beforehand or
// where the answer is not just what is stored: AppendFields has all fields then.
// Valid until Release.
func (h *Hit) Block(p Proto) []byte {
	rules := &h.request.Route.Response
	if h.Status != h.resp.status || h.other || h.coding != "" || len(rules.Remove)+len(rules.Set)+len(rules.Add) > 0 {
		return nil
	}
	return h.resp.blocks[p-1]
}

// AppendTail appends the fields that go with Block: Age and Cache-Status. Their
// strings are valid until the request is reset.
func (h *Hit) AppendTail(fields []Field) []Field {
	return h.cache.appendTail(fields, h.request, h.Age)
}

// Release gives the stored response back.
func (h *Hit) Release() { h.stored.Close() }

func (h *Hit) answer(conds *conditions, now int64) {
	a := conds.answer(h.request.Method, h.resp, h.stored.Meta().Length)
	h.Status, h.Offset, h.Length, h.Age, h.other = a.status, a.off, a.n, h.resp.age(now), a.other
}

// answer is what is sent of a stored response: its status and which bytes.
type answer struct {
	status       int
	off, n, size int64 // size of the whole body; -1 while it is unknown
	parts        *byteRanges
	coding       string // that the edge made for it
	// other: its bytes are not the stored ones, or for a 304 need not be.
	other bool
}

// answer applies the conditions and a single range of a request to a response
// whose body has size bytes, -1 where that is not known yet (no range then).
func (c *conditions) answer(method string, p *response, size int64) answer {
	a := answer{status: c.evaluate(p), n: size, size: size}
	a.other = a.status == 304 && c.mayDiffer()
	switch {
	case a.status != p.status || noBody(a.status):
		a.n = 0
	case a.status == 200 && c.ranged(method) && size >= 0 && !c.multipleRanges() && c.rangeApplies(p):
		off, n, verdict := parseRange(c.rangeValue, size)
		switch verdict {
		case rangeOne:
			a.status, a.off, a.n = 206, off, n
		case rangeUnsatisfiable:
			a.status, a.n = 416, 0
		}
	}
	return a
}

// answerParts is answer for whoever can send several ranges.
func (c *conditions) answerParts(method string, p *response, size int64) answer {
	a := c.answer(method, p, size)
	if a.status != 200 || p.status != 200 || !c.ranged(method) || !c.multipleRanges() || !c.rangeApplies(p) {
		return a
	}
	spans, verdict := parseRanges(c.rangeValue, size)
	switch {
	case verdict == rangeUnsatisfiable:
		a.status, a.n = 416, 0
	case verdict == rangeOne && len(spans) == 1:
		a.status, a.off, a.n = 206, spans[0].off, spans[0].n
	case verdict == rangeOne:
		contentType, _ := p.field("content-type")
		a.status, a.parts = 206, newByteRanges(spans, contentType, size)
		a.n = a.parts.length
	}
	return a
}

func (c *conditions) ranged(method string) bool {
	return c.rangeValue != "" && !c.repeatedRange && method == "GET" && !c.decode
}

func (c *conditions) multipleRanges() bool { return strings.IndexByte(c.rangeValue, ',') >= 0 }

// noBody lists the final statuses that never have a body (RFC 9110 6.4.1).
func noBody(status int) bool { return status == 204 || status == 304 }

// appendAnswer appends the field lines of an answer from a stored response.
func (c *Cache) appendAnswer(fields []Field, r *Request, p *response, a *answer, age int64) []Field {
	switch a.status {
	case 416:
		fields = append(fields, Field{"content-length", "0"}, Field{"date", httpDate(time.Now())},
			Field{"content-range", "bytes */" + strconv.FormatInt(a.size, 10)})
	default:
		fields = appendStored(fields, r, p, a)
	}
	return applyRules(c.appendTail(fields, r, age), r.Route)
}

// appendTail appends what differs from answer to answer.
func (c *Cache) appendTail(fields []Field, r *Request, age int64) []Field {
	if age > 0 || r.Outcome.Hit || r.Outcome.Collapsed { // else the origin made it for this request (RFC 9111 5.1)
		fields = append(fields, Field{"age", r.number(age)})
	}
	return append(fields, c.statusField(r))
}

func appendStored(fields []Field, r *Request, p *response, a *answer) []Field {
	for _, f := range p.fields {
		switch {
		case a.status == 304 && !sentWith304(f.Name, p):
		case a.parts != nil && f.Name == "content-type", f.Name == surrogateControl:
		case a.other && describesBytes(f.Name):
		default:
			fields = append(fields, f)
		}
	}
	if a.other && p.weakETag != "" {
		fields = append(fields, Field{"etag", p.weakETag})
	}
	if a.coding != "" {
		fields = append(fields, Field{"content-encoding", a.coding})
	}
	if p.addVary {
		fields = append(fields, Field{"vary", "Accept-Encoding"})
	}
	if a.parts != nil {
		fields = append(fields, Field{"content-type", "multipart/byteranges; boundary=" + a.parts.boundary})
	}
	if a.n >= 0 && !noBody(a.status) {
		fields = append(fields, Field{"content-length", r.number(a.n)})
	}
	if a.status == 206 && a.parts == nil {
		fields = append(fields, Field{"content-range", r.contentRange(a.off, a.n, a.size)})
	}
	return fields
}

// sentWith304 leaves out what describes a body that is not sent (RFC 9110 15.4.5).
func sentWith304(name string, p *response) bool {
	switch name {
	case "content-type", "content-encoding", "content-language", "content-range", "accept-ranges":
		return false
	case "last-modified":
		return p.etag == ""
	}
	return true
}

func (c *Cache) statusField(r *Request) Field {
	o := &r.Outcome
	if r.Route.StatusKey && keyable(r) {
		o.Key = string(appendURL(nil, r))
	}
	at := len(r.values)
	r.values = o.AppendStatus(r.values, c.name)
	return Field{"cache-status", text(r.values[at:])}
}
