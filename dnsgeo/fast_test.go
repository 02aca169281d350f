package dnsgeo

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// twoWays are two responders that must not differ: one answers by the fast path,
// one never does.
type twoWays struct {
	fast *fast
	slow *Responder
	now  time.Time
}

func newTwoWays(t testing.TB, change func(*Config)) *twoWays {
	t.Helper()
	cfg, _ := signedZone(t)
	plain := cfg.Zones[0]
	plain.Name, plain.DNSSEC, plain.ClientSubnet = "example.net", DNSSEC{}, new(bool)
	cfg.Zones = append(cfg.Zones, plain)
	cfg.Secrets = [][]byte{[]byte("a secret"), []byte("the one before")}
	cfg.ResponseLimits.Off = true
	if change != nil {
		change(&cfg)
	}
	nodes := *twoNodes()
	for i := range 4 {
		nodes = append(nodes, Node{Name: fmt.Sprint("c", i), Site: fmt.Sprint("s", i%2), HTTPS: true, H2: true,
			Place: &Point{float64(10 * i), float64(20 * i)}, Addresses: []netip.Addr{netip.AddrFrom4([4]byte{203, 0, 113, byte(i)})}})
	}
	cfg.Nodes = func() []Node { return nodes }
	two := &twoWays{now: signTime}
	for i := range 2 {
		r, err := New(cfg, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			two.fast = newFast(r)
			continue
		}
		two.slow = r
		r.signatures = two.fast.r.signatures // no two signatures are alike
		r.adopt(r.snap.Load().zones, nil, false)
	}
	return two
}

// check answers a query both ways, several times.
func (w *twoWays) check(t testing.TB, raw []byte, from netip.AddrPort) []byte {
	t.Helper()
	var last []byte
	for i := range 3 {
		fast := w.fast.respond(nil, raw, from, w.now)
		slow := w.slow.respondAt(nil, raw, from, udp, w.now, nil)
		if !bytes.Equal(fast, slow) {
			t.Fatalf("time %d: query from %v\n%sfast\n%sslow\n%s%v\n%v", i+1, from, hex.Dump(raw), hex.Dump(fast), hex.Dump(slow), text(fast), text(slow))
		}
		last = fast
	}
	if w.fast.r.stats.Panics.Load()+w.slow.stats.Panics.Load() > 0 {
		t.Fatalf("a query met a bug:\n%s", hex.Dump(raw))
	}
	return last
}

func text(raw []byte) any {
	m := new(dns.Msg)
	if err := m.Unpack(raw); err != nil {
		return err
	}
	return m
}

// randomQuery makes queries such as resolvers send, and others.
func randomQuery(r *rand.Rand) []byte {
	pick := func(of ...string) string { return of[r.IntN(len(of))] }
	name := pick("www.", "www.", "www.", "", "txt.", "alias.", "alias2.", "away.", "nowhere.", "nope.", "deep.below.", "below.", "x.wild.", "y.x.wild.",
		"x.cdn.", "z.cdn.", "x.aliases.", "sub.", "ns.sub.", "safe.", "ns1.", `a\.b.`, `\000.`) + pick("example.com.", "example.com.", "example.net.", "example.org.")
	b := []byte(name)
	if r.IntN(2) == 0 {
		for i := range b {
			if b[i] >= 'a' && b[i] <= 'z' && r.IntN(2) == 0 {
				b[i] -= 'a' - 'A'
			}
		}
	}
	types := []uint16{dns.TypeA, dns.TypeA, dns.TypeAAAA, dns.TypeHTTPS, dns.TypeTXT, dns.TypeNS, dns.TypeSOA, dns.TypeDNSKEY, dns.TypeDS,
		dns.TypeANY, dns.TypeNSEC, dns.TypeRRSIG, dns.TypeNXNAME, dns.TypeAXFR, dns.TypeCNAME, 65280}
	m := question(string(b), types[r.IntN(len(types))])
	m.Id = uint16(r.Uint32())
	m.RecursionDesired, m.CheckingDisabled, m.AuthenticatedData = r.IntN(2) == 0, r.IntN(8) == 0, r.IntN(8) == 0
	if r.IntN(4) > 0 {
		randomOPT(r, m)
	}
	raw, err := m.Pack()
	if err != nil {
		panic(err)
	}
	return raw
}

func randomOPT(r *rand.Rand, m *dns.Msg) {
	m.SetEdns0([]uint16{0, 512, 600, 1232, 4096}[r.IntN(5)], r.IntN(2) == 0)
	opt := m.IsEdns0()
	opt.SetCo(r.IntN(4) == 0)
	if r.IntN(16) == 0 {
		opt.SetVersion(1)
	}
	var options []dns.EDNS0
	if r.IntN(3) > 0 {
		s := &dns.EDNS0_SUBNET{Code: dns.EDNS0SUBNET, Family: 1, SourceNetmask: uint8(r.IntN(33)), Address: []byte{10, byte(r.IntN(3)), byte(r.IntN(3)), 129}}
		if r.IntN(3) == 0 {
			s.Family, s.SourceNetmask = 2, uint8(r.IntN(129))
			s.Address = netip.MustParseAddr([]string{"2001:db8:1:2:3:4:5:6", "::ffff:10.1.2.3", "2001:db8:1:3::"}[r.IntN(3)]).AsSlice()
		}
		options = append(options, s)
	}
	if r.IntN(3) == 0 {
		options = append(options, &dns.EDNS0_COOKIE{Code: dns.EDNS0COOKIE, Cookie: strings.Repeat("0102030405060708", r.IntN(4))})
	}
	if r.IntN(8) == 0 {
		options = append(options, &dns.EDNS0_NSID{Code: dns.EDNS0NSID})
	}
	r.Shuffle(len(options), func(i, j int) { options[i], options[j] = options[j], options[i] })
	opt.Option = options
}

