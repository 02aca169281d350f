package store

import (
	"errors"
	"io"
	"strings"
	"sync/atomic"
	"syscall"
	"unsafe"
)

// An object is a key and a body, counted: one reference is the index's, one is
// that of each Stored, one that of the fill while it is open. The last one frees
// the block. The object itself is never reused but left to the collector, so
// that a reader who is late finds zero references and never another's bytes.
//
// What a lookup reads comes first, a key of usual length included, so that it
// waits for memory once and not for each in turn.
type object struct {
	refs   atomic.Int64
	hits   atomic.Uint64
	last   atomic.Int64  // clock of the last request
	seen   atomic.Uint64 // Stored.Seen of the first record
	record atomic.Pointer[record]
	hash   Hash
	text   string // the key; points to inline where it fits
	inline [inlineText]byte

	data  []byte // block.mem[:length]; set before it is published
	m     *Memory
	block block
	// onDisk: the disk tier has it too, or is about to.
	onDisk atomic.Bool

	// Guarded by policy.mu; see there.
	place      place
	pos        int32
	keep       uint32 // Unix seconds until which it is of use; keepForever: no end
	prev, next *object
	born       int64   // the clock when it came
	since      int64   // the clock from which requests are counted
	before     float64 // requests from then until it came
	cost       int64
}

// inlineText makes an object as large as the allocator's class for it.
const inlineText = 104

// A record is what freshening replaces. It never changes.
type record struct {
	value  any
	seen   *atomic.Uint64
	meta   Meta
	charge int64 // bytes on the heap of object and record, for the account
}

func (o *object) setKey(key Key) {
	o.hash = key.Hash
	if len(key.Text) > inlineText {
		o.text = strings.Clone(key.Text)
		return
	}
	o.text = unsafe.String(&o.inline[0], copy(o.inline[:], key.Text))
}

func (o *object) key() Key { return Key{o.hash, o.text} }

// is says whether o is kept under key.
func (o *object) is(key Key) bool {
	if o.hash != key.Hash {
		return false
	}
	if n := len(key.Text); n <= inlineText {
		return string(o.inline[:n]) == key.Text && len(o.text) == n
	}
	return o.text == key.Text
}

// stored returns a Stored that takes over a reference of the caller.
func (o *object) stored() Stored {
	s := o.record.Load().stored()
	s.src = o
	return s
}

// stored returns a Stored without a body, and without a reference.
func (r *record) stored() Stored {
	return Stored{meta: &r.meta, value: r.value, seen: r.seen, print: r.meta.Prints[0], tier: tierMemory}
}

// acquire takes a reference, unless there is none left to share.
func (o *object) acquire() bool {
	for {
		n := o.refs.Load()
		if n == 0 {
			return false
		}
		if o.refs.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// release gives a reference back.
func (o *object) release() {
	if o.refs.Add(-1) == 0 {
		o.m.slabs.drop(o.block)
	}
}

func (o *object) bytes() []byte { return o.data }

// ReadAt implements io.ReaderAt.
func (o *object) ReadAt(p []byte, off int64) (int, error) { return readAt(o.data, p, off) }

// sendTo leaves the sending to the caller: sendfile needs a file.
func (o *object) sendTo(syscall.RawConn, int64, int64, bool) (int64, error) {
	return 0, errors.ErrUnsupported
}

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

// newObject returns an object with a block for n bytes, -1 for as many as there
// may be, and one reference. The pages of a block of more than smallBytes have
// yet to be granted: see grow.
func (m *Memory) newObject(key Key, n int) (*object, error) {
	if !m.slabs.enter() {
		return nil, ErrClosed
	}
	o := &object{m: m, data: []byte{}}
	o.setKey(key)
	o.refs.Store(1)
	var err error
	switch {
	case n < 0:
		o.block, err = m.growingBlock()
	case n == 0:
	case n <= smallBytes:
		o.block, err = m.smallBlock(o, n)
	default:
		o.block, err = m.pageBlock(n)
	}
	if err != nil {
		m.slabs.leave()
		return nil, err
	}
	return o, nil
}

// pageBlock returns a page slot for n bytes. In a full tier it evicts first, as
// reserve would have to, until a slot of the class is free with its pages: that
// spares the kernel taking pages here and clearing others there.
func (m *Memory) pageBlock(n int) (block, error) {
	class := m.slabs.page(n)
	slot := m.slabs.takeWarm(class)
	for evicted := int64(0); slot == nil && evicted < int64(n) && m.used.Load()+int64(n) > m.budget.Load(); {
		o := m.policy.evict(m.clock.Load(), m.budget.Load())
		if o == nil {
			break
		}
		evicted += o.memory()
		m.evicted(o)
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
func (m *Memory) smallBlock(owner *object, n int) (block, error) {
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
func (m *Memory) grow(o *object, n int) error {
	slot := o.block.slot
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
func (o *object) memory() int64 {
	if o.block.slot != nil {
		return int64(o.block.slot.resident)
	}
	return int64(len(o.block.mem))
}
