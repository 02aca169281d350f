package h2

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"golang.org/x/net/http2/hpack"
)

// batch is a client that asks for many paths at once and reads the answers,
// itself without allocating.
type batch struct {
	nc     net.Conn
	r      *bufio.Reader
	next   uint32
	blocks [][]byte // header blocks that touch no table of the server's
	out    []byte
	buffer []byte
}

// newBatch connects and asks once for all of the paths.
func newBatch(tb testing.TB, nc net.Conn, paths []string) *batch {
	tb.Helper()
	b := &batch{nc: nc, r: bufio.NewReaderSize(nc, 64<<10), next: 1, buffer: make([]byte, 64<<10)}
	for _, path := range paths {
		block := []byte{0x82, 0x87} // GET, https
		if _, secure := nc.(*tls.Conn); !secure {
			block[1] = 0x86
		}
		for _, f := range [][2]string{{":authority", "a.test"}, {":path", path}, {"user-agent", "batch/1.0"}, {"accept", "*/*"}, {"accept-encoding", "gzip"}} {
			block = appendText(append(block, 0), f[0])
			block = hpack.AppendHuffmanString(appendInteger(block, 0x80, 7, int(hpack.HuffmanEncodeLength(f[1]))), f[1])
		}
		b.blocks = append(b.blocks, block)
	}
	hello := append([]byte(preface), appendHeader(nil, 6, kindSettings, 0, 0)...)
	hello = appendSetting(hello, settingInitialWindow, 1<<30)
	if _, err := nc.Write(appendWindowUpdate(hello, 0, 1<<30)); err != nil {
		tb.Fatal(err)
	}
	return b
}

// ask sends requests for n paths, beginning with one, and reads the answers. It
// returns the bytes of their bodies.
func (b *batch) ask(from, n int) (body int, err error) {
	b.out = b.out[:0]
	for i := range n {
		block := b.blocks[(from+i)%len(b.blocks)]
		b.out = append(appendHeader(b.out, len(block), kindHeaders, flagEndStream|flagEndHeaders, b.next), block...)
		b.next += 2
	}
	if _, err := b.nc.Write(b.out); err != nil {
		return 0, err
	}
	for done := 0; done < n; {
		if _, err := io.ReadFull(b.r, b.buffer[:headerSize]); err != nil {
			return 0, err
		}
		h := parseHeader(b.buffer)
		if _, err := io.ReadFull(b.r, b.buffer[:h.length]); err != nil {
			return 0, err
		}
		switch h.kind {
		case kindData:
			body += h.length
			if h.has(flagEndStream) {
				done++
			}
		case kindRST, kindGoAway:
			return 0, fmt.Errorf("frame %d: %x", h.kind, b.buffer[:h.length])
		}
	}
	if body > 0 {
		_, err = b.nc.Write(appendWindowUpdate(b.out[:0], 0, uint32(body)))
	}
	return body, err
}

// warm asks for all paths until memory answers them.
func warm(tb testing.TB, c *client, paths ...string) {
	tb.Helper()
	for _, path := range paths {
		eventually(tb, path+" in memory", func() bool {
			r := c.request(tb, "GET", path, nil)
			r.Host = "a.test"
			resp, _ := c.do(tb, r)
			return strings.Contains(resp.Header.Get("Cache-Status"), "; hit")
		})
	}
}

func numbered(n, size int) (paths []string) {
	for i := range n {
		paths = append(paths, fmt.Sprintf("/%d/of-%d", i, size))
	}
	return paths
}

// TestHitAllocatesNothing: distinct paths, in batches and alone, in the clear; of
// 100 kB too, where the windows let them.
func TestHitAllocatesNothing(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	for _, test := range []struct{ paths, size, batch int }{{200, 1000, 20}, {200, 1000, 1}, {50, 100_000, 5}} {
		e := start(t, cached(t, sized))
		paths := numbered(test.paths, test.size)
		warm(t, e.inClear(), paths...)
		nc, err := net.Dial("tcp", e.http)
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		b := newBatch(t, nc, paths)
		at := 0
		ask := func() {
			body, err := b.ask(at, test.batch)
			if err != nil || body != test.batch*test.size {
				t.Fatal(body, err)
			}
			at += test.batch
		}
		for range 2 * test.paths / test.batch { // buffers grow
			ask()
		}
		if n := testing.AllocsPerRun(2*test.paths/test.batch, ask); n != 0 {
			t.Errorf("%d hits of %d bytes at once: %v allocations", test.batch, test.size, n)
		}
	}
}

// tlsBatch connects over TLS.
func tlsBatch(b *testing.B, address string, config *tls.Config, paths []string) *batch {
	config = config.Clone()
	config.NextProtos = []string{"h2"}
	nc, err := tls.Dial("tcp", address, config)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = nc.Close() })
	return newBatch(b, nc, paths)
}

// BenchmarkHit measures hits over TLS on loopback, 20 at once, beside what net/http
// needs to send the same bytes. Client and server share the time that is shown.
func BenchmarkHit(b *testing.B) {
	for _, size := range []int{1000, 10_000, 100_000} {
		paths := numbered(100, size)
		run := func(b *testing.B, address string, config *tls.Config) {
			c := tlsBatch(b, address, config, paths)
			b.ReportAllocs()
			b.SetBytes(int64(size))
			n := 0
			for b.Loop() {
				if n++; n%20 == 0 {
					if _, err := c.ask(n, 20); err != nil {
						b.Fatal(err)
					}
				}
			}
		}
		b.Run(fmt.Sprintf("%d/edge", size), func(b *testing.B) {
			o := cached(b, sized)
			o.limits.ConnectionRequests = 1e9
			e := start(b, o)
			warm(b, e.overTLS(), paths...)
			run(b, e.https, &tls.Config{RootCAs: e.roots})
		})
		b.Run(fmt.Sprintf("%d/nethttp", size), func(b *testing.B) {
			cert, roots := certificate()
			body := make([]byte, size)
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				b.Fatal(err)
			}
			s := &http.Server{TLSConfig: &tls.Config{Certificates: []tls.Certificate{cert}}, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				h := w.Header()
				h["Content-Type"], h["Etag"], h["Cache-Control"] = []string{"application/octet-stream"}, []string{`"v1"`}, []string{"max-age=3600"}
				_, _ = w.Write(body)
			})}
			done := make(chan error, 1)
			go func() { done <- s.ServeTLS(ln, "", "") }()
			b.Cleanup(func() {
				_ = s.Close()
				<-done
			})
			run(b, ln.Addr().String(), &tls.Config{RootCAs: roots})
		})
	}
}
