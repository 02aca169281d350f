package purge

// spread.go runs the machine: it hands it what happens, one after the other, and
// does what it says.
//
//	streams, gossip -> Receive \                / loop: send, broadcast, fence
//	the log's Run   -> durable  > inbox -> step > apply: into the cache and the log
//	ticks, peers               /                \ serve, keep: files
//
// Locks: Spread.mu (the machine) and Spread.inboxMu are leaves; neither is held while
// the mesh, the log or the cache are called.

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// Mesh is the cluster as the spreading of purges needs it. Its methods do not block.
type Mesh interface {
	// Peers are the nodes that are known, this one too.
	Peers() []Peer
	// Send sends to one node, in order; what is lost is noticed and asked for.
	Send(node string, msg []byte) error
	// Broadcast sends to all, and by gossip where it is small enough.
	Broadcast(msg []byte) error
	// SetFenced tells others that this node is fenced, or no more.
	SetFenced(fenced bool)
}

// Fencer keeps what is stored from being used: a cache.Cache.
type Fencer interface {
	Fence() (order uint64)
	Unfence()
}

// GossipBytes is the length up to which a message should be gossiped, too.
const GossipBytes = 1 << 10

const (
	tickEvery  = 25 * time.Millisecond
	peersEvery = 250 * time.Millisecond
	inboxBytes = 32 << 20
	inboxMax   = 1 << 16
	broadcasts = 64 << 10 // bytes of one under load
	servesMax  = 64
	countsWait = time.Second
)

// Spread spreads the purges of a log to other nodes, and takes in theirs.
type Spread struct {
	log    *Log
	fencer Fencer
	mesh   Mesh // nil: there are no others
	say    *slog.Logger
	stats  *Stats

	told bool // that it is fenced; of Begin and then loop

	bell    chan struct{}
	applies chan action
	serves  chan action
	keeps   chan action

	inboxMu sync.Mutex
	inbox   []event
	bytes   int // of messages in it

	mu      sync.Mutex
	machine *machine
	changed chan struct{} // closed and replaced when receipts may say more
	asks    map[Place][]chan NodeCount
	warned  map[string]bool // peers that speak a newer version
}

// NewSpread returns what spreads the purges of l, after its Replay and before its Run.
// mesh is nil where there is no cluster; alone says that no other node is configured.
func NewSpread(l *Log, fencer Fencer, mesh Mesh, alone bool, log *slog.Logger) *Spread {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	s := &Spread{
		log: l, fencer: fencer, mesh: mesh, say: log, stats: &l.stats,
		bell: make(chan struct{}, 1), applies: make(chan action, defaultPace.inFlight), serves: make(chan action, servesMax), keeps: make(chan action, servesMax),
		changed: make(chan struct{}), asks: map[Place][]chan NodeCount{}, warned: map[string]bool{},
	}
	s.machine = newMachine(l, defaultPace, alone || mesh == nil, l.Fresh(), s.stats)
	if mesh != nil {
		l.durable = func(batch []*pending) {
			for _, ev := range eventsOf(batch) {
				s.put(ev, 0)
			}
		}
	}
	return s
}

// Begin raises the fence where a start needs one: before anything is served.
func (s *Spread) Begin() {
	if s.mesh != nil {
		s.step(event{kind: evPeers, peers: s.mesh.Peers()})
	}
}

// put queues an event; false where there is no room for a message.
func (s *Spread) put(ev event, size int) bool {
	s.inboxMu.Lock()
	defer s.inboxMu.Unlock()
	if size > 0 && (s.bytes+size > inboxBytes || len(s.inbox) > inboxMax) {
		s.stats.InboxFull.Add(1)
		return false
	}
	s.bytes += size
	s.inbox = append(s.inbox, ev)
	select {
	case s.bell <- struct{}{}:
	default:
	}
	return true
}

// Receive takes a message of another node. It says whether it was new, and so to be
// gossiped on.
func (s *Spread) Receive(from string, msg []byte) (isNew bool) {
	m, err := decodeMessage(msg)
	if err != nil {
		s.refuse(from, err)
		return false
	}
	if m.kind == sayCount {
		s.counted(from, &m)
		return false
	}
	s.mu.Lock()
	for i := range m.entries {
		isNew = isNew || !s.machine.has(m.entries[i].Place)
	}
	s.mu.Unlock()
	if m.kind == sayEntries && !isNew {
		s.stats.Known.Add(uint64(len(m.entries)))
		return false
	}
	return s.put(event{kind: evMessage, from: from, message: m}, len(msg)) && isNew
}

