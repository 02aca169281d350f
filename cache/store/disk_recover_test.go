package store

import (
	"context"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"hash/crc32"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// writeGolden makes testdata/golden-v1 anew. Do so only for a new format
// version, under a new name: stores that exist are in the old one.
var writeGolden = flag.Bool("make-golden", false, "write the golden store of the disk tier")

const goldenDir = "testdata/golden-v1"

// goldenObjects are in the golden store: a small one, an empty one, one in two
// blocks, one in slices, one whose header was freshened, and one removed.
var goldenObjects = []struct {
	key  string
	tag  uint64
	size int
}{
	{"https://golden.example/small", 1<<32 | 1, 700},
	{"https://golden.example/empty", 2<<32 | 1, 0},
	{"https://golden.example/blocks", 3<<32 | 1, 66_000},
	{"https://golden.example/sliced", 4<<32 | 1, 140_000},
	{"https://golden.example/fresh", 5<<32 | 1, 900},
	{"https://golden.example/removed", 6<<32 | 1, 900},
}

func goldenMeta(tag uint64, n int) Meta {
	m := testMeta(tag, n)
	m.Stored, m.FreshUntil, m.KeepUntil = 1_700_000_000e9, 1_700_000_060e9, 4_000_000_000e9
	return m
}

func fillGolden(t *testing.T, d *Disk) {
	for _, o := range goldenObjects {
		w, err := d.Create(d.Hasher().Key(o.key), goldenMeta(o.tag, o.size))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(testBody(o.tag, o.size)); err != nil {
			t.Fatal(err)
		}
		s, err := w.Commit(goldenMeta(o.tag, o.size))
		if err != nil {
			t.Fatal(err)
		}
		s.Close()
	}
	if err := d.Freshen(d.Hasher().Key(goldenObjects[4].key), goldenMeta(5<<32|2, 0)); err != nil {
		t.Fatal(err)
	}
	if err := d.Remove(d.Hasher().Key(goldenObjects[5].key)); err != nil {
		t.Fatal(err)
	}
}

// TestDiskGolden: a store that version 1 wrote is read.
func TestDiskGolden(t *testing.T) {
	if *writeGolden {
		if err := os.RemoveAll(goldenDir); err != nil {
			t.Fatal(err)
		}
		r := startDisk(t, configsOf(64<<20, goldenDir), smallTuning(osFS{}))
		fillGolden(t, r.Disk)
		r.sealOpen(t) // so that there is a sealed segment as well as an open one
		mustPut(t, r.Disk, r.Hasher().Key("https://golden.example/last"), 7<<32|1, 100)
		r.stop(t)
	}
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(goldenDir)); err != nil {
		t.Fatal(err)
	}
	r := startDisk(t, configsOf(64<<20, dir), smallTuning(osFS{}))
	defer r.stop(t)
	for _, o := range goldenObjects[:4] {
		wantTag(t, r.Disk, r.Hasher().Key(o.key), o.tag)
	}
	wantTag(t, r.Disk, r.Hasher().Key(goldenObjects[4].key), 5<<32|2)
	wantNone(t, r.Disk, r.Hasher().Key(goldenObjects[5].key))
	wantTag(t, r.Disk, r.Hasher().Key("https://golden.example/last"), 7<<32|1)
	s, err := r.Open(r.Hasher().Key(goldenObjects[0].key))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	want := goldenMeta(1<<32|1, 700)
	if got := *s.Meta(); got.Stored != want.Stored || got.FreshUntil != want.FreshUntil || got.KeepUntil != want.KeepUntil ||
		got.Order != want.Order || got.URL != want.URL || got.Host != want.Host || !slices.Equal(got.Groups, want.Groups) {
		t.Errorf("meta %+v, want %+v", got, want)
	}
}

// restampHeader lets a changed segment header pass its checksum.
func restampHeader(b []byte) {
	binary.LittleEndian.PutUint32(b[24:], crc32.Checksum(b[:24], castagnoli))
}

