package purge

// places.go is what the log knows of other nodes' logs: their entries, which it
// takes in beside its own, and how far it has them.

import (
	"context"
	"errors"
	"fmt"
	"time"

	"edgecdn/cache"
)

// forget makes the log one that knows nothing.
func (l *Log) forget() {
	l.slots, l.reached, l.series = map[ID]uint64{}, vector{}, map[Incarnation]*series{}
	l.moved, l.goals, l.own, l.contact = map[Incarnation]uint32{}, map[Incarnation]uint64{}, 0, 0
}

// recall takes what the head says; the segments may know more.
func (l *Log) recall(h *head) {
	l.contact = h.contact
	for _, m := range h.marks {
		l.reached.of(m.log).raise(m.number)
		l.moved[m.log], l.goals[m.log] = m.moved, m.goal
	}
	if r := l.reached[h.incarnation]; r != nil {
		l.own = r.number
	}
}

// nextHead is the head with all that the log says now.
func (l *Log) nextHead() head {
	next := l.head.head
	next.number, next.dropped = l.number, l.dropped
	l.mu.Lock()
	defer l.mu.Unlock()
	next.contact, next.marks = l.contact, nil
	for log, r := range l.reached {
		if len(next.marks) < logsMax {
			next.marks = append(next.marks, mark{log, r.number, l.goals[log], l.moved[log]})
		}
	}
	sortMarks(next.marks)
	return next
}

// do has Run do something and returns when it is done.
func (l *Log) do(ctx context.Context, job func() error) error {
	done := make(chan error, 1)
	select {
	case l.jobs <- func() { done <- job() }:
		return <-done
	case <-ctx.Done():
		return ctx.Err()
	}
}

// keep makes what is to be known of other logs durable. By Run.
func (l *Log) keep(k keeping) error {
	l.mu.Lock()
	if k.contact != 0 {
		l.contact = k.contact
	}
	for log, goal := range k.goals {
		l.goals[log] = goal
		l.reached.of(log) // the head speaks of no other
	}
	for log, moved := range k.moved {
		l.moved[log] = moved
	}
	for log, number := range k.known {
		l.reached.of(log).raise(number)
		if log == l.Incarnation() {
			l.own = max(l.own, number)
		}
	}
	for _, log := range k.forgotten {
		delete(l.reached, log)
		delete(l.goals, log)
		delete(l.moved, log)
	}
	l.mu.Unlock()
	if err := l.head.write(l.nextHead()); err != nil {
		l.stats.Errors.Add(1)
		return err
	}
	return nil
}

// keeping is what the head is to say.
type keeping struct {
	contact   int64
	goals     map[Incarnation]uint64
	known     map[Incarnation]uint64 // all up to these are taken for known
	moved     map[Incarnation]uint32
	forgotten []Incarnation
}

// receive applies an entry of another log at once and queues it to be written. What
// becomes of it the durable hook is told, but not where there is an error.
func (l *Log) receive(ctx context.Context, e Entry, code []byte) error {
	return l.takeIn(ctx, &pending{entry: e, code: code, from: fromPeer, done: make(chan struct{})})
}

func (l *Log) takeIn(ctx context.Context, p *pending) error {
	if _, err := l.take(ctx, p); err != nil {
		return err
	}
	select {
	case l.wake <- struct{}{}:
	default:
	}
	return nil
}

// everything is the entry that forgets all that is stored here, and here alone.
func (l *Log) everything(reason string) *pending {
	p := &pending{from: fromNobody, done: make(chan struct{})}
	p.entry = Entry{Time: time.Now().Truncate(time.Millisecond).UTC(), Actor: "edge", Reason: reason, Purges: []cache.Purge{{Kind: cache.PurgeEverything}}}
	p.code = appendEntry(nil, &p.entry)
	return p
}

// Forget forgets all that is stored on this node, and on no other, and returns when
// that is durable.
func (l *Log) Forget(ctx context.Context, reason string) error {
	p := l.everything(reason)
	if err := l.takeIn(ctx, p); err != nil {
		return err
	}
	_, err := l.wait(ctx, p)
	return err
}

// adopt forgets all that is stored here, and takes logs for known up to the given
// numbers: what was missed of them cannot be had.
func (l *Log) adopt(ctx context.Context, k keeping, reason string) error {
	p := l.everything(reason)
	if err := l.takeIn(ctx, p); err != nil {
		return err
	}
	select {
	case <-p.done:
	case <-ctx.Done():
		return ctx.Err()
	}
	if p.err != nil {
		return p.err
	}
	return l.do(ctx, func() error { return l.keep(k) })
}

// floor returns the number from which on the log has all entries of another that it
// knows.
func (l *Log) floor(log Incarnation) uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	r, s := l.reached[log], l.series[log]
	switch {
	case r == nil:
		return 0
	case s == nil || r.number == 0:
		return r.number
	}
	return s.floor(r.number)
}

// entriesAfter returns entries of a log behind a number, without gaps, as many as
// fit and at least one.
func (l *Log) entriesAfter(log Incarnation, number uint64, bytesMax int) ([][]byte, error) {
	l.mu.Lock()
	var wanted []record
	if s := l.series[log]; s != nil {
		at, _ := s.search(number + 1)
		for size := 0; at < len(s.all) && s.all[at].number == number+1; at++ {
			r := l.index[s.all[at].slot-l.base]
			if size += r.length; len(wanted) > 0 && size > bytesMax {
				break
			}
			wanted = append(wanted, r)
			number++
		}
	}
	l.mu.Unlock()
	var codes [][]byte
	var of *segment
	var open file
	var err error
	for i := range wanted {
		r := &wanted[i]
		if r.segment != of {
			if open != nil {
				if err := open.Close(); err != nil {
					return codes, fmt.Errorf("purge: read entries: %w", err)
				}
			}
			if open, err = l.t.fs.open(segmentPath(l.cfg.Dir, r.segment.sequence)); err != nil {
				return codes, fmt.Errorf("purge: read entries: %w", err)
			}
			of = r.segment
		}
		code := make([]byte, r.length)
		if _, err := open.ReadAt(code, r.offset); err != nil {
			return codes, errors.Join(fmt.Errorf("purge: read entries: %w", err), open.Close())
		}
		codes = append(codes, code)
	}
	if open != nil {
		err = errors.Join(err, open.Close())
	}
	return codes, err
}
