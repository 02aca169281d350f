package store

import (
	"container/heap"
	"fmt"

	"github.com/dgraph-io/ristretto/v2"
)

// The policies that ours is measured against, as their authors describe them,
// counting bytes. None is concurrent and none keeps bodies.

// A cachePolicy replays requests; request says whether it was a hit.
type cachePolicy interface {
	request(key uint64, size int64) bool
}

type node struct {
	key        uint64
	size       int64
	prev, next *node
	freq       int
	list       *chain
	rank       float64
	index      int
}

// chain is a list whose front is the oldest.
type chain struct {
	front, back *node
	bytes       int64
}

func (c *chain) push(n *node) {
	n.list, n.prev, n.next = c, c.back, nil
	if c.back != nil {
		c.back.next = n
	} else {
		c.front = n
	}
	c.back = n
	c.bytes += n.size
}

func (c *chain) remove(n *node) {
	if n.prev != nil {
		n.prev.next = n.next
	} else {
		c.front = n.next
	}
	if n.next != nil {
		n.next.prev = n.prev
	} else {
		c.back = n.prev
	}
	n.prev, n.next, n.list = nil, nil, nil
	c.bytes -= n.size
}

type lru struct {
	limit int64
	nodes map[uint64]*node
	list  chain
}

func newLRU(limit int64) cachePolicy { return &lru{limit: limit, nodes: map[uint64]*node{}} }

func (c *lru) request(key uint64, size int64) bool {
	if n := c.nodes[key]; n != nil {
		c.list.remove(n)
		c.list.push(n)
		return true
	}
	if size > c.limit {
		return false
	}
	n := &node{key: key, size: size}
	c.nodes[key] = n
	c.list.push(n)
	for c.list.bytes > c.limit {
		old := c.list.front
		c.list.remove(old)
		delete(c.nodes, old.key)
	}
	return false
}

// sieve: a FIFO whose hand spares what was visited.
type sieve struct {
	limit int64
	nodes map[uint64]*node
	list  chain
	hand  *node
}

func newSIEVE(limit int64) cachePolicy { return &sieve{limit: limit, nodes: map[uint64]*node{}} }

func (c *sieve) request(key uint64, size int64) bool {
	if n := c.nodes[key]; n != nil {
		n.freq = 1
		return true
	}
	if size > c.limit {
		return false
	}
	for c.list.bytes+size > c.limit {
		c.evict()
	}
	n := &node{key: key, size: size}
	c.nodes[key] = n
	c.list.push(n)
	return false
}

func (c *sieve) evict() {
	n := c.hand
	if n == nil {
		n = c.list.front
	}
	for n.freq > 0 {
		n.freq = 0
		if n = n.next; n == nil {
			n = c.list.front
		}
	}
	c.hand = n.next
	c.list.remove(n)
	delete(c.nodes, n.key)
}

// s3fifo: a small FIFO of a tenth, a main FIFO with two bits, a ghost as large
// as main.
type s3fifo struct {
	limit              int64
	nodes, ghosts      map[uint64]*node
	small, main, ghost chain
}

func newS3FIFO(limit int64) cachePolicy {
	return &s3fifo{limit: limit, nodes: map[uint64]*node{}, ghosts: map[uint64]*node{}}
}

func (c *s3fifo) request(key uint64, size int64) bool {
	if n := c.nodes[key]; n != nil {
		n.freq = min(n.freq+1, 3)
		return true
	}
	if size > c.limit {
		return false
	}
	for c.small.bytes+c.main.bytes+size > c.limit {
		c.evict()
	}
	n := &node{key: key, size: size}
	c.nodes[key] = n
	if g := c.ghosts[key]; g != nil {
		c.ghost.remove(g)
		delete(c.ghosts, key)
		c.main.push(n)
	} else {
		c.small.push(n)
	}
	return false
}

func (c *s3fifo) evict() {
	if c.small.bytes >= c.limit/10 || c.main.front == nil {
		n := c.small.front
		c.small.remove(n)
		if n.freq > 0 {
			n.freq = 0
			c.main.push(n)
			return
		}
		delete(c.nodes, n.key)
		c.ghosts[n.key] = n
		c.ghost.push(n)
		for c.ghost.bytes > c.limit*9/10 {
			g := c.ghost.front
			c.ghost.remove(g)
			delete(c.ghosts, g.key)
		}
		return
	}
	n := c.main.front
	c.main.remove(n)
	if n.freq > 0 {
		n.freq--
		c.main.push(n)
		return
	}
	delete(c.nodes, n.key)
}

// gdsf: frequency by size, with ageing.
type gdsf struct {
	limit, used int64
	age         float64
	nodes       map[uint64]*node
	heap        rankHeap
}

type rankHeap []*node

