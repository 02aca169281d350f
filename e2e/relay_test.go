package e2e

import (
	"net"
	"sync"
	"testing"
)

// relay stands between a QUIC client and a node, as a home router does. It can
// move to another port, which the client does not notice, and hold back what the
// node sends.
type relay struct {
	front   *net.UDPConn // towards the client
	target  *net.UDPAddr
	running sync.WaitGroup

	mu      sync.Mutex
	back    *net.UDPConn // towards the node
	client  *net.UDPAddr
	held    [][]byte
	holding bool
}

func newRelay(t *testing.T, target string) *relay {
	t.Helper()
	to, err := net.ResolveUDPAddr("udp", target)
	if err != nil {
		t.Fatal(err)
	}
	front, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	r := &relay{front: front, target: to}
	r.rebind(t)
	r.running.Go(r.forward)
	t.Cleanup(func() {
		front.Close()
		r.mu.Lock()
		r.back.Close()
		r.mu.Unlock()
		r.running.Wait()
	})
	return r
}

func (r *relay) address() string { return r.front.LocalAddr().String() }

// rebind goes on from another port; what is on its way to the old one is lost.
func (r *relay) rebind(t *testing.T) {
	t.Helper()
	back, err := net.DialUDP("udp", nil, r.target)
	if err != nil {
		t.Fatal(err)
	}
	r.mu.Lock()
	old := r.back
	r.back = back
	r.mu.Unlock()
	if old != nil {
		old.Close()
	}
	r.running.Go(func() { r.answer(back) })
}

// forward passes on what the client sends. Whatever cannot be sent is lost, as
// packets are.
func (r *relay) forward() {
	buf := make([]byte, 2048)
	for {
		n, from, err := r.front.ReadFromUDP(buf)
		if err != nil {
			return
		}
		r.mu.Lock()
		r.client = from
		r.back.Write(buf[:n])
		r.mu.Unlock()
	}
}

func (r *relay) answer(back *net.UDPConn) {
	for {
		buf := make([]byte, 2048)
		n, err := back.Read(buf)
		if err != nil {
			return
		}
		r.mu.Lock()
		if r.holding {
			r.held = append(r.held, buf[:n])
		} else {
			r.front.WriteToUDP(buf[:n], r.client)
		}
		r.mu.Unlock()
	}
}

// hold keeps what the node sends until release.
func (r *relay) hold() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.holding = true
}

func (r *relay) release() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.holding = false
	for _, b := range r.held {
		r.front.WriteToUDP(b, r.client)
	}
	r.held = nil
}
