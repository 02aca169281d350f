package dnsgeo

import (
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// A name whose answer is known is answered before those that came first and take
// longer; of these as many as there is room for are answered then, and no others.
func TestKnownNamesGoFirst(t *testing.T) {
	cfg, _ := signedZone(t)
	cfg.ResponseLimits.Off = true
	r := responder(t, cfg, twoNodes())
	d, flood := datagramPair(t)
	asker, err := net.Dial("udp", d.conn.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer asker.Close()
	f, waiting := newFast(r), &backlog{all: make([]heldQuery, 60)}
	send := func(c net.Conn, m *dns.Msg) {
		t.Helper()
		raw, err := m.Pack()
		if err == nil {
			_, err = c.Write(raw)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	known := question("www.example.com.", dns.TypeA)
	for range 2 { // it is learned
		f.send(t, known, "127.0.0.1")
	}
	const many, room, long = 100, 60, 3
	for i := range many {
		send(flood, question(fmt.Sprintf("x%d.example.com.", i), dns.TypeA))
	}
	for range long { // one that does not wait, whatever there is
		m := question("long.example.com.", dns.TypeA)
		m.SetEdns0(1232, false)
		m.IsEdns0().Option = append(m.IsEdns0().Option, &dns.EDNS0_PADDING{Padding: make([]byte, heldBytes)})
		send(flood, m)
	}
	send(asker, known)
	for taken := 0; taken < many+long+1; {
		n, err := d.read() // all are there already, but where the system is slow
		if err != nil {
			t.Fatal(n, err)
		}
		r.serveBatch(d, n, f, waiting, time.Now())
		taken += n
	}
	// answered reads as many answers as are to come, and whether there are more.
	answered := func(c net.Conn, want int) (n int) {
		for buf := make([]byte, 4096); n <= want; n++ {
			wait := datagramsWait
			if n == want {
				wait = 50 * time.Millisecond
			}
			if err := c.SetReadDeadline(time.Now().Add(wait)); err != nil {
				t.Fatal(err)
			}
			if _, err := c.Read(buf); err != nil {
				return n
			}
		}
		return n
	}
	if waiting.n == 0 || answered(asker, 1) != 1 {
		t.Fatalf("%d wait, and the one that is known is not answered", waiting.n)
	}
	for waiting.n > 0 {
		n, err := d.look()
		if err != nil || n != 0 {
			t.Fatal(n, err)
		}
		r.serveBatch(d, n, f, waiting, time.Now())
	}
	lost := int(r.stats.Overrun.Load())
	if got := answered(flood, many+long-lost); got != many+long-lost || lost == 0 || lost > many-room {
		t.Errorf("%d of %d answered, %d lost", got, many+long, lost)
	}
}
