package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"
)

// Tiered is memory over disk. A body of at most BodyMax is filled into memory
// and goes to the disk tier from there once it has proven itself; a larger one
// is filled to disk. What is found on disk again comes back to memory.
//
// Where an object is in both tiers, both have the same: Commit, Freshen and
// Remove change both under the key's stripe, and whoever copies from one tier to
// the other publishes under it only if the stripe has not changed since the copy
// began. A stripe is held while the disk tier indexes or logs; Lookup and Open
// take none.
type Tiered struct {
	memory *Memory
	disk   *Disk // nil: none
	hasher Hasher
	log    *slog.Logger

	stripes [stripes]stripe
	offers  chan *object // to the disk tier, when someone has time
	judge   func(*Meta) *Meta
	stats   tieredCounters
}

// Bounds.
const (
	stripes   = 1024
	offersMax = 1024
	// offerTries: how often a copy is begun anew because its stripe changed.
	offerTries = 3
	// judgeEvery: of so many hits on disk without reading one is asked whether
	// memory would rather have the object. To judge costs as much as a lookup.
	judgeEvery = 8
)

// A stripe orders the changes to the keys that share it.
type stripe struct {
	mu        sync.Mutex
	version   uint64 // of what the tiers hold; moves with every change
	promoting bool   // a copy from disk to memory is under way
}

// Open opens the tiers that cfg names. log may be nil.
func Open(cfg Config, log *slog.Logger) (*Tiered, error) {
	cfg = cfg.WithDefaults()
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	t := &Tiered{
		hasher: NewHasher(rand.Uint64()),
		log:    log,
		offers: make(chan *object, offersMax),
	}
	if len(cfg.Disk) > 0 {
		prepare := cfg.PrepareOnDisk
		if prepare == nil {
			prepare = cfg.Prepare
		}
		disk, err := OpenDisk(cfg.Disk, prepare, log)
		if err != nil {
			return nil, err
		}
		t.disk, t.hasher = disk, disk.Hasher()
	}
	t.memory = NewMemory(cfg.Memory, cfg.Prepare, log)
	if t.disk != nil {
		t.memory.again = t.offer
		t.disk.heads.reserve, t.disk.heads.free, t.disk.heads.budget = t.memory.reserve, t.memory.free, t.memory.budget.Load
	}
	return t, nil
}

// Hasher makes the hashes of this store.
func (t *Tiered) Hasher() Hasher { return t.hasher }

// Lookup returns the object under key if it is in memory; see Memory.Lookup.
func (t *Tiered) Lookup(key Key) (Stored, bool) { return t.memory.Lookup(key) }

// LookupFile is Lookup for callers that can send a body out of a file (SendNow,
// SendTo): it also finds objects on disk of which memory has the head. It reads
// nothing from the disk. Where it finds nothing for an object that should come to
// memory, Open brings it.
func (t *Tiered) LookupFile(key Key) (Stored, bool) {
	if s, ok := t.memory.Lookup(key); ok || t.disk == nil {
		return s, ok
	}
	s, head, ok := t.disk.lookup(key)
	if !ok {
		return Stored{}, false
	}
	if head.hits.Add(1)%judgeEvery == 0 && t.wants(key.Hash, head.h) {
		s.Close()
		return Stored{}, false
	}
	at := t.memory.index.shard(key.Hash)
	at.fills.Add(1) // no hit of memory's
	t.memory.tick(at)
	t.memory.sample(at, key.Hash.Lo)
	return s, true
}

// wants says whether memory would be the better for an object from disk.
func (t *Tiered) wants(hash Hash, h *objectHead) bool {
	return t.memory.wants(hash, h.meta.Length+objectCharge(h.key, &h.meta))
}

func (t *Tiered) stripe(h Hash) *stripe { return &t.stripes[h.Lo%stripes] }

// read returns the version of the stripe as of now.
func (s *stripe) read() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.version
}

// Open implements Store. What memory would be the better for comes there.
func (t *Tiered) Open(key Key) (*Stored, error) { return t.open(key, false) }

// Bring is Open for what memory should have though nobody asks for it by name: what
// goes with another object that it has.
func (t *Tiered) Bring(key Key) (*Stored, error) { return t.open(key, true) }

