package pool

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"
)

// TestModel does what comes to mind, in any order, and holds the pool to what must
// always be true.
func TestModel(t *testing.T) {
	for range 60 {
		seed := rand.Uint64()
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { walk(t, rand.New(rand.NewPCG(seed, 0))) })
		})
	}
}

func walk(t *testing.T, r *rand.Rand) {
	policies := []string{PolicyEWMA, PolicyRoundRobin, PolicyLeastConnections, PolicyMaglev}
	config := func() Config {
		var cfg Config
		for i := range 6 {
			if r.IntN(3) > 0 {
				cfg.Endpoints = append(cfg.Endpoints, Endpoint{Address: string(rune('a'+i)) + ":1", Weight: 1 + r.IntN(4), Priority: r.IntN(3)})
			}
		}
		cfg.Policy = policies[r.IntN(len(policies))]
		cfg.Breaker = Breaker{Consecutive: 1 + r.IntN(4), Trials: 1 + r.IntN(3), OpenShare: 1 + r.IntN(100)}
		cfg.Concurrency, cfg.QueueTimeout = 1+r.IntN(12), time.Millisecond
		return cfg
	}
	cfg := config()
	p := open(t, cfg)
	var held []*Lease
	drop := func() (l *Lease) {
		n := r.IntN(len(held))
		l, held[n] = held[n], held[len(held)-1]
		held = held[:len(held)-1]
		return l
	}
	for range 600 {
		switch op := r.IntN(20); {
		case op < 8:
			before := p.State()
			avoid := []string{string(rune('a'+r.IntN(6))) + ":1"}
			l, err := p.Pick(t.Context(), Hint{Hash: r.Uint64(), Avoid: avoid[:r.IntN(2)], Steady: r.IntN(2) == 0})
			var none *UnavailableError
			switch {
			case err == nil:
				held = append(held, l)
				judgePick(t, before, l, &p.cfg)
			case errors.As(err, &none):
				for _, e := range before.Endpoints {
					if e.Up && e.Breaker == "closed" {
						t.Fatalf("nobody, but %s is usable", e.Address)
					}
				}
			case before.Active < before.Concurrency:
				t.Fatalf("%v with %d of %d slots taken", err, before.Active, before.Concurrency)
			}
		case op < 12 && len(held) > 0:
			held[r.IntN(len(held))].Observe(Outcome{Latency: time.Duration(r.IntN(1e8)), Failed: r.IntN(2) == 0, Canceled: r.IntN(8) == 0})
		case op < 16 && len(held) > 0:
			drop().Done()
		case op == 16:
			cfg = config()
			if err := p.Apply(cfg); err != nil {
				t.Fatal(err)
			}
		case op == 17:
			p.mu.Lock()
			var e *endpoint
			if len(p.endpoints) > 0 {
				e = p.endpoints[r.IntN(len(p.endpoints))]
			}
			p.mu.Unlock()
			if e != nil {
				p.probed(e, []error{nil, errors.New("x")}[r.IntN(2)], &Health{Rise: 1 + r.IntN(2), Fall: 1 + r.IntN(3)})
			}
		default:
			time.Sleep(time.Duration(r.IntN(3e9)))
		}
		checkCounts(t, p, held)
	}
	for len(held) > 0 {
		drop().Done()
	}
	checkCounts(t, p, nil)
	for _, e := range p.endpoints {
		if e.breaker.trials != 0 {
			t.Errorf("%s: %d trials after the last lease", e.address, e.breaker.trials)
		}
	}
}

// judgePick wants a usable endpoint, or that too many were not.
func judgePick(t *testing.T, before State, l *Lease, cfg *Config) {
	t.Helper()
	out := 0
	var chosen EndpointState
	for _, e := range before.Endpoints {
		if !e.Up || e.Breaker != "closed" {
			out++
		}
		if e.Address == l.Address() {
			chosen = e
		}
	}
	if out*100 > cfg.Breaker.OpenShare*len(before.Endpoints) {
		return
	}
	if !chosen.Up || chosen.Breaker == "open" && time.Now().Before(chosen.OpenUntil) {
		t.Fatalf("%s was chosen: %+v", l.Address(), chosen)
	}
}

func checkCounts(t *testing.T, p *Pool, held []*Lease) {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	busy, waiting := p.limit.load()
	if busy != len(held) || waiting != 0 {
		t.Fatalf("%d leases are held, %d slots taken, %d wait", len(held), busy, waiting)
	}
	active := map[*endpoint]int{}
	for _, l := range held {
		active[l.e]++
	}
	for _, e := range p.endpoints {
		if e.inflight != active[e] || e.breaker.trials < 0 || e.breaker.trials > active[e] {
			t.Fatalf("%s: %d under way, %d trials; %d leases are held", e.address, e.inflight, e.breaker.trials, active[e])
		}
	}
}
