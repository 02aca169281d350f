package main

// The metrics of what lies behind the engines: cache, store and origins.

import (
	"sync/atomic"

	"edgecdn/admin"
	"edgecdn/cache"
	"edgecdn/cache/store"
	"edgecdn/origin"
)

// Help of the metrics that both tiers have.
const (
	helpObjects  = "Stored objects, by tier and directory."
	helpBytes    = "Bytes in use, of edge_store_max_bytes, by tier and directory."
	helpMaxBytes = "Bytes that may be used, by tier and directory."
)

func (emit emitter) cache(s *cache.Stats) {
	emit.gauge("edge_cache_fills", "Fetches for the store under way.", float64(s.Fills.Load()))
	emit.gauge("edge_cache_fenced", "1 while what was stored before the fence is not used.", float64(s.Fenced.Load()))
	emit.gauge("edge_cache_purge_entries", "Names in the table of purges that are not swept yet.", float64(s.PurgeEntries.Load()))
	emit.gauge("edge_cache_common_names", "Names of hosts, prefixes and groups that so many stored responses share that hits look them up only when one of them was purged; 16384 at most.", float64(s.CommonNames.Load()))
	for i, kind := range cache.PurgeKinds {
		emit.counter("edge_cache_purges_total", "Purges applied, by kind.", s.Purges[i].Load(), admin.Label{Name: "kind", Value: kind})
	}
	emit.gauge("edge_cache_decodings", "Bodies being decoded for clients that do not take their coding.", float64(s.Decodings.Load()))
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
		{"edge_cache_fallbacks_total", "Answers of a route's fallback origin, where its own failed.", &s.Fallbacks},
		{"edge_cache_fallback_errors_total", "Times that the fallback origin failed, too.", &s.FallbackErrors},
		{"edge_cache_error_pages_total", "Pages sent where no origin answered.", &s.Pages},
		{"edge_cache_truncated_total", "Responses whose body broke off at the origin.", &s.Truncated},
		{"edge_cache_loops_total", "Requests refused because they had come through this node before.", &s.Loops},
		{"edge_cache_background_total", "Revalidations behind a stale answer.", &s.Background},
		{"edge_cache_stale_on_error_total", "Stale responses sent because the origin failed.", &s.StaleOnError},
		{"edge_cache_uncacheable_total", "Fetched responses that may not be stored.", &s.Uncacheable},
		{"edge_cache_hit_for_miss_total", "Requests not collapsed because the last response for them could not be stored.", &s.HitForMiss},
		{"edge_cache_groups_refused_total", "Responses not stored for having too many groups.", &s.GroupsRefused},
		{"edge_cache_sliced_total", "Responses that began to be kept in slices.", &s.Sliced},
		{"edge_cache_slices_void_total", "Responses in slices given up because a part was of another representation.", &s.SlicesVoid},
		{"edge_cache_variants_reset_total", "Targets whose variants were forgotten for being too many.", &s.VariantsReset},
		{"edge_cache_invalidated_total", "Targets and groups forgotten after an unsafe request (RFC 9111 4.4, RFC 9875 3).", &s.Invalidated},
		{"edge_cache_invalidation_groups_cut_total", "Answers to unsafe requests that named more than 256 groups, of which the first 256 were invalidated.", &s.InvalidGroupsCut},
		{"edge_cache_invalidations_shared_total", "Invalidations that met another in their place and hit more than they name.", &s.InvalidShared},
		{"edge_cache_fenced_found_total", "Requests that found a stored response behind the fence.", &s.FencedFound},
		{"edge_cache_purged_found_total", "Requests that found a stored response that is purged.", &s.PurgedFound},
		{"edge_cache_purges_full_total", "Waits of purges because the table was at its bound.", &s.PurgesFull},
		{"edge_cache_sweeps_total", "Passes over all that is stored, because of purges.", &s.Sweeps},
		{"edge_cache_sweeps_failed_total", "Such passes that did not get to the end; they are made again.", &s.SweepsFailed},
		{"edge_cache_swept_total", "Objects removed because they were purged, derived ones included.", &s.Swept},
		{"edge_cache_encoded_total", "Bodies encoded and stored beside the plain ones.", &s.Encoded},
		{"edge_cache_encoded_saved_bytes_total", "Bytes that encoded bodies are smaller by than the plain ones, once for each.", &s.EncodedSaved},
		{"edge_cache_encodings_vain_total", "Bodies that hardly got smaller by being encoded; they stay plain.", &s.EncodingsVain},
		{"edge_cache_encodings_dropped_total", "Bodies not encoded because too many were waiting.", &s.EncodingsDropped},
		{"edge_cache_encodings_failed_total", "Bodies whose encoding the store would not take or lost.", &s.EncodingsFailed},
		{"edge_cache_decodings_refused_total", "Requests passed through because too many bodies were being decoded.", &s.DecodingsRefused},
		{"edge_cache_decodings_failed_total", "Bodies to be decoded that were damaged or expanded beyond the bounds.", &s.DecodingsFailed},
		{"edge_cache_clients_gone_total", "Clients that went away before their response ended.", &s.ClientsDropped},
	} {
		emit.counter(c.name, c.help, c.count.Load())
	}
}