func (h rankHeap) Len() int           { return len(h) }
func (h rankHeap) Less(i, j int) bool { return h[i].rank < h[j].rank }
func (h rankHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i]; h[i].index, h[j].index = i, j }
func (h *rankHeap) Push(x any)        { x.(*node).index = len(*h); *h = append(*h, x.(*node)) }
func (h *rankHeap) Pop() any {
	old := *h
	n := old[len(old)-1]
	*h = old[:len(old)-1]
	return n
}

func newGDSF(limit int64) cachePolicy { return &gdsf{limit: limit, nodes: map[uint64]*node{}} }

func (c *gdsf) request(key uint64, size int64) bool {
	if n := c.nodes[key]; n != nil {
		n.freq++
		n.rank = c.age + float64(n.freq)/float64(max(n.size, 1))
		heap.Fix(&c.heap, n.index)
		return true
	}
	if size > c.limit {
		return false
	}
	for c.used+size > c.limit {
		n := heap.Pop(&c.heap).(*node)
		c.age = n.rank
		c.used -= n.size
		delete(c.nodes, n.key)
	}
	n := &node{key: key, size: size, freq: 1, rank: c.age + 1/float64(max(size, 1))}
	c.nodes[key] = n
	c.used += size
	heap.Push(&c.heap, n)
	return false
}

// tinyLFU: W-TinyLFU with a window of 1 %, a segmented LRU behind it, and
// admission against the sum of the victims' frequencies.
type tinyLFU struct {
	limit                      int64
	nodes                      map[uint64]*node
	window, protected, waiting chain
	sketch                     *sketch
}

func newTinyLFU(limit int64) cachePolicy {
	return &tinyLFU{limit: limit, nodes: map[uint64]*node{}, sketch: newSketch(limit / 256)}
}

func (c *tinyLFU) request(key uint64, size int64) bool {
	c.sketch.add(key, 0)
	if n := c.nodes[key]; n != nil {
		c.hit(n)
		return true
	}
	if size > c.limit {
		return false
	}
	n := &node{key: key, size: size}
	c.nodes[key] = n
	c.window.push(n)
	for c.window.bytes > c.limit/100 && c.window.front != nil {
		old := c.window.front
		c.window.remove(old)
		c.admit(old)
	}
	return false
}

func (c *tinyLFU) hit(n *node) {
	if n.list == &c.window {
		c.window.remove(n)
		c.window.push(n)
		return
	}
	n.list.remove(n)
	c.protected.push(n)
	for c.protected.bytes > c.limit*99/100*8/10 {
		old := c.protected.front
		c.protected.remove(old)
		c.waiting.push(old)
	}
}

func (c *tinyLFU) admit(n *node) {
	room := c.limit * 99 / 100
	used := c.waiting.bytes + c.protected.bytes
	frequency, victims := c.sketch.estimate(n.key), int64(0)
	last := c.waiting.front
	list := &c.waiting
	for freed := int64(0); used-freed+n.size > room; last = last.next {
		if last == nil && list == &c.waiting {
			list, last = &c.protected, c.protected.front
		}
		if last == nil {
			delete(c.nodes, n.key)
			return
		}
		freed += last.size
		victims += c.sketch.estimate(last.key)
		if victims > frequency {
			c.reject(n)
			return
		}
	}
	for c.waiting.bytes+c.protected.bytes+n.size > room {
		victim := c.waiting.front
		if victim == nil {
			victim = c.protected.front
		}
		victim.list.remove(victim)
		delete(c.nodes, victim.key)
	}
	c.waiting.push(n)
}

// reject drops the newcomer and gives the first victim another round.
func (c *tinyLFU) reject(n *node) {
	delete(c.nodes, n.key)
	if first := c.waiting.front; first != nil {
		c.waiting.remove(first)
		c.waiting.push(first)
	}
}

// plainRistretto is ristretto as its documentation says, with a Wait after each
// Set so that the replay does not outrun it.
type plainRistretto struct {
	limit int64
	cache *ristretto.Cache[uint64, struct{}]
}

func newPlainRistretto(limit, mean int64) cachePolicy {
	cache, err := ristretto.NewCache(&ristretto.Config[uint64, struct{}]{
		NumCounters: max(10*limit/mean, 100), MaxCost: limit, BufferItems: 64,
	})
	if err != nil {
		panic(fmt.Sprint("ristretto: ", err)) // the configuration is ours
	}
	return &plainRistretto{limit, cache}
}

func (c *plainRistretto) request(key uint64, size int64) bool {
	if _, ok := c.cache.Get(key); ok {
		return true
	}
	c.cache.Set(key, struct{}{}, size)
	c.cache.Wait()
	return false
}

func (c *plainRistretto) close() { c.cache.Close() }
