package cluster

// seeds_test.go: how nodes find each other by names, and what they keep of it. Time is
// that of a synctest bubble, but where real sockets are used.

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// A headless service of Kubernetes: the name is not there at first, has a node's own
// address only for a while, then all, and others later. Nodes join within moments of
// it being right, whoever they knew before.
func TestSeedIsAName(t *testing.T) {
	bubble(t, func(t *testing.T) {
		const service = "edge.default.svc"
		e := newEther()
		node := func(i int) *tester {
			cfg := settings(t, i)
			cfg.Seeds = []string{service}
			return begin(t, e, cfg, Hooks{}, nil)
		}
		a, b := node(1), node(2)
		time.Sleep(5 * time.Minute)
		if len(a.Members()) != 1 || strings.Count(a.logs.String(), "no such host") != 1 {
			t.Errorf("a name that is not there: %v\n%s", a.Members(), a.logs)
		}
		e.name(service, "10.0.0.1")
		took := soon(t, 25*time.Second, "b finds a", func() bool { return linked(a, b) })
		t.Logf("joined %v after the name was there", took)

		e.name(service, "10.0.0.3") // c's own alone: the others find c
		c := node(3)
		soon(t, rejoinMax+5*time.Second, "the others find c", func() bool { return linked(a, b, c) })

		b.stop() // all addresses change: a node comes back elsewhere
		cfg := b.cfg
		cfg.Listen = "10.0.0.9:7946"
		e.name(service, "10.0.0.9", "10.0.0.3", "10.0.0.1")
		b = begin(t, e, cfg, Hooks{}, nil)
		soon(t, 30*time.Second, "b is known elsewhere", func() bool { return linked(a, b, c) && a.member("b").Address.Addr() == netip.MustParseAddr("10.0.0.9") })
		stopAll(a, b, c)
	})
}

// Who is not wanted any more leaves nothing behind, however many come and go.
func TestNothingIsKeptOfTheGone(t *testing.T) {
	bubble(t, func(t *testing.T) {
		e := newEther()
		a := begin(t, e, settings(t, 1), Hooks{}, nil)
		for i := 2; i <= 6; i++ {
			n := begin(t, e, settings(t, i), Hooks{}, nil)
			soon(t, 20*time.Second, "linked", func() bool { return a.member(n.cfg.Name).Stream })
			n.stop()
			soon(t, 20*time.Second, "left", func() bool { return a.member(n.cfg.Name).Status == Left })
		}
		time.Sleep(10 * time.Second)
		a.peers.mu.Lock()
		if len(a.peers.dials) != 0 || len(a.peers.streams) != 0 {
			t.Errorf("%d dials and %d streams are kept", len(a.peers.dials), len(a.peers.streams))
		}
		a.peers.mu.Unlock()
		a.mu.Lock()
		for _, m := range a.members {
			m.Since = m.Since.Add(-forgottenAfter)
		}
		a.mu.Unlock()
		time.Sleep(3 * time.Second)
		if n := len(a.Members()); n != 1 {
			t.Errorf("%d members are known after three days", n)
		}
		if known, err := readPeers(a.cfg.Dir); err != nil || len(known) != 0 {
			t.Errorf("%d are in the file, %v", len(known), err)
		}
		a.stop()
	})
	f := newFacts("a", "", new(Stats))
	for i := range 3 * MembersMax {
		f.differs(fmt.Sprint(i), 1, time.Now())
	}
	if len(f.peers) > MembersMax {
		t.Errorf("comparing with %d peers", len(f.peers))
	}
}

// wan gives a node that is silent longer before it is called dead than lan does; that
// nothing comes on its stream shows at once with both.
func TestPresets(t *testing.T) {
	for preset, alive := range map[string]bool{"lan": false, "wan": true} {
		t.Run(preset, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				e := newEther()
				var nodes []*tester
				for i := 1; i <= 3; i++ {
					cfg := settings(t, i)
					cfg.Preset = preset
					nodes = append(nodes, begin(t, e, cfg, Hooks{}, nil))
				}
				soon(t, 30*time.Second, "linked", func() bool { return linked(nodes...) })
				e.split(1, "10.0.0.3")
				soon(t, 3*time.Second, "it is suspect", func() bool { return nodes[0].member("c").Status == Suspect })
				time.Sleep(15 * time.Second)
				if status := nodes[0].member("c").Status; (status == Suspect) != alive {
					t.Errorf("after 15 seconds it is %v", status)
				}
				soon(t, 2*time.Minute, "it is dead", func() bool { return nodes[0].member("c").Status == Dead })
				e.split(0, "10.0.0.3")
				soon(t, 90*time.Second, "it is back", func() bool { return linked(nodes...) })
				stopAll(nodes...)
			})
		})
	}
}

// named has sockets of the machine and names of a server of its own.
type named struct {
	sockets
	resolver *net.Resolver
}

func (n named) lookup(ctx context.Context, host string) ([]netip.Addr, error) {
	return n.resolver.LookupNetIP(ctx, "ip", host)
}

