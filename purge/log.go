package purge

// log.go opens, appends to, and shortens the log.

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"edgecdn/cache"
)

// Forgetter is what applies purges: a cache.Cache.
type Forgetter interface {
	// Purge forgets what is named, at once, and returns the local order of that.
	Purge([]cache.Purge) (order uint64, err error)
	// Replay does what Purge did at that order; what was stored later stays.
	Replay(order uint64, all []cache.Purge) error
	// CountPurge tells what Purge would forget.
	CountPurge(context.Context, []cache.Purge) (cache.PurgeCount, error)
	// PurgeCount tells what the purge of that order has forgotten, while that is
	// known.
	PurgeCount(order uint64) (cache.PurgeCount, bool)
	// SweptOrder is the order up to which nothing is left to forget, durably.
	SweptOrder() uint64
}

// Config says what a Log works with.
type Config struct {
	// Dir is the log's directory, made if missing. One process uses it at a time;
	// whoever opens the log has seen to that.
	Dir string
	// Node is this node's name in receipts. Default "edge".
	Node string
}

// tuning has the bounds, which tests make small.
type tuning struct {
	fs           filesystem
	random       func([]byte) // for incarnations and IDs
	segmentBytes int64        // a segment that has reached this is followed by another
	logBytes     int64        // of all segments; from half of it on receipts leave early
	unswept      int          // entries that the sweep has not passed
	receipts     int          // kept after the sweep, at least
	receiptAge   time.Duration
	pending      int // on their way to the log
	applyWait    time.Duration
	pendingBytes int
	keys         int
	keyAge       time.Duration
	watchers     int
	events       int // that a watcher may be behind
	sweepEvery   time.Duration
}

var defaultTuning = tuning{
	fs:           osFS{},
	random:       func(b []byte) { _, _ = rand.Read(b) }, // never fails
	segmentBytes: 4 << 20,
	logBytes:     256 << 20,
	unswept:      1 << 18,
	receipts:     100_000,
	receiptAge:   7 * 24 * time.Hour,
	pending:      8192,
	applyWait:    5 * time.Second,
	pendingBytes: 32 << 20,
	keys:         100_000,
	keyAge:       24 * time.Hour,
	watchers:     64,
	events:       256,
	sweepEvery:   time.Second,
}

// frameKeptMax bounds the buffer that is kept for the next frame.
const frameKeptMax = 1 << 20

// What Purge may answer; test with errors.Is.
var (
	// ErrNotDurable: applied in memory, but a restart may undo it.
	ErrNotDurable = errors.New("purge: applied, but not written to the log: a restart may undo it; ask again when the disk takes writes")
	// ErrUnknown: whoever asked went away before the log was written. Applied, and
	// durable or not.
	ErrUnknown = errors.New("purge: applied, but not known to be in the log yet")
	// ErrBusy: too many purges are on their way to the log. Nothing was done.
	ErrBusy = errors.New("purge: too many purges wait for the disk: try again in a second")
	// ErrFull: the log is full of purges that the sweep has not passed. Nothing
	// was done.
	ErrFull = errors.New("purge: the log is full until the sweep has passed its oldest entries: try again in a few seconds")
	// ErrKeyReused: the idempotency key came with another purge. Nothing was done.
	ErrKeyReused = errors.New("purge: the idempotency key was used for another purge: take a new one")
	// ErrClosed: the node is going down. Nothing was done.
	ErrClosed = errors.New("purge: the log is closed")
)