func TestDiskRefusals(t *testing.T) {
	open := func(dirs ...string) error {
		d, err := OpenDisk(configsOf(64<<20, dirs...), nil, slog.New(slog.DiscardHandler))
		if err == nil {
			err = d.Close()
		}
		return err
	}
	made := func(t *testing.T) string {
		dir := t.TempDir()
		if err := open(dir); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	write := func(t *testing.T, dir, name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, c := range map[string]struct {
		want  string
		setUp func(t *testing.T) []string
	}{
		"in use": {fmt.Sprintf("in use by process %d", os.Getpid()), func(t *testing.T) []string {
			dir := made(t)
			d, err := OpenDisk(configsOf(64<<20, dir), nil, slog.New(slog.DiscardHandler))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { d.Close() })
			return []string{dir}
		}},
		"another store's": {"different stores", func(t *testing.T) []string { return []string{made(t), made(t)} }},
		"newer format": {"format version 2 and this edge reads up to 1", func(t *testing.T) []string {
			dir := made(t)
			write(t, dir, formatName, "edge store\nversion 2\nsomething new\n")
			return []string{dir}
		}},
		"newer segment": {"written by a newer edge", func(t *testing.T) []string {
			dir := made(t)
			b := encodeSegmentHeader(5)
			b[8] = segmentVersion + 1
			restampHeader(b)
			write(t, dir, segmentName(5), string(b))
			return []string{dir}
		}},
		"damaged format": {"names no seed", func(t *testing.T) []string {
			dir := made(t)
			write(t, dir, formatName, "edge store\nversion 1\nseed x\n")
			return []string{dir}
		}},
		"other files": {`holds "notes.txt"`, func(t *testing.T) []string {
			dir := t.TempDir()
			write(t, dir, "notes.txt", "mine")
			return []string{dir}
		}},
		"no directory": {"no directory configured", func(t *testing.T) []string { return nil }},
	} {
		t.Run(name, func(t *testing.T) {
			err := open(c.setUp(t)...)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("got %v, want %q", err, c.want)
			}
		})
	}
}

