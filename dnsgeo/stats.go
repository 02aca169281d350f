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
	Unsent                  atomic.Uint64 // answers that the system did not take
	Limits                  LimitStats
}

// count notes an answer.
func (r *Responder) count(_ *query, m *dns.Msg, _ *finding) {
	r.stats.Queries.Add(1)
	if m.Truncated {
		r.stats.Truncated.Add(1)
	}
}
