package cache

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"edgecdn/cache/store"
	"edgecdn/route"
)

// Keeper is what the cache needs of the store: the seam, the look into memory
// that never blocks, and the hashes that keys are made with.
type Keeper interface {
	store.Store
	// Lookup answers from memory alone, without blocking or allocating.
	Lookup(store.Key) (store.Stored, bool)
	// LookupFile is Lookup that also finds what is on disk and needs no reading but
	// that of its body.
	LookupFile(store.Key) (store.Stored, bool)
	// Bring is Open for what memory should have at hand.
	Bring(store.Key) (*store.Stored, error)
	Hasher() store.Hasher
	// Has says whether there may be something under the key, without I/O.
	Has(store.Key) bool
	// SetJudge, once, before anything else: what is stored, copied from tier to tier
	// or freshened from then on is so only while judge returns the meta it is given.
	SetJudge(judge func(*store.Meta) *store.Meta)
	// SetPrints, likewise: fill fills in Meta.Prints of what memory takes and of what is
	// opened on disk.
	SetPrints(fill func(*store.Meta))
	// SetLeaving, likewise: leaving is called with what leaves memory and is not on
	// disk, or no longer.
	SetLeaving(leaving func(store.Stored))
	// Walk calls do for what is in memory; Sweep asks a judge of all there is.
	Walk(ctx context.Context, do func(s store.Stored)) error
	Sweep(ctx context.Context, s store.Sweep) error
	Stats() store.Stats
}

// Config says what a Cache works with. Store and Origin must be set.
type Config struct {
	// Name of this cache in Cache-Status, Via and CDN-Loop. Default "edge".
	Name string
	// Store keeps the responses; its Prepare must be this package's Prepare.
	Store Keeper
	// Origin answers what the cache cannot. It may be a Forwarder.
	Origin http.RoundTripper
	// Direct returns a context that tells Origin which configured origin to ask
	// and for which target, byte for byte.
	Direct func(ctx context.Context, origin, target string) context.Context
	// Unframed says whether the end of a response's body cannot be told from a
	// cut connection; such bodies are passed through and not stored. May be nil.
	Unframed func(*http.Response) bool
	// Match finds the route of another target of the same host, for Location and
	// Content-Location of unsafe requests (RFC 9111 4.4). May be nil.
	Match func(host, target string) (*route.Route, error)
	// Fills is the number of fetches for the store that may be under way at once;
	// more are passed through. Default 4096.
	Fills int
	Log   *slog.Logger
}

// Stats counts what the cache did since start. All fields may be read at any time.
type Stats struct {
	Fills          atomic.Int64                   // fetches for the store under way
	FillsRefused   atomic.Uint64                  // passed through because Fills was reached
	Stored         atomic.Uint64                  // responses stored
	Freshened      atomic.Uint64                  // stored responses freshened by a 304
	Collapsed      atomic.Uint64                  // requests that waited for another's fetch
	StoreErrors    atomic.Uint64                  // fills that the store would not take or lost
	FetchErrors    atomic.Uint64                  // fetches without a response header
	Fallbacks      atomic.Uint64                  // answered by the route's other origin
	FallbackErrors atomic.Uint64                  // times that it failed, too
	Pages          atomic.Uint64                  // error pages sent
	Truncated      atomic.Uint64                  // responses whose body broke off
	Loops          atomic.Uint64                  // requests refused because they came through here before
	Background     atomic.Uint64                  // revalidations behind a stale answer
	StaleOnError   atomic.Uint64                  // stale responses sent for want of a better one
	Uncacheable    atomic.Uint64                  // fetched responses that may not be stored
	HitForMiss     atomic.Uint64                  // requests not collapsed because of a recent such response
	ClientsDropped atomic.Uint64                  // clients that went away before their response ended
	GroupsRefused  atomic.Uint64                  // responses not stored for having too many groups
	Sliced         atomic.Uint64                  // responses that began to be kept in slices
	SlicesVoid     atomic.Uint64                  // such responses given up because a part was of another representation
	VariantsReset  atomic.Uint64                  // targets whose variants were forgotten for being too many
	Invalidated    atomic.Uint64                  // targets and groups forgotten after an unsafe request (RFC 9111 4.4, RFC 9875 3)
	Purges         [len(PurgeKinds)]atomic.Uint64 // by PurgeKind - 1
	PurgeEntries   atomic.Int64                   // names in the table of purges that are not swept
	CommonNames    atomic.Int64                   // names that are looked up only when one of them was purged
	// InvalidGroupsCut: answers that name more groups to invalidate than one may.
	InvalidGroupsCut atomic.Uint64
	InvalidShared    atomic.Uint64 // invalidations that met another in their place, and hit more than they name
	PurgesFull       atomic.Uint64 // purges that had to wait or failed because the table was at its bound
	Sweeps           atomic.Uint64 // passes over all that is stored, because of purges
	SweepsFailed     atomic.Uint64 // such passes that did not get to the end; they are made again
	Swept            atomic.Uint64 // objects that they removed
	PurgedFound      atomic.Uint64 // requests that found a stored response that is purged
	Fenced           atomic.Int64  // 1 while what was stored before the fence is not used
	FencedFound      atomic.Uint64 // requests that found a stored response behind the fence

	Encoded          atomic.Uint64 // bodies encoded and stored beside the plain ones
	EncodedSaved     atomic.Uint64 // bytes that these are smaller by
	EncodingsVain    atomic.Uint64 // bodies that hardly got smaller; they stay plain
	EncodingsDropped atomic.Uint64 // bodies not encoded because too many were waiting
	EncodingsFailed  atomic.Uint64 // bodies whose encoding the store would not take or lost
	Decodings        atomic.Int64  // bodies being decoded for clients that do not take their coding
	DecodingsRefused atomic.Uint64 // requests passed through because too many bodies were being decoded
	DecodingsFailed  atomic.Uint64 // such bodies that were damaged or expanded beyond the bounds
}

