package store

import (
	"bytes"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
)

// A fill is an object being written. Its body is contiguous from the start and
// grows by pages in the address space of its slot, so that followers read what
// is there without a lock and nothing is copied while it grows.
type fill struct {
	m      *Memory
	key    Key
	length int64 // announced; -1 unknown
	body   *body
	done   atomic.Bool  // committed or aborted
	size   atomic.Int64 // written; what followers may read
	once   sync.Once
	charge int64 // reserved for the entry to be
}

// memoryWriter is the handle of a fill; a dropped one aborts it.
type memoryWriter struct{ *fill }

// Create implements Store. A Length of more than BodyMax is ErrTooLarge.
func (m *Memory) Create(key Key, meta Meta) (Writer, error) {
	m.requested(key.Hash)
	w, err := m.create(key, meta)
	if err != nil {
		return nil, err
	}
	return w, nil
}

func (m *Memory) create(key Key, meta Meta) (*memoryWriter, error) {
	switch {
	case m.closed.Load():
		return nil, ErrClosed
	case meta.Length > BodyMax || len(meta.Header) > HeaderMax:
		return nil, ErrTooLarge
	}
	charge := entryBytes(key.Text, &meta)
	if !m.reserve(charge) {
		m.stats.full.Add(1)
		return nil, ErrFull
	}
	b, err := m.newBody(key.Hash, int(max(meta.Length, -1)))
	if err != nil {
		m.used.Add(-charge)
		m.stats.full.Add(1)
		return nil, err
	}
	f := &fill{m: m, key: Key{key.Hash, strings.Clone(key.Text)}, length: meta.Length, body: b, charge: charge}
	m.fills.Add(1)
	w := &memoryWriter{f}
	runtime.AddCleanup(w, (*fill).end, f)
	return w, nil
}

// end closes the fill and gives back what it holds.
func (f *fill) end() {
	f.done.Store(true)
	f.once.Do(func() {
		f.m.used.Add(-f.charge)
		f.m.fills.Add(-1)
		f.body.release()
	})
}

// Write implements io.Writer.
func (w *memoryWriter) Write(p []byte) (int, error) {
	f := w.fill
	if f.done.Load() {
		return 0, ErrClosed
	}
	size := f.size.Load()
	end := size + int64(len(p))
	switch {
	case end > BodyMax:
		return 0, ErrTooLarge
	case f.length >= 0 && end > f.length:
		return 0, fmt.Errorf("memory: %w: %d bytes announced, %d written", ErrLength, f.length, end)
	}
	if err := f.m.grow(f.body, int(end)); err != nil {
		f.m.stats.full.Add(1)
		return 0, err
	}
	copy(f.body.block.mem[size:end], p)
	f.size.Store(end)
	return len(p), nil
}

// readFrom writes the first n bytes of r, which are copied once only.
func (w *memoryWriter) readFrom(r io.ReaderAt, n int64) error {
	f := w.fill
	if n > BodyMax {
		return ErrTooLarge
	}
	if err := f.m.grow(f.body, int(n)); err != nil {
		return err
	}
	if got, err := r.ReadAt(f.body.block.mem[:n], 0); int64(got) < n {
		return err
	}
	f.size.Store(n)
	return nil
}

// ReadAt implements io.ReaderAt for what has been written so far.
func (w *memoryWriter) ReadAt(p []byte, off int64) (int, error) {
	f := w.fill
	if f.done.Load() || !f.body.acquire() {
		return 0, ErrClosed
	}
	defer f.body.release()
	return readAt(f.body.block.mem[:f.size.Load()], p, off)
}

// Abort implements Writer.
func (w *memoryWriter) Abort() { w.end() }

// Commit implements Writer.
func (w *memoryWriter) Commit(meta Meta) (*Stored, error) {
	return w.commit(meta, func(e *entry) bool { w.m.publish(e); return true })
}

// commit hands the finished entry to publish, which makes it visible or refuses.
func (w *memoryWriter) commit(meta Meta, publish func(*entry) bool) (*Stored, error) {
	f := w.fill
	if f.done.Swap(true) {
		return nil, ErrClosed
	}
	defer f.end()
	m, size := f.m, f.size.Load()
	switch {
	case meta.Length != size:
		return nil, fmt.Errorf("memory: %w: meta says %d bytes, %d were written", ErrLength, meta.Length, size)
	case len(meta.Header) > HeaderMax:
		return nil, ErrTooLarge
	}
	e, err := m.newEntry(f.key, meta)
	if err != nil {
		return nil, err
	}
	if !m.reserve(e.charge) {
		m.stats.full.Add(1)
		return nil, ErrFull
	}
	if e.body, err = f.settle(int(size)); err != nil {
		m.used.Add(-e.charge)
		return nil, err
	}
	e.body.refs.Add(1) // the index's
	if !publish(e) {
		m.used.Add(-e.charge)
		e.body.release()
		e.body.release()
		return nil, ErrNotFound
	}
	return &Stored{meta: &e.meta, value: e.value, tier: tierMemory, src: e.body}, nil
}

// settle returns the body in a block of the right size, with a reference for
// the caller. A block that is much too large is left for others.
func (f *fill) settle(size int) (*body, error) {
	b := f.body
	if slot := b.block.slot; slot != nil && (size <= smallBytes || f.m.slabs.page(size) != slot.class) {
		fitting, err := f.m.newBody(b.hash, size)
		if err != nil {
			return nil, err
		}
		if err := f.m.grow(fitting, size); err != nil {
			fitting.release()
			return nil, err
		}
		copy(fitting.block.mem, b.block.mem[:size])
		b = fitting
	} else if !b.acquire() {
		return nil, ErrClosed
	}
	f.m.used.Add(-f.m.slabs.cut(b.block.slot, size))
	b.data = b.block.mem[:size:size]
	if size == 0 {
		b.data = []byte{}
	}
	return b, nil
}

// newEntry makes an entry without a body, with its own copy of everything and
// what Prepare makes of it.
func (m *Memory) newEntry(key Key, meta Meta) (*entry, error) {
	e := &entry{hash: key.Hash, text: key.Text, meta: meta}
	e.meta.Header = bytes.Clone(meta.Header)
	e.meta.Groups = slices.Clone(meta.Groups)
	e.charge = entryBytes(key.Text, &meta)
	if m.prepare != nil {
		value, n, err := m.prepare(&e.meta)
		if err != nil {
			return nil, fmt.Errorf("memory: prepare: %w", err)
		}
		e.value = value
		e.charge += max(n, 0)
	}
	return e, nil
}
