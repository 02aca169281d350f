package server

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

func (e *edge) quicEngine() *quicEngine {
	for _, each := range e.engines {
		if q, ok := each.(*quicEngine); ok {
			return q
		}
	}
	e.t.Fatal("no QUIC engine")
	return nil
}

func TestConnectIsNotOffered(t *testing.T) {
	e := start(t, setup{handler: func(http.ResponseWriter, *http.Request) { panic("reached the handler") }})
	for _, c := range []*client{e.h2(), e.h3()} {
		r := c.request(t, "CONNECT", "", nil)
		r.Host = "a.test:443"
		resp, err := c.Do(r)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusNotImplemented {
			t.Errorf("%s: %s", c.name, resp.Status)
		}
	}
	// http3 offers extended CONNECT whatever we say, so browsers use it.
	c := e.h3()
	r := c.request(t, "CONNECT", "/socket", nil)
	r.Proto = "websocket"
	resp, err := c.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusNotImplemented {
		t.Errorf("extended CONNECT: %s", resp.Status)
	}
}

// rawHTTP2 is a connection for frames that no client would send.
type rawHTTP2 struct {
	t      *testing.T
	framer *http2.Framer
	enc    *hpack.Encoder
	block  bytes.Buffer
}

func (e *edge) rawHTTP2(t *testing.T, settings ...http2.Setting) *rawHTTP2 {
	t.Helper()
	conn, err := tls.Dial("tcp", e.https, e.tls("h2"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(patience))
	_, _ = io.WriteString(conn, http2.ClientPreface)
	c := &rawHTTP2{t: t, framer: http2.NewFramer(conn, conn)}
	c.enc = hpack.NewEncoder(&c.block)
	c.framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	_ = c.framer.WriteSettings(settings...)
	return c
}

// request sends a request without a body: names and values in turn.
func (c *rawHTTP2) request(stream uint32, fields ...string) {
	c.block.Reset()
	for i := 0; i < len(fields); i += 2 {
		_ = c.enc.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
	}
	_ = c.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: c.block.Bytes(), EndStream: true, EndHeaders: true})
}

// read returns the next frame, acknowledging settings on the way.
func (c *rawHTTP2) read() http2.Frame {
	c.t.Helper()
	frame, err := c.framer.ReadFrame()
	if err != nil {
		c.t.Fatal(err)
	}
	if f, ok := frame.(*http2.SettingsFrame); ok && !f.IsAck() {
		_ = c.framer.WriteSettingsAck()
	}
	return frame
}

// status sends a request and returns the status of the answer, "reset" if the
// stream was.
func (c *rawHTTP2) status(stream uint32, fields ...string) string {
	c.t.Helper()
	c.request(stream, fields...)
	for {
		switch f := c.read().(type) {
		case *http2.RSTStreamFrame:
			return "reset"
		case *http2.MetaHeadersFrame:
			return f.PseudoValue("status")
		}
	}
}

func TestRawHTTP2(t *testing.T) {
	e := start(t, setup{handler: echo})
	c := e.rawHTTP2(t)
	get := []string{":method", "GET", ":scheme", "https"}
	for i, test := range []struct {
		name   string
		fields []string
		want   string
	}{
		{"usual", append(get, ":authority", "a.test", ":path", "/"), "200"},
		{"Host beside authority", append(get, ":authority", "a.test:443", ":path", "/", "host", "A.test"), "200"},
		{"Host instead of authority", append(get, ":path", "/", "host", "a.test"), "200"},
		{"another Host beside authority", append(get, ":authority", "a.test", ":path", "/", "host", "b.test"), "400"},
		{"two Hosts", append(get, ":path", "/", "host", "a.test", "host", "b.test"), "reset"},
		{"no host", append(get, ":path", "/"), "400"},
		{"userinfo", append(get, ":authority", "u@a.test", ":path", "/"), "400"},
		{"absolute form", append(get, ":authority", "a.test", ":path", "https://b.test/"), "400"},
		{"asterisk", append(get, ":authority", "a.test", ":path", "*"), "400"},
		{"asterisk of OPTIONS", []string{":method", "OPTIONS", ":scheme", "https", ":authority", "a.test", ":path", "*"}, "200"},
		{"the other scheme", []string{":method", "GET", ":scheme", "http", ":authority", "a.test", ":path", "/"}, "421"},
		{"extended CONNECT", []string{":method", "CONNECT", ":protocol", "websocket", ":scheme", "https", ":authority", "a.test", ":path", "/"}, "501"},
	} {
		if got := c.status(uint32(2*i+1), test.fields...); got != test.want {
			t.Errorf("%s: %s, want %s", test.name, got, test.want)
		}
	}
}

