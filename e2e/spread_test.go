package e2e

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// clusterNode is a node of a cluster on one machine.
type clusterNode struct {
	*node
	name, listen string
	client       *http.Client // reaches its admin listener
	tokens       []string     // in turns, as one is good for 100 requests a second; none: the node's own
	turn         atomic.Int64
}

// startCluster starts nodes that know each other.
func startCluster(t *testing.T, origin string, count int) []*clusterNode {
	t.Helper()
	var nodes []*clusterNode
	for i := range count {
		nodes = append(nodes, &clusterNode{node: newNode(t), name: fmt.Sprintf("n%d", i), listen: address(t), client: http.DefaultClient})
	}
	configureCluster(t, nodes, origin)
	var all sync.WaitGroup
	for _, n := range nodes {
		all.Go(func() { n.start(t) })
	}
	all.Wait()
	return nodes
}

// startMachines starts nodes that know each other, each on a machine of its own.
func startMachines(t *testing.T, origin string, count int) []*clusterNode {
	t.Helper()
	lan := newLAN(t)
	var nodes []*clusterNode
	var machines []*machine
	for i := range count {
		host := fmt.Sprintf("10.1.0.%d", i+1)
		m := lan.machine(t, host+"/24")
		n := &clusterNode{node: newNode(t), name: fmt.Sprintf("n%d", i), listen: host + ":7946"}
		n.http, n.admin = host+":80", "127.0.0.1:9000"
		transport := &http.Transport{DialContext: m.dial, MaxIdleConnsPerHost: 64}
		t.Cleanup(transport.CloseIdleConnections)
		n.client = &http.Client{Transport: transport}
		for range 16 {
			n.tokens = append(n.tokens, rand.Text())
		}
		nodes, machines = append(nodes, n), append(machines, m)
	}
	configureCluster(t, nodes, origin)
	for i, n := range nodes {
		n.process = machines[i].start(t, n.program, n.args...)
	}
	for _, n := range nodes {
		eventually(t, n.name+" is ready", func() bool { return n.api(t, "GET", "/v1/status", "", nil) == 200 })
	}
	return nodes
}

func configureCluster(t *testing.T, nodes []*clusterNode, origin string) {
	t.Helper()
	for _, n := range nodes {
		var seeds []string
		for _, other := range nodes {
			if other != n {
				seeds = append(seeds, fmt.Sprintf("%q", other.listen))
			}
		}
		var tokens []string
		for i, token := range n.tokens {
			tokens = append(tokens, fmt.Sprintf(`{name: t%d, sha256: %x, scopes: [purge, "purge:all", read]}`, i, sha256.Sum256([]byte(token))))
		}
		file := filepath.Join(t.TempDir(), "edge.yaml")
		writeFile(t, file, n.fill(fmt.Sprintf(`node: %s
data: "{data}"
server: {http: ["{http}"], https: []}
admin: {listen: "{admin}", tokens: [%s]}
cluster:
  listen: %q
  preset: local
  seeds: [%s]
  secrets: [0123456789abcdef0123456789abcdef]
origins: {o: {url: "%s"}}
hosts: [{names: ["*"], origin: o}]
`, n.name, strings.Join(tokens, ", "), n.listen, strings.Join(seeds, ", "), origin)))
		n.args = []string{"serve", "--config", file}
	}
}

// receiptNode is what a receipt says of a node.
type receiptNode struct {
	Node, State string
	At          *time.Time
	Counts      *struct{ Memory int }
}

type purgeReceipt struct {
	ID, State string
	Converged bool
	Nodes     []receiptNode
}

func (r *purgeReceipt) of(node string) string {
	for _, n := range r.Nodes {
		if n.Node == node {
			return n.State
		}
	}
	return ""
}

// api asks a node's admin listener.
func (n *clusterNode) api(t *testing.T, method, path, body string, answer any) int {
	t.Helper()
	status, text := n.raw(t, method, path, body)
	if answer != nil && status != 0 && status < 300 {
		if err := json.NewDecoder(bytes.NewReader(text)).Decode(answer); err != nil {
			t.Errorf("%s: %v", path, err)
		}
	}
	return status
}

// text is what the admin listener answers.
func (n *clusterNode) text(t *testing.T, path string) string {
	t.Helper()
	_, text := n.raw(t, "GET", path, "")
	return string(text)
}

// raw returns the status, 0 without an answer, and the body.
func (n *clusterNode) raw(t *testing.T, method, path, body string) (status int, text []byte) {
	t.Helper()
	var token []byte
	var err error
	if len(n.tokens) > 0 {
		token = []byte(n.tokens[int(n.turn.Add(1))%len(n.tokens)])
	} else if token, err = os.ReadFile(filepath.Join(n.data, "admin.token")); err != nil {
		return 0, nil // it has not started yet
	}
	req, err := http.NewRequest(method, "http://"+n.admin+path, strings.NewReader(body))
	if err != nil {
		t.Error(err)
		return 0, nil
	}
	req.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := n.client.Do(req)
	if err != nil {
		return 0, nil
	}
	defer resp.Body.Close()
	if text, err = io.ReadAll(resp.Body); err != nil {
		return 0, nil
	}
	return resp.StatusCode, text
}

func (n *clusterNode) phase(t *testing.T) string {
	var status struct{ Phase string }
	n.api(t, "GET", "/v1/status", "", &status)
	return status.Phase
}