func randomFrom(r *rand.Rand) netip.AddrPort {
	addr := netip.AddrFrom4([4]byte{192, 0, 2, byte(r.IntN(4))})
	if r.IntN(3) == 0 {
		addr = netip.MustParseAddr([]string{"2001:db8::1", "2001:db8:0:99::1"}[r.IntN(2)])
	}
	return netip.AddrPortFrom(addr, 1234)
}

func TestFastAsSlow(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"plain":            nil,
		"without cookies":  func(c *Config) { c.Cookies.Off = true },
		"cookies required": func(c *Config) { c.Cookies.Required = true },
		"small answers":    func(c *Config) { c.Limits.UDPBytes = 512 },
		"limits": func(c *Config) {
			c.ResponseLimits = ResponseLimits{Answers: 500, Empty: 200, Errors: 100, Slip: 3}
		},
	} {
		t.Run(name, func(t *testing.T) {
			two := newTwoWays(t, change)
			seed := rand.Uint64()
			t.Log("seed", seed)
			r := rand.New(rand.NewPCG(seed, 1))
			for range 4000 {
				raw, from := randomQuery(r), randomFrom(r)
				answer := two.check(t, raw, from)
				// With the cookie that it was given, and later in the day.
				m := new(dns.Msg)
				if r.IntN(4) == 0 && len(answer) > 0 && m.Unpack(answer) == nil {
					two.withCookie(t, r, raw, m, from)
				}
				if r.IntN(100) == 0 {
					two.now = two.now.Add(time.Duration(r.IntN(int(time.Hour))))
				}
			}
		})
	}
}

func (w *twoWays) withCookie(t *testing.T, r *rand.Rand, raw []byte, answer *dns.Msg, from netip.AddrPort) {
	t.Helper()
	opt := answer.IsEdns0()
	if opt == nil {
		return
	}
	for _, o := range opt.Option {
		cookie, ok := o.(*dns.EDNS0_COOKIE)
		m := new(dns.Msg)
		if !ok || m.Unpack(raw) != nil || m.IsEdns0() == nil {
			continue
		}
		m.IsEdns0().Option = []dns.EDNS0{cookie}
		again, err := m.Pack()
		if err != nil {
			t.Fatal(err)
		}
		w.check(t, again, from)
		w.check(t, again, randomFrom(r))
	}
}

// Bytes that no resolver sends.
func FuzzFastAsSlow(f *testing.F) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 50 {
		f.Add(randomQuery(r))
	}
	two := newTwoWays(f, nil)
	from := netip.MustParseAddrPort("192.0.2.1:5353")
	f.Fuzz(func(t *testing.T, raw []byte) { two.check(t, raw, from) })
}

// What the nodes are is seen by the next query.
func TestFastFollowsNodes(t *testing.T) {
	cfg, _ := signedZone(t)
	nodes := twoNodes()
	r := responder(t, cfg, nodes)
	f := newFast(r)
	raw, err := question("www.example.com.", dns.TypeA).Pack()
	if err != nil {
		t.Fatal(err)
	}
	addresses := func() int {
		m := new(dns.Msg)
		if err := m.Unpack(f.respond(nil, raw, netip.MustParseAddrPort("192.0.2.1:5353"), time.Now())); err != nil {
			t.Fatal(err)
		}
		return len(m.Answer)
	}
	for range 3 {
		if n := addresses(); n != 2 {
			t.Fatalf("%d addresses", n)
		}
	}
	(*nodes)[0].Away = AwayDead
	r.refresh(time.Now())
	for range 3 {
		if n := addresses(); n != 1 {
			t.Fatalf("%d addresses after one died", n)
		}
	}
}

func benchmarkFast(b *testing.B, networks int, opts func(*dns.Msg)) {
	two := newTwoWays(b, nil)
	var queries [][]byte
	for i := range networks {
		m := question("www.example.com.", dns.TypeA)
		m.SetEdns0(1232, false)
		m.IsEdns0().Option = []dns.EDNS0{&dns.EDNS0_SUBNET{Code: dns.EDNS0SUBNET, Family: 1, SourceNetmask: 24, Address: []byte{byte(11 + i>>16), byte(i >> 8), byte(i), 0}}}
		if opts != nil {
			opts(m)
		}
		raw, err := m.Pack()
		if err != nil {
			b.Fatal(err)
		}
		queries = append(queries, raw)
	}
	from, out := netip.MustParseAddrPort("192.0.2.1:5353"), make([]byte, 0, 4096)
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		out = two.fast.respond(out[:0], queries[i%networks], from, two.now)
		i++
	}
}

func BenchmarkFastOneNetwork(b *testing.B)   { benchmarkFast(b, 1, nil) }
func BenchmarkFastFewNetworks(b *testing.B)  { benchmarkFast(b, 1000, nil) }
func BenchmarkFastManyNetworks(b *testing.B) { benchmarkFast(b, 1_000_000, nil) }
func BenchmarkSlow(b *testing.B) {
	benchmarkFast(b, 1000, func(m *dns.Msg) { m.Response = false; m.Truncated = true }) // TC is not plain
}
