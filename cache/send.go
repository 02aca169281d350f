package cache

// send.go writes responses on the general path.

import (
	"errors"
	"io"
	"net"
	"net/http"
	"net/textproto"
	"slices"
	"strconv"
	"time"

	"edgecdn/cache/store"
)

// sendFound answers from a stored response; true: it is not all there, look again.
func (x *exchange) sendFound(fd *found, now int64) (again bool) {
	if fd.resp.sliced {
		return x.sendSliced(fd, now, "")
	}
	return x.sendStored(fd, now)
}

// sendStored answers from a stored response whose body is in one piece, and gives
// it back; true: a part of it is lost, look again.
func (x *exchange) sendStored(fd *found, now int64) (again bool) {
	defer fd.close()
	x.conds.negotiate(x.r, fd.resp, fd.stored.Meta().Length)
	a := x.conds.answerParts(x.r.Method, fd.resp, fd.stored.Meta().Length)
	if x.lost(fd, &a) {
		return true
	}
	if coded := x.encode(fd.key, fd.resp, &a, now); coded != nil {
		fd.stored.Close()
		fd.stored = coded
	}
	x.r.Outcome = Outcome{Hit: true, HasTTL: true, TTL: fd.resp.ttl(now), Tier: fd.stored.Tier()}
	if x.conds.decode {
		x.sendDecoded(fd.resp, io.NewSectionReader(fd.stored, 0, a.size), &a, now)
		return false
	}
	x.sendBody(fd.resp, fd.stored, &a, now)
	return false
}

// lost says whether the disk has lost a part of the body that the answer needs,
// before anything of it is sent. Such a response is of no use any more.
func (x *exchange) lost(fd *found, a *answer) bool {
	off, n := a.off, a.n
	if a.parts != nil || x.conds.decode {
		off, n = 0, a.size
	}
	if _, gap := fd.stored.Gap(off, n); gap == 0 {
		return false
	}
	c := x.cache
	c.stats.StoreErrors.Add(1)
	if err := c.store.Remove(c.store.Hasher().Key(fd.key)); err != nil {
		c.stats.StoreErrors.Add(1)
	}
	return true
}

// sendBody sends an answer from p whose body is stored in one piece.
func (x *exchange) sendBody(p *response, stored *store.Stored, a *answer, now int64) {
	x.writeAnswer(p, a, now, len(p.trailers) > 0)
	whole := stored.Bytes()
	x.sendParts(a, func(off, n int64) {
		if whole != nil {
			x.writeAll(whole[off : off+n])
		} else {
			sent := x.sendDirect(stored, off, n)
			x.copyFrom(io.NewSectionReader(stored, off+sent, n-sent))
		}
	})
	if a.status == 200 && x.r.Method != http.MethodHead {
		x.writeTrailers(p.trailers)
	}
}

// direct is a ResponseWriter over a connection that the kernel can write to by
// itself.
type direct interface {
	Direct(send func(*net.TCPConn) (int64, error)) (int64, error)
}

// sendDirect has the kernel send a part of a body out of a file, where that can be
// done and is worth a write of its own, and returns how much.
func (x *exchange) sendDirect(stored *store.Stored, off, n int64) (sent int64) {
	w, ok := x.w.(direct)
	if !ok || n < copyBytes {
		return 0
	}
	_, err := w.Direct(func(conn *net.TCPConn) (int64, error) {
		var err error
		sent, err = stored.SendTo(conn, off, n)
		return sent, err
	})
	switch {
	case err == nil, errors.Is(err, errors.ErrUnsupported):
	case errors.Is(err, store.ErrNotFound), errors.Is(err, store.ErrBroken):
		panic(http.ErrAbortHandler) // the header has gone out
	default:
		x.dropped()
	}
	return sent
}

// sendParts sends the body of an answer, part by part.
func (x *exchange) sendParts(a *answer, send func(off, n int64)) {
	if x.r.Method == http.MethodHead || a.n == 0 {
		return
	}
	if a.parts == nil {
		send(a.off, a.n)
		return
	}
	for i, head := range a.parts.heads {
		x.writeAll([]byte(head))
		if i < len(a.parts.spans) {
			send(a.parts.spans[i].off, a.parts.spans[i].n)
		}
	}
}

// sendFollowed answers from a fill, as fast as it grows.
func (x *exchange) sendFollowed(f *fill, reader *follower, a *answer, now int64) {
	x.writeAnswer(f.resp, a, now, f.announced)
	if x.r.Method == http.MethodHead || a.n == 0 {
		return
	}
	reader.advance(a.off)
	body := reader.reader(x.hr.Context())
	if a.n >= 0 {
		body = io.LimitReader(body, a.n)
	}
	x.copyFrom(body)
	if a.status == 200 {
		x.writeTrailers(f.endTrailers())
	}
}