// Cache is a shared HTTP cache. Lookup and ServeHTTP may be called at any time
// from any goroutine; fills that outlive their request end with Close.
type Cache struct {
	name      string
	loopID    string
	loopToken string // part of loopID that no reformatting changes
	store     Keeper
	origin    http.RoundTripper
	forwarder Forwarder // the same, nil where it is none
	via       string    // of responses over HTTP/1.1
	direct    func(ctx context.Context, origin, target string) context.Context
	unframed  func(*http.Response) bool
	match     matchFunc
	rules     atomic.Pointer[[]matchFunc] // for keys, that purges know beside it
	log       *slog.Logger
	fillsMax  int64
	stats     Stats

	mu      sync.Mutex
	fills   map[string]*fill // by key text; those that others may join
	passed  passMarks
	flights flights

	// targets orders the changes of what is stored for a target, by hash of the
	// primary key. After Cache.mu, never in it.
	targets [64]sync.Mutex
	// Coded bodies to be made, and whether somebody is at it.
	encodings  []encoding
	isEncoding bool
	encoders   sync.Pool

	asked askMarks

	purges generations
	names  names
	// counting is held by who counts what purges match in memory; it guards countNext.
	counting  chan struct{}
	countNext time.Time

	background context.Context // of fills; ends with Close
	stop       context.CancelFunc
	work       sync.WaitGroup // fills under way
}

// New returns a Cache. It starts nothing.
func New(cfg Config) *Cache {
	if cfg.Name == "" {
		cfg.Name = "edge"
	}
	if cfg.Fills == 0 {
		cfg.Fills = 4096
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Unframed == nil {
		cfg.Unframed = func(*http.Response) bool { return false }
	}
	if cfg.Direct == nil {
		cfg.Direct = func(ctx context.Context, _, _ string) context.Context { return ctx }
	}
	random := make([]byte, 8)
	_, _ = rand.Read(random) // never fails
	id := hex.EncodeToString(random)
	c := &Cache{
		name: cfg.Name, via: "1.1 " + cfg.Name, loopID: cfg.Name + ";id=" + id, loopToken: id,
		store: cfg.Store, origin: cfg.Origin, direct: cfg.Direct, unframed: cfg.Unframed,
		match: cfg.Match,
		log:   cfg.Log, fillsMax: int64(cfg.Fills), fills: map[string]*fill{},
	}
	c.forwarder, _ = cfg.Origin.(Forwarder)
	c.purges.init(&c.stats)
	c.names = newNames(cfg.Store.Hasher())
	c.store.SetJudge(c.judge)
	c.store.SetPrints(c.purges.setPrints)
	c.store.SetLeaving(c.purges.find)
	c.counting = make(chan struct{}, 1)
	c.encoders.New = func() any { return new(encoders) }
	c.background, c.stop = context.WithCancel(context.Background())
	return c
}

// target returns the lock of a target.
func (c *Cache) target(primary string) *sync.Mutex {
	return &c.targets[c.store.Hasher().Key(primary).Hash.Lo%uint64(len(c.targets))]
}

// Stats returns the counters.
func (c *Cache) Stats() *Stats { return &c.stats }

// Close breaks off the fills under way and waits for them.
func (c *Cache) Close() {
	c.mu.Lock() // who starts work under it does so before this, or not at all
	c.stop()
	c.mu.Unlock()
	c.work.Wait()
}
