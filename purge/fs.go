package purge

// fs.go is the seam to the operating system: only what the log uses, so that
// tests can make each of it fail and die between any two.

import (
	"errors"
	"io"
	"os"
)

type filesystem interface {
	mkdir(path string) error // with its parents; an existing one is fine
	list(dir string) ([]string, error)
	open(path string) (file, error)   // to read and write; fs.ErrNotExist where there is none
	create(path string) (file, error) // what is there is emptied
	remove(path string) error
	syncDir(dir string) error // makes the names in it durable
}

// file is one open file; offsets are always explicit.
type file interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	Sync() error
	Truncate(size int64) error
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

func (osFS) open(path string) (file, error) { return real(os.OpenFile(path, os.O_RDWR, 0)) }

func (osFS) create(path string) (file, error) {
	return real(os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o640))
}

// real keeps a nil *os.File from becoming a file that is not nil.
func real(f *os.File, err error) (file, error) {
	if err != nil {
		return nil, err
	}
	return f, nil
}

func (osFS) remove(path string) error { return os.Remove(path) }

func (osFS) syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
