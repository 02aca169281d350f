package store

import (
	"errors"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"syscall"
	"testing"
)

// The model of one key: all versions it ever had (0: none), from where on they
// may come back after a crash, and which it has now, if that is known.
type modelKey struct {
	history []uint64
	durable int // index in history: what is older never comes back
	now     int // index in history, or -1
}

// diskModel runs random operations against a Disk and a model of what it may
// answer.
type diskModel struct {
	t       *testing.T
	rng     *rand.Rand
	dirs    []string
	fs      *faultFS
	d       *running
	keys    []modelKey
	next    uint64
	faulty  bool // calls may fail now
	missing bool // objects may be missing: evicted, or damaged
	damaged bool // removals and headers may be damaged: any version may come back
	budget  int64
}

const modelKeys = 40

func newDiskModel(t *testing.T, dirs int, budget int64) *diskModel {
	seed := rand.Uint64()
	if text := os.Getenv("EDGE_TEST_SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("EDGE_TEST_SEED=%d", seed)
	m := &diskModel{t: t, rng: rand.New(rand.NewPCG(seed, 0)), keys: make([]modelKey, modelKeys), budget: budget}
	for range dirs {
		m.dirs = append(m.dirs, t.TempDir())
	}
	for i := range m.keys {
		m.keys[i].history = []uint64{0}
	}
	m.reopen()
	t.Cleanup(func() {
		m.inject(nil)
		m.d.stop(t)
	})
	return m
}

func (m *diskModel) reopen() {
	m.t.Helper()
	m.fs = newFaultFS(rand.New(rand.NewPCG(m.rng.Uint64(), 1)))
	var configs []DiskConfig
	for _, dir := range m.dirs {
		configs = append(configs, DiskConfig{Path: dir})
		configs[len(configs)-1].Bytes.UnmarshalText(strconv.AppendInt(nil, m.budget, 10))
	}
	m.d = startDisk(m.t, configs, smallTuning(m.fs))
	waitUntil(m.t, "the store is ready", m.d.ready)
}

func (m *diskModel) inject(fault func(op, path string) error) {
	m.faulty = fault != nil
	m.fs.inject(fault)
}

// run does n random operations.
func (m *diskModel) run(n int) {
	m.t.Helper()
	for range n {
		k := m.rng.IntN(len(m.keys))
		switch n := m.rng.IntN(100); {
		case n < 35:
			m.put(k)
		case n < 45:
			m.remove(k)
		case n < 55:
			m.freshen(k)
		default:
			m.look(k)
		}
		if m.t.Failed() {
			m.t.FailNow()
		}
	}
}

func (m *diskModel) version(k int) uint64 {
	m.next++
	return uint64(k+1)<<32 | m.next
}

// append notes that the key now has a version.
func (m *diskModel) append(k int, version uint64) {
	key := &m.keys[k]
	key.history = append(key.history, version)
	key.now = len(key.history) - 1
}

func (m *diskModel) put(k int) {
	size := m.rng.IntN(1 + 1<<m.rng.IntN(18))
	if m.rng.IntN(20) == 0 {
		size = m.rng.IntN(700 << 10) // several slices
	}
	if size < 8 {
		size = 0 // a body tells whose it is by its first 8 bytes
	}
	version := m.version(k)
	err := m.d.put(keyOf(m.d.Disk, k), version, size)
	switch {
	case err == nil:
		m.append(k, version)
	case errors.Is(err, ErrFull): // it may be slow at any time
	case errors.Is(err, ErrBroken) && m.faulty:
	default:
		m.t.Errorf("put of key %d: %v", k, err)
	}
}

func (m *diskModel) remove(k int) {
	if err := m.d.Remove(keyOf(m.d.Disk, k)); err != nil {
		m.t.Errorf("remove of key %d: %v", k, err)
	}
	m.append(k, 0)
}

func (m *diskModel) freshen(k int) {
	key := &m.keys[k]
	version := m.version(k)
	err := m.d.Freshen(keyOf(m.d.Disk, k), testMeta(version, 0))
	switch {
	case err == nil:
		if key.now >= 0 && key.history[key.now] == 0 {
			m.t.Errorf("freshened key %d, which is not there", k)
		}
		m.append(k, version)
	case errors.Is(err, ErrNotFound):
		if key.now >= 0 && key.history[key.now] != 0 && !m.missing && !m.faulty {
			m.t.Errorf("freshening of key %d: %v", k, err)
		}
	case !errors.Is(err, ErrFull) && !(errors.Is(err, ErrBroken) && m.faulty):
		m.t.Errorf("freshening of key %d: %v", k, err)
	}
}

// look reads a key and holds the answer to the model.
func (m *diskModel) look(k int) {
	m.t.Helper()
	key := &m.keys[k]
	got, err := m.d.read(keyOf(m.d.Disk, k))
	if err != nil {
		if !errors.Is(err, ErrNotFound) && !(errors.Is(err, ErrBroken) && m.faulty) {
			m.t.Errorf("key %d: %v", k, err)
		}
		if m.missing || m.faulty {
			return
		}
		got = 0
	}
	if key.now >= 0 {
		if got != key.history[key.now] {
			m.t.Errorf("key %d is %d, want %d", k, got, key.history[key.now])
		}
		return
	}
	from := key.durable
	if m.damaged {
		from = 0
	}
	if i := slices.Index(key.history[from:], got); i >= 0 {
		key.now = from + i
		return
	}
	m.t.Errorf("key %d is %d after a crash, want one of %d", k, got, key.history[from:])
}

func (m *diskModel) lookAll() {
	m.t.Helper()
	for k := range m.keys {
		m.look(k)
	}
	if m.t.Failed() {
		m.t.FailNow()
	}
}

// barrier waits until all is in the files: it outlives any kill from here on.
func (m *diskModel) barrier() {
	waitUntil(m.t, "all is written", m.d.idle)
	for i := range m.keys {
		if key := &m.keys[i]; key.now >= 0 {
			key.durable = key.now
		}
	}
}

// crash reopens what a dead process left. What is not durable may be lost.
func (m *diskModel) crash() {
	m.d.abandonRun()
	m.inject(nil)
	for i := range m.keys {
		m.keys[i].now = -1
	}
	m.reopen()
	m.lookAll()
}

func TestDiskModelKills(t *testing.T) {
	for _, dirs := range []int{1, 3} {
		t.Run(strconv.Itoa(dirs)+" directories", func(t *testing.T) {
			m := newDiskModel(t, dirs, 256<<20)
			for range 12 {
				m.run(60)
				if m.rng.IntN(3) > 0 {
					m.barrier()
					m.run(m.rng.IntN(40))
				}
				if m.rng.IntN(2) == 0 {
					m.fs.tearWrite()
					waitUntil(t, "a write is torn", func() bool {
						_ = m.d.put(keyOf(m.d.Disk, 1000), 1001<<32, 1000)
						return m.fs.isDead()
					})
				}
				m.fs.kill()
				m.crash()
			}
		})
	}
}

func TestDiskModelFaults(t *testing.T) {
	faults := map[string]func(op, path string) error{
		"no space":     failing(syscall.ENOSPC, "", "write", "create"),
		"write error":  failing(syscall.EIO, ".seg", "write", "create"),
		"sync error":   failing(syscall.EIO, "", "sync"),
		"read-only":    failing(syscall.EROFS, "", "write", "create", "remove", "rename"),
		"read error":   failing(syscall.EIO, ".seg", "read"),
		"cannot open":  failing(syscall.EMFILE, ".seg", "open"),
		"cannot erase": failing(syscall.EIO, "", "remove", "rename"),
	}
	for name, fault := range faults {
		t.Run(name, func(t *testing.T) {
			m := newDiskModel(t, 1+len(name)%2, 256<<20)
			for range 4 {
				m.run(60)
				m.inject(fault)
				m.run(80)
				if name == "write error" {
					waitUntil(t, "a segment is given up", m.lost)
				}
				m.inject(nil)
				waitUntil(t, "the store has recovered", func() bool { return m.d.idle() && m.d.ready() })
				m.missing = m.missing || m.lost()
				m.lookAll()
				m.run(60)
				m.barrier()
				m.fs.kill()
				m.crash()
			}
		})
	}
}

// lost reports whether the store gave something up: what a device refused for
// long, or, on a full one, what was oldest.
func (m *diskModel) lost() bool {
	for _, s := range m.d.Stats().Directories {
		if s.SegmentsLost > 0 || s.Evicted > 0 {
			return true
		}
	}
	return false
}

func TestDiskModelDamage(t *testing.T) {
	m := newDiskModel(t, 1, 256<<20)
	m.missing, m.damaged = true, true
	for round := range 12 {
		m.run(80)
		for range m.rng.IntN(4) {
			waitUntil(t, "all is written", m.d.idle)
			paths := segmentFiles(t, m.dirs[0])
			path := paths[m.rng.IntN(len(paths))]
			if info, err := os.Stat(path); err == nil && info.Size() > 0 {
				flipBit(t, path, m.rng.Int64N(info.Size()))
			}
			m.run(20)
		}
		if round%2 == 0 {
			if err := m.fs.losePower(); err != nil {
				t.Fatal(err)
			}
		} else {
			m.fs.kill()
		}
		m.crash()
	}
}

// TestDiskModelTight keeps more than fits: objects may be evicted, but what is
// there is right, and the budget holds.
func TestDiskModelTight(t *testing.T) {
	m := newDiskModel(t, 1, 6<<20)
	m.missing = true
	for range 4 {
		m.run(600)
		s := m.d.Stats().Directories[0]
		if s.BytesUsed > s.BytesMax {
			t.Errorf("%d bytes used of %d", s.BytesUsed, s.BytesMax)
		}
		m.barrier()
		m.fs.kill()
		m.crash()
	}
	if m.d.Stats().Directories[0].BytesUsed == 0 {
		t.Error("nothing is kept")
	}
}
