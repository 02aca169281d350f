package e2e

import (
	"context"
	"crypto/tls"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Floods: what costs a client little and a node more. A node under each of them
// answers its other clients, and stays within its memory.

// attack is one kind of flood.
type attack struct {
	name string
	// once makes as much of it as one connection, or one lot of them, bears, and
	// ends then, or when ctx does.
	once func(ctx context.Context, v *victim)
	// seen is an event of edge_protocol_events_total that tells of it; empty where
	// the node just bears it.
	seen, protocol string
}

// victim is the node under attack.
type victim struct {
	*node
	tls        *tls.Config
	small, big string // targets that are in memory
	held       int    // connections that an attack may hold at once
}

// Attackers and good clients have one address here: what bounds a single one is
// raised, so that the rest of the defences shows.
const attackConfig = `server:
  http: ["{http}"]
  https: ["{https}"]
  limits:
    header_timeout: 2s
    stall_timeout: 2s
    min_rate: 1KiB
    connections_per_address: 50000
    connections_per_prefix: 50000
    handshake_rate: 50000
    handshake_rate_per_prefix: 50000
  access_log: {format: "off"}
admin: {listen: "{admin}"}
data: "{data}"
store: {memory: {bytes: 64MiB}}
origins: {site: {url: "${E2E_ORIGIN}"}}
hosts: [{names: ["*"], origin: site}]
`

// attackBytesMax is what a node may take under attack: its memory tier, itself,
// and what buffers of connections hold.
const attackBytesMax = (64 + 256) << 20

func attacks() []attack { return slices.Concat(attacksHTTP1(), attacksHTTP2(), attacksHTTP3()) }

// All at once for some seconds.
func TestFloodsShortly(t *testing.T) {
	v := newVictim(t, 20)
	v.bear(t, 5*time.Second, attacks()...)
}

// Each for its share of the time.
func TestSoakFloods(t *testing.T) {
	d := soak(t)
	v := newVictim(t, 300)
	goroutines := count(t, v.node, "go_goroutines")
	for _, a := range attacks() {
		t.Run(a.name, func(t *testing.T) { v.bear(t, d/time.Duration(len(attacks())), a) })
	}
	settles(t, v.node, goroutines)
}

func newVictim(t *testing.T, held int) *victim {
	t.Helper()
	t.Setenv("E2E_ORIGIN", startOrigin(t).url)
	n, _ := startConfigured(t, attackConfig)
	v := &victim{node: n, tls: trust(t, n), small: "/video/1kB.bin", big: "/video/1MB.bin", held: held}
	v.tls.ClientSessionCache = tls.NewLRUClientSessionCache(10) // handshakes that cost us less
	for _, protocol := range everyProtocol {
		c := newClient(t, n, protocol)
		for range 2 {
			c.get(t, v.small)
			c.get(t, v.big)
		}
		c.CloseIdleConnections()
	}
	return v
}

// bear attacks the node for so long, and longer where the machine is too busy for
// all of it to show, and judges how it takes it.
func (v *victim) bear(t *testing.T, d time.Duration, attacks ...attack) {
	t.Helper()
	first := v.metrics(t) // one page for all: a token is good for a hundred a second
	shows := func(page string, a attack) bool { return a.seen == "" || a.events(t, page) > a.events(t, first) }
	ctx, cancel := context.WithTimeout(t.Context(), d+patience)
	defer cancel()
	var attackers, good sync.WaitGroup
	defer func() { // also where a metric cannot be read: a test that has ended must not be told more
		cancel()
		good.Wait()
		attackers.Wait()
	}()
	for _, a := range attacks {
		for range 2 {
			attackers.Go(func() {
				for ctx.Err() == nil {
					a.once(ctx, v)
				}
			})
		}
	}
	var answered atomic.Int64
	for _, protocol := range everyProtocol {
		c := newClient(t, v.node, protocol)
		good.Go(func() {
			defer closeClient(c)
			v.useWell(ctx, t, c, &answered)
		})
	}
	peak := int64(0)
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for started := time.Now(); ctx.Err() == nil && v.running(); <-tick.C {
		peak = max(peak, residentBytes(t, v.node))
		if time.Since(started) < d || answered.Load() < 20 {
			continue
		}
		if page := v.metrics(t); !slices.ContainsFunc(attacks, func(a attack) bool { return !shows(page, a) }) {
			break
		}
	}
	cancel()
	good.Wait()
	attackers.Wait()
	t.Logf("%d answers to good clients; %d MB resident at most", answered.Load(), peak>>20)
	if peak > attackBytesMax {
		t.Errorf("%d MB resident", peak>>20)
	}
	if answered.Load() < 20 {
		t.Errorf("only %d answers to good clients", answered.Load())
	}
	last := v.metrics(t)
	for _, a := range attacks {
		if !shows(last, a) {
			t.Errorf("%s: no %s of %s was counted", a.name, a.seen, a.protocol)
		}
	}
	unharmed(t, v.node)
}

// events is how often a page of metrics tells of the attack.
func (a *attack) events(t *testing.T, page string) float64 {
	t.Helper()
	if a.seen == "edge_messages_stalled_total" {
		return countIn(t, page, a.seen)
	}
	return countIn(t, page, "edge_protocol_events_total", `event="`+a.seen+`"`, `protocol="`+a.protocol+`"`)
}

// useWell asks for what is stored and what is not, and gets it. A machine that stands
// still for the two seconds of attackConfig makes any client a slow one, which is cut:
// that is borne once, from who has waited for long.
func (v *victim) useWell(ctx context.Context, t *testing.T, c *client, answered *atomic.Int64) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	last, cut := time.Now(), false // of an answer
	for i := 0; ; i++ {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		target, size := v.small, 1000
		switch i % 8 {
		case 3:
			target, size = v.big, 1_000_000
		case 5:
			target, size = respond("size", "5000", "for", fmt.Sprint(c.name, i), "header", "Cache-Control:no-store"), 5000
		}
		a, err := c.try(c.request(t, "GET", target, nil))
		if err != nil && !cut && time.Since(last) > time.Second {
			cut, last = true, time.Now()
			continue
		}
		if err != nil || a.StatusCode != 200 || len(a.body) != size {
			status := ""
			if a.Response != nil {
				status = a.Status
			}
			t.Errorf("%s: a good client's request for %s, %v after its last answer: %s, %d bytes, %v", c.name, target, time.Since(last).Round(time.Millisecond), status, len(a.body), err)
			return
		}
		answered.Add(1)
		last = time.Now()
	}
}

