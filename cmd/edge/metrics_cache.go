package main

// The metrics of what lies behind the engines: cache, store and origins.

import (
	"sync/atomic"

	"edgecdn/admin"
	"edgecdn/cache"
	"edgecdn/cache/store"
	"edgecdn/origin"
)

func (emit emitter) cache(s *cache.Stats) {
	emit.gauge("edge_cache_fills", "Fetches for the store under way.", float64(s.Fills.Load()))
	for _, c := range []struct {
		name, help string
		count      *atomic.Uint64
	}{
		{"edge_cache_fills_refused_total", "Requests passed through because too many fetches for the store were under way.", &s.FillsRefused},
		{"edge_cache_stored_total", "Responses stored.", &s.Stored},
		{"edge_cache_freshened_total", "Stored responses freshened by a 304.", &s.Freshened},
		{"edge_cache_collapsed_total", "Requests that waited for another's fetch.", &s.Collapsed},
		{"edge_cache_store_errors_total", "Fetches that the store would not take or lost.", &s.StoreErrors},
		{"edge_cache_fetch_errors_total", "Fetches that ended without a response header.", &s.FetchErrors},
		{"edge_cache_truncated_total", "Responses whose body broke off at the origin.", &s.Truncated},
		{"edge_cache_loops_total", "Requests refused because they had come through this node before.", &s.Loops},
		{"edge_cache_background_total", "Revalidations behind a stale answer.", &s.Background},
		{"edge_cache_stale_on_error_total", "Stale responses sent because the origin failed.", &s.StaleOnError},
		{"edge_cache_uncacheable_total", "Fetched responses that may not be stored.", &s.Uncacheable},
		{"edge_cache_hit_for_miss_total", "Requests not collapsed because the last response for them could not be stored.", &s.HitForMiss},
		{"edge_cache_clients_gone_total", "Clients that went away before their response ended.", &s.ClientsDropped},
	} {
		emit.counter(c.name, c.help, c.count.Load())
	}
}

func (emit emitter) store(s store.Stats) {
	m := &s.Memory
	memory := admin.Label{Name: "tier", Value: "memory"}
	emit.gauge("edge_store_objects", "Stored objects, by tier and directory.", float64(m.Objects), memory)
	emit.gauge("edge_store_bytes", "Bytes in use, of edge_store_bytes_max.", float64(m.Used), memory)
	emit.gauge("edge_store_max_bytes", "Bytes that the tier may use.", float64(m.Budget), memory)
	emit.gauge("edge_store_memory_body_bytes", "Memory of bodies, outside of the Go heap, free parts included.", float64(m.Bodies))
	emit.gauge("edge_store_memory_free_bytes", "Of the memory of bodies, what is free for the next.", float64(m.Free))
	emit.gauge("edge_store_memory_fills", "Bodies that are being written to memory.", float64(m.Fills))
	for _, c := range []struct {
		name, help string
		value      int64
	}{
		{"edge_store_memory_hits_total", "Lookups in memory that found the object.", m.Hits},
		{"edge_store_memory_misses_total", "Lookups in memory that did not.", m.Misses},
		{"edge_store_memory_commits_total", "Objects stored in memory.", m.Commits},
		{"edge_store_memory_removes_total", "Objects removed from memory by name.", m.Removes},
		{"edge_store_memory_evictions_total", "Objects evicted from memory to make room.", m.Evictions},
		{"edge_store_memory_evicted_bytes_total", "Bytes of the bodies that were evicted from memory.", m.EvictedBytes},
		{"edge_store_memory_full_total", "Fills and new headers refused because nothing could be evicted for them.", m.Full},
		{"edge_store_promotions_total", "Objects copied from disk to memory.", s.Promotions},
		{"edge_store_copies_total", "Objects copied from memory to disk.", s.OffersTaken},
		{"edge_store_copies_dropped_total", "Copies from memory to disk not made because too many were waiting.", s.OffersDropped},
		{"edge_store_copies_failed_total", "Copies from memory to disk that failed.", s.OffersFailed},
		{"edge_store_spills_total", "Fills that outgrew memory and went on to disk.", s.Spills},
		{"edge_store_not_admitted_total", "Large objects that the disk tier did not admit.", s.Refused},
		{"edge_store_outdated_kept_total", "Older objects that the disk tier failed to drop when memory got a newer one.", s.OutdatedKept},
		{"edge_store_unreadable_total", "Objects on disk whose header could not be understood; they are removed.", s.Unprepared},
	} {
		emit.counter(c.name, c.help, uint64(c.value))
	}
	for _, dropped := range []struct {
		what  string
		value int64
	}{{"samples", m.SamplesDropped}, {"news", m.OpsDropped}, {"sets", m.SetsDropped}, {"victims", m.VictimsDropped}} {
		emit.counter("edge_store_policy_dropped_total", "What the eviction policy did not learn of because a queue was full; many make evictions less wise.",
			uint64(dropped.value), admin.Label{Name: "what", Value: dropped.what})
	}
}

func (emit emitter) origin(name string, s *origin.Stats) {
	label := admin.Label{Name: "origin", Value: name}
	emit.counter("edge_origin_requests_total", "Requests to origins.", s.Requests.Load(), label)
	for i := range s.Errors {
		// Most kinds never happen; they are left out.
		if n := s.Errors[i].Load(); n > 0 {
			emit.counter("edge_origin_errors_total", "Requests without a response and bodies that broke off, by kind (RFC 9209 2.3).", n,
				label, admin.Label{Name: "kind", Value: string(origin.Kinds[i])})
		}
	}
	emit.counter("edge_origin_canceled_total", "Requests to origins that were given up here.", s.Canceled.Load(), label)
	emit.counter("edge_origin_repeated_total", "Requests sent again because the origin had closed the connection that was kept.", s.Repeated.Load(), label)
	emit.seconds("edge_origin_header_seconds", "Time to the response's header, the wait for a connection included.",
		origin.LatencyBounds[:], s.HeaderTime.Buckets[:], s.HeaderTime.Sum.Load(), label)
	emit.gauge("edge_origin_active", "Requests under way.", float64(s.Active.Load()), label)
	emit.gauge("edge_origin_waiting", "Requests that have no connection yet.", float64(s.Waiting.Load()), label)
	emit.gauge("edge_origin_connections", "Connections open, idle ones included.", float64(s.ConnectionsOpen.Load()), label)
	emit.counter("edge_origin_connections_dialed_total", "Connections opened.", s.ConnectionsDialed.Load(), label)
	emit.counter("edge_origin_received_bytes_total", "Bytes received on connections, headers and TLS included.", s.BytesReceived.Load(), label)
	emit.counter("edge_origin_sent_bytes_total", "Bytes sent on connections, headers and TLS included.", s.BytesSent.Load(), label)
}
