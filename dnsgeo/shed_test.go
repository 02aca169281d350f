package dnsgeo

import (
	"math"
	"testing"
	"testing/synctest"
	"time"
)

// A site under a demand: what it sheds is gone when the TTLs of answers have
// passed. It settles with a load between the bounds, turns at most a few times on
// the way, and gives everything back when the demand goes.
func TestShedding(t *testing.T) {
	leave := &Leave{Load: 85, Return: 65}
	for _, demand := range []float64{50, 84, 95, 130, 150, 200, 300, 600} {
		synctest.Test(t, func(t *testing.T) {
			var s shedder
			const ttl, tick = 20 * time.Second, 200 * time.Millisecond
			delayed := make([]int, int(ttl/tick)) // what clients have heard
			run := func(demand float64, d time.Duration) (turns int, quiet time.Duration) {
				last, rising := s.percent, true
				changed := time.Now()
				for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(tick) {
					load := int(math.Round(demand * float64(100-delayed[0]) / 100))
					now := s.observe(time.Now(), load, leave)
					copy(delayed, delayed[1:])
					delayed[len(delayed)-1] = now
					if now != last {
						if (now > last) != rising {
							turns++
							rising = now > last
						}
						last, changed = now, time.Now()
					}
				}
				return turns, time.Since(changed)
			}
			turns, quiet := run(demand, 30*time.Minute)
			load := demand * float64(100-s.percent) / 100
			if turns > 4 || quiet < 10*time.Minute || load > float64(leave.Load)+1 || demand < 85 && s.percent != 0 || s.percent > 0 && load < float64(leave.Return)-1 {
				t.Errorf("demand %v%%: sheds %d%%, load %.0f%%, %d turns, quiet for %v", demand, s.percent, load, turns, quiet)
			}
			if _, quiet := run(40, 30*time.Minute); s.percent != 0 || quiet < time.Minute {
				t.Errorf("the demand went, but %d%% are shed", s.percent)
			}
		})
	}
}

// Load that comes and goes between the bounds moves nothing.
func TestSheddingHolds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		leave := &Leave{Load: 85, Return: 65}
		var s shedder
		s.observe(time.Now(), 90, leave)
		for i := range 10_000 {
			time.Sleep(200 * time.Millisecond)
			if got := s.observe(time.Now(), 66+i%19, leave); got != shedStep {
				t.Fatalf("sheds %d%% after load between the bounds", got)
			}
		}
	})
}

// States are as many as nodes that shed.
func TestSheddersAreForgotten(t *testing.T) {
	nodes := threeSites()
	r := responder(t, Config{}, &nodes)
	now := time.Now()
	for i := range nodes {
		nodes[i].Load = 100
	}
	r.refresh(now)
	if f := r.snap.Load().fleet; f.sites[0].shed != shedStep || len(r.shedders) != len(nodes) {
		t.Errorf("the site sheds %d%%, %d states", f.sites[0].shed, len(r.shedders))
	}
	nodes = nodes[:1]
	nodes[0].Load = 0
	for range 10 {
		now = now.Add(time.Minute)
		r.refresh(now)
	}
	if len(r.shedders) != 0 || r.snap.Load().fleet.sites[0].shed != 0 {
		t.Errorf("%d states are left", len(r.shedders))
	}
}

// A cold node is out for a while, and not where all are.
func TestColdNodes(t *testing.T) {
	nodes := threeSites()
	r := responder(t, Config{}, &nodes)
	good := func() (n int) {
		for _, m := range r.snap.Load().fleet.nodes {
			if m.away == "" {
				n++
			}
		}
		return n
	}
	now := time.Now()
	nodes[0].Cold = true
	if r.refresh(now); good() != 5 {
		t.Errorf("%d nodes, one of 6 is cold", good())
	}
	if r.refresh(now.Add(coldMax - time.Second)); good() != 5 {
		t.Errorf("%d nodes before its time", good())
	}
	if r.refresh(now.Add(coldMax)); good() != 6 {
		t.Errorf("%d nodes: a node without clients stays cold", good())
	}
	nodes = threeSites()
	r.refresh(now.Add(coldMax))
	for i := range nodes {
		nodes[i].Cold = true
	}
	if r.refresh(now.Add(time.Hour)); good() != 6 {
		t.Errorf("%d nodes where all are cold", good())
	}
}
