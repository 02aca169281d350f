package store

import (
	"bytes"
	"fmt"
	"io"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
)

// A fill is an object being written. Its block is contiguous from the start and
// grows by pages in the address space of its slot, so that followers read what
// is there without a lock and nothing is copied while it grows.
type fill struct {
	m      *Memory
	object *object
	length int64        // announced; -1 unknown
	done   atomic.Bool  // committed or aborted
	size   atomic.Int64 // written; what followers may read
	once   sync.Once
	charge int64 // reserved for the object to be
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
	charge := objectCharge(key.Text, &meta)
	if !m.reserve(charge) {
		m.stats.full.Add(1)
		return nil, ErrFull
	}
	o, err := m.newObject(key, int(max(meta.Length, -1)))
	if err != nil {
		m.used.Add(-charge)
		m.stats.full.Add(1)
		return nil, err
	}
	f := &fill{m: m, object: o, length: meta.Length, charge: charge}
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
		f.object.release()
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
	if err := f.m.grow(f.object, int(end)); err != nil {
		f.m.stats.full.Add(1)
		return 0, err
	}
	copy(f.object.block.mem[size:end], p)
	f.size.Store(end)
	return len(p), nil
}

// readFrom writes the first n bytes of r, which are copied once only.
func (w *memoryWriter) readFrom(r io.ReaderAt, n int64) error {
	f := w.fill
	if n > BodyMax {
		return ErrTooLarge
	}
	if err := f.m.grow(f.object, int(n)); err != nil {
		return err
	}
	if got, err := r.ReadAt(f.object.block.mem[:n], 0); int64(got) < n {
		return err
	}
	f.size.Store(n)
	return nil
}

// ReadAt implements io.ReaderAt for what has been written so far.
func (w *memoryWriter) ReadAt(p []byte, off int64) (int, error) {
	f := w.fill
	if f.done.Load() || !f.object.acquire() {
		return 0, ErrClosed
	}
	defer f.object.release()
	return readAt(f.object.block.mem[:f.size.Load()], p, off)
}

// Abort implements Writer.
func (w *memoryWriter) Abort() { w.end() }

// Commit implements Writer.
func (w *memoryWriter) Commit(meta Meta) (*Stored, error) {
	return w.commit(meta, func(o *object) bool { w.m.publish(o); return true })
}

// commit hands the finished object to publish, which makes it visible or refuses.
func (w *memoryWriter) commit(meta Meta, publish func(*object) bool) (*Stored, error) {
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
	r, err := m.newRecord(f.object.text, meta)
	if err != nil {
		return nil, err
	}
	if !m.reserve(r.charge) {
		m.stats.full.Add(1)
		return nil, ErrFull
	}
	o, err := f.settle(int(size))
	if err != nil {
		m.used.Add(-r.charge)
		return nil, err
	}
	r.seen = &o.seen
	o.record.Store(r)
	o.refs.Add(1) // the index's
	if !publish(o) {
		m.used.Add(-r.charge)
		o.release()
		o.release()
		return nil, ErrNotFound
	}
	s := o.stored()
	return &s, nil
}

// settle returns the object in a block of the right size, with a reference for
// the caller. A block that is much too large is left for others.
func (f *fill) settle(size int) (*object, error) {
	o := f.object
	if slot := o.block.slot; slot != nil && (size <= smallBytes || f.m.slabs.page(size) != slot.class) {
		fitting, err := f.m.newObject(o.key(), size)
		if err != nil {
			return nil, err
		}
		if err := f.m.grow(fitting, size); err != nil {
			fitting.release()
			return nil, err
		}
		copy(fitting.block.mem, o.block.mem[:size])
		o = fitting
	} else if !o.acquire() {
		return nil, ErrClosed
	}
	f.m.used.Add(-f.m.slabs.cut(o.block.slot, size))
	o.data = o.block.mem[:size:size]
	if size == 0 {
		o.data = []byte{}
	}
	return o, nil
}

// newRecord makes a record with its own copy of everything and what Prepare
// makes of it.
func (m *Memory) newRecord(text string, meta Meta) (*record, error) {
	r := &record{meta: meta, charge: objectCharge(text, &meta)}
	r.meta.Header = bytes.Clone(meta.Header)
	r.meta.Groups = slices.Clone(meta.Groups)
	if m.prints != nil {
		m.prints(&r.meta)
	}
	if m.prepare != nil {
		value, n, err := m.prepare(&r.meta)
		if err != nil {
			return nil, fmt.Errorf("memory: prepare: %w", err)
		}
		r.value = value
		r.charge += max(n, 0)
	}
	return r, nil
}
