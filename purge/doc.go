// Package purge remembers what must be forgotten. The cache forgets (its
// generation tables, its sweep); this package sees to it that what was
// acknowledged stays forgotten, through kill -9, power cuts and full disks, and
// tells what became of it.
//
// The life of a purge:
//
//	asked     Purge checks what is named, and whether the idempotency key was used
//	applied   the cache forgets, at once, and says with which local order; from
//	          here on nothing stored before is served
//	queued    behind others that are on their way to the log, bounded
//	durable   Run writes all that are queued as one frame and syncs the file
//	answered  only now
//	swept     the cache's sweep has passed the order: no object on this node needs
//	          the entry any more, and a restart need not apply it again
//	receipt   it stays in the log for those who ask, for a while
//	gone      its segment file is removed
//
// Applying comes before writing: a purge that could not be written has purged too
// much, not too little, and whoever asked is told. A restart applies entries
// again with the order they had, so that what was stored after them stays: clocks
// play no part.
//
// The log is a directory: "head" (head.go) says which log this is, how often it
// was opened and which segment files belong to it; segment files (segment.go)
// are appended to, a frame for each sync, and removed whole. What was being
// written when the node died is cut off. Where anything else is damaged or
// missing, the log cannot say what must be forgotten: it begins anew with another
// incarnation, and the store, which knows whose orders it holds, forgets all.
//
// An entry (entry.go) carries its place: the incarnation of the log that took it
// first, and its number there. One node only needs the local order; nodes that
// compare what they know need places.
//
// How purges spread (spread.go). A node's own entries have numbers from 1 without gaps
// below its log's incarnation. Every node takes the entries of all others into its own
// log too, with the local order at which it applied them and the place where they were
// made, and keeps how far it has each log (vector.go): that is its position. What is
// applied and durable here counts as known; what is known is dropped when it comes
// again. A purge is sent to all on the streams, many in one message under load, and by
// gossip where it is small. Positions go to all peers every second and soon after they
// moved; who sees that it misses something asks whoever has it (machine.go). Who is
// behind for long, comes back, or starts is fenced until it has caught up, and who
// cannot get what it missed, because all have shortened their logs, forgets all that
// it has stored instead (catchup.go). Receipts are made of positions, on any node
// (peers.go, converge.go). All that decides is a state machine; the simulation
// (sim_test.go) runs it with the real log against everything that can go wrong.
//
// Locks, in this order: Log.applying (held while the cache applies a purge, and
// may wait for its sweep), Log.mu (queue, index, keys, watchers), never held
// during I/O. Files are touched by Open, by Run alone after that, and read by
// Receipt, List and Replay, which open them anew.
package purge
