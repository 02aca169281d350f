package origin

// h1_upload.go sends a request whose body does not fit its header's write, beside
// the reading of what comes back: an origin may answer before it has all.

import (
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	uploadBytes = 32 << 10
	// chunkRoom is for the size before a chunk, chunkEnd for what is behind it.
	chunkRoom, chunkEnd = 10, 2
	// uploadLag is how long the end of an answer waits for the sender to notice that
	// it has sent all.
	uploadLag = 50 * time.Millisecond
)

var uploadRooms = sync.Pool{New: func() any { return new([uploadBytes]byte) }}

type h1Upload struct {
	x       *h1Exchange
	length  int64 // -1: in chunks
	expects bool  // 100 (Continue) is waited for
	answers chan bool
	done    chan struct{}
	begun   bool
	whole   bool // all was sent; to be read when done is closed
	closing sync.Once
}

func newH1Upload(x *h1Exchange, length int64) *h1Upload {
	u := &h1Upload{x: x, length: length, done: make(chan struct{})}
	if strings.EqualFold(firstOf(x.request.fields, "expect"), "100-continue") {
		u.expects, u.answers = true, make(chan bool, 1)
	}
	return u
}

// begin sends on c.
func (u *h1Upload) begin(c *h1Conn) {
	u.begun = true
	go u.run(c, u.x.room.out)
}

// proceed tells that the origin has said 100 (Continue), or has answered without.
func (u *h1Upload) proceed(wanted bool) {
	if u.answers == nil {
		return
	}
	select {
	case u.answers <- wanted:
	default: // known already
	}
}

// close closes the request's body, once.
func (u *h1Upload) close() { u.closing.Do(func() { closeBody(u.x.request.Request) }) }

// over is called when the answer is whole, or given up. It says whether the request
// has gone out whole, too.
func (u *h1Upload) over(wait bool) bool {
	if !u.begun {
		u.close()
		return false
	}
	if wait {
		late := time.NewTimer(uploadLag)
		defer late.Stop()
		select {
		case <-u.done:
			return u.whole
		case <-late.C:
		}
	}
	select {
	case <-u.done:
		return u.whole
	default:
	}
	u.x.interrupt() // a write that waits, ends
	u.close()       // and so should a read
	u.proceed(false)
	return false
}

// idle says whether nobody sends any more.
func (u *h1Upload) idle() bool {
	if !u.begun {
		return true
	}
	select {
	case <-u.done:
		return true
	default:
		return false
	}
}

func (u *h1Upload) run(c *h1Conn, head []byte) {
	defer close(u.done)
	defer u.close()
	err := u.send(c, head)
	u.whole = err == nil
	x := u.x
	x.guard.Lock()
	defer x.guard.Unlock()
	if x.conn != c || errors.Is(err, errUnwanted) {
		return
	}
	if err == nil {
		if !x.answered {
			c.waitRead(x.client.cfg.HeaderTimeout, time.Now(), x.last)
		}
		return
	}
	x.uploadErr = err
	broken := errors.Is(err, errWrite)
	if broken && (x.answered || !timeout(err)) {
		// It reads no more, but may have answered. If it has not, the read says so.
		x.uploadErr = nil
		if !x.answered {
			c.waitRead(x.client.cfg.HeaderTimeout, time.Now(), x.last)
		}
		return
	}
	if broken {
		x.uploadErr = errorf(KindWriteTimeout, "nothing of the request was taken for %v", x.client.cfg.StallTimeout)
	}
	x.uploadCut = true
	c.cut() // the origin must not take a part for the whole
}

// errUnwanted ends an upload that the origin answered without wanting it.
var errUnwanted = errors.New("the origin answered without asking for the body")

func (u *h1Upload) send(c *h1Conn, head []byte) error {
	if err := u.write(c, head); err != nil {
		return err
	}
	if u.expects {
		late := time.NewTimer(continueWait)
		defer late.Stop()
		select {
		case wanted := <-u.answers:
			if !wanted {
				return errUnwanted
			}
		case <-late.C: // RFC 9110 10.1.1: not for ever
		}
	}
	room := uploadRooms.Get().(*[uploadBytes]byte)
	defer uploadRooms.Put(room)
	if u.length < 0 {
		return u.sendChunks(c, room[:])
	}
	for left := u.length; left > 0; {
		n, err := u.x.request.Body.Read(room[:min(left, uploadBytes)])
		left -= int64(n)
		if n > 0 {
			if err := u.write(c, room[:n]); err != nil {
				return err
			}
		}
		if err == io.EOF && left > 0 {
			err = io.ErrUnexpectedEOF
		}
		if err != nil && err != io.EOF {
			return errorf(KindRequest, "read the request's body: %w", err)
		}
	}
	return nil
}

func (u *h1Upload) sendChunks(c *h1Conn, room []byte) error {
	for {
		n, err := u.x.request.Body.Read(room[chunkRoom : len(room)-chunkEnd])
		if n > 0 {
			var size [chunkRoom]byte
			line := append(strconv.AppendInt(size[:0], int64(n), 16), '\r', '\n')
			start := chunkRoom - len(line)
			copy(room[start:], line)
			copy(room[chunkRoom+n:], "\r\n")
			if err := u.write(c, room[start:chunkRoom+n+chunkEnd]); err != nil {
				return err
			}
		}
		switch {
		case err == io.EOF:
			return u.write(c, appendTrailers(nil, u.x.request.Request))
		case err != nil:
			return errorf(KindRequest, "read the request's body: %w", err)
		}
	}
}

func (u *h1Upload) write(c *h1Conn, b []byte) error {
	c.waitWrite(u.x.client.cfg.StallTimeout, time.Now(), u.x.last)
	if _, err := c.nc.Write(b); err != nil {
		return fmt.Errorf("%w: %w", errWrite, err)
	}
	return nil
}
