package store

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
)

// A tieredWriter fills into memory and, when the body outgrows it, goes on in
// the disk tier. Followers notice nothing: what was gathered is on disk before
// the switch, and a read that meets the closing of the first goes to the second.
type tieredWriter struct {
	t       *Tiered
	key     Key
	meta    Meta
	memory  *memoryWriter          // nil once it is spilled, or from the start
	current atomic.Pointer[Writer] // what followers read
}

// Create implements Store. ErrTooLarge where the object needs the disk tier and
// there is none; ErrFull where the tier does not want it now.
func (t *Tiered) Create(key Key, meta Meta) (Writer, error) {
	w := &tieredWriter{t: t}
	if meta.Length > BodyMax {
		w.key = Key{key.Hash, strings.Clone(key.Text)}
		t.memory.requested(key.Hash)
		disk, err := t.createOnDisk(key, meta)
		if err != nil {
			return nil, err
		}
		w.current.Store(&disk)
		return w, nil
	}
	memory, err := t.memory.Create(key, meta)
	if err != nil {
		return nil, err
	}
	w.memory = memory.(*memoryWriter)
	w.key, w.meta = w.memory.object.key(), meta // a key that the caller cannot change
	if t.disk != nil && meta.Length < 0 {
		w.meta.Header, w.meta.Groups = bytes.Clone(meta.Header), slices.Clone(meta.Groups)
	}
	w.current.Store(&memory)
	return w, nil
}

func (t *Tiered) createOnDisk(key Key, meta Meta) (Writer, error) {
	if t.disk == nil {
		return nil, ErrTooLarge
	}
	if !t.disk.Admits(key, meta) {
		t.stats.refused.Add(1)
		return nil, ErrFull
	}
	return t.disk.Create(key, meta)
}

// Write implements io.Writer.
func (w *tieredWriter) Write(p []byte) (int, error) {
	if w.memory == nil {
		return (*w.current.Load()).Write(p)
	}
	n, err := w.memory.Write(p)
	if w.t.disk == nil || !errors.Is(err, ErrTooLarge) && !errors.Is(err, ErrFull) {
		return n, err
	}
	if err := w.spill(); err != nil {
		return 0, err
	}
	return (*w.current.Load()).Write(p)
}

// spill moves the fill to disk.
func (w *tieredWriter) spill() error {
	disk, err := w.t.createOnDisk(w.key, w.meta)
	if err != nil {
		return err
	}
	f := w.memory.fill
	if _, err := disk.Write(f.object.block.mem[:f.size.Load()]); err != nil {
		disk.Abort()
		return err
	}
	w.current.Store(&disk)
	w.memory.Abort()
	w.memory = nil
	w.t.stats.spills.Add(1)
	return nil
}

// ReadAt implements io.ReaderAt for what has been written so far.
func (w *tieredWriter) ReadAt(p []byte, off int64) (int, error) {
	for {
		from := w.current.Load()
		n, err := (*from).ReadAt(p, off)
		if errors.Is(err, ErrClosed) && w.current.Load() != from {
			continue
		}
		return n, err
	}
}

// Commit implements Writer. ErrNotFound where it is purged already.
func (w *tieredWriter) Commit(meta Meta) (*Stored, error) {
	if w.memory == nil {
		return w.commitOnDisk(meta)
	}
	t := w.t
	stripe := t.stripe(w.key.Hash)
	var published *object
	s, err := w.memory.commit(meta, func(o *object) bool {
		stripe.mu.Lock()
		defer stripe.mu.Unlock()
		if t.refuses(&meta) {
			return false
		}
		stripe.version++
		t.memory.publish(o)
		published = o
		t.outdate(w.key)
		return true
	})
	if err != nil {
		return nil, err
	}
	if t.disk != nil && t.disk.Admits(w.key, meta) {
		t.offer(published)
	}
	return s, nil
}

// outdate drops what the disk tier has under a key whose newer object is in
// memory; the caller has the stripe.
func (t *Tiered) outdate(key Key) {
	if t.disk == nil {
		return
	}
	if err := t.disk.Remove(key); err != nil {
		t.stats.outdatedKept.Add(1)
		t.log.Warn("store: an older object stays on disk", "error", err)
	}
}

func (w *tieredWriter) commitOnDisk(meta Meta) (*Stored, error) {
	t := w.t
	stripe := t.stripe(w.key.Hash)
	stripe.mu.Lock()
	defer stripe.mu.Unlock()
	if t.refuses(&meta) {
		return nil, ErrNotFound
	}
	s, err := (*w.current.Load()).Commit(meta)
	if err != nil {
		return nil, err
	}
	stripe.version++
	return s, t.memory.Remove(w.key)
}

// Abort implements Writer.
func (w *tieredWriter) Abort() { (*w.current.Load()).Abort() }
