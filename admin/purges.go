package admin

// What the purge API needs of the node, in words of its own: main fills it in.
// Targets are canonical here, so that what a token was allowed to name and what
// is purged cannot differ.

import (
	"context"
	"errors"
	"strings"
	"time"
)

// Purges forgets what operators name. Its methods may be called from many
// goroutines at once.
type Purges interface {
	// Purge returns when the purge is durable and applied on this node. A request
	// whose Key was used before by the same Actor gives the receipt of that purge
	// and changes nothing, or ErrKeyReused where the Fingerprint differs. Other
	// errors: FieldErrors, ErrPurgesFull, ErrNotDurable.
	Purge(ctx context.Context, p PurgeRequest) (Receipt, error)
	// DryRun tells what Purge would do; the receipt has counts and no ID.
	DryRun(ctx context.Context, p PurgeRequest) (Receipt, error)
	// Receipt returns that of a purge that is still known.
	Receipt(id string) (Receipt, bool)
	// List returns up to limit receipts from the newest to the oldest, of purges
	// older than the one named before ("" for the newest). next is the before of
	// the page that follows, "" where there is none.
	List(before string, limit int) (page []Receipt, next string)
	// Watch sends a receipt when a purge is made and whenever its State changes,
	// until ctx ends; then, or when the watcher does not keep up, it closes the
	// channel.
	Watch(ctx context.Context) <-chan Receipt
	// Counts is Receipt with what the purge has met on the other nodes, as far as they
	// say so within a second.
	Counts(ctx context.Context, id string) (Receipt, bool)
	// Wait returns when the purge is in force on every node that it concerns, or with
	// ctx's error; ErrPurgeUnknown where it is not known.
	Wait(ctx context.Context, id string) (Receipt, error)
}

// PurgeKind says what the targets of a purge are.
type PurgeKind string

// The kinds, and what a target is for each.
const (
	// PurgeURL targets are absolute: scheme in lower case, host as in requests
	// (lower case, no default port, no final dot), then path and query as the
	// client would send them, at least "/". All variants are meant.
	PurgeURL PurgeKind = "url"
	// PurgePrefix targets are host and path without scheme, for both schemes:
	// "www.example.com/static", with no "/" at the end but where the path is "/".
	// All paths that are this or go on with "/" are meant, whatever their query.
	PurgePrefix PurgeKind = "prefix"
	// PurgeHost targets are hosts, with the port where it is not the scheme's own.
	PurgeHost PurgeKind = "host"
	// PurgeGroup targets are names of groups of PurgeRequest.Host.
	PurgeGroup PurgeKind = "group"
	// PurgeAll has no targets.
	PurgeAll PurgeKind = "all"
)

// What one request may name.
const (
	PurgeURLsMax     = 10_000
	PurgePrefixesMax = 256
	PurgeHostsMax    = 256
	PurgeGroupsMax   = 256
	// PurgeTargetsShown bounds Receipt.Targets.
	PurgeTargetsShown = 100

	purgeTargetBytesMax = 8 << 10
	purgeReasonBytesMax = 1 << 10
)

// PurgeRequest is a purge that is asked for, valid and allowed.
type PurgeRequest struct {
	Kind PurgeKind
	// Host of the groups, for PurgeGroup.
	Host string
	// Targets without duplicates, in the order given; none for PurgeAll.
	Targets []string
	// Soft leaves stale what was stored, instead of never serving it again.
	Soft bool
	// Reason for people, up to 1 KiB; may be "".
	Reason string
	// Actor is the name of the token that asks.
	Actor string
	// Key is the Idempotency-Key, "" for none. Keys of different actors differ.
	Key string
	// Fingerprint is a hash of all the above but Actor and Key.
	Fingerprint [32]byte
}

// States of a purge on a node, and of the purge as a whole: the least of them.
const (
	// PurgePending: known of, not applied there yet.
	PurgePending = "pending"
	// PurgeApplied: nothing that was stored before is served any more.
	PurgeApplied = "applied"
	// PurgeSwept: and the space is reclaimed, and counted.
	PurgeSwept = "swept"
	// PurgeFenced: the node serves nothing that was stored before until it has applied
	// it. Of other nodes alone, as are those that follow.
	PurgeFenced = "fenced"
	// PurgeUnreachable: nothing is heard of the node, and it may serve what is purged.
	PurgeUnreachable = "unreachable"
	// PurgeGone: so, and an operator has said that nobody is to wait for it.
	PurgeGone = "gone"
)

