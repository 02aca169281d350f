package main

import (
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"edgecdn/cluster"
	"edgecdn/config"
	"edgecdn/dnsgeo"
)

func TestNodesOfTheCluster(t *testing.T) {
	a4, a6 := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")
	member := func(edit func(*cluster.Member)) cluster.Member {
		m := cluster.Member{
			Name: "fra-1", Site: "fra", Place: cluster.Place{Lat: 50, Lon: 8, Known: true}, Weight: 70,
			Public: []cluster.Address{{IP: a4, HTTP: 80, HTTPS: 443, H3: 443}, {IP: a6, HTTPS: 443, H3: 443}},
			Status: cluster.Alive, Phase: cluster.Serving, ReportAt: time.Now(),
			Report: cluster.Report{Load: 5, Capacity: 10, Probes: []cluster.Probe{{Name: "https 192.0.2.1:443", OK: true}, {Name: "h3 192.0.2.1:443", OK: true}}},
		}
		if edit != nil {
			edit(&m)
		}
		return m
	}
	node := func(edit func(*dnsgeo.Node)) dnsgeo.Node {
		n := dnsgeo.Node{
			Name: "fra-1", Site: "fra", Place: &dnsgeo.Point{Latitude: 50, Longitude: 8}, Weight: 70,
			Addresses: []netip.Addr{a4, a6}, Port: 443, HTTPS: true, H2: true, H3: true, Load: 50,
		}
		if edit != nil {
			edit(&n)
		}
		return n
	}
	away := func(why string) func(*dnsgeo.Node) { return func(n *dnsgeo.Node) { n.Away = why } }
	for name, c := range map[string]struct {
		member func(*cluster.Member)
		node   func(*dnsgeo.Node)
	}{
		"serves":    {nil, nil},
		"dead":      {func(m *cluster.Member) { m.Status = cluster.Dead }, away(dnsgeo.AwayDead)},
		"silent":    {func(m *cluster.Member) { m.Status = cluster.Suspect }, away(dnsgeo.AwayDead)},
		"drains":    {func(m *cluster.Member) { m.Phase = cluster.Draining }, away(dnsgeo.AwayDraining)},
		"fenced":    {func(m *cluster.Member) { m.Phase = cluster.Fenced }, away(dnsgeo.AwayFenced)},
		"joining":   {func(m *cluster.Member) { m.Phase = cluster.Joining }, away(dnsgeo.AwayJoining)},
		"out":       {func(m *cluster.Member) { m.Out = true }, away(dnsgeo.AwayOut)},
		"cold":      {func(m *cluster.Member) { m.Report.Cold = true }, func(n *dnsgeo.Node) { n.Cold = true }},
		"h3 fails":  {func(m *cluster.Member) { m.Report.Probes[1].OK = false }, func(n *dnsgeo.Node) { n.H3 = false }},
		"h3 on one": {func(m *cluster.Member) { m.Public = []cluster.Address{m.Public[0], {IP: a6, HTTPS: 443}} }, func(n *dnsgeo.Node) { n.H3 = false }},
		"no h3":     {func(m *cluster.Member) { m.Public = []cluster.Address{{IP: a4, HTTPS: 443}, {IP: a6, HTTPS: 443}} }, func(n *dnsgeo.Node) { n.H3 = false }},
		"nowhere":   {func(m *cluster.Member) { m.Place = cluster.Place{} }, func(n *dnsgeo.Node) { n.Place = nil }},
		"no address": {func(m *cluster.Member) { m.Public = nil }, func(n *dnsgeo.Node) {
			n.Addresses, n.Port, n.HTTPS, n.H2, n.H3 = nil, 0, false, false, false
			n.Away = "has no address for clients: name one in its cluster.public"
		}},
		"nothing listens, nor over UDP": {func(m *cluster.Member) { m.Report.Probes[0].OK, m.Report.Probes[1].OK = false, false }, func(n *dnsgeo.Node) {
			n.Away, n.H3 = "unhealthy: its listeners fail its own probes", false
		}},
		"nothing listens": {func(m *cluster.Member) { m.Report.Probes[0].OK, m.Report.Probes = false, m.Report.Probes[:1] }, away("unhealthy: its listeners fail its own probes")},
	} {
		if diff := cmp.Diff([]dnsgeo.Node{node(c.node)}, dnsNodes([]cluster.Member{member(c.member)}, nil), cmpopts.EquateComparable(netip.Addr{})); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	if got := dnsNodes([]cluster.Member{member(func(m *cluster.Member) { m.Status = cluster.Left })}, nil); len(got) != 0 {
		t.Errorf("a node that left: %v", got)
	}
	lags := map[string]time.Duration{"fra-1": 11 * time.Second, "other": time.Hour}
	if got := dnsNodes([]cluster.Member{member(nil)}, lags); got[0].Lag != 11*time.Second {
		t.Errorf("a node that is behind with purges: %+v", got[0])
	}
}

func TestCheckNode(t *testing.T) {
	seen := make(chan *http.Request, 1)
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen <- r
		status, _ := strconv.Atoi(strings.TrimPrefix(r.URL.Path, "/"))
		w.WriteHeader(status)
	})
	plain, secure := httptest.NewServer(handler), httptest.NewTLSServer(handler)
	defer plain.Close()
	defer secure.Close()
	for _, c := range []struct {
		kind, path string
		ok         bool
	}{{"http", "/200", true}, {"https", "/204", true}, {"http", "/302", true}, {"https", "/404", false}, {"http", "/503", false}, {"tcp", "/", true}} {
		server := plain
		if c.kind == "https" {
			server = secure
		}
		err := checkNode(t.Context(), dnsgeo.Probe{Kind: c.kind, Path: c.path, Host: "www.example.com", Timeout: 10 * time.Second}, server.Listener.Addr().String())
		if (err == nil) != c.ok {
			t.Errorf("%s %s: %v", c.kind, c.path, err)
		}
		if c.kind == "tcp" {
			continue
		}
		if r := <-seen; r.Host != "www.example.com" || c.kind == "https" && r.TLS.ServerName != "www.example.com" {
			t.Errorf("%s %s: it asked for %s", c.kind, c.path, r.Host)
		}
	}
	if err := checkNode(t.Context(), dnsgeo.Probe{Kind: "tcp", Timeout: 10 * time.Second}, "127.0.0.1:1"); err == nil {
		t.Error("nobody listens, and it is well")
	}
}

// Cookies of all responders of a cluster are of its secrets, unless they have one of
// their own.
func TestCookieSecrets(t *testing.T) {
	cfg := &config.Config{DNS: &dnsgeo.Config{}}
	cfg.Cluster.Secrets, cfg.Cluster.SecretFile = []string{"the new one", "the old one"}, "/etc/edge/secrets"
	got := dnsConfig(cfg)
	if want := [][]byte{[]byte("the new one"), []byte("the old one")}; !cmp.Equal(want, got.Secrets) || got.Cookies.SecretFile != "/etc/edge/secrets" {
		t.Errorf("%q, %q", got.Secrets, got.Cookies.SecretFile)
	}
	cfg.DNS.Cookies.SecretFile = "/etc/edge/dns"
	if got := dnsConfig(cfg); got.Cookies.SecretFile != "/etc/edge/dns" {
		t.Errorf("%q", got.Cookies.SecretFile)
	}
	if len(cfg.DNS.Secrets) != 0 {
		t.Error("the configuration that was read has changed")
	}
}
