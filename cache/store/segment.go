package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"math"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
)

// A segment is one append-only file. Its life:
//
//	open      records are appended to batches in memory, which one goroutine
//	          writes out in order, and makes the file for; readers see both as one
//	sealed    its table and footer are appended; then synced; never written again
//	doomed    out of the volume's list and renamed, so that no restart finds it;
//	          unlinked when the last reader lets go
//
// Bytes that a reader can see never change: what is appended goes behind them,
// and space comes back only by unlinking the file.
//
// On disk: one unit of header; records; then, once sealed, the table (16 bytes
// a record) and the footer, one unit at the very end of the file.
type segment struct {
	id       uint64
	fs       filesystem
	files    *openFiles
	capacity int64 // bytes that the file is made with room for

	written atomic.Int64  // bytes in the file
	lowest  atomic.Uint64 // no object in it has a lower Order
	synced  atomic.Bool   // it is complete and known to be durable

	mu      sync.Mutex
	path    string
	made    bool // there is a file
	file    file // nil while closed
	refs    int
	doomed  bool
	gone    func(error) // called once when a doomed segment was unlinked, or could not be
	size    int64       // bytes appended: written and pending
	pending []*batch
	sealed  bool
	closing bool // the store is closed
	lost    bool // the device refused what is pending; only present readers have it

	// The volume's, under its lock.
	entries []tableEntry // of all records, until the table is written
	charge  int64        // bytes of the budget that the file counts for
}

// openFiles bounds the files that a volume keeps open.
type openFiles struct {
	max  int64
	open atomic.Int64
}

// batch is a piece of an open segment that is not written yet. Bytes below n
// do not change any more.
type batch struct {
	off int64
	n   int
	buf *[batchBytes]byte
}

const (
	batchBytes     = 1 << 20
	segmentMagic   = "EDGESEG\x00"
	footerMagic    = "EDGETBL\x00"
	segmentVersion = 1
	tableEntrySize = 16
	doomedSuffix   = ".gone"
	idMask         = 1<<(40-unitBits) - 1
)

var (
	errDoomed  = errors.New("segment is gone")
	errVersion = errors.New("written by a newer edge")
	errTorn    = errors.New("no valid table")
	batches    = sync.Pool{New: func() any { return new([batchBytes]byte) }}
)

// tableEntry describes one record: its fingerprint, and packed into a word the
// unit it begins at (17 bits), the units of its head (9) and in all (12), its
// kind (3) and its flags (1).
type tableEntry struct{ print, word uint64 }

func makeEntry(print uint64, unit int, p *prefix) tableEntry {
	return tableEntry{print, uint64(unit) | uint64(unitsOf(p.headBytes))<<17 | uint64(p.units())<<26 |
		uint64(p.kind)<<38 | uint64(p.flags&flagElsewhere)<<41}
}

func (e tableEntry) unit() int        { return int(e.word & (1<<17 - 1)) }
func (e tableEntry) headUnits() int   { return int(e.word >> 17 & headMask) }
func (e tableEntry) units() int       { return int(e.word >> 26 & (1<<12 - 1)) }
func (e tableEntry) kind() recordKind { return recordKind(e.word >> 38 & 7) }
func (e tableEntry) elsewhere() bool  { return e.word>>41&1 != 0 }

// slot returns the index word for the entry's record.
func (e tableEntry) slot(segmentID uint64) slotWord {
	var flags slotWord
	if e.kind() == kindSlice {
		flags |= slotSlice
	}
	if e.elsewhere() {
		flags |= slotElsewhere
	}
	return makeSlot(positionOf(segmentID, e.unit()), e.headUnits(), flags)
}

// A position is a segment's id and a unit in it. The index keeps its low 40
// bits, which is enough to tell the segments of a volume apart.
func positionOf(id uint64, unit int) uint64 { return id<<unitBits | uint64(unit) }

func unitOf(position uint64) int { return int(position & (1<<unitBits - 1)) }

func segmentName(id uint64) string { return fmt.Sprintf("%016x.seg", id) }