// refuse says once of each node that it cannot be understood.
func (s *Spread) refuse(from string, err error) {
	counter := &s.stats.Damaged
	if errors.Is(err, errNewer) {
		counter = &s.stats.Newer
	}
	counter.Add(1)
	s.mu.Lock()
	told := s.warned[from] || len(s.warned) >= peersMax
	s.warned[from] = true
	s.mu.Unlock()
	if !told {
		s.say.Warn("a node says of purges what cannot be read here: nothing of it is taken, and this node stays behind", "node", from, "err", err)
	}
}

// Run spreads until ctx ends.
func (s *Spread) Run(ctx context.Context) error {
	if s.mesh == nil {
		<-ctx.Done()
		return nil
	}
	var all errgroup.Group
	all.Go(func() error { s.loop(ctx); return nil })
	all.Go(func() error { s.applyAll(ctx); return nil })
	all.Go(func() error { s.serveAll(ctx); return nil })
	all.Go(func() error { s.keepAll(ctx); return nil })
	return all.Wait()
}

func (s *Spread) loop(ctx context.Context) {
	tick := time.NewTicker(tickEvery)
	defer tick.Stop()
	var seen time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.bell:
			s.drain()
		case now := <-tick.C:
			s.drain()
			if now.Sub(seen) >= peersEvery {
				seen = now
				s.step(event{kind: evPeers, peers: s.mesh.Peers()})
			}
			s.step(event{kind: evTick})
		}
	}
}

// drain takes what is in the inbox.
func (s *Spread) drain() {
	s.inboxMu.Lock()
	events := s.inbox
	s.inbox, s.bytes = nil, 0
	s.inboxMu.Unlock()
	for _, ev := range events {
		s.step(ev)
	}
	if len(events) > 0 {
		s.mu.Lock()
		close(s.changed)
		s.changed = make(chan struct{})
		s.mu.Unlock()
	}
}

func (s *Spread) step(ev event) {
	now := time.Now()
	s.mu.Lock()
	actions := s.machine.step(now, now.UnixMilli(), ev)
	s.mu.Unlock()
	for _, a := range actions {
		s.act(a)
	}
}

func (s *Spread) act(a action) {
	switch a.kind {
	case doSend:
		if s.mesh.Send(a.to, a.message) != nil {
			s.stats.Unsent.Add(1)
		}
	case doBroadcast:
		s.stats.Offered.Add(uint64(len(a.codes)))
		size := GossipBytes // one or few: gossip takes them too
		for _, code := range a.codes {
			size += len(code)
		}
		if size = min(size-GossipBytes, broadcasts); size < GossipBytes {
			size = GossipBytes
		}
		for _, msg := range encodeEntries(a.codes, size) {
			if s.mesh.Broadcast(msg) != nil {
				s.stats.Unsent.Add(1)
			}
		}
	case doApply:
		s.applies <- a // there is room for as many as may be on their way
	case doServe, doCount:
		queue(s.serves, a)
	case doFence:
		s.fencer.Fence()
		s.mesh.SetFenced(true)
		if s.told {
			break // it is raised again, for what was stored since
		}
		s.told = true
		s.say.Warn("fenced: nothing that was stored before is served until this node has caught up", "why", a.reason)
	case doUnfence:
		s.fencer.Unfence()
		s.mesh.SetFenced(false)
		s.told = false
		s.say.Info("caught up: what is stored is served again")
	case doKeep:
		if !queue(s.keeps, a) { // goals are set again with the next position
			s.put(event{kind: evKept, keep: a.keep}, 0)
		}
	case doAdopt:
		if !queue(s.keeps, a) {
			s.put(event{kind: evAdopted, keep: a.keep}, 0)
		}
	}
}

func queue(to chan action, a action) bool {
	select {
	case to <- a:
		return true
	default:
		return false
	}
}

// applyAll takes in entries of others, one after the other.
func (s *Spread) applyAll(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case a := <-s.applies:
			for i := range a.entries {
				// The code is written to, and the message may be on its way to others.
				if err := s.log.receive(ctx, a.entries[i], slices.Clone(a.codes[i])); err != nil {
					s.put(event{kind: evFailed, places: []Place{a.entries[i].Place}}, 0)
				}
			}
		}
	}
}

