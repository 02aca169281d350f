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
}

func (f format) encode() []byte {
	return fmt.Appendf(nil, "edge store\nversion %d\nseed %016x\ndirectory %016x\n", formatVersion, f.seed, f.id)
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

// agreeOnFormats reads the format of each directory, sees that all have one
// seed, and writes what is missing.
func agreeOnFormats(fsys filesystem, dirs []string) ([]format, error) {
	formats := make([]format, len(dirs))
	have := make([]bool, len(dirs))
	seed, seedDir := rand.Uint64(), ""
	for i, dir := range dirs {
		f, ok, err := readFormat(fsys, dir)
		if err != nil {
			return nil, err
		}
		if ok && seedDir != "" && f.seed != seed {
			return nil, fmt.Errorf("disk: %s and %s belong to different stores: empty one of them, or configure only one", seedDir, dir)
		}
		if ok {
			seed, seedDir = f.seed, dir
		}
		formats[i], have[i] = f, ok
	}
	for i, dir := range dirs {
		if have[i] {
			continue
		}
		formats[i] = format{seed: seed, id: rand.Uint64()}
		if err := fsys.replaceFile(filepath.Join(dir, formatName), formats[i].encode()); err != nil {
			return nil, fmt.Errorf("disk: write format: %w", err)
		}
	}
	return formats, nil
}
