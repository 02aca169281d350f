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
// Locks: Cluster.mu (members), peers.mu (streams) and Facts.mu are never held
// together, and none is held when code outside this package, or memberlist, is called.
// memberlist calls us with its own lock held, which is why the callbacks in
// gossip.go do nothing but copy.
package cluster

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"
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
	errName     = errors.New("cluster: that is no name of a node")
	errMany     = errors.New("cluster: too many nodes are known")
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
	trust    *trust
	keyring  *memberlist.Keyring
	door     *door
	gossiper *gossiper
	peers    peers
	stats    Stats

	report    atomic.Pointer[Report] // the last of hooks.Report
	beat      atomic.Pointer[[]byte] // the last heartbeat
	announces chan struct{}          // one bit: our facts have changed
	rejoin    chan struct{}          // one bit: look for others now
	notes     chan note              // what callbacks of memberlist have seen

	mu      sync.RWMutex
	cfg     Config // its Name, Label, Preset and Dir never change
	self    Member
	members map[string]*Member // without self; Status is gossip's word
	changed bool               // since writePeers
}

const (
	leaveTimeout   = 2 * time.Second
	announceWait   = 5 * time.Second
	notesMax       = 256
	peersSaved     = 2 * time.Second
	forgottenAfter = 72 * time.Hour
)

// note is something to be logged that was seen with somebody's locks held.
type note struct {
	text, node string
	address    netip.AddrPort
}

// New opens the node's port. It takes part in nothing before Run; Close undoes it.
func New(cfg Config, hooks Hooks, log *slog.Logger) (*Cluster, error) {
	return open(cfg, hooks, log, sockets{})
}

func open(cfg Config, hooks Hooks, log *slog.Logger, n network) (*Cluster, error) {
	secrets, err := cfg.secrets()
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("cluster: %w", err)
	}
	c := &Cluster{
		log: log, hooks: hooks, cfg: cfg,
		handlers:  make(map[uint8]Handler),
		peers:     peers{streams: make(map[string]*stream), dials: make(map[string]*dialling)},
		announces: make(chan struct{}, 1), rejoin: make(chan struct{}, 1), notes: make(chan note, notesMax),
		members: make(map[string]*Member),
	}
	c.facts = newFacts(cfg.Name, filepath.Join(cfg.Dir, factsFile), &c.stats)
	c.facts.spread = func(entry []byte) { _ = c.broadcast(kindFacts, entry) }
	if err := c.facts.load(); err != nil {
		return nil, err
	}
	if c.trust, err = newTrust(cfg.Label, cfg.Name, secrets); err != nil {
		return nil, fmt.Errorf("cluster: keys: %w", err)
	}
	if c.keyring, err = memberlist.NewKeyring(c.trust.keys(), c.trust.keys()[0]); err != nil {
		return nil, fmt.Errorf("cluster: keys: %w", err)
	}
	known, err := readPeers(cfg.Dir)
	if err != nil {
		log.Warn("the nodes that were known before are forgotten: seeds know them", "err", err)
	}
	for _, m := range known {
		if m.Name != cfg.Name {
			c.members[m.Name] = m
		}
	}
	c.gossiper = c.newGossiper(preset(cfg.Preset).RetransmitMult)
	boot, err := countBoot(cfg.Dir)
	if err != nil {
		return nil, err
	}
	if c.door, err = newDoor(n, cfg.Listen, &c.stats); err != nil {
		return nil, err
	}
	if c.door.advertise, err = c.advertised(); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	c.self = Member{Name: cfg.Name, Boot: boot, Self: true, Status: Alive, Since: time.Now(), Phase: Joining, Address: c.door.advertise}
	c.describe(cfg)
	return c, nil
}

// describe puts what the configuration says into self. c.mu is held, or nobody else there.
func (c *Cluster) describe(cfg Config) {
	c.self.Site, c.self.Place, c.self.Version = cfg.Site, cfg.place(), cfg.Version
	c.self.Weight = *cfg.Weight
	c.self.Public = cfg.speaks(c.door.advertise.Addr())
}

// Close gives back what New took, where Run is not to come.
func (c *Cluster) Close() error { return c.door.Shutdown() }

// Address is where this node tells others to reach it.
func (c *Cluster) Address() netip.AddrPort { return c.door.advertise }

// Check tells whether Apply would take the configuration.
func (c *Cluster) Check(cfg Config) error {
	_, err := cfg.secrets()
	return err
}