// serveAll answers nodes that ask.
func (s *Spread) serveAll(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case a := <-s.serves:
			for _, msg := range s.answer(&a) {
				if s.mesh.Send(a.to, msg) != nil {
					s.stats.Unsent.Add(1)
				}
			}
		}
	}
}

func (s *Spread) answer(a *action) [][]byte {
	if a.kind == doServe {
		messages := serve(s.log, a.place, a.offset)
		s.stats.Served.Add(uint64(len(messages)))
		return messages
	}
	r, ok := s.log.at(a.place)
	if !ok {
		return nil
	}
	return [][]byte{encodeCount(a.place, counts{memory: uint64(r.Count.Memory), disk: uint64(r.Count.Disk), counted: r.Count.Counted})}
}

// serve returns the messages that answer who has a log up to a place, and of the next
// entry, where it is large, the first bytes.
func serve(l *Log, after Place, offset uint64) [][]byte {
	codes, err := l.entriesAfter(after.Log, after.Number, messageBytesMax/2)
	if err != nil || len(codes) == 0 {
		return nil
	}
	if code := codes[0]; !whole(code) {
		if offset >= uint64(len(code)) {
			return nil
		}
		part := code[offset:min(uint64(len(code)), offset+partBytes)]
		return [][]byte{encodePart(Place{after.Log, after.Number + 1}, uint64(len(code)), offset, part)}
	}
	return encodeEntries(codes, messageBytesMax)
}

// keepAll makes durable what the machine wants to be so.
func (s *Spread) keepAll(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case a := <-s.keeps:
			if a.kind == doKeep {
				err := s.log.do(ctx, func() error { return s.log.keep(a.keep) })
				s.put(event{kind: evKept, keep: a.keep, ok: err == nil}, 0)
				continue
			}
			err := s.log.adopt(ctx, a.keep, a.reason)
			if err != nil {
				s.say.Error("what was missed cannot be had, and forgetting all instead has failed: tried again", "err", err)
			} else {
				s.say.Warn("everything that is stored here is purged: what was missed cannot be had", "why", a.reason)
			}
			s.put(event{kind: evAdopted, keep: a.keep, ok: err == nil}, 0)
		}
	}
}

// eventsOf tells the machine what became of a batch.
func eventsOf(batch []*pending) (all []event) {
	own, landed, failed := event{kind: evOwn}, event{kind: evLanded}, event{kind: evFailed}
	for _, p := range batch {
		switch {
		case p.from == fromPeer && p.err == nil:
			landed.places = append(landed.places, p.entry.Place)
		case p.from == fromPeer:
			failed.places = append(failed.places, p.entry.Place)
		case p.from == fromHere && p.err == nil:
			own.places, own.codes = append(own.places, p.entry.Place), append(own.codes, p.code)
		}
	}
	for _, ev := range []event{own, landed, failed} {
		if len(ev.places) > 0 {
			all = append(all, ev)
		}
	}
	return all
}

// Release lifts the fence because an operator says so. What is known to be missed is
// made good by purging all that is stored.
func (s *Spread) Release() error {
	if fenced, _, _ := s.FenceState(); !fenced {
		return errors.New("the node is not fenced")
	}
	s.put(event{kind: evRelease}, 0)
	return nil
}

// FenceState says whether the node is fenced, why and since when.
func (s *Spread) FenceState() (fenced bool, why string, since time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.machine.fenced, s.machine.why, s.machine.since
}

// Convergence returns how long the newest purges of this node took until they were in
// force everywhere: half of them, and 99 of 100; and how many are not yet.
func (s *Spread) Convergence() (half, most time.Duration, waiting int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.machine.took.quantile(0.5), s.machine.took.quantile(0.99), len(s.machine.offered)
}

// Position is a short form of how far this node is: two nodes with the same have
// applied the same.
func (s *Spread) Position() []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := fnv.New64a()
	for _, log := range s.machine.sortedLogs() {
		if n := s.machine.tracks[log].number; n > 0 {
			_, _ = fmt.Fprintf(h, "%x %d\n", log[:], n)
		}
	}
	return h.Sum(nil)
}
