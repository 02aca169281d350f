package server

// dispatch.go takes one request from an engine to its answer: understood, matched,
// judged, looked up inline, and only then handed to the handler. All protocols
// share it.

import (
	"errors"
	"io"
	"net/http"
	"net/netip"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"edgecdn/access"
	"edgecdn/cache"
	"edgecdn/internal/authority"
	"edgecdn/route"
)

// ServeHTTP is what the engines call.
func (d *door) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s := d.server
	x := s.exchanges.Get().(*exchange)
	x.reset(d, w, r)
	s.inflight.enter(r.ProtoMajor)
	defer s.inflight.leave(r.ProtoMajor)
	defer x.end()
	x.serve(r)
}

func (x *exchange) serve(r *http.Request) {
	s, req := x.door.server, &x.req
	size, p := x.read(r)
	live := s.live.Load()
	switch {
	case int64(size) > int64(live.limits.HeaderBytes):
		s.stats.HeadersRefused.Add(1)
		x.refuse(http.StatusRequestHeaderFieldsTooLarge, "the header is longer than "+live.limits.HeaderBytes.String())
		return
	case req.Method == http.MethodConnect:
		x.deny(s.seam.Judge(nil, req.Method, req.Client.Addr()))
		return
	case p == problemScheme:
		x.refuse(http.StatusMisdirectedRequest, string(p))
		return
	case p != "":
		s.stats.Malformed.Add(1)
		x.refuse(http.StatusBadRequest, string(p))
		return
	case !x.understandBody(r, live.limits.StallTimeout):
		return
	}
	verdict, ok := x.admit()
	if !ok {
		return
	}
	if verdict.Action == access.Allow && !req.HasBody && (req.Method == http.MethodGet || req.Method == http.MethodHead) {
		if hit, ok := s.seam.Lookup(req); ok {
			x.sendHit(&hit)
			return
		}
	}
	x.handle(r, int64(live.limits.Handlers))
}

// understandBody settles whether a body follows. It reports false when the
// request has been answered, or is not worth an answer.
func (x *exchange) understandBody(r *http.Request, stall time.Duration) bool {
	has, unknown := hasBody(r)
	x.req.HasBody = has
	x.body.stall = stall
	if r.ProtoMajor == 3 && r.Header.Get("Expect") == "100-continue" && has {
		// http3 leaves it to handlers (RFC 9110 10.1.1).
		x.WriteHeader(http.StatusContinue)
	}
	if !unknown || !usuallyEmpty(r.Method) {
		return true
	}
	has, err := x.body.peek()
	x.req.HasBody = has
	switch {
	case err == nil:
		return true
	case errors.Is(err, os.ErrDeadlineExceeded):
		x.refuse(http.StatusRequestTimeout, "the request did not end")
		return false
	}
	x.aborted = true
	panic(http.ErrAbortHandler) // the client went away or broke the protocol
}

// read fills x.req in. It returns the size of the header and what is wrong with
// the request; where something is, Host and Target are as sent, for the log.
func (x *exchange) read(r *http.Request) (size int, p problem) {
	req := &x.req
	req.Reset()
	req.Method, req.Scheme, req.Listener = r.Method, x.door.scheme, x.door.listener
	req.Proto = cache.Proto(protocolIndex(r.ProtoMajor) + 1)
	if r.Method == "PRI" {
		req.Proto = cache.HTTP1 // the preface of HTTP/2 where it was not offered
	}
	req.Client, _ = netip.ParseAddrPort(r.RemoteAddr)
	req.Client = netip.AddrPortFrom(req.Client.Addr().Unmap(), req.Client.Port())
	req.Authority, req.Host, req.Target = r.Host, r.Host, r.RequestURI
	x.body.x, x.body.from = x, r.Body
	if req.Proto == cache.HTTP1 {
		x.fullDuplex()
	}
	size = x.readFields(r)
	if r.Method == http.MethodConnect {
		return size, ""
	}
	named, target, p := parseTarget(r.Method, r.RequestURI, req.Scheme)
	if p != "" {
		return size, p
	}
	if named != "" {
		if r.ProtoMajor != 1 {
			return size, problemTarget // RFC 9113 8.3.1, RFC 9114 4.3.1
		}
		req.Authority = named // RFC 9112 3.2.2
	}
	host, ok := authority.Parse(req.Authority, req.Scheme)
	if !ok {
		return size, problemHost
	}
	for _, other := range r.Header["Host"] { // over HTTP/2 beside :authority
		if other, ok := authority.Parse(other, req.Scheme); !ok || other != host {
			return size, problemHostTwice
		}
	}
	req.Host, req.Target = host, target
	return size, ""
}

