package pool

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

// A timeline of one endpoint that fails, stays away, and comes back.
func TestBreakerTimeline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := open(t, static(1))
		fails := func() (asked bool) {
			l, err := p.Pick(t.Context(), Hint{})
			if err != nil {
				return false
			}
			l.Observe(bad)
			l.Done()
			return true
		}
		for range 4 {
			fails()
		}
		want(t, "after 4 failures", state(t, p, "a:1").Breaker, "closed")
		use(t, p, Hint{}, good)
		for range 5 {
			want(t, "closed", state(t, p, "a:1").Breaker, "closed")
			fails()
		}
		want(t, "after 5 in a row", state(t, p, "a:1").Breaker, "open")
		// It fails on: 1 s, 2, 4, ... 30, give or take a fifth, one trial each time.
		for _, seconds := range []float64{1, 2, 4, 8, 16, 30, 30} {
			start := time.Now()
			for !fails() {
				time.Sleep(50 * time.Millisecond)
			}
			if d := time.Since(start).Seconds(); d < 0.8*seconds-0.1 || d > 1.2*seconds+0.1 {
				t.Errorf("open for %.1f s, want about %v", d, seconds)
			}
			want(t, "after a trial that failed", state(t, p, "a:1").Breaker, "open")
			if fails() {
				t.Error("a second request right after the trial")
			}
		}
		time.Sleep(36 * time.Second)
		var trials []*Lease
		for {
			l, err := p.Pick(t.Context(), Hint{})
			if err != nil {
				break
			}
			trials = append(trials, l)
		}
		want(t, "trials at once", len(trials), 3)
		want(t, "half-open", state(t, p, "a:1").Breaker, "half-open")
		trials[0].Done() // the caller gave up: says nothing
		trials[1].Observe(good)
		trials[2].Observe(good)
		want(t, "after two", state(t, p, "a:1").Breaker, "half-open")
		use(t, p, Hint{}, good)
		want(t, "after three", state(t, p, "a:1").Breaker, "closed")
		if share := state(t, p, "a:1").Share; share > 0.2 {
			t.Errorf("its share right after: %v", share)
		}
		trials[1].Done()
		trials[2].Done()
		want(t, "opened", p.stats.BreakerOpened.Load(), 1)
		want(t, "closed", p.stats.BreakerClosed.Load(), 1)
		want(t, "active", state(t, p, "a:1").Active, 0)
	})
}

func TestBreakerOpensByRatio(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := open(t, static(1))
		outcome := func(n int) Outcome {
			if n%5 < 2 { // 40 %
				return bad
			}
			return good
		}
		for n := range 500 {
			use(t, p, Hint{}, outcome(n))
			time.Sleep(20 * time.Millisecond)
		}
		want(t, "40 % fail", state(t, p, "a:1").Breaker, "closed")
		time.Sleep(10 * time.Second)
		n := 0
		for ; state(t, p, "a:1").Breaker == "closed"; n++ {
			use(t, p, Hint{}, []Outcome{bad, good}[n%2])
			time.Sleep(20 * time.Millisecond)
		}
		want(t, "50 % fail: requests until it opens", n, 21) // at 20, ten have failed; the last failure makes it judge
	})
}

// What began before the breaker opened and fails after it says nothing new.
func TestLateFailuresDoNotProlong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := open(t, static(1))
		var late []*Lease
		for range 20 {
			late = append(late, pick(t, p, Hint{}))
		}
		for _, l := range late[:5] {
			l.Observe(bad)
		}
		until := state(t, p, "a:1").OpenUntil
		time.Sleep(2 * time.Second)
		trial := pick(t, p, Hint{})
		for _, l := range late[5:] {
			l.Observe(bad)
		}
		want(t, "half-open", state(t, p, "a:1").Breaker, "half-open")
		trial.Observe(good)
		for range 2 {
			use(t, p, Hint{}, good)
		}
		want(t, "closed", state(t, p, "a:1").Breaker, "closed")
		if until.After(time.Now()) {
			t.Error("open for longer than a second")
		}
		for _, l := range append(late, trial) {
			l.Done()
		}
	})
}

// Requests that cannot be sent again are not used for trials while others can be asked.
func TestTrialsAreForReplayable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := static(2)
		cfg.Breaker.Consecutive = 1
		p := open(t, cfg)
		use(t, p, Hint{Avoid: []string{"b:1"}}, bad)
		time.Sleep(2 * time.Second)
		for range 20 {
			want(t, "steady", use(t, p, Hint{Steady: true}, good), "b:1")
		}
		want(t, "any", use(t, p, Hint{}, bad), "a:1")
		use(t, p, Hint{Steady: true}, bad)
		time.Sleep(3 * time.Second)
		use(t, p, Hint{Steady: true}, good) // nobody else is left
	})
}