// purgeAll purges everything through a node and returns the receipt, complete or not.
func (n *clusterNode) purgeWait(t *testing.T, body, timeout string) (r purgeReceipt, complete bool) {
	t.Helper()
	status := n.api(t, "POST", "/v1/purges?wait=all&timeout="+timeout, body, &r)
	if status == 202 {
		n.api(t, "GET", "/v1/purges/"+r.ID, "", &r)
	}
	return r, status == 200
}

// A purge through one node is forgotten by all; every node answers for it; who is
// killed, wiped or left behind catches up behind a fence before it serves again.
func TestPurgesSpread(t *testing.T) {
	nodes := startCluster(t, countingOrigin(t).url, 3)
	purge := func(n *clusterNode, path string) string {
		return fmt.Sprintf(`{"prefixes": ["%s%s"]}`, n.http, path)
	}
	eventually(t, "all know each other", func() bool {
		r, complete := nodes[0].purgeWait(t, purge(nodes[0], "/none"), "1s")
		return complete && len(r.Nodes) == 3
	})
	const everything = `{"all": true}`
	keep := func() (was [3]int) {
		for i, n := range nodes {
			if n.running() {
				for range 3 {
					was[i], _ = n.fetch(t, "/a")
				}
			}
		}
		return was
	}
	was := keep()
	r, complete := nodes[1].purgeWait(t, everything, "5s")
	if !complete || !r.Converged || len(r.Nodes) != 3 {
		t.Fatalf("%+v", r)
	}
	for i, n := range nodes {
		if now, _ := n.fetch(t, "/a"); now == was[i] {
			t.Errorf("n%d serves what was purged through another", i)
		}
		// The others hear of each other's positions with the next report.
		eventually(t, fmt.Sprintf("n%d says that the purge is everywhere", i), func() bool {
			var seen purgeReceipt
			return n.api(t, "GET", "/v1/purges/"+r.ID+"?counts=all", "", &seen) == 200 && seen.Converged && len(seen.Nodes) == 3
		})
	}

	// Killed, and purged meanwhile: its receipt says so, and it serves nothing of it.
	was = keep()
	nodes[2].kill()
	eventually(t, "it is missed", func() bool {
		r, complete = nodes[0].purgeWait(t, everything, "100ms")
		return r.of("n2") == "unreachable"
	})
	if complete || r.Converged {
		t.Errorf("%+v", r)
	}
	eventually(t, "the others have it", func() bool {
		nodes[0].api(t, "GET", "/v1/purges/"+r.ID, "", &r)
		return r.of("n1") == "applied" && r.of("n2") == "unreachable"
	})
	nodes[2].start(t)
	if now, hit := nodes[2].fetch(t, "/a"); now == was[2] {
		t.Errorf("n2 serves what was purged while it was dead (hit %v)", hit)
	}
	eventually(t, "it has caught up", func() bool {
		nodes[1].api(t, "GET", "/v1/purges/"+r.ID, "", &r)
		return r.Converged && r.of("n2") == "applied" && nodes[2].phase(t) == "serving"
	})

	// The whole cluster starts anew; one of them alone is fenced until another comes.
	was = keep()
	for _, n := range nodes {
		n.kill()
	}
	nodes[0].start(t)
	if phase := nodes[0].phase(t); phase != "fenced" {
		t.Errorf("alone after a start of all it is %s", phase)
	}
	nodes[1].start(t)
	eventually(t, "two of them serve", func() bool { return nodes[0].phase(t) == "serving" && nodes[1].phase(t) == "serving" })

	// Wiped: it is not taken for the old one.
	nodes[2].data = t.TempDir()
	config, err := os.ReadFile(nodes[2].args[2])
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(string(config), "\n")
	lines[1] = fmt.Sprintf("data: %q", nodes[2].data)
	writeFile(t, nodes[2].args[2], strings.Join(lines, "\n"))
	nodes[2].start(t)
	eventually(t, "a purge through the wiped one is everywhere", func() bool {
		r, complete = nodes[2].purgeWait(t, everything, "1s")
		return complete && len(r.Nodes) == 3
	})
}

// An operator lifts the fence of a node whose peers do not come back.
func TestReleaseFence(t *testing.T) {
	nodes := startCluster(t, countingOrigin(t).url, 2)
	eventually(t, "they know each other", func() bool {
		r, complete := nodes[0].purgeWait(t, `{"all": true}`, "1s")
		return complete && len(r.Nodes) == 2
	})
	first, _ := nodes[0].fetch(t, "/a")
	nodes[0].written(t, 1)
	nodes[0].kill()
	nodes[1].kill()
	nodes[0].start(t)
	if _, hit := nodes[0].fetch(t, "/b"); hit || nodes[0].phase(t) != "fenced" {
		t.Errorf("it is %s", nodes[0].phase(t))
	}
	if out, err := exec.Command(nodes[0].program, "nodes", "release", "--data", nodes[0].data).CombinedOutput(); err != nil {
		t.Errorf("%v %s", err, out)
	}
	eventually(t, "released", func() bool { return nodes[0].phase(t) == "serving" })
	if again, _ := nodes[0].fetch(t, "/a"); again != first {
		t.Errorf("what was stored before is not used again: %d, was %d", again, first)
	}
}
