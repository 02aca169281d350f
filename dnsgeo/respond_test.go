package dnsgeo

import (
	"encoding/binary"
	"encoding/hex"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"
)

var update = flag.Bool("update", false, "rewrite golden files")

// Answers as they are on the wire. What changes here changes what resolvers see.
func TestGoldenAnswers(t *testing.T) {
	nodes := threeSites()
	cfg := everything()
	cfg.Zones[0].Dynamic = []Dynamic{{Name: "geo"}}
	cfg.Places.Map = writeMap(t, "203.0.113.0/24 fra\n2001:db8::/32 nrt\n")
	cfg.Cookies.Off = true
	r := responder(t, cfg, &nodes)
	var out strings.Builder
	for _, c := range []struct {
		name  string
		qtype uint16
		edit  func(*dns.Msg)
	}{
		{"geo.cdn.example.", dns.TypeA, nil},
		{"gEo.CDN.example.", dns.TypeAAAA, nil},
		{"geo.cdn.example.", dns.TypeHTTPS, func(m *dns.Msg) { m.SetEdns0(1232, false) }},
		{"geo.cdn.example.", dns.TypeA, func(m *dns.Msg) { withSubnet(m, "203.0.113.0/24") }},
		{"geo.cdn.example.", dns.TypeAAAA, func(m *dns.Msg) { withSubnet(m, "2001:db8:1:2::/56") }},
		{"geo.cdn.example.", dns.TypeTXT, nil},
		{"none.cdn.example.", dns.TypeA, func(m *dns.Msg) { m.SetEdns0(4096, true) }},
		{"x.sub.cdn.example.", dns.TypeA, nil},
		{"alias2.cdn.example.", dns.TypeA, nil},
		{"cdn.example.", dns.TypeANY, nil},
		{"cdn.example.", dns.TypeAXFR, nil},
		{"example.org.", dns.TypeA, func(m *dns.Msg) { m.SetEdns0(1232, false) }},
		{"geo.cdn.example.", dns.TypeA, func(m *dns.Msg) { m.SetEdns0(1232, false); m.IsEdns0().SetVersion(7) }},
		{"geo.cdn.example.", dns.TypeA, func(m *dns.Msg) { m.Opcode = dns.OpcodeNotify }},
	} {
		m := question(c.name, c.qtype)
		if c.edit != nil {
			c.edit(m)
		}
		m.Id = 0x1234
		raw, err := m.Pack()
		if err != nil {
			t.Fatal(err)
		}
		answer := r.respond(nil, raw, addrPort("203.0.113.5"), udp)
		fmt.Fprintf(&out, "%s %s\n> %x\n%s\n", c.name, dns.Type(c.qtype), raw, hex.Dump(answer))
	}
	const file = "testdata/answers.golden"
	if *update {
		if err := os.WriteFile(file, []byte(out.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), out.String()); diff != "" {
		t.Errorf("answers differ; go test ./dnsgeo -run Golden -update rewrites them:\n%s", diff)
	}
}

// Whatever arrives, what leaves is an answer to it, within bounds, or nothing.
func FuzzRespond(f *testing.F) {
	nodes := threeSites()
	cfg := everything()
	cfg.Zones[0].Dynamic = []Dynamic{{Name: "geo"}, {Name: "*.any"}}
	cfg.ResponseLimits.Off = true
	r := fuzzed(f, cfg, &nodes)
	for _, name := range []string{"geo.cdn.example.", "x.any.cdn.example.", "alias2.cdn.example.", "x.sub.cdn.example.", "none."} {
		for _, qtype := range []uint16{dns.TypeA, dns.TypeHTTPS, dns.TypeANY, dns.TypeDS} {
			raw, _ := withSubnet(question(name, qtype), "203.0.113.0/24").Pack()
			f.Add(raw, false)
			f.Add(raw[:len(raw)-3], true)
		}
	}
	f.Add([]byte("\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\xc0\x0c\x00\x01\x00\x01"), false)            // a name that points at itself
	f.Add([]byte("\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x01\x00\x00\x01\x00\x01\xc0\x0c\x00\x29"), true) // an OPT record whose owner points
	f.Fuzz(func(t *testing.T, raw []byte, overTCP bool) {
		via := udp
		if overTCP {
			via = tcp
		}
		out := r.respond(nil, raw, netip.AddrPortFrom(netip.MustParseAddr("203.0.113.5"), 53), via)
		if len(out) == 0 {
			if len(raw) >= headerBytes && raw[2]&0x80 == 0 {
				t.Errorf("%x is met with silence", raw)
			}
			return
		}
		if len(out) > dns.MaxMsgSize || via == udp && len(out) > 1232 {
			t.Errorf("%x is answered with %d bytes", raw, len(out))
		}
		if binary.BigEndian.Uint16(out) != binary.BigEndian.Uint16(raw) || out[2]&0x80 == 0 {
			t.Errorf("%x is answered with %x", raw, out)
		}
		m := new(dns.Msg)
		if err := m.Unpack(out); err != nil {
			t.Errorf("%x is answered with %x: %v", raw, out, err)
		}
	})
}

func fuzzed(f *testing.F, cfg Config, nodes *[]Node) *Responder {
	f.Helper()
	cfg.Nodes = func() []Node { return *nodes }
	r, err := New(cfg, discard())
	if err != nil {
		f.Fatal(err)
	}
	return r
}
