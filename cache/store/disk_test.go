package store

import (
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"runtime"
	"sync"
	"testing"
)

// fill puts objects of size under keys from..to-1.
func fillDisk(t testing.TB, d *Disk, from, to, size int) {
	t.Helper()
	for i := from; i < to; i++ {
		mustPut(t, d, keyOf(d, i), uint64(i+1)<<32, size)
	}
}

func TestDiskReclaim(t *testing.T) {
	dir := t.TempDir()
	r := startDisk(t, configsOf(8<<20, dir), smallTuning(osFS{}))
	defer r.stop(t)
	fillDisk(t, r.Disk, 0, 40, 20_000)
	// Hit twice: taken back, whether its header is where its body is or not.
	for range 2 {
		for i := range 5 {
			wantTag(t, r.Disk, keyOf(r.Disk, i), uint64(i+1)<<32)
		}
	}
	for i := 3; i < 8; i++ {
		if err := r.Freshen(keyOf(r.Disk, i), testMeta(uint64(i+1)<<32|1, 0)); err != nil {
			t.Fatal(err)
		}
	}
	// Replaced, and the new one freshened: neither its header nor its body is in
	// the segment that goes.
	r.sealOpen(t)
	mustPut(t, r.Disk, keyOf(r.Disk, 10), 11<<32|1, 20_000)
	fillDisk(t, r.Disk, 100, 200, 20_000)
	if err := r.Freshen(keyOf(r.Disk, 10), testMeta(11<<32|2, 0)); err != nil {
		t.Fatal(err)
	}
	held, err := r.Open(keyOf(r.Disk, 20)) // hit once: goes, but not from this reader
	if err != nil {
		t.Fatal(err)
	}
	waitUntil(t, "all is written", r.idle)
	first := segmentFiles(t, dir)[0]
	fillUntilReclaimed(t, r.Disk, 1000, 2) // the segments of the first 40
	wantTag(t, r.Disk, keyOf(r.Disk, 10), 11<<32|2)
	fillUntilReclaimed(t, r.Disk, 2000, 8) // those of the next 100 too
	wantNone(t, r.Disk, keyOf(r.Disk, 10))

	s := r.Stats().Directories[0]
	if s.TakenBack < 5 || s.Evicted == 0 || s.BytesUsed > s.BytesMax || s.BytesPinned == 0 {
		t.Errorf("taken back %d, evicted %d, %d of %d bytes used, %d pinned", s.TakenBack, s.Evicted, s.BytesUsed, s.BytesMax, s.BytesPinned)
	}
	for i := range 8 {
		switch {
		case i < 3:
			wantTag(t, r.Disk, keyOf(r.Disk, i), uint64(i+1)<<32)
		case i < 5:
			wantTag(t, r.Disk, keyOf(r.Disk, i), uint64(i+1)<<32|1)
		default:
			wantNone(t, r.Disk, keyOf(r.Disk, i))
		}
	}
	wantNone(t, r.Disk, keyOf(r.Disk, 20))
	if _, err := os.Stat(first); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a segment that is reclaimed has its name still: %v", err)
	}
	if tag, err := readStored(held); err != nil || tag != 21<<32 {
		t.Errorf("what a reader holds: object %d, %v", tag, err)
	}
	held.Close()
	waitUntil(t, "the segment is unlinked", func() bool { return r.Stats().Directories[0].BytesPinned == 0 })
	if _, err := os.Stat(first + doomedSuffix); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a segment that nobody reads is there still: %v", err)
	}
}

// fillUntilReclaimed puts objects, under keys from n on, no faster than the
// keeper works, until so many segments were reclaimed.
func fillUntilReclaimed(t *testing.T, d *Disk, n int, segments int64) {
	t.Helper()
	for d.Stats().Directories[0].Reclaimed < segments {
		waitUntil(t, "the keeper has caught up", d.ready)
		fillDisk(t, d, n, n+1, 20_000)
		n++
	}
}

// TestDiskChanged: what was decided by a look at the index is not done when the
// index has moved on.
func TestDiskChanged(t *testing.T) {
	r := startDisk(t, configsOf(64<<20, t.TempDir()), smallTuning(osFS{}))
	defer r.stop(t)
	v, key := r.volumes[0], keyOf(r.Disk, 1)
	for what, change := range map[string]func(){
		"removed":  func() { v.remove(printOf(key.Hash)) },
		"replaced": func() { mustPut(t, r.Disk, key, 1<<32|2, 2000) },
	} {
		mustPut(t, r.Disk, key, 1<<32, 1000)
		seg, word, h, err := v.lookup(key, false)
		if err != nil {
			t.Fatal(err)
		}
		change()
		if err := v.freshenFrom(seg, word, h, testMeta(1<<32|1, 0)); !errors.Is(err, errChanged) {
			t.Errorf("freshened an object that was %s: %v", what, err)
		}
		seg.release()
	}
}

