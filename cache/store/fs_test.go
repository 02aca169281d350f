package store

import (
	"errors"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"syscall"
)

// faultFS is the real file system with faults: calls that fail, writes that
// are torn, and the death of the process or of the machine.
type faultFS struct {
	osFS
	mu     sync.Mutex
	rng    *rand.Rand
	dead   bool
	fault  func(op, path string) error // nil: none
	tear   bool                        // the next write is cut short and is the last
	locks  []io.Closer
	files  map[*faultFile]bool
	synced map[string]int64 // bytes of a file that are synced
}

var errDead = errors.New("the process is dead")

func newFaultFS(rng *rand.Rand) *faultFS {
	return &faultFS{rng: rng, files: map[*faultFile]bool{}, synced: map[string]int64{}}
}

func (f *faultFS) inject(fault func(op, path string) error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fault = fault
}

// failing returns a fault for the named operations on paths with a suffix.
func failing(err error, suffix string, ops ...string) func(op, path string) error {
	return func(op, path string) error {
		for _, o := range ops {
			if o == op && strings.Contains(path, suffix) {
				return &os.PathError{Op: op, Path: path, Err: err}
			}
		}
		return nil
	}
}

func (f *faultFS) check(op, path string) error {
	f.mu.Lock()
	dead, fault := f.dead, f.fault
	f.mu.Unlock()
	if dead {
		return errDead
	}
	if fault != nil {
		return fault(op, path)
	}
	return nil
}

// kill ends the process that uses the file system: what it has not written is
// gone, and its locks are free.
func (f *faultFS) kill() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.dead = true
	for _, l := range f.locks {
		_ = l.Close()
	}
	for file := range f.files {
		_ = file.file.Close()
	}
	f.locks, f.files = nil, nil
}

// tearWrite lets the next write be the last, and only partly done.
func (f *faultFS) tearWrite() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.tear = true
}

func (f *faultFS) isDead() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.dead
}

// losePower kills, and takes from the files some of what was not synced: a
// tail, or a hole.
func (f *faultFS) losePower() error {
	f.kill()
	f.mu.Lock()
	known := maps.Clone(f.synced)
	f.mu.Unlock()
	for path, synced := range known {
		info, err := os.Stat(path)
		if err != nil || info.Size() <= synced {
			continue
		}
		at := synced + f.rng.Int64N(info.Size()-synced)
		if f.rng.IntN(2) == 0 {
			if err := os.Truncate(path, at); err != nil {
				return err
			}
			continue
		}
		file, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		_, err = file.WriteAt(make([]byte, min(4096, info.Size()-at)), at)
		if err := errors.Join(err, file.Close()); err != nil {
			return err
		}
	}
	return nil
}

func (f *faultFS) mkdir(path string) error {
	if err := f.check("mkdir", path); err != nil {
		return err
	}
	return f.osFS.mkdir(path)
}

func (f *faultFS) list(dir string) ([]string, error) {
	if err := f.check("list", dir); err != nil {
		return nil, err
	}
	return f.osFS.list(dir)
}

func (f *faultFS) create(path string) (file, error) {
	return f.file("create", path, f.osFS.create)
}

func (f *faultFS) open(path string) (file, error) {
	return f.file("open", path, f.osFS.open)
}

func (f *faultFS) file(op, path string, open func(string) (file, error)) (file, error) {
	if err := f.check(op, path); err != nil {
		return nil, err
	}
	real, err := open(path)
	if err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	opened := &faultFile{file: real, fs: f, path: path}
	if f.dead {
		_ = real.Close()
		return nil, errDead
	}
	f.files[opened] = true
	if _, ok := f.synced[path]; !ok {
		f.synced[path], _ = real.size()
	}
	return opened, nil
}

func (f *faultFS) remove(path string) error {
	if err := f.check("remove", path); err != nil {
		return err
	}
	return f.osFS.remove(path)
}

func (f *faultFS) rename(from, to string) error {
	if err := f.check("rename", from); err != nil {
		return err
	}
	return f.osFS.rename(from, to)
}

func (f *faultFS) readFile(path string) ([]byte, error) {
	if err := f.check("read", path); err != nil {
		return nil, err
	}
	return f.osFS.readFile(path)
}

func (f *faultFS) replaceFile(path string, data []byte) error {
	if err := f.check("write", path); err != nil {
		return err
	}
	return f.osFS.replaceFile(path, data)
}

func (f *faultFS) lock(path string) (io.Closer, error) {
	if err := f.check("lock", path); err != nil {
		return nil, err
	}
	l, err := f.osFS.lock(path)
	if err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.dead { // killed meanwhile: a dead process holds no lock
		_ = l.Close()
		return nil, errDead
	}
	f.locks = append(f.locks, l)
	return l, nil
}

type faultFile struct {
	file
	fs   *faultFS
	path string
}

func (f *faultFile) ReadAt(p []byte, off int64) (int, error) {
	if err := f.fs.check("read", f.path); err != nil {
		return 0, err
	}
	return f.file.ReadAt(p, off)
}

func (f *faultFile) WriteAt(p []byte, off int64) (int, error) {
	if err := f.fs.check("write", f.path); err != nil {
		return 0, err
	}
	f.fs.mu.Lock()
	torn := f.fs.tear
	if torn {
		p = p[:f.fs.rng.IntN(len(p))]
		f.fs.dead = true
	}
	f.fs.mu.Unlock()
	n, err := f.file.WriteAt(p, off)
	if torn {
		return n, errDead
	}
	return n, err
}

func (f *faultFile) Truncate(size int64) error {
	if err := f.fs.check("write", f.path); err != nil {
		return err
	}
	return f.file.Truncate(size)
}

func (f *faultFile) allocate(size int64) error {
	if err := f.fs.check("write", f.path); err != nil {
		return err
	}
	return f.file.allocate(size)
}

func (f *faultFile) Sync() error {
	if err := f.fs.check("sync", f.path); err != nil {
		return err
	}
	size, err := f.size()
	if err != nil {
		return err
	}
	if err := f.file.Sync(); err != nil {
		return err
	}
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	f.fs.synced[f.path] = size
	return nil
}

func (f *faultFile) Close() error {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if !f.fs.files[f] {
		return nil // closed by kill
	}
	delete(f.fs.files, f)
	return f.file.Close()
}

// SyscallConn stays the real one: sendfile is the kernel's affair.
func (f *faultFile) SyscallConn() (syscall.RawConn, error) { return f.file.SyscallConn() }
