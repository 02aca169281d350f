package pool

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// herd simulates clients whose requests all fail at one instant, on a server that
// then bears 100 requests a second, and that retry until they are served: what it sees at the
// worst in 10 ms, and when all are served.
func herd(r *rand.Rand, clients int, wait func(r *rand.Rand, try int) time.Duration) (peak int, all time.Duration, sent int) {
	const slot, perSlot = 10 * time.Millisecond, 1
	type arrival struct{ slot, try int }
	due := map[int][]arrival{}
	at := func(from time.Duration, try int) {
		s := int((from + wait(r, try)) / slot)
		due[s] = append(due[s], arrival{s, try})
	}
	for range clients {
		at(0, 0)
	}
	for s, served := 0, 0; served < clients; s++ {
		now := due[s]
		delete(due, s)
		sent += len(now)
		peak = max(peak, len(now))
		r.Shuffle(len(now), func(i, j int) { now[i], now[j] = now[j], now[i] })
		for i, a := range now {
			if i < perSlot {
				served++
				all = time.Duration(s+1) * slot
				continue
			}
			at(time.Duration(s+1)*slot, a.try+1)
		}
	}
	return peak, all, sent
}

func exponential(try int) time.Duration {
	return min(25*time.Millisecond<<min(try, 20), 10*time.Second)
}

// Full jitter spreads a herd that plain exponential backoff sends back together; the
// numbers stand in docs/resilience.md.
func TestThunderingHerd(t *testing.T) {
	const clients = 1000
	r := rand.New(rand.NewPCG(8, 8))
	plainPeak, plainAll, plainSent := herd(r, clients, func(_ *rand.Rand, try int) time.Duration { return exponential(try) })
	fullPeak, fullAll, fullSent := herd(r, clients, func(r *rand.Rand, try int) time.Duration {
		return time.Duration(r.Int64N(int64(exponential(try)) + 1))
	})
	t.Logf("1000 clients: without jitter peak %d in 10 ms, all after %v, %d requests; with full jitter %d, %v, %d",
		plainPeak, plainAll, plainSent, fullPeak, fullAll, fullSent)
	if plainPeak != clients {
		t.Errorf("without jitter the peak is %d", plainPeak)
	}
	if fullPeak*2 > plainPeak || fullSent*4 > plainSent || fullAll*10 > plainAll {
		t.Errorf("with jitter: peak %d, all after %v, %d requests; without: %d, %v, %d", fullPeak, fullAll, fullSent, plainPeak, plainAll, plainSent)
	}
}

// A hundred nodes whose breakers opened at one instant do not send their trials
// together, nor do their probes fall together.
func TestTrialsAndProbesSpread(t *testing.T) {
	for name, at := range map[string]func() time.Duration{
		"trials": func() time.Duration {
			var b breaker
			now := time.Unix(0, 0)
			b.open(now, &Breaker{Open: time.Second, OpenMax: time.Minute})
			return b.until.Sub(now)
		},
		"probes": func() time.Duration { return jitter(time.Second) },
	} {
		var all []time.Duration
		for range 100 {
			all = append(all, at())
		}
		slices.Sort(all)
		worst := 0
		for i := range all {
			n := 0
			for _, d := range all[i:] {
				if d-all[i] < 10*time.Millisecond {
					n++
				}
			}
			worst = max(worst, n)
		}
		if all[0] < 800*time.Millisecond || all[99] > 1200*time.Millisecond || worst > 25 { // 3 or 4 on average, more than 15 once in 100,000
			t.Errorf("%s: from %v to %v, %d of 100 within 10 ms", name, all[0], all[99], worst)
		}
	}
}
