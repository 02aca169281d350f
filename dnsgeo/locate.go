package dnsgeo

// What operators ask: which nodes would this client be given, and why.

import (
	"fmt"

	"github.com/miekg/dns"
)

// Location is what a client at an address is answered with, and why.
type Location struct {
	Address   string   `json:"address"`
	Place     Place    `json:"place"`
	Network   string   `json:"network"` // that the place is so for
	Name      string   `json:"name"`
	Scope     int      `json:"scope"` // of an answer to a query with this network
	TTL       int      `json:"ttl"`
	Addresses []string `json:"addresses"`
	Records   []string `json:"records"` // of all types, as they would be answered
	Down      bool     `json:"down"`    // no node could be in the answer: the name's policy spoke
	Reasons   []Reason `json:"reasons"`
}

// Locate tells what a client is answered with for a name that stands for nodes;
// with "" the first of them. The client is an address or a network.
func (r *Responder) Locate(client, name string) (*Location, error) {
	network, err := parseNetwork(client)
	if err != nil {
		return nil, fmt.Errorf("%q is neither an address nor a network: write one such as 192.0.2.1 or 192.0.2.0/24", client)
	}
	s := r.snap.Load()
	d, err := s.zones.dynamic(name)
	if err != nil {
		return nil, err
	}
	place, where := s.zones.places.locate(network.Addr())
	why := new(reasons)
	c := pick(&place, network, s.fleet, d, why)
	out := &Location{
		Address: client, Place: place, Network: where.Masked().String(), Name: d.name, TTL: int(d.ttl),
		Scope: max(where.Bits(), int(c.spread)), Down: c.down, Reasons: why.list, Addresses: []string{}, Records: []string{},
	}
	for _, qtype := range []uint16{dns.TypeA, dns.TypeAAAA, dns.TypeHTTPS} {
		if !d.gives(qtype) {
			continue
		}
		for _, rr := range s.fleet.records(nil, d, &c, d.name, qtype) {
			out.Records = append(out.Records, rr.String())
		}
	}
	v4, v6 := s.fleet.addresses(&c)
	for _, a := range append(v4, v6...) {
		out.Addresses = append(out.Addresses, a.String())
	}
	return out, nil
}

// dynamic finds a name that stands for nodes, wildcards included.
func (z *zones) dynamic(name string) (*dynamic, error) {
	if len(z.names) == 0 {
		return nil, fmt.Errorf("no name stands for nodes: list one under dynamic of a zone")
	}
	if name == "" {
		return z.names[0], nil
	}
	name = canonical(name)
	if zone := z.find(name); zone != nil {
		if o, _ := zone.lookup(name, dns.TypeA); o != nil && o.dynamic != nil {
			return o.dynamic, nil
		}
	}
	return nil, fmt.Errorf("%s does not stand for nodes: those that do are listed under dynamic of a zone", name)
}
