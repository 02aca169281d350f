package store

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"
)

// persistMax is how long a sweep waits for its removals to be on disk.
const persistMax = time.Minute

// noteOrder keeps the lowest Order of the objects in the segment; v.mu is held.
func (s *segment) noteOrder(w *write) {
	if w.prefix.kind == kindObject {
		s.lowest.Store(min(s.lowest.Load(), binary.LittleEndian.Uint64(w.head[prefixBytes+4*8:])))
	}
}

// sweep calls judge for the live objects of a volume, segment by segment from the
// oldest to the newest, but for segments whose objects are all of an Order of at
// least order. What comes meanwhile is at the end of the log, and met there.
func (v *volume) sweep(p *pace, order uint64, judge func(*objectHead, slotWord)) error {
	for last := uint64(0); ; {
		seg := v.segmentAfter(last)
		if seg == nil {
			return p.ctx.Err()
		}
		last = seg.id
		var err error
		if seg.lowest.Load() < order {
			err = v.sweepSegment(p, seg, judge)
		}
		seg.release()
		if err != nil {
			return err
		}
	}
}

// segmentAfter returns the oldest segment that is newer than the one of that id,
// pinned, or nil.
func (v *volume) segmentAfter(id uint64) *segment {
	v.listMu.RLock()
	defer v.listMu.RUnlock()
	for _, seg := range v.order {
		if seg.id > id && seg.acquire() == nil {
			return seg
		}
	}
	return nil
}

func (v *volume) sweepSegment(p *pace, seg *segment, judge func(*objectHead, slotWord)) error {
	v.mu.Lock()
	entries := slices.Clone(seg.entries)
	open := seg == v.open
	v.mu.Unlock()
	if len(entries) == 0 && !open {
		var err error
		if entries, err = v.tableOf(seg); errors.Is(err, errDoomed) {
			return nil // reclaimed: what was taken back is met at the end of the log
		} else if err != nil {
			return err
		}
	}
	lowest := uint64(math.MaxUint64)
	for _, e := range entries {
		if e.kind() != kindObject {
			continue
		}
		word := v.index.get(e.print)
		if word == 0 || word.pos() != positionOf(seg.id, e.unit())&positionMax {
			continue
		}
		h, err := v.sweepHead(seg, e.print, word)
		if err != nil {
			return err
		}
		if h != nil {
			judge(h, word)
			lowest = min(lowest, h.meta.Order)
		}
		if err := p.step(); err != nil {
			return err
		}
	}
	if !open {
		seg.lowest.Store(lowest)
	}
	return nil
}

// sweepHead reads an object's head; nil where it is not what was written, and
// forgotten.
func (v *volume) sweepHead(seg *segment, print uint64, word slotWord) (*objectHead, error) {
	p, rest, err := v.readHead(seg, word)
	var h *objectHead
	if err == nil {
		h, err = decodeObject(p, rest)
	}
	if errors.Is(err, errNoRecord) || errors.Is(err, errLost) {
		v.damaged(print, word)
		return nil, nil
	}
	return h, err
}

// persist makes durable what has been appended and removed up to now.
func (v *volume) persist(ctx context.Context) error {
	lost := v.stats.removalsLost.Load()
	v.mu.Lock()
	v.appendRemovals()
	left := len(v.removals)
	v.mu.Unlock()
	if left > 0 {
		return errors.New("the log takes no removals now")
	}
	v.listMu.RLock()
	segs := slices.Clone(v.order)
	v.listMu.RUnlock()
	if len(segs) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, persistMax)
	defer cancel()
	for _, seg := range segs {
		if err := v.persistSegment(ctx, seg); err != nil {
			return err
		}
	}
	if v.stats.removalsLost.Load() != lost {
		return errors.New("the log lost removals")
	}
	return v.tuning.fs.syncDir(v.dir)
}

// persistSegment waits until what the segment has is written, and syncs it.
func (v *volume) persistSegment(ctx context.Context, seg *segment) error {
	if seg.synced.Load() || seg.acquire() != nil {
		return nil
	}
	defer seg.release()
	seg.mu.Lock()
	size, sealed := seg.size, seg.sealed
	seg.mu.Unlock()
	for seg.written.Load() < size {
		if !waitFor(ctx, v.tuning.flushEvery/2) {
			return fmt.Errorf("not written in time: %w", ctx.Err())
		}
		seg.mu.Lock()
		lost := seg.lost
		seg.mu.Unlock()
		if lost {
			return errors.New("the device refused a segment")
		}
	}
	f, err := seg.opened()
	if err == nil {
		err = f.Sync()
	}
	if err != nil {
		v.stats.syncErrors.Add(1)
		return fmt.Errorf("sync segment: %w", err)
	}
	v.limitFiles()
	seg.synced.Store(sealed)
	return nil
}
