package origin

// call.go is one request on its way to an origin: which endpoints are asked, one
// after the other, until one answers or there is no use in asking more.
//
//	pick --> send --> an answer ------------------------------> the caller
//	  ^        |        | one that means failure (502, 503, 504)
//	  |        v        v
//	  |      failure ---+--> may it be sent again? --no--> the caller
//	  |                        | yes, and the budget has room
//	  +----- backoff ----------+
//
// Each try holds a lease of the pool. It ends with the try, or, where the try's
// response goes to the caller, with the response's body (answer.go).

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/zeebo/xxh3"

	"edgecdn/pool"
)

type call struct {
	up      *upstream
	message       // as it is to be sent; its Body is in tape
	tape    *tape // nil without a body
	again   bool  // may be sent again though an endpoint has seen it
	hint    pool.Hint
	tries   int
	avoid   [4]string // room for hint.Avoid
	one     try       // the first, and what is its own
	lease   pool.Lease
	link    h1Exchange
	room    *any // of Forward's caller; nil for none
}

// try is a request under way to one endpoint, and what came of it.
type try struct {
	lease  *pool.Lease
	ctx    context.Context
	cancel context.CancelFunc // nil where the caller's context is used
	start  time.Time
	resp   *http.Response
	fields []Field // of resp, where its Header is nil
	err    error
	body   answer
}

func newCall(up *upstream, m message, room *any) *call {
	r := m.Request
	c := callIn(room)
	c.up, c.message, c.again = up, m, m.idempotent()
	c.hint.Avoid = c.avoid[:0]
	if r.Body != nil && r.Body != http.NoBody {
		c.tape = &tape{source: r.Body, max: bodyHeld} // read before there is a connection
		if c.again {
			c.tape.max = int(up.cfg.Retries.BodyMax)
		}
	}
	c.hint.Steady = !c.again
	if up.cfg.Pool.Policy == pool.PolicyMaglev {
		if up.cfg.Hash == hashClient {
			c.hint.Hash = xxh3.HashString(clientHost(r.RemoteAddr))
		} else {
			c.hint.Hash = xxh3.HashString(m.host + m.target)
		}
	}
	return c
}

// callIn returns what was left in room by an earlier request, empty, or a new one.
func callIn(room *any) *call {
	var c *call
	if room != nil {
		c, _ = (*room).(*call)
		*room = nil
	}
	if c == nil {
		return &call{room: room}
	}
	section, fields, stop := c.link.section[:0], c.link.fields[:0], c.link.stop
	clear(fields[:cap(fields)])
	if cap(section) > sectionKept {
		section = nil
	}
	*c = call{room: room}
	c.link.section, c.link.fields, c.link.stop = section, fields, stop
	return c
}

// ours says whether a try is the only one that there has been, and nobody but the
// caller's goroutine knows of it.
func (c *call) ours(t *try) bool {
	return t == &c.one && t.cancel == nil && c.tries == 1 && c.tape == nil
}

// leave leaves the call to the caller's next request, once all of this one is over. It
// is for the garbage collector where somebody may still know it: a try beside this one,
// who reads on after the end, or is about to interrupt it.
func (c *call) leave(t *try) {
	if c.room != nil && c.ours(t) && c.link.over {
		*c.room = c
	}
}

// idempotent says whether the same request may arrive twice (RFC 9110 9.2.2).
func (m *message) idempotent() bool {
	return !m.has("upgrade") && m.replayable()
}

// run sends the request until it is answered or given up.
func (c *call) run() (*http.Response, []Field, error) {
	c.up.budget.request(time.Now())
	defer func() {
		if c.tape != nil {
			c.tape.finish()
		}
	}()
	for {
		t := c.first()
		wait, ok := c.repeat(t)
		if !ok {
			return c.deliver(t)
		}
		t.discard()
		if wait > 0 {
			timer := time.NewTimer(wait)
			select {
			case <-timer.C:
			case <-c.Context().Done():
				timer.Stop()
				return nil, nil, c.up.count(contextError(c.Context()))
			}
		}
	}
}

// first is the next try; the very first may be hedged.
func (c *call) first() *try {
	if c.tries == 0 && c.mayHedge() {
		return c.hedged()
	}
	t := c.begin(c.hint)
	if t.err == nil {
		c.send(t)
	}
	return t
}

// begin picks an endpoint. Where there is none the try has ended.
func (c *call) begin(hint pool.Hint) *try {
	t := &c.one
	if c.tries > 0 || t.ctx != nil { // it may still be under way
		t = new(try)
	}
	t.ctx = c.Context()
	lease := &c.lease
	if t != &c.one {
		lease = new(pool.Lease)
	}
	if t.err = c.up.pool.PickTo(t.ctx, hint, lease); t.err != nil {
		t.err = refusal(t.ctx, t.err)
		return t
	}
	t.lease = lease
	c.tries++
	c.hint.Avoid = append(c.hint.Avoid, t.lease.Address())
	t.start = time.Now()
	return t
}

// refusal says why there is nobody to send to.
func refusal(ctx context.Context, err error) error {
	var none *pool.UnavailableError
	switch {
	case errors.As(err, &none):
		return &Error{Kind: KindUnavailable, Err: none, unsent: true, refused: true, after: none.RetryAfter}
	case ctx.Err() != nil:
		return contextError(ctx)
	}
	return &Error{Kind: KindConnectionLimit, Err: err, unsent: true, refused: true, after: time.Second}
}

// contextError says what the end of the caller's context means.
func contextError(ctx context.Context) error {
	if canceled(ctx) {
		return canceledError()
	}
	return &Error{Kind: KindResponseTimeout, Err: ctx.Err()}
}

