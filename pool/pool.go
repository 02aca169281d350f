// Package pool keeps the endpoints of a service and chooses one for each request.
// It knows nothing of HTTP but how to probe it, and nothing of ours: origin/ asks
// it where to go, others may later.
//
//	static list --+                     +--> probes (health.go) --> up or down
//	              +--> endpoints -------+
//	DNS ----------+   (discover.go)     +--> breaker (breaker.go) <--+
//	                       |                                         | outcomes
//	Pick: a slot of a bounded number (limit.go)                      |
//	   -> the best tier with somebody usable -> policy (choose.go) -> Lease
//
// An endpoint is usable while its probes say that it is up (or nobody probes) and
// its breaker is closed, or lets a trial through. Lower priorities are asked only
// when no higher one is usable. Where more than a configured share of the pool would
// be unusable the signs are not believed, and all are tried: the rest could not carry
// the load, or it is we who are cut off.
//
// A Lease counts as a request under way until Done, whatever happens to it. What
// became of it is told by Observe, as soon as it is known, since a response's body
// may take hours. State belongs to the address: it outlives reloads and new answers
// of DNS that name the address again, and ends with the address.
//
// One lock guards endpoints, breakers and policies: a choice is some hundred
// nanoseconds and happens on misses only. The limit has a lock of its own. They are
// never held together, nor across I/O or callbacks.
package pool

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"
)

// Pool is the endpoints of one service. Safe for concurrent use.
type Pool struct {
	log   *slog.Logger
	limit limit
	stats Stats

	mu        sync.Mutex
	cfg       Config // with defaults
	endpoints []*endpoint
	found     []Endpoint // by DNS, the last good answer
	asked     bool       // DNS has answered or failed once, or is not used
	resolved  resolution
	tables    map[int]*maglev // by tier; nil when the endpoints have changed
	scratch   []*endpoint

	ready   chan struct{} // closed once asked
	changed chan struct{} // endpoints or configuration: wakes Run
}

// resolution is how the last look-up in DNS went.
type resolution struct {
	at, next time.Time
	err      error
}

// New returns a pool. It asks and probes nobody: Run does. log may be nil.
func New(cfg Config, log *slog.Logger) (*Pool, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	p := &Pool{log: log, ready: make(chan struct{}), changed: make(chan struct{}, 1)}
	if err := p.Apply(cfg); err != nil {
		return nil, err
	}
	return p, nil
}

// Apply changes the configuration. Endpoints that stay keep their state and the
// leases on them; leases on others end as they began. After an error nothing has
// changed.
func (p *Pool) Apply(cfg Config) error {
	var problems []error
	cfg.Validate(func(path, problem string) { problems = append(problems, fmt.Errorf("%s: %s", path, problem)) })
	if len(problems) > 0 {
		return errors.Join(problems...)
	}
	cfg = cfg.WithDefaults()
	p.limit.apply(cfg.Concurrency, cfg.Queue)
	p.mu.Lock()
	first := p.cfg.Policy == ""
	p.cfg = cfg
	if cfg.Discover.Name == "" {
		p.found = nil
		p.answered()
	}
	gone := p.renew(!first)
	p.mu.Unlock()
	p.drop(gone)
	p.wake()
	return nil
}

// answered lets those go on who wait for the first answer of DNS. Called with mu held.
func (p *Pool) answered() {
	if !p.asked {
		p.asked = true
		close(p.ready)
	}
}

func (p *Pool) wake() {
	select {
	case p.changed <- struct{}{}:
	default:
	}
}

// drop tells the owner of addresses that nobody will be sent to any more.
func (p *Pool) drop(gone []string) {
	p.mu.Lock()
	tell := p.cfg.Gone
	p.mu.Unlock()
	if tell == nil {
		return
	}
	for _, address := range gone {
		tell(address)
	}
}

// renew makes the list of endpoints from those configured and those found, and
// returns the addresses that left it. Newcomers start slowly where slow says so.
// Called with mu held.
func (p *Pool) renew(slow bool) (gone []string) {
	old := make(map[string]*endpoint, len(p.endpoints))
	for _, e := range p.endpoints {
		old[e.address] = e
	}
	now := time.Now()
	slow = slow && len(old) > 0
	var next []*endpoint
	for i, spec := range slices.Concat(p.cfg.Endpoints, p.found) {
		spec = spec.withPort(p.cfg.Port)
		if slices.ContainsFunc(next, func(e *endpoint) bool { return e.address == spec.Address }) {
			continue
		}
		if len(next) == endpointsMax {
			p.stats.EndpointsDropped.Add(1)
			continue
		}
		e := old[spec.Address]
		if e == nil {
			e = &endpoint{address: spec.Address, up: true, since: now}
			if slow {
				e.recovered = now
			}
		}
		delete(old, spec.Address)
		e.spec, e.found = spec, i >= len(p.cfg.Endpoints)
		if p.cfg.Breaker.Off {
			e.breaker = breaker{trials: e.breaker.trials}
		}
		next = append(next, e)
	}
	for address := range old {
		gone = append(gone, address)
	}
	p.endpoints = next
	p.tables = nil
	return gone
}

