package cluster

// The life of a cluster: what Run starts, and what the callbacks of memberlist note.

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
)

// Run takes part in the cluster until ctx ends, leaves it, and returns when all is gone.
func (c *Cluster) Run(ctx context.Context) error {
	inner, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	c.door.begin(func(conn *doorConn) { c.accept(inner, conn) })
	var running sync.WaitGroup
	running.Go(c.door.run)
	c.sayHeartbeat()
	if err := c.gossiper.begin(c.keyring); err != nil {
		c.door.Shutdown()
		running.Wait()
		return fmt.Errorf("cluster: %w", err)
	}
	running.Go(func() {
		c.facts.run(inner, func(err error) { c.log.Error("facts of the cluster are not kept", "err", err) })
	})
	running.Go(func() { c.hearGossip(inner) })
	running.Go(func() { c.beatOn(inner) })
	running.Go(func() { c.keepJoined(inner) })
	running.Go(func() { c.steward(inner) })

	c.announceOn(ctx)   // until it ends
	c.SetPhase(leaving) // memberlist does not tell who has left from who is dead
	if err := c.gossiper.list.Load().UpdateNode(leaveTimeout / 2); err != nil {
		c.log.Debug("left without a word", "err", err)
	}
	if err := c.gossiper.list.Load().Leave(leaveTimeout); err != nil {
		c.log.Debug("left without a word", "err", err)
	}
	stop()
	err := c.gossiper.list.Load().Shutdown()
	running.Wait()
	c.peers.running.Wait()
	if failed := c.writePeers(); failed != nil {
		c.log.Warn("the nodes of the cluster are not kept: the next start depends on its seeds", "err", failed)
	}
	return err
}

func (c *Cluster) hearGossip(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case b := <-c.gossiper.inbox:
			c.hear(b)
		}
	}
}

// beatOn asks for the report and says it to all, twice a second.
func (c *Cluster) beatOn(ctx context.Context) {
	tick := time.NewTicker(heartbeatInterval)
	defer tick.Stop()
	for {
		if c.hooks.Report != nil {
			r := c.hooks.Report()
			if len(r.Position) > positionBytesMax {
				c.stats.ReportsCut.Add(1)
				r.Position = nil
			}
			c.report.Store(&r)
		}
		c.sayHeartbeat()
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// sayHeartbeat makes a heartbeat of how things are and has all streams send it.
func (c *Cluster) sayHeartbeat() {
	self := c.Self()
	h := heartbeat{boot: self.Boot, phase: self.Phase, facts: c.facts.sum(), sent: time.Now()}
	if r := c.report.Load(); r != nil {
		h.report = *r
	}
	b := h.encode()
	c.beat.Store(&b)
	c.peers.mu.Lock()
	defer c.peers.mu.Unlock()
	for _, s := range c.peers.streams {
		s.say(b)
	}
}

func (c *Cluster) heartbeat() []byte { return *c.beat.Load() }

// announceOn gossips what this node says of itself when it has changed. memberlist
// does not bear two UpdateNode at once, so that all are in one goroutine.
func (c *Cluster) announceOn(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.announces:
			if err := c.gossiper.list.Load().UpdateNode(announceWait); err != nil {
				c.log.Debug("announced to nobody", "err", err)
			}
		}
	}
}

