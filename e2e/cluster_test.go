package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	network "edgecdn/e2e/relay"
)

// member is a node of a cluster with an address of its own on this machine.
type member struct {
	*node
	name, file string
}

const clusterFile = `node: {name}
data: "{data}"
server: {http: ["{http}"], https: []}
admin: {listen: "{admin}"}
cluster:
  listen: "{listen}"
  advertise: "{advertise}"
  preset: local
  label: {label}
  site: {name}
  seeds: [{seeds}]
  secret_file: "{secrets}"
origins: {o: {url: "http://127.0.0.1:1"}}
hosts: [{names: ["*"], origin: o}]
`

// clusterOf starts nodes at these addresses, host:port, the first being everybody's seed.
func clusterOf(t *testing.T, addresses []string, change func(i int, values map[string]string)) []*member {
	t.Helper()
	var all []*member
	for i, address := range addresses {
		m := &member{node: newNode(t), name: string(rune('a' + i))}
		m.file = filepath.Join(m.data, "edge.yaml")
		values := map[string]string{"name": m.name, "listen": address, "advertise": address, "label": "edge", "seeds": fmt.Sprintf("%q", addresses[0])}
		secret := "the secret of all nodes"
		values["secret"] = secret
		if change != nil {
			change(i, values)
		}
		values["secrets"] = m.secrets()
		writeFile(t, m.secrets(), values["secret"]+"\n")
		text := clusterFile
		for key, value := range values {
			text = strings.ReplaceAll(text, "{"+key+"}", value)
		}
		writeFile(t, m.file, m.fill(text))
		m.args = []string{"serve", "--config", m.file}
		m.start(t)
		all = append(all, m)
	}
	return all
}

func (m *member) secrets() string { return filepath.Join(m.data, "secrets") }

// sees is what a node says of another: status and whether a stream is up.
func (m *member) sees(t *testing.T, name string) (status string, stream bool) {
	t.Helper()
	var list struct {
		Nodes []struct {
			Name, Status string
			Stream       bool
		}
	}
	out, _, code := run(t, filepath.Join(bin, "edge"), "nodes", "--data", m.data, "--json")
	if code != 0 || json.Unmarshal([]byte(out), &list) != nil {
		return "", false
	}
	for _, n := range list.Nodes {
		if n.Name == name {
			return n.Status, n.Stream
		}
	}
	return "", false
}

func together(t *testing.T, all ...*member) bool {
	t.Helper()
	for _, m := range all {
		for _, other := range all {
			if status, stream := m.sees(t, other.name); status != "alive" || !stream {
				return false
			}
		}
	}
	return true
}

// serving waits until a node serves: who comes back is fenced until it has compared
// with the others. It returns its address in the cluster.
func (m *member) serving(t *testing.T) (address string) {
	t.Helper()
	eventually(t, m.name+" serves", func() bool {
		_, rest, serves := strings.Cut(edge(t, "status", "--data", m.data), "serving at ")
		address, _, _ = strings.Cut(rest, ",")
		return serves
	})
	return address
}

// free gives addresses on these hosts.
func free(t *testing.T, hosts ...string) (addresses []string) {
	t.Helper()
	for _, host := range hosts {
		at := address(t)
		addresses = append(addresses, host+at[strings.LastIndexByte(at, ':'):])
	}
	return addresses
}

// Real nodes find each other, notice a kill within moments, hear what operators say
// on any of them, change their secret without losing anybody, and restart one after
// the other. A node with another secret and one with another label stay out, and the
// log names them.
func TestClusterOfRealNodes(t *testing.T) {
	all := clusterOf(t, free(t, "127.0.0.1", "127.0.0.1", "127.0.0.1"), nil)
	a, b, c := all[0], all[1], all[2]
	eventually(t, "all know all", func() bool { return together(t, all...) })

	eventually(t, "edge nodes says so", func() bool { // a node that stands still for a moment is suspect
		out := edge(t, "nodes", "--data", b.data)
		return strings.Contains(out, "this node") && strings.Count(out, "alive") == 3
	})
	eventually(t, "edge status says so", func() bool { return strings.Contains(edge(t, "status", "--data", b.data), "3 of 3 nodes alive") })
	edge(t, "nodes", "out", "a", "--data", b.data)
	eventually(t, "c knows that a is out", func() bool {
		return strings.Contains(edge(t, "nodes", "--data", c.data), ", out") || strings.Contains(edge(t, "nodes", "--data", c.data), " out")
	})
	edge(t, "drain", "--data", b.data)
	eventually(t, "a sees b drain", func() bool { return strings.Contains(edge(t, "nodes", "--data", a.data), "draining") })
	edge(t, "undrain", "--data", b.data)

	for _, secrets := range []string{"the secret of all nodes\nthe secret that comes next\n", "the secret that comes next\nthe secret of all nodes\n", "the secret that comes next\n"} {
		for _, m := range all {
			writeFile(t, m.secrets(), secrets)
			edge(t, "reload", "--data", m.data)
		}
	}
	eventually(t, "all know all by the new secret", func() bool { return together(t, all...) })

	c.kill()
	began := time.Now()
	eventually(t, "a and b miss c", func() bool {
		atA, _ := a.sees(t, "c")
		atB, _ := b.sees(t, "c")
		return (atA == "suspect" || atA == "dead") && (atB == "suspect" || atB == "dead")
	})
	t.Logf("a kill was noticed after %v", time.Since(began).Round(time.Millisecond))
	c.start(t)
	eventually(t, "c is back", func() bool { return together(t, all...) })

	for _, m := range all { // one after the other
		m.signal(t, os.Interrupt)
		m.wait(t)
		m.start(t)
		eventually(t, m.name+" is back", func() bool { return together(t, all...) })
	}

	b.serving(t)
	c.serving(t)
	seed := a.serving(t)
	clusterOf(t, free(t, "127.0.0.1"), func(_ int, v map[string]string) {
		v["name"], v["seeds"] = "stranger", fmt.Sprintf("%q", seed)
	})
	clusterOf(t, free(t, "127.0.0.1"), func(_ int, v map[string]string) {
		v["name"], v["seeds"], v["label"], v["secret"] = "staging", fmt.Sprintf("%q", seed), "staging", "the secret that comes next"
	})
	eventually(t, "the log names who stays out", func() bool {
		text := a.output.String()
		return strings.Contains(text, "another secret asks in") && strings.Contains(text, "another cluster asks in")
	})
	if status, _ := a.sees(t, "stranger"); status != "" {
		t.Errorf("a stranger is %s", status)
	}
	if status, _ := a.sees(t, "staging"); status != "" {
		t.Errorf("a node of another cluster is %s", status)
	}
}

