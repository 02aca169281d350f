package store

import (
	"fmt"
	"log/slog"
	"os"
	"strings"
	"testing"

	"edgecdn/internal/unit"
)

// ours replays requests through the real Memory, index, account, policy and
// ristretto, with bodies that have a cost and no bytes. The owner's work is done
// between requests.
type ours struct {
	m      *Memory
	owner  *owner
	hasher Hasher
	limit  int64
	keys   map[uint64]Key
}

func newOurs(limit int64) cachePolicy {
	m := NewMemory(MemoryConfig{Bytes: unit.Bytes(limit)}, nil, slog.New(slog.DiscardHandler))
	m.used.Store(0) // what is fixed matters at real sizes, not at a thousandth
	o, err := newOwner(m)
	if err != nil {
		panic(fmt.Sprint("owner: ", err)) // the configuration is ours
	}
	return &ours{m, o, NewHasher(5), limit, map[uint64]Key{}}
}

func (c *ours) request(key uint64, size int64) bool {
	k, known := c.keys[key]
	if !known {
		k = c.hasher.Key(fmt.Sprint("https://example.org/", key))
		c.keys[key] = k
	}
	s, ok := c.m.Lookup(k)
	if ok {
		s.Close()
	} else {
		c.fill(k, size)
	}
	c.work()
	return ok
}

func (c *ours) fill(k Key, size int64) {
	if size > BodyMax {
		return
	}
	c.m.requested(k.Hash)
	if !c.m.reserve(size) {
		return
	}
	c.m.slabs.enter()
	b := &body{m: c.m, hash: k.Hash}
	b.refs.Store(1)
	c.m.publish(&entry{hash: k.Hash, text: k.Text, body: b, charge: size})
}

// work does what Run would have done by now.
func (c *ours) work() {
	set := false
	for {
		select {
		case op := <-c.m.ops:
			c.owner.apply(op)
			set = true
		case s := <-c.m.accesses:
			c.owner.access(s)
		case h := <-c.owner.victims:
			c.owner.evict(h)
		default:
			if !set {
				return
			}
			c.owner.cache.Wait()
			set = false
		}
	}
}

func (c *ours) close() { c.owner.close() }

// contestants by name; ours first.
var contestants = []struct {
	name string
	new  func(limit, mean int64) cachePolicy
}{
	{"ours", func(limit, _ int64) cachePolicy { return newOurs(limit) }},
	{"LRU", func(limit, _ int64) cachePolicy { return newLRU(limit) }},
	{"SIEVE", func(limit, _ int64) cachePolicy { return newSIEVE(limit) }},
	{"S3-FIFO", func(limit, _ int64) cachePolicy { return newS3FIFO(limit) }},
	{"W-TinyLFU", func(limit, _ int64) cachePolicy { return newTinyLFU(limit) }},
	{"GDSF", func(limit, _ int64) cachePolicy { return newGDSF(limit) }},
	{"ristretto", newPlainRistretto},
}

// replay returns object and byte hit ratios after the first quarter.
func replay(tr *trace, c cachePolicy) (object, byBytes float64) {
	var hits, hitBytes, all, allBytes int64
	for i, id := range tr.requests {
		size := tr.sizes[id]
		hit := c.request(uint64(id), size)
		if i < len(tr.requests)/4 {
			continue
		}
		all, allBytes = all+1, allBytes+size
		if hit {
			hits, hitBytes = hits+1, hitBytes+size
		}
	}
	if c, ok := c.(interface{ close() }); ok {
		c.close()
	}
	return float64(hits) / float64(all), float64(hitBytes) / float64(allBytes)
}

// shares of the footprint, and the least mean ratio to the best policy there.
var shares = []struct {
	share float64
	goal  float64
}{{0.001, 0.90}, {0.01, 0.93}, {0.1, 0.95}}

// TestHitRatio holds our policy to the goals of its design. It replays the short
// trace only, unless EDGE_HITRATIO names more: a list of traces or "all".
func TestHitRatio(t *testing.T) {
	traces := []*trace{adaptsizeTrace(t)}
	more := os.Getenv("EDGE_HITRATIO")
	if more == "all" || strings.Contains(more, "metacdn") {
		traces = append(traces, metaTrace(t, 0.08))
	}
	if more == "all" || strings.Contains(more, "zipf09") {
		traces = append(traces, zipfTrace(3_000_000))
	}
	only := os.Getenv("EDGE_HITRATIO_ONLY")
	for _, s := range shares {
		sum := 0.0
		for _, tr := range traces {
			total, objects := tr.footprint()
			line, best, own := "", 0.0, 0.0
			for i, c := range contestants {
				if only != "" && !strings.Contains(only, c.name) {
					continue
				}
				object, byBytes := replay(tr, c.new(int64(float64(total)*s.share), total/objects))
				line += fmt.Sprintf(" %s %.3f/%.3f", c.name, object, byBytes)
				if best = max(best, object); i == 0 {
					own = object
				}
			}
			t.Logf("%-9s %4.1f%%:%s  ours/best %.3f", tr.name, s.share*100, line, own/best)
			sum += own / best
		}
		if mean := sum / float64(len(traces)); mean < s.goal {
			t.Errorf("at %g of the footprint: object hit ratio is %.3f of the best on average, want %.2f", s.share, mean, s.goal)
		}
	}
}
