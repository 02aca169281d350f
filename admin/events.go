package admin

// Purges as a stream of server-sent events (HTML 9.2): a receipt when a purge is
// made and whenever its state changes.

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"time"
)

const (
	watchersMax   = 32
	heartbeat     = 15 * time.Second
	eventTimeout  = 10 * time.Second // to write one
	eventsMissed  = 1000             // that a client is told of when it comes back
	eventReplayed = 100              // asked for at once
)

// watchPurges streams until the client leaves, does not keep up, or its token
// holds no longer. A client that comes back with Last-Event-ID is told first what
// was made since.
func (s *Server) watchPurges(w http.ResponseWriter, r *http.Request) {
	purges := s.purges(w)
	if purges == nil {
		return
	}
	select {
	case s.watchers <- struct{}{}:
		defer func() { <-s.watchers }()
	default:
		s.stats.WatchersRefused.Add(1)
		retryAfter(w, heartbeat)
		writeProblem(w, http.StatusServiceUnavailable, fmt.Sprintf("%d clients watch purges already", watchersMax))
		return
	}
	s.stats.Watchers.Add(1)
	defer s.stats.Watchers.Add(-1)
	out := &eventStream{w: w, control: http.NewResponseController(w), c: credentialOf(r)}
	w.Header().Set("Content-Type", "text/event-stream")
	if r.Method == http.MethodHead {
		return
	}
	events := purges.Watch(r.Context())
	if !out.write(": purges as they are made and swept\nretry: 2000\n\n") || !out.missed(purges, r.Header.Get("Last-Event-ID")) {
		return
	}
	tick := time.NewTicker(heartbeat)
	defer tick.Stop()
	for {
		select {
		case receipt, open := <-events:
			if !open || !out.event(&receipt) {
				return
			}
		case now := <-tick.C:
			if out.c = s.stillReads(out.c, now); out.c == nil || !out.write(": still here\n\n") {
				return
			}
		case <-r.Context().Done():
			return
		}
	}
}

// stillReads returns a watcher's token as it is now, or nil where it is revoked, has
// expired, is not configured any more, or may no longer see receipts.
func (s *Server) stillReads(was *credential, now time.Time) *credential {
	all := s.live.Load().credentials
	i := slices.IndexFunc(all, func(c *credential) bool { return c.hash == was.hash })
	if i < 0 || s.invalid(all[i], now) != "" || !all[i].may(receiptScopes) {
		return nil
	}
	return all[i]
}

// eventStream writes events, each within its time.
type eventStream struct {
	w       http.ResponseWriter
	control *http.ResponseController
	c       *credential
}

func (o *eventStream) write(text string) bool {
	// The listener's own limit is for answers that end. Recorders in tests have none.
	_ = o.control.SetWriteDeadline(time.Now().Add(eventTimeout))
	if _, err := o.w.Write([]byte(text)); err != nil {
		return false
	}
	return o.control.Flush() == nil
}

// event reports false when the stream is over.
func (o *eventStream) event(receipt *Receipt) bool {
	if !visible(o.c, receipt) {
		return true
	}
	b, err := json.Marshal(receipt)
	return err == nil && o.write(fmt.Sprintf("id: %s\nevent: purge\ndata: %s\n\n", receipt.ID, b))
}

// missed sends the purges that are newer than the one the client saw last, from
// the oldest on. One that is not known any more is older than all.
func (o *eventStream) missed(purges Purges, last string) bool {
	if last == "" {
		return true
	}
	var missed []Receipt
	for before := ""; len(missed) < eventsMissed; {
		page, next := purges.List(before, eventReplayed)
		i := slices.IndexFunc(page, func(r Receipt) bool { return r.ID <= last })
		if i >= 0 {
			page = page[:i]
		}
		missed = append(missed, page...)
		if i >= 0 || next == "" {
			break
		}
		before = next
	}
	for i := range slices.Backward(missed) {
		if !o.event(&missed[i]) {
			return false
		}
	}
	return true
}
