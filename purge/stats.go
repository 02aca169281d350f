package purge

import "sync/atomic"

// Stats counts what the log did since start. All fields may be read at any time.
type Stats struct {
	Purges         atomic.Uint64 // written to the log
	NotDurable     atomic.Uint64 // applied but not written
	Repeated       atomic.Uint64 // answered with the purge that their idempotency key had made
	KeysReused     atomic.Uint64 // refused because their idempotency key had made another
	KeysDropped    atomic.Uint64 // idempotency keys forgotten early because there were too many
	Busy           atomic.Uint64 // refused because too many were on their way to the log
	Full           atomic.Uint64 // refused because the log was full of what the sweep has not passed
	Invalid        atomic.Uint64 // refused for what they named
	Replayed       atomic.Uint64 // applied again at the start
	Syncs          atomic.Uint64 // frames written and synced; a frame has many purges
	Errors         atomic.Uint64 // writes and syncs that failed
	Lost           atomic.Uint64 // logs found lost or damaged at the start, upon which all was purged
	TornBytes      atomic.Uint64 // cut off the end of the log at the start
	ReceiptsEarly  atomic.Uint64 // receipts that left early because the log was over its bytes
	WatchersLost   atomic.Uint64 // watchers dropped for not keeping up
	WatchersFull   atomic.Uint64 // watchers refused because there were too many
	Received       atomic.Uint64 // entries of other nodes that were new
	Known          atomic.Uint64 // entries of other nodes that were known already
	Overflowed     atomic.Uint64 // entries of other nodes left for later because too many were on their way
	Asked          atomic.Uint64 // times that missing entries were asked for
	Served         atomic.Uint64 // entries sent to nodes that asked
	Offered        atomic.Uint64 // purges of this node that were spread
	Unsent         atomic.Uint64 // messages that no stream would take
	Newer          atomic.Uint64 // messages of a newer version, left unread
	Damaged        atomic.Uint64 // messages that could not be read
	InboxFull      atomic.Uint64 // messages dropped because too many waited
	LogsRefused    atomic.Uint64 // logs not followed or forgotten early because there were too many
	Fences         atomic.Uint64 // times that the fence was raised
	Adopted        atomic.Uint64 // times that all was purged because what was missed could not be had
	Converged      atomic.Uint64 // purges of this node that are in force on all nodes
	Fenced         atomic.Int64  // 1 while this node is fenced
	Pending        atomic.Int64  // on their way to the log now
	Entries        atomic.Int64  // in the log now
	EntriesUnswept atomic.Int64  // of them, not passed by the sweep
	Bytes          atomic.Int64  // of the log now
	Watchers       atomic.Int64  // now
}
