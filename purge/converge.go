package purge

// converge.go tells what became of a purge on all nodes.

import (
	"context"
	"errors"
	"time"

	"edgecdn/cache"
)

// ErrUnheard says that there is no such purge, or it has left the log.
var ErrUnheard = errors.New("purge: no such purge is known")

// Receipt returns that of a purge that is in the log, with all nodes.
func (s *Spread) Receipt(id ID) (Receipt, bool) {
	r, ok := s.log.Receipt(id)
	if ok {
		s.Complete(&r)
	}
	return r, ok
}

// Complete adds the other nodes to a receipt of the log.
func (s *Spread) Complete(r *Receipt) {
	place := r.Entry.Place
	if place.Log == (Incarnation{}) {
		r.Local = true
	} else if s.mesh != nil {
		s.mu.Lock()
		states := s.machine.states(place)
		s.mu.Unlock()
		for _, is := range states {
			n := Node{Name: is.name, State: is.state}
			if is.at != 0 {
				n.At = time.UnixMilli(is.at).UTC()
			}
			r.Nodes = append(r.Nodes, n)
		}
	}
	r.Converged = true
	for _, n := range r.Nodes {
		if n.State == Pending || n.State == Unreachable {
			r.Converged, r.State = false, Pending
		}
		if n.At.After(r.ConvergedAt) && n.State != Swept {
			r.ConvergedAt = n.At
		}
	}
	if !r.Converged {
		r.ConvergedAt = time.Time{}
	} else if r.ConvergedAt.IsZero() {
		r.ConvergedAt = r.Entry.Time
	}
}

// Wait returns the receipt when the purge is in force on all nodes that it concerns,
// or with ctx's error as it is then.
func (s *Spread) Wait(ctx context.Context, id ID) (Receipt, error) {
	for {
		s.mu.Lock()
		changed := s.changed
		s.mu.Unlock()
		r, ok := s.Receipt(id)
		if !ok {
			return r, ErrUnheard
		}
		if r.Converged {
			return r, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return r, ctx.Err()
		}
	}
}

// NodeCount is what a purge has met on a node.
type NodeCount struct {
	Node  string
	Count cache.PurgeCount
}

// at returns the receipt of an entry by its place.
func (l *Log) at(place Place) (Receipt, bool) {
	l.mu.Lock()
	var r record
	s := l.series[place.Log]
	ok := s != nil
	if ok {
		var i int
		if i, ok = s.search(place.Number); ok {
			r = l.index[s.all[i].slot-l.base]
		}
	}
	l.mu.Unlock()
	if !ok {
		return Receipt{}, false
	}
	all := l.read([]record{r})
	if len(all) != 1 {
		return Receipt{}, false
	}
	return all[0], true
}

// Counts asks the other nodes that can be reached what a purge has met there, and
// returns what they say within a second.
func (s *Spread) Counts(ctx context.Context, id ID) ([]NodeCount, error) {
	r, ok := s.log.Receipt(id)
	if !ok {
		return nil, ErrUnheard
	}
	place := r.Entry.Place
	if s.mesh == nil || place.Log == (Incarnation{}) {
		return nil, nil
	}
	asked := 0
	answers := make(chan NodeCount, peersMax)
	s.mu.Lock()
	s.asks[place] = append(s.asks[place], answers)
	s.mu.Unlock()
	defer s.forgetAsk(place, answers)
	for _, p := range s.mesh.Peers() {
		if !p.Self && p.Reachable && s.mesh.Send(p.Name, encodeAsk(place)) == nil {
			asked++
		}
	}
	ctx, cancel := context.WithTimeout(ctx, countsWait)
	defer cancel()
	var all []NodeCount
	for len(all) < asked {
		select {
		case n := <-answers:
			all = append(all, n)
		case <-ctx.Done():
			return all, nil
		}
	}
	return all, nil
}

func (s *Spread) forgetAsk(place Place, answers chan NodeCount) {
	s.mu.Lock()
	defer s.mu.Unlock()
	kept := s.asks[place][:0]
	for _, c := range s.asks[place] {
		if c != answers {
			kept = append(kept, c)
		}
	}
	if s.asks[place] = kept; len(kept) == 0 {
		delete(s.asks, place)
	}
}

// counted hands an answer to those who asked.
func (s *Spread) counted(from string, m *message) {
	n := NodeCount{from, cache.PurgeCount{Memory: int64(m.count.memory), Disk: int64(m.count.disk), MemoryCounted: m.count.counted, Counted: m.count.counted}}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, answers := range s.asks[m.place] {
		select {
		case answers <- n:
		default:
		}
	}
}
