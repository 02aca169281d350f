package store

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"testing"
	"time"

	"edgecdn/internal/unit"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// smallTuning makes many segments and slices of few bytes, and no waiting.
func smallTuning(fs filesystem) tuning {
	return tuning{
		fs: fs, segmentBytes: 512 << 10, backlogMax: 4 << 20, buffersMax: 8 << 20,
		flushEvery: 2 * time.Millisecond, retryEvery: 2 * time.Millisecond, filesMax: 8, entryBytes: 4096,
	}
}

// running is a Disk whose Run runs.
type running struct {
	*Disk
	done   chan error
	cancel context.CancelFunc
}

func configsOf(bytes unit.Bytes, dirs ...string) []DiskConfig {
	var configs []DiskConfig
	for _, dir := range dirs {
		configs = append(configs, DiskConfig{Path: dir, Bytes: bytes})
	}
	return configs
}

func startDisk(t testing.TB, configs []DiskConfig, tune tuning) *running {
	t.Helper()
	d, err := openDiskWith(configs, nil, slog.New(slog.DiscardHandler), tune)
	if err != nil {
		t.Fatal(err)
	}
	return runDisk(d)
}

func runDisk(d *Disk) *running {
	ctx, cancel := context.WithCancel(context.Background())
	r := &running{d, make(chan error, 1), cancel}
	go func() { r.done <- d.Run(ctx) }()
	return r
}

// abandonRun ends Run without Close, as the end of the process does.
func (r *running) abandonRun() {
	r.cancel()
	<-r.done
}

func (r *running) stop(t testing.TB) {
	t.Helper()
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	r.cancel()
	<-r.done
}

// waitUntil waits for a condition that other goroutines bring about.
func waitUntil(t testing.TB, what string, condition func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	late := time.After(30 * time.Second)
	for !condition() {
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("waited in vain until %s", what)
		}
	}
}

// idle reports whether all that was appended and removed is in the files.
func (d *Disk) idle() bool {
	for _, v := range d.volumes {
		v.mu.Lock()
		busy := v.backlog > 0 || len(v.removals) > 0
		v.mu.Unlock()
		if busy {
			signal(v.flushNow)
			return false
		}
	}
	return true
}

// ready reports whether all directories take writes and have a segment ready.
func (d *Disk) ready() bool {
	for _, v := range d.volumes {
		v.mu.Lock()
		ok := v.accepts() == nil && v.hasRoom(roomWanted)
		v.mu.Unlock()
		if !ok {
			return false
		}
	}
	return true
}

// sealOpen ends the open segment of each directory.
func (d *Disk) sealOpen(t testing.TB) {
	t.Helper()
	waitUntil(t, "a segment is ready", d.ready)
	for _, v := range d.volumes {
		v.mu.Lock()
		v.appendRemovals()
		if err := v.roll(0); err != nil {
			t.Error(err)
		}
		v.mu.Unlock()
	}
}

// testBody is n bytes that say at each place whose they are.
func testBody(tag uint64, n int) []byte {
	b := make([]byte, n+16)
	for i := 0; i < n; i += 16 {
		binary.LittleEndian.PutUint64(b[i:], tag)
		binary.LittleEndian.PutUint64(b[i+8:], uint64(i)*0x9E3779B97F4A7C15+tag)
	}
	return b[:n]
}

func testMeta(tag uint64, n int) Meta {
	now := time.Now().UnixNano()
	return Meta{
		Header: fmt.Appendf(nil, "header %d", tag), Length: int64(n), Stored: now, FreshUntil: now + int64(time.Minute),
		KeepUntil: now + int64(time.Hour), Order: tag, URL: tag * 3, Host: 7, Groups: []uint64{tag, 5},
	}
}

// put stores testBody(tag, n) under key.
func (d *Disk) put(key Key, tag uint64, n int) error {
	w, err := d.Create(key, testMeta(tag, n))
	if err != nil {
		return err
	}
	defer w.Abort()
	if _, err := w.Write(testBody(tag, n)); err != nil {
		return err
	}
	s, err := w.Commit(testMeta(tag, n))
	if err != nil {
		return err
	}
	s.Close()
	return nil
}

func mustPut(t testing.TB, d *Disk, key Key, tag uint64, n int) {
	t.Helper()
	waitUntil(t, "the store takes an object", func() bool {
		err := d.put(key, tag, n)
		if err != nil && !errors.Is(err, ErrFull) {
			t.Fatal(err)
		}
		return err == nil
	})
}

// errWrong is what must never happen: bytes that are not those stored.
var errWrong = errors.New("wrong bytes")

// read opens key and checks its body against the tag in its meta. It returns
// the tag, or the error of Open or ReadAt.
func (d *Disk) read(key Key) (uint64, error) {
	s, err := d.Open(key)
	if err != nil {
		return 0, err
	}
	defer s.Close()
	return readStored(s)
}

func readStored(s *Stored) (uint64, error) {
	tag := s.Meta().Order
	got, err := io.ReadAll(io.NewSectionReader(s, 0, s.Meta().Length))
	if err != nil {
		return tag, err
	}
	bodyTag := tag
	if len(got) >= 8 {
		bodyTag = binary.LittleEndian.Uint64(got)
	}
	if !bytes.Equal(got, testBody(bodyTag, len(got))) || int64(len(got)) != s.Meta().Length ||
		string(s.Meta().Header) != fmt.Sprintf("header %d", tag) {
		return tag, errWrong
	}
	if len(got) >= 8 && bodyTag>>32 != tag>>32 {
		return tag, fmt.Errorf("%w: the body of another key", errWrong)
	}
	return tag, nil
}

func wantTag(t testing.TB, d *Disk, key Key, tag uint64) {
	t.Helper()
	got, err := d.read(key)
	if err != nil || got != tag {
		t.Fatalf("%s: got object %d, %v; want %d", key.Text, got, err, tag)
	}
}

func wantNone(t testing.TB, d *Disk, key Key) {
	t.Helper()
	if tag, err := d.read(key); !errors.Is(err, ErrNotFound) {
		t.Fatalf("%s: got object %d, %v; want ErrNotFound", key.Text, tag, err)
	}
}

func keyOf(d *Disk, n int) Key {
	return d.Hasher().Key(fmt.Sprintf("https://example.org/object/%d", n))
}

// segmentFiles returns the paths of the segments of a directory, oldest first.
func segmentFiles(t testing.TB, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var paths []string
	for _, e := range entries {
		if _, ok := parseSegmentName(e.Name()); ok {
			paths = append(paths, dir+"/"+e.Name())
		}
	}
	slices.Sort(paths)
	return paths
}

// flipBit changes one bit of a file.
func flipBit(t testing.TB, path string, off int64) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 1)
	if _, err := f.ReadAt(b, off); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 1 << (off % 8)
	if _, err := f.WriteAt(b, off); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}
