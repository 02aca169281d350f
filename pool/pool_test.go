package pool

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func want[T comparable](t *testing.T, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

// static returns a configuration with n endpoints a:1, b:1, ...
func static(n int) Config {
	var c Config
	for i := range n {
		c.Endpoints = append(c.Endpoints, Endpoint{Address: string(rune('a'+i)) + ":1"})
	}
	return c
}

func open(t *testing.T, cfg Config) *Pool {
	t.Helper()
	p, err := New(cfg, nil)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func pick(t *testing.T, p *Pool, hint Hint) *Lease {
	t.Helper()
	l, err := p.Pick(t.Context(), hint)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// use sends one request that ends at once, and returns where it went.
func use(t *testing.T, p *Pool, hint Hint, o Outcome) string {
	t.Helper()
	l := pick(t, p, hint)
	l.Observe(o)
	l.Done()
	return l.Address()
}

func state(t *testing.T, p *Pool, address string) EndpointState {
	t.Helper()
	for _, e := range p.State().Endpoints {
		if e.Address == address {
			return e
		}
	}
	t.Fatalf("no endpoint %s", address)
	return EndpointState{}
}

var (
	good = Outcome{Latency: time.Millisecond}
	bad  = Outcome{Latency: time.Millisecond, Failed: true}
)

func TestRoundRobinIsExactAndSmooth(t *testing.T) {
	for _, c := range []struct {
		weights []int
		want    string // of one turn, repeated for ever
	}{
		{[]int{1, 1, 1}, "abc"},
		{[]int{5, 1, 1}, "aabacaa"},
		{[]int{2, 1}, "aba"},
		{[]int{3, 2, 1}, "abacba"},
		{[]int{1, 1000}, ""},
	} {
		cfg := static(len(c.weights))
		cfg.Policy = PolicyRoundRobin
		total := 0
		for i, w := range c.weights {
			cfg.Endpoints[i].Weight = w
			total += w
		}
		p := open(t, cfg)
		counts := map[string]int{}
		var turn strings.Builder
		for range total {
			address := use(t, p, Hint{}, good)
			counts[address]++
			turn.WriteString(address[:1])
		}
		for i, w := range c.weights {
			want(t, fmt.Sprintf("%v: share of %d", c.weights, i), counts[cfg.Endpoints[i].Address], w)
		}
		if c.want != "" {
			want(t, fmt.Sprint(c.weights), turn.String(), c.want)
		}
	}
}

func TestLeastConnectionsByWeight(t *testing.T) {
	cfg := static(3)
	cfg.Policy = PolicyLeastConnections
	cfg.Endpoints[0].Weight = 2
	p := open(t, cfg)
	var leases []*Lease
	for range 40 {
		leases = append(leases, pick(t, p, Hint{}))
	}
	want(t, "a", state(t, p, "a:1").Active, 20)
	want(t, "b", state(t, p, "b:1").Active, 10)
	want(t, "c", state(t, p, "c:1").Active, 10)
	for _, l := range leases {
		l.Done()
		l.Done() // no harm
	}
	for _, e := range p.State().Endpoints {
		want(t, e.Address, e.Active, 0)
	}
	busy, _ := p.limit.load()
	want(t, "slots", busy, 0)
}

// An endpoint that is slow, and one that fails at once, get little.
func TestEWMAAvoidsSlowAndFailing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := static(4)
		cfg.Breaker.Off = true
		p := open(t, cfg)
		counts := map[string]int{}
		for range 2000 {
			l := pick(t, p, Hint{})
			o := Outcome{Latency: 10 * time.Millisecond}
			switch l.Address() {
			case "a:1":
				o.Latency = 500 * time.Millisecond
			case "b:1":
				o = Outcome{Failed: true}
			}
			l.Observe(o)
			l.Done()
			counts[l.Address()]++
			time.Sleep(5 * time.Millisecond)
		}
		// Where both of the two that are drawn are bad, a sixth of the time, a is the better:
		// 333 times, give or take 17.
		if counts["a:1"] > 430 || counts["b:1"] > 60 || counts["c:1"] < 600 || counts["d:1"] < 600 {
			t.Errorf("shares: %v", counts)
		}
		if counts["a:1"] == 0 || counts["b:1"] == 0 {
			t.Errorf("never tried: %v", counts)
		}
		time.Sleep(2 * time.Minute) // what was known has faded: all are asked again
		clear(counts)
		for range 400 {
			counts[use(t, p, Hint{}, Outcome{Latency: 10 * time.Millisecond})]++
			time.Sleep(50 * time.Millisecond)
		}
		if counts["a:1"] < 40 || counts["b:1"] < 40 {
			t.Errorf("after they have become fast: %v", counts)
		}
	})
}

