package e2e

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// storm purges through nodes in turn until stop is closed, and returns the IDs of what
// was acknowledged.
func storm(t *testing.T, nodes []*clusterNode, rate int, stop <-chan struct{}) (ids []string, refused int64) {
	var mu sync.Mutex
	var failed atomic.Int64
	var all sync.WaitGroup
	const workers = 32
	for w := range workers {
		all.Go(func() {
			tick := time.NewTicker(workers * time.Second / time.Duration(rate))
			defer tick.Stop()
			for i := w; ; i += workers {
				select {
				case <-stop:
					return
				case <-tick.C:
				}
				n := nodes[i%len(nodes)]
				var made struct{ ID string }
				if n.api(t, "POST", "/v1/purges", fmt.Sprintf(`{"urls": ["http://a.test/%d"]}`, i%1000), &made) != 202 {
					failed.Add(1) // it was being killed
					continue
				}
				mu.Lock()
				ids = append(ids, made.ID)
				mu.Unlock()
			}
		})
	}
	all.Wait()
	return ids, failed.Load()
}

// complete waits until all receipts of acknowledged purges are complete, on a node.
func complete(t *testing.T, by *clusterNode, ids []string) {
	t.Helper()
	left := ids
	patient := patience + time.Duration(len(ids))*20*time.Millisecond // one is asked after the other
	within(t, patient, "all receipts are complete", func() bool {
		for len(left) > 0 {
			var r purgeReceipt
			if by.api(t, "GET", "/v1/purges/"+left[0], "", &r) != 200 || !r.Converged {
				return false
			}
			left = left[1:]
		}
		return true
	})
}

// A storm of purges while nodes are killed and started in turn: all that was
// acknowledged is everywhere in the end.
func TestPurgeStormWhileNodesRestart(t *testing.T) {
	full(t)
	nodes := startCluster(t, countingOrigin(t).url, 3)
	eventually(t, "all know each other", func() bool {
		r, ok := nodes[0].purgeWait(t, `{"all": true}`, "1s")
		return ok && len(r.Nodes) == 3
	})
	stop := make(chan struct{})
	var ids []string
	var refused int64
	var storming sync.WaitGroup
	storming.Go(func() { ids, refused = storm(t, nodes, 150, stop) })
	for _, n := range nodes {
		<-time.After(2 * time.Second) // of storm
		n.kill()
		n.start(t)
		eventually(t, "it has caught up", func() bool { return n.phase(t) == "serving" })
	}
	close(stop)
	storming.Wait()
	t.Logf("%d purges acknowledged, %d refused", len(ids), refused)
	if len(ids) < 300 {
		t.Errorf("only %d purges", len(ids))
	}
	for _, n := range nodes {
		complete(t, n, ids)
	}
}

// TestSoakPurgeStorm: a thousand purges a second for a minute through five nodes, and
// what that costs. EDGE_FULL has a shorter one.
func TestSoakPurgeStorm(t *testing.T) {
	full(t)
	duration := 5 * time.Second
	if os.Getenv("EDGE_SOAK") != "" {
		duration = time.Minute
	}
	nodes := startCluster(t, countingOrigin(t).url, 5)
	eventually(t, "all know each other", func() bool {
		r, ok := nodes[0].purgeWait(t, `{"all": true}`, "1s")
		return ok && len(r.Nodes) == 5
	})
	before := usage(t, nodes)
	stop := make(chan struct{})
	time.AfterFunc(duration, func() { close(stop) })
	began := time.Now()
	ids, refused := storm(t, nodes, 1000, stop)
	took := time.Since(began)
	var counted float64
	for i, n := range nodes {
		after := usage(t, nodes)
		counted += after[i].cpu - before[i].cpu
		t.Logf("%s: %.1f s of CPU, %d MiB resident", n.name, after[i].cpu-before[i].cpu, after[i].resident>>20)
	}
	t.Logf("%d purges in %v, %.0f a second, %d refused; %.2f ms of CPU a purge over all nodes", len(ids), took.Round(time.Millisecond), float64(len(ids))/took.Seconds(), refused, counted*1000/float64(len(ids)))
	complete(t, nodes[0], ids)
	t.Logf("all receipts complete %v after the last", time.Since(began.Add(took)).Round(time.Millisecond))
}

type used struct {
	cpu      float64 // seconds
	resident int64   // bytes
}

// usage reads what processes have used (proc(5)).
func usage(t *testing.T, nodes []*clusterNode) (all []used) {
	t.Helper()
	for _, n := range nodes {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", n.cmd.Process.Pid))
		if err != nil {
			t.Fatal(err)
		}
		fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
		user, _ := strconv.ParseFloat(fields[11], 64)
		system, _ := strconv.ParseFloat(fields[12], 64)
		pages, _ := strconv.ParseInt(fields[21], 10, 64)
		all = append(all, used{(user + system) / 100, pages * int64(os.Getpagesize())})
	}
	return all
}
