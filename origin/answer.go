package origin

// answer.go is a response on its way to the caller. It holds the lease of the
// endpoint that it comes from until its body has ended.

import (
	"context"
	"errors"
	"io"
	"net/http"

	"edgecdn/pool"
)

// answer puts the try's lease behind the response's body.
func (t *try) answer(c *call) {
	if t.resp.Body == http.NoBody {
		t.discard()
		c.leave(t)
		return
	}
	a := &t.body
	*a = answer{ReadCloser: t.resp.Body, c: c, t: t}
	if tunnel, ok := t.resp.Body.(io.ReadWriteCloser); ok && t.resp.StatusCode == http.StatusSwitchingProtocols {
		t.resp.Body = &tunneled{a, tunnel}
		return
	}
	t.resp.Body = a
}

// answer is a response's body.
type answer struct {
	io.ReadCloser
	c   *call
	t   *try
	err error // sticky
}

func (a *answer) Read(p []byte) (int, error) {
	if a.err != nil {
		return 0, a.err
	}
	n, err := a.ReadCloser.Read(p)
	if err == nil {
		return n, nil
	}
	if err != io.EOF {
		if e := (*Error)(nil); errors.As(err, &e) || errors.Is(err, context.Canceled) {
			err = a.c.up.count(err)
			if blames(err) && !over(a.t.ctx) {
				a.t.lease.Observe(pool.Outcome{Failed: true, Answered: true})
			}
		}
	}
	a.t.lease.Done()
	a.err = err
	if err == io.EOF {
		a.c.leave(a.t)
	}
	return n, err
}

// Close gives the rest of the body up, if there is any.
func (a *answer) Close() error {
	err := a.ReadCloser.Close()
	if a.t.cancel != nil {
		a.t.cancel()
	}
	a.t.lease.Done()
	return err
}

// tunneled is the connection behind a 101. Its two directions are used at once.
type tunneled struct {
	*answer
	tunnel io.ReadWriteCloser
}

// Read reads what the origin sends; errors are the connection's own.
func (u *tunneled) Read(p []byte) (int, error) { return u.tunnel.Read(p) }

// Write sends to the origin.
func (u *tunneled) Write(p []byte) (int, error) { return u.tunnel.Write(p) }

// CloseWrite says that nothing more will be written.
func (u *tunneled) CloseWrite() error {
	if half, ok := u.tunnel.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return errors.ErrUnsupported
}
