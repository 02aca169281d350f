package purge

import (
	"slices"
	"testing"
	"time"
)

// calm is a simulation in which nothing goes wrong but what the test does.
func calm(t *testing.T, nodes int) *sim {
	s := newSim(t, 1, nodes)
	s.lost, s.streamLoss, s.gossipLoss = 0, 0, 0
	s.run(4 * time.Second)
	return s
}

func (s *sim) fenced(which ...int) bool {
	for _, i := range which {
		if !s.nodes[i].machine.fenced {
			return false
		}
	}
	return true
}

func (s *sim) cut(which ...int) {
	clear(s.side)
	for _, i := range which {
		s.side[s.nodes[i].name] = 1
	}
	s.rewireAll()
}

// purged makes a purge and returns it when it is durable.
func (s *sim) purged(node int) *simPurge {
	n := len(s.purges)
	s.purge(s.nodes[node])
	s.run(s.now + 10*time.Millisecond)
	if len(s.purges) == n {
		s.t.Fatal("the purge was not made")
	}
	return s.purges[n]
}

func (s *sim) stop(which ...int) {
	for _, i := range which {
		s.crash(s.nodes[i], true)
	}
}

func (s *sim) begin(which ...int) {
	for _, i := range which {
		s.start(s.nodes[i])
	}
}

// state is what one node says of another.
func (s *sim) state(by, of int, p *simPurge) State {
	for _, is := range s.nodes[by].machine.states(p.place) {
		if is.name == s.nodes[of].name {
			return is.state
		}
	}
	return ""
}

func (s *sim) knows(node int, p *simPurge) bool { return s.nodes[node].machine.has(p.place) }

func (s *sim) want(what string, ok bool) {
	s.t.Helper()
	if !ok {
		s.t.Errorf("%v: not so: %s", s.now, what)
	}
	if s.failed != "" {
		s.t.Error(s.failed)
	}
}

// The first nodes ever have nothing stored, and serve.
func TestFirstNodes(t *testing.T) {
	s := newSim(t, 1, 2)
	s.want("no fence at the first start", !s.nodes[0].machine.fenced && !s.nodes[1].machine.fenced)
	s.run(3 * time.Second)
	s.want("nor when they have met", s.nodes[0].log.stats.Fences.Load() == 0)
}

// A whole cluster that starts is fenced until its nodes have compared: who has the
// most wins.
func TestWholeClusterStarts(t *testing.T) {
	s := calm(t, 3)
	s.stop(2)
	p := s.purged(0)
	s.run(s.now + time.Second)
	s.want("the other has it", s.knows(1, p))
	s.stop(0, 1)
	s.run(s.now + time.Second)
	s.begin(0, 1, 2)
	s.want("all are fenced", s.fenced(0, 1, 2))
	for range 100 {
		s.run(s.now + 100*time.Millisecond)
		s.want("who has not got it is fenced", s.knows(2, p) || s.fenced(2))
	}
	s.want("all serve and have it", !s.fenced(0) && !s.fenced(1) && !s.fenced(2) && s.knows(2, p))
	s.want("nothing was emptied", s.nodes[2].log.stats.Adopted.Load() == 0)
}

// Who reaches nobody at its start is fenced, until somebody comes or an operator
// releases it.
func TestSeedsUnreachable(t *testing.T) {
	s := calm(t, 2)
	s.purged(0)
	s.run(s.now + time.Second)
	s.stop(0, 1)
	s.run(s.now + time.Second)
	s.begin(0)
	s.run(s.now + 5*time.Minute)
	s.want("fenced", s.fenced(0))
	s.begin(1)
	s.run(s.now + 3*time.Second)
	s.want("the first peer lifts both fences", !s.fenced(0) && !s.fenced(1))
	s.stop(0, 1)
	s.begin(0)
	s.run(s.now + time.Minute)
	s.want("fenced", s.fenced(0))
	s.step(s.nodes[0], event{kind: evRelease})
	s.want("released, with all that it has", !s.fenced(0) && s.nodes[0].log.stats.Adopted.Load() == 0)
}