// Beyond the configured share of unusable endpoints all are tried, and close again
// by what comes of it.
func TestAllAreTriedBeyondTheShare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := static(4)
		cfg.Policy, cfg.Breaker.Consecutive, cfg.Breaker.OpenShare = PolicyRoundRobin, 1, 50
		p := open(t, cfg)
		for range 2 {
			use(t, p, Hint{}, bad)
		}
		asked := map[string]int{}
		for range 20 {
			asked[use(t, p, Hint{}, good)]++
		}
		want(t, "two of four are open: asked", len(asked), 2)
		use(t, p, Hint{}, bad) // the third
		clear(asked)
		for range 20 {
			asked[use(t, p, Hint{}, bad)]++
		}
		want(t, "three are open: asked", len(asked), 4)
		for range 100 { // half are closed soon, and believed; the rest is let in by trials
			use(t, p, Hint{}, good)
			time.Sleep(100 * time.Millisecond)
		}
		for _, e := range p.State().Endpoints {
			want(t, e.Address, e.Breaker, "closed")
		}
	})
}

// The default: where all are open nobody is asked, and at once.
func TestNobodyIsLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := open(t, static(3))
		asked, start := 0, time.Now()
		var longest time.Duration
		for time.Since(start) < time.Minute { // 1000 requests a second, all fail
			before := time.Now()
			l, err := p.Pick(t.Context(), Hint{})
			longest = max(longest, time.Since(before))
			var none *UnavailableError
			switch {
			case err == nil:
				asked++
				l.Observe(bad)
				l.Done()
			case !errors.As(err, &none) || none.RetryAfter < time.Second || none.RetryAfter > 36*time.Second:
				t.Fatalf("%v after %v", err, time.Since(start))
			}
			time.Sleep(time.Millisecond)
		}
		want(t, "longest wait", longest, 0)
		if asked > 3*5+3*10 {
			t.Errorf("%d of 60000 requests went to endpoints that all fail", asked)
		}
	})
}

func TestQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := static(1)
		cfg.Concurrency, cfg.Queue, cfg.QueueTimeout = 2, 3, time.Second
		p := open(t, cfg)
		held := []*Lease{pick(t, p, Hint{}), pick(t, p, Hint{})}
		type result struct {
			n   int
			l   *Lease
			err error
		}
		results := make(chan result, 10)
		ctx, cancel := context.WithCancel(t.Context())
		ask := func(ctx context.Context, n int) {
			go func() {
				l, err := p.Pick(ctx, Hint{})
				results <- result{n, l, err}
			}()
			synctest.Wait()
		}
		ask(ctx, 1)
		ask(t.Context(), 2)
		ask(t.Context(), 3)
		_, err := p.Pick(t.Context(), Hint{})
		want(t, "one too many", err, ErrQueueFull)
		_, waiting := p.limit.load()
		want(t, "waiting", waiting, 3)
		cancel()
		if r := <-results; r.n != 1 || !errors.Is(r.err, context.Canceled) {
			t.Errorf("given up: %v", r)
		}
		held[0].Done()
		r := <-results
		want(t, "first come", r.n, 2)
		_, err = p.Pick(t.Context(), Hint{Avoid: []string{"b:1"}, Only: true})
		want(t, "one that does not wait", err, ErrQueueFull)
		time.Sleep(time.Second)
		if late := <-results; late.n != 3 || late.err != ErrQueueTimeout {
			t.Errorf("waited too long: %v", late)
		}
		r.l.Done()
		ask(t.Context(), 4)
		four := <-results
		ask(t.Context(), 5)
		cfg.Concurrency = 3
		if err := p.Apply(cfg); err != nil { // more slots: those who wait get them
			t.Fatal(err)
		}
		five := <-results
		for _, l := range []*Lease{held[1], four.l, five.l} {
			l.Done()
		}
		busy, waiting := p.limit.load()
		want(t, "left", busy+waiting, 0)
	})
}

// An odd answer to one URL shuts nobody out where there is nobody else to ask.
func TestOnlyEndpointMayAnswerBadly(t *testing.T) {
	for endpoints, want := range map[int]string{1: "closed", 2: "open"} {
		cfg := static(endpoints)
		cfg.Breaker.Consecutive = 3
		p := open(t, cfg)
		for range 10 {
			l, err := p.Pick(t.Context(), Hint{})
			if err != nil {
				break
			}
			l.Observe(Outcome{Failed: true, Answered: true})
			l.Done()
		}
		if got := state(t, p, "a:1").Breaker; fmt.Sprint(got) != want {
			t.Errorf("%d endpoints: the breaker is %v, want %s", endpoints, got, want)
		}
	}
}
