package dnsgeo

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"strings"
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
	conn := connected(t, at)
	var all []byte
	for id := range 100 {
		m := question("www.cdn.example.", dns.TypeA)
		m.Id = uint16(id)
		raw, _ := m.Pack()
		all = append(binary.BigEndian.AppendUint16(all, uint16(len(raw))), raw...)
	}
	if _, err := conn.Conn.Write(all); err != nil {
		t.Fatal(err)
	}
	for id := range 100 {
		m, err := conn.ReadMsg()
		if err != nil || m.Id != uint16(id) || len(m.Answer) != 1 {
			t.Fatalf("answer %d: %v %v", id, m, err)
		}
	}
}

func TestConnectionLimits(t *testing.T) {
	cfg := small("www A 192.0.2.1")
	cfg.Limits = Limits{ConnectionsPerAddress: 2, Queries: 3, IdleTimeout: time.Minute}
	r, at := serving(t, cfg, nil)
	open := func() *dns.Conn { return connected(t, at) }
	ask := func(c *dns.Conn) error {
		if err := c.WriteMsg(question("www.cdn.example.", dns.TypeA)); err != nil {
			return err
		}
		_, err := c.ReadMsg()
		return err
	}
	a, b := open(), open()
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
	_ = ask(a) // the second
	if err := ask(a); err != nil {
		t.Error("the third query was not answered:", err)
	}
	if ask(a) == nil {
		t.Error("a fourth query was answered")
	}
	a.Close()
	for end := time.Now().Add(20 * time.Second); r.Connections() > 1; <-time.After(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("a connection that was closed keeps its place")
		}
	}
	// A message that no query is as large as ends its connection.
	large := open()
	_, _ = large.Write([]byte{0xff, 0xff, 0, 1})
	if _, err := large.Conn.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("65535 bytes were waited for: %v", err)
	}
}

// connected opens a connection to a server, for reads that end within 20 seconds.
func connected(t *testing.T, at string) *dns.Conn {
	t.Helper()
	c, err := net.Dial("tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return &dns.Conn{Conn: c}
}

// A connection that is idle is closed, and one on which half of a query trickles too.
func TestIdleConnections(t *testing.T) {
	cfg := small("www A 192.0.2.1")
	cfg.Limits.IdleTimeout = 300 * time.Millisecond
	_, at := serving(t, cfg, nil)
	idle, trickles := connected(t, at), connected(t, at)
	_, _ = trickles.Conn.Write([]byte{0})
	if _, err := idle.Conn.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("an idle connection ended with %v, want EOF", err)
	}
	// A byte that comes too late has the system reset the connection.
	if _, err := trickles.Conn.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a connection that trickles ended with %v", err)
	}
}

// A port that is taken is an error, and nothing is open after it.
func TestListenTaken(t *testing.T) {
	taken, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	cfg := small("www A 192.0.2.1")
	cfg.Listen = []string{"127.0.0.1:0", taken.LocalAddr().String()}
	r := responder(t, cfg, nil)
	if err := r.Listen(); err == nil || !strings.Contains(err.Error(), cfg.Listen[1]) || len(r.Addresses()) > 0 {
		t.Fatalf("%v, open are %v", err, r.Addresses())
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
