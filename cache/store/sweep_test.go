package store

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"edgecdn/internal/unit"
)

// tieredBed is a store whose Run runs, small in memory.
type tieredBed struct {
	*Tiered
	dir  string
	stop func()
}

func openTiered(t *testing.T, dir string) *tieredBed {
	t.Helper()
	s, err := Open(Config{Memory: MemoryConfig{Bytes: 16 * unit.MiB}, Disk: []DiskConfig{{Path: dir, Bytes: 2 * unit.GiB}}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	s.disk.volumes[0].tuning.flushEvery = 2 * time.Millisecond
	return &tieredBed{Tiered: s, dir: dir}
}

func (b *tieredBed) start(t *testing.T) *tieredBed {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- b.Run(ctx) }()
	b.stop = sync.OnceFunc(func() {
		cancel()
		if err := errors.Join(<-done, b.Close()); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(b.stop)
	return b
}

// put stores a body of n bytes under key.
func (b *tieredBed) put(t testing.TB, text string, n int, m Meta) error {
	t.Helper()
	m.Header, m.Length = []byte("header of "+text), int64(n)
	w, err := b.Create(b.Hasher().Key(text), m)
	if err != nil {
		return err
	}
	defer w.Abort()
	if _, err := w.Write(make([]byte, n)); err != nil {
		return err
	}
	s, err := w.Commit(m)
	if err == nil {
		s.Close()
	}
	return err
}

func (b *tieredBed) has(text string) bool {
	s, err := b.Open(b.Hasher().Key(text))
	if err != nil {
		return false
	}
	s.Close()
	return true
}

// onDisk waits until the disk tier has these keys.
func (b *tieredBed) onDisk(t testing.TB, keys ...string) {
	t.Helper()
	waitUntil(t, "all is on disk", func() bool {
		for _, key := range keys {
			if b.disk.volumes[0].index.get(printOf(b.Hasher().Key(key).Hash)) == 0 {
				b.has(key) // another request makes it worth it
				return false
			}
		}
		return true
	})
}

// crashed returns a store on a copy of the files as they are now.
func (b *tieredBed) crashed(t *testing.T) *tieredBed {
	t.Helper()
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(b.dir)); err != nil {
		t.Fatal(err)
	}
	return openTiered(t, dir).start(t)
}

// What a sweep has removed or changed is so in both tiers, and after a crash; the
// rest stays.
func TestSweep(t *testing.T) {
	b := openTiered(t, t.TempDir()).start(t)
	keys := []string{"gone", "small", "stale", "gone large", "large", "gone memory"}
	for i, key := range keys {
		n := 1000
		if i == 3 || i == 4 {
			n = 3 * BodyMax // in slices, on disk only
		}
		if err := b.put(t, key, n, Meta{Order: uint64(i), FreshUntil: 100, KeepUntil: 1 << 62}); err != nil {
			t.Fatal(err)
		}
	}
	b.onDisk(t, keys[:5]...)
	if err := b.memory.Remove(b.Hasher().Key("small")); err != nil { // it is on disk alone
		t.Fatal(err)
	}
	var inMemory, onDisk []string
	judge := func(seen *[]string) func(*Meta) *Meta {
		return func(m *Meta) *Meta {
			key := keys[m.Order]
			*seen = append(*seen, key)
			switch {
			case len(key) >= 4 && key[:4] == "gone":
				return nil
			case key == "stale" && m.FreshUntil == 100:
				changed := *m
				changed.FreshUntil, changed.Header = 50, []byte("stale")
				return &changed
			}
			return m
		}
	}
	memoryDone := false
	err := b.Sweep(context.Background(), Sweep{Memory: unprepared(judge(&inMemory)), Disk: judge(&onDisk), Order: 1 << 40,
		MemoryDone: func() { memoryDone = len(onDisk) == 0 }})
	if err != nil || !memoryDone {
		t.Fatal(err, memoryDone)
	}
	if len(inMemory) != 3 || len(onDisk) != 3 { // gone, stale, gone memory; small, gone large, large
		t.Errorf("in memory %q, on disk %q", inMemory, onDisk)
	}
	for when, at := range map[string]*tieredBed{"now": b, "after a crash": b.crashed(t)} {
		for key, want := range map[string]bool{"gone": false, "small": true, "stale": true, "gone large": false, "large": true, "gone memory": false} {
			if at.has(key) != want || at.Has(at.Hasher().Key(key)) != want {
				t.Errorf("%s: %q is there: %v", when, key, !want)
			}
		}
		s, err := at.Open(at.Hasher().Key("stale"))
		if err != nil {
			t.Fatal(err)
		}
		if m := s.Meta(); m.FreshUntil != 50 || string(m.Header) != "stale" {
			t.Errorf("%s: %+v", when, m)
		}
		s.Close()
	}
}

// A sweep and a walk over memory, which ask for many objects at once, reach each once.
func TestSweepReachesAllInMemory(t *testing.T) {
	ctx := context.Background()
	for _, n := range []int{0, 1, sweepStep - 1, sweepStep, sweepStep + 1, 3*sweepStep + 7} {
		b := openTiered(t, t.TempDir()).start(t)
		for i := range n {
			if err := b.put(t, fmt.Sprint(i), 10, Meta{Order: uint64(i)}); err != nil {
				t.Fatal(err)
			}
		}
		seen := make([]int, n)
		count := func(s Stored) *Meta { seen[s.Meta().Order]++; return s.Meta() }
		ignore := func(m *Meta) *Meta { return m }
		if err := b.Sweep(ctx, Sweep{Memory: count, Disk: ignore}); err != nil {
			t.Fatal(err)
		}
		if err := b.Walk(ctx, func(s Stored) { count(s) }); err != nil {
			t.Fatal(err)
		}
		for i, times := range seen {
			if times != 2 {
				t.Errorf("of %d: %d was seen %d times", n, i, times)
			}
		}
	}
}

// Segments whose objects are all newer than the purges are not read, others are.
func TestSweepSkipsSegments(t *testing.T) {
	b := openTiered(t, t.TempDir()).start(t)
	for i := range 4 {
		if err := b.put(t, fmt.Sprint(i), 2*BodyMax, Meta{Order: uint64(10 + i)}); err != nil {
			t.Fatal(err)
		}
		if i == 1 {
			b.disk.sealOpen(t)
		}
	}
	for _, tt := range []struct {
		order uint64
		seen  int
	}{{10, 0}, {11, 2}, {13, 4}, {12, 2}} {
		seen := 0
		keep := func(m *Meta) *Meta { return m }
		err := b.Sweep(context.Background(), Sweep{Memory: unprepared(keep), Order: tt.order, Disk: func(m *Meta) *Meta {
			seen++
			return m
		}})
		if err != nil || seen != tt.seen {
			t.Errorf("of order %d: %d judged, %v", tt.order, seen, err)
		}
	}
}

// A sweep goes on where the segment that it has come to is reclaimed under it.
func TestSweepOfReclaimedSegment(t *testing.T) {
	b := openTiered(t, t.TempDir()).start(t)
	if err := b.put(t, "a", 2*BodyMax, Meta{}); err != nil {
		t.Fatal(err)
	}
	b.disk.sealOpen(t)
	v := b.disk.volumes[0]
	seg := v.segmentAfter(0)
	defer seg.release()
	waitUntil(t, "its table is in the file alone", func() bool {
		v.mu.Lock()
		defer v.mu.Unlock()
		return len(seg.entries) == 0
	})
	v.drop(seg)
	p := &pace{ctx: context.Background()}
	if err := v.sweepSegment(p, seg, func(*objectHead, slotWord) { t.Error("judged") }); err != nil {
		t.Error(err)
	}
}

// What the judge refuses gets into no tier.
func TestJudgeIsAsked(t *testing.T) {
	b := openTiered(t, t.TempDir())
	var refused atomic.Uint64
	b.SetJudge(func(m *Meta) *Meta {
		if m.Order < refused.Load() {
			return nil
		}
		return m
	})
	// Run runs only later: until the judge refuses, nobody may copy "a" to disk.
	if err := b.put(t, "a", 100, Meta{Order: 1}); err != nil {
		t.Fatal(err)
	}
	refused.Store(2)
	for _, n := range []int{100, 2 * BodyMax} {
		if err := b.put(t, "b", n, Meta{Order: 1}); !errors.Is(err, ErrNotFound) || b.has("b") {
			t.Errorf("%d bytes: %v", n, err)
		}
		if err := b.put(t, "c", n, Meta{Order: 2}); err != nil || !b.has("c") {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
	if err := b.Freshen(b.Hasher().Key("a"), Meta{Order: 1}); !errors.Is(err, ErrNotFound) {
		t.Error("freshened:", err)
	}
	o := b.memory.index.find(b.Hasher().Key("a"))
	if err := b.take(o); err != nil || b.disk.touch(o.hash) {
		t.Error("copied to disk:", err)
	}
	refused.Store(0)
	b.start(t)
	b.onDisk(t, "a")
	if err := b.memory.Remove(b.Hasher().Key("a")); err != nil {
		t.Fatal(err)
	}
	refused.Store(2)
	for range 3 {
		b.has("a")
	}
	if _, ok := b.Lookup(b.Hasher().Key("a")); ok {
		t.Error("copied to memory")
	}
}

// Whatever is stored, asked for and copied from tier to tier meanwhile: when a sweep
// has ended, nothing is left of what was purged before it began.
func TestSweepMissesNothing(t *testing.T) {
	b := openTiered(t, t.TempDir())
	const keys = 64
	var order atomic.Uint64
	var purged [keys]atomic.Uint64
	judge := func(m *Meta) *Meta {
		if m.Order < purged[m.URL].Load() {
			return nil
		}
		return m
	}
	b.SetJudge(judge)
	b.start(t)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var group sync.WaitGroup
	for g := range 3 {
		rng := rand.New(rand.NewPCG(uint64(g), 7))
		group.Go(func() {
			for ctx.Err() == nil {
				k := rng.IntN(keys)
				key := fmt.Sprint("key ", k)
				began := order.Load()
				if b.has(key) && rng.IntN(4) > 0 {
					_ = b.memory.Remove(b.Hasher().Key(key)) // as eviction would
					continue
				}
				n := rng.IntN(2000)
				if k%8 == 0 {
					n = BodyMax + rng.IntN(1000)
				}
				_ = b.put(t, key, n, Meta{URL: uint64(k), Order: began}) // may be refused
			}
		})
	}
	rng := rand.New(rand.NewPCG(1, 7))
	late := time.Now().Add(30 * time.Second)
	for round := 0; round < 8 || b.stats.promotions.Load() < 20 && time.Now().Before(late); round++ {
		for range 3 {
			next := order.Load() + 1
			purged[rng.IntN(keys)].Store(next)
			order.Store(next)
		}
		var before [keys]uint64
		for k := range before {
			before[k] = purged[k].Load()
		}
		if err := b.Sweep(ctx, Sweep{Memory: unprepared(judge), Disk: judge, Order: order.Load()}); err != nil {
			t.Fatal(err)
		}
		look := func(where string) func(*Meta) *Meta {
			return func(m *Meta) *Meta {
				if m.Order < before[m.URL] {
					t.Errorf("%d in %s is of %d, purged at %d", m.URL, where, m.Order, before[m.URL])
				}
				return m
			}
		}
		if err := b.Sweep(ctx, Sweep{Memory: unprepared(look("memory")), Disk: look("disk"), Order: 1 << 40}); err != nil {
			t.Fatal(err)
		}
	}
	cancel()
	group.Wait()
	if st := b.Stats(); st.Promotions == 0 || st.OffersTaken == 0 {
		t.Errorf("%d copies to memory and %d to disk: this proves nothing", st.Promotions, st.OffersTaken)
	}
}

// unprepared is a judge that does not look at what Prepare made.
func unprepared(judge func(*Meta) *Meta) func(Stored) *Meta {
	return func(s Stored) *Meta { return judge(s.Meta()) }
}
