package relay

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// echo answers what it is sent, on TCP and UDP.
func echo(t *testing.T) string {
	t.Helper()
	var l net.Listener
	var p net.PacketConn
	for try := 1; p == nil; try++ { // a port that is free for TCP need not be for UDP
		var err error
		if l, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			t.Fatal(err)
		}
		if p, err = net.ListenPacket("udp", l.Addr().String()); err != nil {
			l.Close()
			if try == 10 {
				t.Fatal(err)
			}
		}
	}
	done := make(chan struct{}, 2)
	go func() {
		defer func() { done <- struct{}{} }()
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { io.Copy(c, c); c.Close() }()
		}
	}()
	go func() {
		defer func() { done <- struct{}{} }()
		buf := make([]byte, 2048)
		for {
			n, from, err := p.ReadFrom(buf)
			if err != nil {
				return
			}
			p.WriteTo(buf[:n], from)
		}
	}()
	t.Cleanup(func() { l.Close(); p.Close(); <-done; <-done })
	return l.Addr().String()
}

func open(t *testing.T, w Weather) *Relay {
	t.Helper()
	r, err := Listen("127.0.0.1:0", echo(t), w)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); r.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	return r
}

func dial(t *testing.T, network string, r *Relay) net.Conn {
	t.Helper()
	c, err := net.Dial(network, r.Address())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func exchange(t *testing.T, c net.Conn, text string, patience time.Duration) error {
	t.Helper()
	c.SetDeadline(time.Now().Add(patience))
	if _, err := fmt.Fprintln(c, text); err != nil {
		return err
	}
	got, err := bufio.NewReader(c).ReadString('\n')
	if err == nil && got != text+"\n" {
		t.Errorf("got %q for %q", got, text)
	}
	return err
}

func TestPassesOnWithDelay(t *testing.T) {
	r := open(t, Weather{Delay: 20 * time.Millisecond})
	for _, network := range []string{"tcp", "udp"} {
		c := dial(t, network, r)
		began := time.Now()
		if err := exchange(t, c, "hello", 10*time.Second); err != nil {
			t.Fatalf("%s: %v", network, err)
		}
		if took := time.Since(began); took < 40*time.Millisecond {
			t.Errorf("%s: a round trip took %v, less than twice the delay", network, took)
		}
	}
}

func TestCutSaysNothing(t *testing.T) {
	r := open(t, Weather{})
	tcp, udp := dial(t, "tcp", r), dial(t, "udp", r)
	for _, c := range []net.Conn{tcp, udp} {
		if err := exchange(t, c, "before", 10*time.Second); err != nil {
			t.Fatal(err)
		}
	}
	r.Cut(netip.MustParseAddr("192.0.2.1")) // somebody else
	if err := exchange(t, udp, "another's cut", 10*time.Second); err != nil {
		t.Fatal(err)
	}
	r.Cut()
	if err := exchange(t, udp, "lost", 50*time.Millisecond); err == nil {
		t.Error("a packet came through a cut")
	}
	for deadline := time.Now().Add(10 * time.Second); r.Lost() == 0 && time.Now().Before(deadline); { // else it might see the cut healed
		<-time.After(time.Millisecond)
	}
	late := dial(t, "tcp", r) // is taken, and hears nothing
	if err := exchange(t, late, "early", 50*time.Millisecond); err == nil {
		t.Error("a new connection came through a cut")
	}
	if err := exchange(t, tcp, "held", 50*time.Millisecond); err == nil {
		t.Error("a connection came through a cut")
	}
	r.Heal()
	tcp.SetDeadline(time.Now().Add(10 * time.Second))
	if got, err := bufio.NewReader(tcp).ReadString('\n'); got != "held\n" {
		t.Errorf("after the cut: %q, %v", got, err)
	}
	if err := exchange(t, udp, "after", 10*time.Second); err != nil {
		t.Error(err)
	}
	if r.Lost() != 1 {
		t.Errorf("%d packets lost, want 1", r.Lost())
	}
}

func TestResetAndEnd(t *testing.T) {
	r := open(t, Weather{})
	c := dial(t, "tcp", r)
	if err := exchange(t, c, "hello", 10*time.Second); err != nil {
		t.Fatal(err)
	}
	r.Reset()
	if err := exchange(t, c, "hello", 10*time.Second); err == nil {
		t.Error("the connection lives")
	}
	c = dial(t, "tcp", r)
	fmt.Fprint(c, "all of it")
	c.(*net.TCPConn).CloseWrite()
	c.SetDeadline(time.Now().Add(10 * time.Second))
	if got, err := io.ReadAll(c); string(got) != "all of it" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
}

// The same seed loses the same packets.
func TestLossIsSeeded(t *testing.T) {
	lose := func(seed uint64) (lost string) {
		r := open(t, Weather{Seed: seed, Loss: 0.5})
		for range 100 {
			_, l, _, _ := r.state(netip.Addr{})
			lost += map[bool]string{true: "x", false: "."}[l]
		}
		return lost
	}
	if a, b := lose(1), lose(1); a != b {
		t.Errorf("one seed, two losses:\n%s\n%s", a, b)
	}
	if lose(1) == lose(2) {
		t.Error("two seeds lose alike")
	}
}
