package server

// body.go is the request body as handlers read it: with a deadline on each read
// that the client makes us wait for, and with the bytes that were read to learn
// whether there is a body at all.

import (
	"errors"
	"io"
	"net/http"
	"os"
	"sync"
	"time"
)

// hasBody reports whether a body follows. On HTTP/3 the header does not say:
// unknown is true there when the request carries no Content-Length.
func hasBody(r *http.Request) (has, unknown bool) {
	if r.ProtoMajor < 3 {
		return r.ContentLength != 0, false
	}
	return r.ContentLength != 0, r.ContentLength < 0
}

// usuallyEmpty lists the methods whose requests seldom have bodies. For these it
// is worth waiting for the end of the stream, which comes with the header;
// others may want an answer before they send the first byte.
func usuallyEmpty(method string) bool {
	switch method {
	case "GET", "HEAD", "OPTIONS", "DELETE", "TRACE":
		return true
	}
	return false
}

type requestBody struct {
	x       *exchange
	from    io.ReadCloser
	source  *http.Request // the engine's own request, which gets the trailers
	request *http.Request // the handler's
	first   [1]byte       // read ahead
	ahead   bool
	stall   time.Duration

	// mu keeps deadlines from being set on a stream that is another's by now:
	// transports may read on when the handler has returned.
	mu   sync.Mutex
	done bool // the handler has returned
	eof  bool // nothing is left to read
}

// peek waits for the first byte of a body or for its end.
func (b *requestBody) peek() (has bool, err error) {
	for {
		n, err := b.read(b.first[:])
		switch {
		case n > 0:
			b.ahead = true
			return true, nil
		case err == io.EOF:
			return false, nil
		case err != nil:
			return false, err
		}
	}
}

// Read implements io.Reader.
func (b *requestBody) Read(p []byte) (n int, err error) {
	if b.ahead && len(p) > 0 {
		b.ahead = false
		p[0] = b.first[0]
		return 1, nil
	}
	n, err = b.read(p)
	if err == io.EOF {
		b.takeTrailers()
	}
	return n, err
}

func (b *requestBody) read(p []byte) (int, error) {
	d, ok := b.x.rw.(deadlines)
	if !ok {
		return b.from.Read(p)
	}
	b.mu.Lock()
	if b.done {
		b.mu.Unlock()
		return 0, http.ErrBodyReadAfterClose
	}
	_ = d.SetReadDeadline(time.Now().Add(b.stall))
	b.mu.Unlock()
	n, err := b.from.Read(p)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.eof = b.eof || err == io.EOF
	if !b.done {
		// A deadline left behind would end an HTTP/1.1 connection that is
		// watched for the client's going away.
		_ = d.SetReadDeadline(time.Time{})
		b.x.door.server.stats.BytesReceived[b.x.req.Proto-1].Add(uint64(n))
		if errors.Is(err, os.ErrDeadlineExceeded) {
			b.x.door.server.stats.Stalled.Add(1)
		}
	}
	return n, err
}

// takeTrailers hands on what the engine put into its own request at the end of
// the body, for the handler has a copy.
func (b *requestBody) takeTrailers() {
	if b.source == nil || len(b.source.Trailer) == 0 {
		return
	}
	if b.request.Trailer == nil {
		b.request.Trailer = make(http.Header, len(b.source.Trailer))
	}
	for name, values := range b.source.Trailer {
		b.request.Trailer[name] = values
	}
}

// Close implements io.Closer.
func (b *requestBody) Close() error { return b.from.Close() }

// end is called when the handler has returned.
func (b *requestBody) end() {
	b.mu.Lock()
	b.done = true
	b.mu.Unlock()
}

// ended reports whether the body has been read to its end.
func (b *requestBody) ended() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.eof
}

// finish notes that somebody else has read the rest.
func (b *requestBody) finish() {
	b.mu.Lock()
	b.eof = true
	b.mu.Unlock()
}

// prepareBody gives the handler's copy r of source a body that ends as it should.
func (x *exchange) prepareBody(r, source *http.Request) {
	if !x.req.HasBody {
		r.Body, r.ContentLength = http.NoBody, 0
		return
	}
	x.body.source, x.body.request = source, r
	r.Body = &x.body
}