// TestDiskPinnedBudget: readers that hold on to reclaimed segments cannot make
// the store pass its budget, nor evict all the rest.
func TestDiskPinnedBudget(t *testing.T) {
	r := startDisk(t, configsOf(8<<20, t.TempDir()), smallTuning(osFS{}))
	defer r.stop(t)
	var held []*Stored
	n := 0
	hold := func() {
		if err := r.put(keyOf(r.Disk, n), uint64(n+1)<<32, 20_000); err != nil && !errors.Is(err, ErrFull) {
			t.Fatal(err)
		}
		if s, err := r.Open(keyOf(r.Disk, n)); err == nil {
			held = append(held, s)
		}
		n++
	}
	for range 900 {
		hold()
	}
	// On a slow device most of these were refused.
	waitUntil(t, "a segment that is read is reclaimed", func() bool {
		hold()
		return r.Stats().Directories[0].BytesPinned > 0
	})
	s := r.Stats().Directories[0]
	if s.BytesUsed > s.BytesMax || s.BytesPinned == 0 || s.Objects < 100 {
		t.Errorf("%d of %d bytes used, %d pinned, %d objects", s.BytesUsed, s.BytesMax, s.BytesPinned, s.Objects)
	}
	for _, s := range held {
		if _, err := readStored(s); err != nil {
			t.Error(err)
		}
		s.Close()
	}
	waitUntil(t, "the store takes objects again", func() bool { return r.put(keyOf(r.Disk, 1), 1<<32, 20_000) == nil })
}

func TestDiskLostSlice(t *testing.T) {
	r := startDisk(t, configsOf(64<<20, t.TempDir()), smallTuning(osFS{}))
	defer r.stop(t)
	const size = 600_000 // five slices of 128 KiB
	slice := int64(r.volumes[0].sliceBytes())
	key := keyOf(r.Disk, 1)
	mustPut(t, r.Disk, key, 1<<32, size)
	waitUntil(t, "all is written", r.idle)

	before := r.Stats().Directories[0].BytesRead
	s, err := r.Open(key)
	if err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 1000)
	if _, err := s.ReadAt(got, 3*slice-500); err != nil || string(got) != string(testBody(1<<32, size)[3*slice-500:3*slice+500]) {
		t.Fatalf("a range over two slices: %v", err)
	}
	if n := r.Stats().Directories[0].BytesRead - before; n != 2*blockBytes {
		t.Errorf("read %d bytes for a range in two blocks", n)
	}
	if at, n := s.Gap(0, size); n != 0 {
		t.Errorf("gap of %d at %d in a whole object", n, at)
	}
	s.Close()

	h := func() uint64 {
		seg, _, h, err := r.volumes[0].lookup(key, false)
		if err != nil {
			t.Fatal(err)
		}
		seg.release()
		return h.fill
	}()
	r.volumes[0].remove(slicePrint(h, 2))
	s, err = r.Open(key)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if at, n := s.Gap(100, size); at != 2*slice || n != slice {
		t.Errorf("gap of %d at %d, want %d at %d", n, at, slice, 2*slice)
	}
	if at, n := s.Gap(2*slice+10, 20); at != 2*slice+10 || n != 20 {
		t.Errorf("gap of %d at %d inside the gap", n, at)
	}
	if _, err := s.ReadAt(got, 2*slice); !errors.Is(err, ErrNotFound) {
		t.Errorf("reading a lost slice: %v", err)
	}
	for _, i := range []int64{0, 1, 3, 4} {
		if _, err := s.ReadAt(got, i*slice); err != nil || string(got) != string(testBody(1<<32, size)[i*slice:i*slice+1000]) {
			t.Errorf("slice %d: %v", i, err)
		}
	}
}

// TestDiskDamage flips a bit in a body and one in a head while the store runs.
func TestDiskDamage(t *testing.T) {
	dir := t.TempDir()
	r := startDisk(t, configsOf(64<<20, dir), smallTuning(osFS{}))
	defer r.stop(t)
	fillDisk(t, r.Disk, 0, 3, 150)
	waitUntil(t, "all is written", r.idle)
	damageBody(t, dir, 1<<32)
	seg := segmentFiles(t, dir)[0]
	flipBit(t, seg, unitBytes+3*unitBytes/2) // in the second record's head
	wantNone(t, r.Disk, keyOf(r.Disk, 0))
	wantNone(t, r.Disk, keyOf(r.Disk, 1))
	wantTag(t, r.Disk, keyOf(r.Disk, 2), 3<<32)
	if n := r.Stats().Directories[0].ChecksumErrors; n != 2 {
		t.Errorf("%d checksum errors counted, want 2", n)
	}
	if s, err := r.Open(keyOf(r.Disk, 0)); err == nil {
		s.Close()
		t.Error("a damaged object is still named")
	}
}

