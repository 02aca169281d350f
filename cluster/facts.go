package cluster

// The replicated map of facts. Each node has all of them; heartbeats carry a digest,
// and where two differ both send all they have, once a second at most and ever more
// seldom where it does not help. A fact that is taken back leaves a tombstone.
//
// Time is what decides between two, so it must not depend on good clocks: a node
// gives a fact a later time than what it replaces, whatever its clock says. What
// claims to be from more than a day ahead is refused: it could never be replaced
// by a node whose clock is right and that has not seen it.

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	factSkewMax      = 24 * time.Hour
	tombstoneKept    = 7 * 24 * time.Hour
	exchangeInterval = time.Second
	exchangeMax      = 30 * time.Second
	factsMagic       = "edge facts 1\n"
	factsFileMax     = 2 * FactsBytesMax
)

// Facts is the replicated map. The last writer by (time, node) wins.
type Facts struct {
	node    string
	path    string // "": nothing is kept
	stats   *Stats
	spread  func(entry []byte) // tells all others; never blocks
	watches map[FactKind][]func([]Fact)
	changed chan FactKind // a set of one bit a kind, see notify

	mu     sync.RWMutex
	all    map[factID]*Fact
	digest uint64 // the sum of all entries'
	bytes  int    // that they take on the wire
	dirty  bool
	kinds  map[FactKind]bool // that changed and whose watches have not been told
	peers  map[string]*exchange
	saving sync.Mutex // one writer of the file; before mu
}

type factID struct {
	kind FactKind
	key  string
}

// exchange is how comparing with a peer goes.
type exchange struct {
	ours, theirs uint64
	next         time.Time
	wait         time.Duration
}

func newFacts(node, path string, stats *Stats) *Facts {
	return &Facts{
		node: node, path: path, stats: stats, spread: func([]byte) {},
		watches: make(map[FactKind][]func([]Fact)), changed: make(chan FactKind, 1),
		all: make(map[factID]*Fact), kinds: make(map[FactKind]bool), peers: make(map[string]*exchange),
	}
}

// Set says a fact on all nodes. It is in force here, and on this node's disk, when
// Set returns; an error of the disk leaves it in force. expires may be zero.
func (f *Facts) Set(kind FactKind, key string, value []byte, expires time.Time) error {
	return f.say(&Fact{Kind: kind, Key: key, Value: slices.Clone(value), Expires: expires})
}

// Delete takes a fact back on all nodes. Its tombstone is there for no longer than
// the fact would have been: after that nobody takes it from a node that missed it.
func (f *Facts) Delete(kind FactKind, key string) error {
	old, ok := f.Get(kind, key)
	if !ok {
		return nil
	}
	until := time.Now().Add(tombstoneKept)
	if !old.Expires.IsZero() && old.Expires.Before(until) {
		until = old.Expires
	}
	return f.say(&Fact{Kind: kind, Key: key, Expires: until, deleted: true})
}

func (f *Facts) say(fact *Fact) error {
	if fact.Key == "" || len(fact.Key) > FactKeyBytesMax || len(fact.Value) > FactValueBytesMax {
		return fmt.Errorf("cluster: a fact has a key of 1 to %d bytes and a value of at most %d", FactKeyBytesMax, FactValueBytesMax)
	}
	f.mu.Lock()
	fact.Node, fact.Time = f.node, time.Now().Round(0)
	if old := f.all[factID{fact.Kind, fact.Key}]; old != nil && !fact.Time.After(old.Time) {
		fact.Time = old.Time.Add(1)
	}
	ok := f.put(fact)
	f.mu.Unlock()
	if !ok {
		return ErrFacts
	}
	f.spread(fact.encode(nil))
	f.notify()
	return f.save()
}

// Get returns a fact that is in force.
func (f *Facts) Get(kind FactKind, key string) (Fact, bool) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	if fact := f.all[factID{kind, key}]; fact != nil && fact.inForce(time.Now()) {
		return *fact, true
	}
	return Fact{}, false
}

// All returns the facts of a kind that are in force, by key.
func (f *Facts) All(kind FactKind) []Fact {
	f.mu.RLock()
	defer f.mu.RUnlock()
	now := time.Now()
	var facts []Fact
	for id, fact := range f.all {
		if id.kind == kind && fact.inForce(now) {
			facts = append(facts, *fact)
		}
	}
	slices.SortFunc(facts, func(a, b Fact) int { return strings.Compare(a.Key, b.Key) })
	return facts
}

