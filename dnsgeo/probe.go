package dnsgeo

// Nodes that no cluster tells of are probed, from the start and not from the
// first query: a responder answers when it knows. How an address is asked is
// Config.Check's; what it comes to is here.

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

// probesMax is how many probes run at once.
const probesMax = 128

// prober probes the static nodes of one configuration.
type prober struct {
	probe  Probe
	check  func(ctx context.Context, probe Probe, address string) error
	nodes  []Node
	health []health
	rounds atomic.Uint64
}

// health is what probes of one node came to.
type health struct {
	mu    sync.Mutex
	known bool
	up    bool
	row   int // probes in a row that say otherwise
	err   string
}

// newProber makes one of the configured nodes.
func newProber(cfg *Config) *prober {
	p := &prober{probe: cfg.Probe, check: cfg.Check, health: make([]health, len(cfg.Static))}
	for i := range cfg.Static {
		p.nodes = append(p.nodes, cfg.Static[i].node())
	}
	return p
}

func (s *StaticNode) node() Node {
	n := Node{Name: s.Name, Site: s.Site, Port: s.Port, HTTPS: true, Weight: s.Weight}
	if at, err := ParsePoint(s.Place); err == nil {
		n.Place = &at
	}
	for _, text := range s.Addresses {
		if a, err := netip.ParseAddr(text); err == nil {
			n.Addresses = append(n.Addresses, a)
		}
	}
	for _, protocol := range s.Speaks {
		n.H2, n.H3 = n.H2 || protocol == "h2", n.H3 || protocol == "h3"
	}
	if s.Out {
		n.Away = AwayOut
	}
	return n
}

// same reports whether another configuration has the same nodes and probes, so
// that what is known of them stays.
func (p *prober) same(cfg *Config) bool {
	if p == nil || p.probe != cfg.Probe || len(p.nodes) != len(cfg.Static) {
		return false
	}
	for i := range cfg.Static {
		if n := cfg.Static[i].node(); fmt.Sprint(n.Addresses, n.Name, n.Port) != fmt.Sprint(p.nodes[i].Addresses, p.nodes[i].Name, p.nodes[i].Port) {
			return false
		}
	}
	return true
}

// with is the prober of a configuration with the same nodes: what they are may
// have changed, how they are has not.
func (p *prober) with(cfg *Config) *prober {
	next := newProber(cfg)
	for i := range p.health {
		p.health[i].mu.Lock()
		next.health[i].known, next.health[i].up, next.health[i].err = p.health[i].known, p.health[i].up, p.health[i].err
		p.health[i].mu.Unlock()
	}
	next.rounds.Store(p.rounds.Load())
	return next
}

// live returns the nodes as probes found them.
func (p *prober) live() []Node {
	out := make([]Node, len(p.nodes))
	copy(out, p.nodes)
	for i := range out {
		h := &p.health[i]
		h.mu.Lock()
		if h.known && !h.up && out[i].Away == "" {
			out[i].Away = AwayUnhealthy + ": " + h.err
		}
		h.mu.Unlock()
	}
	return out
}

// round probes all nodes once.
func (p *prober) round(ctx context.Context) {
	if p.probe.Kind != "off" && p.check != nil {
		var group errgroup.Group
		group.SetLimit(probesMax)
		for i := range p.nodes {
			group.Go(func() error {
				err := p.one(ctx, &p.nodes[i])
				if ctx.Err() == nil {
					p.health[i].note(err, &p.probe)
				}
				return nil
			})
		}
		_ = group.Wait()
	}
	p.rounds.Add(1)
}

// note takes the outcome of a probe. The first one counts at once: nothing was
// known before.
func (h *health) note(err error, probe *Probe) {
	h.mu.Lock()
	defer h.mu.Unlock()
	up := err == nil
	if !up {
		h.err = err.Error()
	}
	if h.known && up == h.up {
		h.row = 0
		return
	}
	h.row++
	if !h.known || up && h.row >= probe.Pass || !up && h.row >= probe.Fail {
		h.known, h.up, h.row = true, up, 0
	}
}

// one probes every address of a node.
func (p *prober) one(ctx context.Context, n *Node) error {
	ctx, cancel := context.WithTimeout(ctx, p.probe.Timeout)
	defer cancel()
	port := p.probe.Port
	if port == 0 {
		port = n.Port
	}
	for _, a := range n.Addresses {
		at := net.JoinHostPort(a.String(), strconv.Itoa(port))
		if err := p.check(ctx, p.probe, at); err != nil {
			return fmt.Errorf("%s: %w", at, err)
		}
	}
	return nil
}

// followHealth probes in rounds until ctx ends.
func (r *Responder) followHealth(ctx context.Context) error {
	for {
		r.mu.Lock()
		p := r.prober
		r.mu.Unlock()
		p.round(ctx)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(p.probe.Interval):
		}
	}
}