// Run looks up names and probes endpoints until ctx ends, and returns when all
// that it started is gone. A pool that needs neither works without.
func (p *Pool) Run(ctx context.Context) error {
	var work sync.WaitGroup
	defer work.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	discovering := &task{run: p.discover}
	probing := map[*endpoint]*task{}
	for {
		p.mu.Lock()
		cfg, endpoints := p.cfg, slices.Clone(p.endpoints)
		p.mu.Unlock()
		discovering.restart(ctx, &work, cfg.Discover.key(), cfg.Discover.Name != "")
		for _, e := range endpoints {
			if probing[e] == nil {
				probing[e] = &task{run: func(ctx context.Context) { p.watch(ctx, e) }}
			}
			probing[e].restart(ctx, &work, cfg.Health.key(), cfg.Health.Type != HealthOff)
		}
		for e, t := range probing {
			if !slices.Contains(endpoints, e) {
				t.stop()
				delete(probing, e)
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-p.changed:
		}
	}
}

// task is a goroutine that is started anew when what it works by changes.
type task struct {
	key    string
	run    func(context.Context)
	cancel context.CancelFunc // nil while it does not run
}

func (t *task) restart(ctx context.Context, work *sync.WaitGroup, key string, wanted bool) {
	if t.cancel != nil && t.key == key && wanted {
		return
	}
	t.stop()
	t.key = key
	if !wanted {
		return
	}
	ctx, t.cancel = context.WithCancel(ctx)
	work.Go(func() { t.run(ctx) })
}

func (t *task) stop() {
	if t.cancel != nil {
		t.cancel()
		t.cancel = nil
	}
}

// Hint says what a request wants of a choice.
type Hint struct {
	// Hash of what shall always lead to the same endpoint; for policy maglev.
	Hash uint64
	// Avoid lists addresses that were tried already. Others are preferred, of
	// lower priority too; where there are none, they are not avoided.
	Avoid []string
	// Only refuses what Avoid lists, and does not wait for a slot: for a second
	// request beside one that is under way.
	Only bool
	// Steady asks for an endpoint that is not on trial, where there is one: for a
	// request that cannot be sent again.
	Steady bool
}

// UnavailableError says that no endpoint may be asked.
type UnavailableError struct {
	// RetryAfter is when one may be, at the earliest; 0 if nobody knows.
	RetryAfter time.Duration
	Endpoints  int // that there are
}

// Error says how many there are.
func (e *UnavailableError) Error() string {
	if e.Endpoints == 0 {
		return "no endpoint is known"
	}
	return fmt.Sprintf("none of %d endpoints is usable", e.Endpoints)
}

// ErrQueueFull says that all slots are taken and too many wait for one.
var ErrQueueFull = errors.New("all requests that may be under way are, and the queue is full")

// ErrQueueTimeout says that no slot came free in time.
var ErrQueueTimeout = errors.New("all requests that may be under way were, for as long as one may wait")

// Pick chooses an endpoint, and waits for a slot where as many requests are under
// way as may be. Errors are *UnavailableError, ErrQueueFull, ErrQueueTimeout or
// that of ctx.
func (p *Pool) Pick(ctx context.Context, hint Hint) (*Lease, error) {
	l := new(Lease)
	if err := p.PickTo(ctx, hint, l); err != nil {
		return nil, err
	}
	return l, nil
}

// PickTo is Pick into a lease of the caller's, of which an earlier use has ended.
func (p *Pool) PickTo(ctx context.Context, hint Hint, l *Lease) error {
	if err := p.wait(ctx); err != nil {
		return err
	}
	if !p.limit.takeNow() {
		// Who will find nobody need not queue for it.
		patience, err := p.check(hint)
		if err != nil {
			return err
		}
		if err := p.limit.take(ctx, patience, &p.stats); err != nil {
			return err
		}
	}
	now := time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	e, way := p.choose(now, hint)
	if e == nil {
		p.limit.give()
		p.stats.Unavailable.Add(1)
		return p.unavailable(now)
	}
	p.stats.Picks.Add(1)
	e.picks++
	e.inflight++
	*l = Lease{pool: p, e: e, tier: e.spec.Priority, trial: way == wayTrial, forced: way == wayForced}
	return nil
}

// wait waits for the first answer of DNS.
func (p *Pool) wait(ctx context.Context) error {
	select {
	case <-p.ready:
		return nil
	default:
	}
	timeout := time.NewTimer(readyTimeout)
	defer timeout.Stop()
	select {
	case <-p.ready:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-timeout.C:
		return nil
	}
}

// check says whether anybody is usable, and how long a slot may be waited for.
func (p *Pool) check(hint Hint) (patience time.Duration, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	if candidates, _ := p.candidates(now, hint); len(candidates) == 0 {
		p.stats.Unavailable.Add(1)
		return 0, p.unavailable(now)
	}
	if hint.Only {
		return 0, nil
	}
	return p.cfg.QueueTimeout, nil
}

// Has says whether an address is an endpoint now.
func (p *Pool) Has(address string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.ContainsFunc(p.endpoints, func(e *endpoint) bool { return e.address == address })
}

// Spare says whether an endpoint is usable that is not among those.
func (p *Pool) Spare(avoid []string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	list, _ := p.candidates(time.Now(), Hint{Avoid: avoid, Only: true})
	return len(list) > 0
}

// unavailable says when the first breaker lets a trial through, or the next probe
// may bring somebody up. Called with mu held.
func (p *Pool) unavailable(now time.Time) error {
	first := time.Duration(0)
	for _, e := range p.endpoints {
		wait := p.cfg.Health.Interval
		if e.up {
			wait = max(e.breaker.until.Sub(now), time.Second)
		}
		if first == 0 || wait < first {
			first = wait
		}
	}
	if len(p.endpoints) == 0 {
		first = max(p.resolved.next.Sub(now), time.Second)
	}
	return &UnavailableError{RetryAfter: first, Endpoints: len(p.endpoints)}
}
