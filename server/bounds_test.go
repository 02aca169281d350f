package server

// bounds_test.go: how many connections, handshakes and bytes of a body there may
// be, and that what is beyond is closed at once and counted.

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quic-go/quic-go"

	"edgecdn/route"
	"edgecdn/server/gate"
)

// dialFrom connects from an address of loopback, all of which are this machine's.
func dialFrom(t testing.TB, from, to string) net.Conn {
	t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}, Timeout: patience}
	c, err := d.Dial("tcp", to)
	if errors.Is(err, syscall.ECONNRESET) { // refused so fast that Dial sees it
		c, _ = net.Pipe()
		_ = c.Close()
		return c
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(patience))
	return c
}

// served asks for something and reports whether an answer came.
func served(t testing.TB, c net.Conn) bool {
	t.Helper()
	if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n"); err != nil {
		return false
	}
	b := make([]byte, 12)
	if _, err := io.ReadFull(c, b); err != nil {
		if errors.Is(err, context.DeadlineExceeded) {
			t.Fatal("neither served nor refused")
		}
		return false
	}
	return string(b) == "HTTP/1.1 200"
}

func (e *edge) refused(why gate.Refusal) uint64 { return e.Stats().Gate.ConnectionsRefused[why].Load() }

func TestBoundsOfConnections(t *testing.T) {
	for _, test := range []struct {
		name        string
		limits      Limits
		open        []string // clients that stay connected
		refused, ok string   // one more
		why         gate.Refusal
	}{
		{"in all", Limits{Connections: 2}, []string{"127.0.0.1", "127.0.0.2"}, "127.1.0.1", "", gate.TooManyConnections},
		{"of an address", Limits{ConnectionsPerAddress: 2}, []string{"127.0.0.1", "127.0.0.1"}, "127.0.0.1", "127.0.0.2", gate.TooManyOfAddress},
		{"of a network", Limits{ConnectionsPerPrefix: 2}, []string{"127.0.0.1", "127.0.0.2"}, "127.0.0.3", "127.0.1.1", gate.TooManyOfPrefix},
		{"of a network of another size", Limits{ConnectionsPerPrefix: 2, PrefixIPv4: 16}, []string{"127.0.0.1", "127.0.9.2"}, "127.0.5.3", "127.1.0.1", gate.TooManyOfPrefix},
	} {
		t.Run(test.name, func(t *testing.T) {
			e := start(t, setup{config: Config{Limits: test.limits}})
			var open []net.Conn
			for _, from := range test.open {
				c := dialFrom(t, from, e.http)
				if !served(t, c) {
					t.Fatalf("%s is not served", from)
				}
				open = append(open, c)
			}
			if served(t, dialFrom(t, test.refused, e.http)) || e.refused(test.why) != 1 {
				t.Errorf("one more was served, or not counted: %d", e.refused(test.why))
			}
			if test.ok != "" && !served(t, dialFrom(t, test.ok, e.http)) {
				t.Errorf("%s is not served", test.ok)
			}
			if err := dialQUIC(t, e, test.refused); !isRefusal(err) || e.refused(test.why) < 2 {
				t.Errorf("QUIC: %v, %d refused", err, e.refused(test.why))
			}
			_ = open[0].Close()
			eventually(t, "a place is free again", func() bool { return served(t, dialFrom(t, test.refused, e.http)) })
		})
	}
}

// dialQUIC connects from an address and closes the connection.
func dialQUIC(t testing.TB, e *edge, from string) error {
	t.Helper()
	udp, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.ParseIP(from)})
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	tr := &quic.Transport{Conn: udp}
	defer tr.Close()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	to, _ := net.ResolveUDPAddr("udp", e.https)
	config := e.tls("h3")
	config.ServerName = "127.0.0.1"
	c, err := tr.Dial(ctx, to, config, nil)
	if err == nil {
		_ = c.CloseWithError(0x100, "")
	}
	return err
}

func isRefusal(err error) bool {
	var refused *quic.TransportError
	return errors.As(err, &refused) && refused.ErrorCode == quic.ConnectionRefused
}

// TestQUICGivesItsPlaceBack: also when the handshake comes to nothing.
func TestQUICGivesItsPlaceBack(t *testing.T) {
	e := start(t, setup{config: Config{Limits: Limits{Connections: 4}}})
	for range 20 {
		if err := dialQUIC(t, e, "127.0.0.1"); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the place is free", func() bool {
			e.bounds.mu.Lock()
			defer e.bounds.mu.Unlock()
			return e.bounds.open == 0
		})
	}
	if n := e.Stats().Gate.HandshakesBusy.Load(); n != 0 || len(e.bounds.addresses)+len(e.bounds.networks) != 0 {
		t.Errorf("%d handshakes are left, and %v %v", n, e.bounds.addresses, e.bounds.networks)
	}
}

