package store

import (
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"runtime"
	"sync/atomic"
	"testing"

	"edgecdn/internal/unit"

	"golang.org/x/sys/unix"
)

func benchMemory(b testing.TB, size unit.Bytes) *Memory {
	m := NewMemory(MemoryConfig{Bytes: size}, nil, slog.New(slog.DiscardHandler))
	b.Cleanup(func() {
		if err := m.Close(); err != nil {
			b.Error(err)
		}
	})
	return m
}

// texts returns n cache keys of the usual length.
func texts(n int) []string {
	texts := make([]string, n)
	for i := range texts {
		texts[i] = fmt.Sprintf("https://static.example.org/assets/v%d/images/%d/picture-%d.webp", i%7, i%1000, i)
	}
	return texts
}

func put(b testing.TB, m *Memory, key Key, body []byte) {
	b.Helper()
	meta := Meta{Header: make([]byte, 300), Length: int64(len(body))}
	w, err := m.Create(key, meta)
	if err != nil {
		b.Fatal(err)
	}
	if _, err := w.Write(body); err != nil {
		b.Fatal(err)
	}
	s, err := w.Commit(meta)
	if err != nil {
		b.Fatal(err)
	}
	s.Close()
}

// Hashing the key, finding the object and giving it back: 250 ns at most with
// two goroutines, without an allocation. zipf: as popular as web objects are;
// even: every lookup misses the processor's caches.
func BenchmarkMemoryLookup(b *testing.B) {
	m, hasher := benchMemory(b, unit.GiB), NewHasher(1)
	keys := texts(100_000)
	for _, text := range keys {
		put(b, m, hasher.Key(text), make([]byte, 1000))
	}
	runtime.GC()
	rng := rand.New(rand.NewPCG(1, 2))
	weights := make([]float64, len(keys))
	for i := range weights {
		weights[i] = math.Pow(float64(i+1), -0.99)
	}
	rng.Shuffle(len(keys), func(i, j int) { keys[i], keys[j] = keys[j], keys[i] })
	zipf := drawer(weights)
	for name, draw := range map[string]func() int{
		"zipf": func() int { return zipf(rng) },
		"even": func() int { return rng.IntN(len(keys)) },
	} {
		sequence := make([]string, 1<<18)
		for i := range sequence {
			sequence[i] = keys[draw()]
		}
		for _, goroutines := range []int{1, 2} {
			b.Run(fmt.Sprintf("%s/goroutines=%d", name, goroutines), func(b *testing.B) {
				benchLookup(b, m, hasher, sequence, goroutines)
			})
		}
	}
}

func benchLookup(b *testing.B, m *Memory, hasher Hasher, sequence []string, goroutines int) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(goroutines))
	var misses, starts atomic.Uint64
	b.ReportAllocs()
	before := cpuTime(b)
	b.RunParallel(func(pb *testing.PB) {
		for i := starts.Add(99_991); pb.Next(); i++ {
			s, ok := m.Lookup(hasher.Key(sequence[i%uint64(len(sequence))]))
			if !ok {
				misses.Add(1)
				continue
			}
			s.Close()
		}
	})
	b.ReportMetric(float64(cpuTime(b)-before)/float64(b.N), "cpu-ns/op")
	if misses.Load() > 0 {
		b.Errorf("%d misses", misses.Load())
	}
}

// cpuTime of the process in nanoseconds: what a lookup costs on a machine that
// does other things too.
func cpuTime(b *testing.B) int64 {
	var usage unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &usage); err != nil {
		b.Fatal(err)
	}
	return usage.Utime.Nano() + usage.Stime.Nano()
}

// A fill into a full tier, so that each one evicts.
func BenchmarkMemoryFill(b *testing.B) {
	for _, size := range []int{1 << 10, 12 << 10, 100 << 10, 1 << 20} {
		b.Run(unit.Bytes(size).String(), func(b *testing.B) {
			m, hasher := benchMemory(b, 64*unit.MiB), NewHasher(1)
			body := make([]byte, size)
			var text [32]byte
			b.ReportAllocs()
			b.SetBytes(int64(size))
			for n := 0; b.Loop(); n++ {
				put(b, m, hasher.Key(string(fmt.Appendf(text[:0], "/%d", n))), body)
			}
		})
	}
}

// Choosing whom to evict, and evicting, from 100,000 objects.
func BenchmarkMemoryEvict(b *testing.B) {
	m, hasher := benchMemory(b, unit.GiB), NewHasher(1)
	keys := texts(100_000)
	body := make([]byte, 1000)
	for _, text := range keys {
		put(b, m, hasher.Key(text), body)
	}
	b.ReportAllocs()
	for n := 0; b.Loop(); n++ {
		if n%50_000 == 0 {
			b.StopTimer()
			for _, text := range keys {
				put(b, m, hasher.Key(text), body)
			}
			b.StartTimer()
		}
		if v := m.policy.evict(m.clock.Load(), m.used.Load()); v != nil {
			m.evicted(v)
		}
	}
}

// Removing 100,000 objects by name.
func BenchmarkMemoryRemove100k(b *testing.B) {
	m, hasher := benchMemory(b, unit.GiB), NewHasher(1)
	var keys []Key
	for _, text := range texts(100_000) {
		keys = append(keys, hasher.Key(text))
	}
	body := make([]byte, 1000)
	b.ReportAllocs()
	for b.Loop() {
		b.StopTimer()
		for _, key := range keys {
			put(b, m, key, body)
		}
		b.StartTimer()
		for _, key := range keys {
			if err := m.Remove(key); err != nil {
				b.Fatal(err)
			}
		}
	}
}
