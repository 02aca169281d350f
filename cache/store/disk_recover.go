package store

import (
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
)

const (
	segmentsWanted = 128 // small budgets get smaller segments
	segmentsMin    = 8
	segmentSmall   = 4 << 20 // that small only to have segmentsMin
	loadersMax     = 8       // segments read ahead at the start
)

func newVolume(c DiskConfig, t tuning, log *slog.Logger) *volume {
	dir := filepath.Clean(c.Path)
	v := &volume{
		dir: dir, tuning: t,
		log:      log.With("directory", dir),
		segments: make(map[uint64]*segment),
		flushNow: make(chan struct{}, 1), keepNow: make(chan struct{}, 1),
		syncNow: make(chan struct{}, 1), drained: make(chan struct{}, 1),
	}
	v.resize(int64(c.Bytes))
	v.bucket.rate.Store(int64(c.WriteRate))
	v.health.log, v.health.retryEvery = v.log, t.retryEvery
	v.index = newDiskIndex(v.entries())
	return v
}

// resize sets the budget, and what follows from it for new segments.
func (v *volume) resize(bytes int64) {
	capacity := v.tuning.segmentBytes
	if capacity == 0 {
		capacity = min(segmentMax, max(bytes/segmentsWanted, segmentSmall), bytes/segmentsMin)
	}
	v.bytes.Store(bytes)
	v.capacity.Store(capacity / unitBytes * unitBytes)
}

// entries returns how many entries the index may have.
func (v *volume) entries() int64 { return v.bytes.Load() / v.tuning.entryBytes }

// sliceBytes returns the length of a slice: a record must be small beside its
// segment.
func (v *volume) sliceBytes() int {
	return int(min(sliceMax, max(v.capacity.Load()/4/blockBytes, 1)*blockBytes))
}

// objectMax keeps one object from taking the whole directory.
func (v *volume) objectMax() int64 { return v.bytes.Load() / 2 }

// fullness returns how much of the budget is used, with the room that is kept
// free: 1 when something has to go for what comes.
func (v *volume) fullness() float64 {
	v.listMu.RLock()
	defer v.listMu.RUnlock()
	return float64(v.charged+roomWanted*v.capacity.Load()) / float64(v.bytes.Load())
}

// loaded is a segment as it was found at the start.
type loaded struct {
	seg      *segment
	entries  []tableEntry
	unsound  []tableEntry      // found by walking, with a body that is not what was written
	removals map[int][]removal // by index of their entry
	end      int64             // of the last good record, where there is no table
	sealed   bool
	torn     bool
	err      error
}

// recover makes the index from the segments of the directory.
func (v *volume) recover() error {
	if err := v.unlinkDoomed(); err != nil {
		return err
	}
	ids, err := listSegments(v.tuning.fs, v.dir)
	if err != nil {
		return err
	}
	results := make([]chan loaded, len(ids))
	for i := range results {
		results[i] = make(chan loaded, 1)
	}
	load := func(i int) {
		if i < len(ids) {
			go func() { results[i] <- loadSegment(v.tuning.fs, &v.files, v.dir, ids[i]) }()
		}
	}
	for i := range loadersMax {
		load(i)
	}
	var held *loaded // until it is known whether it is the last
	for i, id := range ids {
		l := <-results[i]
		load(i + loadersMax)
		v.lastID = id
		if errors.Is(l.err, errVersion) && err == nil {
			err = newerSegment(l.seg.path)
		}
		if err != nil || !v.usable(l) {
			continue
		}
		if held != nil {
			v.admit(*held, false)
		}
		held = &l
	}
	if err != nil {
		return err
	}
	if held != nil {
		v.admit(*held, true)
	}
	return nil
}

func newerSegment(path string) error {
	return fmt.Errorf("disk: %s was written by a newer edge: start that one again, or give this one an empty directory", path)
}

