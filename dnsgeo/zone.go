package dnsgeo

// What a zone holds, and how the configuration becomes it.

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// zones is the configuration, compiled.
type zones struct {
	byApex map[string]*zone
	names  []*dynamic // of all zones
	places *places
	leave  Leave
	limits Limits
	// logEvery so many a query is logged; 0 is none.
	logEvery uint64
	guard    *guard
}

// zone is one of them. What is not in owners does not exist: empty non-terminals
// are there without sets (RFC 4592 2.2.2).
type zone struct {
	apex   string
	soa    *dns.SOA // as it is in answers
	denial *dns.SOA // as it is with what does not exist: its TTL is the shorter (RFC 2308 3)
	subnet bool     // answers are by the client's network where the resolver tells it
	owners map[string]*owner
	stats  *ZoneStats
	signer *signer // nil where it is not signed
	number uint32  // tells zones apart where answers are counted
}

// owner is a name that exists.
type owner struct {
	name    string
	sets    map[uint16][]dns.RR
	dynamic *dynamic // gives A, AAAA, HTTPS and SVCB
	cut     bool     // delegated: NS records below the apex
}

// has reports whether the name has records of a type, those of nodes included.
func (o *owner) has(qtype uint16) bool {
	return len(o.sets[qtype]) > 0 || o.dynamic != nil && o.dynamic.gives(qtype)
}

