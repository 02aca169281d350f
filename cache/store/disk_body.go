package store

import (
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"sync"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"
)

// diskBody is the body of a stored object on disk: one piece, or the slices of
// a large object. It pins the segments of all its pieces.
type diskBody struct {
	v          *volume
	length     int64
	pieceBytes int64 // of all pieces but the last
	pieces     []*piece
	// head of an object in one piece that was read for this body, and what Prepare
	// said it holds.
	head     *diskHead
	prepared int64
}

// piece is a contiguous part of a body in a segment. A piece without segment
// is lost.
type piece struct {
	seg      *segment
	off      int64 // of the body in the segment
	print    uint64
	word     slotWord // of the record by which the index names the piece
	verified atomic.Bool

	// Of a slice: what its record must say.
	fill   uint64
	number int

	mu   sync.Mutex // guards sums until they are read
	sums []uint32
}

var (
	errLost     = fmt.Errorf("disk: a part of the body has gone: %w", ErrNotFound)
	errChecksum = fmt.Errorf("disk: body checksum: %w", ErrNotFound)
	blocks      = sync.Pool{New: func() any { b := make([]byte, blockBytes); return &b }}
)

func (b *diskBody) bytes() []byte { return nil }

func (b *diskBody) release() {
	for i := range b.pieces {
		if seg := b.pieces[i].seg; seg != nil {
			seg.release()
		}
	}
}

// pieceLength returns the length of piece i.
func (b *diskBody) pieceLength(i int) int64 {
	return min(b.pieceBytes, b.length-int64(i)*b.pieceBytes)
}

// ReadAt reads verified bytes. Reads that begin and end on 64 KiB are the
// cheapest: blocks under one checksum are always read whole.
func (b *diskBody) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, errors.New("disk: read at a negative offset")
	}
	done := 0
	for done < len(p) && off < b.length {
		i := int(off / b.pieceBytes)
		in := off - int64(i)*b.pieceBytes
		want := p[done:]
		want = want[:min(int64(len(want)), b.pieceLength(i)-in)]
		n, err := b.v.readPiece(b.pieces[i], b.pieceLength(i), want, in)
		done += n
		off += int64(n)
		if err != nil {
			return done, err
		}
	}
	if done < len(p) {
		return done, io.EOF
	}
	return done, nil
}

// gap returns the first lost part of body[off:off+n], or a length of 0.
func (b *diskBody) gap(off, n int64) (int64, int64) {
	end := min(off+n, b.length)
	for at := max(off, 0); at < end; {
		i := int(at / b.pieceBytes)
		begin := int64(i) * b.pieceBytes
		if pc := b.pieces[i]; pc.seg == nil {
			at = max(begin, off)
			return at, min(begin+b.pieceLength(i), end) - at
		}
		at = begin + b.pieceBytes
	}
	return 0, 0
}

// readPiece fills want with verified bytes of a piece.
func (v *volume) readPiece(pc *piece, length int64, want []byte, off int64) (int, error) {
	sums, err := v.sumsOf(pc)
	if err != nil {
		return 0, err
	}
	done := 0
	for done < len(want) {
		block := off / blockBytes
		begin := block * blockBytes
		size := min(blockBytes, length-begin)
		if off == begin && int64(len(want)-done) >= size {
			if err := v.readBlock(pc, want[done:done+int(size)], begin, sums[block]); err != nil {
				return done, err
			}
			done += int(size)
			off += size
			continue
		}
		buf := blocks.Get().(*[]byte)
		if err := v.readBlock(pc, (*buf)[:size], begin, sums[block]); err != nil {
			blocks.Put(buf)
			return done, err
		}
		n := copy(want[done:], (*buf)[off-begin:size])
		blocks.Put(buf)
		done += n
		off += int64(n)
	}
	return done, nil
}

func (v *volume) readBlock(pc *piece, p []byte, off int64, sum uint32) error {
	if err := v.readSegment(pc.seg, p, pc.off+off); err != nil {
		if errors.Is(err, errLost) {
			v.damaged(pc.print, pc.word)
		}
		return err
	}
	if crc32.Checksum(p, castagnoli) != sum {
		v.damaged(pc.print, pc.word)
		return errChecksum
	}
	v.stats.bytesRead.Add(int64(len(p)))
	return nil
}

// damaged forgets a record that is not what was written.
func (v *volume) damaged(print uint64, word slotWord) {
	v.stats.checksumErrors.Add(1)
	v.removeAt(print, word)
}

// readSegment reads, and keeps the directory's account of failed reads.
func (v *volume) readSegment(seg *segment, p []byte, off int64) error {
	if !v.health.readable() {
		return fmt.Errorf("disk: directory is out of use: %w", ErrBroken)
	}
	_, err := seg.ReadAt(p, off)
	v.limitFiles()
	if err == nil {
		v.health.readWell()
		return nil
	}
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return errLost // the file is shorter than it was
	}
	v.stats.readErrors.Add(1)
	v.health.readFailed(err)
	return fmt.Errorf("%w: %w", ErrBroken, err)
}

