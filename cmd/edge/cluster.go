package main

// What a node and the cluster tell each other.

import (
	"context"
	"net"
	"net/netip"
	"strconv"

	"edgecdn/cluster"
	"edgecdn/config"
	"edgecdn/purge"
)

// kindPurges marks messages about purges.
const kindPurges = cluster.KindMin

// openCluster makes this node's part of the cluster, where there is one.
func (n *node) openCluster(cfg *config.Config) (err error) {
	if !cfg.Cluster.On() {
		return nil
	}
	n.warmth.open(cfg.Data)
	n.cluster, err = cluster.New(clusterConfig(cfg), cluster.Hooks{Report: n.report}, n.log)
	if err != nil {
		return err
	}
	n.cluster.Facts().Watch(cluster.KindRevoked, func(all []cluster.Fact) {
		for _, f := range all {
			if err := n.admin.Revoke(f.Key, string(f.Value), f.Node); err != nil {
				n.log.Error("a token that was revoked in the cluster", "token", string(f.Value), "node", f.Node, "err", err)
			}
		}
	})
	return nil
}

// clusterConfig fills in what the cluster is to know of the rest.
func clusterConfig(cfg *config.Config) cluster.Config {
	c := cfg.Cluster
	c.Version = version
	add := func(addrs []string, take func(*cluster.Address, uint16)) {
		for _, addr := range addrs {
			host, text, err := net.SplitHostPort(addr)
			port, wrong := strconv.ParseUint(text, 10, 16)
			if err != nil || wrong != nil || port == 0 {
				continue // a socket that is no address of others
			}
			a := cluster.Address{IP: netip.IPv6Unspecified()}
			if host != "" {
				if a.IP, err = netip.ParseAddr(host); err != nil || a.IP.IsLoopback() && len(c.Public) == 0 {
					continue // a name, or only for this machine
				}
			}
			take(&a, uint16(port))
			c.Speaks = append(c.Speaks, a)
		}
	}
	add(cfg.Server.HTTP, func(a *cluster.Address, port uint16) { a.HTTP = port })
	add(cfg.Server.HTTPS, func(a *cluster.Address, port uint16) {
		a.HTTPS = port
		if *cfg.Server.HTTP3 {
			a.H3 = port
		}
	})
	return c
}

// report is how this node is doing.
func (n *node) report() cluster.Report {
	kept := n.store.Stats()
	objects := kept.Memory.Objects
	for _, d := range kept.Disk.Directories {
		objects += int64(d.Objects)
	}
	r := cluster.Report{
		Load:     float64(n.server.Stats().Gate.HandlersBusy.Load()),
		Capacity: float64(n.reloader.Current().Server.Limits.Handlers),
		Cold:     n.warmth.cold(objects),
		Position: n.spread.Position(),
	}
	if probes := n.probes.last.Load(); probes != nil {
		r.Probes = *probes
	}
	return r
}

// runCluster takes part until ctx ends.
func (n *node) runCluster(ctx context.Context) error {
	if n.cluster == nil {
		return nil
	}
	n.tellPhase()
	return n.cluster.Run(ctx)
}

// tellPhase tells the other nodes what this one does with clients.
func (n *node) tellPhase() {
	if n.cluster == nil {
		return
	}
	n.state.telling.Lock()
	defer n.state.telling.Unlock()
	phase := cluster.Serving
	fenced, _, _ := n.spread.FenceState()
	switch {
	case n.state.now() == starting:
		phase = cluster.Joining
	case n.state.phaseName() == draining.String():
		phase = cluster.Draining
	case fenced:
		phase = cluster.Fenced
	}
	n.cluster.SetPhase(phase)
}

// mesh is the cluster as purges see it.
type mesh struct{ n *node }

func (m mesh) Peers() []purge.Peer {
	members := m.n.cluster.Members()
	all := make([]purge.Peer, len(members))
	for i, is := range members {
		all[i] = purge.Peer{
			Name: is.Name, Self: is.Self, Reachable: is.Stream, Left: is.Status == cluster.Left, Gone: is.Gone,
			Alive: is.Status == cluster.Alive || is.Status == cluster.Suspect,
		}
	}
	return all
}

func (m mesh) Send(node string, msg []byte) error { return m.n.cluster.Send(node, kindPurges, msg) }

func (m mesh) Broadcast(msg []byte) error { return m.n.cluster.Broadcast(kindPurges, msg) }

func (m mesh) SetFenced(bool) { m.n.tellPhase() }