// Apply puts another configuration in force. Secrets may change while all nodes
// run: new ones last in the list first, then first, then old ones out.
func (c *Cluster) Apply(cfg Config) error {
	secrets, err := cfg.secrets()
	if err != nil {
		return err
	}
	if err := c.trust.use(secrets); err != nil {
		return fmt.Errorf("cluster: keys: %w", err)
	}
	keys := c.trust.keys()
	for _, k := range keys {
		if err := c.keyring.AddKey(k); err != nil {
			return fmt.Errorf("cluster: keys: %w", err)
		}
	}
	if err := c.keyring.UseKey(keys[0]); err != nil {
		return fmt.Errorf("cluster: keys: %w", err)
	}
	for _, k := range slices.Clone(c.keyring.GetKeys()) {
		if !slices.ContainsFunc(keys, func(ours []byte) bool { return string(ours) == string(k) }) {
			if err := c.keyring.RemoveKey(k); err != nil {
				return fmt.Errorf("cluster: keys: %w", err)
			}
		}
	}
	c.dropUntrusted()
	c.mu.Lock()
	c.cfg.Seeds = cfg.Seeds
	c.describe(cfg)
	c.mu.Unlock()
	poke(c.announces)
	poke(c.rejoin)
	return nil
}

func poke(bit chan struct{}) {
	select {
	case bit <- struct{}{}:
	default:
	}
}

// Handle has f called with messages of a kind. It is called before Run, once a kind.
func (c *Cluster) Handle(kind uint8, f Handler) {
	if kind < KindMin || c.handlers[kind] != nil {
		panic(fmt.Sprintf("cluster: kind %d is taken", kind))
	}
	c.handlers[kind] = f
}

// Send queues a message for one node on the stream to it, and never blocks. No
// error means that it was queued: a stream that breaks loses what it held.
func (c *Cluster) Send(node string, kind uint8, msg []byte) error {
	if len(msg) > MessageBytesMax {
		return ErrTooLong
	}
	s := c.stream(node)
	if s == nil {
		return ErrNoStream
	}
	return s.send(appendFrame(make([]byte, 0, len(msg)+frameHeaderBytes), 0, kind, msg))
}

// Broadcast queues a message for every peer that has a stream, and gossips it where
// it is no longer than GossipBytesMax. It never blocks. A peer whose queue is full
// or that has no stream misses it, which is counted: whoever must not miss anything
// compares notes.
func (c *Cluster) Broadcast(kind uint8, msg []byte) error { return c.broadcast(kind, msg) }

func (c *Cluster) broadcast(kind byte, msg []byte) error {
	if len(msg) > MessageBytesMax {
		return ErrTooLong
	}
	f := appendFrame(make([]byte, 0, len(msg)+frameHeaderBytes), flagBroadcast, kind, msg)
	for _, s := range c.allStreams() {
		_ = s.send(f) // counted
	}
	c.gossip(kind, c.cfg.Name, msg)
	return nil
}

// Members returns every node that is known, this one too, by name: those that live,
// and those that were and have not been forgotten, which those that have left or
// been declared gone are after three days.
func (c *Cluster) Members() []Member {
	up := make(map[string]bool)
	for _, s := range c.allStreams() {
		up[s.peer] = true
	}
	now := time.Now()
	c.mu.RLock()
	all := make([]Member, 0, len(c.members)+1)
	all = append(all, c.self)
	for _, m := range c.members {
		all = append(all, *m)
	}
	c.mu.RUnlock()
	if r := c.report.Load(); r != nil {
		all[0].Report, all[0].ReportAt = *r, now
	}
	for i := range all {
		m := &all[i]
		if !m.Self {
			m.Stream = up[m.Name] && now.Sub(m.Heard) < silenceMax
			m.Status = m.judge(now)
		}
		_, m.Gone = c.facts.Get(KindGone, m.Name)
		_, m.Out = c.facts.Get(KindOut, OutNode(m.Name))
		if m.Site != "" && !m.Out {
			_, m.Out = c.facts.Get(KindOut, OutSite(m.Site))
		}
	}
	slices.SortFunc(all, func(a, b Member) int { return strings.Compare(a.Name, b.Name) })
	return all
}

// judge is gossip's word, and the stream's where gossip has not noticed yet.
func (m *Member) judge(now time.Time) Status {
	if m.Status != Alive || m.Stream {
		return m.Status
	}
	if m.Heard.Before(m.Since) && now.Sub(m.Since) < suspectNever { // it has just come
		return Alive
	}
	if now.Sub(m.Heard) < silenceMax {
		return Alive
	}
	return Suspect
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
	same := c.self.Phase == p
	c.self.Phase = p
	c.mu.Unlock()
	if !same {
		poke(c.announces)
		c.sayHeartbeat()
	}
}

// Facts returns what operators have said.
func (c *Cluster) Facts() *Facts { return c.facts }

// Stats returns counts since the start.
func (c *Cluster) Stats() *Stats { return &c.stats }
