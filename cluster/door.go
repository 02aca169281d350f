package cluster

// The node's one port. UDP is memberlist's. A TCP connection says with its first
// byte what it is: 22 begins a TLS handshake and is a peer's stream, all else is
// memberlist's. Connections that have not shown who they are are few and on time.

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"
)

const (
	strangersMax      = 128              // connections of which we do not know yet whose they are
	gossipStreamBytes = 1 << 20          // that memberlist reads from one of its own
	firstByteTimeout  = 5 * time.Second  // for the first byte
	packetBytesMax    = 64 << 10         // UDP
	packetsQueued     = 256              // read and not yet taken by memberlist
	tlsHandshakeByte  = 22               // RFC 8446 5.1
	gossipConnTimeout = 30 * time.Second // of one of memberlist's connections, whatever it sets itself
)

// network is what the cluster asks of the machine; tests have one in memory.
type network interface {
	listen(address string) (net.Listener, net.PacketConn, error)
	dial(ctx context.Context, from netip.Addr, to netip.AddrPort) (net.Conn, error)
	lookup(ctx context.Context, host string) ([]netip.Addr, error)
}

// sockets is the machine's network.
type sockets struct{}

func (sockets) listen(address string) (l net.Listener, p net.PacketConn, err error) {
	for range 10 { // port 0: one that is free for TCP need not be for UDP
		if l, err = net.Listen("tcp", address); err != nil {
			return nil, nil, err
		}
		if p, err = net.ListenPacket("udp", listenAgain(address, l.Addr())); err == nil {
			return l, p, nil
		}
		l.Close()
	}
	return nil, nil, err
}

// listenAgain is the address with the port that was given for 0.
func listenAgain(address string, got net.Addr) string {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return address
	}
	return net.JoinHostPort(host, strconv.Itoa(int(addressOf(got).Port())))
}

func (sockets) dial(ctx context.Context, from netip.Addr, to netip.AddrPort) (net.Conn, error) {
	d := net.Dialer{}
	// From the address that we listen on, where there is one, so that firewalls know
	// us; one of the other family would fail.
	if from.IsValid() && !from.IsUnspecified() && from.Is4() == to.Addr().Is4() {
		d.LocalAddr = &net.TCPAddr{IP: from.AsSlice()}
	}
	return d.DialContext(ctx, "tcp", to.String())
}

func (sockets) lookup(ctx context.Context, host string) ([]netip.Addr, error) {
	return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
}

// addressOf reads an address of the net package.
func addressOf(a net.Addr) netip.AddrPort {
	var ap netip.AddrPort
	switch a := a.(type) {
	case *net.TCPAddr:
		ap = a.AddrPort()
	case *net.UDPAddr:
		ap = a.AddrPort()
	default:
		ap, _ = netip.ParseAddrPort(a.String())
	}
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}

// door is memberlist's Transport, and lets peers' streams in.
type door struct {
	network   network
	listener  net.Listener
	packet    net.PacketConn
	local     netip.Addr // that we listen on; unspecified for all
	advertise netip.AddrPort
	stats     *Stats
	peer      func(*doorConn) // takes a connection that begins with a TLS handshake

	packets   chan *memberlist.Packet
	streams   chan net.Conn
	strangers atomic.Int64
	ctx       context.Context // ended by Shutdown
	end       context.CancelFunc

	mu     sync.Mutex
	closed bool
	conns  map[net.Conn]struct{}
}

func newDoor(n network, listen string, stats *Stats) (*door, error) {
	l, p, err := n.listen(listen)
	if err != nil {
		return nil, fmt.Errorf("cluster: listen: %w", err)
	}
	ctx, end := context.WithCancel(context.Background())
	return &door{
		ctx: ctx, end: end, network: n, listener: l, packet: p, local: addressOf(l.Addr()).Addr(), stats: stats,
		packets: make(chan *memberlist.Packet, packetsQueued),
		streams: make(chan net.Conn),
		conns:   make(map[net.Conn]struct{}),
	}, nil
}

// FinalAdvertiseAddr is of memberlist.Transport.
func (d *door) FinalAdvertiseAddr(string, int) (net.IP, int, error) {
	return d.advertise.Addr().AsSlice(), int(d.advertise.Port()), nil
}

// PacketCh is of memberlist.Transport.
func (d *door) PacketCh() <-chan *memberlist.Packet { return d.packets }

// StreamCh is of memberlist.Transport.
func (d *door) StreamCh() <-chan net.Conn { return d.streams }

// WriteTo is of memberlist.Transport.
func (d *door) WriteTo(b []byte, addr string) (time.Time, error) {
	return d.WriteToAddress(b, memberlist.Address{Addr: addr})
}

// WriteToAddress is of memberlist.NodeAwareTransport.
func (d *door) WriteToAddress(b []byte, a memberlist.Address) (time.Time, error) {
	to, err := netip.ParseAddrPort(a.Addr)
	if err != nil {
		return time.Time{}, err
	}
	d.stats.PacketsSent.Add(1)
	_, err = d.packet.WriteTo(b, net.UDPAddrFromAddrPort(to))
	return time.Now(), err
}

