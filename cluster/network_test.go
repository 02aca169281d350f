package cluster

// A network in memory, for tests in a synctest bubble.

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// ether carries packets and pipes between hosts that are not cut off from each other.
type ether struct {
	mu    sync.Mutex
	hosts map[netip.AddrPort]*host
	sides map[netip.Addr]int // hosts of different sides do not hear each other
	pipes map[*pipe]struct{}
	udp   bool                // packets pass
	names map[string][]string // addresses; a name that is not there does not exist
}

func newEther() *ether {
	return &ether{hosts: make(map[netip.AddrPort]*host), sides: make(map[netip.Addr]int), pipes: make(map[*pipe]struct{}), udp: true, names: make(map[string][]string)}
}

func (e *ether) joined(a, b netip.Addr) bool { return e.sides[a] == e.sides[b] }

// split puts hosts on other sides; pipes between them go silent.
func (e *ether) split(side int, addresses ...string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, a := range addresses {
		e.sides[netip.MustParseAddr(a)] = side
	}
}

// host is a listener and a packet connection at one address.
type host struct {
	ether   *ether
	at      netip.AddrPort
	conns   chan net.Conn
	packets chan packet
	closed  chan struct{}
	once    sync.Once
}

type packet struct {
	data []byte
	from netip.AddrPort
}

func (e *ether) listen(address string) (net.Listener, net.PacketConn, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	at := netip.MustParseAddrPort(address)
	if e.hosts[at] != nil {
		return nil, nil, fmt.Errorf("%s is taken", at)
	}
	h := &host{ether: e, at: at, conns: make(chan net.Conn, 16), packets: make(chan packet, 1024), closed: make(chan struct{})}
	e.hosts[at] = h
	return hostListener{h}, hostPackets{h}, nil
}

func (h *host) close() error {
	h.once.Do(func() {
		close(h.closed)
		h.ether.mu.Lock()
		defer h.ether.mu.Unlock()
		delete(h.ether.hosts, h.at)
		for len(h.conns) > 0 {
			(<-h.conns).Close()
		}
	})
	return nil
}

func (e *ether) dial(ctx context.Context, from netip.Addr, to netip.AddrPort) (net.Conn, error) {
	e.mu.Lock()
	h := e.hosts[to]
	joined := e.joined(from, to.Addr())
	e.mu.Unlock()
	if !joined {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	if h == nil {
		return nil, errors.New("connection refused")
	}
	a, b := cable()
	near, far := &pipe{Conn: a, ether: e, from: from, to: to.Addr()}, &pipe{Conn: b, ether: e, from: to.Addr(), to: from}
	select {
	case h.conns <- far:
		select {
		case <-h.closed: // perhaps before it was taken
			far.Close()
		default:
		}
		return near, nil
	case <-h.closed:
	case <-ctx.Done():
	}
	near.Close()
	far.Close()
	return nil, errors.New("connection refused")
}

// name gives a name addresses, or none.
func (e *ether) name(host string, addresses ...string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.names[host] = addresses
}

func (e *ether) lookup(_ context.Context, host string) (all []netip.Addr, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.names[host]) == 0 {
		return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
	}
	for _, a := range e.names[host] {
		all = append(all, netip.MustParseAddr(a))
	}
	return all, nil
}

// cable is a net.Pipe that takes what is written at once, as a kernel does: TLS
// holds a lock while it writes, and nobody waits for a lock in the bubble's time.
func cable() (net.Conn, net.Conn) {
	a, nearA := net.Pipe()
	b, nearB := net.Pipe()
	carry := func(from, to net.Conn) {
		way := make(chan []byte, 64)
		go func() {
			defer close(way)
			for {
				buf := make([]byte, 64<<10)
				n, err := from.Read(buf)
				if err != nil {
					return
				}
				way <- buf[:n]
			}
		}()
		go func() {
			defer from.Close()
			defer to.Close()
			for b := range way {
				if _, err := to.Write(b); err != nil {
					from.Close()
				}
			}
		}()
	}
	carry(nearA, nearB)
	carry(nearB, nearA)
	return a, b
}

// pipe swallows what is written while its ends are cut off from each other.
type pipe struct {
	net.Conn
	ether    *ether
	from, to netip.Addr
}

func (p *pipe) Write(b []byte) (int, error) {
	p.ether.mu.Lock()
	joined := p.ether.joined(p.from, p.to)
	p.ether.mu.Unlock()
	if !joined {
		return len(b), nil
	}
	return p.Conn.Write(b)
}

func (p *pipe) RemoteAddr() net.Addr {
	return net.TCPAddrFromAddrPort(netip.AddrPortFrom(p.to, 1))
}

type hostListener struct{ h *host }

