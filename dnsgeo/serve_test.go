package dnsgeo

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// serving runs a responder on a free port of loopback until the test ends.
func serving(t *testing.T, cfg Config, nodes *[]Node) (*Responder, string) {
	t.Helper()
	cfg.Listen = []string{"127.0.0.1:0"}
	r := responder(t, cfg, nodes)
	if err := r.Listen(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return r, r.Addresses()[0]
}

func small(lines ...string) Config {
	return Config{Zones: []Zone{{Name: "cdn.example", NameServers: []string{"ns1.example.net"}, Records: lines}}}
}

// Queries that come together on one connection are all answered, in their order.
func TestPipelining(t *testing.T) {
	_, at := serving(t, small("www A 192.0.2.1"), nil)
	c, err := net.Dial("tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	var all []byte
	for id := range 100 {
		m := question("www.cdn.example.", dns.TypeA)
		m.Id = uint16(id)
		raw, _ := m.Pack()
		all = append(binary.BigEndian.AppendUint16(all, uint16(len(raw))), raw...)
	}
	if _, err := c.Write(all); err != nil {
		t.Fatal(err)
	}
	conn := &dns.Conn{Conn: c}
	for id := range 100 {
		m, err := conn.ReadMsg()
		if err != nil || m.Id != uint16(id) || len(m.Answer) != 1 {
			t.Fatalf("answer %d: %v %v", id, m, err)
		}
	}
}

func TestConnectionLimits(t *testing.T) {
	cfg := small("www A 192.0.2.1")
	cfg.Limits = Limits{ConnectionsPerAddress: 2, Queries: 3, IdleTimeout: 300 * time.Millisecond}
	r, at := serving(t, cfg, nil)
	open := func() *dns.Conn {
		c, err := net.Dial("tcp", at)
		if err != nil {
			t.Fatal(err)
		}
		return &dns.Conn{Conn: c}
	}
	ask := func(c *dns.Conn) error {
		if err := c.WriteMsg(question("www.cdn.example.", dns.TypeA)); err != nil {
			return err
		}
		_, err := c.ReadMsg()
		return err
	}
	a, b := open(), open()
	defer b.Close()
	if err := ask(a); err != nil {
		t.Fatal(err)
	}
	if err := ask(b); err != nil {
		t.Fatal(err)
	}
	third := open()
	if ask(third) == nil || r.stats.ConnectionsRefused.Load() != 1 {
		t.Error("a third connection was served")
	}
	third.Close()
	_ = ask(a)
	if err := ask(a); err != nil {
		t.Error("the third query was not answered:", err)
	}
	if ask(a) == nil {
		t.Error("a fourth query was answered")
	}
	a.Close()
	// A message that no query is as large as ends its connection.
	large := open()
	defer large.Close()
	_, _ = large.Write([]byte{0xff, 0xff, 0, 1})
	_ = large.SetReadDeadline(time.Now().Add(20 * time.Second))
	if _, err := large.Conn.Read(make([]byte, 1)); err == nil {
		t.Error("65535 bytes were waited for")
	}
	// b is idle, or trickles: half of a query.
	_, _ = b.Write([]byte{0})
	_ = b.SetReadDeadline(time.Now().Add(20 * time.Second))
	if _, err := b.Conn.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("an idle connection ended with %v, want EOF", err)
	}
}

// What does not fit is truncated, and whole over TCP.
func TestTruncation(t *testing.T) {
	var lines []string
	for i := range 200 {
		lines = append(lines, "big A 10.0.0."+string(rune('0'+i%10))+"")
		lines = append(lines, "big TXT \"text number "+string(rune('a'+i%26))+string(rune('a'+i/26))+" of some length\"")
	}
	r, at := serving(t, small(lines...), nil)
	client := dns.Client{Timeout: 20 * time.Second}
	m, _, err := client.Exchange(question("big.cdn.example.", dns.TypeTXT), at)
	if err != nil || !m.Truncated || len(m.Answer) != 0 || m.Rcode != dns.RcodeSuccess {
		t.Fatalf("over UDP: %v %v", m, err)
	}
	client.Net = "tcp"
	if m, _, err = client.Exchange(question("big.cdn.example.", dns.TypeTXT), at); err != nil || m.Truncated || len(m.Answer) != 200 {
		t.Fatalf("over TCP: %d records, %v", len(m.Answer), err)
	}
	if r.stats.Truncated.Load() != 1 {
		t.Errorf("%d truncated answers are counted, want 1", r.stats.Truncated.Load())
	}
}
