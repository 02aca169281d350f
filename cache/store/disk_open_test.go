package store

import (
	"bytes"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// syncBuffer is what a log may write to from several goroutines.
type syncBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// A directory whose device fails at the start is away: told of, tried again,
// and used, empty, as soon as it works. The others serve meanwhile.
func TestDiskStartsWithout(t *testing.T) {
	for _, op := range []string{"mkdir", "lock", "read", "list", "write"} {
		t.Run(op, func(t *testing.T) {
			good, bad := t.TempDir(), t.TempDir()
			fs := newFaultFS(rand.New(rand.NewPCG(1, 1)))
			if op != "write" { // it fails where the format is written first
				r := startDisk(t, configsOf(64<<20, good, bad), smallTuning(fs))
				fillDisk(t, r.Disk, 100, 120, 100)
				r.stop(t)
			}
			fs.inject(failing(syscall.EIO, bad, op))
			r := startDisk(t, configsOf(64<<20, bad, good), smallTuning(fs))
			mustPut(t, r.Disk, keyOf(r.Disk, 1), 1<<32, 100)
			wantTag(t, r.Disk, keyOf(r.Disk, 1), 1<<32)
			if s := r.Stats().Directories; len(s) != 2 || s[0].Path != bad || s[0].State != "broken" || s[0].Error == "" || s[0].OpenErrors == 0 {
				t.Errorf("directories %+v", s)
			}
			// What it holds is removed while it cannot be told.
			for i := 100; i < 120; i++ {
				if err := r.Remove(keyOf(r.Disk, i)); err != nil {
					t.Fatal(err)
				}
			}
			tries := r.Stats().Directories[0].OpenErrors
			waitUntil(t, "it is tried again", func() bool { return r.Stats().Directories[0].OpenErrors > tries })
			fs.inject(nil)
			waitUntil(t, "it is in use", func() bool { return r.Stats().Directories[0].State == "serving" })
			for i := 100; i < 120; i++ {
				wantNone(t, r.Disk, keyOf(r.Disk, i))
			}
			fillDisk(t, r.Disk, 200, 300, 100)
			if s := r.Stats().Directories[0]; s.Stored < 20 || s.Error != "" {
				t.Errorf("%d of 100 objects went to the directory that came back, error %q", s.Stored, s.Error)
			}
			r.stop(t)
			r = startDisk(t, configsOf(64<<20, good, bad), smallTuning(fs))
			defer r.stop(t)
			wantTag(t, r.Disk, keyOf(r.Disk, 1), 1<<32)
			for i := 200; i < 300; i++ {
				wantTag(t, r.Disk, keyOf(r.Disk, i), uint64(i+1)<<32)
			}
			for i := 100; i < 120; i++ {
				wantNone(t, r.Disk, keyOf(r.Disk, i))
			}
		})
	}
}

// With no directory at all the tier takes nothing; what comes back has another
// seed, and is made one of this process's store.
func TestDiskStartsWithoutAny(t *testing.T) {
	dir := t.TempDir()
	fs := newFaultFS(rand.New(rand.NewPCG(1, 1)))
	r := startDisk(t, configsOf(64<<20, dir), smallTuning(fs))
	fillDisk(t, r.Disk, 0, 10, 100)
	r.stop(t)
	var said syncBuffer
	fs.inject(failing(syscall.EIO, dir, "read"))
	d, err := openDiskWith(configsOf(64<<20, dir), nil, slog.New(slog.NewTextHandler(&said, nil)), smallTuning(fs))
	if err != nil {
		t.Fatal(err)
	}
	r = runDisk(d)
	if err := r.put(keyOf(r.Disk, 1), 1<<32, 100); err != ErrBroken {
		t.Errorf("put without any directory: %v", err)
	}
	wantNone(t, r.Disk, keyOf(r.Disk, 1))
	if r.Admits(keyOf(r.Disk, 1), testMeta(1, 100)) {
		t.Error("something is admitted though there is no directory")
	}
	fs.inject(nil)
	mustComeBack(t, r)
	fillDisk(t, r.Disk, 0, 10, 100)
	for i := range 10 {
		wantTag(t, r.Disk, keyOf(r.Disk, i), uint64(i+1)<<32)
	}
	r.stop(t)
	r = startDisk(t, configsOf(64<<20, dir), smallTuning(fs))
	defer r.stop(t)
	for i := range 10 {
		wantTag(t, r.Disk, keyOf(r.Disk, i), uint64(i+1)<<32)
	}
	if text := said.String(); strings.Count(text, "level=ERROR") != 1 || !strings.Contains(text, "takes writes again") {
		t.Errorf("the log says:\n%s", text)
	}
}

func mustComeBack(t *testing.T, r *running) {
	t.Helper()
	waitUntil(t, "the directory is in use", func() bool { return r.Stats().Directories[0].State == "serving" })
}

// What is refused at the start is refused, and kept, when it comes back later.
func TestDiskComesBackWithAnothers(t *testing.T) {
	newer := encodeSegmentHeader(5)
	newer[8] = segmentVersion + 1
	restampHeader(newer)
	for name, c := range map[string]struct{ file, text, want string }{
		"newer format":  {formatName, "edge store\nversion 2\nsomething new\n", "format version 2"},
		"newer segment": {segmentName(5), string(newer), "written by a newer edge"},
		"other files":   {"notes.txt", "mine", "notes.txt"},
		"another store": {formatName, "edge store\nversion 1\nseed 1\ndirectory 2\n", "belongs to another store"},
	} {
		t.Run(name, func(t *testing.T) {
			good, bad := t.TempDir(), t.TempDir()
			fs := newFaultFS(rand.New(rand.NewPCG(1, 1)))
			startDisk(t, configsOf(64<<20, good), smallTuning(fs)).stop(t)
			fs.inject(failing(syscall.EIO, bad, "lock"))
			r := startDisk(t, configsOf(64<<20, good, bad), smallTuning(fs))
			defer r.stop(t)
			if name == "newer segment" {
				if err := os.WriteFile(filepath.Join(bad, formatName), r.volumes[0].format.encode(), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			path := filepath.Join(bad, c.file)
			if err := os.WriteFile(path, []byte(c.text), 0o600); err != nil {
				t.Fatal(err)
			}
			fs.inject(nil)
			waitUntil(t, "it is refused", func() bool {
				s := r.Stats().Directories[1]
				return s.State == "broken" && strings.Contains(s.Error, c.want)
			})
			if got, err := os.ReadFile(path); err != nil || string(got) != c.text {
				t.Errorf("the file that is not ours now holds %q, %v", got, err)
			}
		})
	}
}

// While a directory fails, another may take its path: nothing is written there.
func TestDiskPathOfAnother(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "cache")
	fs := newFaultFS(rand.New(rand.NewPCG(1, 1)))
	r := startDisk(t, configsOf(64<<20, dir), smallTuning(fs))
	fillDisk(t, r.Disk, 0, 10, 1000)
	waitUntil(t, "all is written", r.idle)
	fs.inject(failing(syscall.EIO, ".seg", "write", "create"))
	mustPut(t, r.Disk, keyOf(r.Disk, 20), 21<<32, 1000)
	waitUntil(t, "it fails", func() bool { return r.Stats().Directories[0].SegmentsLost > 0 })
	if err := os.Rename(dir, dir+".away"); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(dir, 0o750); err != nil {
		t.Fatal(err)
	}
	fs.inject(nil)
	waitUntil(t, "it is told of", func() bool {
		return strings.Contains(r.Stats().Directories[0].Error, "is not the directory that was opened")
	})
	if files, err := os.ReadDir(dir); err != nil || len(files) > 0 {
		t.Errorf("the other directory holds %v, %v", files, err)
	}
	if err := os.Remove(dir); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(dir+".away", dir); err != nil {
		t.Fatal(err)
	}
	mustComeBack(t, r)
	for i := range 10 {
		wantTag(t, r.Disk, keyOf(r.Disk, i), uint64(i+1)<<32)
	}
	mustPut(t, r.Disk, keyOf(r.Disk, 30), 31<<32, 1000)
	wantTag(t, r.Disk, keyOf(r.Disk, 30), 31<<32)
	r.stop(t)
	startDisk(t, configsOf(64<<20, dir), smallTuning(osFS{})).stop(t)
}
