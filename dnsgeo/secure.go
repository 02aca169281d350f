package dnsgeo

// secure.go adds to an answer what proves it (RFC 4035 3.1): signatures behind
// sets, and for what is not there an NSEC record. Names below a wildcard are
// answered as if they were there by themselves, so that nothing has to be proven
// beside (RFC 9824 3.3).

import (
	"fmt"
	"maps"
	"slices"

	"github.com/miekg/dns"
)

// addKeys reads the zone's keys, if it is to be signed, and puts them at its apex.
func (z *zone) addKeys(cfg *DNSSEC) error {
	if cfg.Keys == "" {
		return nil
	}
	for _, qtype := range keyTypes {
		if len(z.owners[z.apex].sets[qtype]) > 0 {
			return fmt.Errorf("has %s records of its own beside the keys of %s: leave them out", dns.TypeToString[qtype], cfg.Keys)
		}
	}
	file := stampOf(cfg.Keys)
	keys, err := ReadKeys(cfg.Keys, z.apex)
	if err != nil {
		return err
	}
	z.signer = newSigner(z.apex, keys, cfg.Validity, nil)
	z.signer.file = file
	z.publish(z.owners[z.apex])
	return nil
}

// keyTypes are the types at the apex that the keys are.
var keyTypes = []uint16{dns.TypeDNSKEY, dns.TypeCDS, dns.TypeCDNSKEY}

func (z *zone) publish(apex *owner) {
	for _, qtype := range keyTypes {
		apex.sets[qtype] = z.signer.apexSet(qtype)
	}
}

// rekey reads the keys of zones again whose files have changed. It returns the
// stamps of files that cannot be used, which are not tried again as they are.
func (r *Responder) rekey(failed map[string]stamp) map[string]stamp {
	old := r.snap.Load().zones
	changed := map[string]*zone{}
	still := map[string]stamp{}
	for apex, z := range old.byApex {
		if z.signer == nil {
			continue
		}
		now := stampOf(z.signer.file.path)
		if now == z.signer.file {
			continue
		}
		if now == failed[apex] {
			still[apex] = now
			continue
		}
		keys, err := ReadKeys(now.path, apex)
		if err != nil {
			r.stats.RereadFailures.Add(1)
			r.log.Error("a zone is signed with the keys that it had: their file changed and cannot be used", "zone", apex, "err", err)
			still[apex] = now
			continue
		}
		changed[apex] = z.withKeys(keys, now)
		r.log.Info("a zone's keys were read again", "zone", apex, "keys", len(keys), "signs", changed[apex].signer.active.Tag())
	}
	if len(changed) == 0 {
		return still
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.snap.Load()
	next := *s.zones
	next.byApex = maps.Clone(next.byApex)
	for apex, z := range changed {
		if next.byApex[apex] != old.byApex[apex] { // a reload of the configuration came first
			continue
		}
		next.byApex[apex] = z
		r.stats.Rereads.Add(1)
	}
	r.snap.Store(&snapshot{zones: &next, fleet: s.fleet, texts: s.texts})
	return still
}

// withKeys is the zone with other keys; all else of it is shared.
func (z *zone) withKeys(keys []*Key, file stamp) *zone {
	next, apex := *z, *z.owners[z.apex]
	next.signer = newSigner(z.apex, keys, z.signer.validity, z.signer.kept)
	next.signer.file = file
	next.owners, apex.sets = maps.Clone(z.owners), maps.Clone(apex.sets)
	next.owners[z.apex] = &apex
	next.publish(&apex)
	return &next
}

// secure completes an answer for who wants proofs, and returns its rcode.
func (z *zone) secure(q *query, m *dns.Msg, f *finding, rcode int) (int, error) {
	switch f.kind {
	case kindNXDomain:
		m.Ns = append(m.Ns, denial(f.name, nil, z.denial.Hdr.Ttl))
		if !q.edns.co { // RFC 9824 3.2, 5: to others the name exists and has nothing
			rcode = dns.RcodeSuccess
		}
	case kindNoData:
		m.Ns = append(m.Ns, denial(f.name, f.owner.proves(q.qtype), z.denial.Hdr.Ttl))
	case kindReferral:
		if ds := f.owner.sets[dns.TypeDS]; len(ds) > 0 {
			m.Ns = append(m.Ns, ds...)
		} else {
			m.Ns = append(m.Ns, denial(f.owner.name, f.owner.proves(dns.TypeDS), z.denial.Hdr.Ttl))
		}
	}
	passing := func(owner string, _ uint16) bool { return z.owners[owner] == nil }
	unsigned := func(owner string, rrtype uint16) bool { return rrtype == dns.TypeNS && owner != z.apex }
	var err error
	if m.Answer, err = z.signer.signSets(m.Answer, passing, unsigned, q.now); err == nil {
		m.Ns, err = z.signer.signSets(m.Ns, passing, unsigned, q.now)
	}
	return rcode, err
}

// proves lists the types of a name for a proof that it has no qtype. What stands
// for nodes has a type for some clients and not for others.
func (o *owner) proves(qtype uint16) []uint16 {
	types := o.types()
	if o.cut { // RFC 4035 2.3: what is at a cut and not the delegation is not ours
		types = slices.DeleteFunc(types, func(t uint16) bool { return t != dns.TypeNS && t != dns.TypeDS })
	}
	types = slices.DeleteFunc(types, func(t uint16) bool { return t == qtype })
	if types == nil {
		types = []uint16{}
	}
	return types
}

// made answers for types that are made while answering: the NSEC record of a name,
// or the signature over it as the least that can be said of RRSIG (RFC 8482 4).
func (z *zone) made(q *query, m *dns.Msg, f *finding) error {
	nsec := denial(f.name, f.owner.proves(q.qtype), z.denial.Hdr.Ttl)
	if q.qtype == dns.TypeNSEC {
		m.Answer = append(m.Answer, nsec)
		return nil
	}
	rr, err := z.signer.sign([]dns.RR{nsec}, true, q.now)
	if err == nil {
		m.Answer = append(m.Answer, rr)
	}
	return err
}
