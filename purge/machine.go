package purge

// machine.go decides how purges spread. It is a state machine: step is told what
// happened and when, and says what is to be done; it has no goroutine, no clock and
// no network, so that the same code runs in Spread and in the simulation.
//
// What it goes by: every node says how far it is with each log it knows (a position),
// to each peer, every second and soon after it moved. Who sees that a peer is ahead
// waits a moment, as entries are on their way to everybody, and then asks for what
// is missing, from anybody who has it. The fence is in catchup.go, what is known of
// peers in peers.go.

import (
	"time"
)

// pace has the times and bounds of spreading, which tests change.
type pace struct {
	full     time.Duration // between full positions
	delta    time.Duration // between positions that moved, at least; more with many peers
	gap      time.Duration // what is missing for so long is asked for
	grace    time.Duration // who misses something for so long is fenced
	settle   time.Duration // a start waits so long for peers that are alive without a stream
	again    time.Duration // what was asked for is asked for again, of another
	lost     time.Duration // nobody who can be asked has it: it is not to be had
	giveUp   time.Duration // nobody can be asked
	away     time.Duration // who was alone for so long may have missed what others have forgotten
	hush     time.Duration // logs that are nobody's any more are spoken of no more, long before
	forget   time.Duration // they are forgotten
	spoken   time.Duration // but what peers speak of still is not: it would be learnt again
	inFlight int           // entries on their way into our log
	bytes    int           // of them
	waiting  int           // purges of ours that are waited for
}

var defaultPace = pace{
	full:     time.Second,
	delta:    50 * time.Millisecond,
	gap:      150 * time.Millisecond,
	grace:    2 * time.Second,
	settle:   5 * time.Second,
	again:    time.Second,
	lost:     time.Second,
	giveUp:   time.Minute,
	away:     15 * 24 * time.Hour,
	hush:     29 * 24 * time.Hour,
	forget:   30 * 24 * time.Hour,
	spoken:   10 * time.Second,
	inFlight: 8192,
	bytes:    16 << 20,
	waiting:  1 << 16,
}

type eventKind uint8

const (
	evTick    eventKind = iota
	evPeers             // peers: who there is
	evMessage           // from, message
	evOwn               // places and codes: purges of this node that are durable
	evLanded            // places: entries of others that are durable
	evFailed            // places: entries of others that could not be taken in
	evKept              // keep: it is durable, or ok is false
	evAdopted           // keep, ok
	evRelease           // an operator lifts the fence
)

type event struct {
	kind    eventKind
	from    string
	message message
	peers   []Peer
	places  []Place
	codes   [][]byte
	keep    keeping
	ok      bool
}

type actionKind uint8

const (
	doSend      actionKind = iota // message to a peer
	doBroadcast                   // codes to all
	doApply                       // entries, codes: take them in
	doServe                       // place, offset: send entries from the log to a peer
	doCount                       // place: send a peer what a purge has met
	doFence
	doUnfence
	doKeep  // keep: make it durable, then evKept
	doAdopt // keep, reason: forget all and take it for known, then evAdopted
)

type action struct {
	kind    actionKind
	to      string
	message []byte
	entries []Entry
	codes   [][]byte
	place   Place
	offset  uint64
	keep    keeping
	reason  string
}

// track is one log of the cluster.
type track struct {
	reach
	heard    uint64 // the highest number that anybody has spoken of
	due      uint64 // what was heard at dueAt and is missing still; 0: nothing
	dueAt    time.Time
	goal     uint64    // the fence stays until this is reached
	promised uint64    // of goal, what is durable
	moved    int64     // when number moved last, in milliseconds since 1970
	spoken   time.Time // when a peer last had it among all its logs
	told     uint64    // number when it was last told
	flying   map[uint64]int
	asked    time.Time
	askedOf  string
	lostAt   time.Time // since when nobody who can be asked has what is next
	aloneAt  time.Time // since when nobody can be asked
}

// machine is how this node takes part in spreading.
type machine struct {
	pace  pace
	own   Incarnation
	floor func(Incarnation) uint64 // of this node's log
	stats *Stats

	now  time.Time
	wall int64 // this node's clock, in milliseconds since 1970
	out  []action

	tracks      map[Incarnation]*track
	held        map[Incarnation]bool // logs that the disk is to forget or to know: nothing is taken of them
	peers       map[string]*peer
	flying      int // entries on their way into our log, and their bytes
	bytes       int
	contact     int64
	ticked      int64 // the clock at the last tick
	keptAt      time.Time
	keptContact int64
	lastFull    time.Time
	lastTold    time.Time
	part        assembly
	offered     []offered // purges of ours that are not everywhere yet
	took        durations

	fenced   bool
	why      string
	since    time.Time
	starting bool // the fence is that of a start
	alone    bool // nobody is configured
	began    bool // peers have been seen once
	fresh    bool // nothing is stored that was there before
	met      bool // it has compared since its start
	away     bool // it was alone for too long, and has not forgotten all yet
	goneSelf bool
	adopting bool
}