func TestTiersAndAvoid(t *testing.T) {
	synctest.Test(t, tiersAndAvoid)
}

func tiersAndAvoid(t *testing.T) {
	cfg := static(4)
	cfg.Policy = PolicyRoundRobin
	cfg.Endpoints[2].Priority, cfg.Endpoints[3].Priority = 1, 2
	cfg.Breaker.Consecutive = 1
	p := open(t, cfg)
	where := func(avoid ...string) string { return use(t, p, Hint{Avoid: avoid}, good) }
	want(t, "first", where(), "a:1")
	want(t, "the other of its tier", where("a:1"), "b:1")
	want(t, "the next tier", where("a:1", "b:1"), "c:1")
	want(t, "the last", where("a:1", "b:1", "c:1"), "d:1")
	if got := where("a:1", "b:1", "c:1", "d:1"); got > "b:1" {
		t.Errorf("all were tried: went to %s, not to the first tier again", got)
	}
	_, err := p.Pick(t.Context(), Hint{Avoid: []string{"a:1", "b:1", "c:1", "d:1"}, Only: true})
	var none *UnavailableError
	want(t, "only others", errors.As(err, &none), true)

	use(t, p, Hint{Avoid: []string{"b:1"}}, bad)
	want(t, "a is out", where(), "b:1")
	use(t, p, Hint{}, bad)
	want(t, "the tier is out", where(), "c:1")
	use(t, p, Hint{}, bad)
	want(t, "two tiers are out", where(), "d:1")
	use(t, p, Hint{}, bad)
	_, err = p.Pick(t.Context(), Hint{})
	if !errors.As(err, &none) || none.RetryAfter <= 0 || none.RetryAfter > 2*time.Second || none.Endpoints != 4 {
		t.Errorf("all are out: %v", err)
	}
}

func members(n int) []*endpoint {
	var list []*endpoint
	for i := range n {
		list = append(list, &endpoint{address: fmt.Sprintf("10.0.0.%d:80", i), spec: Endpoint{Weight: 1}})
	}
	return list
}

// Each endpoint has its share of the table to a percent, by weight; one that leaves
// moves little but what it had.
func TestMaglevIsEvenAndMovesLittle(t *testing.T) {
	for _, n := range []int{2, 3, 10, 50} {
		all := members(n)
		all[0].spec.Weight = 2
		m := newMaglev(all)
		shares := make([]int, n)
		for _, i := range m.entries {
			shares[i]++
		}
		unit := float64(maglevSize) / float64(n+1)
		for i, got := range shares {
			expect := unit
			if i == 0 {
				expect = 2 * unit
			}
			if f := float64(got) / expect; f < 0.97 || f > 1.03 {
				t.Errorf("%d endpoints: %d has %.3f of its share", n, i, f)
			}
		}
		less := newMaglev(slices.Delete(slices.Clone(all), n/2, n/2+1))
		moved := 0
		for i := range m.entries {
			before, after := m.members[m.entries[i]], less.members[less.entries[i]]
			if before != after && before != all[n/2] {
				moved++
			}
		}
		if part := float64(moved) / maglevSize; part > 0.05 {
			t.Errorf("%d endpoints: one left, and %.1f %% of the others' hashes moved", n, 100*part)
		}
	}
}