func closeClient(c *client) {
	if closer, ok := c.Transport.(interface{ Close() error }); ok {
		closer.Close()
	}
	c.CloseIdleConnections()
}

// unharmed waits until the node has no handler and no connection over TCP, and
// fails where it panicked on the way.
func unharmed(t *testing.T, n *node) {
	t.Helper()
	if !n.running() {
		t.Fatalf("edge ended: %v", n.err)
	}
	eventually(t, "no handler is left", func() bool { return count(t, n, "edge_handlers") == 0 })
	for _, protocol := range []string{"h1", "h2"} {
		eventually(t, "no connection is left", func() bool { return count(t, n, "edge_connections", `protocol="`+protocol+`"`) == 0 })
	}
	if got := count(t, n, "edge_panics_total"); got != 0 || strings.Contains(n.output.String(), "panic") {
		t.Errorf("%v panics:\n%s", got, tail(n.output.String(), 40))
	}
	for _, line := range strings.Split(n.metrics(t), "\n") {
		name, value, _ := strings.Cut(line, " ")
		if strings.HasPrefix(name, "edge_") && strings.HasPrefix(value, "-") {
			t.Errorf("a metric below zero: %s", line)
		}
	}
}

// settles waits until the node is as it was before: unharmed, without connections
// over QUIC, and with no more goroutines than then.
func settles(t *testing.T, n *node, goroutines float64) {
	t.Helper()
	unharmed(t, n)
	// A QUIC client whose farewell was lost is given up after 30 s.
	within(t, 3*patience, "no connection is left", func() bool { return count(t, n, "edge_connections") == 0 })
	eventually(t, fmt.Sprintf("goroutines are back at %v", goroutines), func() bool { return count(t, n, "go_goroutines") <= goroutines+10 })
}

// hold keeps connections open, one for each of the node's file descriptors that
// the attack may have, and pokes each now and then until all are cut or ctx ends.
func (v *victim) hold(ctx context.Context, open func() (write func() error, shut func())) {
	type held struct {
		write func() error
		shut  func()
	}
	var all []held
	defer func() {
		for _, h := range all {
			h.shut()
		}
	}()
	for range v.held {
		if write, shut := open(); write != nil {
			all = append(all, held{write, shut})
		}
	}
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for len(all) > 0 {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		all = slices.DeleteFunc(all, func(h held) bool {
			if h.write() == nil {
				return false
			}
			h.shut()
			return true
		})
	}
}