// A secret that is removed from all nodes lets nobody in any more: a node that has it
// only is cut off at once, by stream and by gossip, and so is a thief who comes later.
func TestRemovedSecretShutsOut(t *testing.T) {
	full(t) // nodes look for those that are dead every 15 to 60 seconds
	const old, next = "the secret of all nodes", "the secret that comes next"
	all := clusterOf(t, free(t, "127.0.0.1", "127.0.0.1", "127.0.0.1"), nil)
	a, b, left := all[0], all[1], all[2]
	eventually(t, "all know all", func() bool { return together(t, all...) })
	for _, secrets := range []string{old + "\n" + next, next + "\n" + old, next} {
		for _, m := range []*member{a, b} { // the third is forgotten, or a thief's
			writeFile(t, m.secrets(), secrets+"\n")
			edge(t, "reload", "--data", m.data)
		}
		if strings.HasPrefix(secrets, old) { // it has not the new one: all go on
			eventually(t, "all go on with the first", func() bool { return together(t, all...) })
		}
	}
	eventually(t, "its streams have ended, on both sides", func() bool {
		for _, m := range []*member{a, b} {
			_, there := m.sees(t, left.name)
			_, here := left.sees(t, m.name)
			if there || here {
				return false
			}
		}
		return true
	})
	within(t, 2*patience, "gossip gives it up, and it them", func() bool {
		there, _ := a.sees(t, left.name)
		here, _ := left.sees(t, a.name)
		return there == "dead" && here == "dead"
	})
	within(t, 2*patience, "the log names who asks in", func() bool {
		return strings.Contains(a.output.String(), "another secret asks in") || strings.Contains(b.output.String(), "another secret asks in")
	})
	// What it says reaches nobody, and it hears nothing.
	edge(t, "nodes", "out", "b", "--data", left.data)
	edge(t, "nodes", "out", "a", "--data", b.data)
	eventually(t, "a hears b", func() bool { return strings.Contains(edge(t, "nodes", "--data", a.data), "out") })
	if text := edge(t, "nodes", "--data", a.data); strings.Count(text, "out") != 1 {
		t.Errorf("a has heard of another:\n%s", text)
	}
	eventually(t, "the others have not lost each other", func() bool { return together(t, a, b) })
	left.signal(t, os.Interrupt)
	left.wait(t)
	left.start(t)
	eventually(t, "it is told that nobody lets it in", func() bool {
		return strings.Contains(left.output.String(), "no other node lets this one into the cluster")
	})
	if status, stream := a.sees(t, left.name); status != "dead" && status != "left" || stream {
		t.Errorf("it is %s, stream %v", status, stream)
	}
}

func TestClusterOverIPv6(t *testing.T) {
	all := clusterOf(t, free(t, "[::1]", "[::1]"), nil)
	eventually(t, "both know each other", func() bool { return together(t, all...) })
}

// In bad weather, and after a cut that lasts longer than gossip gives a node, nodes
// are together again without anybody's help.
func TestClusterInBadWeather(t *testing.T) {
	full(t)
	addresses := free(t, "127.0.0.1", "127.0.0.1", "127.0.0.1")
	var relays []*network.Relay
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{}, len(addresses))
	for i, address := range addresses {
		r, err := network.Listen("127.0.0.1:0", address, network.Weather{Seed: uint64(i), Delay: 20 * time.Millisecond, Loss: 0.01})
		if err != nil {
			t.Fatal(err)
		}
		relays = append(relays, r)
		go func() { r.Run(ctx); ended <- struct{}{} }()
	}
	t.Cleanup(func() {
		cancel()
		for range relays {
			<-ended
		}
	})
	all := clusterOf(t, addresses, func(i int, v map[string]string) {
		v["advertise"] = relays[i].Address()
		v["seeds"] = fmt.Sprintf("%q", relays[0].Address())
	})
	a, c := all[0], all[2]
	eventually(t, "all know all", func() bool { return together(t, all...) })

	relays[2].Cut() // nobody reaches c; what c says by connections of its own still arrives
	relays[0].Cut()
	relays[1].Cut()
	eventually(t, "a and c have given each other up", func() bool {
		atA, _ := a.sees(t, "c")
		atC, _ := c.sees(t, "a")
		return atA == "dead" && atC == "dead"
	})
	for _, r := range relays {
		r.Heal()
	}
	within(t, 90*time.Second, "all know all again", func() bool { return together(t, all...) })
}