// writeAnswer writes status and fields of a stored response. A body that
// trailers follow is sent without a length over HTTP/1, which needs chunks for them.
func (x *exchange) writeAnswer(p *response, a *answer, now int64, trailers bool) {
	fields := x.cache.appendAnswer(make([]Field, 0, len(p.fields)+6), x.r, p, a, p.age(now))
	if trailers && x.r.Proto == HTTP1 && a.status == p.status {
		fields = without(fields, "content-length")
	}
	x.writeHeader(a.status, fields)
}

// FieldWriter is a ResponseWriter that takes a final header as a list, names in
// lower case, in the place of Header and WriteHeader. What its Header holds already is
// sent too. It may reorder the list, and keeps it until the response ends.
type FieldWriter interface {
	WriteFields(status int, fields []Field)
}

// writeHeader writes the header of a response. What net/http would add by itself
// is kept away: fields are sent as they stand.
func (x *exchange) writeHeader(status int, fields []Field) {
	if w, ok := x.w.(FieldWriter); ok && status >= 200 {
		w.WriteFields(status, fields)
		return
	}
	h := x.w.Header()
	for _, f := range fields {
		name := textproto.CanonicalMIMEHeaderKey(f.Name)
		h[name] = append(h[name], f.Value)
	}
	for _, name := range []string{"Content-Type", "Date"} {
		if _, ok := h[name]; !ok {
			h[name] = nil
		}
	}
	x.w.WriteHeader(status)
}

// writeAll writes in pieces, so that a client is judged stalled by the piece.
func (x *exchange) writeAll(body []byte) {
	for len(body) > 0 {
		n := min(len(body), copyBytes)
		if _, err := x.w.Write(body[:n]); err != nil {
			x.dropped()
		}
		body = body[n:]
	}
}

// copyFrom sends a body. When either side fails the client must see it: the
// response is cut, never ended as if it were whole.
func (x *exchange) copyFrom(body io.Reader) {
	if _, err := x.copySome(body); err != nil {
		panic(http.ErrAbortHandler)
	}
}

// copySome sends a body as far as it can be read, and returns how much that was
// and why it ended early.
func (x *exchange) copySome(body io.Reader) (sent int64, err error) {
	buffer := copyBuffers.Get().(*[copyBytes]byte)
	defer copyBuffers.Put(buffer)
	for {
		n, err := body.Read(buffer[:])
		if n > 0 {
			if _, err := x.w.Write(buffer[:n]); err != nil {
				x.dropped()
			}
			sent += int64(n)
		}
		if err == io.EOF {
			return sent, nil
		}
		if err != nil {
			return sent, err
		}
		if n < len(buffer) { // no more for now: what is there must not wait
			if err := http.NewResponseController(x.w).Flush(); err != nil && !errors.Is(err, errors.ErrUnsupported) {
				x.dropped()
			}
		}
	}
}

// dropped ends the handler of a client that is no longer there.
func (x *exchange) dropped() {
	x.cache.stats.ClientsDropped.Add(1)
	panic(http.ErrAbortHandler)
}

func (x *exchange) writeTrailers(trailers []Field) {
	if len(trailers) == 0 {
		return
	}
	// A small body must have gone out, in chunks: net/http gives it a length otherwise.
	if err := http.NewResponseController(x.w).Flush(); err != nil && !errors.Is(err, errors.ErrUnsupported) {
		x.dropped()
	}
	h := x.w.Header()
	for _, f := range trailers {
		h.Add(http.TrailerPrefix+textproto.CanonicalMIMEHeaderKey(f.Name), f.Value)
	}
}

// early relays a 1xx response.
func (x *exchange) early(e earlyResponse) {
	if !x.hr.ProtoAtLeast(1, 1) {
		return
	}
	h := x.w.Header()
	var added []string
	for _, f := range e.fields {
		name := textproto.CanonicalMIMEHeaderKey(f.Name)
		if ours := slices.Contains(added, name); !hopByHop(f.Name) && (ours || h[name] == nil) {
			h[name] = append(h[name], f.Value)
			if !ours {
				added = append(added, name)
			}
		}
	}
	x.w.WriteHeader(e.status)
	for _, name := range added {
		delete(h, name)
	}
}

