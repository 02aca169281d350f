package store

import (
	"log/slog"
	"math/rand/v2"
	"net"
	"runtime"
	"testing"
)

func BenchmarkDiskIndexGet(b *testing.B) {
	const n = 10_000_000
	x := newDiskIndex(n * 2)
	for i := range n {
		x.put(slicePrint(1, i), makeSlot(uint64(i+1), 1, 0))
	}
	_, _, bytes := x.sizes()
	runtime.GC()
	b.ResetTimer()
	i, found := 0, 0
	for b.Loop() {
		if x.get(slicePrint(1, i%(2*n))) != 0 { // half of the lookups miss
			found++
		}
		i += 7919
	}
	if found == 0 {
		b.Fatal("nothing found")
	}
	// With objects of keyBytes on average the filters have a key for each.
	b.ReportMetric(float64(bytes)/n, "index-B/object")
	b.ReportMetric(float64(bytes+newSeenFilter(n).bytes())/n, "B/object")
	if perObject := float64(bytes+newSeenFilter(n).bytes()) / n; perObject > 30 {
		b.Errorf("%.1f bytes of memory for each object on disk", perObject)
	}
}

func BenchmarkDiskIndexPut(b *testing.B) {
	x := newDiskIndex(1 << 30)
	rng := rand.New(rand.NewPCG(1, 2))
	for b.Loop() {
		x.put(rng.Uint64(), makeSlot(1, 1, 0))
	}
}

func BenchmarkSeenFilter(b *testing.B) {
	f := newSeenFilter(10_000_000)
	rng := rand.New(rand.NewPCG(1, 2))
	for b.Loop() {
		f.see(Hash{rng.Uint64(), rng.Uint64()})
	}
}

// benchDisk is a store of n objects of a size, written out.
func benchDisk(b *testing.B, n, size int) *running {
	r := startDisk(b, configsOf(4<<30, b.TempDir()), defaultTuning)
	fillDisk(b, r.Disk, 0, n, size)
	waitUntil(b, "all is written", r.idle)
	return r
}

// BenchmarkDiskRead opens and reads an object of 100 kB, by way of the page
// cache, verified.
func BenchmarkDiskRead(b *testing.B) {
	const n, size = 1000, 100_000
	r := benchDisk(b, n, size)
	defer r.stop(b)
	keys := benchKeys(r.Disk, n)
	buf := make([]byte, 128<<10)
	b.SetBytes(size)
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		s, err := r.Open(keys[i%n])
		if err != nil {
			b.Fatal(err)
		}
		if got, _ := s.ReadAt(buf, 0); got != size {
			b.Fatal("short read")
		}
		s.Close()
		i++
	}
}

// BenchmarkDiskSend is BenchmarkDiskRead by sendfile to a connection on
// loopback, whose reader throws the bytes away.
func BenchmarkDiskSend(b *testing.B) {
	const n, size = 1000, 100_000
	r := benchDisk(b, n, size)
	defer r.stop(b)
	keys := benchKeys(r.Disk, n)
	client, server := tcpPair(b)
	done := make(chan struct{})
	go drain(client, done)
	b.SetBytes(size)
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		s, err := r.Open(keys[i%n])
		if err != nil {
			b.Fatal(err)
		}
		if _, err := s.SendTo(server, 0, size); err != nil {
			b.Fatal(err)
		}
		s.Close()
		i++
	}
	server.Close()
	<-done
}

func drain(c *net.TCPConn, done chan struct{}) {
	buf := make([]byte, 1<<20)
	for {
		if _, err := c.Read(buf); err != nil {
			close(done)
			return
		}
	}
}

func benchKeys(d *Disk, n int) []Key {
	keys := make([]Key, n)
	for i := range keys {
		keys[i] = keyOf(d, i)
	}
	return keys
}

// BenchmarkDiskWrite stores objects of 12 kB under distinct keys.
func BenchmarkDiskWrite(b *testing.B) {
	r := startDisk(b, configsOf(4<<30, b.TempDir()), defaultTuning)
	defer r.stop(b)
	const size = 12_000
	b.SetBytes(size)
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		mustPut(b, r.Disk, keyOf(r.Disk, i), uint64(i), size)
		i++
	}
}

// BenchmarkDiskRemove removes 100,000 objects, as a purge may.
func BenchmarkDiskRemove(b *testing.B) {
	const n = 100_000
	r := startDisk(b, configsOf(4<<30, b.TempDir()), defaultTuning)
	defer r.stop(b)
	keys := benchKeys(r.Disk, n)
	for b.Loop() {
		b.StopTimer()
		fillDisk(b, r.Disk, 0, n, 100)
		b.StartTimer()
		for _, k := range keys {
			if err := r.Remove(k); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/object")
}

// BenchmarkDiskStart opens a store of a million objects and reads one.
func BenchmarkDiskStart(b *testing.B) {
	const n = 1_000_000
	config := configsOf(4<<30, b.TempDir())
	tune := defaultTuning
	tune.entryBytes = 1024
	r := startDisk(b, config, tune)
	fillDisk(b, r.Disk, 0, n, 600)
	r.stop(b)
	for b.Loop() {
		d, err := openDiskWith(config, nil, slog.New(slog.DiscardHandler), tune)
		if err != nil {
			b.Fatal(err)
		}
		wantTag(b, d, keyOf(d, n-1), n<<32)
		s := d.Stats().Directories[0]
		b.ReportMetric(float64(s.Objects), "objects")
		b.ReportMetric(float64(s.IndexBytes)/float64(s.Objects), "B/object")
		b.StopTimer()
		if err := d.Close(); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
}
