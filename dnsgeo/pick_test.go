package dnsgeo

import (
	"fmt"
	"math"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// threeSites are two nodes each at Frankfurt, Narita and Washington.
func threeSites() []Node {
	var nodes []Node
	for i, s := range []struct {
		name string
		at   Point
	}{{"fra", Point{50.03, 8.57}}, {"iad", Point{38.94, -77.46}}, {"nrt", Point{35.76, 140.39}}} {
		for n := range 2 {
			at := s.at
			nodes = append(nodes, Node{
				Name: fmt.Sprintf("%s-%d", s.name, n+1), Site: s.name, Place: &at, HTTPS: true, H2: true, H3: true,
				Addresses: []netip.Addr{netip.AddrFrom4([4]byte{192, 0, 2, byte(10*i + n + 1)}), netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 15: byte(10*i + n + 1)})},
			})
		}
	}
	return nodes
}

func writeMap(t testing.TB, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "map")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// picked is what a name answers for a client at a place, as names of nodes.
func picked(d *dynamic, nodes []Node, place Place, client string) string {
	return pickedOf(d, newFleet(&zones{names: []*dynamic{d}}, nodes, nil), place, client)
}

func pickedOf(d *dynamic, f *fleet, place Place, client string) string {
	c := pick(&place, netip.MustParsePrefix(client), f, d, nil)
	var names []string
	for _, i := range c.nodes {
		names = append(names, f.nodes[i].Name)
	}
	for _, a := range c.fallback {
		names = append(names, a.String())
	}
	slices.Sort(names)
	return strings.Join(names, " ")
}

func paris() Place {
	return Place{Point: Point{48.9, 2.4}, HasPoint: true, Country: "FR", Source: "map"}
}
func boston() Place {
	return Place{Point: Point{42.4, -71.1}, HasPoint: true, Country: "US", Source: "map"}
}

