package dnsgeo

// The nodes as answers need them: sorted, so that every responder has the same
// order, with sites, and with what keeps each out of the answers.

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/zeebo/xxh3"
)

// fleet is never changed once it is made.
type fleet struct {
	input []Node   // that it was made of, sorted
	nodes []member // by name
	sites []site   // by name
	// last are the nodes that were good last, for each name whose policy wants to
	// know.
	last map[string][]string
}

// member is a node of the fleet.
type member struct {
	*Node
	site  int    // in fleet.sites
	away  string // why it is not in answers; "" if it may be
	hash  uint64 // of its name
	v4    []netip.Addr
	v6    []netip.Addr
	alive int // weight that shedding leaves it
}

// site is where nodes are.
type site struct {
	name   string
	at     vector
	placed bool
	nodes  []int // in fleet.nodes
	hash   uint64
	shed   int // percent of its clients that go on to the next site
	usable bool
	stats  *SiteStats
}

// newFleet makes a fleet of nodes; before is the one that it follows.
func newFleet(z *zones, nodes []Node, before *fleet) *fleet {
	f := &fleet{input: sortedNodes(nodes), last: make(map[string][]string)}
	leave := z.leave
	if !slices.ContainsFunc(f.input, func(n Node) bool { return !n.Cold && awayOf(&n, &leave) == "" }) {
		// Where nobody is warm, as in a new cluster, somebody has to begin.
		cold := false
		leave.Cold = &cold
	}
	for i := range f.input {
		n := &f.input[i]
		m := member{Node: n, away: awayOf(n, &leave), hash: xxh3.HashString(n.Name)}
		for _, a := range n.Addresses {
			if a = a.Unmap(); a.Is4() {
				m.v4 = append(m.v4, a)
			} else if a.Is6() {
				m.v6 = append(m.v6, a.WithZone(""))
			}
		}
		// Never 0: where all shed everything somebody must serve.
		m.alive = max(1, cmp.Or(n.Weight, 100)*(100-min(max(n.Shed, 0), 100)))
		m.site = f.siteOf(n)
		f.nodes = append(f.nodes, m)
	}
	for i := range f.sites {
		f.sites[i].nodes, f.sites[i].shed = nil, 100
	}
	for i := range f.nodes {
		m := &f.nodes[i]
		s := &f.sites[m.site]
		s.nodes = append(s.nodes, i)
		if m.away == "" {
			s.usable = true
			// Its nodes help each other first: the site sheds what all of them do.
			s.shed = min(s.shed, min(max(m.Shed, 0), 100))
		}
	}
	f.remember(z, before)
	return f
}

func sortedNodes(nodes []Node) []Node {
	nodes = slices.Clone(nodes)
	slices.SortFunc(nodes, func(a, b Node) int { return strings.Compare(a.Name, b.Name) })
	nodes = slices.CompactFunc(nodes, func(a, b Node) bool { return a.Name == b.Name })
	return nodes[:min(len(nodes), nodesMax)]
}

// siteOf returns the index of a node's site, which is made if it is new. Where
// nodes of a site say different places the first of them counts.
func (f *fleet) siteOf(n *Node) int {
	name := cmp.Or(n.Site, n.Name)
	for i := range f.sites {
		if f.sites[i].name == name {
			if s := &f.sites[i]; !s.placed && n.Place != nil {
				s.at, s.placed = n.Place.vector(), true
			}
			return i
		}
	}
	var at vector
	if n.Place != nil {
		at = n.Place.vector()
	}
	f.sites = append(f.sites, site{name: name, at: at, placed: n.Place != nil, hash: xxh3.HashString("site " + name)})
	return len(f.sites) - 1
}

// awayOf says what keeps a node out of the answers.
func awayOf(n *Node, leave *Leave) string {
	switch {
	case n.Away != "":
		return n.Away
	case n.Cold && (leave.Cold == nil || *leave.Cold):
		return awayCold
	case leave.Lag > 0 && n.Lag > leave.Lag:
		return fmt.Sprintf("%s, more than %v", awayLag, leave.Lag)
	}
	return ""
}

// remember notes for each name which nodes are good; a name that has none keeps
// those that were.
func (f *fleet) remember(z *zones, before *fleet) {
	for _, d := range z.names {
		if d.whenDown != "last" {
			continue
		}
		var good []string
		for i := range f.nodes {
			if m := &f.nodes[i]; m.away == "" && d.has(f.sites[m.site].name) {
				good = append(good, m.Name)
			}
		}
		if len(good) == 0 && before != nil {
			good = before.last[d.name]
		}
		f.last[d.name] = good
	}
}

func (d *dynamic) has(site string) bool { return d.sites == nil || d.sites[site] }

func samePlace(a, b *Point) bool { return a == b || a != nil && b != nil && *a == *b }

// differs reports whether another fleet has to be made.
func (f *fleet) differs(z *zones, nodes []Node) bool {
	nodes = sortedNodes(nodes)
	return !slices.EqualFunc(f.input, nodes, func(a, b Node) bool {
		// Loads and lags move all the time; what they lead to counts.
		same := a.Name == b.Name && a.Site == b.Site && samePlace(a.Place, b.Place) && slices.Equal(a.Addresses, b.Addresses) &&
			a.Port == b.Port && a.HTTPS == b.HTTPS && a.H2 == b.H2 && a.H3 == b.H3 && a.Weight == b.Weight && a.Shed == b.Shed
		return same && awayOf(&a, &z.leave) == awayOf(&b, &z.leave)
	})
}
