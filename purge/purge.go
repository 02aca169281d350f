package purge

// purge.go takes purges in: what they may name, and their way to the log.

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"edgecdn/cache"
)

// Request is a purge that is asked for. It names one kind of thing.
type Request struct {
	// URLs, absolute and as clients send them: all variants of each. At most
	// URLsMax.
	URLs []string
	// Prefixes are hosts and paths without a scheme, "www.example.com/static":
	// what has this path or one that goes on with "/", over both schemes. At most
	// PrefixesMax.
	Prefixes []string
	// Hosts, with a port where requests have one. At most HostsMax.
	Hosts []string
	// Groups of a host.
	Groups Groups
	// All is everything.
	All bool

	// Soft makes stale; else it is as if nothing had been stored.
	Soft   bool
	Actor  string // who asks; at most 256 bytes
	Reason string // for people; at most ReasonBytesMax
	// Key is the idempotency key, "" for none; those of different actors differ.
	Key string
	// Print is a hash of all the above but Actor and Key.
	Print [32]byte
}

// Groups are labels of stored responses; a label belongs to its host.
type Groups struct {
	Host  string
	Names []string // at most GroupsMax
}

// Purge forgets what r names and returns when that is durable. Errors: FieldErrors,
// ErrKeyReused, ErrBusy, ErrFull and ErrClosed, upon which nothing was done;
// ErrNotDurable; and ErrUnknown where ctx ended first.
func (l *Log) Purge(ctx context.Context, r Request) (Receipt, error) {
	all, err := resolve(&r)
	if err != nil {
		l.stats.Invalid.Add(1)
		return Receipt{}, err
	}
	p := &pending{done: make(chan struct{})}
	p.entry = Entry{Time: time.Now().Truncate(time.Millisecond).UTC(), Actor: r.Actor, Reason: r.Reason, Purges: all, Key: keyOf(r.Actor, r.Key)}
	copy(p.entry.Print[:], r.Print[:])
	p.entry.begin()
	p.code = appendEntry(nil, &p.entry)
	if len(p.code) > EntryBytesMax {
		l.stats.Invalid.Add(1)
		return Receipt{}, FieldErrors{{"", fmt.Sprintf("what is named takes %d bytes: at most %d, purge it in parts", len(p.code), EntryBytesMax)}}
	}
	earlier, err := l.take(ctx, p)
	if err != nil {
		return Receipt{}, err
	}
	if earlier != nil {
		return l.repeat(ctx, earlier, p)
	}
	select { // Run may be at work already
	case l.wake <- struct{}{}:
	default:
	}
	return l.wait(ctx, p)
}

func (l *Log) wait(ctx context.Context, p *pending) (Receipt, error) {
	select {
	case <-p.done:
	case <-ctx.Done():
		return Receipt{}, fmt.Errorf("%w: %w", ErrUnknown, ctx.Err())
	}
	if p.err != nil {
		return Receipt{}, p.err
	}
	if r, ok := l.known(p); ok {
		return r, nil
	}
	return Receipt{}, ErrNotDurable // cannot be: settle made it known
}

// known returns the receipt of a purge that has just got into the log.
func (l *Log) known(p *pending) (Receipt, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	i, ok := l.find(p.entry.ID)
	if !ok {
		return Receipt{}, false
	}
	return l.receipt(&l.index[i], p.entry), true
}

// repeat answers with the purge that the same idempotency key made before.
func (l *Log) repeat(ctx context.Context, u *use, p *pending) (Receipt, error) {
	if u.pending != nil {
		return l.wait(ctx, u.pending)
	}
	if r, ok := l.Receipt(u.id); ok {
		return r, nil
	}
	// It has left the log, so it is swept; it named the same.
	e := p.entry
	e.ID, e.Time = u.id, time.UnixMilli(u.time).UTC()
	return Receipt{Entry: e, State: Swept, Nodes: []Node{{l.cfg.Node, Swept, e.Time}}}, nil
}

