package dnsgeo

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"testing"
	"time"
)

// echo answers each datagram with itself, until the socket is closed.
func echo(d *datagrams) error {
	for {
		n, err := d.read()
		if err != nil {
			return err
		}
		for i := range n {
			if q, from := d.query(i); q != nil {
				d.answer(i, fmt.Appendf(append(d.room(), q...), " %v", from))
			}
		}
		d.write()
	}
}

func TestDatagrams(t *testing.T) {
	for _, tt := range []struct{ listen, ask string }{
		{"127.0.0.1:0", "127.0.0.1"},
		{"0.0.0.0:0", "127.0.0.77"},
		{":0", "127.0.0.78"},
		{":0", "::1"},
		{"[::1]:0", "::1"},
	} {
		t.Run(tt.listen+" "+tt.ask, func(t *testing.T) {
			d := boundDatagrams(t, tt.listen)
			ended := make(chan error, 1)
			go func() { ended <- echo(d) }()
			port := d.conn.LocalAddr().(*net.UDPAddr).Port
			// A connected socket takes answers from the address it asked alone.
			c, err := net.Dial("udp", net.JoinHostPort(tt.ask, fmt.Sprint(port)))
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if err := c.SetDeadline(time.Now().Add(datagramsWait)); err != nil {
				t.Fatal(err)
			}
			if _, err := c.Write(make([]byte, batchBytesMax+1)); err != nil { // too long: no answer, no harm
				t.Fatal(err)
			}
			const many = 100
			for i := range many {
				if _, err := fmt.Fprintf(c, "datagram %d", i); err != nil {
					t.Fatal(err)
				}
			}
			buf := make([]byte, 2048)
			for i := range many {
				n, err := c.Read(buf)
				if err != nil {
					t.Fatal(err)
				}
				if want := fmt.Appendf(nil, "datagram %d %v", i, c.LocalAddr()); !bytes.Equal(buf[:n], want) {
					t.Fatalf("%q, want %q", buf[:n], want)
				}
			}
			d.conn.Close()
			if err := <-ended; !errors.Is(err, net.ErrClosed) {
				t.Error(err)
			}
		})
	}
}

// datagramsWait bounds what is read of sockets, so that a datagram that is lost is said.
const datagramsWait = 20 * time.Second

// boundDatagrams opens a socket at a port that nobody has, as Responder.listen does: for
// port 0 the system may choose one that another process shares (SO_REUSEPORT).
func boundDatagrams(t *testing.T, address string) *datagrams {
	t.Helper()
	cfg := small("www A 192.0.2.1")
	cfg.Listen, cfg.Limits.Sockets = []string{address}, 1
	r := responder(t, cfg, nil)
	if err := r.Listen(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return r.sockets.udp[0]
}

// datagramPair is a socket and a client of it.
func datagramPair(t *testing.T) (*datagrams, net.Conn) {
	t.Helper()
	d := boundDatagrams(t, "127.0.0.1:0")
	c, err := net.Dial("udp", d.conn.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	end := time.Now().Add(datagramsWait)
	if err := errors.Join(c.SetDeadline(end), d.conn.SetDeadline(end)); err != nil {
		t.Fatal(err)
	}
	return d, c
}

// An answer that cannot be sent does not hold up those behind it.
func TestDatagramsLost(t *testing.T) {
	d, c := datagramPair(t)
	for range 3 {
		if _, err := c.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	for got := 0; got < 3; {
		n, err := d.read()
		if err != nil {
			t.Fatal(err)
		}
		for i := range n {
			got++
			d.answer(i, append(d.room(), byte('0'+got)))
			if got == 2 {
				clear(d.out[d.outs-1].name[2:4]) // nobody has port 0
			}
		}
		d.write()
	}
	buf := make([]byte, 10)
	for _, want := range []string{"1", "3"} {
		if n, err := c.Read(buf); err != nil || string(buf[:n]) != want {
			t.Errorf("%q, %v, want %q", buf[:n], err, want)
		}
	}
}

func TestDatagramsAllocateNothing(t *testing.T) {
	d, c := datagramPair(t)
	buf := make([]byte, 10)
	if n := testing.AllocsPerRun(100, func() {
		if _, err := c.Write(buf[:1]); err != nil {
			t.Fatal(err)
		}
		n, err := d.read()
		if err != nil {
			t.Fatal(err)
		}
		for i := range n {
			q, _ := d.query(i)
			d.answer(i, append(d.room(), q...))
		}
		d.write()
		if _, err := c.Read(buf); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
