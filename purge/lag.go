package purge

// lag.go tells how far nodes are behind with purges: for how long one has missed a
// purge that this node has. Who knows that it misses some is fenced after moments;
// what is looked for here is the node that serves and does not know, or does not
// get on.

import "time"

// lag is what a node was first seen to miss of a log, and since when.
type lag struct {
	number uint64 // 0: nothing
	since  time.Time
}

// note takes how far the node is, where ours is.
func (l *lag) note(number, ours uint64, now time.Time) {
	switch {
	case number >= ours:
		*l = lag{}
	case l.number == 0 || number >= l.number: // it has got on: what it misses now is newer
		*l = lag{ours, now}
	}
}

// lags notes how far each peer is behind.
func (m *machine) lags() {
	for _, p := range m.peers {
		next := map[Incarnation]lag{}
		for log, t := range m.tracks {
			// Of a log that has long stood still some nodes have forgotten how far it went.
			if t.number == 0 || m.wall-t.moved > m.pace.away.Milliseconds() {
				continue
			}
			var number uint64 // of a log that it has not heard of
			if at := p.at[log]; at != nil {
				number = at.number
			} else if !p.compared {
				continue
			}
			l := p.behind[log]
			if l.note(number, t.number, m.now); l.number != 0 {
				next[log] = l
			}
		}
		p.behind = next
	}
}

// Lags returns for how long nodes, this one too, have missed a purge, as far as this
// one knows. Those that miss none are left out.
func (s *Spread) Lags() map[string]time.Duration {
	all := map[string]time.Duration{}
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.machine.peers {
		for _, l := range p.behind {
			all[p.Name] = max(all[p.Name], now.Sub(l.since))
		}
	}
	for _, t := range s.machine.tracks {
		if t.due > t.number {
			all[s.log.cfg.Node] = max(all[s.log.cfg.Node], now.Sub(t.dueAt))
		}
	}
	return all
}
