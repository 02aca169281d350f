package purge

// recover.go opens a log: what is whole is taken, what was being written when the
// node died is cut off, and where it cannot tell what is missing it begins anew.

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"path/filepath"
	"slices"
	"syscall"
	"time"
)

// lostError says why a log cannot tell what must be forgotten.
type lostError struct{ why error }

func (e *lostError) Error() string { return e.why.Error() }
func (e *lostError) Unwrap() error { return e.why }

// lost makes a lostError of what shows that the log is not whole; other errors
// stay as they are, and keep the node from starting.
func lost(format string, args ...any) error { return &lostError{fmt.Errorf(format, args...)} }

// Open opens the log in cfg.Dir, or begins one. It starts no goroutine: Purge
// needs Replay before and Run beside it.
func Open(cfg Config, log *slog.Logger) (*Log, error) { return open(cfg, log, defaultTuning) }

func open(cfg Config, log *slog.Logger, t tuning) (*Log, error) {
	if cfg.Node == "" {
		cfg.Node = "edge"
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	l := &Log{cfg: cfg, t: t, log: log, wake: make(chan struct{}, 1), applying: make(chan struct{}, 1), jobs: make(chan func())}
	l.forget()
	if err := t.fs.mkdir(cfg.Dir); err != nil {
		return nil, fmt.Errorf("purge: make directory: %w", err)
	}
	if err := t.fs.syncDir(filepath.Dir(cfg.Dir)); err != nil {
		return nil, fmt.Errorf("purge: sync directory: %w", err)
	}
	var found bool
	var err error
	if l.head, found, err = openHead(t.fs, cfg.Dir); err != nil {
		return nil, err
	}
	if err := l.recover(found); err != nil {
		return nil, errors.Join(err, l.head.file.Close())
	}
	return l, nil
}

// recover reads the segments, writes the head of this boot, and removes the files
// that do not count.
func (l *Log) recover(found bool) error {
	present, err := l.sequences()
	if err != nil {
		return err
	}
	next := l.head.head
	l.number, l.dropped = 1, next.dropped
	l.recall(&next)
	var why *lostError
	switch {
	case found:
		err = l.load(&next, present)
	case len(present) > 0:
		err = lost("purge: %s has segments but its head cannot be read", l.cfg.Dir)
	default:
		err = lost("purge: %s is new", l.cfg.Dir)
	}
	if err != nil && !errors.As(err, &why) {
		return err
	}
	if why != nil {
		l.segments, l.index, l.swept, l.last, l.keys = nil, nil, 0, ID{}, keys{}
		l.forget()
		l.number, l.fresh = 1, true
		l.stats.Bytes.Store(0)
		l.t.random(next.incarnation[:])
		next.first = next.last + 1
		if n := len(present); n > 0 {
			next.first = max(next.first, present[n-1]+1)
		}
		next.last = next.first - 1
		if found || len(present) > 0 {
			l.stats.Lost.Add(1)
			l.log.Error("the log of purges is lost: everything that is stored is purged", "why", why.why, "new_log", next.incarnation)
		}
	}
	l.head.head = next
	next = l.nextHead()
	next.boot++
	if err := l.head.write(next); err != nil {
		return err
	}
	for _, sequence := range present {
		if sequence < next.first || sequence > next.last {
			if err := l.t.fs.remove(segmentPath(l.cfg.Dir, sequence)); err != nil {
				l.log.Warn("purge: remove left over segment", "err", err) // the next start tries again
			}
		}
	}
	l.base = l.number - uint64(len(l.index))
	l.gauge()
	return nil
}

// sequences lists the segment files, sorted.
func (l *Log) sequences() ([]uint64, error) {
	names, err := l.t.fs.list(l.cfg.Dir)
	if err != nil {
		return nil, fmt.Errorf("purge: list: %w", err)
	}
	var all []uint64
	for _, name := range names {
		if sequence, ok := parseSegmentName(name); ok {
			all = append(all, sequence)
		}
	}
	slices.Sort(all)
	return all, nil
}

// load reads the segments that the head names, and one more where a rotation got
// no further than its file. It corrects h.last.
func (l *Log) load(h *head, present []uint64) error {
	if slices.Contains(present, h.last+1) {
		h.last++
	}
	var text []byte
	for sequence := h.first; sequence <= h.last; sequence++ {
		next, err := l.readSegment(sequence)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.EIO) {
			return lost("%w", err)
		}
		if err != nil {
			return err
		}
		if sequence == h.last && len(next) <= segmentHeader {
			h.last-- // it was being made: nothing had got into it
			break
		}
		s, err := l.loadHeader(next, sequence)
		if err != nil {
			return err
		}
		if len(l.segments) == 0 {
			l.number, l.base = s.first, s.first
		} else if err := l.loadFrames(text, s.first); err != nil { // the one before ends where this one begins
			return err
		}
		l.segments = append(l.segments, s)
		text = next
	}
	if len(l.segments) > 0 {
		if err := l.loadFrames(text, 0); err != nil {
			return err
		}
		if l.number < h.number {
			return lost("purge: entries %d to %d are missing", l.number, h.number-1)
		}
	}
	l.number = max(l.number, h.number)
	return nil
}

