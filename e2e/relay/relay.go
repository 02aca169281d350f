// Package relay stands between programs under test and makes the network worse:
// delay, jitter, loss, and cuts that nobody is told of. One relay listens on one
// address, for TCP, UDP or both, and passes on to one target.
//
//	r, err := relay.Listen("127.0.0.1:0", target, relay.Weather{Seed: 1, Delay: 20 * time.Millisecond, Loss: 0.01})
//	go r.Run(ctx)
//	r.Cut(); r.Heal(); r.Reset()
//
// What it does by chance it does by its seed. A TCP connection loses nothing; where
// a packet of it would have been lost it is held up by one more round trip, as a
// retransmission would. All that it keeps is bounded.
package relay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"time"
)

// Weather is how bad the network is. The zero value is a good one.
type Weather struct {
	Seed   uint64
	Delay  time.Duration // one way
	Jitter time.Duration // up to so much more; UDP packets overtake each other
	Loss   float64       // of packets, 0 to 1
}

const (
	sessionsMax  = 1024 // connections, or UDP clients, at once
	queueMax     = 4096 // packets or pieces on their way, each direction
	pieceMax     = 16 << 10
	packetMax    = 64 << 10
	sessionsIdle = 2 * time.Minute // of a UDP client
)

// Relay passes on.
type Relay struct {
	target string
	tcp    *net.TCPListener
	udp    *net.UDPConn

	mu      sync.Mutex
	weather Weather
	chance  *rand.Rand
	cut     func(from netip.Addr) bool // nil: nothing is cut
	healed  chan struct{}              // closed by Heal
	conns   map[net.Conn]struct{}
	clients map[netip.AddrPort]*net.UDPConn
	lost    int
}

// Listen opens a relay on an address, TCP and UDP on the same port, to a target.
// It passes on nothing before Run.
func Listen(address, target string, w Weather) (*Relay, error) {
	r := &Relay{
		target:  target,
		weather: w,
		chance:  rand.New(rand.NewPCG(w.Seed, 0)),
		conns:   make(map[net.Conn]struct{}),
		clients: make(map[netip.AddrPort]*net.UDPConn),
		healed:  make(chan struct{}),
	}
	var err error
	for range 20 { // a port that is free for TCP need not be for UDP
		var l net.Listener
		if l, err = net.Listen("tcp", address); err != nil {
			continue
		}
		var p net.PacketConn
		if p, err = net.ListenPacket("udp", l.Addr().String()); err != nil {
			l.Close()
			continue
		}
		r.tcp, r.udp = l.(*net.TCPListener), p.(*net.UDPConn)
		return r, nil
	}
	return nil, fmt.Errorf("relay: %w", err)
}

// Address is where the relay listens.
func (r *Relay) Address() string { return r.tcp.Addr().String() }

// Set changes the weather. The seed of the first goes on.
func (r *Relay) Set(w Weather) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.weather = w
}

// Cut lets nothing through any more, in both directions: connections stay open and
// say nothing, new ones are taken and say nothing, packets are lost. With addresses
// it cuts off only clients that come from there.
func (r *Relay) Cut(from ...netip.Addr) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.cut = func(client netip.Addr) bool {
		for _, a := range from {
			if a == client {
				return true
			}
		}
		return len(from) == 0
	}
}

// Heal undoes Cut. What TCP had under way arrives.
func (r *Relay) Heal() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.cut = nil
	close(r.healed)
	r.healed = make(chan struct{})
}

// Reset ends all TCP connections with an error at both ends.
func (r *Relay) Reset() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for c := range r.conns {
		if t, ok := c.(*net.TCPConn); ok {
			t.SetLinger(0)
		}
		c.Close()
	}
}

// Lost is the number of packets that were lost, cuts included.
func (r *Relay) Lost() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.lost
}

// Run passes on until ctx ends, closes everything and returns when all is gone.
func (r *Relay) Run(ctx context.Context) error {
	var running sync.WaitGroup
	stop := context.AfterFunc(ctx, func() {
		r.tcp.Close()
		r.udp.Close()
		r.mu.Lock()
		defer r.mu.Unlock()
		for c := range r.conns {
			c.Close()
		}
		for _, c := range r.clients {
			c.Close()
		}
	})
	defer stop()
	running.Go(func() { r.packets(ctx, &running) })
	for {
		c, err := r.tcp.AcceptTCP()
		if err != nil {
			if ctx.Err() == nil && !errors.Is(err, net.ErrClosed) {
				continue
			}
			break
		}
		running.Go(func() { r.connection(ctx, c) })
	}
	running.Wait()
	return nil
}

// state is the weather for something that a client sends or gets now.
func (r *Relay) state(client netip.Addr) (wait time.Duration, lost, cut bool, healed <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	wait = r.weather.Delay
	if r.weather.Jitter > 0 {
		wait += time.Duration(r.chance.Int64N(int64(r.weather.Jitter)))
	}
	lost = r.weather.Loss > 0 && r.chance.Float64() < r.weather.Loss
	cut = r.cut != nil && r.cut(client)
	return wait, lost, cut, r.healed
}

