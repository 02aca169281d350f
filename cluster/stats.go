package cluster

import "sync/atomic"

// Stats counts since the start.
type Stats struct {
	Streams            atomic.Int64  // that are up
	StreamsOpened      atomic.Uint64 // ever
	StreamsSilent      atomic.Uint64 // closed after 2 seconds of silence
	StreamsRefused     atomic.Uint64 // handshakes that failed: another secret, another cluster, another name
	FramesSent         atomic.Uint64
	FramesReceived     atomic.Uint64
	FramesDropped      atomic.Uint64 // by full queues
	BytesSent          atomic.Uint64
	BytesReceived      atomic.Uint64
	GossipSent         atomic.Uint64 // messages of other rooms that were queued for gossip
	GossipReceived     atomic.Uint64
	GossipDropped      atomic.Uint64 // by full queues, here or in memberlist
	GossipRefused      atomic.Uint64 // packets that could not be decrypted: wrong key or label
	PacketsSent        atomic.Uint64
	PacketsReceived    atomic.Uint64
	ReportsCut         atomic.Uint64 // reports whose position was too long
	ConnectionsRefused atomic.Uint64 // too many that had not shown who they are
	FactsRefused       atomic.Uint64 // too many, too long, or too far in the future
	FactsExchanged     atomic.Uint64 // comparisons that ended in sending all
	JoinsFailed        atomic.Uint64
	MembersForgotten   atomic.Uint64 // because there were too many
}
