package purge

// The simulation: logs, machines, caches and a network of several nodes on one
// queue of events, in virtual time, with all that can go wrong. A seed decides all;
// EDGE_TEST_SEED=N replays one.

import (
	"container/heap"
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"testing"
	"time"

	"edgecdn/cache"
)

const simURLs = 6

// simCache forgets as the cache does, with a fence. What is stored is on disk.
type simCache struct {
	order, all, fence, swept uint64
	of                       [simURLs]uint64
	disk                     *simDisk
}

type simDisk struct {
	owner   Incarnation
	objects []simObject
}

// simObject is a stored response: its order here, and when in the world its fetch began.
type simObject struct {
	url   int
	order uint64
	began int
}

func (c *simCache) raise(order uint64, all []cache.Purge) {
	for _, p := range all {
		if p.Kind == cache.PurgeEverything {
			c.all = max(c.all, order)
			continue
		}
		c.of[simURL(p)] = max(c.of[simURL(p)], order)
	}
}

func simURL(p cache.Purge) (url int) { _, _ = fmt.Sscanf(p.Name, "/%d", &url); return url }

func (c *simCache) Purge(all []cache.Purge) (uint64, error) {
	c.order++
	c.raise(c.order, all)
	return c.order, nil
}

func (c *simCache) Replay(order uint64, all []cache.Purge) error {
	c.raise(order, all)
	return nil
}

func (c *simCache) CountPurge(context.Context, []cache.Purge) (n cache.PurgeCount, err error) {
	return n, nil
}
func (c *simCache) PurgeCount(uint64) (n cache.PurgeCount, ok bool) { return n, false }
func (c *simCache) SweptOrder() uint64                              { return c.swept }

func (c *simCache) live(o simObject) bool { return o.order >= max(c.all, c.of[o.url]) }

func (c *simCache) sweep() {
	kept := c.disk.objects[:0]
	for _, o := range c.disk.objects {
		if c.live(o) {
			kept = append(kept, o)
		}
	}
	c.disk.objects, c.swept = kept, c.order
}

// simNode is one node.
type simNode struct {
	name      string
	up        bool
	life      int // counts the starts: what was queued for an earlier one is void
	fsys      *memFS
	disk      *simDisk
	log       *Log
	cache     *simCache
	machine   *machine
	skew      time.Duration // of its clock
	reachable map[string]bool
	batch     []*pending
	said      map[Incarnation]uint64 // of itself: that it has applied so much
	swore     map[Incarnation]uint64 // that it serves nothing older than this
	forgot    map[Incarnation]uint64 // logs, and how far they were known
	lastSaid  *byte
	busy      time.Duration // until when its head is being written
}

type simEvent struct {
	at  time.Duration
	seq int
	do  func()
}

type simQueue []simEvent

func (q simQueue) Len() int { return len(q) }
func (q simQueue) Less(i, j int) bool {
	return q[i].at < q[j].at || q[i].at == q[j].at && q[i].seq < q[j].seq
}
func (q simQueue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *simQueue) Push(x any)   { *q = append(*q, x.(simEvent)) }
func (q *simQueue) Pop() any {
	old := *q
	e := old[len(old)-1]
	*q = old[:len(old)-1]
	return e
}

// simPurge is a purge that was acknowledged.
type simPurge struct {
	place Place
	url   int
	made  int // when in the world
	at    time.Duration
	there map[string]time.Duration // when it was applied where
}

type sim struct {
	t      testing.TB
	rng    *rand.Rand
	now    time.Duration
	seq    int
	world  int // counts what happens to content
	queue  simQueue
	nodes  []*simNode
	byName map[string]*simNode
	side   map[string]int  // of a partition
	epochs map[string]int  // of streams
	wanted map[string]bool // streams that are up, or will be when it is noticed
	last   map[string]time.Duration
	purges []*simPurge
	placed map[Place]*simPurge
	claims map[string]*[simURLs]int
	// the way
	delay, jitter      time.Duration
	streamLoss, lost   float64 // a lost segment is sent again; a full queue loses for good
	gossipLoss         float64
	tick               time.Duration
	days               time.Duration // that have passed for all clocks, and for nothing else
	long, passing      bool          // days pass in this story; they do now
	pace               pace
	alone              bool
	failed             string
	fences, adopted    uint64
	forgotten          int
	listed, everywhere int
}