// readFields fills the field list and returns the size of the header as it
// would be in HTTP/1.1, so that one limit means the same on every protocol.
func (x *exchange) readFields(r *http.Request) (size int) {
	req := &x.req
	size = len(r.Method) + len(r.RequestURI) + len(" HTTP/1.1\r\n\r\n") + len(r.Host) + len("host: \r\n")
	for canonical, values := range r.Header {
		if canonical == "Host" {
			continue
		}
		name := lowerName(canonical)
		for _, value := range values {
			size += len(name) + len(value) + len(": \r\n")
			req.Fields = append(req.Fields, cache.Field{Name: name, Value: value})
		}
	}
	return size
}

// admit finds the route and asks whether the request may go on. Where it may
// not, it is answered here.
func (x *exchange) admit() (access.Verdict, bool) {
	s, req := x.door.server, &x.req
	matched, err := s.seam.Match(req.Host, req.Target)
	switch {
	case errors.Is(err, route.ErrNoHost):
		x.refuse(http.StatusMisdirectedRequest, "this host is not served here")
		return access.Verdict{}, false
	case errors.Is(err, route.ErrAmbiguous):
		s.stats.Malformed.Add(1)
		x.refuse(http.StatusBadRequest, "the path can be read in two ways")
		return access.Verdict{}, false
	case err != nil:
		x.refuse(http.StatusNotFound, "nothing is served under this path")
		return access.Verdict{}, false
	}
	req.Route = matched
	if location, status, ok := matched.Redirect(req.Scheme, req.Host, req.Target); ok {
		x.rw.Header()["Location"] = []string{location}
		x.answer(status, "see "+location)
		return access.Verdict{}, false
	}
	if matched.Origin == "" { // only redirects, and none applied
		x.refuse(http.StatusNotFound, "nothing is served under this path")
		return access.Verdict{}, false
	}
	verdict := s.seam.Judge(matched, req.Method, req.Client.Addr())
	if verdict.Action == access.Deny {
		x.deny(verdict)
		return verdict, false
	}
	return verdict, true
}

// sendHit writes a response that Lookup found.
func (x *exchange) sendHit(hit *cache.Hit) {
	defer hit.Release()
	x.unguard()
	x.fields = hit.AppendFields(x.fields[:0])
	h := x.rw.Header()
	values := make([]string, len(x.fields)) // the engine keeps the header map past our return
	for i, f := range x.fields {
		name := canonicalName(f.Name)
		if have, twice := h[name]; twice {
			h[name] = append(have, strings.Clone(f.Value))
			continue
		}
		values[i] = strings.Clone(f.Value)
		h[name] = values[i : i+1 : i+1]
	}
	x.WriteHeader(hit.Status)
	if body := hit.Body(); len(body) > 0 && x.req.Method != http.MethodHead {
		_, _ = x.Write(body) // counted; the engine knows that the connection is gone
	}
}

// handle gives the request to the handler, if one more may be at work.
func (x *exchange) handle(r *http.Request, handlersMax int64) {
	s := x.door.server
	if s.stats.HandlersBusy.Add(1) > handlersMax {
		s.stats.HandlersBusy.Add(-1)
		s.stats.HandlersRefused.Add(1)
		x.rw.Header()["Retry-After"] = []string{"1"}
		x.refuse(http.StatusServiceUnavailable, "too many requests at work")
		return
	}
	defer s.stats.HandlersBusy.Add(-1)
	x.general = true
	x.unguard()
	inner := r.WithContext(cache.NewContext(r.Context(), &x.req))
	x.prepareBody(inner, r)
	defer x.body.end()
	s.seam.Handler.ServeHTTP(x, inner)
	if x.status == 0 && !x.hijacked {
		x.WriteHeader(http.StatusOK)
	}
}

