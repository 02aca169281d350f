package dnsgeo

// Which nodes a client is given. The choice is a function of its arguments: the
// same at every responder that sees the same nodes. What has a memory (probes,
// shedding) is decided before.
//
//	sites      nearest first; those that operators prefer for the place before
//	each site  passes part of its clients on while it sheds
//	its nodes  in the order of a weighted rendezvous with the client's network
//	no node    what the name's policy says

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"math"
	"net/netip"
	"slices"

	"github.com/zeebo/xxh3"
)

// Clients are spread by networks of this many bits: a resolver cache that serves
// one network gets one answer.
const (
	spreadV4 = 24
	spreadV6 = 56
)

// choice is what pick returns.
type choice struct {
	nodes    []int        // in fleet.nodes, best first
	fallback []netip.Addr // instead of nodes, by policy
	down     bool         // no node could be in the answer: the policy spoke
	// spread is how many bits of the client's network the choice depends on,
	// beyond its place.
	spread uint8
	site   *SiteStats // of the first node
}

// Reason is a step of a choice, for people.
type Reason struct {
	Subject string `json:"subject"` // "site fra", "node fra-1", "policy"
	Text    string `json:"text"`
}

// reasons collects them where somebody wants to know.
type reasons struct{ list []Reason }

func (r *reasons) add(subject, format string, args ...any) {
	if r != nil {
		r.list = append(r.list, Reason{subject, fmt.Sprintf(format, args...)})
	}
}

// spreadKey is the client's network as the rendezvous sees it, and its length.
func spreadKey(client netip.Prefix) (key uint64, bits uint8) {
	most := spreadV6
	if client.Addr().Is4() {
		most = spreadV4
	}
	bits = uint8(min(client.Bits(), most))
	masked, err := client.Addr().Prefix(int(bits))
	if err != nil {
		return 0, 0
	}
	a := masked.Addr().As16()
	return xxh3.Hash(a[:]), bits
}

// draw is a number in (0,1) that a client's network and a name always have.
func draw(key, hash uint64) float64 {
	var b [16]byte
	binary.LittleEndian.PutUint64(b[:], key)
	binary.LittleEndian.PutUint64(b[8:], hash)
	return (float64(xxh3.Hash(b[:])>>11) + 0.5) / (1 << 53)
}

// ranked is a site with its place in the order for a client.
type ranked struct {
	site     int
	override int     // 0 for the first that operators prefer
	near     float64 // more is nearer
	known    bool    // it is a distance
}

// pick chooses the nodes that a client at a place is answered with.
func pick(place *Place, client netip.Prefix, f *fleet, d *dynamic, why *reasons) choice {
	var c choice
	key, bits := spreadKey(client)
	var few [16]ranked
	order := rank(few[:0], place, key, f, d, why)
	if len(order) > 1 && !order[1].known {
		c.spread = bits
	}
	sites, passed := 0, false
	for round := range 2 { // in the second, sites that shed take whom they passed on
		for _, r := range order {
			if len(c.nodes) >= d.answers || sites >= d.answerSites {
				break
			}
			s := &f.sites[r.site]
			if !s.usable {
				continue
			}
			sheds := s.shed > 0 && draw(key, s.hash)*100 < float64(s.shed)
			if s.shed > 0 && len(order) > 1 {
				c.spread = bits
			}
			if sheds != (round == 1) {
				if round == 0 {
					passed = true
					why.add("site "+s.name, "sheds %d%% of its clients, this network among them", s.shed)
				}
				continue
			}
			c.take(f, r.site, key, bits, d.answers, why)
			sites++
		}
		if !passed || len(c.nodes) > 0 {
			break
		}
	}
	if len(c.nodes) == 0 {
		c.whenDown(f, d, order, why)
	}
	if len(c.nodes) > 0 {
		c.site = f.sites[f.nodes[c.nodes[0]].site].stats
	}
	return c
}

// rank puts the sites of a name in the order of a client.
func rank(order []ranked, place *Place, key uint64, f *fleet, d *dynamic, why *reasons) []ranked {
	var at vector
	placed := place.HasPoint
	if placed {
		at = place.Point.vector() // which takes a while
	} else if i := slices.IndexFunc(f.sites, func(s site) bool { return s.name == place.Site }); i >= 0 {
		at, placed = f.sites[i].at, f.sites[i].placed
	}
	for i := range f.sites {
		s := &f.sites[i]
		if !d.has(s.name) {
			continue
		}
		r := ranked{site: i, override: len(place.Prefer)}
		if n := slices.Index(place.Prefer, s.name); n >= 0 {
			r.override = n
		}
		if placed && s.placed {
			r.near, r.known = at.dot(s.at), true
		} else { // every site of which this is not known is as good, behind the others
			r.near = draw(key, s.hash) - 2
		}
		order = append(order, r)
	}
	slices.SortStableFunc(order, func(a, b ranked) int {
		return cmp.Or(cmp.Compare(a.override, b.override), cmp.Compare(b.near, a.near), cmp.Compare(a.site, b.site))
	})
	if why != nil {
		for i, r := range order {
			s := &f.sites[r.site]
			text := "how far away is not known: by the client's network"
			if r.known {
				text = fmt.Sprintf("%d km away", at.kilometres(s.at))
			}
			if r.override < len(place.Prefer) {
				text += ", preferred for " + place.PreferBy
			}
			why.add("site "+s.name, "number %d: %s", i+1, text)
		}
	}
	return order
}

// take adds nodes of a site until the answer is full.
func (c *choice) take(f *fleet, site int, key uint64, bits uint8, answers int, why *reasons) {
	type scored struct {
		node  int
		score float64
	}
	var few [16]scored
	found := few[:0]
	for _, i := range f.sites[site].nodes {
		m := &f.nodes[i]
		if m.away != "" {
			why.add("node "+m.Name, "not in answers: %s", m.away)
			continue
		}
		// Weighted rendezvous: each node is first for its share of networks, and
		// one that leaves moves its own clients alone.
		found = append(found, scored{i, -float64(m.alive) / math.Log(draw(key, m.hash))})
	}
	if len(found) > 1 {
		c.spread = bits
	}
	slices.SortStableFunc(found, func(a, b scored) int { return cmp.Compare(b.score, a.score) })
	for _, s := range found {
		m := &f.nodes[s.node]
		if len(c.nodes) >= answers {
			why.add("node "+m.Name, "could be in the answer, which is full")
			continue
		}
		c.nodes = append(c.nodes, s.node)
		why.add("node "+m.Name, "number %d of the answer", len(c.nodes))
	}
}

// whenDown follows the name's policy: no node may be in the answer.
func (c *choice) whenDown(f *fleet, d *dynamic, order []ranked, why *reasons) {
	c.down = true
	for _, r := range order {
		for _, i := range f.sites[r.site].nodes {
			why.add("node "+f.nodes[i].Name, "not in answers: %s", f.nodes[i].away)
		}
	}
	why.add("policy", "no node is left: %s", d.whenDown)
	switch d.whenDown {
	case "fallback":
		c.fallback = d.fallback
		return
	case "nodata":
		return
	}
	last := f.last[d.name]
	for _, r := range order {
		for _, i := range f.sites[r.site].nodes {
			m := &f.nodes[i]
			if m.Away == AwayOut || d.whenDown == "last" && !slices.Contains(last, m.Name) {
				continue
			}
			if len(c.nodes) < d.answers {
				c.nodes = append(c.nodes, i)
			}
		}
	}
}