func TestPick(t *testing.T) {
	name := func(edit func(*dynamic)) *dynamic {
		d := &dynamic{name: "www.cdn.example.", answers: 2, answerSites: 1, whenDown: "all", https: true}
		if edit != nil {
			edit(d)
		}
		return d
	}
	away := func(why string, names ...string) []Node {
		nodes := threeSites()
		for i := range nodes {
			if len(names) == 0 || slices.ContainsFunc(names, func(n string) bool { return strings.HasPrefix(nodes[i].Name, n) }) {
				nodes[i].Away = why
			}
		}
		return nodes
	}
	with := func(edit func(*Node), names ...string) []Node {
		nodes := threeSites()
		for i := range nodes {
			if slices.ContainsFunc(names, func(n string) bool { return strings.HasPrefix(nodes[i].Name, n) }) {
				edit(&nodes[i])
			}
		}
		return nodes
	}
	prefer := func(p Place, sites ...string) Place { p.Prefer = sites; return p }
	for _, c := range []struct {
		name  string
		d     *dynamic
		nodes []Node
		place Place
		want  string
	}{
		{"the nearest", name(nil), threeSites(), paris(), "fra-1 fra-2"},
		{"the nearest to another", name(nil), threeSites(), boston(), "iad-1 iad-2"},
		{"across the date line", name(nil), threeSites(), Place{Point: Point{52.9, -176}, HasPoint: true}, "nrt-1 nrt-2"},
		{"over the pole", name(nil), threeSites(), Place{Point: Point{85, -160}, HasPoint: true}, "fra-1 fra-2"},
		{"preferred for the place", name(nil), threeSites(), prefer(paris(), "nrt"), "nrt-1 nrt-2"},
		{"preferred, but down", name(nil), away(AwayDead, "nrt"), prefer(paris(), "nrt"), "fra-1 fra-2"},
		{"preferred in order", name(nil), away(AwayDead, "nrt"), prefer(paris(), "nrt", "iad"), "iad-1 iad-2"},
		{"one node dead", name(nil), away(AwayDead, "fra-1"), paris(), "fra-2"},
		{"one node draining", name(nil), away(AwayDraining, "fra-2"), paris(), "fra-1"},
		{"a site fenced", name(nil), away(AwayFenced, "fra"), paris(), "iad-1 iad-2"},
		{"a site taken out", name(nil), away(AwayOut, "fra", "iad"), paris(), "nrt-1 nrt-2"},
		{"filled from the next site", name(func(d *dynamic) { d.answerSites = 2 }), away(AwayDead, "fra-1"), paris(), "fra-2 iad-1"},
		{"all of two sites", name(func(d *dynamic) { d.answerSites, d.answers = 2, 4 }), threeSites(), paris(), "fra-1 fra-2 iad-1 iad-2"},
		{"only some sites", name(func(d *dynamic) { d.sites = map[string]bool{"nrt": true} }), threeSites(), paris(), "nrt-1 nrt-2"},
		{"cold", name(nil), with(func(n *Node) { n.Cold = true }, "fra-1"), paris(), "fra-2"},
		{"behind", name(nil), with(func(n *Node) { n.Lag = time.Minute }, "fra-2"), paris(), "fra-1"},
		{"behind within the bound", name(nil), with(func(n *Node) { n.Lag = 9 * time.Second }, "fra-2"), paris(), "fra-1 fra-2"},
		{"shedding everything", name(nil), with(func(n *Node) { n.Shed = 100 }, "fra"), paris(), "iad-1 iad-2"},
		{"one of two sheds: the other takes it", name(func(d *dynamic) { d.answers = 1 }), with(func(n *Node) { n.Shed = 100 }, "fra-1"), paris(), "fra-2"},
		{"all shed everything: the nearest", name(nil), with(func(n *Node) { n.Shed = 100 }, "fra", "iad", "nrt"), paris(), "fra-1 fra-2"},
		{"all down: all", name(nil), away(AwayDead), paris(), "fra-1 fra-2"},
		{"all down: all but those taken out", name(nil), append(away(AwayOut, "fra")[:2], away(AwayDead, "iad", "nrt")[2:]...), paris(), "iad-1 iad-2"},
		{"all down: nothing", name(func(d *dynamic) { d.whenDown = "nodata" }), away(AwayDead), paris(), ""},
		{"all down: fallback", name(func(d *dynamic) {
			d.whenDown, d.fallback = "fallback", []netip.Addr{netip.MustParseAddr("203.0.113.80")}
		}), away(AwayDead), paris(), "203.0.113.80"},
		{"no nodes at all", name(nil), nil, paris(), ""},
	} {
		z := &zones{names: []*dynamic{c.d}, leave: Leave{Lag: 10 * time.Second}}
		if got := pickedOf(c.d, newFleet(z, c.nodes, nil), c.place, "203.0.113.0/24"); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

// The nearest is so along the great circle, which these know without a calculation.
func TestKilometres(t *testing.T) {
	for _, c := range []struct {
		from, to Point
		want     int
	}{
		{Point{50, 8}, Point{50, 8}, 0},
		{Point{0, 0}, Point{90, 77}, 10008},      // a quarter of the way round
		{Point{0, 0}, Point{0, 180}, 20015},      // half of it
		{Point{0, 179.5}, Point{0, -179.5}, 111}, // a degree, and not 359
		{Point{60, -20}, Point{60, 160}, 6672},   // over the pole, and not along the circle of latitude
		{Point{-89.5, 0}, Point{-89.5, 180}, 111},
	} {
		for _, got := range []int{c.from.vector().kilometres(c.to.vector()), c.to.vector().kilometres(c.from.vector())} {
			if got != c.want {
				t.Errorf("%v to %v: %d km, want %d", c.from, c.to, got, c.want)
			}
		}
	}
}

// Last known good: who was there before everything went.
func TestPickLast(t *testing.T) {
	d := &dynamic{name: "www.cdn.example.", answers: 6, answerSites: 3, whenDown: "last"}
	z := &zones{names: []*dynamic{d}}
	nodes := threeSites()
	nodes[0].Away = AwayDead
	f := newFleet(z, nodes, nil)
	for i := range nodes {
		nodes[i].Away = AwayDead
	}
	f = newFleet(z, nodes, f)
	f = newFleet(z, nodes, f) // as often as one likes
	if got := pickedOf(d, f, paris(), "203.0.113.0/24"); got != "fra-2 iad-1 iad-2 nrt-1 nrt-2" {
		t.Errorf("last known good are %q", got)
	}
}

// Clients are spread by weight, a network always has the same nodes, and a node
// that leaves moves its own clients alone.
func TestPickSpreads(t *testing.T) {
	d := &dynamic{name: "www.cdn.example.", answers: 1, answerSites: 1, whenDown: "all"}
	var nodes []Node
	weights := []int{100, 100, 200, 400}
	for i, w := range weights {
		nodes = append(nodes, Node{Name: fmt.Sprintf("fra-%d", i), Site: "fra", Weight: w, Addresses: []netip.Addr{netip.AddrFrom4([4]byte{192, 0, 2, byte(i)})}})
	}
	const networks = 8000
	count := map[string]int{}
	before := map[int]string{}
	for i := range networks {
		client := fmt.Sprintf("%d.%d.%d.0/24", 1+i%200, i/200%256, i%256)
		got := picked(d, nodes, paris(), client)
		before[i] = got
		count[got]++
		if again := picked(d, nodes, paris(), strings.Replace(client, ".0/24", ".77/32", 1)); i < 100 && again != got {
			t.Fatalf("%s is given %s, and one of its addresses %s", client, got, again)
		}
	}
	for i, w := range weights {
		share, want := float64(count[nodes[i].Name])/networks, float64(w)/800
		if math.Abs(share-want) > 0.02 {
			t.Errorf("%s has %.3f of the clients, want %.3f", nodes[i].Name, share, want)
		}
	}
	nodes[1].Away = AwayDead
	for i := range networks {
		client := fmt.Sprintf("%d.%d.%d.0/24", 1+i%200, i/200%256, i%256)
		if got := picked(d, nodes, paris(), client); before[i] != "fra-1" && got != before[i] {
			t.Fatalf("%s moved from %s to %s although its node stayed", client, before[i], got)
		}
	}
}

// What sheds passes on the part of its clients that it says, always the same ones,
// and more of them when it sheds more.
func TestPickSheds(t *testing.T) {
	d := &dynamic{name: "www.cdn.example.", answers: 2, answerSites: 1, whenDown: "all"}
	const networks = 4000
	gone := map[int]bool{}
	for _, shed := range []int{0, 10, 30, 60, 100} {
		nodes := threeSites()
		nodes[0].Shed, nodes[1].Shed = shed, shed
		moved := 0
		for i := range networks {
			got := picked(d, nodes, paris(), fmt.Sprintf("%d.%d.%d.0/24", 1+i%200, i/200%256, i%256))
			if here := got == "fra-1 fra-2"; !here && got != "iad-1 iad-2" {
				t.Fatalf("%q is neither the site nor the next", got)
			} else if !here {
				moved++
				gone[i] = true
			} else if gone[i] {
				t.Fatalf("network %d came back when the site shed more", i)
			}
		}
		if part := float64(moved) / networks * 100; math.Abs(part-float64(shed)) > 3 {
			t.Errorf("%d%% is shed, %.1f%% of the networks went", shed, part)
		}
	}
}

// Whatever the nodes are, an answer has no node that is away while one is there,
// has none twice, and its reasons end in the same answer.
func TestPickProperties(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	rnd := rand.New(rand.NewPCG(seed, 7))
	for range 3000 {
		nodes := threeSites()
		good := 0
		for i := range nodes {
			nodes[i].Weight = rnd.IntN(3) * 50
			nodes[i].Shed = rnd.IntN(3) * rnd.IntN(51)
			if rnd.IntN(5) == 0 {
				nodes[i].Place = nil
			}
			if rnd.IntN(2) == 0 {
				nodes[i].Away = []string{AwayDead, AwayDraining, AwayOut}[rnd.IntN(3)]
			} else {
				good++
			}
		}
		rnd.Shuffle(len(nodes), func(i, j int) { nodes[i], nodes[j] = nodes[j], nodes[i] })
		d := &dynamic{name: "www.", answers: 1 + rnd.IntN(4), answerSites: 1 + rnd.IntN(3), whenDown: []string{"all", "last", "nodata"}[rnd.IntN(3)]}
		f := newFleet(&zones{names: []*dynamic{d}}, nodes, nil)
		place := []Place{paris(), boston(), {}, {Site: "nrt", Prefer: []string{"nrt"}}}[rnd.IntN(4)]
		client := netip.PrefixFrom(netip.AddrFrom4([4]byte{byte(rnd.IntN(256)), byte(rnd.IntN(256)), 1, 0}), rnd.IntN(33))
		c := pick(&place, client, f, d, nil)
		why := new(reasons)
		if again := pick(&place, client, f, d, why); !slices.Equal(again.nodes, c.nodes) || len(why.list) == 0 {
			t.Fatalf("seed %d: with reasons %v, without %v", seed, again.nodes, c.nodes)
		}
		seen := map[int]bool{}
		for _, i := range c.nodes {
			if seen[i] || good > 0 && f.nodes[i].away != "" || f.nodes[i].Away == AwayOut {
				t.Fatalf("seed %d: %v of %+v", seed, c.nodes, nodes)
			}
			seen[i] = true
		}
		if good > 0 && len(c.nodes) == 0 || len(c.nodes) > d.answers || c.down != (good == 0) {
			t.Fatalf("seed %d: %d nodes of %d good, at most %d, down %v", seed, len(c.nodes), good, d.answers, c.down)
		}
	}
}

// Two responders that see the same nodes, in whatever order, give the same answers.
func TestRespondersAgree(t *testing.T) {
	nodes := threeSites()
	other := slices.Clone(nodes)
	slices.Reverse(other)
	cfg := Config{Zones: []Zone{{Name: "cdn.example", NameServers: []string{"ns.example.net"}, Dynamic: []Dynamic{{Name: "www", Answers: 3, AnswerSites: 2}}}}}
	a, b := responder(t, cfg, &nodes), responder(t, cfg, &other)
	for i := range 200 {
		q := withSubnet(question("www.cdn.example.", dns.TypeHTTPS), fmt.Sprintf("%d.%d.7.0/24", 1+i, i))
		x, y := ask(t, a, q, "192.0.2.1", tcp), ask(t, b, q, "198.51.100.1", tcp)
		if shown(x.Answer) != shown(y.Answer) || subnetOf(x).SourceScope != subnetOf(y).SourceScope {
			t.Fatalf("%v and %v", x, y)
		}
	}
}

// HTTPS says what every node of the answer does.
func TestServiceRecords(t *testing.T) {
	nodes := threeSites()
	r := responder(t, Config{Zones: []Zone{{Name: "cdn.example", NameServers: []string{"ns.example.net"}, Dynamic: []Dynamic{{Name: "@"}, {Name: "plain", HTTPS: new(bool)}}}},
		Places: Places{Map: writeMap(t, "0.0.0.0/0 fra\n")}}, &nodes)
	for _, c := range []struct {
		name string
		edit func(*Node)
		want string
	}{
		{"all", func(*Node) {}, `1 . alpn="h3,h2" `},
		{"h3 fails its own probe", func(n *Node) { n.H3 = false }, `1 . alpn="h2" `},
		{"no h2", func(n *Node) { n.H2 = false }, `1 . alpn="h3" `},
		{"HTTP/1.1 alone", func(n *Node) { n.H2, n.H3 = false, false }, `1 . ipv4hint=`},
		{"ports differ", func(n *Node) { n.Port = 8443 }, ""},
		{"no HTTPS", func(n *Node) { n.HTTPS = false }, ""},
	} {
		nodes = threeSites()
		c.edit(&nodes[0])
		r.refresh(time.Now())
		for _, qtype := range []uint16{dns.TypeHTTPS, dns.TypeSVCB} {
			m := ask(t, r, question("cdn.example.", qtype), "203.0.113.1", tcp)
			if got := shown(m.Answer); (c.want == "") != (got == "") || !strings.Contains(got, c.want) {
				t.Errorf("%s: %q, want %q", c.name, got, c.want)
			}
			if c.want == "" {
				continue
			}
			// Hints are the addresses of A and AAAA, in their order.
			var a, aaaa []string
			for _, rr := range ask(t, r, question("cdn.example.", dns.TypeA), "203.0.113.1", tcp).Answer {
				a = append(a, rr.(*dns.A).A.String())
			}
			for _, rr := range ask(t, r, question("cdn.example.", dns.TypeAAAA), "203.0.113.1", tcp).Answer {
				aaaa = append(aaaa, rr.(*dns.AAAA).AAAA.String())
			}
			if want := fmt.Sprintf("ipv4hint=%q ipv6hint=%q", strings.Join(a, ","), strings.Join(aaaa, ",")); !strings.HasSuffix(shown(m.Answer), want) {
				t.Errorf("%s: %q, want hints %q", c.name, shown(m.Answer), want)
			}
		}
	}
	for i := range nodes {
		nodes[i].Port = 8443
		nodes[i].HTTPS = true
	}
	r.refresh(time.Now())
	if got := shown(ask(t, r, question("cdn.example.", dns.TypeHTTPS), "203.0.113.1", tcp).Answer); !strings.Contains(got, `port="8443"`) {
		t.Errorf("%q names no port", got)
	}
	if m := ask(t, r, question("plain.cdn.example.", dns.TypeHTTPS), "203.0.113.1", tcp); len(m.Answer) != 0 || len(m.Ns) != 1 {
		t.Errorf("HTTPS where it is off: %v", m)
	}
}
