package store

import (
	"math/rand/v2"
	"syscall"
	"testing"
)

// TestDiskGivenUp: what a device refuses for long is given up, and the
// directory is used again as soon as it takes writes, though nothing waits.
func TestDiskGivenUp(t *testing.T) {
	dir := t.TempDir()
	fs := newFaultFS(rand.New(rand.NewPCG(1, 1)))
	r := startDisk(t, configsOf(64<<20, dir), smallTuning(fs))
	defer func() { r.stop(t) }()
	mustPut(t, r.Disk, keyOf(r.Disk, 1), 1<<32, 1000)
	mustPut(t, r.Disk, keyOf(r.Disk, 2), 2<<32, 1000)
	waitUntil(t, "all is written", r.idle)
	fs.inject(failing(syscall.EIO, ".seg", "write", "create"))
	mustPut(t, r.Disk, keyOf(r.Disk, 1), 1<<32|1, 1000)
	held, err := r.Open(keyOf(r.Disk, 1))
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Remove(keyOf(r.Disk, 2)); err != nil {
		t.Fatal(err)
	}
	waitUntil(t, "the segment is given up", func() bool { return r.Stats().Directories[0].SegmentsLost > 0 })
	wantNone(t, r.Disk, keyOf(r.Disk, 1))
	if tag, err := readStored(held); err != nil || tag != 1<<32|1 {
		t.Errorf("what a reader holds of it: object %d, %v", tag, err)
	}
	held.Close()
	fs.inject(nil)
	waitUntil(t, "the directory is in use", func() bool { return r.ready() && r.idle() })
	mustPut(t, r.Disk, keyOf(r.Disk, 3), 3<<32, 1000)
	waitUntil(t, "all is written", r.idle)
	fs.kill()
	r.abandonRun()

	// The one that was replaced must not come back with the restart, nor the
	// one that was removed.
	r = startDisk(t, configsOf(64<<20, dir), smallTuning(osFS{}))
	wantNone(t, r.Disk, keyOf(r.Disk, 1))
	wantNone(t, r.Disk, keyOf(r.Disk, 2))
	wantTag(t, r.Disk, keyOf(r.Disk, 3), 3<<32)
}

// TestDiskStaleDirectory: an object was replaced while the directory that had
// it was out of use, and the process died before it could note that.
func TestDiskStaleDirectory(t *testing.T) {
	dirs := []string{t.TempDir(), t.TempDir()}
	fs := newFaultFS(rand.New(rand.NewPCG(1, 1)))
	r := startDisk(t, configsOf(64<<20, dirs...), smallTuning(fs))
	const n = 20
	fillDisk(t, r.Disk, 0, n, 1000)
	waitUntil(t, "all is written", r.idle)
	for _, bad := range dirs { // both, so that each is first in the order once
		fs.inject(failing(syscall.EROFS, bad, "write", "create"))
		mustPut(t, r.Disk, keyOf(r.Disk, 1000), 1001<<32, 1000)
		waitUntil(t, "the directory is out of use", func() bool {
			_ = r.put(keyOf(r.Disk, rand.IntN(1000)+2000), 1<<32, 1000)
			serving := 0
			for _, s := range r.Stats().Directories {
				if s.State == "serving" {
					serving++
				}
			}
			return serving == 1
		})
		for i := range n {
			mustPut(t, r.Disk, keyOf(r.Disk, i), uint64(i+1)<<32|1, 1000)
		}
		good := 0
		if bad == dirs[0] {
			good = 1
		}
		waitUntil(t, "all is written that can be", func() bool {
			signal(r.volumes[good].flushNow)
			s := r.Stats().Directories[good]
			return s.BacklogBytes == 0
		})
		fs.kill()
		r.abandonRun()
		fs = newFaultFS(rand.New(rand.NewPCG(1, 1)))
		r = startDisk(t, configsOf(64<<20, dirs...), smallTuning(fs))
		for i := range n {
			wantTag(t, r.Disk, keyOf(r.Disk, i), uint64(i+1)<<32|1)
		}
		// Whichever was looked at, the older ones are as good as gone.
		for i := range n {
			mustPut(t, r.Disk, keyOf(r.Disk, i), uint64(i+1)<<32, 1000)
		}
		waitUntil(t, "all is written", r.idle)
	}
	r.stop(t)
}
