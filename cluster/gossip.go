package cluster

// memberlist, and all that it calls us with. It calls with its own locks held and
// from the goroutine that reads packets: what is here copies, takes no lock but
// Cluster.mu, calls nothing of memberlist, and never waits.

import (
	"log"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"
)

const (
	inboxMax     = 4096 // gossiped messages that wait for their handlers
	broadcastMax = 1024 // messages that wait to be gossiped
	handoffDepth = 4096
	reclaimAfter = time.Second // the name of a dead node may come back with another address
)

// gossiper is memberlist and its delegates.
type gossiper struct {
	c     *Cluster
	list  atomic.Pointer[memberlist.Memberlist]
	queue memberlist.TransmitLimitedQueue
	inbox chan []byte
	alive atomic.Int64 // members, this node too
	// conflicts are log lines that wait for a goroutine without locks.
	conflicts chan conflict
}

type conflict struct {
	name        string
	ours, other netip.AddrPort
}

func (c *Cluster) newGossiper(mult int) *gossiper {
	g := &gossiper{c: c, inbox: make(chan []byte, inboxMax), conflicts: make(chan conflict, 4)}
	g.queue.NumNodes = func() int { return int(max(1, g.alive.Load())) }
	g.queue.RetransmitMult = mult
	return g
}

// preset returns memberlist's settings for how patient it should be.
func preset(name string) *memberlist.Config {
	switch name {
	case "wan":
		conf := memberlist.DefaultWANConfig()
		conf.GossipInterval, conf.TCPTimeout = 200*time.Millisecond, 10*time.Second
		return conf
	case "local":
		return memberlist.DefaultLocalConfig()
	}
	return memberlist.DefaultLANConfig()
}

// begin starts memberlist, whose goroutines live until its Shutdown.
func (g *gossiper) begin(keyring *memberlist.Keyring) error {
	conf := preset(g.c.cfg.Preset)
	conf.Name, conf.Label, conf.Keyring = g.c.cfg.Name, g.c.cfg.Label, keyring
	conf.Transport = g.c.door
	conf.AdvertiseAddr, conf.AdvertisePort = g.c.door.advertise.Addr().String(), int(g.c.door.advertise.Port())
	conf.Delegate, conf.Events, conf.Alive, conf.Conflict = g, g, g, g
	conf.Logger = log.New(&bridge{log: g.c.log, stats: &g.c.stats}, "", 0)
	conf.EnableCompression = false // what is sent is small or encrypted; what comes need not be inflated
	conf.HandoffQueueDepth = handoffDepth
	conf.DeadNodeReclaimTime = reclaimAfter
	list, err := memberlist.Create(conf)
	if err != nil {
		return err
	}
	g.list.Store(list)
	return nil
}

// NodeMeta is of memberlist.Delegate. memberlist panics at more than limit.
func (g *gossiper) NodeMeta(limit int) []byte {
	g.c.mu.RLock()
	defer g.c.mu.RUnlock()
	b := metaOf(&g.c.self).encode()
	if len(b) > limit {
		return nil
	}
	return b
}

// NotifyMsg is of memberlist.Delegate: the buffer is memberlist's.
func (g *gossiper) NotifyMsg(b []byte) {
	if len(b) > GossipBytesMax+gossipHeaderMax {
		g.c.stats.GossipDropped.Add(1)
		return
	}
	select {
	case g.inbox <- append([]byte(nil), b...):
		g.c.stats.GossipReceived.Add(1)
	default:
		g.c.stats.GossipDropped.Add(1)
	}
}

// GetBroadcasts is of memberlist.Delegate.
func (g *gossiper) GetBroadcasts(overhead, limit int) [][]byte {
	return g.queue.GetBroadcasts(overhead, limit)
}

// LocalState is of memberlist.Delegate. Nothing rides on its exchanges: they are
// rare, and streams compare notes twice a second.
func (g *gossiper) LocalState(bool) []byte { return nil }

// MergeRemoteState is of memberlist.Delegate.
func (g *gossiper) MergeRemoteState([]byte, bool) {}

// NotifyAlive is of memberlist.AliveDelegate: it keeps out what we cannot have. A
// node whose facts are of a later version is let in, and known by name alone.
func (g *gossiper) NotifyAlive(n *memberlist.Node) error {
	if !isName(n.Name, nameBytesMax) {
		return errName
	}
	g.c.mu.Lock()
	defer g.c.mu.Unlock()
	if n.Name == g.c.self.Name || g.c.members[n.Name] != nil || g.c.makeRoom() {
		return nil
	}
	return errMany
}

// NotifyJoin is of memberlist.EventDelegate.
func (g *gossiper) NotifyJoin(n *memberlist.Node) { g.c.seen(n) }

// NotifyUpdate is of memberlist.EventDelegate.
func (g *gossiper) NotifyUpdate(n *memberlist.Node) { g.c.seen(n) }

// NotifyLeave is of memberlist.EventDelegate.
func (g *gossiper) NotifyLeave(n *memberlist.Node) { g.c.lost(n.Name) }

// NotifyConflict is of memberlist.ConflictDelegate.
func (g *gossiper) NotifyConflict(existing, other *memberlist.Node) {
	select {
	case g.conflicts <- conflict{existing.Name, nodeAddress(existing), nodeAddress(other)}:
	default:
	}
}

func nodeAddress(n *memberlist.Node) netip.AddrPort {
	ip, _ := netip.AddrFromSlice(n.Addr)
	return netip.AddrPortFrom(ip.Unmap(), n.Port)
}

// announcement is a message in memberlist's queue. It replaces no other.
type announcement []byte

// Invalidates is of memberlist.Broadcast.
func (announcement) Invalidates(memberlist.Broadcast) bool { return false }

// Message is of memberlist.Broadcast.
func (a announcement) Message() []byte { return a }

// Finished is of memberlist.Broadcast.
func (announcement) Finished() {}

// UniqueBroadcast is of memberlist.UniqueBroadcast: the queue need not look for others.
func (announcement) UniqueBroadcast() {}

// gossip queues a message where it fits: memberlist would keep one that does not
// for ever, and never send it.
func (c *Cluster) gossip(kind byte, origin string, payload []byte) {
	if len(payload) > GossipBytesMax {
		return
	}
	g := c.gossiper
	g.queue.QueueBroadcast(announcement(encodeGossip(kind, origin, payload)))
	c.stats.GossipSent.Add(1)
	if n := g.queue.NumQueued(); n > broadcastMax {
		g.queue.Prune(broadcastMax)
		c.stats.GossipDropped.Add(uint64(n - broadcastMax))
	}
}

// hear gives gossiped messages to their handlers, and gossips on what was new to them.
func (c *Cluster) hear(b []byte) {
	kind, origin, payload, err := decodeGossip(b)
	if err != nil || origin == c.cfg.Name {
		return
	}
	isNew := false
	switch {
	case kind == kindFacts:
		isNew, _ = c.facts.merge(payload)
	case kind >= KindMin && c.handlers[kind] != nil:
		isNew = c.handlers[kind](origin, payload)
	}
	if isNew {
		c.gossip(kind, origin, payload)
	}
}
