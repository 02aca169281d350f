package dnsgeo

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// probed are nodes at addresses of loopback that all listen on one port.
func probed(t *testing.T, servers ...*httptest.Server) Config {
	t.Helper()
	cfg := Config{Zones: []Zone{{Name: "cdn.example", NameServers: []string{"ns.example.net"}, Dynamic: []Dynamic{{Name: "www", WhenDown: "nodata"}}}},
		Check: func(ctx context.Context, p Probe, address string) error { // stands in for main's
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+p.Path, nil)
			if err != nil {
				return err
			}
			transport := &http.Transport{DisableKeepAlives: true}
			resp, err := transport.RoundTrip(req)
			if err != nil {
				return err
			}
			resp.Body.Close()
			if resp.StatusCode > 299 {
				return errors.New(resp.Status)
			}
			return nil
		},
		Probe: Probe{Kind: "http", Interval: 20 * time.Millisecond, Timeout: 5 * time.Second, Path: "/healthz"}}
	for i, s := range servers {
		at := netip.MustParseAddrPort(s.Listener.Addr().String())
		cfg.Static = append(cfg.Static, StaticNode{
			Name: string(rune('a' + i)), Site: "fra", Place: "50,8", Addresses: []string{at.Addr().String()}, Port: int(at.Port()),
		})
	}
	return cfg
}

func server(t *testing.T, address string, status *atomic.Int32) *httptest.Server {
	t.Helper()
	ln, err := net.Listen("tcp", address+":0")
	if err != nil {
		t.Skip("no such address of loopback here:", err)
	}
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/healthz" {
			w.WriteHeader(404)
			return
		}
		w.WriteHeader(int(status.Load()))
	}))
	s.Listener.Close()
	s.Listener = ln
	s.Start()
	t.Cleanup(s.Close)
	return s
}

// The first answer knows already; a node leaves after failures in a row, and
// returns after successes.
func TestProbes(t *testing.T) {
	var a, b atomic.Int32
	a.Store(200)
	b.Store(503)
	cfg := probed(t, server(t, "127.0.0.1", &a), server(t, "127.0.0.2", &b))
	_, at := serving(t, cfg, nil)
	client := dns.Client{Net: "tcp", Timeout: 20 * time.Second}
	addresses := func() string {
		m, _, err := client.Exchange(question("www.cdn.example.", dns.TypeA), at)
		if err != nil {
			t.Fatal(err)
		}
		var all []string
		for _, rr := range m.Answer {
			all = append(all, rr.(*dns.A).A.String())
		}
		return strings.Join(all, " ")
	}
	if got := addresses(); got != "127.0.0.1" {
		t.Errorf("the first answer is %q, want the node that is well", got)
	}
	until := func(want ...string) {
		t.Helper()
		got := ""
		for end := time.Now().Add(20 * time.Second); time.Now().Before(end); {
			got = addresses()
			for _, w := range want {
				if got == w {
					return
				}
			}
		}
		t.Fatalf("answers are %q, want %q", got, want)
	}
	b.Store(204)
	until("127.0.0.1 127.0.0.2", "127.0.0.2 127.0.0.1")
	a.Store(500)
	until("127.0.0.2")
	b.Store(500)
	until("")
}

// A reload keeps what is known of nodes that stay as they were.
func TestProbesSurviveAReload(t *testing.T) {
	var bad atomic.Int32
	bad.Store(500)
	cfg := probed(t, server(t, "127.0.0.1", &bad))
	r := responder(t, cfg, nil)
	r.prober.round(t.Context())
	cfg.Static[0].Weight = 7
	if err := r.Apply(cfg); err != nil {
		t.Fatal(err)
	}
	if n := r.prober.live()[0]; n.Away == "" || n.Weight != 7 {
		t.Errorf("after a reload: %+v", n)
	}
	cfg.Static[0].Out = true
	if err := r.Apply(cfg); err != nil {
		t.Fatal(err)
	}
	if n := r.prober.live()[0]; n.Away != AwayOut {
		t.Errorf("taken out: %+v", n)
	}
}

func TestNoteCountsInARow(t *testing.T) {
	p := &Probe{Fail: 3, Pass: 2}
	bad := net.ErrClosed
	var h health
	for i, c := range []struct {
		err error
		up  bool
	}{{nil, true}, {bad, true}, {bad, true}, {nil, true}, {bad, true}, {bad, true}, {bad, false}, {nil, false}, {bad, false}, {nil, false}, {nil, true}} {
		if h.note(c.err, p); h.up != c.up {
			t.Fatalf("step %d: up is %v", i, h.up)
		}
	}
}
