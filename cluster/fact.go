package cluster

// Facts are what operators say of the cluster: few, small, and the same everywhere.

import (
	"errors"
	"time"
)

// FactKind says what a fact is about.
type FactKind uint8

// Kinds of facts. The numbers are on the wire.
const (
	// KindOut takes a node or a site out of answers to clients: key node/NAME or site/NAME.
	KindOut FactKind = iota + 1
	// KindTXT is a TXT record of our own DNS: key is its name, a space and what tells
	// it from others of that name, value the text.
	KindTXT
	// KindGone declares a node gone: nobody waits for it any more. Key is its name.
	KindGone
	// KindRevoked revokes a token of the admin listener: key is its SHA-256 in hexadecimal.
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
	FactsBytesMax     = 1 << 20 // of all of them
	FactKeyBytesMax   = 255
	FactValueBytesMax = 1 << 10
)

// ErrFacts says that no fact can be added.
var ErrFacts = errors.New("cluster: there are too many facts: take some back")

// OutNode is the key of KindOut for a node.
func OutNode(name string) string { return "node/" + name }

// OutSite is the key of KindOut for a site.
func OutSite(name string) string { return "site/" + name }
