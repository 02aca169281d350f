package main

import (
	"sync/atomic"

	"edgecdn/admin"
	"edgecdn/dnsgeo"
)

func (emit emitter) dns(s *dnsgeo.Stats, connections int) {
	for _, c := range []struct {
		name, help string
		value      *atomic.Uint64
	}{
		{"edge_dns_queries_total", "Queries that were read, and answered or dropped by a limit.", &s.Queries},
		{"edge_dns_dropped_total", "Messages that no answer is due to: too short, or answers themselves.", &s.Dropped},
		{"edge_dns_truncated_total", "Answers cut so that they are fetched by TCP.", &s.Truncated},
		{"edge_dns_client_subnet_total", "Queries that told the client's network.", &s.Subnets},
		{"edge_dns_down_total", "Answers for names that had no node left, by the policy of the name.", &s.Down},
		{"edge_dns_connections_total", "Connections of TCP accepted.", &s.Connections},
		{"edge_dns_connections_refused_total", "Connections of TCP closed at once because a limit was met.", &s.ConnectionsRefused},
		{"edge_dns_accept_failures_total", "Connections that the system could not give us.", &s.AcceptFailures},
		{"edge_dns_panics_total", "Queries that met a bug and were not answered; the log has them.", &s.Panics},
		{"edge_dns_signatures_total", "DNSSEC signatures made.", &s.Signatures},
		{"edge_dns_unsent_total", "Answers that the system did not take.", &s.Unsent},
		{"edge_dns_overrun_total", "Queries over UDP lost because too many waited for answers that take longer, as names do that were not asked for before.", &s.Overrun},
		{"edge_dns_places_reread_total", "Times that maps and databases of places, or keys of zones, were read again.", &s.Rereads},
		{"edge_dns_places_reread_failures_total", "Changed maps and databases of places, or keys of zones, that could not be used.", &s.RereadFailures},
		{"edge_dns_log_dropped_total", "Lines of the query log dropped because its writer was behind.", &s.LogDropped},
		{"edge_dns_texts_refused_total", "TXT records of a while that were told by the cluster and left out, being wrong or too many.", &s.TextsRefused},
		{"edge_dns_limited_slipped_total", "Answers over the response limits that went out truncated.", &s.Limits.Slipped},
		{"edge_dns_limited_dropped_total", "Answers over the response limits that were dropped.", &s.Limits.Dropped},
		{"edge_dns_limited_unproven_total", "Answers that were sent to TCP because too many signatures were made for names that are made up.", &s.Limits.Unproven},
		{"edge_dns_limited_displaced_total", "Entries of the response limits that made room for others while they still counted.", &s.Limits.Displaced},
	} {
		emit.counter(c.name, c.help, c.value.Load())
	}
	emit.gauge("edge_dns_connections", "Connections of TCP that are open.", float64(connections))
	for _, z := range s.Zones() {
		for t := range z.Answers {
			for code := range z.Answers[t] {
				if n := z.Answers[t][code].Load(); n > 0 { // most combinations never happen
					emit.counter("edge_dns_answers_total", "Answers by zone (empty: none of ours), type and rcode.", n,
						admin.Label{Name: "zone", Value: z.Name}, admin.Label{Name: "type", Value: dnsgeo.TypeLabel(t)}, admin.Label{Name: "rcode", Value: dnsgeo.RcodeLabel(code)})
				}
			}
		}
	}
	for _, site := range s.Sites() {
		emit.counter("edge_dns_site_answers_total", "Answers whose first node is of this site.", site.Answers.Load(), admin.Label{Name: "site", Value: site.Name})
	}
	s.Countries(func(code string, n uint64) {
		emit.counter("edge_dns_country_answers_total", "Answers that stand for nodes, by the client's country (empty: not known).", n, admin.Label{Name: "country", Value: code})
	})
}
