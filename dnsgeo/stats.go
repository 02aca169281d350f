package dnsgeo

import (
	"sync/atomic"

	"github.com/miekg/dns"
)

// Stats is what the responder counts; admin reads it through main.
type Stats struct {
	Queries, Dropped, Truncated atomic.Uint64
	// Rereads of files of places, and those that failed.
	Rereads, RereadFailures atomic.Uint64
	Panics                  atomic.Uint64 // queries that met a bug
	Unsent                  atomic.Uint64 // answers that the system did not take
	Limits                  LimitStats
	// Connections of TCP that were accepted, and refused by a limit.
	Connections, ConnectionsRefused, AcceptFailures atomic.Uint64
}

// tally is what an answer is counted by.
type tally struct {
	zone    *zone
	qtype   uint16
	rcode   int
	country string // of the client, where the answer depended on it
}

func tallyOf(q *query, m *dns.Msg, f *finding) tally {
	return tally{zone: f.zone, qtype: q.qtype, rcode: m.Rcode, country: f.place.Country}
}

// at is the tally of the same answer to a client elsewhere.
func (t tally) at(p *Place) tally {
	t.country = p.Country
	return t
}

// count notes an answer.
func (r *Responder) count(_ *tally, truncated bool) {
	r.stats.Queries.Add(1)
	if truncated {
		r.stats.Truncated.Add(1)
	}
}

func (r *Responder) countOne(q *query, m *dns.Msg, f *finding) {
	t := tallyOf(q, m, f)
	r.count(&t, m.Truncated)
}
