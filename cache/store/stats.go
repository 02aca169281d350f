package store

import (
	"sync/atomic"
	"unsafe"
)

// MemoryStats is what the memory tier has counted since its start, and holds
// now. Bytes are bytes.
type MemoryStats struct {
	Hits      int64 // lookups that found the object
	Misses    int64 // lookups that did not
	Commits   int64 // objects stored
	Removes   int64 // objects removed by name
	Evictions int64 // objects evicted to make room
	// Bytes of the bodies that were evicted.
	EvictedBytes int64
	// Refusals with ErrFull: nothing could be evicted for a fill or a new header.
	Full int64
	// Objects evicted because ristretto gave them up.
	Duels int64
	// What did not fit into the bounded queues to the owner: sampled accesses,
	// news of residents, sets that ristretto dropped, victims it named. None
	// harms a response; many make evictions less wise.
	SamplesDropped, OpsDropped, SetsDropped, VictimsDropped int64

	Objects int64 // objects there
	Fills   int64 // writers open
	Budget  int64 // bytes allowed
	Used    int64 // bytes granted, all told
	Bodies  int64 // of these, memory of bodies, free parts included
	Free    int64 // of these, free for the next body
}

type memoryCounters struct {
	commits, removes, evictions, evictedBytes, full, duels atomic.Int64
	samplesDropped, setsDropped, victimsDropped            atomic.Int64
}

// Stats returns the counts.
func (m *Memory) Stats() MemoryStats {
	c := &m.stats
	st := MemoryStats{
		Commits: c.commits.Load(), Removes: c.removes.Load(), Evictions: c.evictions.Load(),
		EvictedBytes: c.evictedBytes.Load(), Full: c.full.Load(), Duels: c.duels.Load(),
		SamplesDropped: c.samplesDropped.Load(), SetsDropped: c.setsDropped.Load(), VictimsDropped: c.victimsDropped.Load(),
		Objects: m.index.count(), Fills: m.fills.Load(), Budget: m.budget.Load(), Used: m.used.Load(),
		Bodies: m.slabs.held.Load(), Free: m.slabs.warm.Load() + m.slabs.holes.Load(),
	}
	for i := range m.index.shards {
		s := &m.index.shards[i]
		st.Hits += int64(s.requests.Load() - headStart(i) - s.fills.Load())
		st.Misses += int64(s.misses.Load())
	}
	m.policy.mu.Lock()
	st.OpsDropped = m.policy.dropped
	m.policy.mu.Unlock()
	return st
}

// What an object costs beside its body and its own bytes: object and record
// (rounded up to what the allocator gives), three slots of the index, places in
// the policy's list and in ristretto's two maps.
const objectOverhead = int64(unsafe.Sizeof(object{})+unsafe.Sizeof(record{}))*17/16 + 3*16 + 16 + 160

// objectCharge is what an object costs on the heap, without what Prepare adds.
func objectCharge(text string, meta *Meta) int64 {
	own := int64(len(meta.Header) + 8*len(meta.Groups))
	if len(text) > inlineText {
		own += int64(len(text))
	}
	return objectOverhead + own + own/8 + 16
}

// counters is how many frequencies ristretto keeps: 30 for each object that may
// be expected, at 3 bytes each.
func (m *Memory) counters() int64 {
	return max(1<<12, m.budget.Load()/(24<<10)*30)
}

// fixed is what the tier costs before the first object: the sketch, ristretto's
// counters and queue, our own queues and shards.
func (m *Memory) fixed() int64 {
	return int64(len(m.policy.sketch.table))*8 + m.counters()*3 + 32<<10*8 +
		opsMax*int64(unsafe.Sizeof(op{})) + shards*int64(unsafe.Sizeof(shard{})+tableSlots*12)
}
