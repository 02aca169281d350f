package purge

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// hub is a cluster in memory: streams that lose nothing unless they are cut, in order
// and on goroutines of their own, as those of the real one.
type hub struct {
	mu    sync.Mutex
	nodes map[string]*hubNode
	cut   map[string]bool // from this node and to it
}

type hubNode struct {
	hub    *hub
	name   string
	inbox  chan hubMessage
	fenced bool
}

type hubMessage struct {
	from string
	msg  []byte
}

func (n *hubNode) Peers() []Peer {
	n.hub.mu.Lock()
	defer n.hub.mu.Unlock()
	all := []Peer{{Name: n.name, Self: true}}
	for name := range n.hub.nodes {
		if name != n.name {
			up := !n.hub.cut[name] && !n.hub.cut[n.name]
			all = append(all, Peer{Name: name, Alive: up, Reachable: up})
		}
	}
	return all
}

func (n *hubNode) Send(to string, msg []byte) error {
	n.hub.mu.Lock()
	defer n.hub.mu.Unlock()
	other := n.hub.nodes[to]
	if other == nil || n.hub.cut[to] || n.hub.cut[n.name] {
		return errors.New("no stream")
	}
	select {
	case other.inbox <- hubMessage{n.name, msg}:
		return nil
	default:
		return errors.New("full")
	}
}

func (n *hubNode) Broadcast(msg []byte) (err error) {
	for _, p := range n.Peers() {
		if !p.Self {
			err = errors.Join(err, n.Send(p.Name, msg))
		}
	}
	return err
}

func (n *hubNode) SetFenced(fenced bool) {
	n.hub.mu.Lock()
	defer n.hub.mu.Unlock()
	n.fenced = fenced
}

func (c *fakeCache) Fence() uint64 { return 0 }
func (c *fakeCache) Unfence()      {}

// spreadNode is a log and what spreads it, at work in a bubble.
type spreadNode struct {
	*testNode
	spread *Spread
	hub    *hubNode
	stop   func()
}

func startSpread(t *testing.T, h *hub, name string, fsys *memFS) *spreadNode {
	t.Helper()
	tune := defaultTuning
	tune.fs = fsys
	l, err := open(Config{Dir: testDir, Node: name}, nil, tune)
	if err != nil {
		t.Fatal(err)
	}
	disk := &objects{}
	disk.claim(l.Incarnation())
	c := newFakeCache(l.Boot(), disk)
	if err := l.Replay(c); err != nil {
		t.Fatal(err)
	}
	n := &hubNode{hub: h, name: name, inbox: make(chan hubMessage, 10_000)}
	h.mu.Lock()
	h.nodes[name] = n
	h.mu.Unlock()
	s := NewSpread(l, c, n, false, nil)
	s.Begin()
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	all.Go(func() { _ = l.Run(ctx) })
	all.Go(func() { _ = s.Run(ctx) })
	all.Go(func() {
		for {
			select {
			case m := <-n.inbox:
				s.Receive(m.from, m.msg)
			case <-ctx.Done():
				return
			}
		}
	})
	return &spreadNode{testNode: &testNode{Log: l, cache: c}, spread: s, hub: n, stop: func() {
		cancel()
		all.Wait()
		h.mu.Lock()
		delete(h.nodes, name)
		h.mu.Unlock()
	}}
}