// Receipt says what became of a purge.
type Receipt struct {
	// ID sorts by time of making; "" for a dry run.
	ID     string    `json:"id,omitempty"`
	Time   time.Time `json:"time"`
	Actor  string    `json:"actor"`
	Reason string    `json:"reason,omitempty"`
	Kind   PurgeKind `json:"kind"`
	// Mode is hard or soft.
	Mode string `json:"mode"`
	// Host of the groups.
	Host string `json:"host,omitempty"`
	// Targets are the first of TargetsTotal, at most PurgeTargetsShown.
	Targets      []string `json:"targets,omitempty"`
	TargetsTotal int      `json:"targets_total"`
	DryRun       bool     `json:"dry_run,omitempty"`
	// State is pending, applied or swept.
	State string `json:"state"`
	// Entry says where the purge stands in this node's log; nil for a dry run.
	Entry *PurgeEntry `json:"entry,omitempty"`
	// Counts on this node.
	Counts PurgeCounts `json:"counts"`
	// Converged: it is in force on all nodes that it concerns, as far as this node
	// knows. ConvergedAt is the latest of their times, each by its own clock.
	Converged   bool       `json:"converged"`
	ConvergedAt *time.Time `json:"converged_at,omitempty"`
	// Local: it is of this node alone, made by itself because it missed purges.
	Local bool `json:"local,omitempty"`
	// Nodes has an entry for each node that the purge concerns.
	Nodes []PurgeNode `json:"nodes"`
}

// PurgeEntry is a place in a log of purges.
type PurgeEntry struct {
	// Log is the incarnation of the log, Number the place in it, Order the local
	// order that fetches are compared with.
	Log    string `json:"log"`
	Number uint64 `json:"number"`
	Order  uint64 `json:"order"`
}

// PurgeCounts says how many stored responses a purge met.
type PurgeCounts struct {
	// Memory counts what is in memory: exact once MemoryCounted, before that what
	// has been found so far.
	Memory        int64 `json:"memory"`
	MemoryCounted bool  `json:"memory_counted"`
	// Disk is an estimate until Counted, and exact from then on.
	Disk int64 `json:"disk"`
	// Counted is set when the sweep has passed.
	Counted bool `json:"counted"`
}

// PurgeNode is how far a purge is on one node.
type PurgeNode struct {
	Node  string `json:"node"`
	State string `json:"state"`
	// At is when State was reached; nil where it is pending.
	At *time.Time `json:"at,omitempty"`
	// Counts on that node, where it was asked and has answered.
	Counts *PurgeCounts `json:"counts,omitempty"`
}

// Errors of Purges.
var (
	// ErrKeyReused: the Idempotency-Key belongs to a purge of something else.
	ErrKeyReused = errors.New("this Idempotency-Key was used for another purge: send a new one")
	// ErrPurgesFull: the log takes no more until a sweep has passed.
	ErrPurgesFull = errors.New("too many purges are waiting for the sweep: try again in a few seconds")
	// ErrNotDurable: the log could not be written; nothing is promised.
	ErrNotDurable = errors.New("the purge could not be written to the log")
	// ErrPurgeUnknown: there is no such purge, or it left the log.
	ErrPurgeUnknown = errors.New("no purge with this id is known: receipts leave when the sweep has long passed")
)

// FieldError says what is wrong with a field of a request's JSON.
type FieldError struct {
	// Field is a path such as urls[3] or groups.host, "" for the whole.
	Field  string `json:"field"`
	Detail string `json:"detail"`
}

// FieldErrors is everything that is wrong with a request.
type FieldErrors []FieldError

func (e FieldErrors) Error() string {
	all := make([]string, len(e))
	for i, f := range e {
		all[i] = strings.TrimPrefix(f.Field+": "+f.Detail, ": ")
	}
	return strings.Join(all, "; ")
}
