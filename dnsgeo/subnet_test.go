package dnsgeo

import (
	"bytes"
	"encoding/hex"
	"net/netip"
	"testing"

	"github.com/miekg/dns"
)

// The option as bytes: family, source, scope, address (RFC 7871 6).
func TestSubnetIsReadRaw(t *testing.T) {
	for _, c := range []struct{ name, data, want string }{
		{"IPv4 /24", "0001 18 00 c00002", "192.0.2.0/24"},
		{"IPv4 /20, bits fill the byte", "0001 14 00 c000f0", "192.0.240.0/20"},
		{"IPv4 /32", "0001 20 00 c0000201", "192.0.2.1/32"},
		{"IPv6 /56", "0002 38 00 20010db8fd1342", "2001:db8:fd13:4200::/56"}, // RFC 7871 11.3's network
		{"opt-out: source 0", "0001 00 00", "none"},
		{"opt-out, IPv6", "0002 00 00", "none"},
		{"family 0, as dig sends +subnet=0", "0000 00 00", "none"},
		{"IPv4 in IPv6", "0002 78 00 00000000000000000000ffffc00002", "192.0.2.0/24"},
		{"family 0 with an address", "0000 18 00 c00002", "malformed"},
		{"family 3", "0003 18 00 c00002", "malformed"},
		{"a scope in a query", "0001 18 18 c00002", "malformed"},
		{"bits beyond the prefix", "0001 14 00 c000f1", "malformed"},
		{"address too long", "0001 18 00 c0000200", "malformed"},
		{"address too short", "0001 18 00 c000", "malformed"},
		{"prefix too long", "0001 21 00 c000020100", "malformed"},
		{"IPv6 prefix too long", "0002 81 00 20010db800000000000000000000000000", "malformed"},
		{"no room for the address family", "0001 18", "malformed"},
		{"empty", "", "malformed"},
	} {
		data, err := hex.DecodeString(string(bytes.ReplaceAll([]byte(c.data), []byte(" "), nil)))
		if err != nil {
			t.Fatal(c.name, err)
		}
		got := "malformed"
		if s, err := parseSubnet(data); err == nil {
			got = "none"
			if p, ok := s.prefix(); ok {
				got = p.String()
			}
		}
		if got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}

// withSubnet adds the option to a query.
func withSubnet(m *dns.Msg, network string) *dns.Msg {
	p := netip.MustParsePrefix(network)
	e := &dns.EDNS0_SUBNET{Code: dns.EDNS0SUBNET, Family: 1, SourceNetmask: uint8(p.Bits()), Address: p.Addr().AsSlice()}
	if p.Addr().Is6() {
		e.Family = 2
	}
	if m.IsEdns0() == nil {
		m.SetEdns0(1232, false)
	}
	m.IsEdns0().Option = append(m.IsEdns0().Option, e)
	return m
}

func subnetOf(m *dns.Msg) *dns.EDNS0_SUBNET {
	if o := m.IsEdns0(); o != nil {
		for _, option := range o.Option {
			if e, ok := option.(*dns.EDNS0_SUBNET); ok {
				return e
			}
		}
	}
	return nil
}

// What comes back: family, source and address as they were sent, and the scope
// that the answer holds for.
func TestSubnetInAnswers(t *testing.T) {
	nodes := threeSites()
	cfg := Config{Zones: []Zone{
		{Name: "cdn.example", NameServers: []string{"ns.example.net"}, Records: []string{"static A 192.0.2.9"}, Dynamic: []Dynamic{{Name: "www"}}},
		{Name: "private.example", NameServers: []string{"ns.example.net"}, ClientSubnet: new(bool), Dynamic: []Dynamic{{Name: "www"}}},
	}}
	cfg.Places.Map = writeMap(t, "198.51.0.0/16 nrt\n198.51.100.128/25 iad\n203.0.113.0/24 fra\n2001:db8:1::/48 nrt\n")
	r := responder(t, cfg, &nodes)
	for _, c := range []struct {
		name, subnet, from string
		site               string
		scope              uint8
	}{
		{"www.cdn.example.", "198.51.100.128/25", "203.0.113.1", "iad", 25},
		{"www.cdn.example.", "198.51.100.0/24", "203.0.113.1", "nrt", 25}, // half of it is elsewhere
		{"www.cdn.example.", "198.51.7.0/24", "203.0.113.1", "nrt", 24},   // spreading uses /24
		{"www.cdn.example.", "198.51.0.0/16", "203.0.113.1", "nrt", 18},   // down to where the exception begins
		{"www.cdn.example.", "2001:db8:1:4200::/56", "203.0.113.1", "nrt", 56},
		{"www.cdn.example.", "198.51.100.0/0", "203.0.113.1", "fra", 0},      // opted out: by the resolver
		{"static.cdn.example.", "198.51.100.0/24", "203.0.113.1", "", 0},     // the same for all
		{"www.private.example.", "198.51.100.0/24", "203.0.113.1", "fra", 0}, // the zone does not want to know
	} {
		p := netip.MustParsePrefix(c.subnet)
		p = netip.PrefixFrom(p.Addr(), p.Bits()).Masked()
		m := ask(t, r, withSubnet(question(c.name, dns.TypeA), p.String()), c.from, udp)
		e := subnetOf(m)
		if e == nil || e.SourceNetmask != uint8(p.Bits()) || e.SourceScope != c.scope || !e.Address.Equal(p.Addr().AsSlice()) && p.Bits() > 0 {
			t.Errorf("%s %s: %v, want scope %d", c.name, c.subnet, e, c.scope)
		}
		if c.site != "" && (len(m.Answer) == 0 || !isOf(m.Answer[0], c.site, nodes)) {
			t.Errorf("%s %s: %v, want nodes of %s", c.name, c.subnet, m.Answer, c.site)
		}
	}
	// No option in, none out.
	if e := subnetOf(ask(t, r, question("www.cdn.example.", dns.TypeA), "203.0.113.1", udp)); e != nil {
		t.Errorf("an option that nobody sent: %v", e)
	}
	// A malformed one is an error of format, in an answer with EDNS.
	m := withSubnet(question("www.cdn.example.", dns.TypeA), "198.51.100.0/24")
	raw, _ := m.Pack()
	raw[len(raw)-4] = 9 // the scope
	out := new(dns.Msg)
	if err := out.Unpack(r.respond(nil, raw, addrPort("203.0.113.1"), udp)); err != nil || out.Rcode != dns.RcodeFormatError || out.IsEdns0() == nil {
		t.Errorf("a scope in a query: %v %v", out, err)
	}
}

// isOf reports whether a record has an address of a site's node.
func isOf(rr dns.RR, site string, nodes []Node) bool {
	a, ok := rr.(*dns.A)
	if !ok {
		return false
	}
	for _, n := range nodes {
		for _, addr := range n.Addresses {
			if n.Site == site && addr.String() == a.A.String() {
				return true
			}
		}
	}
	return false
}

func FuzzSubnet(f *testing.F) {
	for _, seed := range []string{"0001180 0c00002", "00020000", "00000000", "00021000"} {
		data, _ := hex.DecodeString(seed)
		f.Add(data)
	}
	f.Add([]byte{0, 1, 24, 0, 192, 0, 2})
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := parseSubnet(data)
		if err != nil {
			return
		}
		if p, ok := s.prefix(); ok && p != p.Masked() {
			t.Errorf("%x is %v, with bits beyond its length", data, p)
		}
		// The echo is what came, with the scope in its place.
		o := &dns.OPT{Hdr: dns.RR_Header{Name: ".", Rrtype: dns.TypeOPT}, Option: []dns.EDNS0{s.echo(0)}}
		b := make([]byte, 512)
		n, err := dns.PackRR(o, b, 0, nil, false)
		if err != nil || !bytes.HasSuffix(b[:n], data) {
			t.Errorf("%x comes back as %x, %v", data, b[:n], err)
		}
	})
}
