package purge

// story_test.go tells stories of nodes in trouble, one a seed, and holds them to what
// was promised.

import (
	"fmt"
	"math/rand/v2"
	"os"
	"syscall"
	"testing"
	"time"
)

// trouble does something that nodes must bear.
func (s *sim) trouble() {
	n := s.nodes[s.rng.IntN(len(s.nodes))]
	switch s.rng.IntN(12) {
	case 0, 1:
		if n.up {
			s.crash(n, s.rng.IntN(2) == 0)
		} else {
			s.start(n)
		}
	case 2, 3:
		if !n.up {
			s.start(n)
		}
	case 4: // a part is cut off
		for _, n := range s.nodes {
			if s.passing {
				break
			}
			s.side[n.name] = s.rng.IntN(2)
		}
		s.rewireAll()
	case 5, 6:
		clear(s.side)
		s.rewireAll()
	case 7:
		n.skew = time.Duration(s.rng.IntN(7200)-3600) * time.Second
	case 8:
		if n.up {
			n.cache.sweep()
			n.log.followSweep()
		}
	case 9:
		if !n.up && s.rng.IntN(3) == 0 { // wiped, but for what the store has
			n.fsys = newMemFS(s.rng.Uint64())
		}
	case 10:
		if s.long && !s.passing {
			s.passDays()
		}
	case 11: // its disk takes nothing for a while
		if n.up {
			s.breakDisk(n)
		}
	}
}

func (s *sim) breakDisk(n *simNode) {
	disk := n.fsys
	disk.fault = func(op, _ string) error {
		if op == "sync" || op == "write" {
			return syscall.EIO
		}
		return nil
	}
	s.after(time.Duration(s.rng.Int64N(int64(3*time.Second))), func() { disk.fault = nil })
}

// passDays lets days go by, two in about a second. Others may be down meanwhile, but
// no more than one is cut off: parts that each live on for weeks may forget what the
// other has not heard of.
func (s *sim) passDays() {
	s.passing = true
	clear(s.side)
	if s.rng.IntN(2) == 0 {
		s.side[s.nodes[s.rng.IntN(len(s.nodes))].name] = 1
	}
	s.rewireAll()
	if away := s.nodes[s.rng.IntN(len(s.nodes))]; away.up && s.rng.IntN(2) == 0 {
		s.crash(away, true)
	}
	// Whose log is nobody's then, when others know what it has purged.
	if wiped := s.nodes[s.rng.IntN(len(s.nodes))]; s.rng.IntN(3) > 0 {
		s.after(2*time.Second, func() {
			if wiped.up {
				s.crash(wiped, true)
			}
			wiped.fsys = newMemFS(s.rng.Uint64())
			s.start(wiped)
		})
	}
	left := 10 + s.rng.IntN(15)
	var step func()
	step = func() {
		s.days += 48 * time.Hour
		left--
		s.passing = left > 0
		if s.passing {
			s.after(1100*time.Millisecond, step)
		}
	}
	s.after(4*time.Second, step)
}

func (s *sim) rewireAll() {
	for i, a := range s.nodes {
		for _, b := range s.nodes[:i] {
			if up := s.joined(a, b); up != s.wanted[wire(a, b)] || up != (a.reachable[b.name] && b.reachable[a.name]) {
				s.rewire(a, b)
			}
		}
	}
}

// story is one seed.
func simStory(t testing.TB, seed uint64) *sim {
	rng := rand.New(rand.NewPCG(seed, 3))
	s := newSim(t, seed, 2+rng.IntN(4))
	end := 30 * time.Second
	if s.long = rng.IntN(4) == 0; s.long {
		end = time.Minute
	}
	s.run(5 * time.Second)
	if s.long {
		s.after(10*time.Second, s.passDays)
	}
	for at := s.now; at < end && s.failed == ""; {
		at += time.Duration(s.rng.Int64N(int64(120 * time.Millisecond)))
		s.run(at)
		n := s.nodes[s.rng.IntN(len(s.nodes))]
		switch k := s.rng.IntN(20); {
		case k < 8 && n.up:
			s.fetch(n)
		case k < 13 && n.up:
			s.purge(n)
		case k == 13:
			s.trouble()
		default:
			s.look(n)
		}
	}
	clear(s.side)
	for _, n := range s.nodes {
		if !n.up && s.failed == "" {
			s.start(n)
		}
	}
	s.rewireAll()
	why := ""
	for i := range 100 { // longer than it takes to give up
		s.run(s.now + time.Second)
		s.look(s.nodes[s.rng.IntN(len(s.nodes))])
		if why = s.unsettled(); why == "" && i > 5 || s.failed != "" {
			break
		}
	}
	if s.failed == "" {
		s.failed = why
	}
	for _, n := range s.nodes {
		s.fences, s.adopted = s.fences+n.log.stats.Fences.Load(), s.adopted+n.log.stats.Adopted.Load()
	}
	return s
}