// types lists the types that exist at the name, in order, for denials.
func (o *owner) types() []uint16 {
	var all []uint16
	for t := range o.sets {
		all = append(all, t)
	}
	for _, t := range []uint16{dns.TypeA, dns.TypeAAAA, dns.TypeHTTPS, dns.TypeSVCB} {
		if o.dynamic != nil && o.dynamic.gives(t) {
			all = append(all, t)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// dynamic is a name that stands for nodes.
type dynamic struct {
	name        string // canonical
	zone        *zone
	ttl         uint32
	answers     int
	answerSites int
	sites       map[string]bool // nil for all
	whenDown    string
	fallback    []netip.Addr
	https       bool
}

func (d *dynamic) gives(qtype uint16) bool {
	switch qtype {
	case dns.TypeA, dns.TypeAAAA:
		return true
	case dns.TypeHTTPS, dns.TypeSVCB:
		return d.https
	}
	return false
}

// compile makes zones of a configuration with its defaults.
func compile(cfg *Config) (*zones, error) {
	z := &zones{byApex: make(map[string]*zone), leave: cfg.Leave, limits: cfg.Limits, logEvery: uint64(cfg.QueryLog.Every)}
	for i := range cfg.Zones {
		one, err := compileZone(&cfg.Zones[i])
		if err != nil {
			return nil, fmt.Errorf("zone %s: %w", cfg.Zones[i].Name, err)
		}
		one.number = uint32(i)
		z.byApex[one.apex] = one
		for _, o := range one.owners {
			if o.dynamic != nil {
				z.names = append(z.names, o.dynamic)
			}
		}
	}
	slices.SortFunc(z.names, func(a, b *dynamic) int { return strings.Compare(a.name, b.name) })
	var err error
	if z.guard, err = newGuard(cfg); err != nil {
		return nil, err
	}
	z.places, err = newPlaces(&cfg.Places)
	return z, err
}

func compileZone(cfg *Zone) (*zone, error) {
	z := &zone{apex: canonical(cfg.Name), subnet: *cfg.ClientSubnet, owners: make(map[string]*owner)}
	records, err := readRecords(cfg)
	if err != nil {
		return nil, err
	}
	for _, rr := range records {
		if err := z.add(rr); err != nil {
			return nil, err
		}
	}
	if err := z.completeApex(cfg); err != nil {
		return nil, err
	}
	if err := z.addKeys(&cfg.DNSSEC); err != nil {
		return nil, err
	}
	for i := range cfg.Dynamic {
		if err := z.addDynamic(&cfg.Dynamic[i]); err != nil {
			return nil, err
		}
	}
	for name := range z.owners {
		z.fillAbove(name)
	}
	return z, z.check()
}

// readRecords returns the records of the file and the lines.
func readRecords(cfg *Zone) ([]dns.RR, error) {
	var records []dns.RR
	if cfg.File != "" {
		f, err := os.Open(cfg.File)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		if records, err = parseZone(f, cfg); err != nil {
			return nil, err
		}
	}
	for _, line := range cfg.Records {
		rr, err := parseLine(cfg, line)
		if err != nil {
			return nil, err
		}
		records = append(records, rr)
	}
	return records, nil
}

// parseZone reads a zone file. Other files it may not include: what a zone is
// made of is in the configuration.
func parseZone(r io.Reader, cfg *Zone) ([]dns.RR, error) {
	bounded := &io.LimitedReader{R: r, N: fileMax + 1}
	p := dns.NewZoneParser(bounded, canonical(cfg.Name), cfg.File)
	p.SetIncludeAllowed(false)
	p.SetDefaultTTL(uint32(cfg.TTL / time.Second))
	var records []dns.RR
	for rr, ok := p.Next(); ok; rr, ok = p.Next() {
		if records = append(records, rr); len(records) > recordsMax {
			return nil, fmt.Errorf("%s has more than %d records", cfg.File, recordsMax)
		}
	}
	if bounded.N <= 0 {
		return nil, fmt.Errorf("%s is larger than %d MiB", cfg.File, fileMax>>20)
	}
	return records, p.Err()
}

// parseLine reads one record as it stands in a zone file.
func parseLine(cfg *Zone, line string) (dns.RR, error) {
	if strings.ContainsAny(line, "\r\n") || strings.HasPrefix(strings.TrimSpace(line), "$") {
		return nil, fmt.Errorf("%q is not one record", line)
	}
	p := dns.NewZoneParser(strings.NewReader(line+"\n"), canonical(cfg.Name), "")
	p.SetDefaultTTL(uint32(cfg.TTL / time.Second))
	rr, ok := p.Next()
	if err := p.Err(); err != nil {
		return nil, fmt.Errorf("%q is no record: %s", line, strings.TrimPrefix(err.Error(), "dns: "))
	}
	if !ok {
		return nil, fmt.Errorf(`%q is no record: write one as in a zone file, such as "www 300 IN A 192.0.2.1"`, line)
	}
	return rr, nil
}

// add takes a record in. Records of one set have one TTL (RFC 2181 5.2).
func (z *zone) add(rr dns.RR) error {
	h := rr.Header()
	name := canonical(h.Name)
	h.Name = name // owners are served as they are compared; questions keep their case
	switch {
	case !dns.IsSubDomain(z.apex, name):
		return fmt.Errorf("%s is not in the zone", name)
	case h.Class != dns.ClassINET:
		return fmt.Errorf("%s is of class %s: only IN is served", name, dns.ClassToString[h.Class])
	}
	switch h.Rrtype {
	case dns.TypeDNAME:
		return fmt.Errorf("%s: DNAME is not served", name)
	case dns.TypeRRSIG, dns.TypeNSEC, dns.TypeNSEC3, dns.TypeNSEC3PARAM, dns.TypeNXNAME:
		return fmt.Errorf("%s: records of type %s are made while answering: leave them out of the zone", name, dns.TypeToString[h.Rrtype])
	case dns.TypeOPT, dns.TypeANY, dns.TypeAXFR, dns.TypeIXFR, dns.TypeTSIG, dns.TypeTKEY:
		return fmt.Errorf("%s: type %s is no data", name, dns.TypeToString[h.Rrtype])
	case dns.TypeSOA:
		if name != z.apex || len(z.at(name).sets[dns.TypeSOA]) > 0 {
			return fmt.Errorf("%s: one SOA record is allowed, at the zone itself", name)
		}
	}
	o := z.at(name)
	set := o.sets[h.Rrtype]
	if !slices.ContainsFunc(set, func(have dns.RR) bool { return dns.IsDuplicate(have, rr) }) {
		set = append(set, rr)
	}
	low := min(set[0].Header().Ttl, h.Ttl)
	for _, one := range set {
		one.Header().Ttl = low
	}
	o.sets[h.Rrtype] = set
	o.cut = o.cut || h.Rrtype == dns.TypeNS && name != z.apex
	return nil
}

// at returns the owner with a name, a new one if there is none.
func (z *zone) at(name string) *owner {
	o := z.owners[name]
	if o == nil {
		o = &owner{name: name, sets: make(map[uint16][]dns.RR)}
		z.owners[name] = o
	}
	return o
}

// fillAbove makes the names between a name and the apex exist.
func (z *zone) fillAbove(name string) {
	for name != z.apex {
		name = parent(name)
		if z.owners[name] != nil {
			return
		}
		z.at(name)
	}
}

// parent is a name without its first label.
func parent(name string) string {
	i, end := dns.NextLabel(name, 0)
	if end {
		return "."
	}
	return name[i:]
}

// completeApex makes what the file and lines left out: NS and SOA.
func (z *zone) completeApex(cfg *Zone) error {
	apex := z.at(z.apex)
	head := func(t uint16) dns.RR_Header {
		return dns.RR_Header{Name: z.apex, Rrtype: t, Class: dns.ClassINET, Ttl: uint32(cfg.TTL / time.Second)}
	}
	for _, name := range cfg.NameServers {
		if err := z.add(&dns.NS{Hdr: head(dns.TypeNS), Ns: canonical(name)}); err != nil {
			return err
		}
	}
	servers := apex.sets[dns.TypeNS]
	if len(servers) == 0 {
		return errors.New(`has no NS record: name its servers under name_servers, such as ["ns1.example.com"]`)
	}
	if len(apex.sets[dns.TypeSOA]) == 0 {
		contact := "hostmaster." + z.apex
		if cfg.Contact != "" {
			contact = canonical(cfg.Contact)
		}
		// Nobody transfers the zone, so that the serial says nothing.
		soa := &dns.SOA{Hdr: head(dns.TypeSOA), Ns: servers[0].(*dns.NS).Ns, Mbox: contact,
			Serial: 1, Refresh: 7200, Retry: 1800, Expire: 1209600, Minttl: uint32(cfg.NegativeTTL / time.Second)}
		apex.sets[dns.TypeSOA] = []dns.RR{soa}
	}
	z.soa = apex.sets[dns.TypeSOA][0].(*dns.SOA)
	z.denial = dns.Copy(z.soa).(*dns.SOA)
	z.denial.Hdr.Ttl = min(z.soa.Hdr.Ttl, z.soa.Minttl)
	return nil
}

func (z *zone) addDynamic(cfg *Dynamic) error {
	name := z.apex
	if cfg.Name != "@" {
		name = canonical(cfg.Name + "." + z.apex)
	}
	if _, ok := dns.IsDomainName(name); !ok {
		return fmt.Errorf("%s is no domain name", name)
	}
	d := &dynamic{
		name: name, zone: z, ttl: uint32(cfg.TTL / time.Second),
		answers: cfg.Answers, answerSites: cfg.AnswerSites, whenDown: cfg.WhenDown, https: *cfg.HTTPS,
	}
	for _, site := range cfg.Sites {
		if d.sites == nil {
			d.sites = make(map[string]bool)
		}
		d.sites[site] = true
	}
	for _, text := range cfg.Fallback {
		a, err := netip.ParseAddr(text)
		if err != nil {
			return err
		}
		d.fallback = append(d.fallback, a.Unmap())
	}
	o := z.at(name)
	for _, t := range []uint16{dns.TypeA, dns.TypeAAAA, dns.TypeHTTPS, dns.TypeSVCB} {
		if len(o.sets[t]) > 0 && d.gives(t) {
			return fmt.Errorf("%s has %s records of its own and those of nodes: keep one of them", name, dns.TypeToString[t])
		}
	}
	o.dynamic = d
	return nil
}

// check finds what single records do not show.
func (z *zone) check() error {
	for name, o := range z.owners {
		if cnames := len(o.sets[dns.TypeCNAME]); cnames > 1 || cnames == 1 && (len(o.sets) > 1 || o.dynamic != nil) {
			return fmt.Errorf("%s is an alias (CNAME) and more than that: an alias has no other records (RFC 1034 3.6.2)", name)
		}
		if o.cut && o.dynamic != nil {
			return fmt.Errorf("%s is delegated by NS records and stands for nodes: keep one of them", name)
		}
		if len(o.sets[dns.TypeDS]) > 0 && !o.cut {
			return fmt.Errorf("%s has DS records, but no NS records that delegate it", name)
		}
	}
	return nil
}

// find returns the zone that a name is in: the longest of them.
func (z *zones) find(name string) *zone {
	for {
		if found := z.byApex[name]; found != nil {
			return found
		}
		if name == "." {
			return nil
		}
		name = parent(name)
	}
}
