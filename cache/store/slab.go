package store

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// Bodies live in slots outside of the Go heap, so that the collector neither
// scans nor counts them.
//
// A page slot has the address space of its class, a power of two, but holds
// only the pages that were written: an object of 600 KiB in a slot of 1 MiB
// costs 600 KiB, and a body may grow in place while its length is unknown. A
// freed page slot keeps its pages for the next of its class (it is warm) until
// trim gives them back to the kernel, so that page slots never fragment.
//
// A body of at most smallBytes shares a span, a page slot of spanBytes cut into
// equal slots. Spans can be left sparse when sizes shift: sparse names the
// emptiest so that the policy can clear it.
//
// held is the physical memory in use, warm slots and holes in spans included.
// It grows only by what the account (Memory.reserve) has granted before.
const (
	pageBytes  = 4 << 10
	spanBytes  = 64 << 10
	smallBytes = 16 << 10
	chunkBytes = 16 << 20 // address space taken from the kernel at once

	pageClasses  = 6  // 32 KiB to 1 MiB
	smallClasses = 33 // 64 B to 16 KiB, four a doubling
	spanSlotsMax = spanBytes / 64
)

// slabs owns the memory of bodies.
type slabs struct {
	pages  [pageClasses]pageClass
	smalls [smallClasses]smallClass
	held   atomic.Int64 // physical bytes: pages of slots in use and warm ones
	warm   atomic.Int64 // of these, pages of free slots
	holes  atomic.Int64 // of these, free slots in spans
	live   atomic.Int64 // blocks in use or being taken

	closed atomic.Bool
	mu     sync.Mutex // guards chunks
	chunks [][]byte
}

// A pageSlot is address space for one large body or one span. Its fields belong
// to whoever holds it; while it is free, to its class.
type pageSlot struct {
	class    *pageClass
	mem      []byte
	resident int // bytes at the start of mem that may have pages
}

type pageClass struct {
	bytes int
	mu    sync.Mutex
	warm  []*pageSlot // free, with pages
	cold  []*pageSlot // free, without
}

type smallClass struct {
	bytes int
	mu    sync.Mutex
	open  []*span // those with free slots, in no order
}

// A span is a page slot cut into equal slots. Guarded by its class's mutex.
type span struct {
	class  *smallClass
	slot   *pageSlot
	owners []*object // by slot; nil where free
	free   []uint16
	pos    int // in class.open, -1 when full
}

// A block is memory for one body; the zero block holds none.
type block struct {
	mem   []byte
	slot  *pageSlot // a page slot of its own, or
	span  *span     // a slot in a span
	index uint16
}

func newSlabs() *slabs {
	s := &slabs{}
	for i := range s.pages {
		s.pages[i].bytes = 32 << 10 << i
	}
	// 1024, 896, 768, 640, 512, ... 4 slots a span.
	i := smallClasses - 1
	for n := 4; n < spanSlotsMax; n *= 2 {
		for quarter := range 4 {
			s.smalls[i].bytes = spanBytes / (n + n*quarter/4) &^ 7
			i--
		}
	}
	s.smalls[i].bytes = spanBytes / spanSlotsMax
	return s
}

