package purge

// peers.go is what a node knows of the others, and so what receipts say.

import (
	"bytes"
	"maps"
	"slices"
	"strings"
	"time"
)

// Peer is a node of the cluster as membership sees it.
type Peer struct {
	Name string
	// Self: it is this node.
	Self bool
	// Alive: membership takes it for alive. Reachable: there is a stream to it.
	Alive, Reachable bool
	// Left: it said goodbye. Gone: an operator has declared it gone.
	Left, Gone bool
}

const (
	peersMax = 256
	stepsMax = 64
)

// peer is another node.
type peer struct {
	Peer
	compared bool // since it became reachable
	fenced   bool
	own      Incarnation
	at       map[Incarnation]*theirs
	behind   map[Incarnation]lag // see lag.go
}

// theirs is how far a peer is with one log.
type theirs struct {
	number uint64 // at the most
	// has and floor are as the peer last said: what it can give is between them.
	has, floor uint64
	// safe: nothing that was stored there before these is served any more, be it that
	// they are applied or that the peer stays fenced until they are. It never falls.
	safe   uint64
	safeAt int64
	steps  []moment // when it got how far, by its clock
}

type moment struct {
	number uint64
	at     int64 // milliseconds since 1970
}

// step notes that number was reached. Of many steps some of the older ones go: what
// is told of a purge then is when it was applied at the latest.
func (t *theirs) step(number uint64, at int64) {
	if number <= t.number {
		return
	}
	t.number = number
	if len(t.steps) >= stepsMax {
		kept := t.steps[:0]
		for i, s := range t.steps {
			if i%2 == 1 || i >= stepsMax/2 {
				kept = append(kept, s)
			}
		}
		t.steps = kept
	}
	t.steps = append(t.steps, moment{number, at})
}

// when tells when an entry was applied, at the latest.
func (t *theirs) when(number uint64) int64 {
	for _, s := range t.steps {
		if s.number >= number {
			return s.at
		}
	}
	return t.safeAt
}

// peer returns what is known of a node; nil where there are too many.
func (m *machine) peer(name string) *peer {
	p := m.peers[name]
	if p == nil && len(m.peers) < peersMax {
		p = &peer{Peer: Peer{Name: name}, at: map[Incarnation]*theirs{}}
		m.peers[name] = p
	}
	return p
}

// see takes what membership says.
func (m *machine) see(all []Peer) {
	known := map[string]bool{}
	for _, is := range all {
		if is.Self {
			m.goneSelf = is.Gone
			continue
		}
		known[is.Name] = true
		p := m.peer(is.Name)
		if p == nil {
			continue
		}
		came := is.Reachable && !p.Reachable
		p.Peer = is
		if !is.Reachable {
			p.compared = false
		}
		if came {
			p.compared = false
			m.send(p.Name, m.position(true))
		}
	}
	maps.DeleteFunc(m.peers, func(name string, _ *peer) bool { return !known[name] })
	m.begin()
}

// concerns tells whether what is purged must be forgotten there.
func (p *peer) concerns() bool { return !p.Left && !p.Gone }

// hearPosition takes what a peer says of itself.
func (m *machine) hearPosition(p *peer, msg *positionMessage) {
	if p.own != msg.own { // it was wiped: it can give nothing of before
		for _, at := range p.at {
			at.has, at.floor = 0, 0
		}
	}
	p.own, p.fenced = msg.own, msg.fenced
	first := msg.full && p.Reachable && !p.compared
	behind := false
	for _, l := range msg.logs {
		if m.recall(&l, msg.time) {
			continue
		}
		moved := m.wall - int64(min(l.age, uint64(m.pace.forget/time.Millisecond)))
		t := m.trackOf(l.log, moved)
		if t == nil {
			continue
		}
		if t.number == 0 && t.heard == 0 || l.number > t.number && moved > t.moved {
			t.moved = moved // what is adopted of it is as young as that
		}
		at := p.at[l.log]
		if at == nil {
			if len(p.at) >= 2*logsMax {
				clear(p.at)
			}
			at = &theirs{}
			p.at[l.log] = at
		}
		at.step(l.number, msg.time-int64(min(l.age, 1<<50)))
		at.has, at.floor = l.number, l.floor
		safe := l.number
		if msg.fenced {
			safe = max(safe, l.goal)
		}
		if safe > at.safe {
			at.safe, at.safeAt = safe, msg.time
		}
		t.hear(l.number, m.now)
		if msg.full {
			t.spoken = m.now
		}
		behind = behind || t.number < l.number
	}
	if first {
		p.compared = true
		m.compare(p, behind)
	}
}

// nodeState is how far a purge is on a peer, and since when by its clock.
type nodeState struct {
	name  string
	state State
	at    int64 // milliseconds since 1970; 0: not known, or not yet
}

// states tells how far a purge is on all peers that it concerns.
func (m *machine) states(place Place) []nodeState {
	var all []nodeState
	for _, p := range m.sortedPeers() {
		s := nodeState{name: p.Name, state: Pending}
		at := p.at[place.Log]
		switch {
		case at != nil && at.number >= place.Number:
			s.state, s.at = Applied, at.when(place.Number)
		case p.Left:
			continue // it catches up before it serves, when it comes back
		case p.Gone:
			s.state = Gone
		case at != nil && at.safe >= place.Number:
			s.state, s.at = Fenced, at.safeAt
		case !p.Reachable:
			s.state = Unreachable
		}
		all = append(all, s)
	}
	return all
}

// sortedPeers are the peers by name, so that a simulation's seed decides all.
func (m *machine) sortedPeers() []*peer {
	all := make([]*peer, 0, len(m.peers))
	for _, p := range m.peers {
		all = append(all, p)
	}
	slices.SortFunc(all, func(a, b *peer) int { return strings.Compare(a.Name, b.Name) })
	return all
}

func (m *machine) sortedLogs() []Incarnation {
	all := make([]Incarnation, 0, len(m.tracks))
	for log := range m.tracks {
		all = append(all, log)
	}
	slices.SortFunc(all, func(a, b Incarnation) int { return bytes.Compare(a[:], b[:]) })
	return all
}

// offered is a purge of ours that is not everywhere yet.
type offered struct {
	number uint64
	at     time.Time
}

// converge looks which of our purges are in force everywhere now.
func (m *machine) converge() {
	if len(m.offered) == 0 {
		return
	}
	least := uint64(1<<64 - 1)
	for _, p := range m.peers {
		if !p.concerns() {
			continue
		}
		if at := p.at[m.own]; at != nil {
			least = min(least, at.safe)
		} else {
			least = 0
		}
	}
	for len(m.offered) > 0 && m.offered[0].number <= least {
		m.took.add(m.now.Sub(m.offered[0].at))
		m.offered = m.offered[1:]
		m.stats.Converged.Add(1)
	}
	if len(m.offered) == 0 {
		m.offered = nil
	}
}

// durations are the newest of many, for quantiles.
type durations struct {
	all  [1024]time.Duration
	next int
	n    int
}

func (d *durations) add(v time.Duration) {
	d.all[d.next] = v
	d.next = (d.next + 1) % len(d.all)
	d.n = min(d.n+1, len(d.all))
}

// quantile returns one of 0 to 1; 0 where there is nothing.
func (d *durations) quantile(q float64) time.Duration {
	if d.n == 0 {
		return 0
	}
	sorted := slices.Clone(d.all[:d.n])
	slices.Sort(sorted)
	return sorted[min(d.n-1, int(q*float64(d.n)))]
}
