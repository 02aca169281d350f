package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"sync"
	"sync/atomic"

	"edgecdn/internal/unit"

	"golang.org/x/sync/errgroup"
)

// Disk is the disk tier: a Store over one or more directories, best one a
// device. Each is a volume with an index in memory and a log of segment files.
//
// The life of an object:
//
//	Create   chooses a volume; bytes gather in the Writer, slice by slice
//	put      a record is appended to the open segment, in memory, and the index
//	         names it: from here on Open finds it
//	flush    the volume's writer goroutine writes the segment out, a batch at a
//	         time; a failed write is tried again, and nothing new is taken
//	seal     a full segment ends in its table and is synced by the keeper
//	reclaim  the keeper takes the oldest segment, appends again what was hit
//	         twice, and dooms it; the last reader's release unlinks it
//
// A removal is an entry less in the index at once, and a record in the log
// within a flush interval. A start replays the tables in order; where one is
// missing it scans the segment, and cuts what a crash tore off the last one.
//
// Locks, taken in this order: diskWriter.mu, volume.mu (appends and the changes
// of the index that must agree with the log), volume.listMu (which segments
// exist), segment.mu, and last those of index shards, health and buckets. None
// is held during I/O but segment.mu while a closed file is opened or renamed.
type Disk struct {
	hasher  Hasher
	seed    uint64 // of hasher
	known   bool   // seed was read from a directory; else this process made it up
	volumes []*volume
	prepare func(*Meta) (any, int64, error)
	prints  func(*Meta) // see Tiered.SetPrints; may be nil
	heads   heads
	seen    atomic.Pointer[seenFilter]
	tuning  tuning
	claim   claim // of directories that come back

	buffered    atomic.Int64 // bytes that open Writers hold
	buffersFull atomic.Int64
	closed      atomic.Bool

	runMu   sync.Mutex
	stop    context.CancelFunc // of Run, while it runs
	stopped chan struct{}
}

var _ Store = (*Disk)(nil)

const (
	diskBytesDefault = 10 * unit.GiB
	// firstTimersBelow: until a volume is that full, Admits asks for no second
	// request.
	firstTimersBelow = 0.9
	// keyBytes: the filters have room for a key for so many bytes of budget.
	keyBytes = 64 << 10
)

// OpenDisk opens the directories, replays what they hold, and locks them until
// Close. prepare makes the Value of each Stored; it may be nil. It starts no
// goroutine: Run must run for anything to reach the disk. A directory whose
// device fails is no error: it takes nothing until Run finds that it works. One
// that another process uses, that a newer edge wrote or that is not a store's is.
func OpenDisk(configs []DiskConfig, prepare func(*Meta) (any, int64, error), log *slog.Logger) (*Disk, error) {
	return openDiskWith(configs, prepare, log, defaultTuning)
}

func openDiskWith(configs []DiskConfig, prepare func(*Meta) (any, int64, error), log *slog.Logger, t tuning) (*Disk, error) {
	if len(configs) == 0 {
		return nil, errors.New("disk: no directory configured")
	}
	d := &Disk{prepare: prepare, tuning: t}
	if err := d.openVolumes(configs, log); err != nil {
		for _, v := range d.volumes {
			err = errors.Join(err, v.unlock())
		}
		return nil, err
	}
	d.seen.Store(newSeenFilter(d.keys()))
	return d, nil
}

// keys returns for how many keys the filters are made.
func (d *Disk) keys() (n int64) {
	for _, v := range d.volumes {
		n += v.bytes.Load() / keyBytes
	}
	return max(n, 16<<10)
}

// Hasher makes the keys of this store.
func (d *Disk) Hasher() Hasher { return d.hasher }

// Run writes out what is appended, reclaims, and mends, until ctx ends or Close
// is called. It returns when all its goroutines are gone.
func (d *Disk) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	d.runMu.Lock()
	if d.closed.Load() {
		d.runMu.Unlock()
		return nil
	}
	stopped := make(chan struct{})
	d.stop, d.stopped = cancel, stopped
	d.runMu.Unlock()

	var g errgroup.Group
	for _, v := range d.volumes {
		g.Go(func() error { d.runVolume(ctx, v); return nil })
	}
	err := g.Wait()
	d.runMu.Lock()
	d.stop = nil
	d.runMu.Unlock()
	close(stopped)
	return err
}

// Close ends Run, writes out and syncs what is appended, and gives the
// directories free. Objects that are open stay readable until their own Close.
func (d *Disk) Close() error {
	if d.closed.Swap(true) {
		return nil
	}
	d.runMu.Lock()
	stop, stopped := d.stop, d.stopped
	d.runMu.Unlock()
	if stop != nil {
		stop()
		<-stopped
	}
	var errs []error
	for _, v := range d.volumes {
		errs = append(errs, v.close())
	}
	return errors.Join(errs...)
}