// steward looks after streams, the log and the file of peers.
func (c *Cluster) steward(ctx context.Context) {
	tick := time.NewTicker(stewardInterval)
	defer tick.Stop()
	suspected := make(map[string]bool)
	var saved time.Time
	for {
		now := time.Now()
		c.reach(ctx, now)
		c.noteStreams(suspected)
		c.forget(now)
		c.mu.Lock()
		due := c.changed && now.Sub(saved) > peersSaved
		c.changed = c.changed && !due
		c.mu.Unlock()
		if due {
			saved = now
			if err := c.writePeers(); err != nil {
				c.log.Warn("the nodes of the cluster are not kept: the next start depends on its seeds", "err", err)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case n := <-c.notes:
			c.log.Info(n.text, "node", n.node, "address", n.address)
		case x := <-c.gossiper.conflicts:
			c.log.Error("two nodes have one name: give each its own under node, and restart it", "node", x.name, "address", x.ours, "other", x.other)
		}
	}
}

// noteStreams logs peers whose streams come and go, where gossip has not said so.
func (c *Cluster) noteStreams(suspected map[string]bool) {
	streams := int64(0)
	members := c.Members()
	maps.DeleteFunc(suspected, func(name string, _ bool) bool { // of one that was forgotten
		return !slices.ContainsFunc(members, func(m Member) bool { return m.Name == name })
	})
	for _, m := range members {
		if m.Stream {
			streams++
		}
		switch suspect := m.Status == Suspect; {
		case suspect && !suspected[m.Name]:
			suspected[m.Name] = true
			c.log.Warn("a node is silent", "node", m.Name, "address", m.Address, "heard", m.Heard)
		case !suspect && suspected[m.Name]:
			delete(suspected, m.Name)
			if m.Status == Alive {
				c.log.Info("a node is heard again", "node", m.Name, "address", m.Address)
			}
		}
	}
	c.stats.Streams.Store(streams)
}

// metaOf is the part of a member that is gossiped.
func metaOf(m *Member) meta {
	return meta{
		phase: m.Phase, boot: m.Boot, weight: uint16(m.Weight), streamPort: m.Address.Port(),
		place: m.Place, site: m.Site, version: m.Version, public: m.Public,
	}
}

// seen notes what gossip says of a node that lives. memberlist holds its lock.
func (c *Cluster) seen(n *memberlist.Node) {
	facts, err := decodeMeta(n.Meta)
	c.mu.Lock()
	defer c.mu.Unlock()
	defer c.countAlive()
	if n.Name == c.self.Name {
		return
	}
	m := c.members[n.Name]
	if m == nil {
		if !c.makeRoom() {
			return
		}
		m = &Member{Name: n.Name}
		c.members[n.Name] = m
	}
	if m.Status != Alive {
		m.Status, m.Since = Alive, time.Now()
		c.note("a node is there", n)
	}
	c.changed = true
	m.Address = nodeAddress(n)
	if err != nil {
		c.note("a node's facts cannot be read: "+err.Error(), n)
		m.Phase, m.Weight, m.Public = 0, 0, nil
		return
	}
	if m.Boot != facts.boot { // it is another process
		m.Report, m.ReportAt, m.Heard = Report{}, time.Time{}, time.Time{}
	}
	m.Boot, m.Phase, m.Site, m.Place = facts.boot, facts.phase, facts.site, facts.place
	m.Public, m.Weight, m.Version = facts.public, int(facts.weight), facts.version
}

// lost notes that gossip has given a node up. memberlist holds its lock, and does
// not tell (Node.State is never set) whether the node has said goodbye: its phase does.
func (c *Cluster) lost(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	defer c.countAlive()
	m := c.members[name]
	if m == nil {
		return
	}
	text := "a node is dead"
	m.Status, m.Since = Dead, time.Now()
	if m.Phase == leaving {
		text, m.Status = "a node has left", Left
	}
	c.changed = true
	c.noteAt(text, name, m)
}

func (c *Cluster) note(text string, n *memberlist.Node) {
	c.noteAt(text, n.Name, &Member{Address: nodeAddress(n)})
}

func (c *Cluster) noteAt(text, name string, m *Member) {
	select {
	case c.notes <- note{text, name, m.Address}:
	default:
	}
}

// countAlive is for gossip's estimate of how often to send. c.mu is held.
func (c *Cluster) countAlive() {
	n := int64(1)
	for _, m := range c.members {
		if m.Status == Alive {
			n++
		}
	}
	c.gossiper.alive.Store(n)
}

// makeRoom says whether one more node can be known; it forgets the one that has
// been away longest where that helps. c.mu is held.
func (c *Cluster) makeRoom() bool {
	if len(c.members) < MembersMax-1 {
		return true
	}
	var oldest *Member
	for _, m := range c.members {
		if m.Status != Alive && (oldest == nil || m.Since.Before(oldest.Since)) {
			oldest = m
		}
	}
	c.stats.MembersForgotten.Add(1)
	if oldest == nil {
		return false
	}
	delete(c.members, oldest.Name)
	return true
}

// forget lets go of those that have left, or been declared gone, long ago.
func (c *Cluster) forget(now time.Time) {
	gone := make(map[string]bool)
	for _, f := range c.facts.All(KindGone) {
		gone[f.Key] = true
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for name, m := range c.members {
		if (m.Status == Left || m.Status == Dead && gone[name]) && now.Sub(m.Since) > forgottenAfter {
			delete(c.members, name)
			c.changed = true
		}
	}
}