// pass forwards the request as it is, with its body and its own conditions, and
// the response as it comes. Nothing is stored.
func (x *exchange) pass(fwd Fwd, detail string) {
	x.r.Outcome = Outcome{Fwd: fwd, Detail: detail}
	out := x.own()
	if x.r.HasBody {
		// An answer may begin before the request has ended; not every engine can.
		_ = http.NewResponseController(x.w).EnableFullDuplex()
	}
	posted := x.beginPost()
	if posted != nil {
		defer x.cache.forget(posted)
	}
	sent := time.Now()
	resp, fields, err := x.cache.forward(&out)
	if err != nil {
		x.cache.stats.FetchErrors.Add(1)
	}
	stand, others, proxy := x.cache.fallBack(x.hr.Context(), x.r, true, out.early, resp, err)
	x.hints.Lock()
	x.over = true
	x.hints.Unlock()
	switch {
	case stand != nil:
		x.proxy, x.r.Outcome.Detail = proxy, detailFallback
		got := x.cache.receive(x.r, stand, others, sent)
		x.relay(stand, got.fields, got.sized)
		return
	case err != nil:
		x.failFetch(err)
		return
	}
	got := x.cache.receive(x.r, resp, fields, sent)
	if unsafeMethod(x.r.Method) && resp.StatusCode >= 200 && resp.StatusCode < 400 {
		x.cache.invalidateAfter(x.r, got.fields, posted)
	}
	kept := posted != nil || unsafeMethod(x.r.Method)
	if x.r.Method == http.MethodHead && !x.r.Route.Bypass && keyable(x.r) {
		kept = x.learnFromHead(resp, &got)
	}
	if posted != nil {
		if keeping := posted.keepPost(resp, &got); keeping != nil {
			defer keeping.end()
			resp.Body = struct {
				io.Reader
				io.Closer
			}{keeping, resp.Body}
			o := &x.r.Outcome
			o.Stored, o.HasTTL, o.TTL = true, true, keeping.response.ttl(time.Now().UnixNano())
		}
	}
	x.relay(resp, got.fields, got.sized)
	x.r.Spent = !x.r.HasBody && !kept && x.r.room.origin != nil
}

// own is the client's request as it goes on, with its body.
func (x *exchange) own() question {
	out := x.cache.outgoingOf(x.r, true, x.r.Route.Origin, x.r.room)
	out.request = x.hr // for all but its header
	if x.hr.Close || x.hr.Host != x.r.Authority {
		out.request = x.hr.WithContext(x.hr.Context())
		out.request.Close, out.request.Host = false, x.r.Authority
	}
	out.early, out.room = x.r.room.hint, &x.r.room.origin
	return out
}

// hint relays a 1xx response while the final one is waited for.
func (x *exchange) hint(status int, fields []Field) {
	x.hints.Lock()
	defer x.hints.Unlock()
	if !x.over {
		x.early(earlyResponse{status, fields})
	}
}

// relay sends an origin's response on, streaming. sized: it came with a Content-Length.
func (x *exchange) relay(resp *http.Response, fields []Field, sized bool) {
	defer func() { _ = resp.Body.Close() }() // the body has been read or given up
	if length := resp.ContentLength; length >= 0 && !noBody(resp.StatusCode) && (length > 0 || sized) {
		if len(resp.Trailer) == 0 || x.r.Proto != HTTP1 {
			fields = append(fields, Field{"content-length", x.r.number(length)})
		}
	}
	fields = append(drop(fields, surrogateControl), x.cache.statusField(x.r))
	if x.proxy != "" {
		fields = append(fields, Field{"proxy-status", x.proxy})
	}
	x.writeHeader(resp.StatusCode, applyRules(fields, x.r.Route))
	if x.r.Method == http.MethodHead {
		return
	}
	x.copyFrom(resp.Body)
	x.writeTrailers(trailersOf(resp))
}

// originError is what an origin's RoundTripper may tell of a failure beside its
// text: the token of RFC 9209 2.3 and the status that fits.
type originError interface {
	error
	ProxyError() (token string, status int)
}

// failFetch answers a request whose fetch brought no response.
func (x *exchange) failFetch(err error) {
	if x.hr.Context().Err() != nil {
		panic(http.ErrAbortHandler)
	}
	token, status := "", http.StatusBadGateway
	var failed originError
	if errors.As(err, &failed) {
		token, status = failed.ProxyError()
	}
	x.cache.log.Warn("cache: fetch failed", "host", x.r.Host, "origin", x.r.Route.Origin, "err", err)
	later := retryAfter(err, status)
	if x.sendPage(status, token, later...) {
		return
	}
	x.fail(status, token, "the origin could not be asked or gave no usable answer", later...)
}

// retryAfter returns the field that says when to ask again, where an error knows.
func retryAfter(err error, status int) []Field {
	var known interface{ RetryAfter() time.Duration }
	if status != http.StatusServiceUnavailable || !errors.As(err, &known) || known.RetryAfter() <= 0 {
		return nil
	}
	// Rounded up: who comes early comes for nothing.
	return []Field{{"retry-after", strconv.FormatInt(int64((known.RetryAfter()+time.Second-1)/time.Second), 10)}}
}

// fail answers with an error of our own (RFC 9209).
func (x *exchange) fail(status int, token, why string, more ...Field) {
	body := strconv.Itoa(status) + " " + http.StatusText(status) + ": " + why + "\n"
	proxy := x.cache.name
	if token != "" {
		proxy += "; error=" + token
	}
	x.writeHeader(status, append([]Field{
		{"content-type", "text/plain; charset=utf-8"},
		{"content-length", strconv.Itoa(len(body))},
		{"cache-control", "no-store"},
		{"date", httpDate(time.Now())},
		{"proxy-status", proxy},
		x.cache.statusField(x.r),
	}, more...))
	if x.r.Method != http.MethodHead {
		x.writeAll([]byte(body))
	}
}