func TestDiskIndexBound(t *testing.T) {
	tune := smallTuning(osFS{})
	tune.entryBytes = 8 << 10
	r := startDisk(t, configsOf(16<<20, t.TempDir()), tune)
	defer r.stop(t)
	full := false
	for i := range 5000 {
		err := r.put(keyOf(r.Disk, i), uint64(i+1)<<32, 100)
		if err != nil && !errors.Is(err, ErrFull) {
			t.Fatal(err)
		}
		full = full || err != nil
	}
	s := r.Stats().Directories[0]
	if !full || s.IndexFull == 0 {
		t.Error("the index takes entries past its bound")
	}
	if s.Objects > 16<<20/(8<<10)+64 || s.IndexBytes > 20*2048 {
		t.Errorf("%d objects in an index of %d bytes", s.Objects, s.IndexBytes)
	}
	// The oldest segment is reclaimed though there is room for many more.
	waitUntil(t, "a new object finds room in the index", func() bool {
		return r.put(keyOf(r.Disk, 9999), 10000<<32, 100) == nil
	})
}

// TestDiskSlowDevice: what a device does not keep up with is refused, at once,
// and what was taken is readable before it is written.
func TestDiskSlowDevice(t *testing.T) {
	block := make(chan struct{})
	blocked := make(chan struct{}, 64)
	fs := newFaultFS(rand.New(rand.NewPCG(1, 1)))
	tune := smallTuning(fs)
	tune.backlogMax = 300_000
	r := startDisk(t, configsOf(64<<20, t.TempDir()), tune)
	defer r.stop(t)
	unblock := sync.OnceFunc(func() { close(block) })
	defer unblock()
	waitUntil(t, "the store is ready", r.ready)
	fs.inject(func(op, path string) error {
		if op == "write" {
			blocked <- struct{}{}
			<-block
		}
		return nil
	})
	mustPut(t, r.Disk, keyOf(r.Disk, 0), 1<<32, 100_000)
	<-blocked
	fillDisk(t, r.Disk, 1, 2, 100_000)
	if err := r.put(keyOf(r.Disk, 2), 3<<32, 100_000); !errors.Is(err, ErrFull) {
		t.Errorf("put over the backlog's bound: %v", err)
	}
	for i := range 2 {
		wantTag(t, r.Disk, keyOf(r.Disk, i), uint64(i+1)<<32)
	}
	wantNone(t, r.Disk, keyOf(r.Disk, 2))
	if s := r.Stats().Directories[0]; s.BacklogFull != 1 || s.BacklogBytes > 300_000 || s.BytesWritten != 0 {
		t.Errorf("%d drops, %d bytes of backlog, %d written", s.BacklogFull, s.BacklogBytes, s.BytesWritten)
	}
	fs.inject(nil)
	unblock()
	waitUntil(t, "the backlog is written", r.idle)
	wantTag(t, r.Disk, keyOf(r.Disk, 0), 1<<32)
	mustPut(t, r.Disk, keyOf(r.Disk, 2), 3<<32, 100_000)
}

// TestDiskBuffers: what open Writers hold is bounded, and given back by Commit,
// Abort and by being dropped.
func TestDiskBuffers(t *testing.T) {
	tune := smallTuning(osFS{})
	tune.buffersMax = 400_000
	r := startDisk(t, configsOf(64<<20, t.TempDir()), tune)
	defer r.stop(t)
	var writers []Writer
	var full error
	for i := range 5 {
		w, err := r.Create(keyOf(r.Disk, i), testMeta(uint64(i+1)<<32, 100_000))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(testBody(uint64(i+1)<<32, 100_000)); err != nil {
			full = err
		}
		writers = append(writers, w)
	}
	if s := r.Stats(); !errors.Is(full, ErrFull) || s.BufferedBytes > 400_000 || s.BuffersFull == 0 {
		t.Errorf("%v, %d bytes held, %d refused", full, s.BufferedBytes, s.BuffersFull)
	}
	if _, err := writers[4].Commit(testMeta(5<<32, 100_000)); !errors.Is(err, ErrFull) {
		t.Errorf("commit after a failed write: %v", err)
	}
	s, err := writers[0].Commit(testMeta(1<<32, 100_000))
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
	for _, w := range writers {
		w.Abort()
	}
	if n := r.Stats().BufferedBytes; n != 0 {
		t.Errorf("%d bytes held by no Writer", n)
	}
	wantTag(t, r.Disk, keyOf(r.Disk, 0), 1<<32)
	for i := 1; i < 5; i++ {
		wantNone(t, r.Disk, keyOf(r.Disk, i))
	}
}

