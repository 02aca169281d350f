package store

import (
	"log/slog"
	"os"
	"strings"
	"testing"

	"edgecdn/internal/unit"
)

// segmentBytes is what the segment files of a directory take on the device.
func segmentBytes(t testing.TB, dir string) (total int64) {
	t.Helper()
	for _, path := range segmentFiles(t, dir) {
		info, err := os.Stat(path)
		if err != nil {
			continue // reclaimed meanwhile
		}
		total += info.Size()
	}
	return total
}

// A smaller budget holds within moments, with smaller segments, and the newest
// objects stay; a larger one is used.
func TestDiskApply(t *testing.T) {
	dir := t.TempDir()
	tune := defaultTuning
	r := startDisk(t, configsOf(128<<20, dir), tune)
	defer r.stop(t)
	const n, size = 95, 1 << 20
	fillDisk(t, r.Disk, 0, n, size)
	if err := r.Apply(configsOf(64<<20, dir)); err != nil {
		t.Fatal(err)
	}
	fillDisk(t, r.Disk, n, n+1, size)
	waitUntil(t, "the budget holds", func() bool {
		s := r.Stats().Directories[0]
		return s.BytesMax == 64<<20 && s.BytesUsed <= s.BytesMax && r.ready() && r.idle()
	})
	if used := segmentBytes(t, dir); used > 64<<20 {
		t.Errorf("%d MiB in segment files", used>>20)
	}
	wantNone(t, r.Disk, keyOf(r.Disk, 0))
	wantTag(t, r.Disk, keyOf(r.Disk, n), (n+1)<<32)
	if _, err := r.Create(keyOf(r.Disk, 1), testMeta(1, 33<<20)); err != ErrTooLarge {
		t.Errorf("an object of half the new budget: %v", err)
	}

	if err := r.Apply(configsOf(128<<20, dir)); err != nil {
		t.Fatal(err)
	}
	fillDisk(t, r.Disk, 1000, 1000+n, size)
	there := 0
	for i := 1000; i < 1000+n; i++ {
		if _, err := r.read(keyOf(r.Disk, i)); err == nil {
			there++
		}
	}
	if there < n-3 {
		t.Errorf("%d of %d objects are there with a budget of 128 MiB", there, n)
	}
}

func TestDiskApplyRate(t *testing.T) {
	dir := t.TempDir()
	r := startDisk(t, configsOf(64<<20, dir), smallTuning(osFS{}))
	defer r.stop(t)
	config := configsOf(64<<20, dir)
	config[0].WriteRate = 50 * unit.KiB
	if err := r.Apply(config); err != nil {
		t.Fatal(err)
	}
	waitUntil(t, "writes go over the rate", func() bool { return r.put(keyOf(r.Disk, 1), 1<<32, 300_000) == ErrFull })
	if err := r.Apply(configsOf(64<<20, dir)); err != nil {
		t.Fatal(err)
	}
	mustPut(t, r.Disk, keyOf(r.Disk, 2), 2<<32, 300_000)
}

// What would need a restart is refused, and then nothing is changed.
func TestTieredApplyRefuses(t *testing.T) {
	a, b := t.TempDir(), t.TempDir()
	open := func(dirs ...string) *Tiered {
		store, err := Open(Config{Memory: MemoryConfig{16 * unit.MiB}, Disk: configsOf(64<<20, dirs...)}, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := store.Close(); err != nil {
				t.Error(err)
			}
		})
		return store
	}
	one, none := open(a), open()
	for name, c := range map[string]struct {
		store *Tiered
		disk  []DiskConfig
		want  string
	}{
		"more":      {one, configsOf(128<<20, a, b), "store.disk: directory " + b + " is new"},
		"another":   {one, configsOf(128<<20, b), "store.disk: directory " + a + " is removed"},
		"less":      {one, nil, "store.disk: directory " + a + " is removed"},
		"a first":   {none, configsOf(128<<20, b), "store.disk: the first directory"},
		"too small": {one, configsOf(1<<20, a), "give at least 64MiB"},
	} {
		cfg := Config{Memory: MemoryConfig{32 * unit.MiB}, Disk: c.disk}
		for _, err := range []error{c.store.Check(cfg), c.store.Apply(cfg)} {
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s: %v, want %q", name, err, c.want)
			}
		}
		st := c.store.Stats()
		if st.Memory.Budget != int64(16*unit.MiB) || c.store == one && st.Disk.Directories[0].BytesMax != 64<<20 {
			t.Errorf("%s: refused, but budgets have changed", name)
		}
	}
	if err := one.Check(Config{Memory: MemoryConfig{unit.MiB}, Disk: configsOf(64<<20, a)}); err == nil || !strings.Contains(err.Error(), "store.memory.bytes") {
		t.Errorf("1 MiB of memory: %v", err)
	}
	if err := one.Apply(Config{Memory: MemoryConfig{32 * unit.MiB}, Disk: configsOf(128<<20, a+"/.")}); err != nil {
		t.Error(err)
	}
	if st := one.Stats(); st.Memory.Budget != int64(32*unit.MiB) || st.Disk.Directories[0].BytesMax != 128<<20 {
		t.Errorf("budgets %d and %d after a change", st.Memory.Budget, st.Disk.Directories[0].BytesMax)
	}
}
