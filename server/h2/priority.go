package h2

// priority.go decides whose DATA goes next (RFC 9218): by urgency; within one, those
// who said that half a response is of no use to them one after the other, in the
// order of their requests, and all others a frame each in turn. Clients that say
// nothing share as well: a large response must not hold up what was asked for after it.

import "strings"

// priority of a response.
type priority struct {
	urgency    uint8 // 0 first, 7 last
	sequential bool  // not incremental
}

var defaultPriority = priority{urgency: 3}

const urgencies = 8

// parsePriority reads a Priority field or the value of a PRIORITY_UPDATE frame.
// What is not understood is ignored (RFC 9218 4).
func parsePriority(s string) priority {
	p := priority{urgency: defaultPriority.urgency, sequential: true} // RFC 9218 4.2
	for len(s) > 0 {
		var member string
		member, s, _ = strings.Cut(s, ",")
		member, _, _ = strings.Cut(strings.Trim(member, " \t"), ";")
		switch {
		case len(member) == 3 && member[:2] == "u=" && '0' <= member[2] && member[2] <= '7':
			p.urgency = member[2] - '0'
		case member == "i", member == "i=?1":
			p.sequential = false
		case member == "i=?0":
			p.sequential = true
		}
	}
	return p
}

// schedule holds the streams that have DATA and a window for it.
type schedule struct {
	// mask has a bit for each urgency that somebody has.
	mask uint8
	// turn alternates between both kinds of one urgency.
	turn   bool
	queues [urgencies][2]queue // sequential, shared
}

// queue is a list of streams; links are in them.
type queue struct{ first, last *stream }

func (q *queue) push(s *stream) {
	s.before, s.after = q.last, nil
	if q.last != nil {
		q.last.after = s
	} else {
		q.first = s
	}
	q.last = s
}

// insert keeps the order of stream identifiers.
func (q *queue) insert(s *stream) {
	at := q.last
	for at != nil && at.id > s.id {
		at = at.before
	}
	if at == q.last {
		q.push(s)
		return
	}
	s.before = at
	if at == nil {
		s.after, q.first = q.first, s
	} else {
		s.after, at.after = at.after, s
	}
	s.after.before = s
}

func (q *queue) remove(s *stream) {
	if s.before != nil {
		s.before.after = s.after
	} else {
		q.first = s.after
	}
	if s.after != nil {
		s.after.before = s.before
	} else {
		q.last = s.before
	}
	s.before, s.after = nil, nil
}

func (d *schedule) queue(s *stream) *queue {
	if s.prio.sequential {
		return &d.queues[s.prio.urgency][0]
	}
	return &d.queues[s.prio.urgency][1]
}

// add makes a stream one of those that are served. It may be one already.
func (d *schedule) add(s *stream) {
	if s.ready {
		return
	}
	s.ready = true
	d.mask |= 1 << s.prio.urgency
	if s.prio.sequential {
		d.queue(s).insert(s)
	} else {
		d.queue(s).push(s)
	}
}

func (d *schedule) remove(s *stream) {
	if !s.ready {
		return
	}
	s.ready = false
	d.queue(s).remove(s)
	if pair := &d.queues[s.prio.urgency]; pair[0].first == nil && pair[1].first == nil {
		d.mask &^= 1 << s.prio.urgency
	}
}

// next returns who sends a frame now and lets the others of its kind go before it
// the next time; nil where nobody can send.
func (d *schedule) next() *stream {
	if d.mask == 0 {
		return nil
	}
	u := 0
	for d.mask&(1<<u) == 0 {
		u++
	}
	pair := &d.queues[u]
	d.turn = !d.turn
	if s := pair[0].first; s != nil && (d.turn || pair[1].first == nil) {
		return s
	}
	s := pair[1].first
	pair[1].remove(s)
	pair[1].push(s)
	return s
}

// before says whether somebody waits who is as urgent as p or more.
func (d *schedule) before(p priority) bool { return d.mask&(1<<(p.urgency+1)-1) != 0 }
