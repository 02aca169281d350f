//go:build !race

// The race detector has memory of its own for every object, which is none of the
// budget's: make unit runs this file in a pass without it.

package store

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"

	"edgecdn/internal/unit"
)

// heapBytes is the live heap after a collection.
func heapBytes() int64 {
	runtime.GC()
	runtime.GC()
	var st runtime.MemStats
	runtime.ReadMemStats(&st)
	return int64(st.HeapAlloc)
}

// residentBytes is the physical memory of the process that has no file behind it.
func residentBytes(t *testing.T) int64 {
	t.Helper()
	debug.FreeOSMemory() // what tests before have left goes back now, and not meanwhile
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Skip("no /proc here")
	}
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, "RssAnon:"); ok {
			n, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			return n << 10
		}
	}
	t.Skip("no RssAnon here")
	return 0
}

// prepared is what a test's Prepare makes: as large as it says.
func prepared(m *Meta) (any, int64, error) {
	value := make([]byte, 2*len(m.Header))
	return &value, int64(cap(value)) + 24 + 16, nil
}

// The budget holds within 5 %, whatever the sizes: bodies, headers, keys, groups
// and what Prepare makes, measured from outside.
func TestMemoryHoldsItsBudget(t *testing.T) {
	for name, size := range map[string]func(*rand.Rand) int{
		"empty": func(*rand.Rand) int { return 0 },
		"tiny":  func(rng *rand.Rand) int { return rng.IntN(400) },
		"web":   func(rng *rand.Rand) int { return int(min(12e3*math.Exp(1.7*rng.NormFloat64()), BodyMax)) },
		"large": func(rng *rand.Rand) int { return 200<<10 + rng.IntN(800<<10) },
	} {
		t.Run(name, func(t *testing.T) { holdBudget(t, size) })
	}
}

func holdBudget(t *testing.T, size func(*rand.Rand) int) {
	const budget = 16 * unit.MiB
	body := make([]byte, BodyMax)
	for i := range body {
		body[i] = byte(i)
	}
	heap := heapBytes()
	m := NewMemory(MemoryConfig{Bytes: budget}, prepared, slog.New(slog.DiscardHandler))
	o, err := newOwner(m)
	if err != nil {
		t.Fatal(err)
	}
	work := (&ours{m: m, owner: o}).work
	hasher, rng := NewHasher(1), rand.New(rand.NewPCG(1, 2))
	written := 0
	for n := 0; written < 2*int(budget); n++ {
		length := size(rng)
		meta := Meta{Header: body[:rng.IntN(1000)], Groups: make([]uint64, rng.IntN(5)), Length: int64(length)}
		text := fmt.Sprintf("https://example.org/%d/%s", n, strings.Repeat("x", rng.IntN(100)))
		announced := meta
		if n%2 == 0 {
			announced.Length = -1
		}
		w, err := m.Create(hasher.Key(text), announced)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(body[:length]); err != nil {
			t.Fatal(err)
		}
		s, err := w.Commit(meta)
		if err != nil {
			t.Fatal(err)
		}
		s.Close()
		written += length + 1500
		if n%1000 == 0 {
			work()
		}
		if st := m.Stats(); st.Used > int64(budget) {
			t.Fatalf("%d bytes used of %d", st.Used, budget)
		}
	}
	work()
	st := m.Stats()
	outside := heapBytes() - heap + m.slabs.held.Load()
	t.Logf("%d objects; %.1f MiB by our account, %.1f measured (%.1f in bodies, of these %.1f free)", st.Objects,
		mib(st.Used), mib(outside), mib(st.Bodies), mib(st.Free))
	if outside > int64(budget)*105/100 {
		t.Errorf("measured %.1f MiB, over %v by more than 5 %%", mib(outside), budget)
	}
	if outside < int64(budget)*80/100 {
		t.Errorf("measured %.1f MiB: %v is not made use of", mib(outside), budget)
	}
	if st.Free > int64(budget)/8 {
		t.Errorf("%.1f MiB of memory for bodies lie idle", mib(st.Free))
	}
	o.close()
	if err := m.Close(); err != nil {
		t.Error(err)
	}
}

// What the slabs say they hold is what the kernel says.
func TestSlabsCountPages(t *testing.T) {
	m := NewMemory(MemoryConfig{Bytes: 256 * unit.MiB}, nil, slog.New(slog.DiscardHandler))
	defer m.Close()
	hasher := NewHasher(1)
	body := make([]byte, BodyMax)
	before := residentBytes(t)
	for n := range 200 {
		put(t, m, hasher.Key(fmt.Sprint(n)), body[:300<<10+n*1000])
	}
	check := func(when string) {
		t.Helper()
		got, want := residentBytes(t)-before, m.slabs.held.Load()
		if diff := got - want; diff > 12<<20 || diff < -4<<20 {
			t.Errorf("%s: %.1f MiB more resident, %.1f held", when, mib(got), mib(want))
		}
	}
	check("filled")
	for n := range 150 {
		if err := m.Remove(hasher.Key(fmt.Sprint(n))); err != nil {
			t.Fatal(err)
		}
	}
	for m.slabs.trim() > 0 {
	}
	check("three quarters removed and trimmed")
}