// Log is the log of purges of this node. Its methods may be called by many
// goroutines at once, Replay and Run by one each.
type Log struct {
	cfg   Config
	t     tuning
	log   *slog.Logger
	stats Stats

	// For Open and then Run alone.
	head  *headFile
	tail  file // of the last segment, nil: the next frame begins a new one
	torn  bool // the last write or sync of the tail failed
	frame []byte
	fresh bool // it began anew with this start
	// failing is whether the last purges could not be written; it has been told.
	failing bool
	number  uint64 // of the next entry here, whoever took it first
	own     uint64 // of the last entry that was taken here first
	// dropped is the last boot in which a sweep was noted.
	dropped uint64

	wake chan struct{}
	jobs chan func() // for Run, which alone writes files
	// durable is told what has got into the log, or has not; nil: nobody is. By Run.
	durable func(batch []*pending)

	applying chan struct{} // a lock that one can stop to wait for

	mu       sync.Mutex
	apply    Forgetter // set by Replay, before others ask
	queue    []*pending
	queued   int // bytes of what is on its way, in the queue or not yet
	closed   bool
	segments []*segment
	index    []record // by number here, and so by order
	base     uint64   // the number here of index[0]
	slots    map[ID]uint64
	reached  vector                  // how far each log is known, durably
	series   map[Incarnation]*series // where the entries of each log are
	moved    map[Incarnation]uint32  // when each was last heard of, in minutes
	goals    map[Incarnation]uint64
	contact  int64
	swept    uint64 // the order that the sweep has passed, as the log has it
	last     ID     // of those made here
	keys     keys
	watchers map[chan Receipt]struct{}
}

// segment is one file of the log. Only Run changes it, under Log.mu.
type segment struct {
	header
	size int64
}

// record says where an entry is, and what became of it.
type record struct {
	id      ID
	place   Place
	order   uint64
	time    int64 // milliseconds since 1970
	segment *segment
	offset  int64
	length  int
	applied int64 // when it was applied here, in milliseconds since 1970; 0: an older edge did not say
	// Once the sweep has passed:
	swept        int64 // when, in milliseconds since 1970; 0: it has not
	memory, disk uint64
	counted      bool
}

// pending is a purge on its way to the log.
type pending struct {
	entry Entry
	code  []byte
	from  origin
	slot  uint64 // its number in this log, once it is there
	// applied is when the cache had applied it, in milliseconds since 1970.
	applied int64
	done    chan struct{} // closed when err is known
	err     error
}

// origin is where a purge comes from.
type origin uint8

const (
	fromHere   origin = iota // an operator of this node
	fromPeer                 // another node's log
	fromNobody               // this node itself, for itself alone: see adopt
)

// Incarnation names the log; the store remembers whose orders it holds, and
// forgets all where it is another's.
func (l *Log) Incarnation() Incarnation { return l.head.head.incarnation }

// Boot counts the openings of the log: local orders begin with it.
func (l *Log) Boot() uint64 { return l.head.head.boot }

// Fresh tells whether the log began anew with this start, and with it an empty store.
func (l *Log) Fresh() bool { return l.fresh }

// Dropped is the last boot in which entries stopped to be applied at starts,
// because the sweep had passed them: what was away in that boot has missed them.
// To be asked before Run.
func (l *Log) Dropped() uint64 { return l.dropped }

// Stats returns the counters.
func (l *Log) Stats() *Stats { return &l.stats }

