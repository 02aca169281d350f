package store

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"path/filepath"
	"strings"
)

// A directory of the disk tier holds a lock file, a format file, and segments.
const (
	lockName      = "lock"
	formatName    = "format"
	formatVersion = 1
)

// format is what the format file says.
type format struct {
	seed uint64 // of the Hasher, shared by all directories of a store
	id   uint64 // of this directory; objects are spread by it
	claim
}

func (f format) encode() []byte {
	return f.claim.encode(fmt.Appendf(nil, "edge store\nversion %d\nseed %016x\ndirectory %016x\n", formatVersion, f.seed, f.id))
}

func decodeFormat(b []byte) (format, error) {
	var f format
	var version int
	head, rest, _ := strings.Cut(string(b), "\n")
	if head != "edge store" {
		return f, errors.New("is not the format file of an edge store")
	}
	if _, err := fmt.Sscanf(rest, "version %d\n", &version); err != nil {
		return f, errors.New("is damaged: it names no format version")
	}
	if version > formatVersion {
		return f, fmt.Errorf("names format version %d and this edge reads up to %d: "+
			"start the newer edge again, or give this one an empty directory", version, formatVersion)
	}
	_, rest, _ = strings.Cut(rest, "\n")
	if _, err := fmt.Sscanf(rest, "seed %x\ndirectory %x\n", &f.seed, &f.id); err != nil {
		return f, errors.New("is damaged: it names no seed")
	}
	f.claim = decodeClaim(rest)
	return f, nil
}

// lockDirectory makes sure that no other process uses the directory.
func lockDirectory(fsys filesystem, dir string) (io.Closer, error) {
	lock, err := fsys.lock(filepath.Join(dir, lockName))
	if held := (*heldError)(nil); errors.As(err, &held) {
		return nil, fmt.Errorf("disk: %s is in use by %s: stop it, or give each process a directory of its own", dir, held.holder)
	}
	if err != nil {
		return nil, fmt.Errorf("disk: lock %s: %w", dir, err)
	}
	return lock, nil
}

// readFormat returns what the format file of a directory says, and whether
// there is one. A directory with other things in it is refused: its files are
// not ours to count or delete.
func readFormat(fsys filesystem, dir string) (format, bool, error) {
	path := filepath.Join(dir, formatName)
	b, err := fsys.readFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		names, err := fsys.list(dir)
		if err != nil {
			return format{}, false, fmt.Errorf("disk: list %s: %w", dir, err)
		}
		for _, name := range names {
			if name != lockName && name != formatName+".new" && name != "lost+found" {
				return format{}, false, fmt.Errorf("disk: %s holds %q but no %s file: give an empty directory", dir, name, formatName)
			}
		}
		return format{}, false, nil
	}
	if err != nil {
		return format{}, false, fmt.Errorf("disk: read format: %w", err)
	}
	f, err := decodeFormat(b)
	if err != nil {
		return f, false, fmt.Errorf("disk: %s %w", path, err)
	}
	return f, true, nil
}

// openDirectory makes and locks the directory of a volume and reads its format;
// have is false where there is none yet.
func (v *volume) openDirectory() (have bool, err error) {
	fsys := v.tuning.fs
	if err := fsys.mkdir(v.dir); err != nil {
		return false, fmt.Errorf("disk: make directory: %w", err)
	}
	if v.lock, err = lockDirectory(fsys, v.dir); err != nil {
		return false, err
	}
	v.format, have, err = readFormat(fsys, v.dir)
	return have, err
}

// writeFormat makes a directory one of the store with that seed.
func (v *volume) writeFormat(seed uint64) error {
	v.format = format{seed: seed, id: rand.Uint64()}
	if err := v.tuning.fs.replaceFile(filepath.Join(v.dir, formatName), v.format.encode()); err != nil {
		return fmt.Errorf("disk: write format: %w", err)
	}
	return nil
}

// unlock gives the directory free.
func (v *volume) unlock() error {
	if v.lock == nil {
		return nil
	}
	err := v.lock.Close()
	v.lock = nil
	return err
}
