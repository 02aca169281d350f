package store

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"slices"
	"testing"

	"edgecdn/internal/unit"

	"golang.org/x/sync/errgroup"
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
	o := &object{m: c.m}
	o.setKey(k)
	o.refs.Store(1)
	o.record.Store(&record{charge: size})
	c.m.publish(o)
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
// trace only; EDGE_HITRATIO=all replays all, and EDGE_HITRATIO_OUT, the root of
// the repository, makes it write what it found for docs/performance.md.
func TestHitRatio(t *testing.T) {
	traces := []*trace{adaptsizeTrace(t)}
	if os.Getenv("EDGE_HITRATIO") == "all" {
		traces = append(traces, metaTrace(t, 0.08), zipfTrace(3_000_000))
	}
	var found []ratios
	for _, s := range shares {
		sum := 0.0
		for _, tr := range traces {
			r := compete(tr, s.share)
			t.Log(r)
			found = append(found, r)
			sum += r.toBest()
		}
		if mean := sum / float64(len(traces)); mean < s.goal {
			t.Errorf("at %g of the footprint: object hit ratio is %.3f of the best on average, want %.2f", s.share, mean, s.goal)
		}
	}
	if root := os.Getenv("EDGE_HITRATIO_OUT"); root != "" {
		if err := errors.Join(writeTable(root, found), writePlot(root, found)); err != nil {
			t.Error(err)
		}
	}
}

// ratios is what the contestants, in their order, reached on one trace.
type ratios struct {
	trace           string
	share           float64
	object, byBytes []float64
}

func compete(tr *trace, share float64) ratios {
	total, objects := tr.footprint()
	r := ratios{tr.name, share, make([]float64, len(contestants)), make([]float64, len(contestants))}
	var group errgroup.Group
	group.SetLimit(runtime.GOMAXPROCS(0))
	for i, c := range contestants {
		group.Go(func() error {
			r.object[i], r.byBytes[i] = replay(tr, c.new(int64(float64(total)*share), total/objects))
			return nil
		})
	}
	_ = group.Wait() // none fails
	return r
}

// toBest is ours as a part of the best of the others.
func (r ratios) toBest() float64 { return r.object[0] / slices.Max(r.object[1:]) }

func (r ratios) String() string {
	line := fmt.Sprintf("%-9s %4.1f%%:", r.trace, r.share*100)
	for i, c := range contestants {
		line += fmt.Sprintf(" %s %.3f/%.3f", c.name, r.object[i], r.byBytes[i])
	}
	return line + fmt.Sprintf("  ours/best %.3f", r.toBest())
}