// TestHTTP2Settings: streams are bounded, extended CONNECT is not offered.
func TestHTTP2Settings(t *testing.T) {
	e := start(t, setup{config: Config{Limits: Limits{Streams: 7}}})
	c := e.rawHTTP2(t)
	for {
		frame := c.read()
		settings, ok := frame.(*http2.SettingsFrame)
		if !ok || settings.IsAck() {
			continue
		}
		if n, _ := settings.Value(http2.SettingMaxConcurrentStreams); n != 7 {
			t.Errorf("%d streams, want 7", n)
		}
		if n, ok := settings.Value(http2.SettingEnableConnectProtocol); ok && n != 0 {
			t.Error("extended CONNECT is offered")
		}
		return
	}
}

func TestHTTP3StreamsAreBounded(t *testing.T) {
	e := start(t, setup{config: Config{Limits: Limits{Streams: 3}}})
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	conn, err := quic.DialAddr(ctx, e.https, e.tls("h3"), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.CloseWithError(0x100, "")
	for i := range 3 {
		if _, err := conn.OpenStream(); err != nil {
			t.Fatalf("stream %d: %v", i, err)
		}
	}
	var limit *quic.StreamLimitReachedError
	if _, err := conn.OpenStream(); !errors.As(err, &limit) {
		t.Errorf("stream 4: %v, want the limit", err)
	}
}

// TestNoEarlyData: a client that resumes cannot send requests before the
// handshake is done, for they could be replayed.
func TestNoEarlyData(t *testing.T) {
	e := start(t, setup{})
	config := e.tls()
	config.ClientSessionCache = tls.NewLRUClientSessionCache(4)
	resumed := false
	for range 2 {
		tr := &http3.Transport{TLSClientConfig: config}
		resp, err := tr.RoundTrip((&client{base: "https://" + e.https}).request(t, "GET", "/", nil))
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
		resumed = resp.TLS.DidResume
		_ = tr.Close()
	}
	if !resumed {
		t.Error("the second connection did not resume: the test shows nothing")
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	early := http3.ConfigureTLSConfig(config)
	conn, err := quic.DialAddrEarly(ctx, e.https, early, &quic.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.CloseWithError(0x100, "")
	select {
	case <-conn.HandshakeComplete():
	case <-ctx.Done():
		t.Fatal("no handshake")
	}
	if conn.ConnectionState().Used0RTT {
		t.Error("early data was taken")
	}
}

// TestRetryUnderLoad: past a rate of handshakes clients prove their address, and
// are served.
func TestRetryUnderLoad(t *testing.T) {
	e := start(t, setup{})
	verify := e.quicEngine().transport.VerifySourceAddress
	eventually(t, "addresses are to be proven", func() bool {
		asked := false
		for range 2 * e.gate.Limits().HandshakeRate {
			asked = verify(nil) || asked
		}
		return asked
	})
	before := e.Stats().Gate.Retries.Load()
	if before == 0 {
		t.Error("retries are not counted")
	}
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() { // keeps the allowance used up
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			default:
				verify(nil)
			}
		}
	}()
	resp, _ := e.h3().get(t, "/")
	close(stop)
	<-stopped
	if resp.StatusCode != 200 {
		t.Error(resp.Status)
	}
}

func TestStatsCountRequests(t *testing.T) {
	e := start(t, setup{handler: func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		if r.URL.Path == "/gone" {
			w.WriteHeader(http.StatusGone)
		}
		_, _ = io.WriteString(w, "12345")
	}})
	e.each(t, func(t *testing.T, c *client) {
		p := c.proto - 1
		ok, gone, sent := e.Stats().Gate.Status[p][1].Load(), e.Stats().Gate.Status[p][3].Load(), e.Stats().Gate.BytesSent[p].Load()
		c.get(t, "/")
		c.do(t, c.request(t, "POST", "/gone", io.LimitReader(endless{}, 1000)))
		s := e.Stats().Gate
		eventually(t, "two requests at their end", func() bool { return e.gate.Inflight() == 0 }) // then all of it is counted
		if n, m := s.Status[p][1].Load()-ok, s.Status[p][3].Load()-gone; n != 1 || m != 1 {
			t.Errorf("%d and %d requests counted", n, m)
		}
		if n := s.BytesSent[p].Load() - sent; n != 10 {
			t.Errorf("%d bytes sent, want 10", n)
		}
	})
	s := e.Stats().Gate
	if a, b, c := s.BytesReceived[0].Load(), s.BytesReceived[1].Load(), s.BytesReceived[2].Load(); a != 2000 || b != 1000 || c != 1000 {
		t.Errorf("%d, %d, %d bytes received, want 2000, 1000, 1000", a, b, c)
	}
	hosts := s.Hosts()
	if len(hosts) != 2 || hosts[1].Name != "*" {
		t.Fatalf("%d hosts", len(hosts))
	}
	if n := hosts[1].Requests[0][0].Load(); n != 4 {
		t.Errorf("%d requests over HTTP/1.1 without the cache, want 4", n)
	}
	var observed uint64
	for i := range s.Latency[0].Buckets {
		observed += s.Latency[0].Buckets[i].Load()
	}
	if observed != 8 || s.Latency[0].Sum.Load() <= 0 {
		t.Errorf("%d durations observed, want 8", observed)
	}
}

type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }
