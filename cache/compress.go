package cache

// compress.go sends bodies in the content coding that suits the client best
// (RFC 9110 8.4, 12.5.3).
//
// A stored response of a type that shrinks, which came without Content-Encoding
// and without no-transform, has a salt. Its coded bodies are stored under its own
// key, the salt and the coding (encode.go makes them). They are bytes and no more:
// fields, freshness and validators are always those of the stored response. So a
// 304 that freshens it holds for all of them, and what removes or replaces it,
// under whatever name, takes the salt away, and nothing leads to them any longer.
//
// To a client a coded body is another representation: it has a weak entity-tag
// (the bytes differ and mean the same, RFC 9110 8.8.3.3), no ranges, and the
// responses that might be coded all say Vary: Accept-Encoding. If-None-Match finds
// either by the weak comparison. The 304 carries the weak tag, as nobody knows
// which of the two the client has: a strong one would make coded bytes look like
// plain ones that a range could complete. A range is always one of the plain
// bytes, so that all parts fit together, whenever the coded body was made and
// whether it is still there; an If-Range must bring the strong tag for that, since
// a date does not tell plain from coded.

import (
	"sync/atomic"

	"edgecdn/cache/store"
	"edgecdn/route"
)

// encodeBytesMax is the size over which bodies are not encoded: it bounds what one
// costs, to the processor and to those behind it in the queue.
const encodeBytesMax = 8 << 20

// encodable says whether the edge may encode a response that it is about to store.
// length is the body's, -1 where unknown.
func (p *response) encodable(rt *route.Route, length int64, trailers bool) bool {
	if _, coded := p.field("content-encoding"); coded || trailers {
		return false
	}
	contentType, _ := p.field("content-type")
	return p.status == 200 && !p.has(flagNoTransform) && rt.Compressible(contentType) &&
		(length < 0 || length >= rt.CompressBytesMin && length <= encodeBytesMax)
}

// indexCodings is index for what negotiation asks.
func (p *response) indexCodings() {
	p.coded = codingOf(p.fields)
	p.negotiable = (p.salt != "" || p.coded != 0) && p.varyBy == nil && !p.sliced && p.status == 200 && !p.has(flagNoTransform)
	p.weakETag, p.addVary = "", false
	if !p.negotiable {
		return
	}
	if p.weakETag = p.etag; p.etag != "" && p.etag[0] == '"' {
		p.weakETag = "W/" + p.etag
	}
	p.addVary = true
	names, _ := varyNames(p.fields)
	for _, name := range names {
		p.addVary = p.addVary && name != acceptEncoding
	}
}

// negotiation is what a request and a stored response agree on.
type negotiation struct {
	weights weights
	// encode are the codings in which the client may get a body that is stored
	// without one.
	encode accepted
	// decode: the client does not take the coding that the body is stored in.
	decode bool
}

// negotiate finds out in which codings r may be answered from p, whose body has
// size bytes, -1 where that is not known. A route without codings makes none.
func (c *conditions) negotiate(r *Request, p *response, size int64) {
	c.negotiation = negotiation{}
	if !p.negotiable || c.cacheFields && parseControl(r.Fields, "cache-control").noTransform { // RFC 9111 5.2.1.6
		return
	}
	c.weights = codingWeights(r.Fields)
	if p.coded != 0 {
		c.decode = c.weights.accepted()&p.coded == 0
		return
	}
	if size < 0 || size >= r.Route.CompressBytesMin && size <= encodeBytesMax {
		c.encode = c.weights.accepted() & accepted(r.Route.Codings)
	}
}

// mayDiffer says whether the client might get other bytes than the stored ones.
func (n *negotiation) mayDiffer() bool { return n.decode || n.encode != 0 }

// wantsCoded says whether a coded body may take the place of an answer's: not where
// the client speaks of the plain bytes.
func (c *conditions) wantsCoded(a *answer) bool {
	return c.encode != 0 && a.status == 200 && !c.hasIfMatch
}

// appendCoded makes a stored response's key the one of its body in a coding.
func appendCoded(key []byte, p *response, coding int) []byte {
	return append(append(append(key, "\ncoded"...), p.salt...), route.Codings[coding]...)
}

// coded returns the body of p in the coding that the client likes best of those
// that there are, and asks for the one that it likes best of all. r.scratch holds
// the key of p. Without deep only memory is looked into.
func (c *Cache) coded(r *Request, p *response, n *negotiation, now int64, deep bool) (body store.Stored, coding int, ok bool) {
	key, asked := len(r.scratch), false
	for left := n.encode; ; left &^= 1 << coding {
		if coding = n.weights.best(left); coding < 0 {
			return store.Stored{}, 0, false
		}
		r.scratch = appendCoded(r.scratch[:key], p, coding)
		at := c.store.Hasher().Key(text(r.scratch))
		body, ok = c.store.Lookup(at)
		if !ok && deep {
			if found, err := c.store.Open(at); err == nil {
				body, ok = *found, true
			}
		}
		switch {
		case ok && body.Meta().Length > 0:
			return body, coding, true
		case ok: // it gains nothing, nor does another
			body.Close()
			return store.Stored{}, 0, false
		case !asked:
			c.ask(text(r.scratch[:key]), p, coding, at.Hash.Lo, now)
			asked = true
		}
	}
}

// encode gives the hit the body in the coding that suits its client.
func (h *Hit) encode(conds *conditions, now int64) {
	if !conds.wantsCoded(&answer{status: h.Status}) {
		return
	}
	body, coding, ok := h.cache.coded(h.request, h.resp, &conds.negotiation, now, false)
	if !ok {
		return
	}
	h.stored.Close()
	h.stored, h.coding = body, route.Codings[coding]
	h.Length, h.other = body.Meta().Length, true
}

// encode gives an answer from p, which is stored under key, the body in the coding
// that suits the client. nil: the answer stays as it is.
func (x *exchange) encode(key string, p *response, a *answer, now int64) *store.Stored {
	if !x.conds.wantsCoded(a) {
		return nil
	}
	x.r.scratch = append(x.r.scratch[:0], key...)
	body, coding, ok := x.cache.coded(x.r, p, &x.conds.negotiation, now, true)
	if !ok {
		return nil
	}
	a.coding, a.n, a.size, a.other = route.Codings[coding], body.Meta().Length, body.Meta().Length, true
	return &body
}

// askMarks remember which coded bodies have been asked for of late. Two that share
// a place forget each other, which costs a look at what there is and no more.
type askMarks [1 << 12]atomic.Uint64

const (
	// askAgain is for how many seconds a body is not asked for again.
	askAgain = 10
	// askClock is the part of a mark that holds seconds, the rest is of the hash.
	askClock = 1<<24 - 1
)

// first says whether nobody has asked for this of late, and marks it.
func (m *askMarks) first(hash uint64, now int64) bool {
	place := &m[hash%uint64(len(m))]
	old, second := place.Load(), uint64(now/1e9)&askClock
	if old&^askClock == hash&^askClock && (second-old)&askClock < askAgain {
		return false
	}
	return place.CompareAndSwap(old, hash&^askClock|second)
}

// describesBytes names the fields of a response that hold for its bytes as they
// are stored and not for the same in another coding.
func describesBytes(name string) bool {
	switch name {
	case "etag", "content-encoding", "accept-ranges", "content-md5", "digest", "content-digest", "repr-digest":
		return true
	}
	return false
}
