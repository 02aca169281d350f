package dnsgeo

// Which name of which zone, and what kind of answer: the algorithm of RFC 1034
// 4.3.2 for a server that does not recurse, with wildcards by RFC 4592.

import (
	"github.com/miekg/dns"
)

// aliasesMax is how many CNAMEs of a zone are followed for one answer.
const aliasesMax = 8

// kind of an answer.
type kind uint8

const (
	kindRefused  kind = iota
	kindData          // records of the type that was asked for
	kindAlias         // a chain of CNAMEs that leaves the zone, or is too long
	kindNoData        // the name exists, not the type
	kindNXDomain      // the name does not exist
	kindReferral      // another's: delegated
)

// finding says how an answer came about: what signing and statistics need.
type finding struct {
	kind     kind
	zone     *zone
	owner    *owner // that it ends at: of a wildcard the "*" itself; nil for NXDOMAIN
	name     string // that was looked for last, after aliases
	wildcard bool   // some of the answer came from a wildcard
	choice   choice // for names that stand for nodes
	steered  bool   // it did choose
	network  uint8  // how many bits of the client's address the place is for
	cut      bool   // something that is additional was left out for size
	scope    uint8  // that the answer holds for
	place    Place
}

// answer returns what a query is answered with, complete but for packing.
func (s *snapshot) answer(q *query) (*dns.Msg, finding) {
	m := new(dns.Msg)
	m.SetReply(q.msg)
	f := finding{name: q.name}
	if q.msg.Question[0].Qclass != dns.ClassINET || q.qtype == dns.TypeAXFR || q.qtype == dns.TypeIXFR {
		return s.withOPT(q, m, dns.RcodeRefused, 0), f
	}
	f.zone = s.zones.find(q.name)
	if f.zone != nil && q.qtype == dns.TypeDS && q.name == f.zone.apex && q.name != "." {
		// The parent's to say, if it is ours (RFC 4035 3.1.4.1).
		if above := s.zones.find(parent(q.name)); above != nil {
			f.zone = above
		}
	}
	if f.zone == nil {
		return s.withOPT(q, m, dns.RcodeRefused, 0), f
	}
	s.resolve(q, m, &f)
	rcode := dns.RcodeSuccess
	switch f.kind {
	case kindNXDomain:
		rcode = dns.RcodeNameError
		m.Ns = append(m.Ns, f.zone.denial)
	case kindNoData:
		m.Ns = append(m.Ns, f.zone.denial)
	}
	if f.zone.signer != nil && q.edns.do {
		if (f.kind == kindNXDomain || f.wildcard) && !s.zones.guard.maySign(q) {
			m.Answer, m.Ns, m.Extra = nil, nil, nil
			m.Authoritative, m.Truncated = true, true
			return s.withOPT(q, m, dns.RcodeSuccess, 0), f
		}
		var err error
		if rcode, err = f.zone.secure(q, m, &f, rcode); err != nil {
			m.Answer, m.Ns, m.Extra = nil, nil, nil
			return s.withOPT(q, m, dns.RcodeServerFailure, 0), finding{zone: f.zone}
		}
	}
	m.Authoritative = f.kind != kindReferral || len(m.Answer) > 0
	return s.withOPT(q, m, rcode, f.scope), f
}

// resolve follows aliases inside the zone until there is an answer.
func (s *snapshot) resolve(q *query, m *dns.Msg, f *finding) {
	for range aliasesMax + 1 {
		o, wildcard := f.zone.lookup(f.name, q.qtype)
		o, wildcard = s.over(f.name, o, wildcard)
		f.owner = o
		f.wildcard = f.wildcard || wildcard
		switch {
		case o == nil:
			f.kind = kindNXDomain
			return
		case o.cut && !(q.qtype == dns.TypeDS && o.name == f.name):
			f.kind = kindReferral
			f.zone.refer(m, o)
			return
		}
		alias := o.sets[dns.TypeCNAME]
		if len(alias) == 0 || q.qtype == dns.TypeCNAME {
			s.records(q, m, f)
			return
		}
		f.kind = kindAlias
		m.Answer = append(m.Answer, renamed(alias, f.name)...)
		target := canonical(alias[0].(*dns.CNAME).Target)
		if q.qtype == dns.TypeANY || s.zones.find(target) != f.zone {
			return
		}
		f.name = target
	}
}

// lookup returns the owner that answers for a name: a delegation above it, the
// name itself, or a wildcard. nil is NXDOMAIN.
func (z *zone) lookup(name string, qtype uint16) (o *owner, wildcard bool) {
	// From the apex downwards, to meet a delegation first. A DS record belongs to
	// the parent's side of its cut.
	labels := dns.Split(name)
	encloser := z.owners[z.apex]
	for i := len(labels) - dns.CountLabel(z.apex) - 1; i >= 0; i-- {
		next := z.owners[name[labels[i]:]]
		if next == nil {
			o := z.owners[below("*", encloser.name)] // RFC 4592 3.3.1: the closest encloser's alone
			return o, o != nil
		}
		if next.cut {
			return next, false
		}
		encloser = next
	}
	return encloser, false
}

func below(label, name string) string {
	if name == "." {
		return label + "."
	}
	return label + "." + name
}

// records answers with what is at f.owner.
func (s *snapshot) records(q *query, m *dns.Msg, f *finding) {
	o := f.owner
	f.kind = kindData
	switch {
	case q.qtype == dns.TypeANY: // RFC 8482 4.2
		m.Answer = append(m.Answer, &dns.HINFO{
			Hdr: dns.RR_Header{Name: f.name, Rrtype: dns.TypeHINFO, Class: dns.ClassINET, Ttl: 3600}, Cpu: "RFC8482",
		})
	case f.zone.signer != nil && (q.qtype == dns.TypeNSEC || q.qtype == dns.TypeRRSIG):
		if err := f.zone.made(q, m, f); err != nil {
			f.kind = kindNoData
		}
	case o.dynamic != nil && o.dynamic.gives(q.qtype):
		before := len(m.Answer)
		s.steer(q, m, f)
		if len(m.Answer) == before {
			f.kind = kindNoData
		}
	case len(o.sets[q.qtype]) > 0:
		m.Answer = append(m.Answer, renamed(o.sets[q.qtype], f.name)...)
	default:
		f.kind = kindNoData
	}
}

// renamed returns the records under the name that was asked for, which differs
// where they are a wildcard's.
func renamed(set []dns.RR, name string) []dns.RR {
	if set[0].Header().Name == name {
		return set
	}
	out := make([]dns.RR, len(set))
	for i, rr := range set {
		out[i] = dns.Copy(rr)
		out[i].Header().Name = name
	}
	return out
}

// refer writes a referral: NS in the authority section, with the addresses of
// servers that have their names in this zone (RFC 9471: all of them).
func (z *zone) refer(m *dns.Msg, cut *owner) {
	m.Ns = append(m.Ns, cut.sets[dns.TypeNS]...)
	for _, rr := range cut.sets[dns.TypeNS] {
		if o := z.owners[canonical(rr.(*dns.NS).Ns)]; o != nil {
			m.Extra = append(m.Extra, o.sets[dns.TypeA]...)
			m.Extra = append(m.Extra, o.sets[dns.TypeAAAA]...)
		}
	}
}
