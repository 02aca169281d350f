package dnsgeo

// dnssec.go signs RRsets as they are answered (RFC 4034, algorithm 13 of RFC 6605).
// What is answered is few sets, whatever their number of clients, so that signatures
// are made once, kept by what they sign, and made anew at half of their life.

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"
)

// DNSSEC says how a zone is signed.
type DNSSEC struct {
	// Keys is the file with the zone's keys, as made by edge dns key new, the same
	// at every responder. It is read again when it changes. Default: not signed.
	Keys string `yaml:"keys"`
	// Validity of signatures. They are renewed at half of it, so that it should be
	// more than twice the longest TTL. Default 72h.
	Validity time.Duration `yaml:"validity"`
}

const (
	defaultValidity = 72 * time.Hour
	validityMin     = time.Hour
	validityMax     = 30 * 24 * time.Hour
	// clockSlack is how far behind ours a validator's clock may be.
	clockSlack = time.Hour
	keyTTL     = 3600

	// How many signatures are kept: of sets that zones and nodes have, and of those
	// that exist because somebody asks. The latter never push out the former.
	signaturesKept        = 32 << 10
	signaturesPassingKept = 16 << 10
)

func (d DNSSEC) validate(report func(path, problem string)) {
	if d.Validity != 0 && (d.Validity < validityMin || d.Validity > validityMax) {
		report("validity", fmt.Sprintf("%v is out of bounds: choose from %v to %v", d.Validity, validityMin, validityMax))
	}
	if d.Keys == "" && d.Validity != 0 {
		report("keys", "is missing: make the file with edge dns key new, or leave validity out")
	}
}

// signer signs for one zone with the keys of one reading of its file.
type signer struct {
	apex     string // canonical
	keys     []*Key
	active   *Key
	validity time.Duration
	kept     *signatures
	file     stamp // that the keys are from
}

func newSigner(zone string, keys []*Key, validity time.Duration, kept *signatures) *signer {
	if validity == 0 {
		validity = defaultValidity
	}
	s := &signer{apex: dns.CanonicalName(zone), keys: keys, validity: validity, kept: kept}
	for _, k := range keys {
		if k.Signs {
			s.active = k
		}
	}
	return s
}

// apexSet returns the records at the apex that the keys are: DNSKEY, and for the
// parent to follow (RFC 8078) CDS and CDNSKEY. nil for all other types.
func (s *signer) apexSet(qtype uint16) []dns.RR {
	var set []dns.RR
	for _, k := range s.keys {
		header := dns.RR_Header{Name: s.apex, Rrtype: qtype, Class: dns.ClassINET, Ttl: keyTTL}
		switch qtype {
		case dns.TypeDNSKEY:
			rr := *k.public
			rr.Hdr = header
			set = append(set, &rr)
		case dns.TypeCDNSKEY:
			rr := k.public.ToCDNSKEY()
			rr.Hdr = header
			set = append(set, rr)
		case dns.TypeCDS:
			rr := k.public.ToDS(dns.SHA256).ToCDS()
			rr.Hdr = header
			set = append(set, rr)
		}
	}
	return set
}

// sign returns the signature over a set. passing says that its owner is a name that
// the client made up, below a wildcard or not there at all.
func (s *signer) sign(set []dns.RR, passing bool, now time.Time) (*dns.RRSIG, error) {
	id, err := s.identify(set)
	if err != nil {
		return nil, fmt.Errorf("dns: sign %s %s: %w", set[0].Header().Name, dns.TypeToString[set[0].Header().Rrtype], err)
	}
	if rr := s.kept.find(id, passing, now); rr != nil {
		return rr, nil
	}
	rr, renew, err := s.make(set, id, now)
	if err != nil {
		return nil, fmt.Errorf("dns: sign %s %s: %w", set[0].Header().Name, dns.TypeToString[set[0].Header().Rrtype], err)
	}
	s.kept.keep(id, passing, signature{rr, renew})
	return rr, nil
}

func (s *signer) make(set []dns.RR, id signatureID, now time.Time) (*dns.RRSIG, time.Time, error) {
	// Up to an eighth less, by the set: not all are due at once.
	life := s.validity - s.validity/8*time.Duration(id[0])/256
	rr := &dns.RRSIG{
		Algorithm: dns.ECDSAP256SHA256, KeyTag: s.active.tag, SignerName: s.apex,
		Inception:  uint32(now.Add(-clockSlack).Unix()),
		Expiration: uint32(now.Add(life).Unix()),
	}
	s.kept.made.Add(1)
	if err := rr.Sign(s.active.private, set); err != nil {
		return nil, time.Time{}, err
	}
	rr.Hdr.Name, rr.Hdr.Ttl = dns.CanonicalName(set[0].Header().Name), set[0].Header().Ttl
	return rr, renewal(rr), nil
}