// Watch has changed called with all facts of a kind: once when the cluster runs,
// and after each change, from one goroutine. It is called before Run.
func (f *Facts) Watch(kind FactKind, changed func([]Fact)) {
	f.watches[kind] = append(f.watches[kind], changed)
	f.kinds[kind] = true
}

// put takes a fact if it wins over what is there. f.mu is held.
func (f *Facts) put(fact *Fact) bool {
	id := factID{fact.Kind, fact.Key}
	old := f.all[id]
	if old != nil && fact.compare(old) <= 0 {
		return false
	}
	size := fact.size()
	if old != nil {
		size -= old.size()
	}
	if old == nil && len(f.all) >= FactsMax || size > 0 && f.bytes+size > FactsBytesMax {
		f.stats.FactsRefused.Add(1)
		return false
	}
	if old != nil {
		f.digest -= old.sum()
	}
	f.digest += fact.sum()
	f.bytes += size
	f.all[id] = fact
	f.dirty = true
	f.kinds[fact.Kind] = true
	return true
}

// merge takes what another node has sent, and says whether something of it was new.
func (f *Facts) merge(b []byte) (isNew bool, err error) {
	now := time.Now()
	f.mu.Lock()
	r := reader{b: b}
	for len(r.b) > 0 && r.err == nil {
		fact := decodeFact(&r)
		if r.err != nil {
			break
		}
		if fact.Time.After(now.Add(factSkewMax)) {
			f.stats.FactsRefused.Add(1)
			continue
		}
		if !fact.Expires.IsZero() && now.After(fact.Expires) {
			continue
		}
		isNew = f.put(fact) || isNew
	}
	f.mu.Unlock()
	if isNew {
		f.notify()
	}
	return isNew, r.err
}

// differs says whether all facts should be sent to a peer with that digest.
func (f *Facts) differs(peer string, theirs uint64, now time.Time) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if theirs == f.digest {
		delete(f.peers, peer)
		return false
	}
	e := f.peers[peer]
	if e == nil || e.ours != f.digest || e.theirs != theirs {
		if e == nil {
			if len(f.peers) >= MembersMax { // of nodes that are not there any more
				clear(f.peers)
			}
			e = &exchange{next: now}
			f.peers[peer] = e
		}
		e.ours, e.theirs, e.wait = f.digest, theirs, exchangeInterval
	}
	if now.Before(e.next) {
		return false
	}
	e.next = now.Add(e.wait)
	e.wait = min(2*e.wait, exchangeMax)
	return true
}

// parts returns all facts, encoded, in pieces that fit a frame.
func (f *Facts) parts() (parts [][]byte) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	var b []byte
	for _, fact := range f.all {
		if len(b) > MessageBytesMax/2 {
			parts = append(parts, b)
			b = nil
		}
		b = fact.encode(b)
	}
	if len(b) > 0 {
		parts = append(parts, b)
	}
	return parts
}

func (f *Facts) sum() uint64 {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.digest
}

// notify wakes run.
func (f *Facts) notify() {
	select {
	case f.changed <- 0:
	default:
	}
}

// run tells watches, keeps what others have sent, and forgets what has expired.
func (f *Facts) run(ctx context.Context, failed func(error)) {
	tick := time.NewTicker(exchangeInterval)
	defer tick.Stop()
	for {
		f.tell()
		f.expire(time.Now())
		select {
		case <-ctx.Done():
			if err := f.save(); err != nil {
				failed(err)
			}
			return
		case <-f.changed:
		case <-tick.C:
			if err := f.save(); err != nil {
				failed(err)
			}
		}
	}
}

func (f *Facts) tell() {
	f.mu.Lock()
	kinds := f.kinds
	f.kinds = make(map[FactKind]bool)
	f.mu.Unlock()
	for kind := range kinds {
		for _, watch := range f.watches[kind] {
			watch(f.All(kind))
		}
	}
}