// sumsOf returns the checksums of a piece, reading a slice's head once.
func (v *volume) sumsOf(pc *piece) ([]uint32, error) {
	if pc.seg == nil {
		return nil, errLost
	}
	pc.mu.Lock()
	defer pc.mu.Unlock()
	if pc.sums != nil {
		return pc.sums, nil
	}
	p, rest, err := v.readHead(pc.seg, pc.word)
	if err != nil {
		if errors.Is(err, errNoRecord) || errors.Is(err, errLost) {
			v.damaged(pc.print, pc.word)
			err = errChecksum
		}
		return nil, err
	}
	h, err := decodeSlice(p, rest)
	if err != nil || h.fill != pc.fill || h.number != pc.number {
		v.damaged(pc.print, pc.word)
		return nil, errChecksum
	}
	v.index.touch(pc.print)
	pc.sums = h.sums
	return pc.sums, nil
}

// readHead reads and verifies the head that an index word names.
func (v *volume) readHead(seg *segment, word slotWord) (prefix, []byte, error) {
	buf := make([]byte, word.headUnits()*unitBytes)
	unit := unitOf(word.pos())
	if err := v.readSegment(seg, buf, int64(unit)*unitBytes); err != nil {
		return prefix{}, nil, err
	}
	return decodeHead(buf, positionOf(seg.id, unit))
}

// sendTo sends by sendfile what lies in files, after each piece was verified
// once since the start.
func (b *diskBody) sendTo(out syscall.RawConn, off, n int64, wait bool) (int64, error) {
	if off < 0 || n < 0 || off+n > b.length {
		return 0, fmt.Errorf("disk: send %d bytes at %d of %d: %w", n, off, b.length, io.ErrUnexpectedEOF)
	}
	first := int(off / b.pieceBytes)
	for i := first; int64(i)*b.pieceBytes < off+n; i++ {
		pc := b.pieces[i]
		if pc.seg == nil || pc.off+b.pieceLength(i) > pc.seg.written.Load() {
			return 0, errors.ErrUnsupported
		}
	}
	var sent int64
	for i := first; sent < n; i++ {
		in := off + sent - int64(i)*b.pieceBytes
		want := min(n-sent, b.pieceLength(i)-in)
		k, err := b.v.sendPiece(out, b.pieces[i], b.pieceLength(i), in, want, wait)
		sent += k
		if err != nil || k < want {
			return sent, err
		}
	}
	return sent, nil
}

func (v *volume) sendPiece(out syscall.RawConn, pc *piece, length, off, n int64, wait bool) (int64, error) {
	if err := v.verifyOnce(pc, length); err != nil {
		return 0, err
	}
	f, err := pc.seg.opened()
	if err != nil {
		return 0, err
	}
	defer v.limitFiles()
	in, err := f.SyscallConn()
	if err != nil {
		return 0, fmt.Errorf("disk: send: %w", err)
	}
	var sent int64
	var sendErr error
	// Control keeps the segment's descriptor from being closed meanwhile; the
	// offset is ours, so that the file's position plays no part.
	err = in.Control(func(src uintptr) {
		sent, sendErr = sendFile(out, int(src), pc.off+off, n, wait)
	})
	if err == nil {
		err = sendErr
	}
	v.stats.bytesRead.Add(sent)
	v.stats.bytesSent.Add(sent)
	switch {
	case err == nil:
		return sent, nil
	case errors.Is(err, io.ErrUnexpectedEOF): // the file is shorter than it was
		v.damaged(pc.print, pc.word)
		return sent, errLost
	case errors.Is(err, syscall.EIO): // which no socket says
		v.stats.readErrors.Add(1)
		v.health.readFailed(err)
		pc.seg.reopen(f)
		return sent, fmt.Errorf("disk: send: %w: %w", ErrBroken, err)
	}
	return sent, fmt.Errorf("disk: send: %w", err)
}

// sendFile sends n bytes of src from off. Where the socket takes no more, it ends
// or has Write wait for it, up to the connection's deadline.
func sendFile(out syscall.RawConn, src int, off, n int64, wait bool) (int64, error) {
	const callMax = 1 << 30
	var sent int64
	var sendErr error
	send := unix.Sendfile
	if n <= BodyMax && cached(src, off, n) {
		send = sendCached
	}
	err := out.Write(func(dst uintptr) bool {
		for sent < n {
			k, err := send(int(dst), src, &off, int(min(n-sent, callMax)))
			switch {
			case k > 0:
				sent += int64(k)
			case err == unix.EAGAIN:
				return !wait
			case err == unix.EINTR:
			case err != nil:
				sendErr = err
				return true
			default:
				sendErr = io.ErrUnexpectedEOF
				return true
			}
		}
		return true
	})
	if err == nil {
		err = sendErr
	}
	return sent, err
}

// verifyOnce verifies a whole piece unless that was done since the start.
func (v *volume) verifyOnce(pc *piece, length int64) error {
	if pc.verified.Load() {
		return nil
	}
	if now := v.index.get(pc.print); now&slotVerified != 0 && now.pos() == pc.word.pos() {
		pc.verified.Store(true)
		return nil
	}
	buf := blocks.Get().(*[]byte)
	defer blocks.Put(buf)
	for off := int64(0); off < length; off += blockBytes {
		if _, err := v.readPiece(pc, length, (*buf)[:min(blockBytes, length-off)], off); err != nil {
			return err
		}
	}
	pc.verified.Store(true)
	v.index.mark(pc.print, pc.word.pos(), slotVerified)
	return nil
}