func (emit emitter) store(s store.Stats) {
	m := &s.Memory
	memory := []admin.Label{{Name: "tier", Value: "memory"}, {Name: "directory"}}
	emit.gauge("edge_store_objects", helpObjects, float64(m.Objects), memory...)
	emit.gauge("edge_store_bytes", helpBytes, float64(m.Used), memory...)
	emit.gauge("edge_store_max_bytes", helpMaxBytes, float64(m.Budget), memory...)
	emit.gauge("edge_store_memory_body_bytes", "Memory of bodies, outside of the Go heap, free parts included.", float64(m.Bodies))
	emit.gauge("edge_store_memory_free_bytes", "Of the memory of bodies, what is free for the next.", float64(m.Free))
	emit.gauge("edge_store_head_bytes", "Memory of headers of objects on disk.", float64(s.HeadBytes))
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
		{"edge_store_memory_duels_total", "Objects evicted from memory because ristretto gave them up.", m.Duels},
		{"edge_store_memory_full_total", "Fills and new headers refused because nothing could be evicted for them.", m.Full},
		{"edge_store_promotions_total", "Objects copied from disk to memory.", s.Promotions},
		{"edge_store_promoted_bytes_total", "Bytes of the objects copied from disk to memory.", s.PromotedBytes},
		{"edge_store_head_hits_total", "Hits on disk whose header was in memory.", s.HeadHits},
		{"edge_store_copies_total", "Objects copied from memory to disk.", s.OffersTaken},
		{"edge_store_copies_dropped_total", "Copies from memory to disk not made because too many were waiting.", s.OffersDropped},
		{"edge_store_copies_failed_total", "Copies from memory to disk that failed.", s.OffersFailed},
		{"edge_store_spills_total", "Fills that outgrew memory and went on to disk.", s.Spills},
		{"edge_store_not_admitted_total", "Large objects that the disk tier did not admit.", s.Refused},
		{"edge_store_outdated_kept_total", "Older objects that the disk tier failed to drop when memory got a newer one.", s.OutdatedKept},
	} {
		emit.counter(c.name, c.help, uint64(c.value))
	}
	emit.gauge("edge_store_copies_pending", "Copies from memory to disk that are waiting or under way.", float64(s.OffersPending))
	for _, dropped := range []struct {
		what  string
		value int64
	}{{"samples", m.SamplesDropped}, {"news", m.OpsDropped}, {"sets", m.SetsDropped}, {"victims", m.VictimsDropped}} {
		emit.counter("edge_store_policy_dropped_total", "What the eviction policy did not learn of because a queue was full; many make evictions less wise.",
			uint64(dropped.value), admin.Label{Name: "what", Value: dropped.what})
	}
}

func (emit emitter) disk(s store.DiskStats) {
	emit.gauge("edge_store_disk_buffered_bytes", "Memory of bodies on their way to disk.", float64(s.BufferedBytes))
	emit.gauge("edge_store_disk_filter_bytes", "Memory of the filters that tell a second request from a first.", float64(s.FilterBytes))
	emit.counter("edge_store_disk_buffers_full_total", "Writes refused because bodies on their way to disk held too much memory.", uint64(s.BuffersFull))
	for i := range s.Directories {
		emit.directory(&s.Directories[i])
	}
}