func parseSegmentName(name string) (uint64, bool) {
	hex, ok := strings.CutSuffix(name, ".seg")
	if !ok || len(hex) != 16 {
		return 0, false
	}
	id, err := strconv.ParseUint(hex, 16, 64)
	return id, err == nil
}

// tableBytes returns what the table of n records and the footer take.
func tableBytes(n int) int { return unitsOf(n*tableEntrySize)*unitBytes + unitBytes }

func encodeSegmentHeader(id uint64) []byte {
	b := make([]byte, unitBytes)
	copy(b, segmentMagic)
	binary.LittleEndian.PutUint32(b[8:], segmentVersion)
	binary.LittleEndian.PutUint64(b[16:], id)
	binary.LittleEndian.PutUint32(b[24:], crc32.Checksum(b[:24], castagnoli))
	return b
}

// checkSegmentHeader returns errVersion for a newer format, errTorn for what
// is no header of segment id.
func checkSegmentHeader(b []byte, id uint64) error {
	if len(b) < unitBytes || string(b[:8]) != segmentMagic ||
		binary.LittleEndian.Uint32(b[24:]) != crc32.Checksum(b[:24], castagnoli) {
		return errTorn
	}
	if binary.LittleEndian.Uint32(b[8:]) > segmentVersion {
		return errVersion
	}
	if binary.LittleEndian.Uint64(b[16:]) != id {
		return errTorn
	}
	return nil
}

// encodeTable returns table and footer for a segment whose records end at off.
func encodeTable(id uint64, off int64, entries []tableEntry) []byte {
	b := make([]byte, tableBytes(len(entries)))
	for i, e := range entries {
		binary.LittleEndian.PutUint64(b[16*i:], e.print)
		binary.LittleEndian.PutUint64(b[16*i+8:], e.word)
	}
	f := b[len(b)-unitBytes:]
	copy(f, footerMagic)
	binary.LittleEndian.PutUint32(f[8:], segmentVersion)
	binary.LittleEndian.PutUint32(f[12:], uint32(len(entries)))
	binary.LittleEndian.PutUint64(f[16:], id)
	binary.LittleEndian.PutUint64(f[24:], uint64(off))
	binary.LittleEndian.PutUint32(f[32:], crc32.Checksum(b[:len(entries)*tableEntrySize], castagnoli))
	binary.LittleEndian.PutUint32(f[36:], crc32.Checksum(f[:36], castagnoli))
	return b
}

// decodeFooter returns where the table of a segment file of size bytes begins
// and how many entries it has.
func decodeFooter(f []byte, id uint64, size int64) (off int64, n int, sum uint32, err error) {
	if len(f) != unitBytes || string(f[:8]) != footerMagic ||
		binary.LittleEndian.Uint32(f[36:]) != crc32.Checksum(f[:36], castagnoli) ||
		binary.LittleEndian.Uint32(f[8:]) != segmentVersion || binary.LittleEndian.Uint64(f[16:]) != id {
		return 0, 0, 0, errTorn
	}
	n = int(binary.LittleEndian.Uint32(f[12:]))
	off = int64(binary.LittleEndian.Uint64(f[24:]))
	if off < unitBytes || off%unitBytes != 0 || off > size || n > 1<<unitBits || off+int64(tableBytes(n)) != size {
		return 0, 0, 0, errTorn
	}
	return off, n, binary.LittleEndian.Uint32(f[32:]), nil
}

// decodeTable decodes entries whose records lie in order between the header
// and off.
func decodeTable(b []byte, off int64) ([]tableEntry, error) {
	entries := make([]tableEntry, len(b)/tableEntrySize)
	next := 1
	for i := range entries {
		e := tableEntry{binary.LittleEndian.Uint64(b[16*i:]), binary.LittleEndian.Uint64(b[16*i+8:])}
		if e.unit() < next || e.units() == 0 || e.headUnits() == 0 || e.headUnits() > e.units() {
			return nil, errTorn
		}
		next = e.unit() + e.units()
		entries[i] = e
	}
	if int64(next)*unitBytes > off {
		return nil, errTorn
	}
	return entries, nil
}