// renewal is when a signature of ours is made anew: at half of its life.
func renewal(rr *dns.RRSIG) time.Time {
	made := int64(rr.Inception) + int64(clockSlack/time.Second)
	return time.Unix(made+(int64(rr.Expiration)-made)/2, 0)
}

// identify names a set by its content, validity and key.
func (s *signer) identify(set []dns.RR) (signatureID, error) {
	records := make([][]byte, len(set))
	for i, rr := range set {
		buf := make([]byte, dns.Len(rr))
		rr = dns.Copy(rr) // PackRR writes the length to it, and others read it now
		n, err := dns.PackRR(rr, buf, 0, nil, false)
		if err != nil {
			return signatureID{}, err
		}
		records[i] = buf[:n]
	}
	slices.SortFunc(records, bytes.Compare)
	h := sha256.New()
	h.Write(binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint16(nil, s.active.tag), uint64(s.validity)))
	h.Write([]byte(s.active.public.PublicKey))
	for _, record := range records {
		// The owner's case is not part of what is signed, and a client may choose it.
		lowerOwner(record)
		h.Write(binary.BigEndian.AppendUint32(nil, uint32(len(record))))
		h.Write(record)
	}
	return signatureID(h.Sum(nil)), nil
}

// lowerOwner lowers the case of the name that a record in wire form begins with.
func lowerOwner(record []byte) {
	for at := 0; at < len(record) && record[at] != 0; {
		end := at + 1 + int(record[at])
		for at++; at < end && at < len(record); at++ {
			if c := record[at]; c >= 'A' && c <= 'Z' {
				record[at] = c + 'a' - 'A'
			}
		}
	}
}

type signatureID [sha256.Size]byte

type signature struct {
	rr    *dns.RRSIG
	renew time.Time
}

// signatures keeps signatures of all zones, over reloads too: what they sign is in
// their names. Of each kind there are two generations; when the young one is full
// it becomes the old one, which is forgotten then.
type signatures struct {
	mu      sync.RWMutex
	own     generations
	passing generations

	made *atomic.Uint64
}

type generations struct {
	young, old map[signatureID]signature
	most       int // of one generation
}

func newSignatures() *signatures {
	return &signatures{made: new(atomic.Uint64), own: generations{most: signaturesKept / 2}, passing: generations{most: signaturesPassingKept / 2}}
}

func (c *signatures) kind(passing bool) *generations {
	if passing {
		return &c.passing
	}
	return &c.own
}

// find returns a signature in the first half of its life, or nil.
func (c *signatures) find(id signatureID, passing bool, now time.Time) *dns.RRSIG {
	c.mu.RLock()
	g := c.kind(passing)
	found, young := g.young[id]
	if !young {
		found = g.old[id]
	}
	c.mu.RUnlock()
	if found.rr == nil || !now.Before(found.renew) {
		return nil
	}
	if !young {
		c.keep(id, passing, found)
	}
	return found.rr
}

func (c *signatures) keep(id signatureID, passing bool, s signature) {
	c.mu.Lock()
	defer c.mu.Unlock()
	g := c.kind(passing)
	if len(g.young) >= g.most {
		g.old, g.young = g.young, nil
	}
	if g.young == nil {
		g.young = map[signatureID]signature{}
	}
	g.young[id] = s
}

// signSets returns the records with the signature of each set behind it. unsigned
// says of which sets the zone has no authority: delegations and what is below.
func (s *signer) signSets(records []dns.RR, passing, unsigned func(owner string, rrtype uint16) bool, now time.Time) ([]dns.RR, error) {
	signed := make([]dns.RR, 0, 2*len(records))
	for len(records) > 0 {
		h := records[0].Header()
		n := 1
		for n < len(records) && records[n].Header().Rrtype == h.Rrtype && strings.EqualFold(records[n].Header().Name, h.Name) {
			n++
		}
		set := records[:n]
		records = records[n:]
		signed = append(signed, set...)
		owner := dns.CanonicalName(h.Name)
		if h.Rrtype == dns.TypeRRSIG || !dns.IsSubDomain(s.apex, owner) || unsigned(owner, h.Rrtype) {
			continue
		}
		rr, err := s.sign(set, passing(owner, h.Rrtype), now)
		if err != nil {
			return nil, err
		}
		own := *rr
		own.Hdr.Name = h.Name // as the set has it: the client may have chosen the case
		signed = append(signed, &own)
	}
	return signed, nil
}
