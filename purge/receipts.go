package purge

// receipts.go tells what became of purges.

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"edgecdn/cache"
)

// State is how far a purge is. On one node it only goes forward, but for Unreachable
// and Gone, from which a node comes back.
type State string

// The states of a purge: on this node Applied and Swept; on others, as far as is known
// here, all but Swept.
const (
	// Pending: the node is reached, and has not said that it has applied it.
	Pending State = "pending"
	// Fenced: the node serves nothing that was stored before, until it has applied it.
	Fenced State = "fenced"
	// Unreachable: nothing is heard of the node, which may serve what is purged.
	Unreachable State = "unreachable"
	// Gone: so is this one, and an operator has said that nobody is to wait for it.
	Gone State = "gone"

	// Applied: nothing stored before it is served any more.
	Applied State = "applied"
	// Swept: and what it named is gone from the tiers, and counted.
	Swept State = "swept"
)

// Receipt is what is known of a purge.
type Receipt struct {
	Entry Entry
	State State
	// Count is what it met on this node: exact once Counted is set.
	Count cache.PurgeCount
	// Nodes that it concerns: this one, and what Spread adds.
	Nodes []Node
	// Converged: it is in force on all nodes that it concerns, but for those that are
	// gone; ConvergedAt is the latest time that a node gives, each by its clock.
	Converged   bool
	ConvergedAt time.Time
	// Local: it is of this node alone, made by itself because it had missed purges.
	Local bool
}

// Node is how far a purge is on one node, and since when.
type Node struct {
	Name  string
	State State
	At    time.Time
}

// receipt is called with Log.mu held.
func (l *Log) receipt(r *record, e Entry) Receipt {
	node := Node{l.cfg.Node, Applied, e.Time}
	if r.applied != 0 {
		node.At = time.UnixMilli(r.applied).UTC()
	}
	var count cache.PurgeCount
	if r.swept != 0 {
		node.State, node.At = Swept, time.UnixMilli(r.swept).UTC()
		count = cache.PurgeCount{Memory: int64(r.memory), Disk: int64(r.disk), MemoryCounted: r.counted, Counted: r.counted}
	} else if l.apply != nil {
		count, _ = l.apply.PurgeCount(e.Order) // unknown: nothing to tell yet
	}
	return Receipt{Entry: e, State: node.State, Count: count, Nodes: []Node{node}}
}

// find returns where in the index the purge is. Log.mu is held.
func (l *Log) find(id ID) (int, bool) {
	slot, ok := l.slots[id]
	return int(slot - l.base), ok && slot >= l.base
}

// Receipt returns that of a purge that is in the log.
func (l *Log) Receipt(id ID) (Receipt, bool) {
	l.mu.Lock()
	i, ok := l.find(id)
	var r record
	if ok {
		r = l.index[i]
	}
	l.mu.Unlock()
	if !ok {
		return Receipt{}, false
	}
	all := l.read([]record{r})
	return slices.Grow(all, 1)[:1][0], len(all) == 1
}

// List returns up to limit receipts, the newest first, of purges that this node
// knew before the one named; the zero ID is after all, one that has left before all.
func (l *Log) List(before ID, limit int) []Receipt {
	l.mu.Lock()
	end := len(l.index)
	if before != (ID{}) {
		var ok bool
		if end, ok = l.find(before); !ok {
			end = 0
		}
	}
	wanted := slices.Clone(l.index[max(0, end-limit):end])
	l.mu.Unlock()
	slices.Reverse(wanted)
	return l.read(wanted)
}

// read makes receipts of records, from their files. It leaves out what has left
// the log meanwhile.
func (l *Log) read(records []record) []Receipt {
	var all []Receipt
	for _, r := range records {
		e, err := l.readEntry(&r)
		if err != nil {
			if !errors.Is(err, fs.ErrNotExist) {
				l.stats.Errors.Add(1)
				l.log.Error("purge: read receipt", "err", err)
			}
			continue
		}
		l.mu.Lock()
		all = append(all, l.receipt(&r, e))
		l.mu.Unlock()
	}
	return all
}

func (l *Log) readEntry(r *record) (Entry, error) {
	f, err := l.t.fs.open(segmentPath(l.cfg.Dir, r.segment.sequence))
	if err != nil {
		return Entry{}, err
	}
	code := make([]byte, r.length)
	_, err = f.ReadAt(code, r.offset)
	if err := errors.Join(err, f.Close()); err != nil {
		return Entry{}, err
	}
	e, err := decodeEntry(code)
	if err == nil && e.ID != r.id {
		err = fmt.Errorf("purge: entry of %s %w", r.id, errDamaged)
	}
	return e, err
}

// Watch returns a channel with the receipt of each purge when it is made, and
// when it is swept; of many that are swept at once only of the newest. It is closed
// when ctx ends, and when whoever reads it is too far behind.
func (l *Log) Watch(ctx context.Context) <-chan Receipt {
	events := make(chan Receipt, l.t.events)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed || len(l.watchers) >= l.t.watchers {
		l.stats.WatchersFull.Add(1)
		close(events)
		return events
	}
	if l.watchers == nil {
		l.watchers = map[chan Receipt]struct{}{}
	}
	l.watchers[events] = struct{}{}
	l.stats.Watchers.Store(int64(len(l.watchers)))
	context.AfterFunc(ctx, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.drop(events)
	})
	return events
}

// drop ends a watcher. Log.mu is held.
func (l *Log) drop(events chan Receipt) {
	if _, ok := l.watchers[events]; ok {
		delete(l.watchers, events)
		l.stats.Watchers.Store(int64(len(l.watchers)))
		close(events)
	}
}

// publish tells all watchers, and waits for none. Log.mu is held.
func (l *Log) publish(r Receipt) {
	for events := range l.watchers {
		select {
		case events <- r:
		default:
			l.stats.WatchersLost.Add(1)
			l.drop(events)
		}
	}
}