// readTable reads the table of a sealed segment, or errTorn.
func readTable(r io.ReaderAt, id uint64, size int64) ([]tableEntry, error) {
	if size < 2*unitBytes || size > segmentMax {
		return nil, errTorn
	}
	footer := make([]byte, unitBytes)
	if _, err := r.ReadAt(footer, size-unitBytes); err != nil {
		return nil, fmt.Errorf("disk: read footer: %w", err)
	}
	off, n, sum, err := decodeFooter(footer, id, size)
	if err != nil {
		return nil, err
	}
	table := make([]byte, n*tableEntrySize)
	if _, err := r.ReadAt(table, off); err != nil {
		return nil, fmt.Errorf("disk: read table: %w", err)
	}
	if crc32.Checksum(table, castagnoli) != sum {
		return nil, errTorn
	}
	return decodeTable(table, off)
}

// newSegment returns an open segment for capacity bytes. Its file is made when
// the first bytes are written.
func newSegment(fs filesystem, files *openFiles, dir string, id uint64, capacity int64) *segment {
	s := &segment{id: id, path: filepath.Join(dir, segmentName(id)), fs: fs, files: files, capacity: capacity, charge: capacity}
	s.lowest.Store(math.MaxUint64)
	s.append(encodeSegmentHeader(id))
	return s
}

// forWriting returns the open file, and makes it at first, with room for all
// that may be appended, so that a full device shows here and not half-way. Only
// the writer calls it. The lock is free meanwhile: a slow device must not hold
// up those who append.
func (s *segment) forWriting() (file, error) {
	s.mu.Lock()
	made := s.made
	s.mu.Unlock()
	if made {
		return s.opened()
	}
	f, err := s.fs.create(s.path)
	if err != nil {
		return nil, fmt.Errorf("disk: create segment: %w", err)
	}
	if err := f.allocate(s.capacity); err != nil {
		return nil, errors.Join(fmt.Errorf("disk: allocate segment: %w", err), f.Close(), s.fs.remove(s.path))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.file, s.made = f, true
	s.files.open.Add(1)
	return f, nil
}

// append adds bytes behind the last ones. Only the volume's appender calls it.
func (s *segment) append(parts ...[]byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.appendLocked(parts...)
}

// seal appends table and footer and allows no more.
func (s *segment) seal() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := s.size
	s.sealed = true
	s.appendLocked(encodeTable(s.id, s.size, s.entries))
	return s.size - before
}

func (s *segment) appendLocked(parts ...[]byte) {
	for _, p := range parts {
		for len(p) > 0 {
			last := len(s.pending) - 1
			if last < 0 || s.pending[last].n == batchBytes {
				s.pending = append(s.pending, &batch{off: s.size, buf: batches.Get().(*[batchBytes]byte)})
				last++
			}
			c := s.pending[last]
			n := copy(c.buf[c.n:], p)
			c.n += n
			s.size += int64(n)
			p = p[n:]
		}
	}
}

// unwritten returns the next bytes to write and where; none when all is
// written, or when less than a whole batch is there and more may come.
func (s *segment) unwritten(all bool) ([]byte, int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.pending) == 0 {
		return nil, 0
	}
	c := s.pending[0]
	if !all && !s.sealed && c.n < batchBytes {
		return nil, 0
	}
	done := s.written.Load()
	return c.buf[done-c.off : c.n], done
}

// wrote tells that n more bytes are in the file.
func (s *segment) wrote(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	done := s.written.Add(int64(n))
	c := s.pending[0]
	if done == c.off+int64(c.n) && (c.n == batchBytes || s.sealed) {
		// Not s.pending[1:]: what is before it would hold the buffer for as long as
		// there is the segment, though the pool has given it away.
		s.pending = slices.Delete(s.pending, 0, 1)
		batches.Put(c.buf)
	}
}

// acquire adds a reader, which keeps the file from being unlinked.
func (s *segment) acquire() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.doomed {
		return errDoomed
	}
	s.refs++
	return nil
}

