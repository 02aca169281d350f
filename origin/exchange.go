package origin

// exchange.go watches over one request over HTTP/2. A single timer guards whichever phase it
// is in, and cancels the request's context when the phase takes too long:
//
//	connect --GotConn--> send --WroteRequest--> header --response--> body
//	   ^                  |          |
//	   +---GetConn--------+----------+  (net/http repeats it on another connection)
//
// The timer rests while nobody waits for the origin: between two reads of the
// response's body, and while the request's body is read from the client.

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/http/httpguts"
)

type phase uint8

const (
	phaseConnect phase = iota
	phaseSend
	phaseHeader
	phaseBody
)

type exchange struct {
	s      *httpSender
	caller context.Context
	ctx    context.Context
	cancel context.CancelCauseFunc
	start  time.Time
	timer  *time.Timer
	whole  *time.Timer // nil without a limit for the whole

	mu        sync.Mutex
	phase     phase
	deadline  time.Time // when the timer counts; zero while it rests
	waiting   bool      // counted in Stats.Waiting
	asked     bool      // net/http found nothing wrong with the request
	connected int       // connections that the request was given to
	informed  int       // 1xx responses
	uploadErr error     // of the client's body
	ended     bool
}

func begin(s *httpSender, caller context.Context) *exchange {
	up := s.up
	x := &exchange{s: s, caller: caller, start: time.Now(), waiting: true}
	x.ctx, x.cancel = context.WithCancelCause(caller)
	s.active.Add(1)
	s.waiting.Add(1)
	up.stats.Active.Add(1)
	up.stats.Waiting.Add(1)
	x.deadline = x.start.Add(up.cfg.DialTimeout)
	x.timer = time.AfterFunc(up.cfg.DialTimeout, x.expire)
	if limit := up.cfg.Timeout; limit > 0 {
		x.whole = time.AfterFunc(limit, func() { x.cancel(errorf(KindResponseTimeout, "not done within %v", limit)) })
	}
	return x
}

// trace returns a context through which net/http tells the phases.
func (x *exchange) trace(ctx context.Context, m *message) context.Context {
	trace := &httptrace.ClientTrace{
		GetConn: func(string) { x.enter(phaseConnect, x.s.up.cfg.DialTimeout) },
		GotConn: func(httptrace.GotConnInfo) { x.enter(phaseSend, x.s.up.cfg.StallTimeout) },
		WroteRequest: func(info httptrace.WroteRequestInfo) {
			if info.Err == nil {
				x.enter(phaseHeader, x.s.up.cfg.HeaderTimeout)
			}
		},
	}
	if early := m.early; early != nil || m.trace != nil && m.trace.Got1xxResponse != nil {
		// With this hook set net/http leaves the bound to us; without, it counts
		// them against the header's bytes.
		trace.Got1xxResponse = func(status int, h textproto.MIMEHeader) error {
			x.inform()
			if early != nil { // else that of the context is called beside this one
				early(status, lowered(http.Header(h)))
			}
			return nil
		}
	}
	return httptrace.WithClientTrace(ctx, trace)
}

// enter starts a phase before the response's header.
func (x *exchange) enter(p phase, limit time.Duration) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.phase == phaseBody || x.ended {
		return // the request's body may outlast the response's header
	}
	x.phase = p
	x.arm(limit)
	x.asked = true
	if p == phaseSend {
		if x.connected++; x.connected > 1 {
			x.s.up.stats.Repeated.Add(1)
		}
	}
	x.wait(p == phaseConnect)
}

// wait keeps Stats.Waiting. Called with mu held.
func (x *exchange) wait(waiting bool) {
	if x.waiting == waiting {
		return
	}
	x.waiting = waiting
	n := int64(1)
	if !waiting {
		n = -1
	}
	x.s.waiting.Add(n)
	x.s.up.stats.Waiting.Add(n)
}

// arm starts the timer anew; 0 lets it rest. Called with mu held.
func (x *exchange) arm(limit time.Duration) {
	if limit == 0 {
		x.deadline = time.Time{}
		x.timer.Stop()
		return
	}
	x.deadline = time.Now().Add(limit)
	x.timer.Reset(limit)
}

// expire is called by the timer, perhaps just as the phase has changed.
func (x *exchange) expire() {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.ended || x.deadline.IsZero() || time.Now().Before(x.deadline) {
		return
	}
	cfg, err := &x.s.up.cfg, (*Error)(nil)
	switch x.phase {
	case phaseConnect:
		err = errorf(KindConnectTimeout, "no connection within %v", cfg.DialTimeout)
		if x.s.dialer.open.Load() >= int64(cfg.Connections) {
			err = errorf(KindConnectionLimit, "all %d connections were busy for %v", cfg.Connections, cfg.DialTimeout)
		}
	case phaseSend:
		err = errorf(KindWriteTimeout, "nothing of the request was taken for %v", cfg.StallTimeout)
	case phaseHeader:
		err = errorf(KindResponseTimeout, "no response within %v", cfg.HeaderTimeout)
	case phaseBody:
		err = errorf(KindReadTimeout, "the response stood still for %v", cfg.StallTimeout)
	}
	x.cancel(err)
}