func TestBoundsOfHandshakes(t *testing.T) {
	shakes := func(t *testing.T, e *edge, from string) bool {
		t.Helper()
		refusals := func() (n uint64) {
			counts := &e.Stats().Gate.ConnectionsRefused
			for i := range counts {
				n += counts[i].Load()
			}
			return n
		}
		busy, refused := e.Stats().Gate.HandshakesBusy.Load(), refusals()
		c := dialFrom(t, from, e.https)
		_, _ = io.WriteString(c, "\x16\x03\x01") // and nothing more
		eventually(t, "it is let in or refused", func() bool {
			return e.Stats().Gate.HandshakesBusy.Load() > busy || refusals() > refused
		})
		return refusals() == refused
	}
	t.Run("under way", func(t *testing.T) {
		e := start(t, setup{config: Config{Limits: Limits{Handshakes: 8}}})
		for range 2 {
			if !shakes(t, e, "127.0.0.1") {
				t.Fatal("refused within the bound")
			}
		}
		if shakes(t, e, "127.0.0.1") || e.refused(gate.TooManyHandshakes) != 1 {
			t.Error("a network has more than its share")
		}
		for _, from := range []string{"127.1.0.1", "127.2.0.1", "127.3.0.1"} {
			for range 2 {
				if !shakes(t, e, from) {
					t.Fatal("refused within the bound")
				}
			}
		}
		if shakes(t, e, "127.4.0.1") || e.refused(gate.TooManyHandshakes) != 2 {
			t.Error("more than the bound")
		}
		if n := e.Stats().Gate.HandshakesBusy.Load(); n != 8 {
			t.Errorf("%d under way", n)
		}
	})
	t.Run("a second of a network", func(t *testing.T) {
		e := start(t, setup{config: Config{Limits: Limits{HandshakeRatePerPrefix: 3}}})
		for range 100 {
			if !shakes(t, e, "127.0.0.1") {
				break
			}
		}
		if e.refused(gate.TooManyHandshakesPerSecondOfPrefix) != 1 {
			t.Error("never refused, or not counted")
		}
		if !shakes(t, e, "127.1.0.1") {
			t.Error("another network is refused too")
		}
	})
}

func TestHandshakesASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := setup{config: Config{Limits: Limits{HandshakeRate: 10}}}
		s, err := newServer(t, o)
		if err != nil {
			t.Fatal(err)
		}
		s.gate.SetLimits(o.config.Limits)
		try := func(n int) (ok int) {
			for range n {
				p, _ := s.bounds.enter()
				if p.shake(true) {
					ok++
				}
				p.leave()
			}
			return ok
		}
		if got := try(50); got != 10 {
			t.Errorf("%d at once, want 10", got)
		}
		time.Sleep(500 * time.Millisecond)
		if got := try(50); got != 5 {
			t.Errorf("%d in half a second, want 5", got)
		}
		if n := s.Stats().Gate.ConnectionsRefused[gate.TooManyHandshakesPerSecond].Load(); n != 85 {
			t.Errorf("%d refused are counted, want 85", n)
		}
		if s.bounds.open != 0 || s.bounds.shaking != 0 {
			t.Errorf("%d places are not given back", s.bounds.open)
		}
	})
}

func TestNetworks(t *testing.T) {
	limits := Limits{}.WithDefaults()
	for in, want := range map[string]string{
		"192.0.2.77": "192.0.2.0/24", "2001:db8:1:2:3::4": "2001:db8:1:2::/64", "fe80::1%eth0": "fe80::/64",
	} {
		if got := networkOf(netip.MustParseAddr(in), &limits); got.String() != want {
			t.Errorf("%s is of %s, want %s", in, got, want)
		}
	}
}

// TestUnprovenAddressesGetHalf: what may be forged cannot use up what others need.
func TestUnprovenAddressesGetHalf(t *testing.T) {
	e := start(t, setup{config: Config{Limits: Limits{ConnectionsPerAddress: 4}}})
	victim := netip.MustParseAddr("192.0.2.1")
	for n := range 3 {
		if got, want := e.bounds.wantsProof(victim), n >= 2; got != want {
			t.Errorf("with %d connections proof is wanted: %v", n, got)
		}
		p, _ := e.bounds.enter()
		defer p.leave()
		if !p.identify(victim) {
			t.Fatal("refused")
		}
	}
}

func TestBodyBytes(t *testing.T) {
	read := make(chan error, 16)
	e := start(t, setup{
		config: Config{Limits: Limits{BodyBytes: 1000}},
		hosts: []route.Host{{Names: []string{"*"}, Policy: route.Policy{Origin: "o"}, Routes: []route.Path{
			{Path: "/large/*", Policy: route.Policy{BodyBytes: 3000}}, {Path: "/small", Policy: route.Policy{BodyBytes: 10}},
		}}},
		handler: func(w http.ResponseWriter, r *http.Request) {
			_, err := io.Copy(io.Discard, r.Body)
			read <- err
			if err != nil {
				w.WriteHeader(http.StatusBadGateway)
				_, _ = io.WriteString(w, "the origin is to blame")
			}
		},
	})
	e.each(t, func(t *testing.T, c *client) {
		before := e.Stats().Gate.BodiesRefused.Load()
		for _, test := range []struct {
			path          string
			bytes, status int
		}{{"/", 1000, 200}, {"/", 1001, 413}, {"/large/a", 3000, 200}, {"/large/a", 3001, 413}, {"/small", 10, 200}, {"/small", 11, 413}} {
			for _, known := range []bool{true, false} {
				body := io.Reader(strings.NewReader(strings.Repeat("x", test.bytes)))
				if !known {
					body = struct{ io.Reader }{body}
				}
				resp, text := c.do(t, c.request(t, "POST", test.path, body))
				if resp.StatusCode != test.status || test.status == 413 && !strings.Contains(text, "longer than") {
					t.Errorf("%d bytes to %s, length known %v: %s, %q", test.bytes, test.path, known, resp.Status, text)
				}
				if !known || test.status == 200 {
					if err := <-read; (err != nil) != (test.status == 413) {
						t.Errorf("the handler read: %v", err)
					}
				}
			}
		}
		if n := e.Stats().Gate.BodiesRefused.Load() - before; n != 6 {
			t.Errorf("%d counted, want 6", n)
		}
	})
}
