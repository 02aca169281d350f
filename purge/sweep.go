package purge

// sweep.go follows the cache's sweep: entries that it has passed need not be
// applied again by a restart, and may leave.

import (
	"slices"
	"time"
)

// sweptPerFrame bounds a frame of the sweep's counts.
const sweptPerFrame = 10_000

// followSweep notes in the log how far the sweep is, and shortens the log.
func (l *Log) followSweep() {
	l.mu.Lock()
	apply := l.apply
	l.mu.Unlock()
	if apply == nil {
		return
	}
	order := apply.SweptOrder()
	for {
		from, passed := l.passed(order)
		if len(passed) == 0 {
			break
		}
		all := make([]counts, len(passed))
		for i, r := range passed {
			n, ok := apply.PurgeCount(r.order)
			passed[i].memory, passed[i].disk, passed[i].counted = uint64(n.Memory), uint64(n.Disk), ok && n.Counted
			all[i] = counts{l.base + uint64(from+i), passed[i].memory, passed[i].disk, passed[i].counted}
		}
		at := time.Now().UnixMilli()
		if err := l.note(passed[len(passed)-1].order, at, all); err != nil {
			l.log.Error("purge: note the sweep", "err", err) // it is noted later
			break
		}
		l.markSwept(from, at, passed)
	}
	if err := l.shorten(); err != nil {
		l.log.Error("purge: shorten the log", "err", err)
	}
}

// passed returns the next entries that the sweep has passed and that are not
// noted yet, and where in the index they begin.
func (l *Log) passed(order uint64) (from int, passed []record) {
	l.mu.Lock()
	defer l.mu.Unlock()
	from, _ = slices.BinarySearchFunc(l.index, l.swept+1, byOrder)
	to, _ := slices.BinarySearchFunc(l.index, order+1, byOrder)
	to = min(to, from+sweptPerFrame)
	if from >= to {
		return from, nil
	}
	return from, slices.Clone(l.index[from:to])
}

func byOrder(r record, order uint64) int {
	switch {
	case r.order < order:
		return -1
	case r.order > order:
		return 1
	}
	return 0
}

// note writes a frame about the sweep.
func (l *Log) note(order uint64, at int64, all []counts) error {
	if err := l.ready(); err != nil {
		return err
	}
	n := note{order, l.Boot(), at, all}
	l.frame = appendNote(openFrame(l.frame[:0], frameSwept), &n)
	if err := l.append(l.segments[len(l.segments)-1], l.frame); err != nil {
		return err
	}
	l.dropped = n.boot
	return nil
}

// markSwept puts the counts into the index and tells watchers.
func (l *Log) markSwept(from int, at int64, passed []record) {
	l.mu.Lock()
	for i := range passed {
		r := &l.index[from+i]
		r.swept, r.memory, r.disk, r.counted = at, passed[i].memory, passed[i].disk, passed[i].counted
		passed[i] = *r
	}
	l.swept = passed[len(passed)-1].order
	if len(l.watchers) == 0 {
		passed = nil
	}
	l.gauge()
	l.mu.Unlock()
	// Of many at once the newest: no watcher could take them all.
	for _, r := range l.read(passed[max(0, len(passed)-l.t.events/2):]) {
		l.mu.Lock()
		l.publish(r)
		l.mu.Unlock()
	}
}

// shorten removes the oldest segments that nobody needs: the sweep has passed
// them, and there are receipts enough, or they are old, or the log is too long.
func (l *Log) shorten() error {
	for {
		s, entries := l.droppable()
		if s == nil {
			return nil
		}
		next := l.nextHead() // it knows of all that leaves
		next.first = s.sequence + 1
		if err := l.head.write(next); err != nil {
			return err
		}
		if err := l.t.fs.remove(segmentPath(l.cfg.Dir, s.sequence)); err != nil {
			l.log.Warn("purge: remove segment", "err", err) // the next start tries again
		}
		l.mu.Lock()
		l.segments = l.segments[1:]
		for i, r := range l.index[:entries] {
			l.leave(&r, l.base+uint64(i))
		}
		l.index = l.index[entries:] // append leaves behind what is before it
		l.base += uint64(entries)
		l.stats.Bytes.Add(-s.size)
		l.gauge()
		l.mu.Unlock()
	}
}

// leave takes an entry that leaves the log out of what finds it. Log.mu is held.
func (l *Log) leave(r *record, slot uint64) {
	if l.slots[r.id] == slot {
		delete(l.slots, r.id)
	}
	if s := l.series[r.place.Log]; s != nil {
		if s.drop(r.place.Number, slot); len(s.all) == 0 {
			delete(l.series, r.place.Log)
		}
	}
}

// droppable returns the first segment, if it may go, and how many entries it has.
func (l *Log) droppable() (*segment, int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.segments) < 2 {
		return nil, 0 // the last one is written to
	}
	first := l.segments[0]
	n := int(min(l.segments[1].first, l.base+uint64(len(l.index))) - l.base)
	if n == 0 {
		return first, 0
	}
	if l.index[n-1].swept == 0 {
		return nil, 0
	}
	switch old := time.Now().Add(-l.t.receiptAge).UnixMilli(); {
	case len(l.index)-n >= l.t.receipts, l.index[n-1].time < old:
	case l.stats.Bytes.Load() > l.t.logBytes/2:
		l.stats.ReceiptsEarly.Add(uint64(n))
	default:
		return nil, 0
	}
	// The head says of a log up to where all is known: entries behind a gap, which
	// closes within moments, would be known no more after a restart.
	if l.stats.Bytes.Load() < l.t.logBytes/4*3 && slices.ContainsFunc(l.index[:n], l.ahead) {
		return nil, 0
	}
	return first, n
}

// ahead tells whether an entry is behind a gap in its log. Log.mu is held.
func (l *Log) ahead(r record) bool {
	reach := l.reached[r.place.Log]
	return reach != nil && r.place.Number > reach.number
}

// gauge publishes sizes. Log.mu is held.
func (l *Log) gauge() {
	l.stats.Entries.Store(int64(len(l.index)))
	l.stats.EntriesUnswept.Store(int64(l.unswept()))
}

// unswept counts the entries that the sweep has not passed. Log.mu is held.
func (l *Log) unswept() int {
	swept, _ := slices.BinarySearchFunc(l.index, l.swept+1, byOrder)
	return len(l.index) - swept
}
