package server

import (
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"edgecdn/internal/unit"
)

func newServer(t *testing.T, o setup) (*Server, error) {
	t.Helper()
	seam := o.fill(t)
	return New(o.config, seam, slog.New(slog.DiscardHandler))
}

func TestHTTPSHasOnePortForBothTransports(t *testing.T) {
	e := start(t, setup{config: Config{HTTPS: []string{"127.0.0.1:0", "[::1]:0"}, HTTP: []string{"127.0.0.1:0", "localhost:0"}}})
	clear, secure := e.Addresses()
	if len(clear) != 2 || len(secure) != 2 {
		t.Fatalf("%v, %v", clear, secure)
	}
	for _, address := range secure {
		e.https = address
		for _, c := range []*client{e.h2(), e.h3()} {
			if resp, _ := c.get(t, "/"); resp.StatusCode != 200 {
				t.Errorf("%s over %s: %s", address, c.name, resp.Status)
			}
		}
	}
}

// TestMultipathTCP: a client that speaks MPTCP (RFC 8684) gets it, by Go's default.
func TestMultipathTCP(t *testing.T) {
	var probe net.ListenConfig
	probe.SetMultipathTCP(true)
	ln, err := probe.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	dialer := net.Dialer{Timeout: 10 * time.Second}
	dialer.SetMultipathTCP(true)
	multipath := func(address string) bool {
		c, err := dialer.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		yes, err := c.(*net.TCPConn).MultipathTCP()
		return err == nil && yes
	}
	if !multipath(ln.Addr().String()) {
		t.Skip("SKIPPED: this kernel does no MPTCP (CONFIG_MPTCP, sysctl net.mptcp.enabled)")
	}
	e := start(t, setup{config: Config{HTTP: []string{"127.0.0.1:0"}, HTTPS: []string{"127.0.0.1:0"}}})
	clear, secure := e.Addresses()
	for _, address := range append(clear, secure...) {
		if !multipath(address) {
			t.Errorf("%s fell back to TCP", address)
		}
	}
}

// takeUDP takes a port that nobody has for TCP.
func takeUDP(t *testing.T) net.PacketConn {
	t.Helper()
	for range 20 {
		udp, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		tcp, err := net.Listen("tcp", udp.LocalAddr().String())
		if err == nil {
			_ = tcp.Close() // nobody has connected
			return udp
		}
		_ = udp.Close() // nothing was sent
	}
	t.Fatal("no port is free for both")
	return nil
}

func TestBindErrorsSayWhatAndHow(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	takenUDP := takeUDP(t)
	defer takenUDP.Close()
	for _, test := range []struct {
		name   string
		config Config
		want   []string
	}{
		{"taken", Config{HTTP: []string{"127.0.0.1:0", taken.Addr().String()}}, []string{"http[1]", taken.Addr().String(), "choose another address"}},
		{"UDP taken", Config{HTTPS: []string{takenUDP.LocalAddr().String()}}, []string{"https[0]", "UDP", "http3: false", "choose another address"}},
		{"not ours", Config{HTTP: []string{"192.0.2.1:8080"}}, []string{"http[0]", "this machine has no such address"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			s, err := newServer(t, setup{config: test.config})
			if err != nil {
				t.Fatal(err)
			}
			err = s.Listen()
			if err == nil {
				t.Fatal("Listen succeeded")
			}
			for _, want := range test.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q lacks %q", err, want)
				}
			}
			if clear, secure := s.Addresses(); len(clear)+len(secure) > 0 {
				t.Errorf("listeners are left: %v %v", clear, secure)
			}
		})
	}
	s := &Server{}
	if err := s.Listen(); err == nil || !strings.Contains(err.Error(), "http: [127.0.0.1:8080]") {
		t.Errorf("no address at all: %v", err)
	}
}

// TestFailedListenLeavesNothingOpen: the addresses can be had again at once. Somebody
// else may take one in between, but not again and again.
func TestFailedListenLeavesNothingOpen(t *testing.T) {
	var err error
	for range 5 {
		if err = failToListen(t); err == nil {
			return
		}
	}
	t.Error(err)
}

