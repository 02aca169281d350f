package pool

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// nameserver answers by a zone, on UDP and TCP of one port.
type nameserver struct {
	addr    string
	queries atomic.Int64
	mu      sync.Mutex
	zone    []string
	answer  func(w dns.ResponseWriter, r *dns.Msg) bool // instead, if true
}

func (s *nameserver) set(zone ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.zone, s.answer = zone, nil
}

func (s *nameserver) say(answer func(w dns.ResponseWriter, r *dns.Msg) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answer = answer
}

func (s *nameserver) ServeDNS(w dns.ResponseWriter, r *dns.Msg) {
	s.queries.Add(1)
	s.mu.Lock()
	zone, answer := s.zone, s.answer
	s.mu.Unlock()
	if answer != nil && answer(w, r) {
		return
	}
	m := new(dns.Msg)
	m.SetReply(r)
	q := r.Question[0]
	name := q.Name
	known := false
	for _, line := range zone { // in order: aliases come before what they lead to
		rr, err := dns.NewRR(line)
		if err != nil {
			panic(err)
		}
		if !strings.EqualFold(rr.Header().Name, name) {
			continue
		}
		known = true
		if alias, ok := rr.(*dns.CNAME); ok {
			m.Answer = append(m.Answer, rr)
			name = alias.Target
		} else if rr.Header().Rrtype == q.Qtype {
			m.Answer = append(m.Answer, rr)
		}
	}
	if !known {
		m.Rcode = dns.RcodeNameError
	}
	if w.LocalAddr().Network() == "udp" {
		m.Truncate(512)
	}
	_ = w.WriteMsg(m)
}

func serveNames(t *testing.T) *nameserver {
	t.Helper()
	s := &nameserver{}
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.addr = tcp.Addr().String()
	udp, err := net.ListenPacket("udp", s.addr)
	if err != nil {
		t.Skip("the port is taken for UDP:", err)
	}
	for _, server := range []*dns.Server{{Listener: tcp, Handler: s}, {PacketConn: udp, Handler: s}} {
		var work sync.WaitGroup
		started := make(chan struct{})
		server.NotifyStartedFunc = func() { close(started) }
		work.Go(func() { _ = server.ActivateAndServe() })
		<-started
		t.Cleanup(func() { _ = server.Shutdown(); work.Wait() })
	}
	return s
}