func (l hostListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.h.conns:
		return c, nil
	case <-l.h.closed:
		return nil, net.ErrClosed
	}
}
func (l hostListener) Close() error   { return l.h.close() }
func (l hostListener) Addr() net.Addr { return net.TCPAddrFromAddrPort(l.h.at) }

type hostPackets struct{ h *host }

func (p hostPackets) ReadFrom(b []byte) (int, net.Addr, error) {
	select {
	case got := <-p.h.packets:
		return copy(b, got.data), net.UDPAddrFromAddrPort(got.from), nil
	case <-p.h.closed:
		return 0, nil, net.ErrClosed
	}
}

func (p hostPackets) WriteTo(b []byte, to net.Addr) (int, error) {
	if len(b) > 1400+64 {
		return 0, fmt.Errorf("a packet of %d bytes", len(b))
	}
	e := p.h.ether
	e.mu.Lock()
	defer e.mu.Unlock()
	at := addressOf(to)
	if h := e.hosts[at]; h != nil && e.udp && e.joined(p.h.at.Addr(), at.Addr()) {
		select {
		case h.packets <- packet{append([]byte(nil), b...), p.h.at}:
		default:
		}
	}
	return len(b), nil
}

func (p hostPackets) Close() error                     { return p.h.close() }
func (p hostPackets) LocalAddr() net.Addr              { return net.UDPAddrFromAddrPort(p.h.at) }
func (p hostPackets) SetDeadline(time.Time) error      { return nil }
func (p hostPackets) SetReadDeadline(time.Time) error  { return nil }
func (p hostPackets) SetWriteDeadline(time.Time) error { return nil }

// tester is a node under test.
type tester struct {
	*Cluster
	cfg  Config
	logs *lines
	end  context.CancelFunc
	done chan struct{}
}

// lines is a log that is looked through.
type lines struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

const secretA, secretB = "a secret for tests, number one", "a secret for tests, number two"

// settings for node i, 1 and up, whose seed is node 1.
func settings(t *testing.T, i int) Config {
	return Config{
		Name: string(rune('a' + i - 1)), Listen: fmt.Sprintf("10.0.0.%d:7946", i), Seeds: []string{"10.0.0.1"},
		Secrets: []string{secretA}, Site: "fra", Version: "test", Dir: t.TempDir(),
		Speaks: []Address{{IP: netip.IPv4Unspecified(), HTTP: 80, HTTPS: 443, H3: 443}},
	}.WithDefaults()
}

// begin starts a node; prepare may add handlers.
func begin(t *testing.T, e *ether, cfg Config, hooks Hooks, prepare func(*Cluster)) *tester {
	t.Helper()
	n := &tester{cfg: cfg, logs: &lines{}, done: make(chan struct{})}
	level := slog.LevelInfo
	if os.Getenv("EDGE_DEBUG") != "" {
		level = slog.LevelDebug
	}
	c, err := open(cfg, hooks, slog.New(slog.NewTextHandler(n.logs, &slog.HandlerOptions{Level: level})), e)
	if err != nil {
		t.Fatal(err)
	}
	n.Cluster = c
	if prepare != nil {
		prepare(c)
	}
	ctx, cancel := context.WithCancel(context.Background())
	n.end = cancel
	go func() {
		defer close(n.done)
		if err := c.Run(ctx); err != nil {
			t.Errorf("%s: Run: %v", cfg.Name, err)
		}
	}()
	t.Cleanup(func() {
		n.stop()
		if t.Failed() {
			t.Logf("%s:\n%s", cfg.Name, n.logs)
		}
	})
	return n
}

// stop has a node leave. Goroutines of memberlist live on until their deadlines.
func (n *tester) stop() {
	n.end()
	<-n.done
}

// bubble runs a test in which time costs nothing.
func bubble(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		t.Cleanup(func() { time.Sleep(time.Minute) }) // goroutines of memberlist live until their deadlines
		f(t)
	})
}

// stopAll has all leave at once.
func stopAll(nodes ...*tester) {
	for _, n := range nodes {
		n.end()
	}
	for _, n := range nodes {
		<-n.done
	}
}

// soon waits until ok, in the time of the bubble.
func soon(t *testing.T, d time.Duration, what string, ok func() bool) time.Duration {
	t.Helper()
	began := time.Now()
	for !ok() {
		if time.Since(began) > d {
			t.Fatalf("not within %v: %s", d, what)
		}
		time.Sleep(50 * time.Millisecond)
	}
	return time.Since(began)
}

func (n *tester) member(name string) Member {
	for _, m := range n.Members() {
		if m.Name == name {
			return m
		}
	}
	return Member{}
}

// linked says whether all have streams to all.
func linked(nodes ...*tester) bool {
	for _, n := range nodes {
		up := 0
		for _, m := range n.Members() {
			if m.Stream && m.Status == Alive {
				up++
			}
		}
		if up != len(nodes)-1 {
			return false
		}
	}
	return true
}