// One whose breaker opens loses its hashes to all others evenly; no other hash moves.
func TestMaglevKeepsTheHashesOfOthers(t *testing.T) {
	synctest.Test(t, keepsTheHashesOfOthers) // no trial comes meanwhile
}

func keepsTheHashesOfOthers(t *testing.T) {
	cfg := static(5)
	cfg.Policy, cfg.Breaker.Consecutive = PolicyMaglev, 1
	p := open(t, cfg)
	home := map[uint64]string{}
	r := rand.New(rand.NewPCG(1, 2))
	for range 5000 {
		hash := r.Uint64()
		home[hash] = use(t, p, Hint{Hash: hash}, good)
		if again := use(t, p, Hint{Hash: hash}, good); again != home[hash] {
			t.Fatalf("%x went to %s, then to %s", hash, home[hash], again)
		}
	}
	for use(t, p, Hint{Hash: r.Uint64()}, bad) != "c:1" { // one of the others may open as well
		p = open(t, cfg)
	}
	to := map[string]int{}
	for hash, address := range home {
		now := use(t, p, Hint{Hash: hash}, good)
		if address != "c:1" && now != address {
			t.Errorf("%x moved from %s to %s", hash, address, now)
		}
		if address == "c:1" {
			to[now]++
		}
	}
	for _, address := range []string{"a:1", "b:1", "d:1", "e:1"} {
		if to[address] < 150 || to[address] > 350 { // of 1000, 250 each
			t.Errorf("the hashes of c went to %v", to)
			break
		}
	}
}

func TestSlowStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, policy := range []string{PolicyRoundRobin, PolicyMaglev} {
			cfg := static(2)
			cfg.Policy, cfg.SlowStart = policy, 10*time.Second
			p := open(t, cfg)
			for _, e := range p.State().Endpoints {
				want(t, "share at the start", e.Share, 1)
			}
			if err := p.Apply(func() Config { c := static(3); c.Policy, c.SlowStart = policy, 10*time.Second; return c }()); err != nil {
				t.Fatal(err)
			}
			for _, step := range []struct{ after, low, high int }{{0, 5, 80}, {5, 95, 260}, {5, 250, 415}} { // 333 in the end, give or take 15
				time.Sleep(time.Duration(step.after) * time.Second)
				got := 0
				for range 1000 {
					if use(t, p, Hint{Hash: rand.Uint64()}, good) == "c:1" {
						got++
					}
				}
				if got < step.low || got > step.high {
					t.Errorf("%s: %d s later: %d of 1000, want %d to %d", policy, step.after, got, step.low, step.high)
				}
			}
		}
	})
}

// A reload keeps what is known of endpoints that stay, and tells of those that go.
func TestApplyKeepsState(t *testing.T) {
	var gone []string
	cfg := static(3)
	cfg.Breaker.Consecutive = 1
	cfg.Gone = func(address string) { gone = append(gone, address) }
	p := open(t, cfg)
	use(t, p, Hint{Avoid: []string{"b:1", "c:1"}}, bad)
	held := pick(t, p, Hint{Avoid: []string{"a:1", "c:1"}})
	next := cfg
	next.Endpoints = []Endpoint{{Address: "A:1", Weight: 7}, {Address: "d:1"}}
	if err := p.Apply(next); err != nil {
		t.Fatal(err)
	}
	slices.Sort(gone)
	want(t, "gone", strings.Join(gone, " "), "b:1 c:1")
	want(t, "a's breaker", state(t, p, "a:1").Breaker, "open")
	want(t, "a's weight", state(t, p, "a:1").Weight, 7)
	held.Observe(good)
	held.Done()
	next.Endpoints[0].Weight = -1
	next.Policy = "fair"
	err := p.Apply(next)
	if err == nil || !strings.Contains(err.Error(), "endpoints[0].weight: -1 is out of bounds") || !strings.Contains(err.Error(), `"fair" is no policy`) {
		t.Errorf("applied: %v", err)
	}
	want(t, "after a refusal", state(t, p, "a:1").Weight, 7)
}
