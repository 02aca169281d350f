package store

import (
	"io"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
)

// diskWriter fills one object. Up to a slice is kept in a buffer; what is
// longer goes to the log slice by slice, and the manifest that names them
// follows at Commit.
type diskWriter struct {
	d      *Disk
	v      *volume
	key    Key
	length int64 // declared, or -1
	fill   uint64

	mu   sync.RWMutex // followers read while the filler writes
	buf  []byte
	body diskBody // slices in the log; length and pieces grow
	err  error
	done bool
}

func (d *Disk) newWriter(v *volume, key Key, length int64) *diskWriter {
	w := &diskWriter{d: d, v: v, length: length, fill: rand.Uint64() | 1}
	w.key = Key{key.Hash, strings.Clone(key.Text)}
	w.body = diskBody{v: v, pieceBytes: int64(v.sliceBytes())}
	// A dropped Writer is an Abort: its pins and its share of the buffers must
	// not be lost with it.
	runtime.SetFinalizer(w, (*diskWriter).Abort)
	return w
}

// Write takes p or fails; after a failure nothing will be stored.
func (w *diskWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.done {
		return 0, ErrClosed
	}
	if w.err != nil {
		return 0, w.err
	}
	taken := 0
	for taken < len(p) {
		n, err := w.write(p[taken:])
		taken += n
		if err != nil {
			w.err = err
			return taken, err
		}
	}
	return taken, nil
}

// write takes as much of p as the current slice holds.
func (w *diskWriter) write(p []byte) (int, error) {
	size := w.size()
	if w.length >= 0 && size+int64(len(p)) > w.length {
		return 0, ErrLength
	}
	if size+int64(len(p)) > w.v.objectMax() {
		return 0, ErrTooLarge
	}
	slice := int(w.body.pieceBytes)
	if len(w.buf) == slice {
		if err := w.flushSlice(); err != nil {
			return 0, err
		}
	}
	n := min(len(p), slice-len(w.buf))
	if err := w.reserve(len(w.buf) + n); err != nil {
		return 0, err
	}
	w.buf = append(w.buf, p[:n]...)
	return n, nil
}

func (w *diskWriter) size() int64 { return w.body.length + int64(len(w.buf)) }

// reserve makes the buffer hold n bytes: all that is declared at once, or twice
// as much each time.
func (w *diskWriter) reserve(n int) error {
	if n <= cap(w.buf) {
		return nil
	}
	slice := int(w.body.pieceBytes)
	size := min(max(2*cap(w.buf), n, 16<<10), slice)
	if w.length >= 0 {
		size = int(min(w.length-w.body.length, int64(slice)))
	}
	more := int64(size - cap(w.buf))
	if w.d.buffered.Add(more) > w.d.tuning.buffersMax {
		w.d.buffered.Add(-more)
		w.d.buffersFull.Add(1)
		return ErrFull
	}
	grown := make([]byte, len(w.buf), size)
	copy(grown, w.buf)
	w.buf = grown
	return nil
}

// flushSlice appends the buffer to the log as the next slice.
func (w *diskWriter) flushSlice() error {
	h := &sliceHead{fill: w.fill, owner: printOf(w.key.Hash), number: len(w.body.pieces), sums: checksums(nil, w.buf)}
	h.bodyBytes = len(w.buf)
	head := encodeSlice(h)
	print := slicePrint(w.fill, h.number)
	seg, position, err := w.v.put(&write{head: head, body: w.buf, prefix: &h.prefix, print: print})
	if err != nil {
		return err
	}
	w.body.pieces = append(w.body.pieces, &piece{
		seg: seg, off: sliceOffset(position, int64(len(w.buf))), print: print,
		word: makeSlot(position, unitsOf(len(head)), slotSlice), fill: w.fill, number: h.number, sums: h.sums,
	})
	w.body.length += int64(len(w.buf))
	w.buf = w.buf[:0]
	return nil
}

