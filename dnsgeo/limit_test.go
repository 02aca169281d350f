package dnsgeo

import (
	"encoding/binary"
	"net/netip"
	"sync"
	"testing"
	"time"
)

func limiterOf(l ResponseLimits) (*limiter, *LimitStats) {
	stats := new(LimitStats)
	return newLimiter(l, stats), stats
}

// sent counts how many of n responses in a second go out whole.
func sent(r *limiter, to string, kind responseKind, zone uint32, n int, at time.Time) (whole, slipped int) {
	for i := range n {
		switch r.judge(netip.MustParseAddr(to), kind, zone, at.Add(time.Second*time.Duration(i)/time.Duration(n))) {
		case limitSend:
			whole++
		case limitSlip:
			slipped++
		}
	}
	return whole, slipped
}

func TestLimit(t *testing.T) {
	start := time.Unix(1_700_000_000, 0)
	r, stats := limiterOf(ResponseLimits{Answers: 100, Empty: 10, Errors: 5})
	if whole, _ := sent(r, "192.0.2.1", kindAnswer, 0, 50, start); whole != 50 {
		t.Errorf("below the rate %d of 50 went out", whole)
	}
	// Credit for two seconds, and what comes in while they are sent.
	whole, slipped := sent(r, "198.51.100.1", kindAnswer, 0, 1000, start)
	if whole < 290 || whole > 310 || slipped < (1000-whole)/2-1 || slipped > (1000-whole)/2+1 {
		t.Errorf("of 1000 in a second at a rate of 100 went out %d whole and %d truncated", whole, slipped)
	}
	if int(stats.Slipped.Load()) != slipped || int(stats.Dropped.Load()) != 1000-whole-slipped {
		t.Errorf("counted %d and %d", stats.Slipped.Load(), stats.Dropped.Load())
	}
	// The same network is as good as the same address; another, kind or zone is not.
	later := start.Add(time.Second)
	for _, tt := range []struct {
		name, to string
		kind     responseKind
		zone     uint32
		low, max int
	}{
		{"a neighbour", "198.51.100.200", kindAnswer, 0, 95, 105},
		{"a neighbour, mapped", "::ffff:198.51.100.201", kindAnswer, 0, 0, 5},
		{"another network", "198.51.101.1", kindAnswer, 0, 290, 310},
		{"nonexistent names of a zone", "198.51.100.1", kindEmpty, 1, 25, 35},
		{"those of another", "198.51.100.1", kindEmpty, 2, 25, 35},
		{"those of the first again", "198.51.100.1", kindEmpty, 1, 0, 1},
		{"errors", "198.51.100.1", kindError, 0, 12, 18},
		{"errors, whatever the zone", "198.51.100.1", kindError, 3, 0, 1},
		{"IPv6", "2001:db8:0:100::1", kindError, 0, 12, 18},
		{"IPv6 in the same /56", "2001:db8:0:1ff::1", kindError, 0, 0, 1},
		{"IPv6 in the next", "2001:db8:0:200::1", kindError, 0, 12, 18},
	} {
		if whole, _ := sent(r, tt.to, tt.kind, tt.zone, 1000, later); whole < tt.low || whole > tt.max {
			t.Errorf("%s: %d of 1000 went out, want %d to %d", tt.name, whole, tt.low, tt.max)
		}
	}
	if whole, _ := sent(r, "198.51.100.1", kindAnswer, 0, 1000, later.Add(time.Hour)); whole < 290 || whole > 310 {
		t.Errorf("after an hour of rest %d went out", whole)
	}
}

func TestLimitExempt(t *testing.T) {
	r, _ := limiterOf(ResponseLimits{Errors: 1, Exempt: []string{"10.0.0.0/8"}})
	for _, to := range []string{"10.1.2.3", "::ffff:10.1.2.3"} {
		if whole, _ := sent(r, to, kindError, 0, 1000, time.Unix(0, 0)); whole != 1000 {
			t.Errorf("%s: %d of 1000", to, whole)
		}
	}
	if off, _ := limiterOf(ResponseLimits{Off: true}); off.judge(netip.MustParseAddr("192.0.2.1"), kindError, 0, time.Now()) != limitSend {
		t.Error("limited although it is off")
	}
}

// A flood from more networks than the table holds does not free those that it
// remembers as being over the limit.
func TestLimitManySources(t *testing.T) {
	r, stats := limiterOf(ResponseLimits{Answers: 100, Networks: 1024})
	now := time.Unix(1_700_000_000, 0)
	sent(r, "192.0.2.1", kindAnswer, 0, 1000, now)
	now = now.Add(time.Second)
	for i := range uint32(100_000) {
		var a [4]byte
		binary.BigEndian.PutUint32(a[:], 0x14000000+i<<8)
		if v := r.judge(netip.AddrFrom4(a), kindAnswer, 0, now); v != limitSend {
			t.Fatalf("source %d was heard of for the first time: %d", i, v)
		}
	}
	if stats.Displaced.Load() == 0 || len(r.slots) != 1024 {
		t.Errorf("%d displaced in %d slots", stats.Displaced.Load(), len(r.slots))
	}
	if whole, _ := sent(r, "192.0.2.1", kindAnswer, 0, 1000, now); whole > 110 {
		t.Errorf("the first flood was forgotten: %d of 1000", whole)
	}
}

func TestLimitConcurrently(t *testing.T) {
	r, stats := limiterOf(ResponseLimits{Answers: 100, Networks: 256})
	now, to := time.Unix(1_700_000_000, 0), netip.MustParseAddr("192.0.2.1")
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for range 10_000 {
				r.judge(to, kindAnswer, 0, now)
			}
		})
	}
	all.Wait()
	if whole := 40_000 - int(stats.Slipped.Load()+stats.Dropped.Load()); whole < 200 || whole > 210 {
		t.Errorf("%d went out of credit for 200", whole)
	}
	if n := testing.AllocsPerRun(100, func() { r.judge(to, kindAnswer, 0, now) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// Of two goroutines that find no entry for a network the second one leaves what was spent
// since to the first, however long it has stood still between looking and taking.
func TestLimitTakesOnce(t *testing.T) {
	r, stats := limiterOf(ResponseLimits{Answers: 100, Networks: limitSlotsMin})
	now := time.Unix(1_700_000_000, 0).UnixNano()
	ways := r.slots[:limitWays]
	for i := range ways[1:] { // others are fuller, so that both take the same
		ways[1+i].full.Store(uint64(now + int64(time.Hour)))
	}
	spent := 0
	for range 2 {
		slot := r.take(ways, 7, now)
		for slot.spend(r.interval[kindAnswer], now) {
			spent++
		}
	}
	if spent != 200 || stats.Displaced.Load() != 0 {
		t.Errorf("%d went out of credit for 200, %d displaced", spent, stats.Displaced.Load())
	}
	// Who comes to the place of another does not owe what that one did.
	if r.take(ways, 9, now); !ways[0].spend(r.interval[kindAnswer], now) || stats.Displaced.Load() != 1 {
		t.Errorf("a new network has no credit, %d displaced", stats.Displaced.Load())
	}
}

func BenchmarkLimit(b *testing.B) {
	r, _ := limiterOf(ResponseLimits{})
	now, i := time.Now(), uint32(0)
	for b.Loop() {
		var a [4]byte
		binary.BigEndian.PutUint32(a[:], i<<8)
		r.judge(netip.AddrFrom4(a), kindAnswer, 0, now)
		i++
	}
}
