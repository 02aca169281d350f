package store

import (
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
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
	// It is refused for long only once there is a reader.
	read := make(chan struct{})
	begin := sync.OnceFunc(func() { close(read) })
	defer begin()
	fail := failing(syscall.EIO, ".seg", "write", "create")
	fs.inject(func(op, path string) error {
		err := fail(op, path)
		if err != nil {
			<-read
		}
		return err
	})
	mustPut(t, r.Disk, keyOf(r.Disk, 1), 1<<32|1, 1000)
	held, err := r.Open(keyOf(r.Disk, 1))
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Remove(keyOf(r.Disk, 2)); err != nil {
		t.Fatal(err)
	}
	begin()
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

// TestDiskFailingDirectory: of two directories one fails; objects go to the
// other, and come back to it when it recovers.
func TestDiskFailingDirectory(t *testing.T) {
	for name, fault := range map[string]error{"full": syscall.ENOSPC, "failing": syscall.EIO, "read-only": syscall.EROFS} {
		t.Run(name, func(t *testing.T) {
			bad := t.TempDir()
			fs := newFaultFS(rand.New(rand.NewPCG(1, 1)))
			r := startDisk(t, configsOf(64<<20, bad, t.TempDir()), smallTuning(fs))
			defer r.stop(t)
			fillDisk(t, r.Disk, 0, 100, 2000)
			waitUntil(t, "all is written", r.idle)
			fs.inject(failing(fault, bad, "write", "create"))
			waitUntil(t, "the directory is out of use", func() bool {
				_ = r.put(keyOf(r.Disk, 1), 2<<32, 2000)
				_ = r.put(keyOf(r.Disk, rand.IntN(1000)+2000), 2<<32, 2000)
				return r.Stats().Directories[0].State != "serving"
			})
			for i := 200; i < 300; i++ {
				if err := r.put(keyOf(r.Disk, i), uint64(i+1)<<32, 2000); err != nil {
					t.Fatal(err)
				}
				wantTag(t, r.Disk, keyOf(r.Disk, i), uint64(i+1)<<32)
			}
			if s := r.Stats().Directories[0]; s.Error == "" || s.WriteErrors == 0 {
				t.Errorf("state %s, error %q, %d write errors", s.State, s.Error, s.WriteErrors)
			}
			for i := 2; i < 100; i++ {
				wantTag(t, r.Disk, keyOf(r.Disk, i), uint64(i+1)<<32)
			}
			fs.inject(nil)
			waitUntil(t, "the directory is in use", r.ready)
			// What was replaced while its directory was out of use is not there
			// any more, also when the newer one goes.
			if r.volumes[1].index.remove(printOf(keyOf(r.Disk, 1).Hash)) != 0 {
				wantNone(t, r.Disk, keyOf(r.Disk, 1))
			}
			before := r.Stats().Directories[0].Stored
			fillDisk(t, r.Disk, 300, 400, 2000)
			if n := r.Stats().Directories[0].Stored - before; n < 20 {
				t.Errorf("%d of 100 objects went to the directory that recovered", n)
			}
			for i := 200; i < 400; i++ {
				wantTag(t, r.Disk, keyOf(r.Disk, i), uint64(i+1)<<32)
			}
		})
	}
}

func TestDiskBlindDirectory(t *testing.T) {
	fs := newFaultFS(rand.New(rand.NewPCG(1, 1)))
	r := startDisk(t, configsOf(64<<20, t.TempDir()), smallTuning(fs))
	defer r.stop(t)
	fillDisk(t, r.Disk, 0, 20, 2000)
	waitUntil(t, "all is written", r.idle)
	var reads atomic.Int64
	fs.inject(func(op, path string) error {
		if op == "read" {
			reads.Add(1)
			return syscall.EIO
		}
		return nil
	})
	for i := range 1000 {
		if _, err := r.Open(keyOf(r.Disk, i%20)); !errors.Is(err, ErrNotFound) || !errors.Is(err, ErrBroken) {
			t.Fatalf("open on a device that cannot be read: %v", err)
		}
	}
	if n := reads.Load(); n > 3*blindAfter {
		t.Errorf("%d reads from a device that cannot be read", n)
	}
	fs.inject(nil)
	waitUntil(t, "the directory can be read", func() bool {
		_, err := r.read(keyOf(r.Disk, 1))
		return err == nil
	})
	for i := range 20 {
		wantTag(t, r.Disk, keyOf(r.Disk, i), uint64(i+1)<<32)
	}
}