// TestDiskTornTail cuts and damages the open segment at many places: what is
// before is there, what is behind is gone, and the log goes on.
func TestDiskTornTail(t *testing.T) {
	dir := t.TempDir()
	r := startDisk(t, configsOf(64<<20, dir), smallTuning(osFS{}))
	const n = 20
	ends := make([]int64, n)
	for i := range n {
		mustPut(t, r.Disk, keyOf(r.Disk, i), uint64(i+1)<<32, 3000+i*100)
		ends[i] = r.volumes[0].open.size
	}
	r.stop(t)
	path := segmentFiles(t, dir)
	if len(path) != 1 {
		t.Fatalf("%d segments, want 1", len(path))
	}
	whole, err := os.ReadFile(path[0])
	if err != nil {
		t.Fatal(err)
	}
	for cut := int64(unitBytes); cut <= int64(len(whole)); cut += 700 {
		for _, damage := range []string{"cut", "zeros"} {
			torn := slices.Clone(whole)
			if damage == "cut" {
				torn = torn[:cut]
			} else {
				clear(torn[cut:])
			}
			if err := os.WriteFile(path[0], torn, 0o600); err != nil {
				t.Fatal(err)
			}
			r := startDisk(t, configsOf(64<<20, dir), smallTuning(osFS{}))
			mustPut(t, r.Disk, keyOf(r.Disk, 100), 100<<32, 2000)
			for i, end := range ends {
				if end <= cut {
					wantTag(t, r.Disk, keyOf(r.Disk, i), uint64(i+1)<<32)
				} else if _, err := r.read(keyOf(r.Disk, i)); err == nil && damage == "cut" {
					t.Fatalf("cut at %d: object %d is there, which ends at %d", cut, i, end)
				}
			}
			wantTag(t, r.Disk, keyOf(r.Disk, 100), 100<<32)
			r.stop(t)
			for _, p := range segmentFiles(t, dir) {
				if err := os.Remove(p); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
}

// TestDiskTables: a start reads the tables of sealed segments and not their
// records; without a table it finds the same.
func TestDiskTables(t *testing.T) {
	dir := t.TempDir()
	r := startDisk(t, configsOf(64<<20, dir), smallTuning(osFS{}))
	const n = 100
	for i := range n {
		mustPut(t, r.Disk, keyOf(r.Disk, i), uint64(i+1)<<32, 20_000)
	}
	for i := 0; i < n; i += 3 {
		if err := r.Remove(keyOf(r.Disk, i)); err != nil {
			t.Fatal(err)
		}
	}
	r.stop(t)
	check := func(what string) {
		t.Helper()
		r := startDisk(t, configsOf(64<<20, dir), smallTuning(osFS{}))
		defer r.stop(t)
		for i := range n {
			if i%3 == 0 {
				wantNone(t, r.Disk, keyOf(r.Disk, i))
			} else {
				wantTag(t, r.Disk, keyOf(r.Disk, i), uint64(i+1)<<32)
			}
		}
		if got := r.Stats().Directories[0].Objects; got != n-(n+2)/3 {
			t.Errorf("%s: %d objects, want %d", what, got, n-(n+2)/3)
		}
	}
	check("with tables")
	paths := segmentFiles(t, dir)
	if len(paths) < 4 {
		t.Fatalf("%d segments are too few for this test", len(paths))
	}
	for i, path := range paths[:len(paths)-1] {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if i%2 == 0 {
			flipBit(t, path, info.Size()-unitBytes) // the footer
		} else {
			flipBit(t, path, info.Size()-2*unitBytes) // the table
		}
	}
	check("damaged tables")
	check("mended tables")
}

func TestDiskInspect(t *testing.T) {
	dir := t.TempDir()
	r := startDisk(t, configsOf(64<<20, dir), smallTuning(osFS{}))
	fillGolden(t, r.Disk)
	if _, err := Inspect(dir); err == nil || !strings.Contains(err.Error(), "in use by process") {
		t.Errorf("inspecting a store in use: %v", err)
	}
	r.stop(t)
	i, err := Inspect(dir)
	if err != nil {
		t.Fatal(err)
	}
	if i.Objects != 5 || i.Slices != 2 || i.Segments < 1 || i.BadSegments != 0 || i.LiveBytes < 207_000 || i.LiveBytes > i.Bytes {
		t.Errorf("inspection %+v", i)
	}
	var listed []string
	if err := List(dir, func(l Listed) bool {
		listed = append(listed, fmt.Sprint(l.Key, " ", l.Meta.Length))
		return true
	}); err != nil {
		t.Fatal(err)
	}
	slices.Sort(listed)
	var want []string
	for _, o := range goldenObjects[:5] {
		want = append(want, fmt.Sprint(o.key, " ", o.size))
	}
	slices.Sort(want)
	if !slices.Equal(listed, want) {
		t.Errorf("listed %q, want %q", listed, want)
	}
	verify := func() (damages []Damage, done, total int64) {
		err := Verify(t.Context(), dir, func(d, n int64) { done, total = d, n }, func(d Damage) { damages = append(damages, d) })
		if err != nil {
			t.Fatal(err)
		}
		return damages, done, total
	}
	if damages, done, total := verify(); len(damages) != 0 || done != total || total != i.LiveBytes {
		t.Errorf("a sound store: damages %v, %d of %d bytes", damages, done, total)
	}
	damageBody(t, dir, goldenObjects[2].tag)
	if damages, _, _ := verify(); len(damages) != 1 || !errors.Is(damages[0].Err, errChecksum) {
		t.Errorf("a damaged body in an open segment: damages %v", damages)
	}
	damageBody(t, dir, goldenObjects[2].tag) // and back
	r = startDisk(t, configsOf(64<<20, dir), smallTuning(osFS{}))
	r.sealOpen(t)
	r.stop(t)
	damageBody(t, dir, goldenObjects[2].tag)
	if damages, _, _ := verify(); len(damages) != 1 || damages[0].Key != goldenObjects[2].key || !errors.Is(damages[0].Err, errChecksum) {
		t.Errorf("a damaged body in a sealed segment: damages %v", damages)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Verify(ctx, dir, func(int64, int64) {}, func(Damage) {}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if _, err := Inspect(t.TempDir()); err == nil || !strings.Contains(err.Error(), "not a directory of an edge store") {
		t.Errorf("inspecting an empty directory: %v", err)
	}
}

// damageBody flips a bit in the middle of the body of a tag, wherever it lies.
func damageBody(t *testing.T, dir string, tag uint64) {
	t.Helper()
	needle := testBody(tag, 64)
	for _, path := range segmentFiles(t, dir) {
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(f)
		f.Close()
		if err != nil {
			t.Fatal(err)
		}
		if i := strings.Index(string(b), string(needle)); i >= 0 {
			flipBit(t, path, int64(i)+100)
			return
		}
	}
	t.Fatal("the body is in no segment")
}
