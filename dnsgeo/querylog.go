package dnsgeo

// The query log: every so many a query, for looking into what resolvers ask. It
// tells of networks, never of single clients: what a resolver tells of its client
// is cut to what spreading uses.

import (
	"context"
	"log/slog"
	"net/netip"

	"github.com/miekg/dns"
)

// logRoom is how many lines may wait for the log's writer.
const logRoom = 256

// logged is a query that is to be logged.
type logged struct {
	name, qtype, rcode, via, zone, site, country string
	from                                         netip.Addr
	client                                       netip.Prefix
	scope                                        uint8
}

// due counts a query of the fast path, and tells whether it is one for the log,
// which the other path writes then.
func (r *Responder) due(s *snapshot) bool {
	every := s.zones.logEvery
	if every == 0 {
		return false
	}
	if r.logTurn.Load()%every == every-1 {
		return true
	}
	r.logTurn.Add(1)
	return false
}

// note takes one of every so many queries for the log, unless it is behind.
func (r *Responder) note(s *snapshot, q *query, m *dns.Msg, f *finding) {
	every := s.zones.logEvery
	if every == 0 || q.qtype == 0 || r.logTurn.Add(1)%every != 0 {
		return
	}
	line := logged{
		name: q.name, qtype: dns.Type(q.qtype).String(), rcode: dns.RcodeToString[m.Rcode], via: q.via.String(),
		country: f.place.Country, from: q.from, scope: f.scope,
	}
	if p, ok := q.edns.subnet.prefix(); ok {
		bits := spreadV6
		if p.Addr().Is4() {
			bits = spreadV4
		}
		line.client = netip.PrefixFrom(p.Addr(), min(p.Bits(), bits)).Masked()
	}
	if f.zone != nil {
		line.zone = f.zone.apex
	}
	if f.choice.site != nil {
		line.site = f.choice.site.Name
	}
	select {
	case r.logLines <- line:
	default:
		r.stats.LogDropped.Add(1)
	}
}

// writeLog writes what note took.
func (r *Responder) writeLog(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case l := <-r.logLines:
			attrs := []slog.Attr{
				slog.String("name", l.name), slog.String("type", l.qtype), slog.String("rcode", l.rcode),
				slog.String("via", l.via), slog.String("from", l.from.String()),
			}
			if l.client.IsValid() {
				attrs = append(attrs, slog.String("client", l.client.String()), slog.Int("scope", int(l.scope)))
			}
			for _, more := range [][2]string{{"zone", l.zone}, {"site", l.site}, {"country", l.country}} {
				if more[1] != "" {
					attrs = append(attrs, slog.String(more[0], more[1]))
				}
			}
			r.log.LogAttrs(ctx, slog.LevelInfo, "dns query", attrs...)
		}
	}
}