// newMachine begins with what the log says. alone: no other node is configured;
// fresh: the log is new, and with it the store empty.
func newMachine(l *Log, p pace, alone, fresh bool, stats *Stats) *machine {
	m := &machine{
		pace: p, own: l.Incarnation(), floor: l.floor, stats: stats, alone: alone, fresh: fresh,
		tracks: map[Incarnation]*track{}, held: map[Incarnation]bool{}, peers: map[string]*peer{}, contact: l.contact,
	}
	for log, r := range l.reached {
		t := &track{reach: reach{number: r.number}, heard: r.number, told: r.number, moved: int64(l.moved[log]) * 60_000}
		for n := range r.ahead {
			t.add(n)
		}
		t.goal, t.promised = l.goals[log], l.goals[log]
		t.heard = max(t.heard, t.goal)
		m.tracks[log] = t
	}
	m.track(m.own)
	return m
}

// step takes one event.
func (m *machine) step(now time.Time, wall int64, ev event) []action {
	m.now, m.wall, m.out = now, wall, nil
	switch ev.kind {
	case evPeers:
		m.see(ev.peers)
	case evMessage:
		m.hear(ev.from, &ev.message)
	case evOwn:
		m.made(ev.places, ev.codes)
	case evLanded:
		for _, p := range ev.places {
			m.land(p)
		}
	case evFailed:
		for _, p := range ev.places {
			m.fly(p, 0, false)
		}
	case evKept:
		m.kept(&ev.keep, ev.ok)
	case evAdopted:
		m.adopted(&ev.keep, ev.ok)
	case evRelease:
		m.release()
	case evTick:
		m.tick()
	}
	if m.fenced {
		m.unfence()
	}
	return m.out
}

func (m *machine) do(a action) { m.out = append(m.out, a) }

func (m *machine) send(to string, message []byte) {
	m.do(action{kind: doSend, to: to, message: message})
}

// track returns that of a log; nil where there are too many to know one more, and
// while the disk is to forget it.
func (m *machine) track(log Incarnation) *track { return m.trackOf(log, m.wall) }

func (m *machine) trackOf(log Incarnation, moved int64) *track {
	t := m.tracks[log]
	if m.held[log] {
		return nil
	}
	if t == nil {
		if len(m.tracks) >= logsMax && !m.forgetOldest(moved) {
			m.stats.LogsRefused.Add(1)
			return nil
		}
		t = &track{moved: moved}
		m.tracks[log] = t
	}
	return t
}

// has tells whether an entry is known, or on its way into our log.
func (m *machine) has(p Place) bool {
	t := m.tracks[p.Log]
	if t == nil {
		return false
	}
	_, flying := t.flying[p.Number]
	return flying || t.reach.has(p.Number)
}

// made spreads purges of this node.
func (m *machine) made(places []Place, codes [][]byte) {
	t := m.track(m.own)
	var small [][]byte
	for i, p := range places {
		t.add(p.Number)
		if len(m.offered) < m.pace.waiting {
			m.offered = append(m.offered, offered{p.Number, m.now})
		}
		if whole(codes[i]) {
			small = append(small, codes[i])
		} // others see that they miss it, and ask for its parts
	}
	t.heard, t.moved = max(t.heard, t.number), m.wall
	if len(small) > 0 {
		m.do(action{kind: doBroadcast, codes: small})
	}
}

// hear takes a message of a peer.
func (m *machine) hear(from string, msg *message) {
	p := m.peer(from)
	if p == nil {
		return
	}
	switch msg.kind {
	case sayPosition:
		m.hearPosition(p, &msg.position)
	case sayEntries:
		m.hearEntries(from, msg.entries, msg.codes)
	case sayWant:
		if t := m.tracks[msg.place.Log]; t == nil || t.number <= msg.place.Number {
			m.lack(from, msg.place.Log)
			return
		}
		m.do(action{kind: doServe, to: from, place: msg.place, offset: msg.offset})
	case sayPart:
		m.hearPart(from, msg)
	case sayAsk:
		m.do(action{kind: doCount, to: from, place: msg.place})
	}
}