// A node that is configured alone is never fenced; if it knows others all the same, it
// is at its start.
func TestAlone(t *testing.T) {
	s := newSim(t, 1, 1)
	s.alone = true
	s.purged(0)
	s.stop(0)
	s.begin(0)
	s.want("not fenced", !s.fenced(0))
	s = newSim(t, 1, 2)
	s.alone = true
	s.run(3 * time.Second)
	s.stop(0, 1)
	s.begin(0)
	s.want("it remembers another", s.fenced(0))
}

// Of two nodes of which one is dead the living one serves, and does not claim that the
// dead one has forgotten.
func TestOneOfTwoDead(t *testing.T) {
	s := calm(t, 2)
	s.stop(1)
	s.run(s.now + 5*time.Second)
	p := s.purged(0)
	s.run(s.now + time.Minute)
	s.want("the living one serves", !s.fenced(0))
	s.want("the dead one is unreachable", s.state(0, 1, p) == Unreachable)
	s.begin(1)
	s.want("fenced at its start", s.fenced(1))
	s.run(s.now + 4*time.Second)
	s.want("caught up", !s.fenced(1) && s.state(0, 1, p) == Applied)
}

// A part that was cut off serves until it knows better, is fenced at once when it
// does, and says so; receipts do not claim what is not so.
func TestCutAndHeal(t *testing.T) {
	s := calm(t, 3)
	s.cut(2)
	s.run(s.now + 40*time.Second)
	p := s.purged(0)
	s.run(s.now + 20*time.Second)
	s.want("the cut off one serves", !s.fenced(2))
	s.want("it is unreachable, the other has it", s.state(0, 2, p) == Unreachable && s.state(0, 1, p) == Applied && s.state(1, 2, p) == Unreachable)
	before := s.nodes[2].log.stats.Fences.Load()
	s.cut()
	for range 50 {
		s.run(s.now + 100*time.Millisecond)
	}
	s.want("it was fenced and has caught up", s.nodes[2].log.stats.Fences.Load() == before+1 && !s.fenced(2))
	for by := range 2 {
		s.want("any node says so", s.state(by, 2, p) == Applied)
	}
}

// A node that an operator has declared gone is waited for no more, and is fenced when
// it comes back, until that is taken back.
func TestGone(t *testing.T) {
	s := calm(t, 2)
	peers := func(n *simNode, self, other bool) {
		o := s.nodes[0].name
		if n == s.nodes[0] {
			o = s.nodes[1].name
		}
		s.step(n, event{kind: evPeers, peers: []Peer{{Name: n.name, Self: true, Gone: self}, {Name: o, Gone: other, Alive: n.reachable[o], Reachable: n.reachable[o]}}})
	}
	s.stop(1)
	s.run(s.now + 4*time.Second)
	p := s.purged(0)
	peers(s.nodes[0], false, true)
	s.want("gone", s.state(0, 1, p) == Gone)
	s.begin(1)
	peers(s.nodes[1], true, false)
	s.run(s.now + 200*time.Millisecond)
	s.want("fenced", s.fenced(1))
	s.run(s.now + 4*time.Second)
	peers(s.nodes[1], true, false)
	s.want("fenced though it has caught up", s.knows(1, p))
	s.nodes[1].machine.step(simEpoch.Add(s.now), 0, event{kind: evTick})
	peers(s.nodes[1], false, false)
	s.run(s.now + time.Second)
	s.want("taken back", !s.fenced(1))
}

// Who was away for so long that the others' logs have moved on empties its store
// instead, and has all of the position then.
func TestBehindTheStart(t *testing.T) {
	s := calm(t, 2)
	s.fetch(s.nodes[1])
	s.run(s.now + time.Second)
	s.stop(1)
	s.run(s.now + 4*time.Second)
	for range 60 {
		s.purged(0)
		s.nodes[0].cache.sweep()
		s.nodes[0].log.followSweep()
	}
	n := s.nodes[0]
	s.want("the log has left the first behind", n.log.floor(n.machine.own) > 3)
	s.begin(1)
	s.run(s.now + 8*time.Second)
	last := s.purges[len(s.purges)-1]
	s.want("it has adopted the position", s.nodes[1].log.stats.Adopted.Load() == 1 && s.knows(1, last) && !s.fenced(1))
	for _, o := range s.nodes[1].disk.objects {
		s.want("nothing stored is used", !s.nodes[1].cache.live(o))
	}
	s.want("that is nobody else's business", s.nodes[0].cache.all == 0)
	// And it is known after a restart.
	s.stop(1)
	s.begin(1)
	s.run(s.now + 4*time.Second)
	s.want("adopted once", s.nodes[1].log.stats.Adopted.Load() == 0 && !s.fenced(1) && s.knows(1, last))
}