// take takes a purge in, or returns the use that its idempotency key was put to
// before.
func (l *Log) take(ctx context.Context, p *pending) (earlier *use, err error) {
	if earlier, err = l.admit(p); earlier != nil || err != nil {
		return earlier, err
	}
	// One after the other, so that the log has them in the order of the cache.
	// Before they are written: who reads the answer must not find what is purged,
	// and the cache says with which order. It may wait for its sweep meanwhile.
	if err := l.lockApplying(ctx); err != nil {
		l.stats.Busy.Add(1)
		l.settle([]*pending{p}, err)
		return nil, err
	}
	order, err := l.apply.Purge(p.entry.Purges)
	l.mu.Lock()
	if err == nil && !l.closed {
		p.entry.Order, p.applied = order, time.Now().UnixMilli()
		if p.from != fromPeer {
			p.entry.ID = l.identify(p.entry.Time)
		}
		l.queue = append(l.queue, p)
	} else if err == nil {
		err = ErrNotDurable
	}
	l.mu.Unlock()
	<-l.applying
	if err == nil {
		return nil, nil
	}
	if errors.Is(err, cache.ErrPurgesFull) {
		l.stats.Full.Add(1)
		err = fmt.Errorf("%w: %w", ErrFull, err)
	}
	l.settle([]*pending{p}, err)
	return nil, err
}

// lockApplying waits for its turn, not for long: those before may each wait for the
// sweep.
func (l *Log) lockApplying(ctx context.Context) error {
	select {
	case l.applying <- struct{}{}:
		return nil
	default:
	}
	ctx, cancel := context.WithTimeout(ctx, l.t.applyWait)
	defer cancel()
	select {
	case l.applying <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ErrBusy
	}
}

// admit says whether there is room for a purge, and takes it.
func (l *Log) admit(p *pending) (earlier *use, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := p.entry.Time
	if p.entry.Key != [16]byte{} && p.from == fromHere { // what others took stands
		l.keys.expire(now, &l.t)
		if u := l.keys.uses[p.entry.Key]; u != nil {
			if u.print != p.entry.Print {
				l.stats.KeysReused.Add(1)
				return nil, ErrKeyReused
			}
			l.stats.Repeated.Add(1)
			again := *u
			return &again, nil
		}
	}
	waiting := int(l.stats.Pending.Load())
	switch {
	case l.closed || l.apply == nil:
		return nil, ErrClosed
	case waiting >= l.t.pending || l.queued+len(p.code) > l.t.pendingBytes:
		l.stats.Busy.Add(1)
		return nil, ErrBusy
	case l.unswept()+waiting >= l.t.unswept, l.stats.Bytes.Load()+int64(l.queued+len(p.code)) > l.t.logBytes:
		l.stats.Full.Add(1)
		return nil, ErrFull
	}
	l.queued += len(p.code)
	l.stats.Pending.Add(1)
	if p.entry.Key != [16]byte{} && l.keys.uses[p.entry.Key] == nil {
		l.keys.add(p.entry.Key, &use{print: p.entry.Print, pending: p}, now, &l.t, &l.stats)
	}
	return nil, nil
}

// identify makes an ID after all others of this log: the time, a count of those
// with the same time, and 62 random bits (RFC 9562 6.2, method 1). A clock that
// goes back makes it go on from the last. Log.mu is held.
func (l *Log) identify(now time.Time) ID {
	const counterBits = 12
	stamp := uint64(now.UnixMilli()) << counterBits
	last := binary.BigEndian.Uint64(l.last[:])
	stamp = max(stamp, (last>>16<<counterBits|last&(1<<counterBits-1))+1)
	var id ID
	binary.BigEndian.PutUint64(id[:], stamp>>counterBits<<16|7<<counterBits|stamp&(1<<counterBits-1))
	l.t.random(id[8:])
	id[8] = id[8]&0x3f | 0x80
	l.last = id
	return id
}

// DryRun tells what Purge would do.
func (l *Log) DryRun(ctx context.Context, r Request) (cache.PurgeCount, error) {
	all, err := resolve(&r)
	if err != nil {
		l.stats.Invalid.Add(1)
		return cache.PurgeCount{}, err
	}
	l.mu.Lock()
	apply := l.apply
	l.mu.Unlock()
	if apply == nil {
		return cache.PurgeCount{}, ErrClosed
	}
	n, err := apply.CountPurge(ctx, all)
	if err != nil {
		return n, fmt.Errorf("purge: count: %w", err)
	}
	return n, nil
}