var simEpoch = time.Unix(1_800_000_000, 0)

func newSim(t testing.TB, seed uint64, nodes int) *sim {
	s := &sim{t: t, rng: rand.New(rand.NewPCG(seed, 9)), byName: map[string]*simNode{}, side: map[string]int{}, epochs: map[string]int{}, wanted: map[string]bool{}, last: map[string]time.Duration{},
		placed: map[Place]*simPurge{}, claims: map[string]*[simURLs]int{}, delay: 5 * time.Millisecond, jitter: 30 * time.Millisecond,
		streamLoss: 0.01, lost: 0.01, gossipLoss: 0.1, tick: 100 * time.Millisecond, pace: defaultPace}
	s.pace.hush, s.pace.spoken = 24*24*time.Hour, 2500*time.Millisecond // days pass two in a second
	for i := range nodes {
		n := &simNode{name: fmt.Sprintf("n%02d", i), fsys: newMemFS(s.rng.Uint64()), disk: &simDisk{}, reachable: map[string]bool{}, said: map[Incarnation]uint64{}, swore: map[Incarnation]uint64{}, forgot: map[Incarnation]uint64{}}
		s.nodes, s.byName[n.name], s.claims[n.name] = append(s.nodes, n), n, &[simURLs]int{}
	}
	for _, n := range s.nodes {
		s.start(n)
	}
	return s
}

func (s *sim) after(d time.Duration, do func()) {
	s.seq++
	heap.Push(&s.queue, simEvent{s.now + d, s.seq, do})
}

// run takes events until the time is reached.
func (s *sim) run(until time.Duration) {
	for len(s.queue) > 0 && s.queue[0].at <= until && s.failed == "" {
		e := heap.Pop(&s.queue).(simEvent)
		s.now = e.at
		e.do()
	}
	s.now = until
}

// later does something unless the node has died meanwhile.
func (s *sim) later(n *simNode, d time.Duration, do func()) {
	life := n.life
	s.after(d, func() {
		if n.up && n.life == life {
			do()
		}
	})
}

func (s *sim) start(n *simNode) {
	tune := smallTuning(n.fsys)
	tune.random = func(b []byte) {
		for i := range b {
			b[i] = byte(s.rng.Uint32())
		}
	}
	l, err := open(Config{Dir: testDir, Node: n.name}, slog.New(slog.NewTextHandler(io.Discard, nil)), tune)
	if err != nil {
		s.failed = fmt.Sprintf("%s does not start: %v", n.name, err)
		return
	}
	if n.disk.owner != l.Incarnation() {
		n.disk.owner, n.disk.objects = l.Incarnation(), nil
		n.said, n.swore, n.forgot = map[Incarnation]uint64{}, map[Incarnation]uint64{}, map[Incarnation]uint64{}
	}
	n.up, n.life, n.log, n.busy = true, n.life+1, l, 0
	n.cache = &simCache{order: l.Boot() << 40, disk: n.disk}
	if err := l.Replay(n.cache); err != nil {
		s.failed = err.Error()
	}
	l.durable = func(batch []*pending) { n.batch = append(n.batch, batch...) }
	n.machine = newMachine(l, s.pace, s.alone, l.Fresh(), l.Stats())
	s.remembers(n)
	n.reachable = map[string]bool{}
	s.members(n)
	var tick func()
	tick = func() {
		s.step(n, event{kind: evTick})
		s.later(n, s.tick, tick)
	}
	s.later(n, time.Duration(s.rng.Int64N(int64(s.tick))), tick)
	for _, other := range s.nodes {
		s.rewire(n, other)
	}
}