// Replay has c apply what the log holds and the sweep has not passed, each entry
// with the order that it had. From then on Purge asks c.
func (l *Log) Replay(c Forgetter) error {
	from := 0
	for from < len(l.index) && l.index[from].swept != 0 {
		from++
	}
	var of *segment
	var text []byte
	for _, r := range l.index[from:] {
		if r.segment != of {
			var err error
			if text, err = l.readSegment(r.segment.sequence); err != nil {
				return err
			}
			of = r.segment
		}
		if r.offset+int64(r.length) > int64(len(text)) {
			return fmt.Errorf("purge: %s %w", segmentName(of.sequence), errDamaged)
		}
		e, err := decodeEntry(text[r.offset:][:r.length])
		if err != nil {
			return err
		}
		if err := c.Replay(e.Order, e.Purges); err != nil {
			return fmt.Errorf("purge: replay %s: %w", e.ID, err)
		}
		l.stats.Replayed.Add(1)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.apply = c
	return nil
}

// Run writes purges to the log and follows the sweep, until ctx ends. Purges that
// are queued then are still written; it returns when the files are closed.
func (l *Log) Run(ctx context.Context) error {
	tick := time.NewTicker(l.t.sweepEvery)
	defer tick.Stop()
	return l.run(ctx, tick.C)
}

func (l *Log) run(ctx context.Context, tick <-chan time.Time) error {
	for {
		select {
		case <-l.wake:
			l.commit()
		case <-tick:
			l.followSweep()
		case job := <-l.jobs:
			job()
		case <-ctx.Done():
			l.mu.Lock()
			l.closed = true
			l.mu.Unlock()
			l.commit()
			l.followSweep()
			return l.close()
		}
	}
}

// Close gives the files back where Run has not run.
func (l *Log) Close() error {
	l.mu.Lock()
	closed := l.closed
	l.closed = true
	l.mu.Unlock()
	if closed {
		return nil
	}
	return l.close()
}

func (l *Log) close() error {
	l.mu.Lock()
	for events := range l.watchers {
		l.drop(events)
	}
	l.mu.Unlock()
	err := l.head.file.Close()
	if l.tail != nil {
		err = errors.Join(err, l.tail.Close())
	}
	if err != nil {
		return fmt.Errorf("purge: close: %w", err)
	}
	return nil
}

// commit writes what is queued, one frame and one sync for as much as fits.
func (l *Log) commit() {
	for {
		batch := l.batch()
		if len(batch) == 0 {
			return
		}
		err := l.write(batch)
		l.tell(err)
		if err != nil {
			l.stats.NotDurable.Add(uint64(len(batch)))
			err = fmt.Errorf("%w (%w)", ErrNotDurable, err)
		}
		l.settle(batch, err)
		if l.durable != nil {
			l.durable(batch)
		}
	}
}

// tell logs when writing begins to fail, and when it works again.
func (l *Log) tell(err error) {
	switch {
	case err != nil && !l.failing:
		l.log.Error("purges are applied but not durable: the log of purges cannot be written", "err", err)
	case err == nil && l.failing:
		l.log.Info("purges are durable again", "not_durable", l.stats.NotDurable.Load())
	}
	l.failing = err != nil
}

// batch takes a frame's worth of purges off the queue.
func (l *Log) batch() []*pending {
	l.mu.Lock()
	defer l.mu.Unlock()
	n, bytes := 0, 0
	for n < len(l.queue) && (n == 0 || bytes+len(l.queue[n].code) <= EntryBytesMax) {
		bytes += len(l.queue[n].code)
		n++
	}
	batch := l.queue[:n:n]
	l.queue = l.queue[n:]
	if len(l.queue) == 0 {
		l.queue = nil
	}
	return batch
}

// settle tells those who wait, and makes the purges known where err is nil.
func (l *Log) settle(batch []*pending, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, p := range batch {
		p.err = err
		l.queued -= len(p.code)
		l.stats.Pending.Add(-1)
		l.keys.settle(p)
		if err == nil {
			l.stats.Purges.Add(1)
			l.publish(l.receipt(&l.index[p.slot-l.base], p.entry))
		}
		close(p.done)
	}
	l.gauge()
}

// write makes a batch durable and puts it into the index.
func (l *Log) write(batch []*pending) error {
	if err := l.ready(); err != nil {
		return err
	}
	at := l.segments[len(l.segments)-1]
	b := openFrame(l.frame[:0], frameEntries)
	b = binary.AppendUvarint(b, uint64(len(batch)))
	records := make([]record, len(batch))
	own := l.own
	for i, p := range batch {
		switch p.from {
		case fromHere:
			own++
			p.entry.Place = Place{l.Incarnation(), own}
		case fromNobody:
			p.entry.Place = Place{}
		}
		p.slot = l.number + uint64(i)
		stamp(p.code, &p.entry)
		b = binary.AppendUvarint(b, uint64(len(p.code)))
		records[i] = record{
			id: p.entry.ID, place: p.entry.Place, order: p.entry.Order, time: p.entry.Time.UnixMilli(),
			segment: at, offset: at.size + int64(len(b)), length: len(p.code), applied: p.applied,
		}
		b = append(b, p.code...)
	}
	for _, p := range batch {
		b = binary.LittleEndian.AppendUint64(b, uint64(p.applied))
	}
	if cap(b) <= frameKeptMax {
		l.frame = b
	}
	if err := l.append(at, b); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, r := range records {
		l.enter(r)
	}
	l.own = max(l.own, own)
	return nil
}

// enter puts an entry that is in the log into the index. Log.mu is held, or it is
// not needed yet.
func (l *Log) enter(r record) {
	l.slots[r.id] = l.number
	if r.place.Log != (Incarnation{}) {
		l.reached.of(r.place.Log).add(r.place.Number)
		s := l.series[r.place.Log]
		if s == nil {
			s = &series{}
			l.series[r.place.Log] = s
		}
		s.add(r.place.Number, l.number)
		if r.place.Log == l.Incarnation() {
			l.own = max(l.own, r.place.Number)
		}
	}
	l.index = append(l.index, r)
	l.number++
}

// append writes a frame behind the others and syncs it. After an error nothing
// counts as written: the next frame begins a new segment, whose header makes what
// is left here void.
func (l *Log) append(at *segment, frame []byte) error {
	closeFrame(frame, l.Incarnation(), at.size)
	_, err := l.tail.WriteAt(frame, at.size)
	if err != nil {
		err = fmt.Errorf("write %s: %w", segmentName(at.sequence), err)
	} else if err = l.tail.Sync(); err != nil {
		err = fmt.Errorf("sync %s: %w", segmentName(at.sequence), err)
	}
	if err != nil {
		l.stats.Errors.Add(1)
		l.torn = true
		_ = l.tail.Truncate(at.size) // only to spare the room
		return err
	}
	l.stats.Syncs.Add(1)
	l.mu.Lock()
	defer l.mu.Unlock()
	at.size += int64(len(frame))
	l.stats.Bytes.Add(int64(len(frame)))
	return nil
}

// ready sees to it that there is a tail to append to.
func (l *Log) ready() error {
	if l.tail != nil && !l.torn && l.segments[len(l.segments)-1].size < l.t.segmentBytes {
		return nil
	}
	if err := l.rotate(); err != nil {
		l.stats.Errors.Add(1)
		return err
	}
	return nil
}

// rotate begins a new segment. It is durable, name and all, and the head knows
// it, before it gets a frame.
func (l *Log) rotate() error {
	next := l.nextHead()
	next.last++
	h := header{l.Incarnation(), next.last, l.number}
	f, err := l.t.fs.create(segmentPath(l.cfg.Dir, next.last))
	if err != nil {
		return fmt.Errorf("create %s: %w", segmentName(next.last), err)
	}
	if _, err = f.WriteAt(h.encode(), 0); err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = l.t.fs.syncDir(l.cfg.Dir)
	}
	if err != nil {
		err = fmt.Errorf("begin %s: %w", segmentName(next.last), err)
	} else {
		err = l.head.write(next)
	}
	if err != nil {
		// What stays of it is void without frames, and is made anew.
		return errors.Join(err, f.Close())
	}
	if l.tail != nil {
		if err := l.tail.Close(); err != nil {
			l.log.Warn("purge: close segment", "err", err) // all in it is synced
		}
	}
	l.tail, l.torn = f, false
	l.mu.Lock()
	defer l.mu.Unlock()
	l.segments = append(l.segments, &segment{h, segmentHeader})
	l.stats.Bytes.Add(segmentHeader)
	return nil
}
