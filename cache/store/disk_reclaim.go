package store

import (
	"context"
	"errors"
	"io"
	"slices"
	"time"
)

// Reclaim: the oldest segment goes, and what was hit twice since it was written
// there goes to the head of the log again.
const (
	// takeBackMax: of a reclaimed segment, so that each reclaim wins space.
	takeBackMax = 0.9
	// doomedMax: of the budget, in segments that wait for slow readers; beyond
	// it nothing more is reclaimed.
	doomedMax = 0.25
)

// reclaimOldest takes back what was hit twice from the oldest segment and drops
// the rest. It reports whether a segment was dropped.
func (v *volume) reclaimOldest(ctx context.Context) bool {
	seg := v.oldest()
	if seg == nil {
		return false
	}
	taken := int64(0)
	entries, err := v.tableOf(seg)
	if err != nil {
		// Without its table the records are forgotten as they are asked for.
		v.log.Warn("disk: table of segment lost", "segment", segmentName(seg.id), "err", err)
	}
	for _, e := range entries {
		if e.kind() == kindRemoval {
			continue // all that it speaks of is gone by now
		}
		n, err := v.reclaimEntry(ctx, seg, e, int64(takeBackMax*float64(seg.charge))-taken)
		if err != nil && ctx.Err() != nil {
			return false
		}
		taken += n
	}
	v.stats.reclaimed.Add(1)
	v.drop(seg)
	return true
}

// oldest returns the segment to reclaim, or nil.
func (v *volume) oldest() *segment {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.listMu.RLock()
	defer v.listMu.RUnlock()
	if len(v.order) == 0 || float64(v.doomed) > doomedMax*float64(v.bytes.Load()) {
		return nil
	}
	seg := v.order[0]
	if seg == v.open || slices.Contains(v.queue, seg) {
		return nil
	}
	return seg
}

func (v *volume) tableOf(seg *segment) ([]tableEntry, error) {
	if err := seg.acquire(); err != nil {
		return nil, err
	}
	defer seg.release()
	f, err := seg.opened()
	if err != nil {
		return nil, err
	}
	size := seg.written.Load()
	entries, err := readTable(f, seg.id, size)
	if errors.Is(err, errTorn) {
		entries, _, _ = walkSegment(io.NewSectionReader(f, 0, size), seg.id, size)
		err = nil
	}
	return entries, err
}

// reclaimEntry decides about one record of a segment that goes. It returns the
// bytes that it took back.
func (v *volume) reclaimEntry(ctx context.Context, seg *segment, e tableEntry, budget int64) (int64, error) {
	word := v.index.get(e.print)
	if word == 0 {
		return 0, nil
	}
	here := word.pos() == positionOf(seg.id, e.unit())&positionMax
	if !here && word&slotElsewhere == 0 {
		return 0, nil // superseded
	}
	w, mine, err := v.takeBack(seg, e, word)
	if !mine {
		return 0, nil // its body is in another segment
	}
	size := int64(0)
	if w != nil {
		size = int64(unitsOf(len(w.head)+len(w.body))) * unitBytes
	}
	if w == nil || size > budget || v.awaitBacklog(ctx, size) != nil {
		v.index.removeAt(e.print, word.pos())
		v.stats.evicted.Add(1)
		return 0, errors.Join(err, ctx.Err())
	}
	now, _, err := v.put(w)
	if err != nil {
		if !errors.Is(err, errChanged) {
			v.index.removeAt(e.print, word.pos())
			v.stats.evicted.Add(1)
		}
		return 0, nil
	}
	now.release()
	v.stats.takenBack.Add(1)
	v.stats.takenBackBytes.Add(size)
	return size, nil
}

// awaitBacklog waits until the writer has caught up enough for size more bytes.
func (v *volume) awaitBacklog(ctx context.Context, size int64) error {
	for {
		v.mu.Lock()
		room := v.backlog == 0 || v.backlog+size <= v.tuning.backlogMax/2
		err := v.accepts()
		v.mu.Unlock()
		if room || err != nil {
			return err
		}
		signal(v.flushNow)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-v.drained:
		case <-time.After(v.tuning.flushEvery):
		}
	}
}

// takeBack makes the write that keeps a record whose segment goes. mine tells
// whether the record's body is in seg at all; the write is nil when the record
// is not worth it, too old, or damaged.
func (v *volume) takeBack(seg *segment, e tableEntry, word slotWord) (w *write, mine bool, err error) {
	if e.kind() == kindSlice || word&slotElsewhere == 0 {
		if word.hits() < 2 {
			return nil, true, nil
		}
	}
	headSeg := v.segmentAt(word.pos())
	if headSeg == nil {
		return nil, true, nil
	}
	defer headSeg.release()
	p, rest, err := v.readHead(headSeg, word)
	if err != nil {
		return nil, true, err
	}
	if p.kind == kindSlice {
		w, err = v.takeBackSlice(seg, word, p, rest)
		return w, true, err
	}
	h, err := decodeObject(p, rest)
	if err != nil {
		return nil, true, err
	}
	off := int64(unitOf(word.pos()))*unitBytes + int64(h.headBytes)
	if h.flags&flagElsewhere != 0 {
		if h.address>>addressBits != seg.id {
			return nil, headSeg == seg, nil
		}
		off = int64(h.address & (1<<addressBits - 1))
	}
	if word.hits() < 2 || h.meta.KeepUntil != 0 && h.meta.KeepUntil < time.Now().UnixNano() {
		return nil, true, nil
	}
	var body []byte
	if h.fill == 0 {
		if body, err = v.readWhole(seg, off, int(h.meta.Length), h.sums); err != nil {
			return nil, true, err
		}
	}
	h.prefix = prefix{hash: h.hash, bodyBytes: len(body)}
	h.address = 0
	head, err := encodeObject(h)
	if err != nil {
		return nil, true, err
	}
	return &write{head: head, body: body, prefix: &h.prefix, print: e.print, only: word, background: true}, true, nil
}

// takeBackSlice keeps a slice whose object is still there.
func (v *volume) takeBackSlice(seg *segment, word slotWord, p prefix, rest []byte) (*write, error) {
	h, err := decodeSlice(p, rest)
	if err != nil {
		return nil, err
	}
	if !v.hasFill(h.owner, h.fill) {
		return nil, nil
	}
	off := int64(unitOf(word.pos()))*unitBytes + int64(p.headBytes)
	body, err := v.readWhole(seg, off, p.bodyBytes, h.sums)
	if err != nil {
		return nil, err
	}
	h.prefix = prefix{bodyBytes: len(body)}
	return &write{
		head: encodeSlice(h), body: body, prefix: &h.prefix,
		print: slicePrint(h.fill, h.number), only: word, background: true,
	}, nil
}

// hasFill reports whether the object under print consists of the fill's slices.
func (v *volume) hasFill(print, fill uint64) bool {
	word := v.index.get(print)
	if word == 0 {
		return false
	}
	seg := v.segmentAt(word.pos())
	if seg == nil {
		return false
	}
	defer seg.release()
	p, rest, err := v.readHead(seg, word)
	if err != nil {
		return false
	}
	h, err := decodeObject(p, rest)
	return err == nil && h.fill == fill
}

func (v *volume) readWhole(seg *segment, off int64, length int, sums []uint32) ([]byte, error) {
	b := make([]byte, length)
	if err := v.readSegment(seg, b, off); err != nil {
		return nil, err
	}
	if !slices.Equal(checksums(nil, b), sums) {
		v.stats.checksumErrors.Add(1)
		return nil, errChecksum
	}
	return b, nil
}