// unsettled says why the nodes have not come to one mind.
func (s *sim) unsettled() string {
	most, told, forgot := map[Incarnation]uint64{}, map[Incarnation]uint64{}, map[Incarnation]uint64{}
	for _, n := range s.nodes {
		for log, t := range n.machine.tracks {
			if most[log] = max(most[log], t.number); !n.machine.isOld(log, t, s.pace.hush) {
				told[log] = max(told[log], t.number)
			} // who is new is not told of it
		}
		for log, number := range n.forgot {
			forgot[log] = max(forgot[log], number)
		}
	}
	for _, n := range s.nodes {
		if n.machine.fenced {
			return fmt.Sprintf("%s stays fenced: %s", n.name, n.machine.why)
		}
		for log, number := range told {
			if t := n.machine.tracks[log]; (t == nil || t.number < number) && number > 0 && n.forgot[log] < number {
				return fmt.Sprintf("%s has not all of %s: %+v, others %d", n.name, log, t, number)
			}
		}
	}
	var least [simURLs]int
	for _, p := range s.purges {
		if p.place.Number <= max(most[p.place.Log], forgot[p.place.Log]) {
			least[p.url] = max(least[p.url], p.made)
		}
	}
	for _, n := range s.nodes {
		s.hold(n, &least, "all have come to one mind")
	}
	return ""
}

// TestSimulation runs many seeds; EDGE_TEST_SEED=N one of them.
func TestSimulation(t *testing.T) { simulate(t, 200) }

// Stories that went wrong once.
func TestSimulationSeeds(t *testing.T) {
	for _, seed := range []uint64{
		278678432471967, // a segment left the log while what it held was behind a gap
		243408324294834, // a log was learnt again while the disk was forgetting it
		259553771965383, 151457597962680, 232385330128162,
		130279354383868, // a log was asked of a node that had forgotten it, and did not say so
		142340323781780, // a wiped node took a young purge, adopted by another, for one that it had forgotten
	} {
		if s := simStory(t, seed); s.failed != "" {
			t.Errorf("EDGE_TEST_SEED=%d: %s", seed, s.failed)
		}
	}
}

// TestSoakSimulation runs many more.
func TestSoakSimulation(t *testing.T) {
	if os.Getenv("EDGE_SOAK") == "" {
		t.Skip("EDGE_SOAK is not set")
	}
	simulate(t, 10_000)
}

func simulate(t *testing.T, seeds int) {
	if text := os.Getenv("EDGE_TEST_SEED"); text != "" {
		if s := simStory(t, seedOf(t)); s.failed != "" {
			t.Fatal(s.failed)
		}
		return
	}
	var purges, listed, everywhere, fences, adopted, forgotten int
	first := rand.Uint64() >> 16
	for i := range seeds {
		seed := first + uint64(i)
		s := simStory(t, seed)
		if s.failed != "" {
			t.Fatalf("EDGE_TEST_SEED=%d: %s", seed, s.failed)
		}
		purges, listed, everywhere, fences, adopted = purges+len(s.purges), listed+s.listed, everywhere+s.everywhere, fences+int(s.fences), adopted+int(s.adopted)
		forgotten += s.forgotten
	}
	t.Logf("%d seeds from %d: %d purges, %d times listed, %d times everywhere, %d fences and %d adoptions at the end, %d logs forgotten", seeds, first, purges, listed, everywhere, fences, adopted, forgotten)
}