// unguard lifts the deadline that the server sets on TLS connections for the
// sake of small HTTP/2 responses: see guard in tcp.go.
func (x *exchange) unguard() {
	if x.req.Proto == cache.HTTP1 && x.door.scheme == "https" {
		if d, ok := x.rw.(deadlines); ok {
			_ = d.SetWriteDeadline(time.Time{})
		}
	}
	x.disarm()
}

// deny answers what access refused.
func (x *exchange) deny(v access.Verdict) {
	x.door.server.stats.Denied.Add(1)
	if v.Allow != "" {
		x.rw.Header()["Allow"] = []string{v.Allow}
	}
	x.refuse(v.Status, v.Reason)
}

// refuse answers with an error of ours. It is never stored by anybody.
func (x *exchange) refuse(status int, reason string) {
	x.rw.Header()["Cache-Control"] = []string{"no-store"}
	x.answer(status, reason)
}

func (x *exchange) answer(status int, text string) {
	h := x.rw.Header()
	if status == http.StatusBadRequest && x.req.Proto == cache.HTTP1 {
		// What follows on this connection may not be what it seems (RFC 9112 9.6).
		h["Connection"] = []string{"close"}
	}
	body := strconv.Itoa(status) + " " + http.StatusText(status) + ": " + text + "\n"
	h["Content-Type"] = []string{"text/plain; charset=utf-8"}
	h["X-Content-Type-Options"] = []string{"nosniff"}
	h["Content-Length"] = []string{strconv.Itoa(len(body))}
	x.WriteHeader(status)
	if x.req.Method != http.MethodHead {
		_, _ = io.WriteString(x, body)
	}
}

// end finishes the exchange: panics and short responses become visible aborts,
// everything is counted and logged.
func (x *exchange) end() {
	s := x.door.server
	abort := false
	if p := recover(); p != nil {
		abort = true
		if p != http.ErrAbortHandler {
			s.stats.Panics.Add(1)
			s.log.Error("handler panicked", "panic", p, "host", x.req.Host, "target", x.req.Target, "stack", string(debug.Stack()))
			if x.status == 0 && !x.hijacked {
				abort = false
				clear(x.rw.Header())
				x.refuse(http.StatusInternalServerError, "something broke in here")
			}
		}
	} else if x.short() {
		abort = true
	}
	if x.took != nil {
		s.hijacks.remove(x.took)
		_ = x.took.Close() // the handler may have closed it
	}
	if !abort {
		x.drain()
	}
	x.settle()
	if x.aborted = x.aborted || abort; x.aborted {
		s.stats.Aborted.Add(1)
	}
	took := time.Since(x.start)
	s.stats.finished(x, took)
	s.accessLog.write(x, took)
	if abort {
		x.cut()
	}
	if !x.general {
		// What the handler has seen is left to the garbage collector: fills that
		// outlive their request must not read the next one's fields.
		x.rw, x.r, x.body = nil, nil, requestBody{}
		s.exchanges.Put(x)
	}
	if abort {
		panic(http.ErrAbortHandler)
	}
}

// cut makes an abort visible where only the end of the connection ends the
// response, as in HTTP/1.0: it resets the connection instead of closing it.
func (x *exchange) cut() {
	if x.req.Proto != cache.HTTP1 || x.length >= 0 || x.r.ProtoAtLeast(1, 1) {
		return
	}
	if c := connOf(x.r); c != nil {
		_ = c.SetLinger(0) // already closed is as good
	}
}

// short reports whether fewer bytes were written than announced. The client must
// see that: over HTTP/2 and HTTP/3 the stream would end as if all were well.
func (x *exchange) short() bool {
	return x.length > x.written && !x.hijacked && x.req.Method != http.MethodHead && bodyAllowed(x.status)
}

func bodyAllowed(status int) bool {
	return status >= 200 && status != http.StatusNoContent && status != http.StatusNotModified
}