func TestDiskPrepare(t *testing.T) {
	refuse := false
	prepare := func(m *Meta) (any, int64, error) {
		if refuse {
			return nil, 0, errors.New("unknown version")
		}
		return fmt.Sprintf("value of %s", m.Header), 0, nil
	}
	d, err := openDiskWith(configsOf(64<<20, t.TempDir()), prepare, slog.New(slog.DiscardHandler), smallTuning(osFS{}))
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	key := keyOf(d, 1)
	if err := d.put(key, 5, 100); err != nil {
		t.Fatal(err)
	}
	s, err := d.Open(key)
	if err != nil {
		t.Fatal(err)
	}
	if s.Value() != "value of header 5" || s.Tier() != "disk" {
		t.Errorf("value %v from %s", s.Value(), s.Tier())
	}
	s.Close()
	refuse = true
	if _, err := d.Open(key); !errors.Is(err, ErrNotFound) {
		t.Errorf("open of what cannot be prepared: %v", err)
	}
	refuse = false
	wantNone(t, d, key)
}

// TestDiskWithoutRun: Close writes what was appended, also when Run never ran.
func TestDiskWithoutRun(t *testing.T) {
	config := configsOf(64<<20, t.TempDir())
	d, err := openDiskWith(config, nil, slog.New(slog.DiscardHandler), smallTuning(osFS{}))
	if err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		if err := d.put(keyOf(d, i), uint64(i+1)<<32, 1000); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.Remove(keyOf(d, 1)); err != nil {
		t.Fatal(err)
	}
	held, err := d.Open(keyOf(d, 0))
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if tag, err := readStored(held); err != nil || tag != 1<<32 {
		t.Errorf("what a reader holds of a closed store: object %d, %v", tag, err)
	}
	held.Close()
	if n := d.volumes[0].files.open.Load(); n != 0 {
		t.Errorf("%d files open after close", n)
	}
	if _, err := d.Open(keyOf(d, 0)); !errors.Is(err, ErrClosed) {
		t.Errorf("open after close: %v", err)
	}
	r := startDisk(t, config, smallTuning(osFS{}))
	defer r.stop(t)
	wantTag(t, r.Disk, keyOf(r.Disk, 0), 1<<32)
	wantNone(t, r.Disk, keyOf(r.Disk, 1))
	wantTag(t, r.Disk, keyOf(r.Disk, 2), 3<<32)
}

// TestDiskFiles: few files are open, however many segments there are.
func TestDiskFiles(t *testing.T) {
	r := startDisk(t, configsOf(32<<20, t.TempDir()), smallTuning(osFS{}))
	defer r.stop(t)
	fillDisk(t, r.Disk, 0, 400, 60_000)
	waitUntil(t, "all is written", r.idle)
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := g; i < 400; i += 4 {
				wantTag(t, r.Disk, keyOf(r.Disk, i), uint64(i+1)<<32)
			}
		})
	}
	wg.Wait()
	if n := r.Stats().Directories[0].Segments; n < 40 {
		t.Fatalf("%d segments are too few for this test", n)
	}
	waitUntil(t, "files are closed", func() bool { return r.Stats().Directories[0].OpenFiles <= 8 })
}

// A segment that is sealed and written keeps nothing of the buffers that it was
// written from: there are thousands, and a buffer is a megabyte.
func TestWrittenSegmentsHoldNoBuffers(t *testing.T) {
	r := startDisk(t, configsOf(64<<20, t.TempDir()), smallTuning(osFS{}))
	defer r.stop(t)
	live := func() int64 {
		for range 3 { // what is in a sync.Pool stays for one
			runtime.GC()
		}
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	before := live()
	for i := range uint64(30) {
		mustPut(t, r.Disk, keyOf(r.Disk, int(i)), i, 400<<10) // a segment each
		waitUntil(t, "all is written", r.idle)
		runtime.GC()
		runtime.GC()
	}
	r.sealOpen(t)
	waitUntil(t, "all is written", r.idle)
	if more := live() - before; more > 6<<20 {
		t.Errorf("with 30 segments on disk %d MB more are in use", more>>20)
	}
}