// Open returns the object under key, or an error that is ErrNotFound, also
// where the reason is a device that failed.
func (d *Disk) Open(key Key) (*Stored, error) {
	if d.closed.Load() {
		return nil, ErrClosed
	}
	if s, _, ok := d.lookup(key); ok {
		found := s // so that it is only here that something is allocated
		return &found, nil
	}
	var found *Stored
	var sequence uint64
	why := ErrNotFound
	for _, v := range d.volumes {
		s, n, err := d.openIn(v, key)
		switch {
		case err != nil:
			if err != ErrNotFound {
				why = err
			}
		case found != nil && n < sequence:
			s.Close()
		default:
			// Only a directory that was out of use leaves an older one behind.
			if found != nil {
				found.Close()
			}
			found, sequence = s, n
		}
	}
	if found == nil {
		return nil, why
	}
	return found, nil
}

func (d *Disk) openIn(v *volume, key Key) (*Stored, uint64, error) {
	seg, word, h, err := v.lookup(key, true)
	if err != nil {
		return nil, 0, err
	}
	body, err := v.body(seg, word, h)
	if err != nil {
		return nil, 0, err
	}
	value, bytes, err := d.prepareMeta(&h.meta)
	if err != nil {
		body.release()
		v.stats.unprepared.Add(1)
		v.removeAt(printOf(key.Hash), word)
		return nil, 0, fmt.Errorf("disk: prepare: %w: %w", ErrNotFound, err)
	}
	body.head, body.prepared = &diskHead{v: v, word: word, h: h, value: value}, bytes
	return &Stored{meta: &h.meta, value: value, seen: &body.head.seen, tier: tierDisk, src: body}, h.sequence, nil
}

func (d *Disk) prepareMeta(m *Meta) (any, int64, error) {
	if d.prints != nil {
		d.prints(m)
	}
	if d.prepare == nil {
		return nil, 0, nil
	}
	return d.prepare(m)
}

// Create starts an object in the directory that its key belongs to among those
// that take writes. It does not ask Admits.
func (d *Disk) Create(key Key, meta Meta) (Writer, error) {
	if d.closed.Load() {
		return nil, ErrClosed
	}
	if len(key.Text) > keyMax || len(meta.Header) > HeaderMax || len(meta.Groups) > groupsMax {
		return nil, ErrTooLarge
	}
	v, err := d.choose(key)
	if err != nil {
		return nil, err
	}
	if meta.Length > v.objectMax() {
		return nil, ErrTooLarge
	}
	if !v.bucket.allows() {
		v.stats.overRate.Add(1)
		return nil, ErrFull
	}
	return d.newWriter(v, key, meta.Length), nil
}

// choose picks a directory by rendezvous hashing, weighted by budget.
func (d *Disk) choose(key Key) (*volume, error) {
	var best *volume
	var score float64
	why := ErrBroken
	for _, v := range d.volumes {
		if err := v.health.writable(); err != nil {
			if errors.Is(err, ErrFull) {
				why = ErrFull
			}
			continue
		}
		x := slicePrint(key.Hash.Lo^v.format.id, 0)
		u := (float64(x>>11) + 0.5) / (1 << 53)
		if s := float64(v.bytes.Load()) / -math.Log(u); best == nil || s > score {
			best, score = v, s
		}
	}
	if best == nil {
		return nil, why
	}
	return best, nil
}

// Freshen replaces the Meta of the object under key.
func (d *Disk) Freshen(key Key, meta Meta) error {
	if d.closed.Load() {
		return ErrClosed
	}
	why := ErrNotFound
	for _, v := range d.volumes {
		err := v.freshen(key, meta)
		if err == nil {
			v.stats.freshened.Add(1)
			d.removeElsewhere(v, key)
			return nil
		}
		if err != ErrNotFound {
			why = err
		}
	}
	return why
}

// Remove forgets the object under key in all directories.
func (d *Disk) Remove(key Key) error {
	if d.closed.Load() {
		return ErrClosed
	}
	d.removeElsewhere(nil, key)
	return nil
}

// removeElsewhere forgets key in all volumes but one.
func (d *Disk) removeElsewhere(but *volume, key Key) {
	for _, v := range d.volumes {
		if v != but && v.index.get(printOf(key.Hash)) != 0 {
			v.remove(printOf(key.Hash))
		}
	}
}

// Admits reports whether an object is worth writing: asked for the second time
// within memory of the filters, or while there is plenty of room; and within
// the write budget. Ask once for each request that found nothing on disk.
func (d *Disk) Admits(key Key, meta Meta) bool {
	if d.closed.Load() {
		return false
	}
	seen := d.seen.Load().see(key.Hash)
	v, err := d.choose(key)
	if err != nil || meta.Length > v.objectMax() {
		return false
	}
	if !v.bucket.allows() {
		v.stats.overRate.Add(1)
		return false
	}
	if !seen && v.fullness() >= firstTimersBelow {
		v.stats.firstTimers.Add(1)
		return false
	}
	return true
}

// Gap returns where the first part of body[off:off+n] that the store has lost
// begins, and its length; a length of 0 means that all is there. Only large
// objects on disk lose parts; ReadAt of a lost part is an ErrNotFound, and the
// rest stays readable.
func (s *Stored) Gap(off, n int64) (int64, int64) {
	if b, ok := s.src.(*diskBody); ok {
		return b.gap(off, n)
	}
	return 0, 0
}
