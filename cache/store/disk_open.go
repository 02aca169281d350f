package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"sync"
)

// Which directories are in use. At the start each is opened, locked and
// replayed. One whose device fails is away: its index is empty and it takes
// nothing, and Run tries it again, less and less often. What it held is dropped
// when it comes back, for it has missed what was removed and replaced meanwhile.
// Its claim (claim.go) would not do to keep it: purges may have been swept and
// forgotten since the start without a look at it, removals by name are in no log, an
// older object could come back when the newer one is evicted elsewhere, and where it is
// the only directory the hashes in use are of another seed than its own. A restart,
// which replays the log over all that is there, may use it.

// openVolumes opens the directories; the hashes' seed is that of those which
// have one.
func (d *Disk) openVolumes(configs []DiskConfig, log *slog.Logger) error {
	var have, lack []*volume
	for _, c := range configs {
		if c.Bytes == 0 {
			c.Bytes = diskBytesDefault
		}
		if c.Path == "" || c.Bytes < diskBytesMin && d.tuning.segmentBytes == 0 {
			return fmt.Errorf("disk: directory %q of %s: give a path and at least %s", c.Path, c.Bytes, diskBytesMin)
		}
		v := newVolume(c, d.tuning, log)
		v.files.max = max(d.tuning.filesMax/int64(len(configs)), 4)
		d.volumes = append(d.volumes, v)
		ok, err := v.openDirectory()
		if err := v.keepOut(err); err != nil {
			return err
		}
		switch {
		case ok:
			have = append(have, v)
		case err == nil:
			lack = append(lack, v)
		}
	}
	d.seed, d.known = rand.Uint64(), len(have) > 0
	for i, v := range have {
		if i > 0 && v.format.seed != d.seed {
			return fmt.Errorf("disk: %s and %s belong to different stores: empty one of them, or configure only one", have[0].dir, v.dir)
		}
		d.seed = v.format.seed
	}
	d.hasher = NewHasher(d.seed)
	for _, v := range lack {
		if err := v.keepOut(v.writeFormat(d.seed)); err != nil {
			return err
		}
	}
	return d.recover()
}

// keepOut makes a directory that cannot be opened one that is away, if its
// device is to blame; other errors it returns.
func (v *volume) keepOut(err error) error {
	if err == nil || !isDeviceError(err) {
		return err
	}
	v.away = true
	v.noteAway(err)
	return nil
}

// noteAway counts a try to open the directory that failed, and logs news.
func (v *volume) noteAway(err error) {
	v.stats.openErrors.Add(1)
	err = errors.Join(err, v.unlock())
	if v.health.keepOut(err) {
		v.log.Error("disk: directory is out of use until it can be opened; it is tried again and again, and begins empty then", "err", err)
	}
}

// recover replays all directories that are open at once.
func (d *Disk) recover() error {
	errs := make([]error, len(d.volumes))
	var wg sync.WaitGroup
	for i, v := range d.volumes {
		if !v.away {
			wg.Go(func() { errs[i] = v.recover() })
		}
	}
	wg.Wait()
	for i, v := range d.volumes {
		if err := v.keepOut(errs[i]); err != nil {
			return err
		}
	}
	return nil
}

// runVolume does the work of one directory, once it is open, until ctx ends.
func (d *Disk) runVolume(ctx context.Context, v *volume) {
	for tries := 0; v.away; tries++ {
		if !waitFor(ctx, v.tuning.retryEvery<<min(tries, retryDoublings)) {
			return
		}
		if err := d.takeIn(v); err != nil {
			v.noteAway(err)
			continue
		}
		v.away = false
		v.health.wroteWell()
	}
	var wg sync.WaitGroup
	wg.Go(func() { v.writeLoop(ctx) })
	wg.Go(func() { v.keepLoop(ctx) })
	wg.Go(func() { v.syncLoop(ctx) })
	wg.Wait()
}

// takeIn opens a directory that was away and empties it.
func (d *Disk) takeIn(v *volume) error {
	have, err := v.openDirectory()
	if err != nil {
		return err
	}
	if have && d.known && v.format.seed != d.seed {
		return fmt.Errorf("disk: %s belongs to another store: empty it, or configure only one of them", v.dir)
	}
	if err := v.clear(); err != nil {
		return err
	}
	if !have || v.format.seed != d.seed {
		v.format = format{seed: d.seed, id: rand.Uint64()}
	}
	return v.mark(d.claim)
}

// openAgain makes sure that a directory that failed is still the one that was
// opened, and has its lock: its file system may have been mounted again, or
// taken away, and then the path is a place on another one that is not ours to
// fill.
func (v *volume) openAgain() error {
	f, ok, err := readFormat(v.tuning.fs, v.dir)
	if err != nil {
		return err
	}
	if !ok || f != v.format {
		return fmt.Errorf("disk: %s is not the directory that was opened at the start: mount that one again, or restart the node", v.dir)
	}
	if err := v.unlock(); err != nil {
		return fmt.Errorf("disk: unlock %s: %w", v.dir, err)
	}
	v.lock, err = lockDirectory(v.tuning.fs, v.dir)
	return err
}

// clear unlinks all segments, unless one is of a newer edge.
func (v *volume) clear() error {
	fsys := v.tuning.fs
	names, err := fsys.list(v.dir)
	if err != nil {
		return fmt.Errorf("disk: list %s: %w", v.dir, err)
	}
	var paths []string
	for _, name := range names {
		path := filepath.Join(v.dir, name)
		id, ok := parseSegmentName(name)
		if !ok && !strings.HasSuffix(name, doomedSuffix) {
			continue
		}
		if ok && errors.Is(loadHeader(fsys, path, id), errVersion) {
			return newerSegment(path)
		}
		paths = append(paths, path)
		v.lastID = max(v.lastID, id)
	}
	for _, path := range paths {
		if err := fsys.remove(path); err != nil {
			return fmt.Errorf("disk: unlink segment: %w", err)
		}
	}
	return nil
}

// loadHeader says what is wrong with the header of segment id.
func loadHeader(fsys filesystem, path string, id uint64) error {
	f, err := fsys.open(path)
	if err != nil {
		return err
	}
	header := make([]byte, unitBytes)
	_, err = f.ReadAt(header, 0)
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return err
	}
	return checkSegmentHeader(header, id)
}
