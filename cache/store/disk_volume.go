package store

import (
	"errors"
	"io"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// volume is one directory: its index and its log of segments. This file is the
// log's head: how records are appended and written out.
type volume struct {
	dir      string
	format   format
	bytes    atomic.Int64 // budget; changes with capacity under mu
	capacity atomic.Int64 // of a new segment
	tuning   tuning
	log      *slog.Logger
	lock     io.Closer // nil while away
	index    *diskIndex
	files    openFiles
	bucket   debtBucket
	// away: the directory could not be opened yet. OpenDisk's, then Run's, then
	// Close's.
	away   bool
	stats  volumeStats
	health health

	mu       sync.Mutex // what is appended, and what that changes in the index
	open     *segment
	queue    []*segment // with bytes to write, oldest first
	unsynced []*segment // sealed and written
	backlog  int64      // bytes appended and not written
	removals []removal  // not appended yet
	closed   bool
	sequence uint64

	listMu   sync.RWMutex // which segments exist
	segments map[uint64]*segment
	order    []*segment // oldest first
	lastID   uint64
	charged  int64 // bytes of all files
	doomed   int64 // of which wait for readers to let go, or to be unlinked
	unburied []*segment

	flushNow chan struct{} // a whole batch, or a removal, is there to write
	keepNow  chan struct{} // there is work for the keeper
	syncNow  chan struct{} // a segment is complete
	drained  chan struct{} // the backlog has become shorter

	indexFullSeen int64       // the keeper's
	squeezed      atomic.Bool // there was no space for a segment within the budget
}

// tuning is what tests make smaller.
type tuning struct {
	fs           filesystem
	segmentBytes int64 // 0: from the budget
	backlogMax   int64 // bytes appended and not written, a volume
	buffersMax   int64 // bytes that open Writers hold, in all
	flushEvery   time.Duration
	retryEvery   time.Duration // after a first failed write
	filesMax     int64         // segments kept open, in all
	entryBytes   int64         // the index has room for an entry every so many bytes
}

var defaultTuning = tuning{
	fs:         osFS{},
	backlogMax: 32 << 20,
	buffersMax: 32 << 20,
	flushEvery: 250 * time.Millisecond,
	retryEvery: 250 * time.Millisecond,
	filesMax:   4096,
	entryBytes: 4096,
}

// notedMax bounds the removals that wait for a log that takes nothing.
const notedMax = 256 << 10

var errChanged = errors.New("the index has moved on")

// padding fills the last unit of a record.
var padding = [unitBytes]byte{}

// write is one record to append. The index then names it under print, with
// flags.
type write struct {
	head, body []byte
	prefix     *prefix
	print      uint64
	flags      slotWord
	// only: append nothing unless the index still holds this word's record.
	only slotWord
	// background writes may wait, so that the backlog's bound is not theirs.
	background bool
}

// put appends a record and returns its segment, pinned, and its place. It does
// no I/O and does not wait for any.
func (v *volume) put(w *write) (*segment, uint64, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if w.only != 0 {
		if now := v.index.get(w.print); now.pos() != w.only.pos() {
			return nil, 0, errChanged
		}
	} else if !v.index.hasRoom(w.print) {
		v.stats.indexFull.Add(1)
		signal(v.keepNow)
		return nil, 0, ErrFull
	}
	seg, err := v.appendRecord(w)
	if err != nil {
		return nil, 0, err
	}
	last := seg.entries[len(seg.entries)-1]
	position := positionOf(seg.id, last.unit())
	v.index.put(w.print, last.slot(seg.id)|w.flags)
	return seg, position, seg.acquire()
}

// appendRecord finds room in the open segment and appends; v.mu is held.
func (v *volume) appendRecord(w *write) (*segment, error) {
	if err := v.accepts(); err != nil {
		return nil, err
	}
	size := int64(unitsOf(len(w.head)+len(w.body))) * unitBytes
	if size+unitBytes+int64(tableBytes(1)) > v.capacity.Load() {
		return nil, ErrTooLarge
	}
	if v.backlog+size > v.tuning.backlogMax && !w.background {
		v.stats.backlogFull.Add(1)
		return nil, ErrFull
	}
	if v.open == nil || v.open.size+size+int64(tableBytes(len(v.open.entries)+1)) > v.open.charge {
		spare := int64(roomSpare)
		if w.background {
			spare = 0
		}
		if err := v.roll(spare); err != nil {
			return nil, err
		}
	}
	seg := v.open
	unit := int(seg.size / unitBytes)
	v.sequence = max(v.sequence+1, uint64(time.Now().UnixNano()))
	stamp(w.head, positionOf(seg.id, unit), v.sequence)
	w.prefix.headBytes, w.prefix.bodyBytes = len(w.head), len(w.body)
	seg.entries = append(seg.entries, makeEntry(w.print, unit, w.prefix))
	seg.noteOrder(w)
	seg.append(w.head, w.body, padding[:size-int64(len(w.head)+len(w.body))])
	v.backlog += size
	if v.backlog >= batchBytes {
		signal(v.flushNow)
	}
	return seg, nil
}

// accepts says why nothing can be appended now; v.mu is held.
func (v *volume) accepts() error {
	if v.closed {
		return ErrClosed
	}
	return v.health.writable()
}

// roll seals the open segment and opens another, whose file the writer makes.
// spare is for how many more there must be room; v.mu is held.
func (v *volume) roll(spare int64) error {
	if !v.hasRoom(1 + spare) {
		v.stats.noRoom.Add(1)
		signal(v.keepNow)
		return ErrFull
	}
	if v.open != nil {
		v.backlog += v.open.seal()
	}
	v.open = newSegment(v.tuning.fs, &v.files, v.dir, v.lastID+1, v.capacity.Load())
	v.enlist(v.open)
	v.queue = append(v.queue, v.open)
	v.backlog += v.open.size
	signal(v.flushNow)
	signal(v.keepNow)
	return nil
}

// remove forgets what print names and notes it for the log.
func (v *volume) remove(print uint64) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if word := v.index.remove(print); word != 0 {
		v.noteRemoval(print, word)
	}
}