func (r *Relay) keep(c net.Conn) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.conns) >= 2*sessionsMax {
		return false
	}
	r.conns[c] = struct{}{}
	return true
}

func (r *Relay) drop(c net.Conn) {
	c.Close()
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.conns, c)
}

// connection passes on what a client and the target say to each other.
func (r *Relay) connection(ctx context.Context, client *net.TCPConn) {
	if !r.keep(client) {
		client.Close()
		return
	}
	defer r.drop(client)
	from := client.RemoteAddr().(*net.TCPAddr).AddrPort().Addr().Unmap()
	if !r.pass(ctx, from) {
		return
	}
	up, err := new(net.Dialer).DialContext(ctx, "tcp", r.target)
	if err != nil || !r.keep(up) {
		client.SetLinger(0)
		return
	}
	defer r.drop(up)
	var both sync.WaitGroup
	both.Go(func() { r.pipe(ctx, from, client, up.(*net.TCPConn)) })
	both.Go(func() { r.pipe(ctx, from, up.(*net.TCPConn), client) })
	both.Wait()
}

// pass waits while the client is cut off.
func (r *Relay) pass(ctx context.Context, from netip.Addr) bool {
	for {
		_, _, cut, healed := r.state(from)
		if !cut {
			return ctx.Err() == nil
		}
		select {
		case <-healed:
		case <-ctx.Done():
			return false
		}
	}
}

// piece is on its way.
type piece struct {
	data []byte
	due  time.Time
}

// pipe is one direction of a connection.
func (r *Relay) pipe(ctx context.Context, client netip.Addr, from, to *net.TCPConn) {
	way := make(chan piece, queueMax/64)
	var writer sync.WaitGroup
	broken := make(chan struct{})
	writer.Go(func() {
		defer close(broken)
		for p := range way {
			if !until(ctx, p.due) || !r.pass(ctx, client) {
				break
			}
			if _, err := to.Write(p.data); err != nil {
				from.SetLinger(0)
				from.Close()
				return
			}
		}
		to.CloseWrite()
	})
	for {
		buf := make([]byte, pieceMax)
		n, err := from.Read(buf)
		if n > 0 {
			wait, lost, _, _ := r.state(client)
			if lost {
				wait *= 3 // its retransmission: a round trip later
			}
			select {
			case way <- piece{buf[:n], time.Now().Add(wait)}:
			case <-broken:
				err = io.ErrClosedPipe
			case <-ctx.Done():
				err = ctx.Err()
			}
		}
		if err != nil {
			var reset *net.OpError
			if errors.As(err, &reset) {
				to.SetLinger(0)
				to.Close()
			}
			break
		}
	}
	close(way)
	writer.Wait()
}

// until waits for an instant.
func until(ctx context.Context, due time.Time) bool {
	wait := time.Until(due)
	if wait <= 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// packets passes on what clients send, and starts what passes on the answers.
func (r *Relay) packets(ctx context.Context, running *sync.WaitGroup) {
	air := openAir(ctx, running)
	buf := make([]byte, packetMax)
	for {
		n, from, err := r.udp.ReadFromUDPAddrPort(buf)
		if err != nil {
			if ctx.Err() == nil && !errors.Is(err, net.ErrClosed) {
				continue
			}
			return
		}
		from = netip.AddrPortFrom(from.Addr().Unmap(), from.Port())
		up := r.client(ctx, from, air, running)
		if up == nil {
			continue
		}
		r.carry(air, from.Addr(), buf[:n], func(b []byte) { up.Write(b) })
	}
}

// client returns the socket that stands for a client towards the target.
func (r *Relay) client(ctx context.Context, from netip.AddrPort, air *air, running *sync.WaitGroup) *net.UDPConn {
	r.mu.Lock()
	defer r.mu.Unlock()
	if up := r.clients[from]; up != nil {
		return up
	}
	if len(r.clients) >= sessionsMax || ctx.Err() != nil {
		r.lost++
		return nil
	}
	c, err := net.Dial("udp", r.target)
	if err != nil {
		r.lost++
		return nil
	}
	up := c.(*net.UDPConn)
	r.clients[from] = up
	running.Go(func() {
		defer func() {
			up.Close()
			r.mu.Lock()
			defer r.mu.Unlock()
			delete(r.clients, from)
		}()
		buf := make([]byte, packetMax)
		for {
			up.SetReadDeadline(time.Now().Add(sessionsIdle))
			n, err := up.Read(buf)
			var timeout net.Error
			if errors.As(err, &timeout) && timeout.Timeout() || errors.Is(err, net.ErrClosed) {
				return
			}
			if err != nil { // the target's port is closed for now
				if ctx.Err() != nil {
					return
				}
				continue
			}
			r.carry(air, from.Addr(), buf[:n], func(b []byte) { r.udp.WriteToUDPAddrPort(b, from) })
		}
	})
	return up
}

// carry sends a packet on its way, or loses it.
func (r *Relay) carry(air *air, client netip.Addr, packet []byte, deliver func([]byte)) {
	wait, lost, cut, _ := r.state(client)
	if !lost && !cut && air.send(wait, append([]byte(nil), packet...), deliver) {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lost++
}
