package store

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// The goroutines of a volume. The writer writes out what is appended and
// nothing else. The syncer syncs complete segments. The keeper keeps room for
// the next segments by reclaiming the oldest ones.

const (
	keepEvery = time.Second
	// Segments that there is kept room for. The spare one is for what the keeper
	// itself appends while it makes room.
	roomWanted = 2
	roomSpare  = 1
)

func (v *volume) writeLoop(ctx context.Context) {
	tick := time.NewTicker(v.tuning.flushEvery)
	defer tick.Stop()
	for all := false; ; {
		select {
		case <-ctx.Done():
			return // Close writes the rest
		case <-v.flushNow:
			all = false
		case <-tick.C:
			all = true
		}
		v.probe()
		for {
			err := v.flush(all)
			if err == nil {
				break
			}
			wait, abandon := v.writeFailed(err)
			if abandon {
				v.abandon()
			}
			if !waitFor(ctx, wait) {
				return
			}
		}
	}
}

// writeFailed counts a failed write; see health.writeFailed.
func (v *volume) writeFailed(err error) (wait time.Duration, abandon bool) {
	v.stats.writeErrors.Add(1)
	return v.health.writeFailed(err)
}

// waitFor reports whether d has passed before ctx ended.
func waitFor(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

func (v *volume) keepLoop(ctx context.Context) {
	tick := time.NewTicker(min(keepEvery, v.tuning.retryEvery*4))
	defer tick.Stop()
	for {
		v.keep(ctx)
		select {
		case <-ctx.Done():
			return
		case <-v.keepNow:
		case <-tick.C:
		}
	}
}

// keep does what there is to do.
func (v *volume) keep(ctx context.Context) {
	v.buryAgain()
	if v.indexCrowded() || v.squeezed.Swap(false) && v.segmentCount() > segmentsMin {
		v.reclaimOldest(ctx)
	}
	for ctx.Err() == nil && !v.hasRoom(roomWanted) && v.reclaimOldest(ctx) {
	}
	if v.files.open.Load() > v.files.max {
		v.closeIdle()
	}
}

// hasRoom reports whether the budget has room for n more segments.
func (v *volume) hasRoom(n int64) bool {
	v.listMu.RLock()
	defer v.listMu.RUnlock()
	return v.charged+n*v.capacity.Load() <= v.bytes.Load()
}

// indexCrowded reports whether an entry was refused since the last look.
func (v *volume) indexCrowded() bool {
	n := v.stats.indexFull.Load()
	was := v.indexFullSeen
	v.indexFullSeen = n
	return n != was
}

func (v *volume) syncLoop(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return // Close syncs the rest
		case <-v.syncNow:
			v.syncSealed()
		}
	}
}

// syncSealed makes durable what is complete.
func (v *volume) syncSealed() {
	v.mu.Lock()
	segs := v.unsynced
	v.unsynced = nil
	v.mu.Unlock()
	for _, seg := range segs {
		f, err := seg.opened()
		if size := seg.written.Load(); err == nil && seg.capacity-size > batchBytes {
			err = f.Truncate(size) // gives back what was allocated beyond
		}
		if err == nil {
			err = f.Sync()
		}
		if err != nil {
			// Its checksums tell what did not reach the device.
			v.stats.syncErrors.Add(1)
			v.log.Warn("disk: sync of segment failed", "segment", segmentName(seg.id), "err", err)
		} else {
			seg.synced.Store(true)
		}
	}
	if len(segs) > 0 && v.tuning.fs.syncDir(v.dir) != nil {
		v.stats.syncErrors.Add(1)
	}
}

// probe gives the writer something to write when a directory that refused
// writes has nothing waiting, so that its recovery is seen.
func (v *volume) probe() {
	if condition, _ := v.health.get(); condition == serving {
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.backlog == 0 {
		_ = v.roll(0) // without room, the keeper makes some
	}
}

func (v *volume) segmentCount() int {
	v.listMu.RLock()
	defer v.listMu.RUnlock()
	return len(v.order)
}

// drop takes a segment out of the list and unlinks it when its last reader
// lets go.
func (v *volume) drop(seg *segment) {
	v.listMu.Lock()
	delete(v.segments, seg.id&idMask)
	if i := slices.Index(v.order, seg); i >= 0 {
		v.order = slices.Delete(v.order, i, i+1)
	}
	v.doomed += seg.charge
	v.listMu.Unlock()
	seg.doom(func(err error) {
		v.listMu.Lock()
		defer v.listMu.Unlock()
		if err != nil {
			v.unburied = append(v.unburied, seg)
			return
		}
		v.doomed -= seg.charge
		v.charged -= seg.charge
		signal(v.keepNow)
	})
}

// buryAgain unlinks what could not be unlinked before. Until then it counts.
func (v *volume) buryAgain() {
	v.listMu.Lock()
	segs := v.unburied
	v.unburied = nil
	v.listMu.Unlock()
	for _, seg := range segs {
		seg.bury()
	}
}

// closeIdle closes files until few enough are open.
func (v *volume) closeIdle() {
	v.listMu.RLock()
	order := slices.Clone(v.order)
	v.listMu.RUnlock()
	for _, seg := range order {
		if v.files.open.Load() <= v.files.max/2 {
			return
		}
		seg.closeIdle()
	}
}

// limitFiles asks the keeper to close files when too many are open.
func (v *volume) limitFiles() {
	if v.files.open.Load() > v.files.max {
		signal(v.keepNow)
	}
}

func (v *volume) hasRemovals() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return len(v.removals) > 0
}

// close writes out and syncs what is appended, and gives the directory free.
func (v *volume) close() error {
	err := v.flush(true)
	if err == nil && v.hasRemovals() {
		// The log was full to the last segment; what was removed must stay so.
		if seg := v.oldest(); seg != nil {
			v.drop(seg)
		}
		err = v.flush(true)
	}
	v.mu.Lock()
	v.closed = true
	open := v.open
	v.mu.Unlock()
	v.syncSealed()
	if open != nil && err == nil {
		var f file
		if f, err = open.opened(); err == nil {
			err = f.Sync()
		}
	}
	v.listMu.RLock()
	defer v.listMu.RUnlock()
	for _, seg := range v.order {
		seg.closeUnread()
	}
	if lockErr := v.unlock(); err == nil {
		err = lockErr
	}
	if err != nil {
		return fmt.Errorf("disk: close %s: %w", v.dir, err)
	}
	return nil
}