// DialTimeout is of memberlist.Transport.
func (d *door) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	return d.DialAddressTimeout(memberlist.Address{Addr: addr}, timeout)
}

// DialAddressTimeout is of memberlist.NodeAwareTransport.
func (d *door) DialAddressTimeout(a memberlist.Address, timeout time.Duration) (net.Conn, error) {
	to, err := netip.ParseAddrPort(a.Addr)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(d.ctx, timeout)
	defer cancel()
	c, err := d.network.dial(ctx, d.local, to)
	if err != nil {
		return nil, err
	}
	return d.keep(c, nil, func() {})
}

// Shutdown is of memberlist.Transport: it ends all that the door has let in, too.
func (d *door) Shutdown() error {
	d.mu.Lock()
	closed := d.closed
	d.closed = true
	open := slices.Collect(maps.Keys(d.conns))
	d.mu.Unlock()
	if closed {
		return nil
	}
	d.end()
	err := errors.Join(d.listener.Close(), d.packet.Close())
	for _, c := range open { // without the lock, which their Close takes
		c.Close()
	}
	return err
}

// begin says who takes peers' streams, before run.
func (d *door) begin(peer func(*doorConn)) { d.peer = peer }

// run lets in until Shutdown.
func (d *door) run() {
	var running sync.WaitGroup
	running.Go(d.readPackets)
	for {
		c, err := d.listener.Accept()
		if err != nil {
			if d.over(err) {
				break
			}
			continue
		}
		if d.strangers.Add(1) > strangersMax {
			d.strangers.Add(-1)
			d.stats.ConnectionsRefused.Add(1)
			c.Close()
			continue
		}
		running.Go(func() { d.sort(c) })
	}
	running.Wait()
}

// over waits a moment after an error that may pass, such as too many open files.
func (d *door) over(err error) bool {
	if errors.Is(err, net.ErrClosed) {
		return true
	}
	timer := time.NewTimer(50 * time.Millisecond)
	defer timer.Stop()
	select {
	case <-d.ctx.Done():
		return true
	case <-timer.C:
		return false
	}
}

func (d *door) readPackets() {
	buf := make([]byte, packetBytesMax)
	for {
		n, from, err := d.packet.ReadFrom(buf)
		if err != nil {
			if d.over(err) {
				return
			}
			continue
		}
		d.stats.PacketsReceived.Add(1)
		if n == 0 {
			continue
		}
		p := &memberlist.Packet{Buf: append([]byte(nil), buf[:n]...), From: from, Timestamp: time.Now()}
		select {
		case d.packets <- p:
		case <-d.ctx.Done():
			return
		}
	}
}

// sort looks at the first byte of a connection and gives it to whom it is for.
func (d *door) sort(c net.Conn) {
	stranger := sync.OnceFunc(func() { d.strangers.Add(-1) })
	first := make([]byte, 1)
	c.SetReadDeadline(time.Now().Add(firstByteTimeout))
	kept, err := d.keep(c, first, stranger)
	if err != nil {
		stranger()
		return
	}
	if _, err := c.Read(first); err != nil {
		kept.Close()
		return
	}
	c.SetReadDeadline(time.Time{})
	if first[0] == tlsHandshakeByte {
		d.peer(kept)
		return
	}
	kept.limit = gossipStreamBytes
	kept.SetDeadline(time.Now().Add(gossipConnTimeout))
	select {
	case d.streams <- kept:
	case <-d.ctx.Done():
		kept.Close()
	}
}

// keep makes sure that Shutdown closes a connection.
func (d *door) keep(c net.Conn, first []byte, gone func()) (*doorConn, error) {
	k := &doorConn{Conn: c, door: d, first: first, gone: gone}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		c.Close()
		return nil, net.ErrClosed
	}
	d.conns[k] = struct{}{}
	return k, nil
}

// doorConn is a connection whose first byte has been looked at.
type doorConn struct {
	net.Conn
	door  *door
	first []byte
	limit int64 // bytes that may be read; 0: any number
	read  int64
	gone  func() // when it is no stranger any more, or closed
}

// Read gives the first byte back.
func (c *doorConn) Read(b []byte) (int, error) {
	if len(c.first) > 0 && len(b) > 0 {
		n := copy(b, c.first)
		c.first = c.first[n:]
		return n, nil
	}
	if c.limit > 0 && c.read > c.limit {
		return 0, fmt.Errorf("cluster: more than %d bytes on a connection of gossip", c.limit)
	}
	n, err := c.Conn.Read(b)
	c.read += int64(n)
	return n, err
}

// Close closes it, once or more.
func (c *doorConn) Close() error {
	c.gone()
	c.door.mu.Lock()
	delete(c.door.conns, c)
	c.door.mu.Unlock()
	return c.Conn.Close()
}
