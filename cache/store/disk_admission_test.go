package store

import (
	"errors"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"edgecdn/internal/unit"
)

func TestDiskAdmits(t *testing.T) {
	tune := smallTuning(osFS{})
	config := configsOf(8<<20, t.TempDir())
	r := startDisk(t, config, tune)
	defer r.stop(t)
	meta := testMeta(1, 10_000)
	if !r.Admits(keyOf(r.Disk, 1), meta) {
		t.Error("a first request is refused though the disk is empty")
	}
	if r.Admits(keyOf(r.Disk, 2), testMeta(1, 8<<20)) {
		t.Error("an object as large as the disk is admitted")
	}
	for i := range 1000 {
		if r.volumes[0].fullness() >= firstTimersBelow {
			break
		}
		mustPut(t, r.Disk, keyOf(r.Disk, 100+i), uint64(i), 50_000)
	}
	if r.Admits(keyOf(r.Disk, 3), meta) {
		t.Error("a first request is admitted to a full disk")
	}
	if !r.Admits(keyOf(r.Disk, 3), meta) || !r.Admits(keyOf(r.Disk, 1), meta) {
		t.Error("a second request is refused")
	}
	if n := r.Stats().Directories[0].FirstTimers; n != 1 {
		t.Errorf("%d first-timers counted, want 1", n)
	}
}

func TestDiskWriteRate(t *testing.T) {
	config := configsOf(64<<20, t.TempDir())
	config[0].WriteRate = 5 * unit.KiB // so little that the debt stays through the test
	r := startDisk(t, config, smallTuning(osFS{}))
	defer r.stop(t)
	mustPut(t, r.Disk, keyOf(r.Disk, 1), 1<<32, 300_000)
	waitUntil(t, "it is written", r.idle)
	if r.Admits(keyOf(r.Disk, 2), testMeta(1, 100)) {
		t.Error("admitted though the write budget is overdrawn")
	}
	if err := r.put(keyOf(r.Disk, 2), 2<<32, 100); !errors.Is(err, ErrFull) {
		t.Errorf("put over the write budget: %v", err)
	}
	if n := r.Stats().Directories[0].OverRate; n != 2 {
		t.Errorf("%d refusals counted, want 2", n)
	}
	wantTag(t, r.Disk, keyOf(r.Disk, 1), 1<<32)
}

func TestDebtBucket(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b debtBucket
		b.rate.Store(1000)
		if !b.allows() {
			t.Error("a full bucket refuses")
		}
		b.take(2500)
		if b.allows() {
			t.Error("an overdrawn bucket allows")
		}
		time.Sleep(1500 * time.Millisecond)
		if b.allows() {
			t.Error("the debt is paid too early")
		}
		time.Sleep(2 * time.Millisecond)
		if !b.allows() {
			t.Error("the debt is never paid")
		}
	})
}

func TestSeenFilter(t *testing.T) {
	const keys = 10_000
	f := newSeenFilter(keys)
	hash := func() Hash { return Hash{rand.Uint64(), rand.Uint64()} }
	var known []Hash
	wrong := 0
	for range keys {
		h := hash()
		if f.see(h) {
			wrong++
		}
		known = append(known, h)
	}
	if wrong > keys/50 {
		t.Errorf("%d of %d new keys are taken for known ones", wrong, keys)
	}
	for _, h := range known {
		if !f.see(h) {
			t.Fatal("a key is forgotten within the filter's length")
		}
	}
	for range 3 * keys {
		f.see(hash())
	}
	again := 0
	for _, h := range known {
		if f.see(h) {
			again++
		}
	}
	if again > keys/10 {
		t.Errorf("%d of %d keys are remembered for more than two lengths", again, keys)
	}
}
