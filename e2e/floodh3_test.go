package e2e

import (
	"bytes"
	"context"
	"io"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/quicvarint"
)

// Codes of RFC 9114 and 9218.
const (
	h3Headers, h3Settings, h3Priority = 0x1, 0x4, 0xf0700
	h3Cancelled                       = 0x10c
)

func h3Frame(kind uint64, payload []byte) []byte {
	b := quicvarint.Append(quicvarint.Append(nil, kind), uint64(len(payload)))
	return append(b, payload...)
}

// h3Get returns the HEADERS frame of a GET, all literals (RFC 9204 4.5.6).
func h3Get(target string, more ...string) []byte {
	block := []byte{0, 0}
	pairs := append([]string{":method", "GET", ":scheme", "https", ":authority", "edge.test", ":path", target}, more...)
	for i := 0; i < len(pairs); i += 2 {
		block = append(h3Integer(block, 0x20, 3, len(pairs[i])), pairs[i]...)
		block = append(h3Integer(block, 0, 7, len(pairs[i+1])), pairs[i+1]...)
	}
	return h3Frame(h3Headers, block)
}

// h3Integer appends an integer with a prefix of so many bits (RFC 7541 5.1).
func h3Integer(b []byte, pattern byte, bits, n int) []byte {
	most := 1<<bits - 1
	if n < most {
		return append(b, pattern|byte(n))
	}
	b = append(b, pattern|byte(most))
	for n -= most; n >= 128; n >>= 7 {
		b = append(b, byte(n)|128)
	}
	return append(b, byte(n))
}

// h3Flooding makes an attack of a connection on which the same is done again and
// again until it is cut. Control is its control stream.
func h3Flooding(again func(ctx context.Context, c *quic.Conn, control *quic.SendStream) error) func(context.Context, *victim) {
	return func(ctx context.Context, v *victim) {
		ctx, cancel := context.WithTimeout(ctx, 6*time.Second)
		defer cancel()
		config := v.tls.Clone()
		config.NextProtos = []string{"h3"}
		c, err := quic.DialAddr(ctx, v.https, config, &quic.Config{InitialStreamReceiveWindow: 2048, MaxStreamReceiveWindow: 2048})
		if err != nil {
			return
		}
		defer c.CloseWithError(0x100, "")
		control, err := c.OpenUniStream()
		if err != nil {
			return
		}
		control.SetWriteDeadline(time.Now().Add(6 * time.Second))
		if _, err := control.Write(append([]byte{0}, h3Frame(h3Settings, nil)...)); err != nil {
			return
		}
		for range 20_000 {
			if c.Context().Err() != nil || ctx.Err() != nil || again(ctx, c, control) != nil {
				return
			}
		}
	}
}

// h3Request opens a stream and sends on it.
func h3Request(ctx context.Context, c *quic.Conn, what []byte) (*quic.Stream, error) {
	s, err := c.OpenStreamSync(ctx)
	if err != nil {
		return nil, err
	}
	s.SetDeadline(time.Now().Add(6 * time.Second))
	_, err = s.Write(what)
	return s, err
}

func attacksHTTP3() []attack {
	slow := h3Get(respond("delay", "1s", "body", "x", "header", "Cache-Control:no-store"))
	bomb := h3Frame(h3Headers, append([]byte{0, 0}, bytes.Repeat([]byte{0xc0 | 1}, 30_000)...))
	onControl := func(lot []byte) func(context.Context, *quic.Conn, *quic.SendStream) error {
		return func(_ context.Context, _ *quic.Conn, control *quic.SendStream) error {
			_, err := control.Write(lot)
			return err
		}
	}
	return []attack{
		{"h3: requests that are reset", h3Flooding(func(ctx context.Context, c *quic.Conn, _ *quic.SendStream) error {
			s, err := h3Request(ctx, c, slow)
			if err == nil {
				s.CancelRead(h3Cancelled)
				s.CancelWrite(h3Cancelled)
			}
			return err
		}), "flood", "h3"},
		{"h3: unknown frames", h3Flooding(onControl(bytes.Repeat(h3Frame(0x21, []byte("grease")), 100))), "flood", "h3"},
		{"h3: PRIORITY_UPDATE", h3Flooding(onControl(bytes.Repeat(h3Frame(h3Priority, []byte("\x00u=1")), 100))), "flood", "h3"},
		{"h3: unknown streams", h3Flooding(func(ctx context.Context, c *quic.Conn, _ *quic.SendStream) error {
			s, err := c.OpenUniStreamSync(ctx)
			if err == nil {
				s.Write([]byte{0x21})
				s.CancelWrite(h3Cancelled)
			}
			return err
		}), "", ""},
		{"h3: responses that nobody reads", h3Flooding(func(ctx context.Context, c *quic.Conn, _ *quic.SendStream) error {
			_, err := h3Request(ctx, c, h3Get("/video/1MB.bin"))
			return err
		}), "edge_messages_stalled_total", ""},
		{"h3: headers that never end", h3Flooding(func(ctx context.Context, c *quic.Conn, _ *quic.SendStream) error {
			_, err := h3Request(ctx, c, slow[:len(slow)-1])
			return err
		}), "header_timeout", "h3"},
		{"h3: header bombs", h3Flooding(func(ctx context.Context, c *quic.Conn, _ *quic.SendStream) error {
			s, err := h3Request(ctx, c, bomb)
			if err == nil {
				s.Close()
				io.Copy(io.Discard, s)
			}
			return err
		}), "", ""},
	}
}