// removeAt is remove if print names the record of word.
func (v *volume) removeAt(print uint64, word slotWord) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	if !v.index.removeAt(print, word.pos()) {
		return false
	}
	v.noteRemoval(print, word)
	return true
}

func (v *volume) noteRemoval(print uint64, word slotWord) {
	if len(v.removals) >= notedMax {
		// The log takes none now; the purge log still keeps what was purged away.
		v.stats.removalsLost.Add(1)
		return
	}
	v.listMu.RLock()
	last := v.lastID
	v.listMu.RUnlock()
	v.removals = append(v.removals, removal{print, fullPosition(last, word.pos())})
	if len(v.removals) >= removalsMax {
		v.appendRemovals()
	}
}

// appendRemovals moves noted removals into the log, as far as it takes them;
// v.mu is held.
func (v *volume) appendRemovals() {
	for len(v.removals) > 0 {
		n := min(len(v.removals), removalsMax)
		w := &write{head: encodeRemovals(v.removals[:n]), prefix: &prefix{kind: kindRemoval}, background: true}
		if _, err := v.appendRecord(w); err != nil {
			return // kept for the next time
		}
		v.removals = slices.Delete(v.removals, 0, n)
	}
	v.removals = nil
}

// fullPosition completes the position of a slot with the bits it lacks; last is
// the newest segment's id.
func fullPosition(last, pos uint64) uint64 {
	id := last - (last-pos>>unitBits)&idMask
	return id<<unitBits | uint64(unitOf(pos))
}

// segmentAt returns the segment of a position, pinned, or nil.
func (v *volume) segmentAt(pos uint64) *segment {
	v.listMu.RLock()
	seg := v.segments[pos>>unitBits&idMask]
	v.listMu.RUnlock()
	if seg == nil || seg.acquire() != nil {
		return nil
	}
	return seg
}

