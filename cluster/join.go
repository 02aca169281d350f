package cluster

// How a node finds the others, and finds them again: memberlist forgets a node that
// has been dead for half a minute, on both sides of a partition, so that it would
// never heal by itself. Every 15 to 60 seconds each node tries its seeds, and
// those it has known, as far as they are not alive; alone, sooner: a name that is a seed
// may not be there yet, or have this node's address only; and soon those that gossip
// calls alive and to which there is no stream: they may not have heard of this node.

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"
)

const (
	rejoinMin      = 15 * time.Second
	rejoinMax      = 60 * time.Second
	aloneBackoff   = time.Second
	joinsAtOnce    = 8
	joinsMax       = 64 // addresses a round
	resolveTimeout = 5 * time.Second
	// advertiseTimeout bounds looking up seeds before the node has begun.
	advertiseTimeout = 3 * time.Second
)

// keepJoined joins until ctx ends.
func (c *Cluster) keepJoined(ctx context.Context) {
	backoff, complained := aloneBackoff, false
	for {
		tried, err := c.joinRound(ctx)
		alone := c.gossiper.alive.Load() <= 1
		switch {
		case ctx.Err() != nil:
			return
		case alone && (tried > 0 || err != nil) && !complained:
			complained = true
			c.log.Warn("no other node lets this one into the cluster: it is tried again and again; see whether seeds are up and reachable by TCP and UDP, and whether secret and label are theirs", "label", c.cfg.Label, "tried", tried, "err", err)
		case !alone && complained:
			complained = false
			c.log.Info("joined the cluster", "members", c.gossiper.alive.Load())
		}
		wait := rejoinMin + rand.N(rejoinMax-rejoinMin)
		if alone && (tried > 0 || c.hasSeeds()) {
			wait = backoff/2 + rand.N(backoff)
			backoff = min(2*backoff, rejoinMin)
		} else {
			backoff = aloneBackoff
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		case <-c.rejoin:
			timer.Stop()
		}
	}
}

func (c *Cluster) hasSeeds() bool {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return len(c.cfg.Seeds) > 0
}

// joinRound tries everybody who might be there and is not known to live.
func (c *Cluster) joinRound(ctx context.Context) (tried int, err error) {
	targets, err := c.joinTargets(ctx)
	var mu sync.Mutex
	var running sync.WaitGroup
	slots := make(chan struct{}, joinsAtOnce)
	for _, to := range targets {
		if ctx.Err() != nil {
			break
		}
		slots <- struct{}{}
		running.Go(func() {
			defer func() { <-slots }()
			if _, failed := c.gossiper.list.Load().Join([]string{to.String()}); failed != nil {
				c.stats.JoinsFailed.Add(1)
				mu.Lock()
				defer mu.Unlock()
				if err == nil {
					err = errors.New(plain(failed))
				}
			}
		})
	}
	running.Wait()
	return len(targets), err
}

// plain makes one line of an error of memberlist's, which has several.
func plain(err error) string {
	text := strings.Join(strings.Fields(err.Error()), " ")
	_, after, found := strings.Cut(text, "* ")
	if found {
		text = after
	}
	return text[:min(len(text), 300)]
}

// joinTargets returns the addresses of seeds and of known nodes that are not alive, or
// that may not know this one.
func (c *Cluster) joinTargets(ctx context.Context) ([]netip.AddrPort, error) {
	unheard := c.unheardBy(time.Now())
	c.mu.RLock()
	seeds := c.cfg.Seeds
	alive := map[netip.AddrPort]bool{c.self.Address: true}
	var known []netip.AddrPort
	for _, m := range c.members {
		if m.Status == Alive && !unheard[m.Name] {
			alive[m.Address] = true
		} else if m.Address.IsValid() {
			known = append(known, m.Address)
		}
	}
	c.mu.RUnlock()
	var err error
	var targets []netip.AddrPort
	for _, seed := range seeds {
		addresses, failed := c.resolve(ctx, seed)
		if failed != nil && err == nil {
			err = fmt.Errorf("seed %s: %w", seed, failed)
		}
		targets = append(targets, addresses...)
	}
	rand.Shuffle(len(known), func(i, j int) { known[i], known[j] = known[j], known[i] })
	var fresh []netip.AddrPort
	for _, a := range append(targets, known...) {
		if !alive[a] && len(fresh) < joinsMax {
			alive[a] = true
			fresh = append(fresh, a)
		}
	}
	return fresh, err
}

// resolve returns all addresses of a seed.
func (c *Cluster) resolve(ctx context.Context, seed string) ([]netip.AddrPort, error) {
	host, port, err := splitSeed(seed)
	if err != nil {
		return nil, err
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		return []netip.AddrPort{netip.AddrPortFrom(ip.Unmap(), port)}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, resolveTimeout)
	defer cancel()
	ips, err := c.door.network.lookup(ctx, host)
	if err != nil {
		return nil, err
	}
	var all []netip.AddrPort
	for _, ip := range ips[:min(len(ips), joinsMax)] {
		all = append(all, netip.AddrPortFrom(ip.Unmap(), port))
	}
	return all, nil
}

// advertised returns the address that others are told.
func (c *Cluster) advertised() (netip.AddrPort, error) {
	local := addressOf(c.door.listener.Addr())
	if c.cfg.Advertise != "" {
		return parseEndpoint(c.cfg.Advertise, local.Port())
	}
	if !local.Addr().IsUnspecified() {
		return local, nil
	}
	// The kernel says from where a seed would be reached; nothing is sent. A name that
	// cannot be looked up now does not hold up the start.
	ctx, cancel := context.WithTimeout(context.Background(), advertiseTimeout)
	defer cancel()
	for _, seed := range c.cfg.Seeds {
		addresses, err := c.resolve(ctx, seed)
		if err != nil {
			continue
		}
		for _, to := range addresses {
			if p, err := net.Dial("udp", to.String()); err == nil {
				from := addressOf(p.LocalAddr()).Addr()
				p.Close()
				return netip.AddrPortFrom(from, local.Port()), nil
			}
		}
	}
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("cluster: this machine's addresses: %w", err)
	}
	for _, a := range addresses {
		if prefix, err := netip.ParsePrefix(a.String()); err == nil && prefix.Addr().Unmap().IsGlobalUnicast() {
			return netip.AddrPortFrom(prefix.Addr().Unmap(), local.Port()), nil
		}
	}
	return netip.AddrPort{}, errors.New("cluster: this machine has no address that others could use: write cluster.advertise")
}
