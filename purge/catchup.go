package purge

// catchup.go gets what this node has missed, and keeps it fenced until it has. A
// node is fenced
//
//	from its start, until it has compared with every peer that it reaches, one at
//	least; not the first time, when nothing is stored, and not where it is alone
//	when it finds, at its first comparison with a peer that comes, that it is behind
//	when it is behind for longer than it takes what is on its way to arrive
//	when it was alone for longer than others remember, until it has forgotten all
//	while an operator has declared it gone
//
// and the fence is lifted when all is known that was known of then: the goals. Before
// it says that it is fenced it makes its goals durable. So a peer that hears so may
// say of a purge up to a goal that nothing older is served here: it stays true,
// whatever happens. What cannot be had any more is made good by forgetting all that
// is stored.

import (
	"fmt"
	"time"
)

// begin raises the fence of a start, when peers are seen for the first time.
func (m *machine) begin() {
	if !m.began {
		m.began = true
		for _, t := range m.tracks {
			if t.moved == 0 {
				t.moved = m.wall
			}
		}
		if !m.fresh && (!m.alone || !m.deserted()) || m.wasAway() {
			m.starting = true
			m.fence("it has not compared with the other nodes since its start")
		}
	}
	if m.goneSelf && !m.fenced {
		m.fence("an operator has declared it gone")
	}
}

// fence uses nothing more of what is stored.
func (m *machine) fence(why string) {
	if m.fenced {
		return
	}
	m.fenced, m.why, m.since, m.lastFull = true, why, m.now, time.Time{}
	m.stats.Fences.Add(1)
	m.stats.Fenced.Store(1)
	m.do(action{kind: doFence, reason: why})
	m.setGoals()
}

// setGoals makes goals of all that is missed by now, durably. What was stored since
// the fence was raised, but before now, is behind a goal that is new: the fence is
// raised again.
func (m *machine) setGoals() {
	raised := false
	keep := keeping{goals: map[Incarnation]uint64{}, moved: map[Incarnation]uint32{}, contact: m.contact}
	for log, t := range m.tracks {
		keep.moved[log] = uint32(t.moved / 60_000)
		if m.fenced && t.heard > t.goal && t.heard > t.number {
			t.goal, raised = t.heard, true
		}
		if t.goal > t.promised && t.goal > t.number {
			keep.goals[log] = t.goal
		}
	}
	if raised && !m.since.Equal(m.now) {
		m.do(action{kind: doFence, reason: m.why})
	}
	if len(keep.goals) > 0 || m.contact-m.keptContact > time.Hour.Milliseconds() || m.now.Sub(m.keptAt) > time.Hour && len(m.peers) > 0 {
		m.keptAt, m.keptContact = m.now, m.contact
		m.do(action{kind: doKeep, keep: keep})
	}
}

// compare takes the first comparison with a peer since it became reachable.
func (m *machine) compare(p *peer, behind bool) {
	if m.wasAway() {
		m.away = true
		m.fence("it was alone for longer than others remember purges")
	}
	if behind {
		m.fence(fmt.Sprintf("%s knows of purges that it has missed", p.Name))
	}
	if behind || m.away {
		m.setGoals() // also of a fence that is up already
	}
	if behind && m.fresh {
		m.adopt("it is new", func(log Incarnation, t *track) bool {
			at := p.at[log]
			return at != nil && at.has > t.number
		})
	}
	m.fresh, m.met = false, true
	m.keepContact()
}

// wasAway tells whether others may have forgotten logs since it last heard of them.
func (m *machine) wasAway() bool {
	return m.contact != 0 && m.wall-m.contact > m.pace.away.Milliseconds()
}

// deserted tells whether there is no other node that must forget what is purged.
func (m *machine) deserted() bool {
	for _, p := range m.peers {
		if p.concerns() {
			return false
		}
	}
	return true
}

// keepContact notes that it is not alone, or that there is nobody who could be
// making purges without it. What one has missed who was away is not to be had from
// those who have forgotten it, so that all is forgotten here, however little they say.
func (m *machine) keepContact() {
	if m.contact != 0 && m.ticked != 0 && m.wall-m.ticked > m.pace.away.Milliseconds() {
		m.away = true // the machine slept
		m.fence("its clock has gone on by more than others remember purges")
	}
	m.ticked = m.wall
	if m.away {
		m.adopt("it was alone for longer than others remember purges", func(Incarnation, *track) bool { return true })
		return
	}
	with := m.met && m.deserted()
	for _, p := range m.peers {
		with = with || p.Reachable && p.compared
	}
	if with {
		m.contact = m.wall
	}
}

