package e2e

// clock_test.go has nodes whose clocks are wrong. Linux shifts CLOCK_REALTIME for no
// single process, and a static program takes no preloaded library; so the program is
// built once more with a standard library whose time.Now is off by what the
// environment says. Not a line of the program itself is another.

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const clockPatch = `
var wrongBy = func() (seconds int64) {
	text, _ := syscall.Getenv("EDGE_TEST_CLOCK") // seconds
	sign := int64(1)
	for _, c := range []byte(text) {
		if c == '-' {
			sign = -1
		} else {
			seconds = seconds*10 + int64(c-'0')
		}
	}
	return sign * seconds
}()
`

// buildWithClock builds edge so that EDGE_TEST_CLOCK sets its clock forward, or back.
func buildWithClock(t *testing.T) string {
	t.Helper()
	root, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		t.Fatal(err)
	}
	original := filepath.Join(strings.TrimSpace(string(root)), "src", "time", "time.go")
	text, err := os.ReadFile(original)
	if err != nil {
		t.Fatal(err)
	}
	patched := string(text)
	for _, change := range [][2]string{
		{"func Now() Time {\n\tsec, nsec, mono := runtimeNow()\n", "func Now() Time {\n\tsec, nsec, mono := runtimeNow()\n\tsec += wrongBy\n"},
		{"import (\n", "import (\n\t\"syscall\"\n"},
	} {
		if strings.Count(patched, change[0]) != 1 {
			t.Fatalf("%s is not as this test knows it: look for %q", original, change[0])
		}
		patched = strings.Replace(patched, change[0], change[1], 1)
	}
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "time.go"), patched+clockPatch)
	overlay, err := json.Marshal(map[string]any{"Replace": map[string]string{original: filepath.Join(dir, "time.go")}})
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(dir, "overlay.json"), string(overlay))
	program := filepath.Join(dir, "edge")
	if out, err := build("edge", program, "-overlay", filepath.Join(dir, "overlay.json")); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return program
}

// clocked starts a node with a program whose clock is off.
func (n *clusterNode) clocked(t *testing.T, program string, off time.Duration) {
	t.Helper()
	n.program = program
	t.Setenv("EDGE_TEST_CLOCK", fmt.Sprint(int64(off/time.Second)))
	n.start(t)
	t.Setenv("EDGE_TEST_CLOCK", "")
}

// Two of three nodes have clocks that are an hour off, one ahead and one behind. All
// know each other and say whose clock is off; purges through any are everywhere, with
// receipts that are complete; and what an operator says last is what holds, whichever
// node is told.
func TestClocksAnHourOff(t *testing.T) {
	full(t)
	program := buildWithClock(t)
	nodes := startCluster(t, countingOrigin(t).url, 3)
	for i, off := range []time.Duration{time.Hour, -time.Hour} {
		nodes[i+1].kill()
		nodes[i+1].clocked(t, program, off)
	}
	right, ahead, behind := nodes[0], nodes[1], nodes[2]
	eventually(t, "all know each other", func() bool {
		r, complete := right.purgeWait(t, `{"all": true}`, "1s")
		return complete && len(r.Nodes) == 3
	})
	eventually(t, "edge nodes says whose clock is off", func() bool { // what was held up says another second
		text := edge(t, "nodes", "--data", right.data)
		return (strings.Contains(text, "its clock is off by 3600 s") || strings.Contains(text, "its clock is off by 3599 s")) && strings.Contains(text, "its clock is off by -3")
	})

	for _, n := range nodes {
		var was [3]int
		for i, of := range nodes {
			was[i], _ = of.fetch(t, "/a")
		}
		r, complete := n.purgeWait(t, `{"all": true}`, "10s")
		if !complete || !r.Converged || len(r.Nodes) != 3 {
			t.Errorf("through %s: %+v", n.name, r)
		}
		for i, of := range nodes {
			if now, _ := of.fetch(t, "/a"); now == was[i] {
				t.Errorf("%s serves what was purged through %s", of.name, n.name)
			}
			eventually(t, "all answer for it", func() bool {
				var seen purgeReceipt
				return of.api(t, "GET", "/v1/purges/"+r.ID, "", &seen) == 200 && seen.Converged && len(seen.Nodes) == 3
			})
		}
	}

	out := func(n *clusterNode) bool {
		var list struct {
			Nodes []struct {
				Name string
				Out  bool
			}
		}
		n.api(t, "GET", "/v1/nodes", "", &list)
		for _, is := range list.Nodes {
			if is.Name == "n0" {
				return is.Out
			}
		}
		return false
	}
	for i, by := range []*clusterNode{ahead, behind, right, ahead, behind} { // out, in, out, in, out
		said := map[bool]string{true: "out", false: "in"}[i%2 == 0]
		edge(t, "nodes", said, "n0", "--data", by.data)
		for _, n := range nodes {
			eventually(t, fmt.Sprintf("%s holds n0 to be %s, as %s was told last", n.name, said, by.name), func() bool { return out(n) == (said == "out") })
		}
	}

	// One after the other goes and comes back, and catches up.
	for i, off := range []time.Duration{0, time.Hour, -time.Hour} {
		n := nodes[i]
		n.kill()
		if off == 0 {
			n.start(t)
		} else {
			n.clocked(t, program, off)
		}
		eventually(t, n.name+" has caught up", func() bool {
			r, complete := n.purgeWait(t, `{"all": true}`, "1s")
			return complete && len(r.Nodes) == 3 && n.phase(t) == "serving" && out(n)
		})
	}
}
