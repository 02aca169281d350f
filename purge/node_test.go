package purge

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"edgecdn/cache"
)

// fakeCache applies purges to objects that survive restarts, as the cache and its
// disk tier do.
type fakeCache struct {
	mu      sync.Mutex
	order   uint64
	applied map[cache.Purge]uint64 // highest order by what was named
	counts  map[uint64]cache.PurgeCount
	swept   uint64
	full    bool
	block   chan struct{} // Purge waits for it, where it is not nil
	disk    *objects
}

// objects are what is stored, by URL.
type objects struct {
	owner Incarnation
	all   map[string][]object
}

type object struct {
	order   uint64 // at the start of its fetch
	version int
}

// claim is what the store does when a log shows itself.
func (o *objects) claim(log Incarnation) {
	if o.owner != log {
		o.owner, o.all = log, map[string][]object{}
	}
}

func newFakeCache(boot uint64, disk *objects) *fakeCache {
	return &fakeCache{order: boot << 40, applied: map[cache.Purge]uint64{}, counts: map[uint64]cache.PurgeCount{}, disk: disk}
}

func (c *fakeCache) Purge(all []cache.Purge) (uint64, error) {
	if c.block != nil {
		<-c.block
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.full {
		return 0, cache.ErrPurgesFull
	}
	c.order++
	c.raise(c.order, all)
	c.counts[c.order] = cache.PurgeCount{Memory: int64(len(all)), MemoryCounted: true}
	return c.order, nil
}

func (c *fakeCache) Replay(order uint64, all []cache.Purge) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.raise(order, all)
	return nil
}

func (c *fakeCache) raise(order uint64, all []cache.Purge) {
	for _, p := range all {
		p.Soft, p.At = false, time.Time{}
		c.applied[p] = max(c.applied[p], order)
	}
}

func (c *fakeCache) CountPurge(context.Context, []cache.Purge) (cache.PurgeCount, error) {
	return cache.PurgeCount{Memory: 3, Disk: 4}, nil
}

func (c *fakeCache) PurgeCount(order uint64) (cache.PurgeCount, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n, ok := c.counts[order]
	return n, ok
}

func (c *fakeCache) SweptOrder() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.swept
}

// store fetches and keeps an object now.
func (c *fakeCache) store(url string, version int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.disk.all[url] = append(c.disk.all[url], object{c.order, version})
}

// served returns the versions of a URL that would be served.
func (c *fakeCache) served(url string) (versions []int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, o := range c.disk.all[url] {
		if o.order >= c.applied[purgeOf(url)] {
			versions = append(versions, o.version)
		}
	}
	return versions
}

// sweep reclaims what is purged, and forgets the purges.
func (c *fakeCache) sweep() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for p, order := range c.applied {
		url := p.Scheme + "://" + p.Host + p.Name
		c.disk.all[url] = slices.DeleteFunc(c.disk.all[url], func(o object) bool { return o.order < order })
	}
	clear(c.applied)
	c.swept = c.order
	for order, n := range c.counts {
		n.Disk, n.Counted = 2, true
		c.counts[order] = n
	}
}

func purgeOf(url string) cache.Purge {
	all, err := resolve(&Request{URLs: []string{url}})
	if err != nil {
		panic(err)
	}
	return all[0]
}

// syncBuffer is written to by one goroutine while another looks.
type syncBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// testNode is a log at work, and what it tells.
type testNode struct {
	*Log
	cache  *fakeCache
	said   *syncBuffer
	ticks  chan time.Time
	cancel context.CancelFunc
	ran    chan error
}

const testDir = "data/purge"

// smallTuning makes bounds that tests reach.
func smallTuning(fsys filesystem) tuning {
	t := defaultTuning
	t.fs = fsys
	t.segmentBytes = 512
	t.receipts = 5
	return t
}

// startNode opens and runs a log.
func startNode(t *testing.T, tune tuning, disk *objects) *testNode {
	t.Helper()
	n, err := tryNode(tune, disk)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.stop() })
	return n
}

func tryNode(tune tuning, disk *objects) (*testNode, error) {
	said := new(syncBuffer)
	l, err := open(Config{Dir: testDir}, slog.New(slog.NewTextHandler(said, nil)), tune)
	if err != nil {
		return nil, err
	}
	disk.claim(l.Incarnation())
	c := newFakeCache(l.Boot(), disk)
	if err := l.Replay(c); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	ctx, cancel := context.WithCancel(context.Background())
	n := &testNode{Log: l, cache: c, said: said, ticks: make(chan time.Time), cancel: cancel, ran: make(chan error, 1)}
	go func() { n.ran <- l.run(ctx, n.ticks) }()
	return n, nil
}

// followSweep has Run look at the sweep, and returns when it has.
func (n *testNode) followSweep() {
	for range 2 { // the second is taken when the first is done
		select {
		case n.ticks <- time.Now():
		case err := <-n.ran: // it has ended
			n.ran <- err
		}
	}
}

// stop ends Run; again, it does nothing.
func (n *testNode) stop() {
	n.cancel()
	n.ran <- <-n.ran
}

// purgeURL purges a URL.
func (n *testNode) purgeURL(url string) (Receipt, error) {
	return n.Purge(context.Background(), Request{URLs: []string{url}, Actor: "test"})
}

func urlOf(i int) string { return fmt.Sprintf("https://www.example.com/%d", i) }

// leaks runs the tests and looks for goroutines that outlive them.
func leaks(m *testing.M) { goleak.VerifyTestMain(m) }

// waitFor waits until ok says true.
func waitFor(t *testing.T, ok func() bool) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal("it does not come about")
		}
	}
}