// look asks for what is missing, and raises the fence where it is for too long.
func (m *machine) look() {
	if m.part.of.Number != 0 && m.now.Sub(m.part.at) > m.pace.again {
		m.part = assembly{}
	}
	for _, log := range m.sortedLogs() {
		t := m.tracks[log]
		if t.heard <= t.number {
			continue
		}
		late := m.now.Sub(t.dueAt)
		if t.due > t.number && late >= m.pace.grace && t.goal < t.due {
			m.fence("it has missed purges")
			m.setGoals()
		}
		if m.fenced || late >= m.pace.gap {
			m.pull(log, t)
		}
	}
}

// pull asks a peer for what comes next in a log, or finds that it cannot be had.
func (m *machine) pull(log Incarnation, t *track) {
	_, coming := t.flying[t.number+1]
	if coming || m.adopting || !t.asked.IsZero() && m.now.Sub(t.asked) < m.pace.again {
		return
	}
	var from *peer
	ahead := false
	for _, p := range m.sortedPeers() {
		at := p.at[log]
		if !p.Reachable || !p.compared || at == nil || at.has <= t.number {
			continue
		}
		ahead = true
		if at.floor > t.number {
			continue
		}
		// The log's own node first; after one that did not answer the next.
		if from == nil || p.own == log || from.Name == t.askedOf {
			if from == nil || p.Name != t.askedOf {
				from = p
			}
		}
	}
	switch {
	case from != nil:
		m.stats.Asked.Add(1)
		t.asked, t.askedOf, t.lostAt, t.aloneAt = m.now, from.Name, time.Time{}, time.Time{}
		offset := uint64(0)
		if m.part.of == (Place{log, t.number + 1}) {
			offset = uint64(len(m.part.got))
		}
		m.send(from.Name, encodeWant(Place{log, t.number}, offset))
	case ahead:
		t.aloneAt = time.Time{}
		m.giveUp(log, t, &t.lostAt, m.pace.lost, "it is behind the start of the others' logs")
	default:
		t.lostAt = time.Time{}
		m.giveUp(log, t, &t.aloneAt, m.pace.giveUp, "nobody who can be reached has what it has missed")
	}
}

// giveUp forgets all instead of what cannot be had, when that has been so for long.
func (m *machine) giveUp(_ Incarnation, t *track, since *time.Time, after time.Duration, why string) {
	if since.IsZero() {
		*since = m.now
	}
	if m.now.Sub(*since) < after {
		return
	}
	if !m.fenced { // what is not due yet may come
		if t.due > t.number {
			m.fence("it has missed purges that cannot be had")
		}
		return
	}
	m.adopt(why, func(log Incarnation, other *track) bool {
		return other == t || !other.lostAt.IsZero() && m.now.Sub(other.lostAt) >= m.pace.lost
	})
}

// adopt forgets all that is stored here, and takes what was heard of some logs for
// known.
func (m *machine) adopt(why string, which func(Incarnation, *track) bool) {
	if m.adopting {
		return
	}
	keep := keeping{known: map[Incarnation]uint64{}, moved: map[Incarnation]uint32{}, contact: m.contact}
	for log, t := range m.tracks {
		if t.number < t.heard && which(log, t) {
			keep.known[log], keep.moved[log] = t.heard, uint32(t.moved/60_000)
		}
	}
	if len(keep.known) == 0 && !m.away {
		return
	}
	m.adopting = true
	m.do(action{kind: doAdopt, keep: keep, reason: why})
}

func (m *machine) adopted(keep *keeping, ok bool) {
	m.adopting = false
	if !ok {
		return
	}
	m.stats.Adopted.Add(1)
	m.away = false
	for log, number := range keep.known {
		if t := m.tracks[log]; t != nil && t.number < number {
			moved := t.moved
			t.raise(number)
			m.progress(t)
			t.moved = moved
		}
	}
}

// compared tells whether the peers that there are have been compared with: one at
// least, or none where there is none to wait for.
func (m *machine) compared() bool {
	n, others := 0, 0
	for _, p := range m.peers {
		switch {
		case !p.concerns():
			continue
		case p.Reachable && !p.compared, !p.Reachable && p.Alive && m.now.Sub(m.since) < m.pace.settle:
			return false
		case p.Reachable:
			n++
		}
		others++
	}
	return n > 0 || others == 0 && m.alone
}

// unfence lifts the fence when nothing is missed any more.
func (m *machine) unfence() {
	if m.goneSelf || m.adopting || m.away || m.starting && !m.compared() {
		return
	}
	for _, t := range m.tracks {
		if t.number < t.goal {
			return
		}
	}
	m.fenced, m.starting, m.why, m.lastFull = false, false, "", time.Time{}
	m.stats.Fenced.Store(0)
	m.do(action{kind: doUnfence})
}