func (x *exchange) inform() {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.informed++; x.informed > informationalMax {
		x.cancel(errorf(KindProtocol, "more than %d informational responses", informationalMax))
	}
}

// header judges a response's header and puts the watch on its body. After an
// error the response is closed.
func (x *exchange) header(resp *http.Response) error {
	x.mu.Lock()
	x.phase = phaseBody
	x.wait(false)
	x.arm(0)
	x.mu.Unlock()
	x.s.up.stats.HeaderTime.observe(time.Since(x.start))

	err := judge(resp)
	if e := (*Error)(nil); errors.As(context.Cause(x.ctx), &e) {
		err = e // too late, or too many 1xx before it
	}
	if err != nil {
		_ = resp.Body.Close() // nothing in it is wanted
		return err
	}
	if resp.Body == http.NoBody {
		x.end()
	} else {
		resp.Body = &body{ReadCloser: resp.Body, x: x}
	}
	return nil
}

// judge refuses what net/http lets through and nobody could pass on.
func judge(resp *http.Response) error {
	switch {
	case resp.ProtoMajor != 2:
		return errorf(KindProtocol, "%s where HTTP/2 is spoken", resp.Proto)
	case resp.StatusCode < 200 || resp.StatusCode > 599: // RFC 9110 15
		return errorf(KindProtocol, "status %d is none that ends a request", resp.StatusCode)
	}
	for name := range resp.Header {
		// "Cache-Control : private" is another field to us than to the client that
		// lets the space pass (RFC 9112 5.1).
		if !httpguts.ValidHeaderFieldName(name) {
			return errorf(KindProtocol, "%.80q is no field name", name)
		}
	}
	return nil
}

// explain says what an error of net/http means.
func (x *exchange) explain(err error, inBody bool) error {
	x.mu.Lock()
	uploadErr, asked, connected := x.uploadErr, x.asked, x.connected > 0
	x.mu.Unlock()
	var cause *Error
	switch {
	case errors.As(context.Cause(x.ctx), &cause): // our own doing
		if !inBody && !connected {
			cause.unsent = true
		}
		return cause
	case errors.As(err, &cause):
		return cause
	case canceled(x.caller):
		return fmt.Errorf("origin: %w", context.Canceled)
	case x.caller.Err() != nil:
		return &Error{Kind: KindResponseTimeout, Err: x.caller.Err()}
	case inBody:
		return &Error{Kind: bodyKind(err), Err: err}
	case uploadErr != nil:
		return errorf(KindRequest, "read the request's body: %w", uploadErr)
	case connected:
		return &Error{Kind: headerKind(err), Err: err}
	case !asked:
		return &Error{Kind: KindRequest, Err: err, unsent: true}
	}
	return &Error{Kind: connectKind(err), Err: err, unsent: true}
}

// end is called once nothing more of the exchange is wanted.
func (x *exchange) end() {
	x.mu.Lock()
	if x.ended {
		x.mu.Unlock()
		return
	}
	x.ended = true
	x.wait(false)
	x.arm(0)
	x.mu.Unlock()
	if x.whole != nil {
		x.whole.Stop()
	}
	x.cancel(nil)
	x.s.up.stats.Active.Add(-1)
	if x.s.active.Add(-1) == 0 && x.s.retired.Load() {
		x.s.closeIdle(0)
	}
}

// uploading is called around each read of the request's body.
func (x *exchange) uploading(limit time.Duration, err error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if err != nil && err != io.EOF {
		x.uploadErr = err
	}
	if x.phase == phaseSend && !x.ended {
		x.arm(limit)
	}
}

// upload is a request's body. While it is read the client is waited for, not the
// origin.
type upload struct {
	io.ReadCloser
	x *exchange
}

func (u *upload) Read(p []byte) (int, error) {
	u.x.uploading(0, nil)
	n, err := u.ReadCloser.Read(p)
	u.x.uploading(u.x.s.up.cfg.StallTimeout, err)
	return n, err
}

// downloading is called around each read of the response's body.
func (x *exchange) downloading(limit time.Duration) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if !x.ended {
		x.arm(limit)
	}
}

// body is a response's body: it ends well with io.EOF, or with an *Error.
type body struct {
	io.ReadCloser
	x      *exchange
	err    error // sticky
	closed atomic.Bool
}

func (b *body) Read(p []byte) (int, error) {
	if b.err != nil {
		return 0, b.err
	}
	b.x.downloading(b.x.s.up.cfg.StallTimeout)
	n, err := b.ReadCloser.Read(p)
	b.x.downloading(0)
	if err != nil && err != io.EOF && !b.closed.Load() {
		err = b.x.explain(err, true)
	}
	b.err = err
	return n, err
}

// Close gives the rest of the body up, if there is any.
func (b *body) Close() error {
	b.closed.Store(true)
	err := b.ReadCloser.Close()
	b.x.end()
	return err
}