// zone serves what its records say at the time.
func zone(t *testing.T) (records *atomic.Pointer[[]string], n named) {
	t.Helper()
	records = new(atomic.Pointer[[]string])
	records.Store(&[]string{})
	p, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &dns.Server{PacketConn: p, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg)
		m.SetReply(q)
		if len(*records.Load()) == 0 {
			m.Rcode = dns.RcodeNameError
		}
		for _, text := range *records.Load() {
			r, err := dns.NewRR(q.Question[0].Name + " 5 IN " + text)
			if err != nil {
				t.Error(err)
			} else if r.Header().Rrtype == q.Question[0].Qtype {
				m.Answer = append(m.Answer, r)
			}
		}
		_ = w.WriteMsg(m)
	})}
	ended := make(chan error, 1)
	go func() { ended <- server.ActivateAndServe() }()
	t.Cleanup(func() {
		if err := server.Shutdown(); err != nil {
			t.Error(err)
		}
		<-ended
	})
	address := p.LocalAddr().String()
	return records, named{resolver: &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp", address)
	}}}
}

// All addresses of a name are tried, A and AAAA, as a server has them at the time.
func TestSeedInDNS(t *testing.T) {
	records, n := zone(t)
	cfg := settings(t, 1)
	cfg.Listen, cfg.Seeds = "127.0.0.1:0", []string{"edge.test.:7000"}
	c, err := open(cfg, Hooks{}, quiet(), n)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for _, test := range []struct {
		records []string
		want    string
		err     string
	}{
		{nil, "[]", "no such host"},
		{[]string{"A 10.1.0.1", "A 10.1.0.2", "AAAA 2001:db8::1"}, "[10.1.0.1:7000 10.1.0.2:7000 [2001:db8::1]:7000]", ""},
		{[]string{"A 10.1.0.2", "A " + c.Address().Addr().String()}, "[10.1.0.2:7000 127.0.0.1:7000]", ""},
	} {
		records.Store(&test.records)
		targets, err := c.joinTargets(t.Context())
		slices.SortFunc(targets, netip.AddrPort.Compare)
		if fmt.Sprint(targets) != test.want || (err != nil) != (test.err != "") || err != nil && !strings.Contains(err.Error(), test.err) {
			t.Errorf("%v: %v, %v", test.records, targets, err)
		}
	}
	own := []string{"A 10.1.0.2", "A 127.0.0.1"}
	records.Store(&own)
	cfg = c.cfg
	cfg.Seeds = []string{fmt.Sprintf("edge.test.:%d", c.Address().Port())}
	if err := c.Apply(cfg); err != nil {
		t.Fatal(err)
	}
	if targets, err := c.joinTargets(t.Context()); err != nil || len(targets) != 1 || targets[0].Addr().String() != "10.1.0.2" {
		t.Errorf("its own address is among the seeds: %v, %v", targets, err)
	}
}

// What others are told, where nothing is configured, is the address from which a seed
// would be reached; with no seed that can be found one of the machine's.
func TestAdvertise(t *testing.T) {
	records, n := zone(t)
	there := []string{"A 127.0.0.1"}
	records.Store(&there)
	for _, test := range []struct {
		name, listen, advertise string
		seeds                   []string
		want                    string // with the port of listen; "" one of the machine's
	}{
		{"that of listen", "127.0.0.7:0", "", nil, "127.0.0.7"},
		{"said", "127.0.0.7:0", "192.0.2.1", nil, "192.0.2.1"},
		{"from where a seed is reached", ":0", "", []string{"127.0.0.1"}, "127.0.0.1"},
		{"from where a name is reached", ":0", "", []string{"edge.test."}, "127.0.0.1"},
		{"a seed that cannot be read is passed by", ":0", "", []string{"x y", "127.0.0.1"}, "127.0.0.1"},
	} {
		cfg := settings(t, 1)
		cfg.Listen, cfg.Advertise, cfg.Seeds = test.listen, test.advertise, test.seeds
		c, err := open(cfg, Hooks{}, quiet(), n)
		if err != nil {
			t.Errorf("%s: %v", test.name, err)
			continue
		}
		if got := c.Address(); got.Addr().String() != test.want || got.Port() != addressOf(c.door.listener.Addr()).Port() {
			t.Errorf("%s: %v", test.name, got)
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// Where UDP is blocked nodes find each other, stay alive and hear what is broadcast, by
// TCP alone.
func TestWithoutUDP(t *testing.T) {
	bubble(t, func(t *testing.T) {
		e := newEther()
		e.udp = false
		var nodes []*tester
		var ears [3]heard
		for i := range ears {
			nodes = append(nodes, begin(t, e, settings(t, i+1), Hooks{}, func(c *Cluster) { c.Handle(20, ears[i].handle) }))
		}
		// Two that join at once may both be ahead of each other, and nothing gossips of them
		// then: memberlist's second exchange of all that is known, within a minute, tells.
		soon(t, 70*time.Second, "linked", func() bool { return linked(nodes...) })
		for range 120 {
			time.Sleep(time.Second)
			if !linked(nodes...) {
				t.Fatalf("a sees %v", nodes[0].Members())
			}
		}
		if err := nodes[2].Broadcast(20, []byte("all")); err != nil {
			t.Fatal(err)
		}
		soon(t, time.Second, "both hear it", func() bool { return ears[0].count("c:all") > 0 && ears[1].count("c:all") > 0 })
		stopAll(nodes...)
	})
}