// ReadAt serves those who follow the fill.
func (w *diskWriter) ReadAt(p []byte, off int64) (int, error) {
	w.mu.RLock()
	size, inLog := w.size(), diskBody{v: w.v, length: w.body.length, pieceBytes: w.body.pieceBytes, pieces: w.body.pieces}
	done := 0
	if off >= inLog.length && off <= size {
		done = copy(p, w.buf[off-inLog.length:])
	}
	w.mu.RUnlock()
	if off < 0 || off > size {
		return 0, io.EOF
	}
	if off < inLog.length {
		// Out of the lock: a read from disk must not hold up the fill.
		n, err := inLog.ReadAt(p[:min(int64(len(p)), inLog.length-off)], off)
		if err != nil || n == len(p) {
			return n, err
		}
		rest, err := w.ReadAt(p[n:], off+int64(n))
		return n + rest, err
	}
	if done < len(p) {
		return done, io.EOF
	}
	return done, nil
}

// Commit appends the header, with the body when that fits one slice.
func (w *diskWriter) Commit(meta Meta) (*Stored, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.done:
		return nil, ErrClosed
	case w.err != nil:
		return nil, w.err
	case meta.Length != w.size():
		return nil, ErrLength
	}
	h := &objectHead{prefix: prefix{hash: w.key.Hash}, meta: cloneMeta(meta), key: w.key.Text}
	value, _, err := w.d.prepareMeta(&h.meta)
	if err != nil {
		return nil, err
	}
	body, err := w.commit(h)
	if err != nil {
		w.err = err
		return nil, err
	}
	w.done = true
	w.freeBuffer()
	w.d.removeElsewhere(w.v, w.key)
	w.v.stats.stored.Add(1)
	return &Stored{meta: &h.meta, value: value, seen: new(atomic.Uint64), tier: tierDisk, src: body}, nil
}

func (w *diskWriter) commit(h *objectHead) (*diskBody, error) {
	var inline []byte
	sliced := len(w.body.pieces) > 0
	if sliced {
		if len(w.buf) > 0 {
			if err := w.flushSlice(); err != nil {
				return nil, err
			}
		}
		if !w.slicesLive() {
			return nil, ErrFull
		}
		h.fill, h.sliceBytes = w.fill, int(w.body.pieceBytes)
	} else {
		inline = w.buf
		h.bodyBytes, h.sums = len(inline), checksums(nil, inline)
	}
	head, err := encodeObject(h)
	if err != nil {
		return nil, err
	}
	seg, position, err := w.v.put(&write{head: head, body: inline, prefix: &h.prefix, print: printOf(w.key.Hash)})
	if err != nil {
		return nil, err
	}
	if sliced {
		seg.release()
		return &diskBody{v: w.v, length: w.body.length, pieceBytes: w.body.pieceBytes, pieces: w.body.pieces}, nil
	}
	h.headBytes = len(head)
	return w.v.body(seg, makeSlot(position, unitsOf(len(head)), 0), h)
}

// slicesLive reports whether the log still has all slices: a slow fill on a
// small or failing disk may outlive its first ones.
func (w *diskWriter) slicesLive() bool {
	for _, pc := range w.body.pieces {
		if w.v.index.get(pc.print).pos() != pc.word.pos() {
			return false
		}
	}
	return true
}

// Abort forgets the slices that were written.
func (w *diskWriter) Abort() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.done {
		return
	}
	w.done = true
	for _, pc := range w.body.pieces {
		w.v.index.removeAt(pc.print, pc.word.pos())
	}
	w.body.release()
	w.freeBuffer()
}

func (w *diskWriter) freeBuffer() {
	runtime.SetFinalizer(w, nil)
	w.d.buffered.Add(-int64(cap(w.buf)))
	w.buf = nil
}

// cloneMeta copies what a caller may use again.
func cloneMeta(m Meta) Meta {
	m.Header = append([]byte{}, m.Header...)
	m.Groups = append([]uint64(nil), m.Groups...)
	return m
}
