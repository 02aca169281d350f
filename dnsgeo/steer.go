package dnsgeo

// Answers that stand for nodes: A and AAAA, and HTTPS and SVCB (RFC 9460) by the
// same choice.

import (
	"net/netip"

	"github.com/miekg/dns"
)

// steer answers for a name that stands for nodes.
func (s *snapshot) steer(q *query, m *dns.Msg, f *finding) {
	client, told := q.client(f.zone)
	place, prefix := s.zones.places.locate(client.Addr())
	f.place = place
	f.choice = pick(&place, client, s.fleet, f.owner.dynamic, nil)
	f.steered, f.network = true, uint8(prefix.Bits())
	if told {
		f.scope = max(f.network, f.choice.spread)
	}
	m.Answer = s.fleet.records(m.Answer, f.owner.dynamic, &f.choice, f.name, q.qtype)
}

// client is whom the answer is for: the network that the resolver tells, or the
// resolver itself.
func (q *query) client(z *zone) (network netip.Prefix, told bool) {
	if p, ok := q.edns.subnet.prefix(); ok && z.subnet {
		return p, true
	}
	return netip.PrefixFrom(q.from, q.from.BitLen()), false
}

// records appends what a choice means for a type.
func (f *fleet) records(out []dns.RR, d *dynamic, c *choice, name string, qtype uint16) []dns.RR {
	head := dns.RR_Header{Name: name, Rrtype: qtype, Class: dns.ClassINET, Ttl: d.ttl}
	v4, v6 := f.addresses(c)
	switch qtype {
	case dns.TypeA:
		for _, a := range v4 {
			out = append(out, &dns.A{Hdr: head, A: a.AsSlice()})
		}
	case dns.TypeAAAA:
		for _, a := range v6 {
			out = append(out, &dns.AAAA{Hdr: head, AAAA: a.AsSlice()})
		}
	case dns.TypeHTTPS, dns.TypeSVCB:
		svcb, ok := f.service(c, v4, v6)
		if !ok {
			return out
		}
		svcb.Hdr = head
		if qtype == dns.TypeSVCB {
			return append(out, &svcb)
		}
		return append(out, &dns.HTTPS{SVCB: svcb})
	}
	return out
}

// addresses are those of the chosen nodes, one of each family for each node: a
// client that tries the next address is to meet the next node.
func (f *fleet) addresses(c *choice) (v4, v6 []netip.Addr) {
	for _, a := range c.fallback {
		if a.Is4() {
			v4 = append(v4, a)
		} else {
			v6 = append(v6, a)
		}
	}
	for _, i := range c.nodes {
		if m := &f.nodes[i]; len(m.v4) > 0 {
			v4 = append(v4, m.v4[0])
		}
		if m := &f.nodes[i]; len(m.v6) > 0 {
			v6 = append(v6, m.v6[0])
		}
	}
	return v4, v6
}

// service says how the chosen nodes are spoken to. A client may take any of the
// addresses, so that only what all of them do is promised.
func (f *fleet) service(c *choice, v4, v6 []netip.Addr) (dns.SVCB, bool) {
	out := dns.SVCB{Priority: 1, Target: "."}
	if len(c.nodes) == 0 {
		return out, false
	}
	h2, h3, port := true, true, 0
	for _, i := range c.nodes {
		m := &f.nodes[i]
		if !m.HTTPS {
			return out, false
		}
		at := m.Port
		if at == 0 {
			at = 443
		}
		if port != 0 && at != port { // one record cannot say both
			return out, false
		}
		port = at
		h2, h3 = h2 && m.H2, h3 && m.H3
	}
	var alpn []string
	if h3 {
		alpn = append(alpn, "h3")
	}
	if h2 {
		alpn = append(alpn, "h2")
	}
	if alpn != nil {
		out.Value = append(out.Value, &dns.SVCBAlpn{Alpn: alpn})
	}
	if port != 443 {
		out.Value = append(out.Value, &dns.SVCBPort{Port: uint16(port)})
	}
	if len(v4) > 0 {
		hint := new(dns.SVCBIPv4Hint)
		for _, a := range v4 {
			hint.Hint = append(hint.Hint, a.AsSlice())
		}
		out.Value = append(out.Value, hint)
	}
	if len(v6) > 0 {
		hint := new(dns.SVCBIPv6Hint)
		for _, a := range v6 {
			hint.Hint = append(hint.Hint, a.AsSlice())
		}
		out.Value = append(out.Value, hint)
	}
	return out, true
}
