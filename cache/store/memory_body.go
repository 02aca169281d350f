package store

import (
	"errors"
	"io"
	"net"
	"sync/atomic"
)

// A body is the bytes of one object, counted: one reference is the index's, one
// is that of each Stored, one that of the fill while it is open. The last one
// frees the block. The body itself is left to the collector, so that a reader
// who is late finds zero references and never another object.
type body struct {
	refs atomic.Int64
	hits atomic.Uint64
	last atomic.Int64 // clock of the last request
	// onDisk: the disk tier has it too, or is about to.
	onDisk atomic.Bool
	m      *Memory
	data   []byte // block.mem[:length]; set before it is published
	block  block
	hash   Hash

	// Guarded by policy.mu; see there.
	place place

	pos        int
	prev, next *body
	born       int64   // the clock when it came
	since      int64   // the clock from which requests are counted
	before     float64 // requests from then until it came
	cost       int64
}

// acquire takes a reference, unless there is none left to share.
func (b *body) acquire() bool {
	for {
		n := b.refs.Load()
		if n == 0 {
			return false
		}
		if b.refs.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// release gives a reference back.
func (b *body) release() {
	if b.refs.Add(-1) == 0 {
		b.m.slabs.drop(b.block)
	}
}

func (b *body) bytes() []byte { return b.data }

// ReadAt implements io.ReaderAt.
func (b *body) ReadAt(p []byte, off int64) (int, error) { return readAt(b.data, p, off) }

// sendTo leaves the sending to the caller: sendfile needs a file.
func (b *body) sendTo(*net.TCPConn, int64, int64) (int64, error) { return 0, errors.ErrUnsupported }

func readAt(data, p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, errors.New("memory: negative offset")
	}
	if off > int64(len(data)) {
		return 0, io.EOF
	}
	n := copy(p, data[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// newBody returns a body with a block for n bytes, -1 for as many as there may be,
// and one reference. The pages of a block of more than smallBytes have yet to be
// granted: see grow.
func (m *Memory) newBody(hash Hash, n int) (*body, error) {
	if !m.slabs.enter() {
		return nil, ErrClosed
	}
	b := &body{m: m, hash: hash, data: []byte{}}
	b.refs.Store(1)
	var err error
	switch {
	case n < 0:
		b.block, err = m.growingBlock()
	case n == 0:
	case n <= smallBytes:
		b.block, err = m.smallBlock(b, n)
	default:
		b.block, err = m.pageBlock(n)
	}
	if err != nil {
		m.slabs.leave()
		return nil, err
	}
	return b, nil
}

// pageBlock returns a page slot for n bytes. In a full tier it evicts first, as
// reserve would have to, until a slot of the class is free with its pages: that
// spares the kernel taking pages here and clearing others there.
func (m *Memory) pageBlock(n int) (block, error) {
	class := m.slabs.page(n)
	slot := m.slabs.takeWarm(class)
	for evicted := int64(0); slot == nil && evicted < int64(n) && m.used.Load()+int64(n) > m.budget.Load(); {
		b := m.policy.evict(m.clock.Load(), m.budget.Load())
		if b == nil {
			break
		}
		evicted += b.memory()
		m.evicted(b)
		slot = m.slabs.takeWarm(class)
	}
	if slot == nil {
		var err error
		if slot, err = m.slabs.takePages(class); err != nil {
			return block{}, err
		}
	}
	return block{mem: slot.mem, slot: slot}, nil
}

// growingBlock returns a page slot for a body of unknown length.
func (m *Memory) growingBlock() (block, error) {
	slot, err := m.slabs.takePages(m.slabs.page(BodyMax))
	if err != nil {
		return block{}, err
	}
	return block{mem: slot.mem, slot: slot}, nil
}

// smallBlock returns a slot of a span, making a span where none has room.
func (m *Memory) smallBlock(owner *body, n int) (block, error) {
	class := m.slabs.small(n)
	for {
		if b, ok := class.take(m.slabs, owner); ok {
			return b, nil
		}
		slot, err := m.slabs.takePages(m.slabs.page(spanBytes))
		if err != nil {
			return block{}, err
		}
		need := int64(spanBytes - slot.resident)
		if m.used.Add(need) <= m.budget.Load() {
			m.slabs.held.Add(need)
			slot.resident = spanBytes
			class.add(m.slabs, slot)
			continue
		}
		m.used.Add(-need)
		m.slabs.dropPages(slot)
		if !m.reclaim() {
			return block{}, ErrFull
		}
	}
}

// grow makes sure that the first n bytes of the body's block have pages that
// the account has granted.
func (m *Memory) grow(b *body, n int) error {
	slot := b.block.slot
	if slot == nil || n <= slot.resident {
		return nil
	}
	to := min((n+pageBytes-1)&^(pageBytes-1), len(slot.mem))
	need := int64(to - slot.resident)
	if !m.reserve(need) {
		return ErrFull
	}
	m.slabs.held.Add(need)
	slot.resident = to
	return nil
}

// memory is what the body costs outside of the heap.
func (b *body) memory() int64 {
	if b.block.slot != nil {
		return int64(b.block.slot.resident)
	}
	return int64(len(b.block.mem))
}