func TestLookUp(t *testing.T) {
	s := serveNames(t)
	many := make([]string, 60)
	for i := range many {
		many[i] = fmt.Sprintf("many.test. 60 A 10.0.1.%d", i)
	}
	s.set(append(many,
		"www.test. 30 CNAME edge.test.", "edge.test. 60 CNAME shop.test.",
		"shop.test. 20 A 10.0.0.2", "shop.test. 10 A 10.0.0.1", "shop.test. 90 AAAA 2001:db8::1", "shop.test. 5 TXT x",
		"_http._tcp.test. 40 SRV 2 0 81 shop.test.", "_http._tcp.test. 40 SRV 1 5 80 one.test.", "_http._tcp.test. 40 SRV 1 5 80 .",
		"one.test. 300 A 10.0.0.9",
		"loop.test. 5 CNAME pool.test.", "pool.test. 5 CNAME loop.test.",
		"text.test. 5 TXT x", "zero.test. 0 A 0.0.0.0", "odd.test. 5 A 224.0.0.1",
	)...)
	for _, c := range []struct {
		name, kind, want, err string
		ttl                   time.Duration
	}{
		{"shop.test", "a", "10.0.0.1 10.0.0.2 2001:db8::1", "", 10 * time.Second},
		{"WWW.Test", "a", "10.0.0.1 10.0.0.2 2001:db8::1", "", 10 * time.Second},
		{"many.test", "a", "", "", 60 * time.Second}, // too many for UDP
		{"_http._tcp.test", "srv", "10.0.0.9:80 10.0.0.1:81 10.0.0.2:81 [2001:db8::1]:81", "", 10 * time.Second},
		{"loop.test", "a", "", "too many aliases", 0},
		{"nobody.test", "a", "", "no address", 0},
		{"text.test", "a", "", "no address", 0},
		{"zero.test", "a", "", "no address", 0},
		{"odd.test", "a", "", "no address", 0},
	} {
		found, ttl, err := lookUp(t.Context(), Discover{Name: c.name, Type: c.kind, Resolvers: []string{s.addr}, TTLMax: time.Hour})
		if (err != nil) != (c.err != "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		var addresses []string
		for _, e := range found {
			addresses = append(addresses, e.Address)
		}
		if got := strings.Join(addresses, " "); got != c.want && c.name != "many.test" {
			t.Errorf("%s: got %s, want %s", c.name, got, c.want)
		}
		if c.name == "many.test" {
			want(t, c.name, len(found), 60)
		}
		if c.err == "" {
			want(t, c.name+": TTL", ttl, c.ttl)
		}
	}
}

// Resolvers that answer what was not asked, not at all, or that they cannot.
func TestLookUpFromHostileResolvers(t *testing.T) {
	for name, c := range map[string]struct {
		answer func(w dns.ResponseWriter, r *dns.Msg) bool
		want   string
	}{
		"servfail": {func(w dns.ResponseWriter, r *dns.Msg) bool {
			m := new(dns.Msg)
			m.SetRcode(r, dns.RcodeServerFailure)
			return w.WriteMsg(m) == nil
		}, "SERVFAIL"},
		"another question": {func(w dns.ResponseWriter, r *dns.Msg) bool {
			m := new(dns.Msg)
			m.SetReply(r)
			m.Question[0].Name = "evil.test."
			m.Answer = []dns.RR{&dns.A{Hdr: dns.RR_Header{Name: "shop.test.", Rrtype: dns.TypeA, Class: 1, Ttl: 1}, A: net.IPv4(6, 6, 6, 6)}}
			return w.WriteMsg(m) == nil
		}, "another question"},
		"another owner": {func(w dns.ResponseWriter, r *dns.Msg) bool {
			m := new(dns.Msg)
			m.SetReply(r)
			m.Answer = []dns.RR{&dns.A{Hdr: dns.RR_Header{Name: "evil.test.", Rrtype: dns.TypeA, Class: 1, Ttl: 1}, A: net.IPv4(6, 6, 6, 6)}}
			return w.WriteMsg(m) == nil
		}, "no address"},
		"garbage": {func(w dns.ResponseWriter, _ *dns.Msg) bool {
			_, err := w.Write([]byte("what?"))
			return err == nil
		}, "shop.test"},
	} {
		t.Run(name, func(t *testing.T) {
			s := serveNames(t)
			s.say(c.answer)
			found, _, err := lookUp(t.Context(), Discover{Name: "shop.test", Type: "a", Resolvers: []string{s.addr}, TTLMax: time.Hour})
			if err == nil || !strings.Contains(err.Error(), c.want) || len(found) > 0 {
				t.Errorf("%v, %v", found, err)
			}
			// The next one is asked.
			other := serveNames(t)
			other.set("shop.test. 5 A 10.0.0.1")
			if name == "servfail" || name == "another question" {
				found, _, err = lookUp(t.Context(), Discover{Name: "shop.test", Type: "a", Resolvers: []string{s.addr, other.addr}, TTLMax: time.Hour})
				if err != nil || len(found) != 1 {
					t.Errorf("by the second resolver: %v, %v", found, err)
				}
			}
		})
	}
}

// A pool follows DNS, and keeps what it knows when DNS fails or says that there is
// nobody.
func TestDiscoveryFollowsAndKeeps(t *testing.T) {
	s := serveNames(t)
	s.set("shop.test. 0 A 10.0.0.1", "shop.test. 0 A 10.0.0.2")
	gone := make(chan string, 16)
	p := open(t, Config{
		Endpoints: []Endpoint{{Address: "10.9.9.9:80", Priority: 1}}, Port: 80,
		Discover: Discover{Name: "shop.test", Resolvers: []string{s.addr}, TTLMin: 100 * time.Millisecond},
		Gone:     func(address string) { gone <- address },
	})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	first := pick(t, p, Hint{}) // waits for the first answer
	if first.Address() != "10.0.0.1:80" && first.Address() != "10.0.0.2:80" {
		t.Errorf("went to %s", first.Address())
	}
	use(t, p, Hint{Avoid: []string{"10.0.0.1:80", "10.9.9.9:80"}}, good)
	kept := state(t, p, "10.0.0.2:80").Requests
	s.set("shop.test. 0 A 10.0.0.2", "shop.test. 0 A 10.0.0.3")
	select {
	case address := <-gone:
		want(t, "gone", address, "10.0.0.1:80")
	case <-time.After(20 * time.Second):
		t.Fatal("10.0.0.1 is not gone")
	}
	want(t, "what stayed", state(t, p, "10.0.0.2:80").Requests, kept)
	if share := state(t, p, "10.0.0.3:80").Share; share > 0.5 {
		t.Errorf("the newcomer's share: %v", share)
	}
	first.Observe(good) // an endpoint that is none any more
	first.Done()
	for _, zone := range [][]string{{"other.test. 0 A 10.0.0.4"}, {"shop.test. 0 TXT nobody"}} {
		s.set(zone...)
		failed := p.stats.ResolutionsFailed.Load()
		for late := time.Now().Add(20 * time.Second); p.stats.ResolutionsFailed.Load() == failed; {
			if time.Now().After(late) {
				t.Fatal("it was not asked again")
			}
			pause(5 * time.Millisecond)
		}
		want(t, "endpoints", len(p.State().Endpoints), 3)
		if p.State().ResolutionError == "" {
			t.Error("the state does not say that DNS fails")
		}
	}
	select {
	case address := <-gone:
		t.Errorf("%s was dropped", address)
	default:
	}
	cancel()
	want(t, "Run", <-done, nil)
}

func pause(d time.Duration) { <-time.After(d) }

func TestSystemResolvers(t *testing.T) {
	file := filepath.Join(t.TempDir(), "resolv.conf")
	if _, err := systemResolvers(file); err == nil || !strings.Contains(err.Error(), "discover.resolvers") {
		t.Errorf("without a file: %v", err)
	}
	for text, wanted := range map[string]string{"nameserver 127.0.0.53\nnameserver ::1\n": "127.0.0.53:53 [::1]:53", "search x\n": ""} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := systemResolvers(file)
		if (err == nil) != (wanted != "") {
			t.Errorf("%q: %v", text, err)
		}
		want(t, text, strings.Join(got, " "), wanted)
	}
}