func (t *Tiered) open(key Key, bring bool) (*Stored, error) {
	if s, ok := t.memory.Lookup(key); ok {
		found := s // so that it is only here that something is allocated
		return &found, nil
	}
	if t.disk == nil {
		return nil, ErrNotFound
	}
	version := t.stripe(key.Hash).read()
	s, err := t.disk.Open(key)
	if err != nil {
		return nil, err
	}
	again := t.memory.policy.request(key.Hash.Lo, t.memory.clock.Load()) > 1
	if !again && !bring || s.meta.Length > BodyMax {
		return s, nil
	}
	if !bring && !t.memory.wants(key.Hash, s.meta.Length+objectCharge(key.Text, s.meta)) {
		t.disk.remember(s)
		return s, nil
	}
	if promoted := t.promote(key, s, version); promoted != nil {
		s.Close()
		return promoted, nil
	}
	return s, nil
}

// promote copies an object from disk to memory and returns it, or nil where
// there is no room, another copies it, or it has changed meanwhile.
func (t *Tiered) promote(key Key, from *Stored, version uint64) *Stored {
	stripe := t.stripe(key.Hash)
	if !stripe.begin(version) {
		return nil
	}
	defer stripe.end()
	w, err := t.memory.create(key, *from.meta)
	if err != nil {
		return nil
	}
	defer w.Abort()
	if err := w.readFrom(from, from.meta.Length); err != nil {
		return nil // whoever asked reads from disk, and learns of it there
	}
	s, err := w.commit(*from.meta, func(o *object) bool {
		o.onDisk.Store(true)
		stripe.mu.Lock()
		defer stripe.mu.Unlock()
		if stripe.version != version || t.refuses(from.meta) {
			return false
		}
		t.memory.publish(o)
		return true
	})
	if err != nil {
		return nil
	}
	t.disk.dropHead(key) // it is in memory whole now
	t.stats.promotions.Add(1)
	t.stats.promotedBytes.Add(from.meta.Length)
	s.tier = tierDisk // this time it came from there
	return s
}

func (s *stripe) begin(version uint64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.promoting || s.version != version {
		return false
	}
	s.promoting = true
	return true
}

func (s *stripe) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.promoting = false
}

// offer tells the disk tier that o is asked for. It never waits.
func (t *Tiered) offer(o *object) {
	t.stats.offersPending.Add(1)
	select {
	case t.offers <- o:
	default:
		t.stats.offersPending.Add(-1)
		t.stats.offersDropped.Add(1)
	}
}

// take writes an object from memory to disk if the disk tier wants it. Where it
// has it already, the request that memory answered counts as a hit there, so
// that what is wanted is not reclaimed for being served from memory.
func (t *Tiered) take(o *object) error {
	if o.onDisk.Load() {
		if t.disk.touch(o.hash) {
			return nil
		}
		o.onDisk.Store(false) // reclaimed
	}
	if !t.disk.Admits(o.key(), o.record.Load().meta) {
		return nil
	}
	for range offerTries {
		version := t.stripe(o.hash).read()
		if t.memory.index.find(o.key()) != o || !o.acquire() {
			return nil // gone or replaced; the new one has to prove itself
		}
		done, err := t.copyOut(o, version)
		o.release()
		if done || err != nil {
			return err
		}
	}
	return nil
}

// touch counts a hit for an object and says whether there is one.
func (d *Disk) touch(h Hash) (found bool) {
	for _, v := range d.volumes {
		found = v.index.touch(printOf(h)) != 0 || found
	}
	return found
}

// copyOut writes o to disk, unless its stripe has changed since version.
func (t *Tiered) copyOut(o *object, version uint64) (done bool, err error) {
	meta := o.record.Load().meta
	w, err := t.disk.Create(o.key(), meta)
	if err != nil {
		return false, err
	}
	defer w.Abort()
	if _, err := w.Write(o.data); err != nil {
		return false, err
	}
	stripe := t.stripe(o.hash)
	stripe.mu.Lock()
	defer stripe.mu.Unlock()
	if stripe.version != version {
		return false, nil
	}
	if t.refuses(&meta) {
		return true, nil
	}
	s, err := w.Commit(meta)
	if err != nil {
		return false, err
	}
	s.Close()
	o.onDisk.Store(true)
	t.stats.offersTaken.Add(1)
	return true, nil
}

// Freshen implements Store.
func (t *Tiered) Freshen(key Key, meta Meta) error {
	stripe := t.stripe(key.Hash)
	stripe.mu.Lock()
	defer stripe.mu.Unlock()
	if t.refuses(&meta) {
		return ErrNotFound
	}
	stripe.version++
	return t.freshen(key, meta)
}

// freshen replaces the header in both tiers; the caller has the stripe.
func (t *Tiered) freshen(key Key, meta Meta) error {
	inMemory := t.memory.Freshen(key, meta)
	if t.disk == nil {
		return inMemory
	}
	onDisk := t.disk.Freshen(key, meta)
	// Never leave one tier with an older header than the other's.
	if inMemory != nil && onDisk == nil {
		return t.memory.Remove(key)
	}
	if inMemory == nil && onDisk != nil && !errors.Is(onDisk, ErrNotFound) {
		return t.disk.Remove(key)
	}
	return inMemory
}