// failToListen has Listen fail at its second address, and opens the first again.
func failToListen(t *testing.T) error {
	s, err := newServer(t, setup{config: Config{HTTPS: []string{"127.0.0.1:1"}, HTTP: []string{"127.0.0.1:0"}}})
	if err != nil {
		t.Fatal(err)
	}
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := free.Addr().String()
	_ = free.Close()
	s.config.HTTPS = []string{address, "192.0.2.1:1"}
	if err := s.Listen(); err == nil || !strings.Contains(err.Error(), "192.0.2.1:1") {
		return fmt.Errorf("Listen: %v", err)
	}
	tcp, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	_ = tcp.Close()
	udp, err := net.ListenPacket("udp", address)
	if err != nil {
		return err
	}
	return udp.Close()
}

func TestValidate(t *testing.T) {
	for _, test := range []struct {
		name   string
		config Config
		want   []string // paths
	}{
		{"nothing", Config{}, nil},
		{"good", Config{HTTP: []string{":80", "[::1]:8080", "localhost:0"}, HTTPS: []string{"127.0.0.1:443"}, AccessLog: AccessLog{Format: "combined"}}, nil},
		{"addresses", Config{HTTP: []string{"80", "a.test:80", ":080", ":65536", ":http"}}, []string{"http[0]", "http[1]", "http[2]", "http[3]", "http[4]"}},
		{"twice", Config{HTTP: []string{":80"}, HTTPS: []string{":80"}}, []string{"https[0]"}},
		{"certificates", Config{TLS: TLS{Certificates: []Certificate{{Cert: "a"}, {Key: "b"}}}}, []string{"tls.certificates[0].key", "tls.certificates[1].cert"}},
		{"format", Config{AccessLog: AccessLog{Format: "xml"}}, []string{"access_log.format"}},
		{"limits", Config{Limits: Limits{
			HeaderBytes: unit.Bytes(10), HeaderTimeout: -1, IdleTimeout: time.Nanosecond, StallTimeout: 1000 * time.Hour, Streams: -1, Handlers: -5, DrainTimeout: -time.Second,
		}}, []string{
			"limits.header_bytes", "limits.header_timeout", "limits.idle_timeout", "limits.stall_timeout",
			"limits.streams", "limits.handlers", "limits.drain_timeout",
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			var got []string
			test.config.Validate(func(path, problem string) {
				got = append(got, path)
				if problem == "" {
					t.Errorf("%s: no problem named", path)
				}
			})
			if !slices.Equal(got, test.want) {
				t.Errorf("reported %q, want %q", got, test.want)
			}
		})
	}
	with := Config{}.WithDefaults()
	with.Validate(func(path, problem string) { t.Errorf("the defaults are wrong: %s: %s", path, problem) })
	if _, err := newServer(t, setup{config: Config{HTTP: []string{"nonsense"}}}); err == nil || !strings.Contains(err.Error(), "http[0]") {
		t.Errorf("New let it pass: %v", err)
	}
}

func TestApply(t *testing.T) {
	e := start(t, setup{})
	change := func(f func(*Config)) Config {
		c := e.config
		f(&c)
		return c
	}
	for key, next := range map[string]Config{
		"http":                change(func(c *Config) { c.HTTP = []string{"127.0.0.1:1"} }),
		"https":               change(func(c *Config) { c.HTTPS = nil }),
		"http3":               change(func(c *Config) { off := false; c.HTTP3 = &off }),
		"access_log":          change(func(c *Config) { c.AccessLog.Format = "json" }),
		"limits.header_bytes": change(func(c *Config) { c.Limits.HeaderBytes = 64 << 10 }),
		"limits.streams":      change(func(c *Config) { c.Limits.Streams = 1 }),
	} {
		for name, f := range map[string]func(Config) error{"Check": e.Check, "Apply": e.Apply} {
			if err := f(next); err == nil || !strings.Contains(err.Error(), "server: "+key+" cannot change") {
				t.Errorf("%s of another %s: %v", name, key, err)
			}
		}
	}
	next := change(func(c *Config) { c.Limits.Handlers = 1 })
	if err := e.Check(next); err != nil {
		t.Error(err)
	}
	if e.gate.Limits().Handlers == 1 {
		t.Error("Check changed something")
	}
	if err := e.Apply(next); err != nil {
		t.Error(err)
	}
	if n := e.gate.Limits().Handlers; n != 1 {
		t.Errorf("after Apply handlers is %d", n)
	}
}
