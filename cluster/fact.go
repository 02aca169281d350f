package cluster

// Facts are what operators say of the cluster: few, small, and the same everywhere.

import (
	"errors"
	"slices"
	"strings"
	"sync"
	"time"
)

// FactKind says what a fact is about.
type FactKind uint8

// Kinds of facts.
const (
	// KindOut takes a node or a site out of answers to clients: key node/NAME or site/NAME.
	KindOut FactKind = iota + 1
	// KindTXT is a TXT record of our own DNS: key is the name, value the text.
	KindTXT
	// KindGone declares a node gone: nobody waits for it any more. Key is its name.
	KindGone
	// KindRevoked revokes a token of the admin listener: key is the SHA-256 in hexadecimal.
	KindRevoked
)

// Fact is one of them.
type Fact struct {
	Kind    FactKind
	Key     string
	Value   []byte
	Time    time.Time // when it was said, by the clock of Node, never before what it replaces
	Node    string    // where it was said
	Expires time.Time // zero: never
	deleted bool      // a tombstone
}

// Bounds of facts.
const (
	FactsMax          = 4096
	FactKeyBytesMax   = 255
	FactValueBytesMax = 1 << 10
)

// ErrFacts says that no fact can be added.
var ErrFacts = errors.New("cluster: there are too many facts: delete some")

// Facts is the replicated map. The last writer by (time, node) wins.
type Facts struct {
	node string

	mu  sync.RWMutex
	all map[factID]*Fact
}

type factID struct {
	kind FactKind
	key  string
}

func newFacts(node string) *Facts {
	return &Facts{node: node, all: make(map[factID]*Fact)}
}

// Set says a fact on all nodes. It is in force here, and on this node's disk, when
// Set returns. expires may be zero.
func (f *Facts) Set(kind FactKind, key string, value []byte, expires time.Time) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.all[factID{kind, key}] = &Fact{Kind: kind, Key: key, Value: value, Time: time.Now(), Node: f.node, Expires: expires}
	return nil
}

// Delete takes a fact back on all nodes.
func (f *Facts) Delete(kind FactKind, key string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.all, factID{kind, key})
	return nil
}

// Get returns a fact that is in force.
func (f *Facts) Get(kind FactKind, key string) (Fact, bool) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	if fact := f.all[factID{kind, key}]; fact != nil && !fact.deleted {
		return *fact, true
	}
	return Fact{}, false
}

// All returns the facts of a kind that are in force, by key.
func (f *Facts) All(kind FactKind) []Fact {
	f.mu.RLock()
	defer f.mu.RUnlock()
	var facts []Fact
	for id, fact := range f.all {
		if id.kind == kind && !fact.deleted {
			facts = append(facts, *fact)
		}
	}
	slices.SortFunc(facts, func(a, b Fact) int { return strings.Compare(a.Key, b.Key) })
	return facts
}

// Watch has changed called with all facts of a kind: once when the cluster runs,
// and after each change, from one goroutine. It is called before Run.
func (f *Facts) Watch(kind FactKind, changed func([]Fact)) {}
