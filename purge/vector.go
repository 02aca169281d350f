package purge

// vector.go says how far each log of the cluster is known here.

import (
	"bytes"
	"maps"
	"slices"
	"sort"
)

const (
	// logsMax bounds the logs that are known of: those of the cluster's nodes, and of
	// nodes that were wiped or have gone.
	logsMax = 96
	// aheadMax bounds the entries of one log that are known behind a gap.
	aheadMax = 4096
)

// reach is how far one log is known: all up to number, and some after a gap.
type reach struct {
	number uint64
	ahead  map[uint64]struct{}
}

// has tells whether an entry is known.
func (r *reach) has(number uint64) bool {
	_, ok := r.ahead[number]
	return ok || number <= r.number
}

// add makes an entry known; false where there is no room behind the gap.
func (r *reach) add(number uint64) bool {
	switch {
	case r.has(number):
	case number == r.number+1:
		r.raise(number)
	case len(r.ahead) >= aheadMax:
		return false
	default:
		if r.ahead == nil {
			r.ahead = map[uint64]struct{}{}
		}
		r.ahead[number] = struct{}{}
	}
	return true
}

// raise makes all up to number known, and what follows it without a gap.
func (r *reach) raise(number uint64) {
	if number <= r.number {
		return
	}
	maps.DeleteFunc(r.ahead, func(n uint64, _ struct{}) bool { return n <= number })
	for r.number = number; len(r.ahead) > 0; r.number++ {
		if _, ok := r.ahead[r.number+1]; !ok {
			break
		}
		delete(r.ahead, r.number+1)
	}
}

// mark is what the head keeps of a log: how far it is known, how far it is known
// to go and must be known before the fence is lifted, and when it last moved.
type mark struct {
	log          Incarnation
	number, goal uint64
	moved        uint32 // minutes since 1970
}

func sortMarks(all []mark) {
	slices.SortFunc(all, func(a, b mark) int { return bytes.Compare(a.log[:], b.log[:]) })
}

// vector is how far all logs are known.
type vector map[Incarnation]*reach

// of returns how far a log is known, to be changed.
func (v vector) of(log Incarnation) *reach {
	r := v[log]
	if r == nil {
		r = &reach{}
		v[log] = r
	}
	return r
}

// series says where the entries of one log stand in ours: by their number there.
type series struct{ all []position }

type position struct{ number, slot uint64 }

func (s *series) search(number uint64) (int, bool) {
	return slices.BinarySearchFunc(s.all, number, func(p position, number uint64) int {
		switch {
		case p.number < number:
			return -1
		case p.number > number:
			return 1
		}
		return 0
	})
}

// add notes where an entry stands; of one that is there twice the first.
func (s *series) add(number, slot uint64) {
	at, found := s.search(number)
	if !found {
		s.all = slices.Insert(s.all, at, position{number, slot})
	}
}

// drop forgets an entry that has left our log.
func (s *series) drop(number, slot uint64) {
	if at, found := s.search(number); found && s.all[at].slot == slot {
		s.all = slices.Delete(s.all, at, at+1)
	}
}

// floor returns the number from which on all entries up to the given one are there.
func (s *series) floor(upTo uint64) uint64 {
	at, found := s.search(upTo)
	if !found {
		return upTo
	}
	// There are no doubles: what ends here without a gap is as long as its numbers say.
	first := sort.Search(at, func(i int) bool { return upTo-s.all[i].number == uint64(at-i) })
	return s.all[first].number - 1
}
