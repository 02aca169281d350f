package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// storm purges through nodes in turn until stop is closed, and returns the IDs of what
// was acknowledged. Who falls behind the rate catches up.
func storm(t *testing.T, nodes []*clusterNode, rate int, stop <-chan struct{}) (ids []string, refused int64) {
	var mu sync.Mutex
	statuses := map[int]int{}
	var all sync.WaitGroup
	const workers = 32
	began := time.Now()
	for w := range workers {
		all.Go(func() {
			for i := w; ; i += workers {
				select {
				case <-stop:
					return
				case <-time.After(time.Until(began.Add(time.Duration(i) * time.Second / time.Duration(rate)))):
				}
				n := nodes[i%len(nodes)]
				var made struct{ ID string }
				status := n.api(t, "POST", "/v1/purges", fmt.Sprintf(`{"urls": ["http://a.test/%d"]}`, i%1000), &made)
				mu.Lock()
				if status != 202 {
					refused++ // it was being killed
					statuses[status]++
					mu.Unlock()
					continue
				}
				ids = append(ids, made.ID)
				mu.Unlock()
			}
		})
	}
	all.Wait()
	if refused > 0 {
		t.Logf("refused, by status: %v", statuses)
	}
	return ids, refused
}

// complete waits until all receipts of acknowledged purges are complete, on a node.
func complete(t *testing.T, by *clusterNode, ids []string) {
	t.Helper()
	// A token is good for a hundred requests a second: what was seen to be complete is
	// not asked for again.
	const atOnce = 64
	patient := patience + time.Duration(len(ids))*20*time.Millisecond
	left := slices.Clone(ids)
	within(t, patient, "receipts are complete", func() bool {
		some := left[:min(atOnce, len(left))]
		done := make([]bool, len(some))
		var all sync.WaitGroup
		for i, id := range some {
			all.Go(func() {
				var r purgeReceipt
				done[i] = by.api(t, "GET", "/v1/purges/"+id, "", &r) == 200 && r.Converged
			})
		}
		all.Wait()
		pending := left[len(some):]
		for i, id := range some {
			if !done[i] {
				pending = append(pending, id)
			}
		}
		left = pending
		return len(left) == 0
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

// TestSoakPurgeStorm: a thousand purges a second for a minute through five nodes on
// machines of their own, and what that costs. EDGE_FULL has a shorter one; with EDGE_BENCH
// set to a directory the figures are written there for docs/performance.md.
func TestSoakPurgeStorm(t *testing.T) {
	full(t)
	duration := 5 * time.Second
	if os.Getenv("EDGE_SOAK") != "" {
		duration = time.Minute
	}
	nodes := startMachines(t, "http://192.0.2.1", 5)
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
	var resident int64
	after := usage(t, nodes)
	for i, n := range nodes {
		resident = max(resident, after[i].resident)
		counted += after[i].cpu - before[i].cpu
		t.Logf("%s: %.1f s of CPU, %d MiB resident", n.name, after[i].cpu-before[i].cpu, after[i].resident>>20)
	}
	t.Logf("%d purges in %v, %.0f a second, %d refused; %.2f ms of CPU a purge over all nodes", len(ids), took.Round(time.Millisecond), float64(len(ids))/took.Seconds(), refused, counted*1000/float64(len(ids)))
	complete(t, nodes[0], ids)
	t.Logf("all receipts were asked for and are complete, which took %v", time.Since(began.Add(took)).Round(time.Millisecond))
	half, most := latencies(t, nodes)
	t.Logf("everywhere within %v, 99 of 100 within %v", half, most)
	if refused > 0 {
		t.Errorf("%d purges were refused", refused)
	}
	if rate := float64(len(ids)) / took.Seconds(); rate < 990 && os.Getenv("EDGE_SOAK") != "" {
		t.Errorf("%.0f purges a second", rate)
	}
	if dir := os.Getenv("EDGE_BENCH"); dir != "" {
		writeStorm(t, dir, took, [][]string{
			{"purges a second", fmt.Sprintf("%.0f", float64(len(ids))/took.Seconds())},
			{"purges, refused", fmt.Sprintf("%d, %d", len(ids), refused)},
			{"receipts complete", fmt.Sprintf("%d", len(ids))},
			{"in force on all five, median and 99 of 100, by the slowest node", fmt.Sprintf("%v, %v", half, most)},
			{"CPU of a purge, all five nodes", fmt.Sprintf("%.2f ms", counted*1000/float64(len(ids)))},
			{"CPU of a node, cores", fmt.Sprintf("%.2f", counted/5/took.Seconds())},
			{"largest node, resident", fmt.Sprintf("%d MiB", resident>>20)},
		})
	}
}

// latencies are how long purges took until they were in force everywhere, as the node
// says that saw it last.
func latencies(t *testing.T, nodes []*clusterNode) (half, most time.Duration) {
	for _, n := range nodes {
		text := n.text(t, "/metrics")
		half = max(half, seconds(text, `edge_purge_convergence_seconds{percentile="50"} `))
		most = max(most, seconds(text, `edge_purge_convergence_seconds{percentile="99"} `))
	}
	return half.Round(time.Millisecond), most.Round(time.Millisecond)
}

func seconds(metrics, name string) time.Duration {
	_, rest, _ := strings.Cut(metrics, "\n"+name)
	line, _, _ := strings.Cut(rest, "\n")
	v, _ := strconv.ParseFloat(line, 64)
	return time.Duration(v * float64(time.Second))
}

// writeStorm writes what bench assembles docs/performance.md from.
func writeStorm(t *testing.T, dir string, took time.Duration, rows [][]string) {
	t.Helper()
	load, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.MarshalIndent(map[string]any{
		"topic": "purge-storm", "title": "A storm of purges through five nodes",
		"text": fmt.Sprintf("Five nodes in network namespaces of one machine, 1,000 purges of a URL a second wanted through all in turn, each acknowledged when it is on a disk, for %v; then every receipt is asked for until it is complete. The load average at the end was %s, of which this is a part.", took.Round(time.Second), strings.Fields(string(load))[0]),
		"date": time.Now().UTC().Format(time.DateOnly), "command": "EDGE_SOAK=1 EDGE_FULL=1 EDGE_BENCH=bench/results go test ./e2e -run TestSoakPurgeStorm",
		"machine":  fmt.Sprintf("%d cores, %s", runtime.NumCPU(), runtime.Version()),
		"versions": map[string]string{"edge": strings.TrimSpace(edge(t, "version"))},
		"columns":  []string{"", "edge"}, "rows": rows,
	}, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(dir, "purge-storm.json"), string(text)+"\n")
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