// A wiped node is not taken for the old one: its purges get through, and it gets those
// of all.
func TestWipedNode(t *testing.T) {
	s := calm(t, 3)
	for range 3 {
		s.purged(0)
	}
	s.run(s.now + time.Second)
	s.stop(0)
	s.nodes[0].fsys = newMemFS(7)
	s.begin(0)
	s.run(s.now + 4*time.Second)
	p := s.purged(0)
	s.run(s.now + time.Second)
	s.want("its first purge after it is known to all", p.place.Number == 1 && s.knows(1, p) && s.knows(2, p))
	s.want("it has those of before", s.knows(0, s.purges[2]) && !s.fenced(0))
}

// A goal outlives a restart: who has said that it is fenced up to a purge stays so.
func TestGoalOutlivesRestart(t *testing.T) {
	s := calm(t, 3)
	s.cut(2)
	s.run(s.now + 5*time.Second)
	p := s.purged(0)
	s.run(s.now + time.Second)
	n := s.nodes[2]
	// What is heard of it, and nothing more.
	n.machine.hear(s.nodes[0].name, &message{kind: sayPosition, position: positionMessage{own: p.place.Log, full: true, logs: []logPosition{{log: p.place.Log, number: p.place.Number}}}})
	n.machine.fence("a test")
	for _, a := range n.machine.out {
		s.act(n, a)
	}
	s.run(s.now + time.Second)
	s.want("the goal is durable", n.machine.tracks[p.place.Log].promised == p.place.Number)
	s.stop(2)
	s.begin(2)
	s.run(s.now + 30*time.Second)
	s.want("fenced still, with nobody there", s.fenced(2) && n.machine.tracks[p.place.Log].goal == p.place.Number)
	s.run(s.now + time.Minute)
	s.want("what nobody has is given up, and all is emptied", n.log.stats.Adopted.Load() == 1 && s.knows(2, p))
	s.want("but the fence of the start stays", s.fenced(2))
}

// Fifty nodes, 20 ms apart, with one packet of a hundred lost: 99 of 100 purges are
// applied everywhere within 300 ms of virtual time.
func TestLatency(t *testing.T) {
	nodes, count := 50, 60
	s := newSim(t, 3, nodes)
	s.delay, s.jitter, s.streamLoss, s.gossipLoss, s.lost = 20*time.Millisecond, 0, 0.01, 0.01, 0
	s.run(4 * time.Second)
	for range count {
		s.purge(s.nodes[s.rng.IntN(nodes)])
		s.run(s.now + 40*time.Millisecond)
	}
	s.run(s.now + 3*time.Second)
	var took []time.Duration
	for _, p := range s.purges {
		last := p.at
		for _, n := range s.nodes {
			at, ok := p.there[n.name]
			if !ok {
				t.Fatalf("%s has not got %v", n.name, p.place)
			}
			last = max(last, at)
		}
		took = append(took, last-p.at)
	}
	slices.Sort(took)
	if len(took) != count {
		t.Fatalf("%d purges", len(took))
	}
	most := took[len(took)*99/100]
	t.Logf("half within %v, 99 of 100 within %v", took[len(took)/2], most)
	if most > 300*time.Millisecond {
		t.Errorf("99 of 100 purges are everywhere after %v", most)
	}
	for _, n := range s.nodes {
		if n.log.stats.Fences.Load() != 0 {
			t.Errorf("%s was fenced", n.name)
		}
	}
	half, all := s.nodes[0].machine.took.quantile(0.5), s.nodes[0].machine.took.quantile(0.99)
	t.Logf("as the first node sees it: %v, %v", half, all)
}

// One seed is one story.
func TestSimulationRepeats(t *testing.T) {
	for seed := range uint64(3) {
		a, b := simStory(t, seed), simStory(t, seed)
		if a.seq != b.seq || a.now != b.now || len(a.purges) != len(b.purges) || a.listed != b.listed {
			t.Errorf("seed %d: %d events and %d", seed, a.seq, b.seq)
		}
	}
}
