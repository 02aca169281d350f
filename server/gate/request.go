package gate

// request.go makes of an Exchange the *http.Request that handlers get.

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"unsafe"

	"edgecdn/cache"
)

// request returns what the handler is called with; false where the target is no
// URL.
func (w *response) request(ctx context.Context) (*http.Request, bool) {
	x := w.x
	req := &x.Request
	if bare := x.door.seam.Bare; bare != nil && !req.HasBody && surelyURL(req.Target) && bare(req) {
		return w.bareRequest(ctx), true
	}
	target, err := url.ParseRequestURI(req.Target)
	if err != nil {
		return nil, false
	}
	r := &http.Request{
		Method: req.Method, URL: target, Host: req.Authority, RequestURI: req.Target,
		RemoteAddr: req.Client.String(), TLS: x.TLS, ContentLength: x.ContentLength,
		Header: make(http.Header, len(req.Fields)), Body: http.NoBody,
	}
	r.ProtoMajor, r.ProtoMinor = int(req.Proto), 0
	r.Proto = x.version()
	values := make([]string, len(req.Fields))
	for i, f := range req.Fields {
		name := canonicalName(f.Name)
		if have, twice := r.Header[name]; twice {
			r.Header[name] = append(have, f.Value)
			continue
		}
		values[i] = f.Value
		r.Header[name] = values[i : i+1 : i+1]
	}
	if req.Proto == cache.HTTP1 {
		r.Close = hasToken(r.Header["Connection"], "close") || x.HTTP10 && !hasToken(r.Header["Connection"], "keep-alive")
		if !x.HTTP10 {
			r.ProtoMinor = 1
		}
	}
	if req.HasBody {
		w.body = requestBody{x: x, stream: w.stream, left: x.bodyBytesMax()}
		r.Body = &w.body
		if x.ContentLength < 0 && req.Proto == cache.HTTP1 {
			r.TransferEncoding = []string{"chunked"}
		}
		w.announce(r)
	} else {
		r.ContentLength = 0
	}
	r = r.WithContext(cache.NewContext(ctx, req))
	w.body.request = r // the one that handlers look for trailers in
	return r, true
}

// bareRequest is a request for a handler that looks neither at header nor at URL. It
// stays with the Exchange, as the Request that it is of.
type bareRequest struct {
	context cache.Context
	empty   *http.Request // with that context
	request http.Request
	client  []byte
}

// bareRequest is request for such a handler.
func (w *response) bareRequest(ctx context.Context) *http.Request {
	x := w.x
	req, b := &x.Request, &x.bare
	b.context = cache.Context{Context: ctx, Request: req}
	if b.empty == nil {
		b.empty = new(http.Request).WithContext(&b.context)
	}
	b.client = req.Client.AppendTo(b.client[:0])
	r := &b.request
	*r = *b.empty
	r.Method, r.Host, r.RequestURI, r.TLS, r.Body = req.Method, req.Authority, req.Target, x.TLS, http.NoBody
	r.RemoteAddr = unsafe.String(unsafe.SliceData(b.client), len(b.client))
	r.Proto, r.ProtoMajor = x.version(), int(req.Proto)
	if req.Proto == cache.HTTP1 && !x.HTTP10 {
		r.ProtoMinor = 1
	}
	w.body.request = r
	return r
}

// surelyURL says whether a target is a URL at a glance: others are parsed.
func surelyURL(target string) bool {
	if target == "" || target[0] != '/' {
		return false
	}
	for i := range len(target) {
		switch c := target[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', strings.IndexByte("-._~/?=&:,+", c) >= 0:
		default:
			return false
		}
	}
	return true
}

// announce moves the names in Trailer to where net/http has them.
func (w *response) announce(r *http.Request) {
	for _, value := range r.Header["Trailer"] {
		for name := range strings.SplitSeq(value, ",") {
			name = canonicalName(strings.ToLower(strings.TrimSpace(name)))
			if name == "" || framingField(name) {
				continue
			}
			if r.Trailer == nil {
				r.Trailer = http.Header{}
			}
			r.Trailer[name] = nil
		}
	}
	delete(r.Header, "Trailer")
}

// requestBody is the request's body as handlers read it.
type requestBody struct {
	x       *Exchange
	stream  Stream
	request *http.Request

	// mu lets the handler's end wait for a Read under way to be told.
	mu   sync.Mutex
	done bool // the handler has returned: transports may read on
	eof  bool
	left int64 // of what the body may have; -1: it has had more
}

// Read implements io.Reader.
func (b *requestBody) Read(p []byte) (int, error) {
	b.mu.Lock()
	done, eof, left := b.done, b.eof, b.left
	b.mu.Unlock()
	switch {
	case done:
		return 0, http.ErrBodyReadAfterClose
	case eof:
		return 0, io.EOF
	case left < 0:
		return 0, errBodyTooLong
	}
	n, err := b.stream.Read(p[:min(int64(len(p)), left+1)]) // one more shows that there is more
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.done {
		return n, err
	}
	stats := &b.x.door.stats
	stats.BytesReceived[b.x.Request.Proto-1].Add(uint64(n))
	if b.left -= int64(n); b.left < 0 {
		stats.BodiesRefused.Add(1)
		return n - 1, errBodyTooLong
	}
	switch {
	case err == io.EOF:
		b.eof = true
		b.takeTrailers()
	case errors.Is(err, os.ErrDeadlineExceeded):
		stats.Stalled.Add(1)
	}
	return n, err
}

func (b *requestBody) takeTrailers() {
	for _, f := range b.stream.Trailers() {
		name := canonicalName(f.Name)
		if framingField(name) {
			continue
		}
		if b.request.Trailer == nil {
			b.request.Trailer = http.Header{}
		}
		b.request.Trailer[name] = append(slices.Clip(b.request.Trailer[name]), f.Value)
	}
}

// Close implements io.Closer. What is left unread is the engine's affair.
func (b *requestBody) Close() error { return nil }

// errBodyTooLong is what handlers read instead of the end of a body that is longer
// than it may be.
var errBodyTooLong = errors.New("gate: the request's body is longer than limits.body_bytes")

// tooLong says whether the body turned out to be longer than it may be.
func (b *requestBody) tooLong() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.left < 0
}

// end is called when the handler has returned.
func (b *requestBody) end() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.done = true
}