// members tells a node what membership says.
func (s *sim) members(n *simNode) {
	all := []Peer{{Name: n.name, Self: true}}
	for _, other := range s.nodes {
		if other != n {
			all = append(all, Peer{Name: other.name, Alive: n.reachable[other.name], Reachable: n.reachable[other.name]})
		}
	}
	s.step(n, event{kind: evPeers, peers: all})
}

func (s *sim) crash(n *simNode, power bool) {
	n.up, n.batch = false, nil
	n.fsys = n.fsys.restart(power)
	for _, other := range s.nodes {
		s.rewire(n, other)
	}
}

func wire(a, b *simNode) string { return min(a.name, b.name) + " " + max(a.name, b.name) }

func (s *sim) joined(a, b *simNode) bool { return a.up && b.up && s.side[a.name] == s.side[b.name] }

// rewire breaks or makes the stream of two nodes, and lets both notice in time.
func (s *sim) rewire(a, b *simNode) {
	if a == b {
		return
	}
	w := wire(a, b)
	s.epochs[w]++
	epoch, up := s.epochs[w], s.joined(a, b)
	s.wanted[w] = up
	wait := 2*time.Second + time.Duration(s.rng.Int64N(int64(time.Second)))
	if up {
		wait = time.Duration(s.rng.Int64N(int64(2 * time.Second)))
	}
	s.after(wait, func() {
		if s.epochs[w] != epoch {
			return
		}
		for _, pair := range [][2]*simNode{{a, b}, {b, a}} {
			n, other := pair[0], pair[1]
			if n.up && n.reachable[other.name] == up && up { // it never noticed: a new stream all the same
				n.reachable[other.name] = false
				s.members(n)
			}
			if n.up && n.reachable[other.name] != up {
				n.reachable[other.name] = up
				s.members(n)
			}
		}
	})
}

func (s *sim) step(n *simNode, ev event) {
	if !n.up || s.failed != "" {
		return
	}
	wall := s.wall(n).UnixMilli()
	for _, a := range n.machine.step(simEpoch.Add(s.now), wall, ev) {
		s.act(n, a)
	}
}

func (s *sim) act(n *simNode, a action) {
	switch a.kind {
	case doSend:
		s.heed(n, a.message)
		s.stream(n, s.byName[a.to], a.message)
	case doBroadcast:
		for _, msg := range encodeEntries(a.codes, 64<<10) {
			for _, other := range s.nodes {
				if other != n {
					s.stream(n, other, msg)
				}
			}
			if len(msg) <= 1024 {
				s.gossip(n, msg, 3)
			}
		}
	case doApply:
		for i := range a.entries {
			s.takeIn(n, a.entries[i], a.codes[i])
		}
	case doServe:
		for _, msg := range serve(n.log, a.place, a.offset) {
			s.stream(n, s.byName[a.to], msg)
		}
	case doFence:
		n.cache.order++
		n.cache.fence = n.cache.order
	case doUnfence:
		n.cache.fence = 0
	case doKeep:
		for _, log := range a.keep.forgotten {
			n.forgot[log] = max(n.forgot[log], n.log.far(log))
			delete(n.said, log)
			delete(n.swore, log)
			s.forgotten++
		}
		s.later(n, s.inTurn(n), func() {
			s.step(n, event{kind: evKept, keep: a.keep, ok: n.log.keep(a.keep) == nil})
		})
	case doAdopt:
		s.adopt(n, a)
	}
}

// adopt does what Log.adopt does, with time between its steps.
func (s *sim) adopt(n *simNode, a action) {
	p := n.log.everything(a.reason)
	took := n.log.takeIn(context.Background(), p) == nil
	s.later(n, s.inTurn(n), func() {
		s.commit(n)
		if !took || p.err != nil {
			s.step(n, event{kind: evAdopted, keep: a.keep})
			return
		}
		s.later(n, s.inTurn(n), func() {
			s.step(n, event{kind: evAdopted, keep: a.keep, ok: n.log.keep(a.keep) == nil})
		})
	})
}