func (f *Facts) expire(now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for id, fact := range f.all {
		if !fact.Expires.IsZero() && now.After(fact.Expires) {
			f.digest -= fact.sum()
			f.bytes -= fact.size()
			delete(f.all, id)
			f.dirty = true
			f.kinds[id.kind] = true
		}
	}
}

// save writes the file if something has changed.
func (f *Facts) save() error {
	f.saving.Lock()
	defer f.saving.Unlock()
	f.mu.Lock()
	if !f.dirty || f.path == "" {
		f.mu.Unlock()
		return nil
	}
	f.dirty = false
	b := []byte(factsMagic)
	for _, fact := range f.all {
		b = fact.encode(b)
	}
	f.mu.Unlock()
	sum := sha256.Sum256(b)
	if err := writeWhole(f.path, append(b, sum[:]...)); err != nil {
		f.mu.Lock()
		f.dirty = true
		f.mu.Unlock()
		return fmt.Errorf("cluster: facts are in force but not on the disk: %w", err)
	}
	return nil
}

// load reads the file. A damaged one is an error: a revoked token must not come
// back because a disk is bad; where the others are, it may be removed.
func (f *Facts) load() error {
	info, err := os.Stat(f.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil && info.Size() > factsFileMax {
		err = fmt.Errorf("%d bytes are too many", info.Size())
	}
	var b []byte
	if err == nil {
		b, err = os.ReadFile(f.path)
	}
	if err == nil {
		var ok bool
		n := len(b) - sha256.Size
		if n < 0 {
			err = errShort
		} else if sum := sha256.Sum256(b[:n]); !bytes.Equal(sum[:], b[n:]) {
			err = errors.New("its checksum is wrong")
		} else if b, ok = bytes.CutPrefix(b[:n], []byte(factsMagic)); !ok {
			err = errors.New("it is of another version")
		}
	}
	if err == nil {
		_, err = f.merge(b)
	}
	if err != nil {
		return fmt.Errorf("cluster: %s: %w: remove it, and the node asks the others for it", filepath.Clean(f.path), err)
	}
	f.dirty = false
	return nil
}

func (fact *Fact) inForce(now time.Time) bool {
	return !fact.deleted && (fact.Expires.IsZero() || now.Before(fact.Expires))
}

// compare says which of two of one key wins. Two that were said at once by one
// node cannot be; if they are, all nodes take the same.
func (fact *Fact) compare(other *Fact) int {
	return cmp.Or(fact.Time.Compare(other.Time), strings.Compare(fact.Node, other.Node), bytes.Compare(fact.encode(nil), other.encode(nil)))
}

func (fact *Fact) sum() uint64 {
	sum := sha256.Sum256(fact.encode(nil))
	return binary.BigEndian.Uint64(sum[:])
}

func (fact *Fact) size() int { return 22 + len(fact.Key) + len(fact.Node) + len(fact.Value) }

// encode adds: kind 1, deleted 1, time 8, expires 8 (0: never), key 1+n, node 1+n,
// value 2+n. Times are Unix nanoseconds.
func (fact *Fact) encode(b []byte) []byte {
	b = append(b, byte(fact.Kind), flag(fact.deleted))
	b = binary.BigEndian.AppendUint64(b, uint64(fact.Time.UnixNano()))
	var expires uint64
	if !fact.Expires.IsZero() {
		expires = uint64(fact.Expires.UnixNano())
	}
	b = binary.BigEndian.AppendUint64(b, expires)
	b = appendText(b, fact.Key, FactKeyBytesMax)
	b = appendText(b, fact.Node, nameBytesMax)
	b = binary.BigEndian.AppendUint16(b, uint16(len(fact.Value)))
	return append(b, fact.Value...)
}

func decodeFact(r *reader) *Fact {
	fact := &Fact{Kind: FactKind(r.byte()), deleted: r.byte() != 0, Time: time.Unix(0, int64(r.uint64()))}
	if expires := r.uint64(); expires != 0 {
		fact.Expires = time.Unix(0, int64(expires))
	}
	fact.Key, fact.Node = r.text(FactKeyBytesMax), r.text(nameBytesMax)
	n := int(r.uint16())
	if n > FactValueBytesMax {
		r.b, r.err = nil, fmt.Errorf("cluster: a fact of %d bytes", n)
		return fact
	}
	fact.Value = append([]byte(nil), r.take(n)...)
	return fact
}