// flush writes out what is pending: whole batches, or all of it. It returns
// the first error, after which the same bytes are tried again.
func (v *volume) flush(all bool) error {
	if all {
		v.mu.Lock()
		v.appendRemovals()
		v.mu.Unlock()
	}
	for {
		seg, b, off := v.unwritten(all)
		if seg == nil {
			return nil
		}
		if err := v.writeOut(seg, b, off); err != nil {
			return err
		}
	}
}

func (v *volume) writeOut(seg *segment, b []byte, off int64) error {
	if condition, _ := v.health.get(); condition == broken {
		if err := v.openAgain(); err != nil {
			return err
		}
	}
	f, err := seg.forWriting()
	if err != nil {
		if isNoSpace(err) {
			v.squeezed.Store(true) // the device is smaller than the budget
			signal(v.keepNow)
		}
		return err
	}
	if _, err = f.WriteAt(b, off); err != nil {
		return err
	}
	seg.wrote(len(b))
	v.bucket.take(int64(len(b)))
	v.stats.bytesWritten.Add(int64(len(b)))
	v.health.wroteWell()
	v.mu.Lock()
	v.backlog -= int64(len(b))
	v.mu.Unlock()
	signal(v.drained)
	return nil
}

// unwritten returns the next bytes to write, and takes segments that are
// sealed and written off the queue.
func (v *volume) unwritten(all bool) (*segment, []byte, int64) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for len(v.queue) > 0 {
		seg := v.queue[0]
		if b, off := seg.unwritten(all); len(b) > 0 {
			return seg, b, off
		}
		if !seg.sealed {
			return nil, nil, 0
		}
		seg.entries = nil
		v.recharge(seg, seg.size)
		v.queue = slices.Delete(v.queue, 0, 1)
		v.unsynced = append(v.unsynced, seg)
		signal(v.syncNow)
	}
	return nil, nil, 0
}

// abandon gives up a segment that the device will not take: what is not
// written is removed, and the next segment is tried. The writer calls it.
func (v *volume) abandon() {
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.queue) == 0 {
		return
	}
	seg := v.queue[0]
	v.queue = slices.Delete(v.queue, 0, 1)
	written := seg.written.Load()
	for _, e := range seg.entries {
		if int64(e.unit()+e.units())*unitBytes > written {
			v.forgetLost(seg, e)
		}
	}
	seg.entries = nil
	if seg == v.open {
		v.open = nil
	}
	v.backlog -= seg.lose()
	v.recharge(seg, written)
	v.stats.segmentsLost.Add(1)
	if written == 0 {
		v.drop(seg)
	}
}

// forgetLost removes a record that will not be written. The log must remember
// that: an older record of the same key may be whole.
func (v *volume) forgetLost(seg *segment, e tableEntry) {
	if e.kind() != kindRemoval {
		position := positionOf(seg.id, e.unit())
		if v.index.removeAt(e.print, position&positionMax) {
			v.noteRemoval(e.print, slotWord(position&positionMax))
		}
		return
	}
	b := make([]byte, e.units()*unitBytes)
	if _, err := seg.ReadAt(b, int64(e.unit())*unitBytes); err != nil {
		v.stats.removalsLost.Add(1)
		return
	}
	p, rest, err := decodeHead(b, positionOf(seg.id, e.unit()))
	if err == nil {
		var gone []removal
		if gone, err = decodeRemovals(p, rest); err == nil {
			v.removals = append(v.removals, gone...)
			return
		}
	}
	v.stats.removalsLost.Add(1)
}

// recharge corrects what a segment counts for.
func (v *volume) recharge(seg *segment, bytes int64) {
	v.listMu.Lock()
	v.charged += bytes - seg.charge
	seg.charge = bytes
	v.listMu.Unlock()
}

// enlist adds a segment to those that exist.
func (v *volume) enlist(seg *segment) {
	v.listMu.Lock()
	defer v.listMu.Unlock()
	v.segments[seg.id&idMask] = seg
	v.order = append(v.order, seg)
	v.lastID = max(v.lastID, seg.id)
	v.charged += seg.charge
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
