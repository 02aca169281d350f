package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
)

// Looking at a store that no process uses, without changing it.

// Inspection is what a directory of a stopped store holds.
type Inspection struct {
	Path          string
	Segments      int   // segment files
	Objects       int   // objects that a start would find
	Slices        int   // slices of large objects
	Bytes         int64 // of segment files
	LiveBytes     int64 // of records that a start would find
	Unsealed      int   // segments without a table: the last one, or after a crash
	TornBytes     int64 // at the ends of those, not whole
	BadSegments   int   // files whose header is damaged or that cannot be read
	FormatVersion int
}

// Damage is a record that is not what was written.
type Damage struct {
	Segment string // file name
	Offset  int64  // of the record in it
	Key     string // of the object; empty when its head is damaged, or for a slice
	Err     error
}

// Listed is an object in a stopped store. For a large one, only its header is
// known to be there.
type Listed struct {
	Key  string
	Meta Meta
}

// stopped is a directory opened for looking.
type stopped struct {
	lock     io.Closer
	index    *diskIndex
	segments []loaded
}

// Inspect counts what the directory of a stopped store holds. A directory in
// use is an error that names its process.
func Inspect(dir string) (Inspection, error) {
	s, err := openStopped(osFS{}, dir)
	if err != nil {
		return Inspection{}, err
	}
	i := Inspection{Path: dir, Segments: len(s.segments), FormatVersion: formatVersion}
	for _, l := range s.segments {
		i.Bytes += l.seg.size
		switch {
		case l.err != nil:
			i.BadSegments++
		case !l.sealed:
			i.Unsealed++
			i.TornBytes += l.seg.size - l.end
		}
	}
	i.Objects, i.Slices, _ = s.index.sizes()
	i.LiveBytes = s.liveBytes()
	return i, s.close()
}

// List calls yield for each object in the directory of a stopped store, oldest
// record first, until it returns false.
func List(dir string, yield func(Listed) bool) error {
	s, err := openStopped(osFS{}, dir)
	if err != nil {
		return err
	}
	err = s.each(func(n int, e tableEntry) (bool, error) {
		if e.kind() != kindObject {
			return true, nil
		}
		p, rest, err := s.head(n, e)
		if err != nil {
			return true, nil // Verify tells of it
		}
		h, err := decodeObject(p, rest)
		if err != nil {
			return true, nil
		}
		return yield(Listed{h.key, h.meta}), nil
	})
	return errors.Join(err, s.close())
}

// Verify reads every record that a start would find in the directory of a
// stopped store, and calls damaged for each that is not what was written, for
// files that cannot be read, and, now and then, progress with the bytes done
// and in all. It ends early with ctx's error.
func Verify(ctx context.Context, dir string, progress func(done, total int64), damaged func(Damage)) error {
	s, err := openStopped(osFS{}, dir)
	if err != nil {
		return err
	}
	var done, told int64
	total := s.liveBytes()
	for _, l := range s.segments {
		if l.err != nil {
			damaged(Damage{Segment: filepath.Base(l.seg.path), Err: l.err})
		}
		for _, e := range l.unsound {
			damaged(Damage{Segment: filepath.Base(l.seg.path), Offset: int64(e.unit()) * unitBytes, Err: errChecksum})
		}
	}
	progress(0, total)
	err = s.each(func(n int, e tableEntry) (bool, error) {
		if key, err := s.verify(n, e); err != nil {
			damaged(Damage{segmentName(s.segments[n].seg.id), int64(e.unit()) * unitBytes, key, err})
		}
		done += int64(e.units()) * unitBytes
		if done-told >= segmentMax || done == total {
			told = done
			progress(done, total)
		}
		return true, ctx.Err()
	})
	return errors.Join(err, s.close())
}

func openStopped(fsys filesystem, dir string) (*stopped, error) {
	_, ok, err := readFormat(fsys, dir)
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, fmt.Errorf("disk: %s is not a directory of an edge store: it has no %s file", dir, formatName)
	}
	lock, err := lockDirectory(fsys, dir)
	if err != nil {
		return nil, err
	}
	ids, err := listSegments(fsys, dir)
	if err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	s := &stopped{lock: lock}
	entries := 0
	for _, id := range ids {
		l := loadSegment(fsys, new(openFiles), dir, id)
		s.segments = append(s.segments, l)
		entries += len(l.entries)
	}
	s.index = newDiskIndex(int64(2*entries) + 1024)
	for _, l := range s.segments {
		replayLog(s.index, ids[len(ids)-1], l)
	}
	return s, nil
}

func (s *stopped) close() error {
	errs := []error{s.lock.Close()}
	for _, l := range s.segments {
		errs = append(errs, l.seg.close())
	}
	return errors.Join(errs...)
}

// live reports whether a start would find the record.
func (s *stopped) live(l *loaded, e tableEntry) bool {
	word := s.index.get(e.print)
	return word != 0 && word.pos() == positionOf(l.seg.id, e.unit())&positionMax
}

func (s *stopped) liveBytes() (total int64) {
	for i := range s.segments {
		for _, e := range s.segments[i].entries {
			if s.live(&s.segments[i], e) {
				total += int64(e.units()) * unitBytes
			}
		}
	}
	return total
}

// each calls f for the live records, oldest first, until it returns false.
func (s *stopped) each(f func(segment int, e tableEntry) (bool, error)) error {
	for n := range s.segments {
		l := &s.segments[n]
		for _, e := range l.entries {
			if !s.live(l, e) {
				continue
			}
			if more, err := f(n, e); err != nil || !more {
				return err
			}
		}
		if err := l.seg.close(); err != nil {
			return err
		}
	}
	return nil
}

func (s *stopped) head(n int, e tableEntry) (prefix, []byte, error) {
	seg := s.segments[n].seg
	b := make([]byte, e.headUnits()*unitBytes)
	if _, err := seg.ReadAt(b, int64(e.unit())*unitBytes); err != nil {
		return prefix{}, nil, err
	}
	return decodeHead(b, positionOf(seg.id, e.unit()))
}

// verify reads one record, and the body it names in another.
func (s *stopped) verify(n int, e tableEntry) (key string, err error) {
	p, rest, err := s.head(n, e)
	if err != nil {
		return "", err
	}
	seg := s.segments[n].seg
	off := int64(e.unit())*unitBytes + int64(p.headBytes)
	if p.kind == kindSlice {
		h, err := decodeSlice(p, rest)
		if err != nil {
			return "", err
		}
		return "", soundness(seg, off, p.bodyBytes, h.sums)
	}
	h, err := decodeObject(p, rest)
	if err != nil {
		return "", err
	}
	if h.fill != 0 {
		return h.key, nil // its slices are verified where they are
	}
	if h.flags&flagElsewhere != 0 {
		i, ok := slices.BinarySearchFunc(s.segments, h.address>>addressBits, func(l loaded, id uint64) int {
			return int(int64(l.seg.id) - int64(id))
		})
		if !ok {
			return h.key, fmt.Errorf("disk: the segment of the body has gone: %w", ErrNotFound)
		}
		seg, off = s.segments[i].seg, int64(h.address&(1<<addressBits-1))
	}
	return h.key, soundness(seg, off, int(h.meta.Length), h.sums)
}

func soundness(r io.ReaderAt, off int64, length int, sums []uint32) error {
	if !bodyIsSound(r, off, length, sums) {
		return errChecksum
	}
	return nil
}