// small returns the class for a body of n bytes, at most smallBytes.
func (s *slabs) small(n int) *smallClass {
	lo, hi := 0, smallClasses-1
	for lo < hi {
		mid := (lo + hi) / 2
		if s.smalls[mid].bytes < n {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return &s.smalls[lo]
}

// page returns the class of address space for n bytes, at most BodyMax.
func (s *slabs) page(n int) *pageClass {
	for i := range s.pages {
		if n <= s.pages[i].bytes {
			return &s.pages[i]
		}
	}
	return &s.pages[pageClasses-1]
}

// take returns a free slot of the span class without new memory, if there is one.
func (c *smallClass) take(s *slabs, owner *object) (block, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.open) == 0 {
		return block{}, false
	}
	sp := c.open[len(c.open)-1]
	i := sp.free[len(sp.free)-1]
	sp.free = sp.free[:len(sp.free)-1]
	sp.owners[i] = owner
	if len(sp.free) == 0 {
		c.open = c.open[:len(c.open)-1]
		sp.pos = -1
	}
	s.holes.Add(-int64(c.bytes))
	at := int(i) * c.bytes
	return block{mem: sp.slot.mem[at : at+c.bytes : at+c.bytes], span: sp, index: i}, true
}

// add makes a span of a page slot all of whose pages have been granted.
func (c *smallClass) add(s *slabs, slot *pageSlot) {
	n := spanBytes / c.bytes
	sp := &span{class: c, slot: slot, owners: make([]*object, n), free: make([]uint16, n)}
	for i := range sp.free {
		sp.free[i] = uint16(n - 1 - i)
	}
	s.holes.Add(int64(n * c.bytes))
	c.mu.Lock()
	defer c.mu.Unlock()
	sp.pos = len(c.open)
	c.open = append(c.open, sp)
}

// drop frees a slot of a span, and the span with its last one.
func (c *smallClass) drop(s *slabs, b block) {
	sp := b.span
	c.mu.Lock()
	sp.owners[b.index] = nil
	sp.free = append(sp.free, b.index)
	s.holes.Add(int64(c.bytes))
	if sp.pos < 0 {
		sp.pos = len(c.open)
		c.open = append(c.open, sp)
	}
	empty := len(sp.free) == len(sp.owners)
	if empty {
		last := c.open[len(c.open)-1]
		c.open[sp.pos] = last
		last.pos = sp.pos
		c.open = c.open[:len(c.open)-1]
		s.holes.Add(-int64(len(sp.owners) * c.bytes))
	}
	c.mu.Unlock()
	if empty {
		s.dropPages(sp.slot)
	}
}

// takeWarm returns a free slot of the class that has pages, or nil.
func (s *slabs) takeWarm(c *pageClass) *pageSlot {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := len(c.warm)
	if n == 0 {
		return nil
	}
	slot := c.warm[n-1]
	c.warm = c.warm[:n-1]
	s.warm.Add(-int64(slot.resident))
	return slot
}

// takePages returns a free slot of the class, a warm one if there is one, or
// maps new address space.
func (s *slabs) takePages(c *pageClass) (*pageSlot, error) {
	if slot := s.takeWarm(c); slot != nil {
		return slot, nil
	}
	c.mu.Lock()
	if n := len(c.cold); n > 0 {
		slot := c.cold[n-1]
		c.cold = c.cold[:n-1]
		c.mu.Unlock()
		return slot, nil
	}
	c.mu.Unlock()
	return s.grow(c)
}

// grow maps a chunk for the class and returns one of its slots.
func (s *slabs) grow(c *pageClass) (*pageSlot, error) {
	mem, err := unix.Mmap(-1, 0, chunkBytes, unix.PROT_READ|unix.PROT_WRITE,
		unix.MAP_PRIVATE|unix.MAP_ANON|unix.MAP_NORESERVE)
	if err != nil {
		return nil, fmt.Errorf("memory: map %d bytes for bodies: %w", chunkBytes, err)
	}
	// A huge page would be charged to nobody. Kernels without them refuse: fine.
	_ = unix.Madvise(mem, unix.MADV_NOHUGEPAGE)
	s.mu.Lock()
	s.chunks = append(s.chunks, mem)
	s.mu.Unlock()
	slots := make([]pageSlot, chunkBytes/c.bytes)
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range slots {
		slots[i] = pageSlot{class: c, mem: mem[i*c.bytes : (i+1)*c.bytes : (i+1)*c.bytes]}
		if i > 0 {
			c.cold = append(c.cold, &slots[i])
		}
	}
	return &slots[0], nil
}

// dropPages frees a page slot, pages and all.
func (s *slabs) dropPages(slot *pageSlot) {
	c := slot.class
	s.warm.Add(int64(slot.resident))
	c.mu.Lock()
	defer c.mu.Unlock()
	if slot.resident > 0 {
		c.warm = append(c.warm, slot)
	} else {
		c.cold = append(c.cold, slot)
	}
}

// enter announces that a block will be taken. It fails once the slabs are
// closed; otherwise leave or drop must follow, and nothing is unmapped before.
func (s *slabs) enter() bool {
	s.live.Add(1)
	if s.closed.Load() {
		s.leave()
		return false
	}
	return true
}

func (s *slabs) leave() {
	if s.live.Add(-1) == 0 && s.closed.Load() {
		s.unmap()
	}
}

// drop frees the memory of a body and leaves.
func (s *slabs) drop(b block) {
	switch {
	case b.span != nil:
		b.span.class.drop(s, b)
	case b.slot != nil:
		s.dropPages(b.slot)
	}
	s.leave()
}

// trim gives the pages of one warm slot back to the kernel and returns how many
// bytes that were; 0 when no slot is warm.
func (s *slabs) trim() int64 {
	if s.warm.Load() == 0 {
		return 0
	}
	for i := range s.pages {
		c := &s.pages[len(s.pages)-1-i]
		c.mu.Lock()
		n := len(c.warm)
		if n == 0 {
			c.mu.Unlock()
			continue
		}
		slot := c.warm[n-1]
		c.warm = c.warm[:n-1]
		c.mu.Unlock()
		freed := int64(slot.resident)
		// It cannot fail on a private mapping of ours; if it did, the pages would
		// stay and be charged to nobody until the slot is taken again.
		_ = unix.Madvise(slot.mem[:slot.resident], unix.MADV_DONTNEED)
		slot.resident = 0
		s.warm.Add(-freed)
		s.held.Add(-freed)
		c.mu.Lock()
		c.cold = append(c.cold, slot)
		c.mu.Unlock()
		return freed
	}
	return 0
}

// cut gives back the pages of a warm slot that its body does not reach, where
// they are worth a call to the kernel, and returns how many bytes that were.
func (s *slabs) cut(slot *pageSlot, size int) int64 {
	if slot == nil {
		return 0
	}
	end := (size + pageBytes - 1) &^ (pageBytes - 1)
	if slot.resident-end <= slot.resident/16 {
		return 0
	}
	freed := int64(slot.resident - end)
	_ = unix.Madvise(slot.mem[end:slot.resident], unix.MADV_DONTNEED) // as in trim
	slot.resident = end
	s.held.Add(-freed)
	return freed
}

// sparse returns the owners of the emptiest span among a few of each class.
func (s *slabs) sparse() []*object {
	var best []*object
	bestFree := -1 // in 1/1024 of the span
	for i := range s.smalls {
		c := &s.smalls[i]
		c.mu.Lock()
		for _, sp := range c.open[:min(len(c.open), 4)] {
			if free := len(sp.free) * 1024 / len(sp.owners); free > bestFree {
				best, bestFree = append(best[:0], sp.owners...), free
			}
		}
		c.mu.Unlock()
	}
	return slices.DeleteFunc(best, func(b *object) bool { return b == nil })
}

// close unmaps everything as soon as no block is in use.
func (s *slabs) close() {
	if s.enter() {
		s.closed.Store(true)
		s.leave()
	}
}

func (s *slabs) unmap() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, mem := range s.chunks {
		// Fails only for what is not a mapping; nothing could be done about it.
		_ = unix.Munmap(mem)
	}
	s.chunks = nil
	s.held.Store(0)
}
