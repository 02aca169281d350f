package main

import (
	"sync/atomic"

	"edgecdn/admin"
	"edgecdn/cluster"
)

func (emit emitter) cluster(members []cluster.Member, s *cluster.Stats) {
	counts := make(map[cluster.Status]int)
	for _, m := range members {
		counts[m.Status]++
	}
	for _, status := range []cluster.Status{cluster.Alive, cluster.Suspect, cluster.Dead, cluster.Left} {
		emit.gauge("edge_cluster_members", "Nodes that this one knows, itself too, by how they are.", float64(counts[status]),
			admin.Label{Name: "status", Value: status.String()})
	}
	emit.gauge("edge_cluster_streams", "Streams to other nodes that are up.", float64(s.Streams.Load()))
	for _, x := range []struct {
		name, help string
		value      *atomic.Uint64
	}{
		{"edge_cluster_streams_opened_total", "Streams to other nodes that came up.", &s.StreamsOpened},
		{"edge_cluster_streams_silent_total", "Streams ended because nothing came for 2 seconds.", &s.StreamsSilent},
		{"edge_cluster_streams_refused_total", "Streams whose handshake failed: another secret, cluster or name.", &s.StreamsRefused},
		{"edge_cluster_frames_sent_total", "Frames sent on streams.", &s.FramesSent},
		{"edge_cluster_frames_received_total", "Frames received on streams.", &s.FramesReceived},
		{"edge_cluster_frames_dropped_total", "Frames lost because a queue was full or a stream broke.", &s.FramesDropped},
		{"edge_cluster_sent_bytes_total", "Bytes sent on streams.", &s.BytesSent},
		{"edge_cluster_received_bytes_total", "Bytes received on streams.", &s.BytesReceived},
		{"edge_cluster_gossip_sent_total", "Messages queued for gossip.", &s.GossipSent},
		{"edge_cluster_gossip_received_total", "Messages that came by gossip, one for each time.", &s.GossipReceived},
		{"edge_cluster_gossip_dropped_total", "Messages of gossip lost because a queue was full.", &s.GossipDropped},
		{"edge_cluster_gossip_refused_total", "Packets and connections of nodes with another secret or label.", &s.GossipRefused},
		{"edge_cluster_packets_sent_total", "UDP packets sent.", &s.PacketsSent},
		{"edge_cluster_packets_received_total", "UDP packets received.", &s.PacketsReceived},
		{"edge_cluster_connections_refused_total", "Connections closed at once because too many had not shown who they are.", &s.ConnectionsRefused},
		{"edge_cluster_joins_failed_total", "Addresses at which no node of the cluster was found.", &s.JoinsFailed},
		{"edge_cluster_facts_exchanged_total", "Times that all facts were sent to a peer because it had others.", &s.FactsExchanged},
		{"edge_cluster_facts_refused_total", "Facts refused: too many, or from too far in the future.", &s.FactsRefused},
		{"edge_cluster_reports_cut_total", "Reports whose position was too long to be sent.", &s.ReportsCut},
		{"edge_cluster_members_forgotten_total", "Nodes forgotten or not let in because too many are known.", &s.MembersForgotten},
	} {
		emit.counter(x.name, x.help, x.value.Load())
	}
}
