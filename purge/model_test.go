package purge

import (
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"syscall"
	"testing"
)

// The oracle: of each URL, the versions that a purge which was acknowledged has
// forgotten, those that no purge at all has touched since they were stored, and
// how each came to be.
type oracle struct {
	next    int
	version map[int]string // URL of a version
	gone    map[int]bool   // an acknowledged purge came after it
	touched map[int]bool   // some purge came after it, acknowledged or not
	stored  []int
}

func newOracle() *oracle {
	return &oracle{version: map[int]string{}, gone: map[int]bool{}, touched: map[int]bool{}}
}

func (o *oracle) store(c *fakeCache, url string) {
	o.next++
	o.version[o.next] = url
	o.stored = append(o.stored, o.next)
	c.store(url, o.next)
}

func (o *oracle) purged(url string, acknowledged bool) {
	for _, v := range o.stored {
		if o.version[v] == url {
			o.touched[v] = true
			o.gone[v] = o.gone[v] || acknowledged
		}
	}
}

// check holds what a node would serve to the oracle.
func (o *oracle) check(t *testing.T, c *fakeCache) {
	t.Helper()
	for _, v := range o.stored {
		served := slices.Contains(c.served(o.version[v]), v)
		if served && o.gone[v] {
			t.Errorf("version %d of %s is served, and its purge was acknowledged", v, o.version[v])
		}
		if !served && !o.touched[v] {
			t.Errorf("version %d of %s is gone, and no purge came after it", v, o.version[v])
		}
	}
}

func seedOf(t *testing.T) uint64 {
	seed := rand.Uint64()
	if text := os.Getenv("EDGE_TEST_SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("EDGE_TEST_SEED=%d", seed)
	return seed
}

// story does what one process does: purges, stores, sweeps, in an order that the
// seed decides, until it is done or dead.
func story(n *testNode, o *oracle, rng *rand.Rand, steps int) {
	for range steps {
		url := urlOf(rng.IntN(8))
		switch k := rng.IntN(20); {
		case k < 8:
			o.store(n.cache, url)
		case k < 19:
			_, err := n.purgeURL(url)
			o.purged(url, err == nil)
		default:
			n.cache.sweep()
			n.followSweep()
		}
	}
}

// TestKillEverywhere kills a process at each of its calls to the file system, in
// turn, with and without a power cut: no purge that was acknowledged is lost, and
// none removes what was stored after it.
func TestKillEverywhere(t *testing.T) {
	seed := seedOf(t)
	for _, power := range []bool{false, true} {
		for dieAt := 1; ; dieAt++ {
			rng := rand.New(rand.NewPCG(seed, 0))
			disk, o := &objects{}, newOracle()
			first := newMemFS(seed)
			n := startNode(t, smallTuning(first), disk)
			story(n, o, rng, 40)
			n.stop()
			// The second process dies; the third is looked at, and the fourth.
			second := first.restart(power)
			second.dieAt = dieAt
			died := false
			if n, err := tryNode(smallTuning(second), disk); err == nil {
				story(n, o, rng, 60)
				n.stop()
			} else {
				died = true
			}
			died = died || second.isDead()
			third := second.restart(power)
			n = startNode(t, smallTuning(third), disk)
			if lost := n.Stats().Lost.Load(); lost != 0 {
				t.Errorf("the log was lost: %s", n.said)
			}
			o.check(t, n.cache)
			story(n, o, rng, 20)
			n.stop()
			n = startNode(t, smallTuning(third.restart(power)), disk)
			o.check(t, n.cache)
			n.stop()
			if t.Failed() {
				t.Fatalf("killed at call %d, power cut %v", dieAt, power)
			}
			if !died {
				t.Logf("power cut %v: %d places to die at", power, dieAt-1)
				break
			}
		}
	}
}

func (m *memFS) isDead() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.dead
}

// TestModel does random things to one log: purges, stores, sweeps, failing calls,
// restarts, kills and power cuts.
func TestModel(t *testing.T) {
	logs := 2
	if os.Getenv("EDGE_FULL") != "" {
		logs = 60
	}
	seed := seedOf(t)
	rng := rand.New(rand.NewPCG(seed, 0))
	for range logs {
		modelOneLog(t, rng)
	}
}

func modelOneLog(t *testing.T, rng *rand.Rand) {
	fsys, disk, o := newMemFS(rng.Uint64()), &objects{}, newOracle()
	for round := range 50 {
		n := startNode(t, smallTuning(fsys), disk)
		if n.Stats().Lost.Load() != 0 {
			t.Fatalf("round %d: the log was lost: %s", round, n.said)
		}
		o.check(t, n.cache)
		if t.Failed() {
			t.Fatalf("round %d", round)
		}
		story(n, o, rng, rng.IntN(30))
		if rng.IntN(3) == 0 {
			fsys.inject(randomFault(rng))
			story(n, o, rng, rng.IntN(20))
			if rng.IntN(2) == 0 { // else the process ends while it fails
				fsys.inject(nil)
				story(n, o, rng, rng.IntN(20))
			}
		}
		if rng.IntN(3) > 0 {
			fsys.dieSoon(rng.IntN(40) + 1)
			story(n, o, rng, 20)
		}
		power := rng.IntN(2) == 0
		if rng.IntN(2) == 0 {
			n.stop()
		}
		next := fsys.restart(power)
		n.stop()
		fsys = next
	}
}

// randomFault makes some calls fail some of the time.
func randomFault(rng *rand.Rand) func(op, path string) error {
	rng = rand.New(rand.NewPCG(rng.Uint64(), 2)) // asked by Run
	bad := map[string]bool{}
	for _, op := range []string{"write", "sync", "create", "syncdir", "truncate", "remove"} {
		bad[op] = rng.IntN(2) == 0
	}
	often := 1 + rng.IntN(3)
	why := []error{syscall.ENOSPC, syscall.EIO}[rng.IntN(2)]
	return func(op, _ string) error {
		if bad[op] && rng.IntN(often) == 0 {
			return why
		}
		return nil
	}
}

func (m *memFS) dieSoon(after int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.dieAt = m.ops + after
}