// Remove implements Store.
func (t *Tiered) Remove(key Key) error {
	stripe := t.stripe(key.Hash)
	stripe.mu.Lock()
	defer stripe.mu.Unlock()
	stripe.version++
	return t.remove(key)
}

// remove takes the object out of both tiers; the caller has the stripe.
func (t *Tiered) remove(key Key) error {
	err := t.memory.Remove(key)
	if t.disk != nil {
		err = t.disk.Remove(key)
	}
	return err
}

// Check says whether Apply would take the configuration; it changes nothing.
func (t *Tiered) Check(cfg Config) error {
	cfg = cfg.WithDefaults()
	if cfg.Memory.Bytes < memoryBytesMin {
		return fmt.Errorf("store.memory.bytes: %v is too little: give at least %v", cfg.Memory.Bytes, memoryBytesMin)
	}
	if t.disk == nil && len(cfg.Disk) > 0 {
		return errors.New("store.disk: the first directory takes a restart: take it out, or restart the node")
	}
	if t.disk != nil {
		if err := t.disk.Check(cfg.Disk); err != nil {
			return fmt.Errorf("store.%w", err)
		}
	}
	return nil
}

// Apply changes the budgets and write rates of the tiers, or nothing where it
// returns an error.
func (t *Tiered) Apply(cfg Config) error {
	if err := t.Check(cfg); err != nil {
		return err
	}
	cfg = cfg.WithDefaults()
	if t.disk != nil {
		if err := t.disk.Apply(cfg.Disk); err != nil {
			return err
		}
	}
	err := t.memory.Apply(cfg.Memory)
	if t.disk != nil {
		t.disk.heads.trimAll()
	}
	return err
}

// Run does the tiers' background work and returns when ctx has ended and all
// of it is gone.
func (t *Tiered) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return t.memory.Run(ctx) })
	if t.disk != nil {
		group.Go(func() error { return t.disk.Run(ctx) })
		group.Go(func() error { return t.copyOffers(ctx) })
	}
	return group.Wait()
}

func (t *Tiered) copyOffers(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case o := <-t.offers:
			if err := t.take(o); err != nil {
				t.stats.offersFailed.Add(1)
				t.log.Debug("store: copy to disk", "error", err)
			}
			t.stats.offersPending.Add(-1)
		}
	}
}

// Close forgets what is in memory and closes the disk tier. References that are
// still open stay readable.
func (t *Tiered) Close() error {
	err := t.memory.Close()
	if t.disk != nil {
		err = errors.Join(err, t.disk.Close())
	}
	return err
}

// Stats is what the store has counted since its start, and holds now.
type Stats struct {
	Memory MemoryStats
	Disk   DiskStats // empty without a disk tier
	// Copies from memory to disk: made; not made as the queue was full; failed;
	// queued or under way now.
	OffersTaken, OffersDropped, OffersFailed, OffersPending int64
	// Copies from disk to memory, and their bytes.
	Promotions, PromotedBytes int64
	// Memory of heads of objects on disk, and hits on disk that read only the body.
	HeadBytes, HeadHits int64
	// Fills that outgrew memory and went on to disk.
	Spills int64
	// Large objects that the disk tier did not admit.
	Refused int64
	// Older objects that the disk tier failed to drop when memory got a newer one.
	OutdatedKept int64
}

type tieredCounters struct {
	offersTaken, offersDropped, offersFailed, offersPending, promotions, promotedBytes, spills, refused, outdatedKept atomic.Int64
}

// Stats returns the counts.
func (t *Tiered) Stats() Stats {
	c := &t.stats
	var disk DiskStats
	if t.disk != nil {
		disk = t.disk.Stats()
	}
	st := Stats{
		Memory: t.memory.Stats(), Disk: disk,
		OffersTaken: c.offersTaken.Load(), OffersDropped: c.offersDropped.Load(), OffersFailed: c.offersFailed.Load(), OffersPending: c.offersPending.Load(),
		Promotions: c.promotions.Load(), PromotedBytes: c.promotedBytes.Load(), Spills: c.spills.Load(), Refused: c.refused.Load(), OutdatedKept: c.outdatedKept.Load(),
	}
	if t.disk != nil {
		st.HeadBytes, st.HeadHits = t.disk.heads.bytes.Load(), t.disk.heads.used.Load()
	}
	return st
}
