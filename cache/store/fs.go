package store

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// filesystem is the seam to the operating system: only what the disk tier
// uses, so that tests can make each of it fail.
type filesystem interface {
	mkdir(path string) error // with its parents; an existing one is fine
	list(dir string) ([]string, error)
	create(path string) (file, error) // what is there is left over, and emptied
	open(path string) (file, error)   // for reading and, where permitted, writing
	remove(path string) error
	rename(from, to string) error
	readFile(path string) ([]byte, error)
	// replaceFile makes path hold data, durably, or leaves it as it was.
	replaceFile(path string, data []byte) error
	// lock takes the advisory lock of path until the closer is closed; a
	// heldError names who has it.
	lock(path string) (io.Closer, error)
	syncDir(dir string) error // makes the names in it durable
}

// file is one open file. Offsets are always explicit: a file's own position is
// shared by all who use it and is never touched.
type file interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	Sync() error
	Truncate(size int64) error
	size() (int64, error)
	// allocate reserves room for the file's first size bytes without making it
	// longer. Where the file system cannot, it does nothing.
	allocate(size int64) error
	SyscallConn() (syscall.RawConn, error)
}

// heldError says that another process has the lock.
type heldError struct{ path, holder string }

func (e *heldError) Error() string {
	return fmt.Sprintf("%s is locked by %s", e.path, e.holder)
}

// osFS is the real file system.
type osFS struct{}

func (osFS) mkdir(path string) error { return os.MkdirAll(path, 0o750) }

func (osFS) list(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = e.Name()
	}
	return names, nil
}

func (osFS) create(path string) (file, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o640)
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

func (osFS) open(path string) (file, error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if errors.Is(err, syscall.EROFS) || errors.Is(err, fs.ErrPermission) {
		f, err = os.Open(path)
	}
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

func (osFS) remove(path string) error { return os.Remove(path) }

func (osFS) rename(from, to string) error { return os.Rename(from, to) }

func (osFS) readFile(path string) ([]byte, error) { return os.ReadFile(path) }

func (o osFS) replaceFile(path string, data []byte) error {
	temp := path + ".new"
	f, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = os.Rename(temp, path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(temp))
	}
	return o.syncDir(filepath.Dir(path))
}

func (osFS) lock(path string) (io.Closer, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o640)
	if errors.Is(err, syscall.EROFS) {
		f, err = os.Open(path)
	}
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		holder := "another process"
		if text := readText(f); text != "" {
			holder = text
		}
		if closeErr := f.Close(); closeErr != nil {
			return nil, closeErr
		}
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, &heldError{path, holder}
		}
		return nil, fmt.Errorf("flock %s: %w", path, err)
	}
	// The text only helps the one who is refused: on a full or read-only disk
	// the lock holds without it.
	text := fmt.Sprintf("process %d, since %s", os.Getpid(), time.Now().UTC().Format(time.RFC3339))
	if f.Truncate(0) == nil {
		_, _ = f.WriteAt([]byte(text), 0)
	}
	return f, nil
}

func readText(f *os.File) string {
	buf := make([]byte, 128)
	n, err := f.ReadAt(buf, 0)
	if err != nil && err != io.EOF {
		return ""
	}
	return strings.TrimSpace(string(buf[:n]))
}

func (osFS) syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

type osFile struct{ *os.File }

func (f osFile) size() (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

func (f osFile) allocate(size int64) error {
	conn, err := f.SyscallConn()
	if err != nil {
		return err
	}
	// Control, and not Fd: it keeps the descriptor open meanwhile.
	controlErr := conn.Control(func(fd uintptr) {
		for err = unix.EINTR; errors.Is(err, unix.EINTR); {
			err = unix.Fallocate(int(fd), unix.FALLOC_FL_KEEP_SIZE, 0, size)
		}
	})
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOSYS) {
		err = nil
	}
	return errors.Join(controlErr, err)
}
