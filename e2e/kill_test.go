package e2e

import (
	"context"
	"math/rand/v2"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"edgecdn/cmd/origin/script"
)

// After kill -9 under load the node serves from disk what it had there, every
// byte right.
func TestKill(t *testing.T) {
	killUnderLoad(t, 5, time.Now().Add(time.Hour))
}

func TestSoakKill(t *testing.T) {
	killUnderLoad(t, 100, time.Now().Add(soak(t)))
}

// soak returns how long an endurance run may take, and skips it outside make soak.
func soak(t *testing.T) time.Duration {
	t.Helper()
	text := os.Getenv("EDGE_SOAK")
	if text == "" {
		t.Skip("endurance run: runs with EDGE_SOAK=10m, as in make soak")
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		t.Fatalf("EDGE_SOAK: %v", err)
	}
	return d
}

const (
	killObjects = 100
	// killRequests are answered between a start and the next kill.
	killRequests = 200
)

func killUnderLoad(t *testing.T, rounds int, until time.Time) {
	o := startOrigin(t)
	n := startEdge(t, o)
	// Three times: the disk tier admits what is asked for again.
	for range 3 {
		c := newClient(t, n, "h2")
		for i := range killObjects {
			killFetch(t, c, i)
		}
	}
	n.written(t, killObjects*99/100)

	for round := range rounds {
		if time.Now().After(until) {
			t.Logf("time is up after %d kills of %d", round, rounds)
			return
		}
		loadAndKill(t, n, uint64(round))
		n.start(t)
		hits := 0
		c := newClient(t, n, "h2")
		for i := range killObjects {
			if a := killFetch(t, c, i); strings.HasPrefix(a.Header.Get("Cache-Status"), "edge; hit") {
				hits++
			}
		}
		if hits < killObjects*99/100 {
			t.Errorf("round %d: only %d of %d came from disk", round, hits, killObjects)
		}
		if t.Failed() {
			return
		}
	}
}

// killTarget names an object of a size of its own, up to 630 kB.
func killTarget(i int) (target string, size int) {
	size = 1000 + i*6337
	return respond("size", strconv.Itoa(size), "for", strconv.Itoa(i), "header", "Cache-Control:max-age=36000"), size
}

func killFetch(t *testing.T, c *client, i int) answer {
	t.Helper()
	target, size := killTarget(i)
	a := c.get(t, target)
	checkPattern(t, target, a, size)
	return a
}

func checkPattern(t *testing.T, target string, a answer, size int) {
	want := make([]byte, size)
	script.Pattern(want, 0)
	if a.StatusCode != 200 || a.body != string(want) {
		t.Errorf("%s: status %d, %d bytes of %d, %s: not the origin's bytes", target, a.StatusCode, len(a.body), size, a.Header.Get("Cache-Status"))
	}
}

// loadAndKill kills the node in the middle of requests for what it has and for
// what is new. What it answered in full before must have been right.
func loadAndKill(t *testing.T, n *node, seed uint64) {
	t.Helper()
	// Cancelled after the kill: a QUIC client does not learn of it by itself.
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var answered atomic.Int64
	enough := make(chan struct{})
	var wg sync.WaitGroup
	for worker, protocol := range []string{"h1", "h1", "h2", "h3"} {
		c := newClient(t, n, protocol)
		random := rand.New(rand.NewPCG(seed, uint64(worker)))
		wg.Go(func() {
			for n.running() {
				i := random.IntN(killObjects)
				if random.IntN(4) == 0 {
					i = killObjects + random.IntN(40) // some are new, and are written now
				}
				target, size := killTarget(i)
				a, err := c.try(c.request(t, "GET", target, nil).WithContext(ctx))
				if err != nil {
					if ctx.Err() == nil && n.ready() == 200 {
						t.Errorf("seed %d, %s: %v", seed, target, err)
					}
					return
				}
				checkPattern(t, target, a, size)
				if answered.Add(1) == killRequests {
					close(enough)
				}
			}
		})
	}
	select {
	case <-enough:
	case <-time.After(patience):
		t.Errorf("seed %d: only %d requests answered", seed, answered.Load())
	}
	n.kill()
	cancel()
	wg.Wait()
}

// diskObjects reads the number of objects in the disk tier from the metrics.
func diskObjects(t *testing.T, n *node) int {
	t.Helper()
	total := 0
	for _, m := range regexp.MustCompile(`(?m)^edge_store_objects\{[^}]*tier="disk[^}]*\} ([0-9.e+]+)$`).FindAllStringSubmatch(n.metrics(t), -1) {
		v, err := strconv.ParseFloat(m[1], 64)
		if err != nil {
			t.Fatal(err)
		}
		total += int(v)
	}
	return total
}

// A flood of URLs that nobody asks for again leaves memory where it was.
func TestFlood(t *testing.T) {
	full(t)
	flood(t, 40*time.Second)
}

func TestSoakFlood(t *testing.T) {
	flood(t, soak(t))
}

const floodConfig = `server: {http: ["{http}"], https: ["{https}"], access_log: {format: "off"}}
admin: {listen: "{admin}"}
data: "{data}"
store:
  memory: {bytes: 64MiB}
  disk: [{path: "{data}/cache", bytes: 512MiB}]
origins: {site: {url: "${E2E_ORIGIN}"}}
hosts: [{names: ["*"], origin: site}]
`

func flood(t *testing.T, d time.Duration) {
	o := startOrigin(t)
	t.Setenv("E2E_ORIGIN", o.url)
	n, _ := startConfigured(t, floodConfig)
	stop := time.Now().Add(d)
	var asked atomic.Int64
	var wg sync.WaitGroup
	for worker, protocol := range []string{"h1", "h2", "h3"} {
		c := newClient(t, n, protocol)
		wg.Go(func() {
			for i := 0; time.Now().Before(stop); i++ {
				size := 500 + i*7919%60_000
				target := respond("size", strconv.Itoa(size), "for", strconv.Itoa(worker)+"-"+strconv.Itoa(i), "header", "Cache-Control:max-age=36000")
				a, err := c.try(c.request(t, "GET", target, nil))
				if err != nil || a.StatusCode != 200 || len(a.body) != size {
					t.Errorf("%s: %v", target, err)
					return
				}
				asked.Add(1)
			}
		})
	}
	// Resident memory in each third of the time.
	var peak [3]int64
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for started := time.Now(); time.Now().Before(stop); <-tick.C {
		third := min(2, int(3*time.Since(started)/d))
		peak[third] = max(peak[third], residentBytes(t, n))
	}
	wg.Wait()
	t.Logf("%d URLs; resident at most %d, %d, %d MB in each third", asked.Load(), peak[0]>>20, peak[1]>>20, peak[2]>>20)
	const allowed = (64 + 160) << 20 // the budget, and the program itself
	if peak[2] > allowed {
		t.Errorf("%d MB resident with a memory tier of 64 MiB", peak[2]>>20)
	}
	if peak[2] > peak[1]+peak[1]/5 {
		t.Errorf("memory grows: %d MB in the second third, %d MB in the last", peak[1]>>20, peak[2]>>20)
	}
}

func residentBytes(t *testing.T, n *node) int64 {
	t.Helper()
	text, err := os.ReadFile("/proc/" + strconv.Itoa(n.cmd.Process.Pid) + "/status")
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`VmRSS:\s+(\d+) kB`).FindSubmatch(text)
	if m == nil {
		t.Fatal("no VmRSS")
	}
	kb, err := strconv.ParseInt(string(m[1]), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return kb << 10
}