// When sizes shift, the holes that the old sizes leave are made use of.
func TestMemorySurvivesShiftingSizes(t *testing.T) {
	const budget = 16 * unit.MiB
	m := benchMemory(t, budget)
	hasher := NewHasher(1)
	n := 0
	for _, size := range []int{1000, 700, 15_000, 900, 100_000, 500} {
		for written := 0; written < int(budget)*3/2; written += size + 1000 {
			put(t, m, hasher.Key(fmt.Sprint(n)), make([]byte, size))
			n++
		}
		st := m.Stats()
		bodies := st.Objects * int64(size)
		t.Logf("bodies of %d: %d objects, %.1f MiB used, %.1f free", size, st.Objects, mib(st.Used), mib(st.Free))
		if st.Free > int64(budget)/8 || st.Used < int64(budget)*9/10 {
			t.Errorf("bodies of %d: %.1f MiB of %v used, %.1f of it free, %.1f in bodies", size, mib(st.Used), budget, mib(st.Free), mib(bodies))
		}
	}
}

// What is being read cannot be evicted: a tier all of which is being read says
// so, and recovers.
func TestMemoryFullOfReaders(t *testing.T) {
	m := benchMemory(t, 8*unit.MiB)
	hasher := NewHasher(1)
	body := make([]byte, 500<<10)
	var held []*Stored
	var full error
	for n := 0; full == nil && n < 100; n++ {
		meta := Meta{Length: int64(len(body))}
		w, err := m.Create(hasher.Key(fmt.Sprint(n)), meta)
		if err == nil {
			_, err = w.Write(body)
		}
		if err == nil {
			var s *Stored
			if s, err = w.Commit(meta); err == nil {
				held = append(held, s)
				continue
			}
		}
		full = err
		if w != nil {
			w.Abort()
		}
	}
	if !errors.Is(full, ErrFull) {
		t.Fatalf("filling a tier that is being read: %v, want ErrFull", full)
	}
	if st := m.Stats(); st.Full == 0 || st.Used > st.Budget || int(st.Objects) != len(held) {
		t.Errorf("full %d, used %d of %d, %d objects, %d held", st.Full, st.Used, st.Budget, st.Objects, len(held))
	}
	for _, s := range held {
		s.Close()
	}
	put(t, m, hasher.Key("after"), body)
}

// Everything that was charged is given back.
func TestMemoryAccountReturnsToItsStart(t *testing.T) {
	m := benchMemory(t, 16*unit.MiB)
	hasher := NewHasher(1)
	start := m.used.Load()
	for n := range 300 {
		key := hasher.Key(fmt.Sprint(n % 50))
		put(t, m, key, make([]byte, n*400))
		if n%3 == 0 {
			if err := m.Freshen(key, Meta{Header: make([]byte, n)}); err != nil {
				t.Fatal(err)
			}
		}
		w, err := m.Create(key, Meta{Length: -1})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(make([]byte, n*1000)); err != nil {
			t.Fatal(err)
		}
		if n%2 == 0 {
			w.Abort()
		} // else dropped
	}
	for n := range 50 {
		if err := m.Remove(hasher.Key(fmt.Sprint(n))); err != nil {
			t.Fatal(err)
		}
	}
	for m.fills.Load() > 0 {
		runtime.GC() // finds the dropped writers
		runtime.Gosched()
	}
	for m.reclaim() {
	}
	if got := m.used.Load(); got != start {
		t.Errorf("%d bytes charged with nothing stored, %d at the start", got, start)
	}
	if st := m.Stats(); st.Objects != 0 || st.Bodies != 0 || st.Free != 0 {
		t.Errorf("left: %d objects, %d bytes of bodies, %d free", st.Objects, st.Bodies, st.Free)
	}
	p := m.policy
	if len(p.main) != 0 || p.mainBytes != 0 || p.oldest != nil || p.probationBytes != 0 {
		t.Errorf("the policy still has %d residents of %d bytes, and probation of %d", len(p.main), p.mainBytes, p.probationBytes)
	}
}

// A smaller budget takes effect at once, a larger one too.
func TestMemoryApply(t *testing.T) {
	m := benchMemory(t, 64*unit.MiB)
	hasher := NewHasher(1)
	for n := range 500 {
		put(t, m, hasher.Key(fmt.Sprint(n)), make([]byte, 100_000))
	}
	if err := m.Apply(MemoryConfig{Bytes: 16 * unit.MiB}); err != nil {
		t.Fatal(err)
	}
	if st := m.Stats(); st.Used > int64(16*unit.MiB) || st.Used < int64(14*unit.MiB) {
		t.Errorf("%.1f MiB used of 16", mib(st.Used))
	}
	if err := m.Apply(MemoryConfig{Bytes: 32 * unit.MiB}); err != nil {
		t.Fatal(err)
	}
	for n := range 500 {
		put(t, m, hasher.Key(fmt.Sprint(n)), make([]byte, 100_000))
	}
	if st := m.Stats(); st.Used > int64(32*unit.MiB) || st.Used < int64(30*unit.MiB) {
		t.Errorf("%.1f MiB used of 32", mib(st.Used))
	}
	if err := m.Apply(MemoryConfig{Bytes: unit.MiB}); err == nil {
		t.Error("a budget of 1 MiB was taken")
	}
}