// wall is a node's clock.
func (s *sim) wall(n *simNode) time.Time { return simEpoch.Add(s.now + n.skew + s.days) }

// far is how far a log is known, durably.
func (l *Log) far(log Incarnation) uint64 {
	if r := l.reached[log]; r != nil {
		return r.number
	}
	return 0
}

// heed holds a node to what it says of itself: it counts nothing that is not durable,
// and (see remembers) knows it after a start.
func (s *sim) heed(n *simNode, message []byte) {
	if n.lastSaid == &message[0] {
		return // to another peer
	}
	n.lastSaid = &message[0]
	m, err := decodeMessage(message)
	if err != nil {
		s.failed = err.Error()
	}
	for _, l := range m.position.logs {
		n.said[l.log] = max(n.said[l.log], l.number)
		if m.position.fenced {
			n.swore[l.log] = max(n.swore[l.log], l.goal)
		}
		if durable := n.log.far(l.log); l.number > durable {
			s.failed = fmt.Sprintf("%v: %s says that it has applied %d of %s, of which %d are durable", s.now, n.name, l.number, l.log, durable)
		}
	}
}

// remembers holds a node that has started to what it has said before.
func (s *sim) remembers(n *simNode) {
	for log, number := range n.said {
		if t := n.machine.tracks[log]; number > 0 && (t == nil || t.number < number) {
			s.failed = fmt.Sprintf("%v: %s has said that it has applied %d of %s, and does not know after a start: %+v", s.now, n.name, number, log, t)
		}
	}
	for log, goal := range n.swore {
		if t := n.machine.tracks[log]; goal > 0 && (t == nil || max(t.number, t.goal) < goal) {
			s.failed = fmt.Sprintf("%v: %s has said that it is fenced up to %d of %s, and is not after a start: %+v", s.now, n.name, goal, log, t)
		}
	}
}

func (s *sim) takeIn(n *simNode, e Entry, code []byte) {
	if err := n.log.receive(context.Background(), e, append([]byte(nil), code...)); err != nil {
		s.step(n, event{kind: evFailed, places: []Place{e.Place}})
		return
	}
	if p := s.placed[e.Place]; p != nil && p.there[n.name] == 0 {
		p.there[n.name] = s.now
	}
	s.later(n, s.sync(), func() { s.commit(n) })
}

// sync is how long a disk takes; now and then it stands still.
func (s *sim) sync() time.Duration {
	if s.rng.IntN(50) == 0 && s.lost > 0 {
		return time.Duration(s.rng.IntN(1000)) * time.Millisecond
	}
	return time.Duration(1+s.rng.IntN(5)) * time.Millisecond
}

// inTurn is when what is asked for now, one after the other, is on the disk.
func (s *sim) inTurn(n *simNode) time.Duration {
	n.busy = max(n.busy, s.now) + s.sync()
	return n.busy - s.now
}

// commit writes what is queued, and tells.
func (s *sim) commit(n *simNode) {
	n.log.commit()
	batch := n.batch
	n.batch = nil
	for _, ev := range eventsOf(batch) {
		s.step(n, ev)
	}
}

// stream sends in order; what is lost on the way is sent again after a while, and
// holds up what follows.
func (s *sim) stream(from, to *simNode, msg []byte) {
	w := wire(from, to)
	if !from.reachable[to.name] || s.rng.Float64() < s.lost {
		return
	}
	d := s.delay + time.Duration(s.rng.Int64N(int64(s.jitter)+1))
	for wait := 200 * time.Millisecond; s.rng.Float64() < s.streamLoss; wait *= 2 {
		d += wait
	}
	at := max(s.now+d, s.last[from.name+">"+to.name])
	s.last[from.name+">"+to.name] = at
	epoch := s.epochs[w]
	s.after(at-s.now, func() {
		if s.epochs[w] == epoch {
			s.receive(to, from, msg)
		}
	})
}