// opened returns the open file; the caller is a reader of what is written.
func (s *segment) opened() (file, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.file != nil {
		return s.file, nil
	}
	f, err := s.fs.open(s.path)
	if err != nil {
		return nil, fmt.Errorf("disk: open segment: %w", err)
	}
	s.file = f
	s.files.open.Add(1)
	return f, nil
}

// release takes a reader away; the last one of a doomed segment unlinks it.
func (s *segment) release() {
	s.mu.Lock()
	s.refs--
	bury := s.doomed && s.refs == 0
	if s.closing && s.refs == 0 {
		_ = s.closeLocked() // all is written and synced
	}
	if s.lost && s.refs == 0 {
		s.forgetLost()
	}
	s.mu.Unlock()
	if bury {
		s.bury()
	}
}

// lose gives up what is pending and returns how many bytes that were. Readers
// that are there keep them.
func (s *segment) lose() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.size - s.written.Load()
	s.sealed, s.lost = true, true
	if s.refs == 0 {
		s.forgetLost()
	}
	return n
}

func (s *segment) forgetLost() {
	s.size, s.pending = s.written.Load(), nil
}

// doom unlinks the segment now or when its last reader lets go. Until then it
// has another name: a crash must not bring back what was removed from it, once
// the segment that has the removals is gone too.
func (s *segment) doom(gone func(error)) {
	s.mu.Lock()
	s.doomed, s.gone = true, gone
	bury := s.refs == 0
	if !bury && s.fs.rename(s.path, s.path+doomedSuffix) == nil {
		s.path += doomedSuffix
	}
	s.mu.Unlock()
	if bury {
		s.bury()
	}
}

func (s *segment) bury() {
	_ = s.close() // nothing unwritten is wanted any more
	err := s.fs.remove(s.path)
	if errors.Is(err, fs.ErrNotExist) {
		err = nil // it was never made
	}
	s.gone(err)
}

// close closes the file; it is opened again when needed.
func (s *segment) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closeLocked()
}

func (s *segment) closeLocked() error {
	if s.file == nil {
		return nil
	}
	err := s.file.Close()
	s.file = nil
	s.files.open.Add(-1)
	return err
}

// closeUnread closes the file now, or when the last reader lets go.
func (s *segment) closeUnread() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closing = true
	if s.refs == 0 {
		_ = s.closeLocked()
	}
}

// closeIdle closes the file if nobody reads it and all is written.
func (s *segment) closeIdle() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.refs == 0 && s.sealed && len(s.pending) == 0 {
		_ = s.closeLocked() // only reading: there is nothing to lose
	}
}

// ReadAt reads what is appended, from the file or from pending batches. The
// caller is a reader.
func (s *segment) ReadAt(p []byte, off int64) (int, error) {
	s.mu.Lock()
	if off < 0 || off+int64(len(p)) > s.size {
		s.mu.Unlock()
		return 0, io.ErrUnexpectedEOF
	}
	// What lies below written may be in a batch too; the file has it for sure.
	fromFile := int(min(max(s.written.Load()-off, 0), int64(len(p))))
	at := fromFile
	for _, c := range s.pending {
		if from := off + int64(at) - c.off; at < len(p) && from < int64(c.n) {
			at += copy(p[at:], c.buf[from:c.n])
		}
	}
	s.mu.Unlock()
	if fromFile == 0 {
		return len(p), nil
	}
	f, err := s.opened()
	if errors.Is(err, fs.ErrNotExist) {
		return 0, fmt.Errorf("%w: %w", io.ErrUnexpectedEOF, err) // all of it is missing
	}
	if err != nil {
		return 0, err
	}
	if n, err := f.ReadAt(p[:fromFile], off); n < fromFile {
		if err == nil || err == io.EOF {
			err = io.ErrUnexpectedEOF
		} else {
			s.reopen(f)
		}
		return n, fmt.Errorf("disk: read segment: %w", err)
	}
	return len(p), nil
}

// reopen lets the next reader open the file anew: a file system that was taken
// away and mounted again never answers through what was opened before.
func (s *segment) reopen(failed file) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.file == failed {
		_ = s.closeLocked() // it has failed already
	}
}