// Purges through one node are applied on all, and every node's receipt says so; a node
// that is cut off is waited for.
func TestSpread(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &hub{nodes: map[string]*hubNode{}, cut: map[string]bool{}}
		var nodes []*spreadNode
		for i := range 3 {
			nodes = append(nodes, startSpread(t, h, fmt.Sprint("n", i), newMemFS(uint64(i))))
		}
		defer func() {
			for _, n := range nodes {
				n.stop()
			}
		}()
		time.Sleep(2 * time.Second)
		wait := func(n *spreadNode, id ID, timeout time.Duration) (Receipt, error) {
			ctx, cancel := context.WithTimeout(context.Background(), timeout)
			defer cancel()
			return n.spread.Wait(ctx, id)
		}
		made, err := nodes[0].purgeURL(urlOf(1))
		if err != nil {
			t.Fatal(err)
		}
		r, err := wait(nodes[0], made.Entry.ID, time.Second)
		if err != nil || !r.Converged || len(r.Nodes) != 3 {
			t.Fatalf("%v %+v", err, r)
		}
		for _, n := range nodes {
			if n.cache.applied[purgeOf(urlOf(1))] == 0 {
				t.Errorf("%s has not applied it", n.hub.name)
			}
			if r, err := wait(n, made.Entry.ID, time.Second); err != nil || r.Entry.Place != made.Entry.Place || r.Entry.Actor != "test" {
				t.Errorf("%s: %v %+v", n.hub.name, err, r)
			}
		}
		counts, err := nodes[1].spread.Counts(context.Background(), made.Entry.ID)
		if err != nil || len(counts) != 2 || counts[0].Count.Memory != 1 {
			t.Errorf("counts: %v %+v", err, counts)
		}
		// A thousand, and one too large for a message.
		for i := range 1000 {
			if _, err := nodes[i%3].purgeURL(urlOf(i % 7)); err != nil {
				t.Fatal(err)
			}
		}
		var urls []string
		for i := range 2000 {
			urls = append(urls, urlOf(i)+"/"+strings.Repeat("x", 500))
		}
		large, err := nodes[2].Purge(context.Background(), Request{URLs: urls, Actor: "test"})
		if err != nil {
			t.Fatal(err)
		}
		if r, err := wait(nodes[2], large.Entry.ID, 30*time.Second); err != nil {
			t.Fatalf("the large one: %v %+v", err, r.Nodes)
		}
		time.Sleep(time.Second)
		if half, most, waiting := nodes[2].spread.Convergence(); half == 0 || most < half || waiting != 0 {
			t.Errorf("convergence %v, %v, %d wait", half, most, waiting)
		}
		for _, n := range nodes {
			if lags := n.spread.Lags(); len(lags) != 0 {
				t.Errorf("%s sees behind: %v", n.hub.name, lags)
			}
		}
		if a, b := nodes[0].spread.Position(), nodes[1].spread.Position(); string(a) != string(b) {
			t.Error("positions differ")
		}
		// Cut off: it is not claimed.
		h.mu.Lock()
		h.cut["n2"] = true
		h.mu.Unlock()
		time.Sleep(3 * time.Second)
		made, _ = nodes[0].purgeURL(urlOf(1))
		r, err = wait(nodes[0], made.Entry.ID, 10*time.Second)
		if !errors.Is(err, context.DeadlineExceeded) || r.Converged || r.State != Pending || r.Nodes[1].State != Applied || r.Nodes[2].State != Unreachable {
			t.Errorf("%v %+v", err, r)
		}
		lags := nodes[0].spread.Lags()
		if behind := lags["n2"]; len(lags) != 1 || behind < 8*time.Second || behind > 12*time.Second {
			t.Errorf("behind: %v", lags)
		}
		h.mu.Lock()
		clear(h.cut)
		h.mu.Unlock()
		if r, err = wait(nodes[0], made.Entry.ID, 10*time.Second); err != nil || nodes[2].Stats().Fences.Load() == 0 {
			t.Errorf("%v %+v", err, r)
		}
		time.Sleep(3 * time.Second)
		if fenced, _, _ := nodes[2].spread.FenceState(); fenced || nodes[2].hub.fenced {
			t.Error("it stays fenced")
		}
		if lags := nodes[0].spread.Lags(); len(lags) != 0 {
			t.Errorf("behind after all: %v", lags)
		}
		// What cannot be read is left.
		if nodes[0].spread.Receive("n1", []byte{9, 9}) || nodes[0].spread.Receive("n1", []byte{1}) || nodes[0].Stats().Newer.Load() != 1 || nodes[0].Stats().Damaged.Load() != 1 {
			t.Error("what cannot be read is taken")
		}
	})
}

// Without a cluster receipts are of this node alone.
func TestSpreadAlone(t *testing.T) {
	n := startNode(t, smallTuning(newMemFS(1)), &objects{})
	s := NewSpread(n.Log, n.cache, nil, true, nil)
	s.Begin()
	made, err := n.purgeURL(urlOf(1))
	if err != nil {
		t.Fatal(err)
	}
	r, err := s.Wait(context.Background(), made.Entry.ID)
	if err != nil || !r.Converged || len(r.Nodes) != 1 || r.State != Applied {
		t.Errorf("%v %+v", err, r)
	}
	if _, err := s.Wait(context.Background(), ID{1}); !errors.Is(err, ErrUnheard) {
		t.Error(err)
	}
	if s.Release() == nil {
		t.Error("released without a fence")
	}
}

// An idempotency key that was used on two nodes at once, for the same or for different
// purges, keeps neither from getting everywhere; used later it is known on all.
func TestKeysOfOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &hub{nodes: map[string]*hubNode{}, cut: map[string]bool{}}
		a, b := startSpread(t, h, "a", newMemFS(1)), startSpread(t, h, "b", newMemFS(2))
		defer func() { a.stop(); b.stop() }()
		purge := func(n *spreadNode, key string, url int) (Receipt, error) {
			return n.Purge(context.Background(), Request{URLs: []string{urlOf(url)}, Actor: "ci", Key: key, Print: [32]byte{byte(url)}})
		}
		time.Sleep(2 * time.Second) // they have compared once
		h.mu.Lock()
		h.cut["b"] = true
		h.mu.Unlock()
		for i, key := range []string{"same", "other"} {
			for _, n := range []*spreadNode{a, b} {
				url := 1
				if n == b {
					url += i
				}
				if _, err := purge(n, key, url); err != nil {
					t.Fatal(err)
				}
			}
		}
		h.mu.Lock()
		clear(h.cut)
		h.mu.Unlock()
		time.Sleep(5 * time.Second)
		if string(a.spread.Position()) != string(b.spread.Position()) || len(a.List(ID{}, 10)) != 4 || len(b.List(ID{}, 10)) != 4 {
			t.Errorf("%d and %d purges", len(a.List(ID{}, 10)), len(b.List(ID{}, 10)))
		}
		made, _ := purge(a, "third", 3)
		time.Sleep(time.Second)
		if again, err := purge(b, "third", 3); err != nil || again.Entry.ID != made.Entry.ID {
			t.Errorf("%v: asked again on another node: %v, made %v", err, again.Entry.ID, made.Entry.ID)
		}
		if _, err := purge(b, "third", 4); !errors.Is(err, ErrKeyReused) {
			t.Error(err)
		}
	})
}
