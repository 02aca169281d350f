package h3

// input.go reads frames off a request stream (RFC 9114 7.1), from a buffer that
// takes what has come.

import (
	"errors"
	"io"
	"os"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/quicvarint"
)

// errTooLong says that a field section is longer than is read.
var errTooLong = errors.New("h3: field section too long")

type input struct {
	stream *quic.Stream
	buf    []byte
	r, w   int    // buf[r:w] has come and is not used yet
	skip   uint64 // bytes of an unknown frame's payload still to pass over
	need   int    // length of the field section to come, -1 for none
	ended  error  // what Read said last: io.EOF when all has come
}

// clean reports whether nothing is left between two frames.
func (in *input) clean() bool { return in.r == in.w && in.skip == 0 && in.need < 0 }

// truncated makes an error of a stream that ended within a frame, or was reset.
func (in *input) truncated() error {
	if in.ended == io.EOF {
		return violation(codeFrameError, "the stream ended within a frame") // RFC 9114 7.1
	}
	return in.ended
}

// fill reads what has come, or waits for it.
func (in *input) fill(read func([]byte) (int, error)) error {
	switch {
	case in.r == in.w:
		in.r, in.w = 0, 0
	case in.r > 0 && (in.w == len(in.buf) || in.need > len(in.buf)-in.r):
		in.w = copy(in.buf, in.buf[in.r:in.w])
		in.r = 0
	}
	if in.need > len(in.buf) {
		grown := make([]byte, in.need+bufferBytes)
		in.w = copy(grown, in.buf[in.r:in.w])
		in.r, in.buf = 0, grown
	}
	n, err := read(in.buf[in.w:])
	in.w += n
	if err == nil || n > 0 && errors.Is(err, os.ErrDeadlineExceeded) {
		return nil
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return err
	}
	if in.ended = err; n > 0 || err == io.EOF {
		return nil
	}
	return err
}

// frame takes the next frame's type and length off the buffer; ok is false where
// they have not come. What is left of an unknown frame is passed over first.
func (in *input) frame() (kind, length uint64, ok bool) {
	if in.skip > 0 {
		n := min(in.skip, uint64(in.w-in.r))
		in.r += int(n)
		if in.skip -= n; in.skip > 0 {
			return 0, 0, false
		}
	}
	b := in.buf[in.r:in.w]
	kind, n, err := quicvarint.Parse(b)
	if err != nil {
		return 0, 0, false
	}
	length, m, err := quicvarint.Parse(b[n:])
	if err != nil {
		return 0, 0, false
	}
	in.r += n + m
	return kind, length, true
}

// headers takes the field section that must come before all else, past unknown
// frames; errAgain where it has not come whole. The bytes are valid until fill.
func (in *input) headers(c *conn, most int) (block []byte, err error) {
	for in.need < 0 {
		kind, length, ok := in.frame()
		switch {
		case !ok:
			return nil, errAgain
		case kind != frameHeaders:
			if err := c.beside(kind, length); err != nil {
				return nil, err
			}
			in.skip = length
		case length > uint64(most):
			return nil, errTooLong
		default:
			in.need = int(length)
		}
	}
	if in.w-in.r < in.need {
		return nil, errAgain
	}
	block = in.buf[in.r : in.r+in.need]
	in.r, in.need = in.r+in.need, -1
	return block, nil
}

// beside judges a frame on a request stream that is not expected there: unknown
// ones are passed over (RFC 9114 9).
func (c *conn) beside(kind, length uint64) error {
	switch kind {
	case frameData, frameHeaders, frameCancelPush, frameSettings, framePushPromise, frameGoaway, frameMaxPushID,
		framePriorityRequest, framePriorityPush:
		return violation(codeFrameUnexpected, "unexpected frame on a request stream")
	}
	if reservedFrame(kind) {
		return violation(codeFrameUnexpected, "a frame type of HTTP/2")
	}
	if length > ignoredBytesMax {
		return violation(codeExcessiveLoad, "an unknown frame is too long")
	}
	return c.heard()
}
