// Package dnsgeo is an authoritative DNS responder that answers for a CDN's
// zones with the nearest healthy nodes. It knows nothing of the rest of the
// program: main hands it nodes, and zones come from its configuration.
//
// The walk of a query:
//
//	respond.go  bytes in, bytes out: header, EDNS, limits of size
//	answer.go   which name of which zone, what kind of answer (RFC 1034 4.3.2)
//	subnet.go   EDNS client subnet, validated raw (RFC 7871)
//	place.go    address to place
//	pick.go     place and nodes to addresses, with reasons: a pure function
//
// All of it reads one snapshot: zones, places and nodes as they were compiled,
// never changed afterwards and swapped whole. A query takes the snapshot once
// and stays with it, so that no answer mixes two of them.
package dnsgeo

import (
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// Responder answers queries. New makes it, Listen opens its sockets, Run serves.
type Responder struct {
	log   *slog.Logger
	stats Stats
	snap  atomic.Pointer[snapshot]

	// mu is held while a snapshot is made of the one before.
	mu  sync.Mutex
	cfg Config
	// prober knows how the configured nodes are, shedders what nodes pass on.
	prober   *prober
	shedders map[string]*shedder
	cold     map[string]time.Time // since when nodes are

	sockets    sockets
	conns      conns
	logTurn    atomic.Uint64
	logLines   chan logged
	signatures *signatures // kept over reloads
	texts      []Text      // by name and value; never changed, but replaced
}

// snapshot is all that an answer depends on. The zones change with the
// configuration only, the fleet with the nodes: either pointer may stand as a
// version of what was derived from it.
type snapshot struct {
	zones *zones
	fleet *fleet
	texts map[string]*owner // laid over the zones
}

// New compiles the configuration, which must have been validated. It opens files
// of zones and places, and no sockets.
func New(cfg Config, log *slog.Logger) (*Responder, error) {
	cfg = cfg.WithDefaults()
	z, err := compile(&cfg)
	if err != nil {
		return nil, fmt.Errorf("dns: %w", err)
	}
	r := &Responder{log: log, cfg: cfg, signatures: newSignatures(), prober: newProber(&cfg), logLines: make(chan logged, logRoom)}
	r.signatures.made = &r.stats.Signatures
	r.adopt(z, nil, false)
	r.snap.Store(&snapshot{zones: z, fleet: r.fleet(z, r.liveNodes(time.Now()), nil)})
	return r, nil
}

// Apply replaces zones, places and limits. Where it fails nothing has changed.
func (r *Responder) Apply(cfg Config) error {
	cfg = cfg.WithDefaults()
	z, err := compile(&cfg)
	if err != nil {
		return fmt.Errorf("dns: %w", err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	cfg.Nodes, cfg.Check = r.cfg.Nodes, r.cfg.Check
	r.adopt(z, r.snap.Load().zones, cfg.drawn() && r.cfg.drawn())
	r.cfg = cfg
	if r.prober.same(&cfg) {
		r.prober = r.prober.with(&cfg)
	} else {
		r.prober = newProber(&cfg)
	}
	r.snap.Store(&snapshot{zones: z, fleet: r.fleet(z, r.liveNodes(time.Now()), r.snap.Load().fleet), texts: overlay(r.texts)})
	return nil
}

// refresh looks at the nodes again, and makes a new fleet if they differ.
func (r *Responder) refresh(now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.snap.Load()
	nodes := r.liveNodes(now)
	if !s.fleet.differs(s.zones, nodes) {
		return
	}
	r.snap.Store(&snapshot{zones: s.zones, fleet: r.fleet(s.zones, nodes, s.fleet), texts: s.texts})
}

// fleet makes one, and gives its sites what counts them.
func (r *Responder) fleet(z *zones, nodes []Node, before *fleet) *fleet {
	f := newFleet(z, nodes, before)
	for i := range f.sites {
		f.sites[i].stats = r.stats.site(f.sites[i].name)
	}
	return f
}

// liveNodes are the cluster's and those that are probed, as they are now.
func (r *Responder) liveNodes(now time.Time) []Node {
	nodes := r.prober.live()
	if r.cfg.Nodes != nil {
		nodes = append(nodes, r.cfg.Nodes()...)
	}
	return r.shed(r.warmUp(nodes, now), now)
}

// Stats returns what the responder counts.
func (r *Responder) Stats() *Stats { return &r.stats }
