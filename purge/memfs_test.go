package purge

import (
	"errors"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
)

var errDead = errors.New("the process is dead")

// memFS is a file system in memory that fails and dies when told to, and forgets
// in a power cut what was not synced.
type memFS struct {
	mu    sync.Mutex
	rng   *rand.Rand
	files map[string]*memFile // names as they are now
	names map[string]*memFile // names that are durable

	ops    int                         // calls that change something, so far
	dieAt  int                         // the call that is the last; 0: none
	dead   bool                        // and all calls after it fail
	fault  func(op, path string) error // nil: none
	counts map[string]int              // of calls, by name

	entered chan<- struct{}
	until   <-chan struct{}
}

// memFile is one file. Sectors that were not synced may be lost, each by itself.
type memFile struct {
	data, synced []byte
}

const sector = 64 // small, so that small writes tear

func newMemFS(seed uint64) *memFS {
	return &memFS{
		rng: rand.New(rand.NewPCG(seed, 1)), files: map[string]*memFile{}, names: map[string]*memFile{},
		counts: map[string]int{},
	}
}

// step counts a call, and says whether it fails or is the last. mu is held.
func (m *memFS) step(op, path string) (last bool, err error) {
	m.counts[op]++
	if m.dead {
		return false, errDead
	}
	if m.fault != nil {
		if err := m.fault(op, path); err != nil {
			return false, &os.PathError{Op: op, Path: path, Err: err}
		}
	}
	if op == "read" || op == "list" || op == "open" {
		return false, nil
	}
	m.ops++
	if m.dieAt != 0 && m.ops >= m.dieAt {
		m.dead = true
		return true, errDead
	}
	return false, nil
}

func (m *memFS) inject(fault func(op, path string) error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.fault = fault
}

// restart is what the next process finds, after kill -9 or a power cut.
func (m *memFS) restart(power bool) *memFS {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.dead = true
	next := newMemFS(m.rng.Uint64())
	names := m.files
	if power {
		names = map[string]*memFile{}
		for _, name := range slices.Sorted(maps.Keys(m.names)) { // a removal that was not synced may be undone
			if f := m.names[name]; m.files[name] == f || m.rng.IntN(2) == 0 {
				names[name] = f
			}
		}
		for _, name := range slices.Sorted(maps.Keys(m.files)) { // a new name that was not synced may be lost
			if f := m.files[name]; m.names[name] == f || m.rng.IntN(2) == 0 {
				names[name] = f
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		f := names[name]
		data := slices.Clone(f.data)
		if power {
			data = m.tear(f)
		}
		kept := &memFile{data: data, synced: slices.Clone(data)}
		next.files[name], next.names[name] = kept, kept
	}
	return next
}

// tear returns what a power cut leaves of a file: of each sector the old or the
// new bytes, and a length between the two.
func (m *memFS) tear(f *memFile) []byte {
	least, most := min(len(f.data), len(f.synced)), max(len(f.data), len(f.synced))
	size := least
	if most > least {
		size += m.rng.IntN(most - least + 1)
	}
	data := make([]byte, size)
	for at := 0; at < size; at += sector {
		from := f.data
		if m.rng.IntN(2) == 0 {
			from = f.synced
		}
		if at < len(from) {
			copy(data[at:min(at+sector, size)], from[at:])
		}
	}
	return data
}

func (m *memFS) mkdir(string) error { return nil }

func (m *memFS) list(dir string) ([]string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, err := m.step("list", dir); err != nil {
		return nil, err
	}
	var all []string
	for name := range m.files {
		if rest, ok := strings.CutPrefix(name, dir+"/"); ok {
			all = append(all, rest)
		}
	}
	return all, nil
}

func (m *memFS) open(path string) (file, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, err := m.step("open", path); err != nil {
		return nil, err
	}
	f := m.files[path]
	if f == nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: fs.ErrNotExist}
	}
	return &memHandle{m, path, f}, nil
}

func (m *memFS) create(path string) (file, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, err := m.step("create", path); err != nil {
		return nil, err
	}
	f := m.files[path]
	if f == nil {
		f = &memFile{}
		m.files[path] = f
	}
	f.data = nil
	return &memHandle{m, path, f}, nil
}

func (m *memFS) remove(path string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, err := m.step("remove", path); err != nil {
		return err
	}
	delete(m.files, path)
	return nil
}

func (m *memFS) syncDir(dir string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, err := m.step("syncdir", dir); err != nil {
		return err
	}
	for name := range m.names {
		if filepath.Dir(name) == dir {
			delete(m.names, name)
		}
	}
	for name, f := range m.files {
		if filepath.Dir(name) == dir {
			m.names[name] = f
		}
	}
	return nil
}

type memHandle struct {
	fs   *memFS
	path string
	file *memFile
}

func (h *memHandle) ReadAt(p []byte, off int64) (int, error) {
	h.fs.mu.Lock()
	defer h.fs.mu.Unlock()
	if _, err := h.fs.step("read", h.path); err != nil {
		return 0, err
	}
	if off >= int64(len(h.file.data)) {
		return 0, io.EOF
	}
	n := copy(p, h.file.data[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (h *memHandle) WriteAt(p []byte, off int64) (int, error) {
	h.fs.mu.Lock()
	defer h.fs.mu.Unlock()
	last, err := h.fs.step("write", h.path)
	switch {
	case last:
		p = p[:h.fs.rng.IntN(len(p)+1)]
	case errors.Is(err, syscall.ENOSPC): // a full disk takes the beginning
		p = p[:h.fs.rng.IntN(len(p)+1)]
	case err != nil:
		return 0, err
	}
	if grow := int(off) + len(p) - len(h.file.data); grow > 0 {
		h.file.data = append(h.file.data, make([]byte, grow)...)
	}
	return copy(h.file.data[off:], p), err
}

// hold has every sync say that it has begun, and wait until it may go on.
func (m *memFS) hold(entered chan<- struct{}, until <-chan struct{}) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.entered, m.until = entered, until
}

func (h *memHandle) Sync() error {
	h.fs.mu.Lock()
	entered, until := h.fs.entered, h.fs.until
	h.fs.mu.Unlock()
	if entered != nil {
		entered <- struct{}{}
		<-until
	}
	h.fs.mu.Lock()
	defer h.fs.mu.Unlock()
	if _, err := h.fs.step("sync", h.path); err != nil {
		return err
	}
	h.file.synced = slices.Clone(h.file.data)
	return nil
}

func (h *memHandle) Truncate(size int64) error {
	h.fs.mu.Lock()
	defer h.fs.mu.Unlock()
	if _, err := h.fs.step("truncate", h.path); err != nil {
		return err
	}
	h.file.data = h.file.data[:min(int64(len(h.file.data)), size)]
	return nil
}

func (h *memHandle) Close() error { return nil }