func (emit emitter) directory(d *store.DirectoryStats) {
	directory := admin.Label{Name: "directory", Value: d.Path}
	disk := []admin.Label{{Name: "tier", Value: "disk"}, directory}
	emit.gauge("edge_store_objects", helpObjects, float64(d.Objects), disk...)
	emit.gauge("edge_store_bytes", helpBytes, float64(d.BytesUsed), disk...)
	emit.gauge("edge_store_max_bytes", helpMaxBytes, float64(d.BytesMax), disk...)
	for _, state := range []string{"serving", "full", "broken"} {
		value := 0.0
		if d.State == state {
			value = 1
		}
		emit.gauge("edge_store_disk_state", "1 for the state that the directory is in: serving, full (no space left) or broken (the device fails).", value,
			directory, admin.Label{Name: "state", Value: state})
	}
	for _, g := range []struct {
		name, help string
		value      int64
	}{
		{"edge_store_disk_slices", "Slices of large objects.", int64(d.Slices)},
		{"edge_store_disk_segments", "Segment files.", int64(d.Segments)},
		{"edge_store_disk_pinned_bytes", "Bytes of segments that are evicted and still being read.", d.BytesPinned},
		{"edge_store_disk_index_bytes", "Memory of the index.", d.IndexBytes},
		{"edge_store_disk_backlog_bytes", "Bytes taken and not written yet.", d.BacklogBytes},
		{"edge_store_disk_open_files", "Segment files open.", d.OpenFiles},
	} {
		emit.gauge(g.name, g.help, float64(g.value), directory)
	}
	for _, c := range []struct {
		name, help string
		value      int64
	}{
		{"edge_store_disk_stored_total", "Objects stored on disk.", d.Stored},
		{"edge_store_disk_freshened_total", "Headers replaced on disk.", d.Freshened},
		{"edge_store_disk_written_bytes_total", "Bytes written to segment files.", d.BytesWritten},
		{"edge_store_disk_read_bytes_total", "Bytes of bodies read, verified or sent.", d.BytesRead},
		{"edge_store_disk_sent_bytes_total", "Bytes of bodies sent by sendfile.", d.BytesSent},
		{"edge_store_disk_over_rate_total", "Objects kept out by write_rate.", d.OverRate},
		{"edge_store_disk_first_requests_total", "Objects kept out until a second request.", d.FirstTimers},
		{"edge_store_disk_collisions_total", "Lookups that found another key's record.", d.Collisions},
		{"edge_store_disk_unreadable_total", "Objects forgotten because their header could not be understood.", d.Unprepared},
		{"edge_store_disk_removals_lost_total", "Removals not noted in the log because it took none for long.", d.RemovalsLost},
		{"edge_store_disk_segments_lost_total", "Segments given up because they could not be written or read.", d.SegmentsLost},
		{"edge_store_disk_segments_reclaimed_total", "Segments reclaimed.", d.Reclaimed},
		{"edge_store_disk_segments_torn_total", "Segments whose torn end was cut off at the start.", d.Torn},
		{"edge_store_disk_kept_total", "Objects that were hit twice and written again when their segment was reclaimed.", d.TakenBack},
		{"edge_store_disk_kept_bytes_total", "Bytes of the objects of edge_store_disk_kept_total.", d.TakenBackBytes},
		{"edge_store_disk_evictions_total", "Objects evicted from disk.", d.Evicted},
	} {
		emit.counter(c.name, c.help, uint64(c.value), directory)
	}
	for _, dropped := range []struct {
		reason string
		value  int64
	}{{"backlog", d.BacklogFull}, {"room", d.NoRoom}, {"index", d.IndexFull}} {
		emit.counter("edge_store_disk_dropped_total", "Objects dropped on their way to disk, by what was full.", uint64(dropped.value),
			directory, admin.Label{Name: "reason", Value: dropped.reason})
	}
	for _, failed := range []struct {
		operation string
		value     int64
	}{{"open", d.OpenErrors}, {"write", d.WriteErrors}, {"sync", d.SyncErrors}, {"read", d.ReadErrors}, {"checksum", d.ChecksumErrors}} {
		emit.counter("edge_store_disk_errors_total", "Failures of the device, by operation.", uint64(failed.value),
			directory, admin.Label{Name: "operation", Value: failed.operation})
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
	emit.retries(name, s)
}
