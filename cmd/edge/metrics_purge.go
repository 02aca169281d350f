package main

import (
	"sync/atomic"

	"edgecdn/admin"
	"edgecdn/purge"
)

func (emit emitter) purges(s *purge.Stats, spread *purge.Spread) {
	emit.spread(s, spread)
	for _, g := range []struct {
		name, help string
		value      *atomic.Int64
	}{
		{"edge_purge_pending", "Purges on their way to the log.", &s.Pending},
		{"edge_purge_entries", "Purges in the log.", &s.Entries},
		{"edge_purge_entries_unswept", "Purges in the log that the sweep has not passed.", &s.EntriesUnswept},
		{"edge_purge_log_bytes", "Size of the log.", &s.Bytes},
		{"edge_purge_watchers", "Watchers of purges.", &s.Watchers},
	} {
		emit.gauge(g.name, g.help, float64(g.value.Load()))
	}
	for _, c := range []struct {
		name, help string
		value      *atomic.Uint64
	}{
		{"edge_purge_logged_total", "Purges written to the log.", &s.Purges},
		{"edge_purge_not_durable_total", "Purges applied, but not written to the log: a restart may undo them.", &s.NotDurable},
		{"edge_purge_repeated_total", "Purges answered with the one that their idempotency key had made before.", &s.Repeated},
		{"edge_purge_replayed_total", "Purges applied again at the start.", &s.Replayed},
		{"edge_purge_syncs_total", "Writes to the log that were synced; each holds many purges.", &s.Syncs},
		{"edge_purge_errors_total", "Writes to the log and reads of receipts that failed.", &s.Errors},
		{"edge_purge_log_lost_total", "Logs found lost or damaged at the start, upon which everything was purged.", &s.Lost},
		{"edge_purge_log_torn_bytes_total", "Bytes cut off the end of the log at the start: purges that were never acknowledged.", &s.TornBytes},
		{"edge_purge_receipts_early_total", "Receipts that left before their time because the log was long.", &s.ReceiptsEarly},
		{"edge_purge_keys_dropped_total", "Idempotency keys forgotten before their time because there were too many.", &s.KeysDropped},
		{"edge_purge_watchers_lost_total", "Watchers dropped because they did not keep up.", &s.WatchersLost},
		{"edge_purge_watchers_refused_total", "Watchers refused because there were too many.", &s.WatchersFull},
	} {
		emit.counter(c.name, c.help, c.value.Load())
	}
	for _, refused := range []struct {
		reason string
		value  *atomic.Uint64
	}{{"busy", &s.Busy}, {"full", &s.Full}, {"invalid", &s.Invalid}, {"key_reused", &s.KeysReused}} {
		emit.counter("edge_purge_refused_total", "Purges refused, by reason; nothing was done.", refused.value.Load(),
			admin.Label{Name: "reason", Value: refused.reason})
	}
}

// spread emits how purges get to other nodes, and theirs to this one.
func (emit emitter) spread(s *purge.Stats, spread *purge.Spread) {
	half, most, waiting := spread.Convergence()
	for percent, took := range map[string]float64{"50": half.Seconds(), "99": most.Seconds()} {
		emit.gauge("edge_purge_convergence_seconds", "How long the last 1024 purges made here took to be in force on all nodes.", took, admin.Label{Name: "percentile", Value: percent})
	}
	emit.gauge("edge_purge_converging", "Purges made here that are not known to be in force on all nodes.", float64(waiting))
	emit.gauge("edge_purge_fenced", "1 while nothing that was stored before is served, because purges may have been missed.", float64(s.Fenced.Load()))
	for _, c := range []struct {
		name, help string
		value      *atomic.Uint64
	}{
		{"edge_purge_converged_total", "Purges made here that came to be in force on all nodes.", &s.Converged},
		{"edge_purge_spread_offered_total", "Purges sent to other nodes.", &s.Offered},
		{"edge_purge_spread_received_total", "Purges of other nodes that were new.", &s.Received},
		{"edge_purge_spread_known_total", "Purges of other nodes that came again.", &s.Known},
		{"edge_purge_spread_asked_total", "Times that missing purges were asked for.", &s.Asked},
		{"edge_purge_spread_served_total", "Messages with purges sent to nodes that asked.", &s.Served},
		{"edge_purge_spread_overflowed_total", "Purges of other nodes left for later because too many were on their way to the log.", &s.Overflowed},
		{"edge_purge_spread_unsent_total", "Messages that no stream would take.", &s.Unsent},
		{"edge_purge_spread_newer_total", "Messages of a newer version, left unread.", &s.Newer},
		{"edge_purge_spread_damaged_total", "Messages that could not be read.", &s.Damaged},
		{"edge_purge_spread_dropped_total", "Messages dropped because too many waited.", &s.InboxFull},
		{"edge_purge_logs_refused_total", "Logs of nodes not followed, or forgotten early, because there were too many.", &s.LogsRefused},
		{"edge_purge_fences_total", "Times that the fence was raised.", &s.Fences},
		{"edge_purge_adopted_total", "Times that all that is stored was purged because what was missed cannot be had.", &s.Adopted},
	} {
		emit.counter(c.name, c.help, c.value.Load())
	}
}