// lack tells a peer that asks for more of a log than there is how far this node is with
// it: it has forgotten, and logs that are old and nobody's are not spoken of.
func (m *machine) lack(from string, log Incarnation) {
	l := logPosition{log: log, age: uint64(m.pace.forget / time.Millisecond)}
	if t := m.tracks[log]; t != nil {
		l = m.logPosition(log, t)
	}
	msg := positionMessage{own: m.own, fenced: m.fenced, time: m.wall, logs: []logPosition{l}}
	m.send(from, msg.encode())
}

// hearEntries has what is new of them taken in.
func (m *machine) hearEntries(from string, entries []Entry, codes [][]byte) {
	var a action
	for i := range entries {
		p := entries[i].Place
		t := m.track(p.Log)
		if t == nil {
			continue
		}
		if t.askedOf == from {
			t.asked = time.Time{}
		}
		t.hear(p.Number, m.now)
		switch {
		case m.has(p):
			m.stats.Known.Add(1)
			continue
		case m.flying >= m.pace.inFlight || m.bytes+len(codes[i]) > m.pace.bytes,
			len(t.ahead)+len(t.flying) >= aheadMax && p.Number != t.number+1:
			m.stats.Overflowed.Add(1) // it is asked for later
			continue
		}
		m.fly(p, len(codes[i]), true)
		a.entries, a.codes = append(a.entries, entries[i]), append(a.codes, codes[i])
	}
	if len(a.entries) > 0 {
		m.stats.Received.Add(uint64(len(a.entries)))
		a.kind = doApply
		m.do(a)
	}
}

// hear notes that somebody has spoken of an entry.
func (t *track) hear(number uint64, now time.Time) {
	t.heard = max(t.heard, number)
	if t.due <= t.number && t.heard > t.number {
		t.due, t.dueAt = t.heard, now
	}
}

// fly notes that an entry is on its way into our log, or no more.
func (m *machine) fly(p Place, bytes int, up bool) {
	t := m.tracks[p.Log]
	if t == nil {
		return
	}
	if up {
		if t.flying == nil {
			t.flying = map[uint64]int{}
		}
		t.flying[p.Number] = bytes
		m.flying, m.bytes = m.flying+1, m.bytes+bytes
	} else if bytes, ok := t.flying[p.Number]; ok {
		delete(t.flying, p.Number)
		m.flying, m.bytes = m.flying-1, m.bytes-bytes
	}
}

// land takes an entry for known: it is applied and in our log.
func (m *machine) land(p Place) {
	m.fly(p, 0, false)
	t := m.track(p.Log)
	if t == nil {
		return
	}
	before := t.number
	t.add(p.Number)
	t.hear(max(p.Number, t.number), m.now)
	if t.number > before {
		m.progress(t)
	}
}

// progress notes that a log is known further.
func (m *machine) progress(t *track) {
	t.moved, t.lostAt, t.aloneAt = m.wall, time.Time{}, time.Time{}
	t.heard = max(t.heard, t.number)
	if t.due <= t.number {
		t.due = 0
		t.hear(t.heard, m.now)
	}
}

// tick does what is due.
func (m *machine) tick() {
	m.look()
	m.keepContact()
	m.converge()
	m.forgetOld()
	if m.now.Sub(m.lastFull) >= m.pace.full {
		m.lastFull, m.lastTold = m.now, m.now
		m.setGoals()
		m.lags()
		msg := m.position(true)
		for _, p := range m.sortedPeers() {
			if p.Reachable {
				m.send(p.Name, msg)
			}
		}
		return
	}
	every := max(m.pace.delta, time.Duration(len(m.peers))*5*time.Millisecond)
	if m.now.Sub(m.lastTold) < every {
		return
	}
	m.lastTold = m.now
	if msg := m.position(false); msg != nil {
		for _, p := range m.sortedPeers() {
			if p.Reachable {
				m.send(p.Name, msg)
			}
		}
	}
}

// logPosition says how far this node is with one log.
func (m *machine) logPosition(log Incarnation, t *track) logPosition {
	l := logPosition{log: log, number: t.number, floor: min(m.floor(log), t.number), age: uint64(max(0, m.wall-t.moved))}
	if m.fenced {
		l.goal = t.promised
	}
	return l
}

// position says how far this node is: with all logs, or those that have moved since
// it last said so; nil where none has.
func (m *machine) position(full bool) []byte {
	msg := positionMessage{own: m.own, full: full, fenced: m.fenced, time: m.wall}
	for _, log := range m.sortedLogs() {
		t := m.tracks[log]
		if !full && t.number == t.told || full && m.isOld(log, t, m.pace.hush) {
			continue
		}
		t.told = t.number
		msg.logs = append(msg.logs, m.logPosition(log, t))
	}
	if !full && len(msg.logs) == 0 {
		return nil
	}
	return msg.encode()
}