// listSegments returns the ids of the segments of a directory, oldest first.
func listSegments(fs filesystem, dir string) ([]uint64, error) {
	names, err := fs.list(dir)
	if err != nil {
		return nil, fmt.Errorf("disk: list %s: %w", dir, err)
	}
	var ids []uint64
	for _, name := range names {
		if id, ok := parseSegmentName(name); ok {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids, nil
}

// unlinkDoomed removes the segments whose readers ended with their process.
func (v *volume) unlinkDoomed() error {
	names, err := v.tuning.fs.list(v.dir)
	if err != nil {
		return fmt.Errorf("disk: list %s: %w", v.dir, err)
	}
	for _, name := range names {
		if !strings.HasSuffix(name, doomedSuffix) {
			continue
		}
		if err := v.tuning.fs.remove(filepath.Join(v.dir, name)); err != nil {
			v.log.Warn("disk: segment cannot be unlinked", "segment", name, "err", err)
		}
	}
	return nil
}

// loadSegment reads the table of a segment, or finds its records by walking it.
func loadSegment(fs filesystem, files *openFiles, dir string, id uint64) (l loaded) {
	seg := &segment{id: id, path: filepath.Join(dir, segmentName(id)), fs: fs, files: files, made: true, sealed: true}
	l.seg = seg
	f, err := seg.opened()
	if err != nil {
		l.err = err
		return l
	}
	defer seg.closeIdle()
	size, err := f.size()
	if err != nil {
		l.err = fmt.Errorf("disk: size of segment: %w", err)
		return l
	}
	if size > segmentMax {
		l.err = errTorn
		return l
	}
	seg.size = size
	seg.written.Store(size)
	header := make([]byte, unitBytes)
	if _, err := f.ReadAt(header, 0); err != nil && err != io.EOF {
		l.err = fmt.Errorf("disk: read segment header: %w", err)
		return l
	}
	if l.err = checkSegmentHeader(header, id); l.err != nil {
		return l
	}
	l.entries, err = readTable(f, id, size)
	l.sealed = err == nil
	if !l.sealed {
		l.entries, l.unsound, l.end = walkSegment(f, id, size)
		l.torn = l.end < size
	}
	l.removals = readRemovals(f, id, l.entries)
	return l
}

// readRemovals reads the removal records among the entries.
func readRemovals(f file, id uint64, entries []tableEntry) map[int][]removal {
	var all map[int][]removal
	for i, e := range entries {
		if e.kind() != kindRemoval {
			continue
		}
		b := make([]byte, e.units()*unitBytes)
		if _, err := f.ReadAt(b, int64(e.unit())*unitBytes); err != nil {
			continue // what it removed comes back, as when the record had been lost
		}
		p, rest, err := decodeHead(b, positionOf(id, e.unit()))
		if err != nil {
			continue
		}
		if gone, err := decodeRemovals(p, rest); err == nil {
			if all == nil {
				all = make(map[int][]removal)
			}
			all[i] = gone
		}
	}
	return all
}

// walkSegment returns the records of a segment without a table, up to the
// first one that is not whole, and where that is.
func walkSegment(r io.ReaderAt, id uint64, size int64) (sound, unsound []tableEntry, end int64) {
	off := int64(unitBytes)
	for off < size {
		e, ok, whole := walkRecord(r, id, off, size)
		if !whole {
			break
		}
		if ok {
			sound = append(sound, e)
		} else {
			unsound = append(unsound, e)
		}
		off += int64(e.units()) * unitBytes
	}
	return sound, unsound, min(off, size)
}

// walkRecord reads the record at off. whole is false where the log ends; ok is
// false for a record whose body is not what was written.
func walkRecord(r io.ReaderAt, id uint64, off, size int64) (e tableEntry, ok, whole bool) {
	first := make([]byte, unitBytes)
	if _, err := r.ReadAt(first, off); err != nil {
		return e, false, false
	}
	p, err := decodePrefix(first)
	if err != nil || off+int64(p.units())*unitBytes > size {
		return e, false, false
	}
	head := make([]byte, p.headBytes)
	if _, err := r.ReadAt(head, off); err != nil {
		return e, false, false
	}
	unit := int(off / unitBytes)
	p, rest, err := decodeHead(head, positionOf(id, unit))
	if err != nil {
		return e, false, false
	}
	print, sums, err := describe(p, rest)
	e = makeEntry(print, unit, &p)
	return e, err == nil && bodyIsSound(r, off+int64(p.headBytes), p.bodyBytes, sums), true
}

// describe returns the fingerprint of a record and the checksums of its body.
func describe(p prefix, rest []byte) (uint64, []uint32, error) {
	switch p.kind {
	case kindObject:
		h, err := decodeObject(p, rest)
		if err != nil {
			return 0, nil, err
		}
		if h.flags&flagElsewhere != 0 {
			return printOf(p.hash), nil, nil
		}
		return printOf(p.hash), h.sums, nil
	case kindSlice:
		h, err := decodeSlice(p, rest)
		if err != nil {
			return 0, nil, err
		}
		return slicePrint(h.fill, h.number), h.sums, nil
	case kindRemoval:
		return 0, nil, nil
	}
	return 0, nil, errNoRecord
}

func bodyIsSound(r io.ReaderAt, off int64, length int, sums []uint32) bool {
	buf := blocks.Get().(*[]byte)
	defer blocks.Put(buf)
	for _, sum := range sums {
		b := (*buf)[:min(length, blockBytes)]
		if _, err := r.ReadAt(b, off); err != nil || crc32.Checksum(b, castagnoli) != sum {
			return false
		}
		off += int64(len(b))
		length -= len(b)
	}
	return length == 0
}

// usable reports whether a segment has anything in it that can be trusted, and
// unlinks it otherwise.
func (v *volume) usable(l loaded) bool {
	if l.err != nil {
		v.stats.segmentsLost.Add(1)
		v.log.Warn("disk: segment left out", "segment", segmentName(l.seg.id), "err", l.err)
		if !errors.Is(l.err, errTorn) {
			return false // it may be read again another day, and is not counted till then
		}
	} else if len(l.entries) > 0 {
		return true
	}
	_ = l.seg.close()
	if err := v.tuning.fs.remove(l.seg.path); err != nil {
		v.log.Warn("disk: segment cannot be unlinked", "segment", segmentName(l.seg.id), "err", err)
	}
	return false
}

// admit adds a loaded segment to the volume. The last one, if it is not
// sealed, is appended to again; earlier ones get the table they lack.
func (v *volume) admit(l loaded, last bool) {
	seg := l.seg
	if l.torn {
		v.stats.torn.Add(1)
		v.log.Info("disk: torn end of segment cut off", "segment", segmentName(seg.id), "bytes", seg.size-l.end)
	}
	seg.charge = seg.size
	switch {
	case l.sealed:
	case last && v.reopen(seg, l) == nil:
	default:
		v.mend(seg, l)
	}
	v.enlist(seg)
	v.stats.indexFull.Add(replayLog(v.index, v.lastID, l))
}

// reopen makes the last segment the open one again.
func (v *volume) reopen(seg *segment, l loaded) error {
	f, err := seg.opened()
	if err != nil {
		return err
	}
	if err := f.Truncate(l.end); err != nil {
		return fmt.Errorf("disk: truncate segment: %w", err)
	}
	seg.size = l.end
	seg.written.Store(l.end)
	seg.sealed = false
	seg.entries = l.entries
	seg.charge = max(v.capacity.Load(), l.end)
	v.open = seg
	v.queue = []*segment{seg}
	return nil
}

// mend gives a segment the table that a crash or a failed device kept from it.
// Where that fails, the next start walks the segment again.
func (v *volume) mend(seg *segment, l loaded) {
	table := encodeTable(seg.id, l.end, l.entries)
	if l.end+int64(len(table)) > segmentMax {
		return
	}
	f, err := seg.opened()
	if err == nil {
		err = f.Truncate(l.end)
	}
	if err == nil {
		_, err = f.WriteAt(table, l.end)
	}
	if err != nil {
		return
	}
	seg.size = l.end + int64(len(table))
	seg.written.Store(seg.size)
	seg.charge = seg.size
	seg.closeIdle()
}

// replayLog applies the records of a segment to an index, in order, and returns
// how many found no room. last is the newest segment's id.
func replayLog(x *diskIndex, last uint64, l loaded) (refused int64) {
	for i, e := range l.entries {
		switch e.kind() {
		case kindObject, kindSlice:
			if !x.put(e.print, e.slot(l.seg.id)) {
				refused++
			}
		case kindRemoval:
			for _, r := range l.removals[i] {
				word := x.get(r.print)
				if word != 0 && fullPosition(last, word.pos()) <= r.position {
					x.remove(r.print)
				}
			}
		}
	}
	return refused
}
