package dnsgeo

import (
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// responder makes one of a configuration and nodes, which the test may change
// through the pointer before it calls refresh.
func responder(t *testing.T, cfg Config, nodes *[]Node) *Responder {
	t.Helper()
	cfg.Validate(func(path, problem string) { t.Errorf("%s %s", path, problem) })
	if nodes != nil {
		cfg.Nodes = func() []Node { return *nodes }
	}
	r, err := New(cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// ask sends a message through the responder and returns the answer.
func ask(t *testing.T, r *Responder, m *dns.Msg, from string, via transport) *dns.Msg {
	t.Helper()
	raw, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	packed := r.respond(nil, raw, netip.AddrPortFrom(netip.MustParseAddr(from), 5353), via)
	out := new(dns.Msg)
	if err := out.Unpack(packed); err != nil {
		t.Fatalf("answer to %v: %v", m.Question, err)
	}
	return out
}

// question is a query as dig would send it.
func question(name string, qtype uint16) *dns.Msg {
	m := new(dns.Msg)
	m.SetQuestion(name, qtype)
	m.RecursionDesired = false
	return m
}

// rfc4592 is the example zone of RFC 4592 2.2.1.
func rfc4592() Config {
	return Config{Zones: []Zone{{
		Name: "example",
		Records: []string{
			"@ 3600 IN SOA ns.example.com. postmaster 1 7200 1800 1209600 300",
			"@ 3600 NS ns.example.com.",
			"@ 3600 NS ns.example.net.",
			`*.example. 3600 TXT "this is a wildcard"`,
			"*.example. 3600 MX 10 host1.example.",
			`sub.*.example. 3600 TXT "this is not a wildcard"`,
			"host1.example. 3600 A 192.0.2.1",
			"_ssh._tcp.host1.example. 3600 SRV 0 0 22 host1",
			"_ssh._tcp.host2.example. 3600 SRV 0 0 22 host2",
			"subdel.example. 3600 NS ns.example.com.",
			"subdel.example. 3600 NS ns.example.net.",
		},
	}}}
}

// The questions that RFC 4592 2.2.1 answers in words.
func TestWildcardsOfTheRFC(t *testing.T) {
	r := responder(t, rfc4592(), nil)
	for _, c := range []struct {
		name  string
		qtype uint16
		rcode int
		want  string // of the answer's first record, or "referral"
	}{
		{"host3.example.", dns.TypeMX, dns.RcodeSuccess, "host3.example.\t3600\tIN\tMX\t10 host1.example."},
		{"host3.example.", dns.TypeA, dns.RcodeSuccess, ""},
		{"foo.bar.example.", dns.TypeTXT, dns.RcodeSuccess, `foo.bar.example.` + "\t3600\tIN\tTXT\t" + `"this is a wildcard"`},
		{"host1.example.", dns.TypeMX, dns.RcodeSuccess, ""},
		{"sub.*.example.", dns.TypeMX, dns.RcodeSuccess, ""},
		{"_telnet._tcp.host1.example.", dns.TypeSRV, dns.RcodeNameError, ""},
		{"host.subdel.example.", dns.TypeA, dns.RcodeSuccess, "referral"},
		{"ghost.*.example.", dns.TypeMX, dns.RcodeNameError, ""},
		{"_tcp.host1.example.", dns.TypeA, dns.RcodeSuccess, ""}, // an empty non-terminal
		{"host2.example.", dns.TypeTXT, dns.RcodeSuccess, ""},
	} {
		m := ask(t, r, question(c.name, c.qtype), "192.0.2.53", udp)
		got := ""
		if len(m.Answer) > 0 {
			got = m.Answer[0].String()
		} else if len(m.Ns) > 0 && m.Ns[0].Header().Rrtype == dns.TypeNS {
			got = "referral"
		} else if len(m.Ns) != 1 || m.Ns[0].Header().Ttl != 300 {
			t.Errorf("%s: authority %v, want the SOA record with the TTL of denials", c.name, m.Ns)
		}
		if got != c.want || m.Rcode != c.rcode || m.Authoritative == (c.want == "referral") {
			t.Errorf("%s %s: %s %q aa=%v, want %s %q", c.name, dns.TypeToString[c.qtype],
				dns.RcodeToString[m.Rcode], got, m.Authoritative, dns.RcodeToString[c.rcode], c.want)
		}
	}
}

func TestSteeredAnswer(t *testing.T) {
	nodes := []Node{
		{Name: "fra-1", Site: "fra", Place: &Point{50.1, 8.7}, HTTPS: true, H2: true, H3: true,
			Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")}},
	}
	r := responder(t, Config{Zones: []Zone{{Name: "cdn.example", NameServers: []string{"ns1.example.net"}, Dynamic: []Dynamic{{Name: "www"}}}}}, &nodes)
	for qtype, want := range map[uint16]string{
		dns.TypeA:     "wWw.cdn.example.\t20\tIN\tA\t192.0.2.1",
		dns.TypeAAAA:  "wWw.cdn.example.\t20\tIN\tAAAA\t2001:db8::1",
		dns.TypeHTTPS: "wWw.cdn.example.\t20\tIN\tHTTPS\t" + `1 . alpn="h3,h2" ipv4hint="192.0.2.1" ipv6hint="2001:db8::1"`,
	} {
		m := ask(t, r, question("wWw.cdn.example.", qtype), "192.0.2.53", udp)
		if len(m.Answer) != 1 || m.Answer[0].String() != want {
			t.Errorf("%v, want %s", m.Answer, strings.ReplaceAll(want, "\t", " "))
		}
	}
}

func TestTypesOfAnOwner(t *testing.T) {
	r := responder(t, Config{Zones: []Zone{{
		Name: "cdn.example", NameServers: []string{"ns1.example.net"}, Records: []string{"www TXT here"}, Dynamic: []Dynamic{{Name: "www"}},
	}}}, nil)
	o := r.snap.Load().zones.byApex["cdn.example."].owners["www.cdn.example."]
	want := []uint16{dns.TypeA, dns.TypeTXT, dns.TypeAAAA, dns.TypeSVCB, dns.TypeHTTPS}
	if got := o.types(); !slices.Equal(got, want) || !o.has(dns.TypeSVCB) || o.has(dns.TypeMX) {
		t.Errorf("types are %v, want %v", got, want)
	}
}

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

func addrPort(text string) netip.AddrPort {
	return netip.AddrPortFrom(netip.MustParseAddr(text), 5353)
}
