package dnsgeo

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// logged lines of a responder.
type lines struct {
	mu  sync.Mutex
	out bytes.Buffer
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.out.Write(b)
}

func (l *lines) all() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Split(strings.TrimSpace(l.out.String()), "\n")
}

// logging has a responder that logs every so many queries, its fast path, and lines.
func logging(t *testing.T, every int) (*Responder, *fast, *lines) {
	t.Helper()
	nodes := threeSites()
	cfg := everything()
	cfg.Zones[0].Dynamic = []Dynamic{{Name: "geo"}}
	cfg.Places.Map = writeMap(t, "203.0.113.0/24 fra\n2001:db8::/32 nrt\n")
	cfg.QueryLog.Every = every
	cfg.ResponseLimits.Off = true
	r := responder(t, cfg, &nodes)
	l := new(lines)
	r.log = slog.New(slog.NewJSONHandler(l, nil))
	return r, newFast(r), l
}

// send has the fast path answer a question from an address.
func (f *fast) send(t *testing.T, m *dns.Msg, from string) {
	t.Helper()
	raw, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	if out := f.respond(nil, raw, netip.AddrPortFrom(netip.MustParseAddr(from), 5353), time.Now()); len(out) == 0 {
		t.Fatalf("no answer to %v", m.Question)
	}
}

// Of queries on the fast path and on the other every so many is logged, with where
// the client is and not who it is.
func TestQueryLog(t *testing.T) {
	r, f, l := logging(t, 10)
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.writeLog(ctx) }()
	defer func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	plainly := question("gEo.cdn.example.", dns.TypeA)
	withSubnet(plainly, "203.0.113.77/32")
	for range 100 {
		f.send(t, plainly, "198.51.100.9")
	}
	others := question("none.cdn.example.", dns.TypeMX)
	withSubnet(others, "2001:db8:1:2:3::/128")
	for range 10 {
		ask(t, r, others, "198.51.100.9", tcp)
	}
	deadline := time.After(10 * time.Second)
	for len(l.all()) < 11 {
		select {
		case <-deadline:
			t.Fatalf("%d lines of 110 queries", len(l.all()))
		case <-time.After(time.Millisecond):
		}
	}
	all := l.all()
	if len(all) != 11 {
		t.Errorf("%d lines of 110 queries", len(all))
	}
	for i, want := range map[int]map[string]any{
		0: {"msg": "dns query", "name": "geo.cdn.example.", "type": "A", "rcode": "NOERROR", "via": "udp", "from": "198.51.100.9",
			"client": "203.0.113.0/24", "scope": 24.0, "zone": "cdn.example.", "site": "fra"},
		10: {"name": "none.cdn.example.", "type": "MX", "rcode": "NXDOMAIN", "via": "tcp", "client": "2001:db8:1::/56", "zone": "cdn.example."},
	} {
		var got map[string]any
		if err := json.Unmarshal([]byte(all[i]), &got); err != nil {
			t.Fatal(err)
		}
		for key, value := range want {
			if got[key] != value {
				t.Errorf("line %d: %s is %v, want %v:\n%s", i, key, got[key], value, all[i])
			}
		}
	}
	if whole := strings.Join(all, ""); strings.Contains(whole, "203.0.113.77") || strings.Contains(whole, "1:2:3") {
		t.Errorf("clients are told apart:\n%s", whole)
	}
}

// Without it nothing is logged, and a writer that is behind costs lines and no answers.
func TestQueryLogBounds(t *testing.T) {
	r, f, _ := logging(t, 0)
	for range 100 {
		f.send(t, question("geo.cdn.example.", dns.TypeA), "198.51.100.9")
	}
	if n := len(r.logLines); n != 0 {
		t.Errorf("%d lines wait though nothing is to be logged", n)
	}
	r, f, _ = logging(t, 1)
	for i := range logRoom + 50 {
		f.send(t, question(fmt.Sprintf("x%d.cdn.example.", i%3), dns.TypeA), "198.51.100.9")
	}
	if n, lost := len(r.logLines), r.stats.LogDropped.Load(); n != logRoom || lost != 50 {
		t.Errorf("%d lines wait, %d are lost", n, lost)
	}
}