// readSegment reads a segment file whole.
func (l *Log) readSegment(sequence uint64) ([]byte, error) {
	f, err := l.t.fs.open(segmentPath(l.cfg.Dir, sequence))
	if err != nil {
		return nil, fmt.Errorf("purge: open segment: %w", err)
	}
	text, err := io.ReadAll(io.NewSectionReader(f, 0, segmentHeader+l.t.segmentBytes+frameHeader+frameBytesMax))
	if err := errors.Join(err, f.Close()); err != nil {
		return nil, fmt.Errorf("purge: read segment: %w", err)
	}
	l.stats.Bytes.Add(int64(len(text)))
	return text, nil
}

func (l *Log) loadHeader(text []byte, sequence uint64) (*segment, error) {
	name := segmentName(sequence)
	h, err := decodeHeader(text)
	switch {
	case errors.Is(err, errNewer):
		return nil, fmt.Errorf("purge: %s %w", name, err)
	case err != nil:
		return nil, lost("purge: %s: %w", name, err)
	case h.sequence != sequence || h.incarnation != l.Incarnation():
		return nil, lost("purge: %s is of another log", name)
	}
	return &segment{h, int64(len(text))}, nil
}

// loadFrames takes what the text of the last loaded segment says, up to the entry
// with the number end; 0 where none follows.
func (l *Log) loadFrames(text []byte, end uint64) error {
	s := l.segments[len(l.segments)-1]
	at := int64(segmentHeader)
	for end == 0 || l.number < end {
		payload, ok := frameAt(text, s.incarnation, at)
		if !ok {
			break
		}
		if err := l.loadFrame(s, payload, at+frameHeader); err != nil {
			return err
		}
		at += frameHeader + int64(len(payload))
	}
	switch torn := int64(len(text)) - at; {
	case end == 0 && torn > 0 && frameBeyond(text, s.incarnation, at):
		return lost("purge: %s %w at %d", segmentName(s.sequence), errDamaged, at)
	case end == 0 && torn > 0:
		l.stats.TornBytes.Add(uint64(torn))
		l.log.Warn("what was being written to the log of purges, and was not acknowledged, is cut off", "bytes", torn)
	case end != 0 && l.number != end:
		return lost("purge: %s %w at %d", segmentName(s.sequence), errDamaged, at)
	}
	return nil
}

// loadFrame takes one frame; at is where its payload begins.
func (l *Log) loadFrame(s *segment, payload []byte, at int64) error {
	switch payload[0] {
	case frameSwept:
		if err := l.loadSwept(payload[1:]); err != nil {
			return lost("purge: %s: %w", segmentName(s.sequence), err)
		}
		return nil
	case frameEntries:
	default:
		return fmt.Errorf("purge: %s has a frame of kind %d and %w", segmentName(s.sequence), payload[0], errNewer)
	}
	d := decoder{rest: payload[1:]}
	first := l.number
	for n := d.uvarint(frameBytesMax); n > 0; n-- {
		code := d.take(d.uvarint(EntryBytesMax))
		if d.bad {
			return lost("purge: %s: frame %w", segmentName(s.sequence), errDamaged)
		}
		e, err := decodeEntry(code)
		if errors.Is(err, errNewer) {
			return err
		}
		if err != nil {
			return lost("purge: %s: entry %d %w", segmentName(s.sequence), l.number, errDamaged)
		}
		l.loadEntry(s, &e, at+int64(len(payload)-len(d.rest)-len(code)), len(code))
	}
	if len(d.rest) > 0 {
		loaded := l.index[len(l.index)-int(l.number-first):]
		for i := range loaded {
			loaded[i].applied = int64(d.uint64())
		}
	}
	return nil
}

func (l *Log) loadEntry(s *segment, e *Entry, offset int64, length int) {
	l.enter(record{
		id: e.ID, place: e.Place, order: e.Order, time: e.Time.UnixMilli(), segment: s, offset: offset, length: length,
	})
	if minute := uint32(e.Time.Unix() / 60); e.Place.Log != (Incarnation{}) { // where the head says nothing of it
		l.moved[e.Place.Log] = max(l.moved[e.Place.Log], minute)
	}
	if e.Place.Log == s.incarnation || e.Place.Log == (Incarnation{}) {
		l.last = e.ID
	}
	if e.Key != [16]byte{} && time.Since(e.Time) < l.t.keyAge {
		l.keys.add(e.Key, &use{print: e.Print, id: e.ID}, e.Time, &l.t, &l.stats)
	}
}

// loadSwept puts what a frame says about the sweep into the index.
func (l *Log) loadSwept(body []byte) error {
	n, err := decodeNote(body)
	if err != nil {
		return err
	}
	l.swept, l.dropped = max(l.swept, n.order), max(l.dropped, n.boot)
	for _, c := range n.counts {
		if c.number < l.base || c.number >= l.base+uint64(len(l.index)) {
			continue // of a segment that is gone
		}
		r := &l.index[c.number-l.base]
		r.swept, r.memory, r.disk, r.counted = max(n.at, 1), c.memory, c.disk, c.counted
	}
	return nil
}
