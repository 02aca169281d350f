package origin

// stats.go counts what happened on the way to an origin, in atomics that main
// maps to metrics.

import (
	"sync/atomic"
	"time"
)

// LatencyBounds are the upper bounds of a Histogram's buckets, in order; what is
// above the last falls into a bucket of its own.
var LatencyBounds = [...]time.Duration{
	time.Millisecond, 2500 * time.Microsecond, 5 * time.Millisecond,
	10 * time.Millisecond, 25 * time.Millisecond, 50 * time.Millisecond,
	100 * time.Millisecond, 250 * time.Millisecond, 500 * time.Millisecond,
	time.Second, 2500 * time.Millisecond, 5 * time.Second,
	10 * time.Second, 30 * time.Second, time.Minute,
}

// Histogram counts durations by bucket. Buckets are not cumulative.
type Histogram struct {
	Buckets [len(LatencyBounds) + 1]atomic.Uint64
	Sum     atomic.Int64 // nanoseconds
}

func (h *Histogram) observe(d time.Duration) {
	i := 0
	for i < len(LatencyBounds) && d > LatencyBounds[i] {
		i++
	}
	h.Buckets[i].Add(1)
	h.Sum.Add(int64(d))
}

// Why a request was sent again.
const (
	RetryConnect = iota // no connection
	RetryFailure        // one that broke, or did not answer, or not properly
	RetryStatus         // an answer that means failure
	retryReasons
)

// RetryNames are the reasons' names.
var RetryNames = [retryReasons]string{"connect", "failure", "status"}

// Why a request was not sent again.
const (
	RefusedMethod = iota // it may have been done
	RefusedBody          // too long to be kept
	RefusedMax           // often enough
	RefusedBudget        // others were
	refusals
)

// RefusedNames are the reasons' names.
var RefusedNames = [refusals]string{"method", "body", "max", "budget"}

// Stats counts for one origin since its name was first configured. Every field
// may be read at any time.
type Stats struct {
	// Requests counts calls of RoundTrip that named this origin.
	Requests atomic.Uint64
	// Errors counts requests without a response and bodies that broke off, by
	// kind (index into Kinds).
	Errors [kinds]atomic.Uint64
	// Canceled counts requests and bodies that the caller gave up.
	Canceled atomic.Uint64
	// Repeated counts requests that net/http sent again on another connection
	// because the origin had closed the one that it used first.
	Repeated atomic.Uint64
	// Retries counts requests sent again, by RetryConnect and so on.
	Retries [retryReasons]atomic.Uint64
	// RetriesRefused counts failures after which one was not, though another endpoint
	// might have helped, by RefusedMethod and so on.
	RetriesRefused [refusals]atomic.Uint64
	// Hedges counts second requests beside a slow one, HedgesWon those that were
	// answered first.
	Hedges, HedgesWon atomic.Uint64
	// HeaderTime is the time from RoundTrip to the response's header, the wait
	// for a connection included.
	HeaderTime Histogram
	// Active is the number of requests between RoundTrip and Close of their body.
	Active atomic.Int64
	// Waiting is the number of requests that have no connection yet.
	Waiting atomic.Int64
	// ConnectionsOpen counts connections, idle ones included.
	ConnectionsOpen atomic.Int64
	// ConnectionsDialed counts connections that were ever open.
	ConnectionsDialed atomic.Uint64
	// BytesReceived and BytesSent count bytes on connections: headers and, with
	// TLS, its records included.
	BytesReceived, BytesSent atomic.Uint64
}
