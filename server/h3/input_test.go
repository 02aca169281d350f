package h3

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"github.com/quic-go/quic-go/quicvarint"

	"edgecdn/cache"
)

// dribble gives a few bytes at each Read, and the end with the last ones.
type dribble struct {
	rest []byte
	n    int
}

func (d *dribble) Read(p []byte) (int, error) {
	n := copy(p, d.rest[:min(d.n, len(d.rest))])
	if d.rest = d.rest[n:]; len(d.rest) == 0 {
		return n, io.EOF
	}
	return n, nil
}

// FuzzRequestStream has the reader of frames see the same in any pieces, and
// agree with one that has all bytes before it.
func FuzzRequestStream(f *testing.F) {
	f.Add(append(append([]byte{}, post...), dataFrame("some body")...), uint8(1))
	f.Add(append(append(frame(0x21, []byte("x")), post...), headersFrame(cache.Field{Name: "a", Value: "b"})...), uint8(3))
	f.Add(append(append([]byte{}, post...), 0, 0x80), uint8(7))
	f.Fuzz(func(t *testing.T, b []byte, n uint8) {
		want, wantErr := expect(b)
		d := &dribble{b, int(n%64) + 1}
		got, err := readAs(t, d)
		if (err == nil) != (wantErr == nil) || err == nil && !bytes.Equal(got, want) {
			t.Fatalf("%x: %q, %v; want %q, %v", b, got, err, want, wantErr)
		}
		var a, w *connectionError
		if errors.As(err, &a) && errors.As(wantErr, &w) && a.code != w.code {
			t.Fatalf("%x: %v, want %v", b, err, wantErr)
		}
	})
}

// readAs reads header and body as the engine does.
func readAs(t *testing.T, d *dribble) ([]byte, error) {
	c := &conn{engine: &Engine{stats: &Stats{}}}
	in := input{buf: make([]byte, 64), need: -1}
	for {
		if _, err := in.headers(c, 1<<10); err == nil {
			break
		} else if err != errAgain {
			return nil, err
		}
		if in.ended == io.EOF && in.clean() {
			return nil, io.ErrUnexpectedEOF
		}
		if err := in.truncated(); err != nil {
			return nil, err
		}
		if err := in.fill(d.Read); err != nil {
			return nil, err
		}
	}
	var body []byte
	for {
		kind, length, ok := in.frame()
		switch {
		case !ok && in.ended == nil:
			if err := in.fill(d.Read); err != nil {
				t.Fatal(err)
			}
		case !ok && in.clean():
			return body, nil
		case !ok:
			return body, in.truncated()
		case kind == frameData:
			for length > 0 {
				n := min(int(min(length, 1<<20)), in.w-in.r)
				body = append(body, in.buf[in.r:in.r+n]...)
				in.r += n
				if length -= uint64(n); length == 0 {
					break
				}
				if in.ended != nil {
					return body, in.truncated()
				}
				if err := in.fill(d.Read); err != nil {
					t.Fatal(err)
				}
			}
		default:
			if err := c.beside(kind, length); err != nil {
				return body, err
			}
			in.skip = length
		}
	}
}

// expect does the same with everything at hand.
func expect(b []byte) (body []byte, err error) {
	c := &conn{engine: &Engine{stats: &Stats{}}}
	for headers := false; len(b) > 0; {
		kind, n, err := quicvarint.Parse(b)
		if err != nil {
			return nil, violation(codeFrameError, "")
		}
		length, m, err := quicvarint.Parse(b[n:])
		if err != nil {
			return nil, violation(codeFrameError, "")
		}
		b = b[n+m:]
		switch {
		case kind == frameHeaders && !headers && length > 1<<10:
			return nil, errTooLong
		case kind == frameHeaders && !headers, kind == frameData && headers:
		default:
			if err := c.beside(kind, length); err != nil {
				return nil, err
			}
		}
		if length > uint64(len(b)) {
			return nil, violation(codeFrameError, "")
		}
		if kind == frameData {
			body = append(body, b[:length]...)
		}
		headers = headers || kind == frameHeaders
		b = b[length:]
		if len(b) == 0 && headers {
			return body, nil
		}
	}
	return nil, io.ErrUnexpectedEOF
}