// release lifts the fence because an operator says so: what is known to be missed is
// made good by forgetting all that is stored.
func (m *machine) release() {
	m.starting = false
	m.adopt("an operator has released it before it had caught up", func(_ Incarnation, t *track) bool { return t.number < t.goal })
}

// assembly is one large entry that is got in parts.
type assembly struct {
	of    Place
	total uint64
	got   []byte
	at    time.Time
}

func (m *machine) hearPart(from string, msg *message) {
	t := m.tracks[msg.place.Log]
	if t == nil || t.askedOf != from || msg.place.Number != t.number+1 || m.has(msg.place) {
		return
	}
	if m.part.of != msg.place || m.part.total != msg.total {
		if m.part.of != (Place{}) && m.now.Sub(m.part.at) < m.pace.again && m.part.of != msg.place {
			return // one after the other
		}
		m.part = assembly{of: msg.place, total: msg.total}
	}
	if msg.offset != uint64(len(m.part.got)) {
		return
	}
	m.part.got, m.part.at, t.asked = append(m.part.got, msg.part...), m.now, time.Time{}
	if uint64(len(m.part.got)) < m.part.total {
		t.asked = m.now
		m.send(from, encodeWant(Place{msg.place.Log, t.number}, uint64(len(m.part.got))))
		return
	}
	code := m.part.got
	m.part = assembly{}
	if e, err := decodeEntry(code); err == nil && e.Place == msg.place {
		m.hearEntries(from, []Entry{e}, [][]byte{code})
	} else {
		m.stats.Damaged.Add(1)
	}
}

// kept notes what is durable now.
func (m *machine) kept(k *keeping, ok bool) {
	for _, log := range k.forgotten {
		delete(m.held, log)
	}
	for log := range k.known {
		delete(m.held, log)
	}
	if !ok {
		return
	}
	for log, goal := range k.goals {
		if t := m.tracks[log]; t != nil {
			t.promised = max(t.promised, goal)
		}
	}
	for log, number := range k.known {
		if t := m.track(log); t != nil {
			t.raise(number)
			m.progress(t)
			t.moved = int64(k.moved[log]) * 60_000
		}
	}
}

// recall takes a log for known that is not, and has not moved for so long that this
// node, which was not away, must have known and forgotten it; not one that has never
// compared with another. Of a peer whose clock is far from this one's it is not believed.
func (m *machine) recall(l *logPosition, theirs int64) bool {
	if day := (24 * time.Hour).Milliseconds(); m.contact == 0 || theirs < m.wall-day || theirs > m.wall+day {
		return false
	}
	if t := m.tracks[l.log]; t != nil && t.heard > 0 || m.held[l.log] || l.number == 0 || l.log == m.own || l.age < uint64(m.pace.hush/time.Millisecond) {
		return false
	}
	moved := m.wall - int64(min(l.age, uint64(2*m.pace.forget/time.Millisecond)))
	m.held[l.log] = true
	m.do(action{kind: doKeep, keep: keeping{known: map[Incarnation]uint64{l.log: l.number}, moved: map[Incarnation]uint32{l.log: uint32(moved / 60_000)}}})
	return true
}

// isOld tells whether a log is nobody's any more and has not moved for so long.
func (m *machine) isOld(log Incarnation, t *track, age time.Duration) bool {
	if log == m.own || t.heard > t.number || m.wall-t.moved < age.Milliseconds() {
		return false
	}
	for _, p := range m.peers {
		if p.concerns() && p.own == log {
			return false
		}
	}
	return true
}

// forgetOld forgets the logs that nobody needs.
func (m *machine) forgetOld() {
	for log, t := range m.tracks {
		if m.isOld(log, t, m.pace.forget) && m.now.Sub(t.spoken) > m.pace.spoken {
			m.forgetLog(log)
		}
	}
}

// forgetOldest makes room for one more log, where one is older.
func (m *machine) forgetOldest(than int64) bool {
	var oldest Incarnation
	for log, t := range m.tracks {
		if m.isOld(log, t, 0) && (oldest == (Incarnation{}) || t.moved < m.tracks[oldest].moved) {
			oldest = log
		}
	}
	if oldest == (Incarnation{}) || m.tracks[oldest].moved >= than {
		return false
	}
	m.stats.LogsRefused.Add(1)
	m.forgetLog(oldest)
	return true
}

func (m *machine) forgetLog(log Incarnation) {
	delete(m.tracks, log)
	m.held[log] = true
	for _, p := range m.peers {
		delete(p.at, log)
	}
	m.do(action{kind: doKeep, keep: keeping{forgotten: []Incarnation{log}}})
}