// over says whether the caller's time is over. The socket's deadline may notice before
// the context's timer.
func over(ctx context.Context) bool {
	deadline, ok := ctx.Deadline()
	return ctx.Err() != nil || ok && !time.Now().Before(deadline)
}

// send sends the request to the endpoint that was picked, and tells the pool.
func (c *call) send(t *try) {
	out := c.message
	if t.ctx != c.Context() || c.tape != nil {
		out.Request = c.WithContext(t.ctx)
	}
	if c.tape != nil {
		out.Body = c.tape.take()
	}
	if c.ours(t) {
		out.link = &c.link
	}
	t.resp, t.fields, t.err = c.up.links.to(t.lease.Address()).roundTrip(out)
	now := time.Now()
	o := pool.Outcome{Latency: now.Sub(t.start)}
	switch {
	case t.err == nil:
		if o.Failed = c.unwelcome(t.resp); o.Failed {
			o.Answered = true
		} else {
			c.up.delays.observe(now, o.Latency)
		}
	case over(t.ctx) || !blames(t.err):
		o.Canceled = true
	default:
		o.Failed, o.Answered = true, answered(t.err)
	}
	t.lease.Observe(o)
}

// blames says whether an error is the endpoint's doing, not the caller's or ours.
func blames(err error) bool {
	var e *Error
	return errors.As(err, &e) && e.Kind != KindRequest && e.Kind != KindConnectionLimit && e.Kind != KindInternal
}

// answered says whether an error is in what the endpoint said, and not in how it is reached.
func answered(err error) bool {
	var e *Error
	return errors.As(err, &e) && slices.Contains(oddAnswers, e.Kind)
}

// oddAnswers are the kinds of errors that are in a response.
var oddAnswers = []Kind{KindProtocol, KindHeaderSize, KindTransferCoding, KindResponseIncomplete, KindUpgrade}

// unwelcome says whether a response means that the endpoint cannot do its work now.
func (c *call) unwelcome(resp *http.Response) bool {
	return slices.Contains(c.up.cfg.Retries.Statuses, resp.StatusCode)
}

// good says that a try's response is one to keep.
func (c *call) good(t *try) bool { return t.err == nil && !c.unwelcome(t.resp) }

// repeat says whether, and after what time, the request is to be sent again.
func (c *call) repeat(t *try) (wait time.Duration, ok bool) {
	cfg, stats := &c.up.cfg.Retries, c.up.stats
	if c.good(t) || cfg.Off || over(c.Context()) {
		return 0, false
	}
	var e *Error
	after, reason := time.Duration(0), RetryStatus
	switch {
	case t.err == nil:
		after = t.retryAfter(time.Now())
		if !c.up.pool.Spare(c.hint.Avoid) && (after == 0 || after > cfg.RetryAfterMax) {
			return 0, false // to repeat it where it was answered is of use only if we are told so
		}
	case !errors.As(t.err, &e) || e.refused:
		return 0, false
	case e.Kind == KindRequest, e.Kind == KindInternal, e.Kind == KindHeaderSize, e.Kind == KindUpgrade:
		return 0, false // it would be the same again
	case e.unsent:
		reason = RetryConnect
	default:
		reason = RetryFailure
	}
	switch {
	case reason != RetryConnect && !c.again:
		stats.RetriesRefused[RefusedMethod].Add(1)
	case c.tape != nil && !c.tape.replayable():
		stats.RetriesRefused[RefusedBody].Add(1)
	case c.tries > cfg.Max:
		stats.RetriesRefused[RefusedMax].Add(1)
	case !c.up.budget.take(time.Now()):
		stats.RetriesRefused[RefusedBudget].Add(1)
	default:
		stats.Retries[reason].Add(1)
		wait = backoff(cfg, c.tries-1)
		if after > 0 && !c.up.pool.Spare(c.hint.Avoid) {
			wait = max(wait, after)
		}
		return wait, true
	}
	return 0, false
}

// backoff returns a random time up to the longest (full jitter): the requests that
// failed together do not come back together.
func backoff(cfg *Retries, n int) time.Duration { return rand.N(longest(cfg, n) + 1) }

// longest is the most that is waited before retry n, from 0: it doubles each time.
func longest(cfg *Retries, n int) time.Duration {
	most := cfg.Backoff
	for range n {
		if most *= 2; most >= cfg.BackoffMax {
			break
		}
	}
	return min(most, cfg.BackoffMax)
}

// retryAfter returns the time of a response's Retry-After; 0 if it has none
// (RFC 9110 10.2.3).
func (t *try) retryAfter(now time.Time) time.Duration {
	value := t.resp.Header.Get("Retry-After")
	if t.resp.Header == nil {
		value = firstOf(t.fields, "retry-after")
	}
	if seconds, err := strconv.ParseUint(value, 10, 31); err == nil {
		return time.Duration(seconds) * time.Second
	}
	if date, err := http.ParseTime(value); err == nil {
		return max(0, date.Sub(now))
	}
	return 0
}

// deliver gives the caller what came of the last try.
func (c *call) deliver(t *try) (*http.Response, []Field, error) {
	if t.err != nil {
		t.discard()
		return nil, nil, c.up.count(t.err)
	}
	t.resp.Request = c.Request
	t.answer(c)
	return t.resp, t.fields, nil
}

// discard ends a try whose response nobody wants.
func (t *try) discard() {
	if t.resp != nil {
		_ = t.resp.Body.Close() // nobody reads it
	}
	if t.cancel != nil {
		t.cancel()
	}
	if t.lease != nil {
		t.lease.Done()
	}
}
