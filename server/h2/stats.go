package h2

import "sync/atomic"

// Stats counts since start. Every field may be read at any time.
type Stats struct {
	// ConnectionErrors counts connections ended because the client broke the
	// protocol, floods and timeouts excepted.
	ConnectionErrors atomic.Uint64
	// StreamErrors counts streams reset because the client broke the protocol in them.
	StreamErrors atomic.Uint64
	// Malformed counts requests reset because they were malformed (RFC 9113 8.1.1).
	Malformed atomic.Uint64
	// Refused counts requests reset unanswered because too many streams were open.
	Refused atomic.Uint64
	// Parked counts responses from memory that had to wait for the client's windows.
	Parked atomic.Uint64
	// Stalled counts responses from memory cut because the client's windows
	// stayed shut for limits.stall_timeout or opened slower than limits.min_rate.
	Stalled atomic.Uint64
	// TooSlow counts connections cut because the client took less than
	// limits.min_rate of what was written.
	TooSlow atomic.Uint64
	// Idle counts connections closed by limits.idle_timeout.
	Idle atomic.Uint64
	// HeaderTimeouts counts connections ended by limits.header_timeout.
	HeaderTimeouts atomic.Uint64
	// Exhausted counts connections that used limits.connection_requests up.
	Exhausted atomic.Uint64
	// HeaderFloods counts connections ended because of endless header blocks.
	HeaderFloods atomic.Uint64
	// Floods counts connections ended because they sent too much of what costs
	// them little, by kind (index into FloodNames).
	Floods [floodKinds]atomic.Uint64
}

// Kinds of floods.
const (
	floodReset = iota
	floodSettings
	floodPing
	floodEmpty
	floodPriority
	floodWindow
	floodUnknown
	floodKinds
)

// FloodNames name the kinds of Stats.Floods: resets by the client or provoked by
// it, SETTINGS, PING, frames without content, priorities, WINDOW_UPDATE, and frames
// of unknown types.
var FloodNames = [floodKinds]string{"reset", "settings", "ping", "empty", "priority", "window", "unknown"}
