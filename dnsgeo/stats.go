package dnsgeo

// What is counted. Labels take values from bounded sets: configured zones, a few
// types and rcodes, sites of nodes, codes of countries.

import (
	"slices"
	"sync"
	"sync/atomic"

	"github.com/miekg/dns"
)

// Stats is what the responder counts; admin reads it through main.
type Stats struct {
	Queries, Dropped, Truncated atomic.Uint64
	// Rereads of files of places, and those that failed.
	Rereads, RereadFailures atomic.Uint64
	Signatures              atomic.Uint64 // that were made
	Panics                  atomic.Uint64 // queries that met a bug
	Unsent                  atomic.Uint64 // answers that the system did not take
	Overrun                 atomic.Uint64 // queries lost because too many wait for answers that take long
	Limits                  LimitStats
	// Connections of TCP that were accepted, and refused by a limit.
	Connections, ConnectionsRefused, AcceptFailures atomic.Uint64
	// Subnets are queries that told the client's network, Down answers for names
	// that had no node left.
	Subnets, Down atomic.Uint64
	LogDropped    atomic.Uint64 // lines of the query log that found no room
	TextsRefused  atomic.Uint64 // TXT records of other nodes that were wrong or too many

	countries [26*26 + 1]atomic.Uint64
	nowhere   ZoneStats // queries for no zone of ours

	mu    sync.Mutex
	zones map[string]*ZoneStats
	sites map[string]*SiteStats
}

// ZoneStats are the answers of a zone by type and rcode; "" is of no zone.
type ZoneStats struct {
	Name    string
	Answers [len(typeNumbers) + 1][len(rcodeNumbers) + 1]atomic.Uint64
}

// SiteStats are the answers whose first node is of a site.
type SiteStats struct {
	Name    string
	Answers atomic.Uint64
}

// statsMax is how many zones and sites are told apart over all reloads.
const statsMax = 10_000

// typeNumbers and rcodeNumbers are what is told apart, beside "other".
var (
	typeNumbers = [...]uint16{
		dns.TypeA, dns.TypeAAAA, dns.TypeHTTPS, dns.TypeSVCB, dns.TypeNS, dns.TypeSOA, dns.TypeTXT, dns.TypeMX, dns.TypeCAA,
		dns.TypeCNAME, dns.TypeDS, dns.TypeDNSKEY, dns.TypeANY, dns.TypePTR, dns.TypeSRV,
	}
	rcodeNumbers = [...]int{
		dns.RcodeSuccess, dns.RcodeNameError, dns.RcodeRefused, dns.RcodeFormatError, dns.RcodeServerFailure,
		dns.RcodeNotImplemented, dns.RcodeBadVers, dns.RcodeBadCookie,
	}
)

// TypeLabel and RcodeLabel name what ZoneStats.Answers is indexed by.
func TypeLabel(i int) string {
	if i == len(typeNumbers) {
		return "other"
	}
	return dns.TypeToString[typeNumbers[i]]
}

// RcodeLabel is like TypeLabel.
func RcodeLabel(i int) string {
	switch {
	case i == len(rcodeNumbers):
		return "other"
	case rcodeNumbers[i] == dns.RcodeBadVers:
		return "BADVERS" // the library says BADSIG, which shares its number
	}
	return dns.RcodeToString[rcodeNumbers[i]]
}

func indexOf[N comparable](all []N, one N) int {
	if i := slices.Index(all, one); i >= 0 {
		return i
	}
	return len(all)
}

// Zones lists those that were answered for.
func (s *Stats) Zones() []*ZoneStats { return append(values(s, s.zonesNow), &s.nowhere) }

// Sites lists those that clients were given.
func (s *Stats) Sites() []*SiteStats { return values(s, s.sitesNow) }

func (s *Stats) zonesNow() map[string]*ZoneStats { return s.zones }
func (s *Stats) sitesNow() map[string]*SiteStats { return s.sites }

func values[V any](s *Stats, now func() map[string]*V) []*V {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []*V // in no order
	for _, one := range now() {
		all = append(all, one)
	}
	return all
}

// Countries calls with each country that clients were in, "" for those of whom it
// is not known.
func (s *Stats) Countries(each func(code string, answers uint64)) {
	for i := range s.countries {
		if n := s.countries[i].Load(); n > 0 {
			code := ""
			if i < 26*26 {
				code = string([]byte{'A' + byte(i/26), 'A' + byte(i%26)})
			}
			each(code, n)
		}
	}
}

func (s *Stats) zone(name string) *ZoneStats {
	return kept(s, &s.zones, name, func(name string) *ZoneStats { return &ZoneStats{Name: name} })
}

func (s *Stats) site(name string) *SiteStats {
	return kept(s, &s.sites, name, func(name string) *SiteStats { return &SiteStats{Name: name} })
}

// kept returns the entry of a name. Names over the bound are not told apart any more.
func kept[V any](s *Stats, all *map[string]*V, name string, fresh func(name string) *V) *V {
	s.mu.Lock()
	defer s.mu.Unlock()
	if *all == nil {
		*all = make(map[string]*V)
	}
	if (*all)[name] == nil {
		if len(*all) >= statsMax {
			name = "other"
		}
		if (*all)[name] == nil {
			(*all)[name] = fresh(name)
		}
	}
	return (*all)[name]
}

// tally is what an answer is counted by.
type tally struct {
	zone    *ZoneStats // nil for none of ours
	site    *SiteStats // of the first node
	qtype   int        // as ZoneStats.Answers has it, rcode too
	rcode   int
	country string // of the client, where the answer depended on it
	steered bool
	down    bool
}

func tallyOf(q *query, m *dns.Msg, f *finding) tally {
	t := tally{
		qtype: indexOf(typeNumbers[:], q.qtype), rcode: indexOf(rcodeNumbers[:], m.Rcode),
		country: f.place.Country, site: f.choice.site, down: f.choice.down, steered: f.steered,
	}
	if f.zone != nil {
		t.zone = f.zone.stats
	}
	return t
}

// at is the tally of the same answer to a client elsewhere.
func (t tally) at(p *Place) tally {
	t.country = p.Country
	return t
}

// count notes an answer.
func (r *Responder) count(t *tally, truncated, told bool) {
	s := &r.stats
	s.Queries.Add(1)
	if truncated {
		s.Truncated.Add(1)
	}
	if told {
		s.Subnets.Add(1)
	}
	zone := t.zone
	if zone == nil {
		zone = &s.nowhere
	}
	zone.Answers[t.qtype][t.rcode].Add(1)
	if !t.steered {
		return
	}
	if t.down {
		s.Down.Add(1)
	}
	if t.site != nil {
		t.site.Answers.Add(1)
	}
	i := 26 * 26
	if isCode(t.country) {
		i = int(t.country[0]-'A')*26 + int(t.country[1]-'A')
	}
	s.countries[i].Add(1)
}

func (r *Responder) countOne(q *query, m *dns.Msg, f *finding) {
	t := tallyOf(q, m, f)
	r.count(&t, m.Truncated, q.edns.subnet.present)
}
