package cluster

// What is known of a node.

import (
	"net/netip"
	"time"
)

// Member is a node as this one sees it. It is a copy, but its slices are shared:
// they must not be written to.
type Member struct {
	Name    string
	Site    string    // where nodes are: a point of presence
	Place   Place     // of the site or the node
	Public  []Address // where clients reach it
	Weight  int       // its share of clients; 0: none
	Version string    // of the program
	Boot    uint64    // counts the starts of a node; 0: not known
	Self    bool

	Address netip.AddrPort // of its cluster listener
	Status  Status
	Since   time.Time // when Status began, on this node's clock
	Phase   Phase
	Gone    bool // declared gone by an operator, see KindGone
	Out     bool // taken out by an operator, itself or its site, see KindOut

	// Stream says whether there is a stream to it that has been heard from in the
	// last 2 seconds. Heard is when that was; zero: never.
	Stream bool
	Heard  time.Time
	// Report is the last that arrived, ReportAt when, zero: none since it started.
	Report   Report
	ReportAt time.Time
	// Skew is by how much its clock is ahead of ours, without the way's delay.
	Skew time.Duration
	// Agreed is when it last told that it had the same facts as this node; zero: not
	// since it is known. What was said here before is in force there.
	Agreed time.Time
}

// Place on the globe, in degrees.
type Place struct {
	// Lat is the latitude, -90 to 90, north of the equator above 0.
	Lat float64 `yaml:"lat"`
	// Lon is the longitude, -180 to 180, east of Greenwich above 0.
	Lon float64 `yaml:"lon"`
	// Known is false where nobody has said.
	Known bool `yaml:"-"`
}

// Address is one public address and what it speaks there; a port of 0 is not spoken.
type Address struct {
	IP    netip.Addr
	HTTP  uint16
	HTTPS uint16
	H3    uint16
}

// Status is how a member is doing, as far as membership is concerned.
type Status uint8

// Alive: gossip says so, and the stream does, or has not had the time to. Suspect:
// gossip says alive, but the stream is gone or has been silent for 2 seconds. Dead:
// gossip has given it up. Left: it said goodbye.
const (
	Alive Status = iota + 1
	Suspect
	Dead
	Left
)

func (s Status) String() string { return name(int(s), "unknown", "alive", "suspect", "dead", "left") }

// Phase is what a node does with clients.
type Phase uint8

// Joining: has not compared with anybody. Fenced: serves nothing that was stored
// before a gap. Serving. Draining: sends its clients elsewhere.
const (
	Joining Phase = iota + 1
	Fenced
	Serving
	Draining
	leaving // about to end: what is dead after it has left
)

func (p Phase) String() string {
	return name(int(p), "unknown", "joining", "fenced", "serving", "draining", "leaving")
}

func name(i int, names ...string) string {
	if i < 0 || i >= len(names) {
		i = 0
	}
	return names[i]
}

// Report is how a node is doing; each heartbeat carries one.
type Report struct {
	// Load in units of Capacity: what it does, and could do.
	Load, Capacity float64
	// Cold: its store has little of what it would usually have.
	Cold bool
	// Probes are its own looks at its listeners. At most 32.
	Probes []Probe
	// Position is another room's, opaque here, at most 16 KiB.
	Position []byte
}

// Probe is a node's look at one of its own listeners.
type Probe struct {
	Name string // such as https 192.0.2.1:443; at most 64 bytes
	OK   bool
}