// gossip tells some, who tell others if it is new to them; packets are lost and late.
func (s *sim) gossip(from *simNode, msg []byte, fanout int) {
	for range fanout {
		to := s.nodes[s.rng.IntN(len(s.nodes))]
		if to == from || !s.joined(from, to) || s.rng.Float64() < s.gossipLoss {
			continue
		}
		s.after(s.delay+time.Duration(s.rng.Int64N(int64(200*time.Millisecond))), func() {
			if to.up && s.side[from.name] == s.side[to.name] && s.receive(to, from, msg) {
				s.gossip(to, msg, fanout)
			}
		})
	}
}

func (s *sim) receive(to, from *simNode, msg []byte) (isNew bool) {
	m, err := decodeMessage(msg)
	if err != nil {
		s.failed = err.Error()
		return false
	}
	for _, e := range m.entries {
		isNew = isNew || to.up && !to.machine.has(e.Place)
	}
	s.step(to, event{kind: evMessage, from: from.name, message: m})
	return isNew
}

// purge makes a purge on a node; it counts when it is durable.
func (s *sim) purge(n *simNode) {
	url := s.rng.IntN(simURLs)
	p := &pending{done: make(chan struct{})}
	p.entry = Entry{Time: time.UnixMilli(s.wall(n).UnixMilli()).UTC(), Actor: "sim", Purges: []cache.Purge{{Kind: cache.PurgeURL, Scheme: "http", Host: "a.test", Name: fmt.Sprintf("/%d", url)}}}
	p.code = appendEntry(nil, &p.entry)
	s.world++
	made := s.world
	if n.log.takeIn(context.Background(), p) != nil {
		return
	}
	began := s.now
	s.later(n, s.sync(), func() {
		s.commitOwn(n, p, url, made, began)
	})
}

func (s *sim) commitOwn(n *simNode, p *pending, url, made int, began time.Duration) {
	n.log.commit()
	select {
	case <-p.done:
	default:
		return
	}
	if p.err != nil {
		return
	}
	known := &simPurge{place: p.entry.Place, url: url, made: made, at: began, there: map[string]time.Duration{n.name: s.now}}
	s.purges = append(s.purges, known)
	s.placed[known.place] = known
	n.said[known.place.Log] = max(n.said[known.place.Log], known.place.Number)
	s.claim(n.name, known)
	s.commit(n)
}

// fetch stores what the origin has, some time after it was asked.
func (s *sim) fetch(n *simNode) {
	url, order := s.rng.IntN(simURLs), n.cache.order
	s.world++
	o := simObject{url, order, s.world}
	s.later(n, time.Duration(s.rng.IntN(300))*time.Millisecond, func() {
		if n.cache.live(o) && o.order >= n.cache.swept {
			n.disk.objects = append(n.disk.objects, o)
		}
	})
}

func (s *sim) claim(node string, p *simPurge) {
	c := s.claims[node]
	c[p.url] = max(c[p.url], p.made)
}

// look asks a node for the receipts of the last purges, and holds all nodes to what
// was ever said of them.
func (s *sim) look(n *simNode) {
	if n.up {
		for _, p := range s.purges[max(0, len(s.purges)-30):] {
			if !n.machine.has(p.place) {
				continue
			}
			whole := true
			for _, is := range n.machine.states(p.place) {
				if is.state == Applied || is.state == Fenced {
					s.claim(is.name, p)
					s.listed++
				} else {
					whole = false
				}
			}
			if whole {
				s.everywhere++
			}
		}
	}
	for _, n := range s.nodes {
		s.hold(n, s.claims[n.name], "it was listed as applied or fenced")
	}
}

// hold fails where a node serves what was fetched before a purge that it has to know.
func (s *sim) hold(n *simNode, least *[simURLs]int, why string) {
	if !n.up {
		return
	}
	for _, o := range n.disk.objects {
		if n.cache.live(o) && o.order >= n.cache.fence && o.began < least[o.url] {
			s.failed = fmt.Sprintf("%v: %s serves /%d of %d, purged at %d: %s", s.now, n.name, o.url, o.began, least[o.url], why)
		}
	}
}
