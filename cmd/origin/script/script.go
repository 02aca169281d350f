// Package script is an origin that does what its URLs say: a small sample site,
// bodies of any size, and faults of every kind that an edge must survive. The
// demo, the load generator and tests run it, in a process of its own (cmd/origin)
// or within a test:
//
//	origin := script.New()
//	server := httptest.NewServer(origin)
//	... requests ...
//	n := origin.Requests("/index.html")
//
// Every endpoint is described on the page that it serves under /_origin/. Request
// targets are neither cleaned nor redirected: "//", ".." and "%2F" reach the
// endpoints as they were sent. What a URL can ask for is bounded, see params.go.
package script

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Script is the scripted origin. Safe for concurrent use.
type Script struct {
	site     func() site // made when it is first asked for
	requests counters    // by path
	targets  counters    // by whole target, for "fail" and X-Origin-Count
	active   atomic.Int64
	peak     atomic.Int64
}

// New returns an origin whose counters are at zero.
func New() *Script { return &Script{site: sync.OnceValue(newSite)} }

// Requests returns how many requests were seen for a path: the target as sent,
// up to its query.
func (s *Script) Requests(path string) int64 { return s.requests.get(path) }

// Total returns how many requests were seen in all, those for /_origin/stats
// left out.
func (s *Script) Total() int64 { return s.requests.total() }

// Peak returns the largest number of requests that were being answered at once.
func (s *Script) Peak() int64 { return s.peak.Load() }

// Reset sets all counters to zero.
func (s *Script) Reset() {
	s.requests.reset()
	s.targets.reset()
	s.peak.Store(s.active.Load())
}

// ServeHTTP answers one request.
func (s *Script) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path, _, _ := strings.Cut(originForm(r.RequestURI), "?")
	if path == "/_origin/stats" {
		s.stats(w, r)
		return
	}
	s.requests.add(path)
	s.enter()
	defer s.active.Add(-1)
	w.Header().Set("Server", "edge-sample-origin")

	switch name, ok := strings.CutPrefix(path, "/_origin/"); {
	case ok:
		s.endpoint(name, w, r)
	case strings.HasPrefix(strings.TrimLeft(path, "/"), "_origin/raw/"):
		s.echo(w, r) // "//_origin/raw/..." too
	case strings.HasPrefix(path, "/video/"):
		s.video(w, r, path)
	default:
		s.site().serve(w, r, path)
	}
}

// originForm takes scheme and host off a target in absolute form, which every
// server must accept (RFC 9112 3.2.2).
func originForm(target string) string {
	if _, rest, ok := strings.Cut(target, "://"); ok && !strings.HasPrefix(target, "/") {
		if i := strings.IndexByte(rest, '/'); i >= 0 {
			return rest[i:]
		}
		return "/"
	}
	return target
}

func (s *Script) enter() {
	n := s.active.Add(1)
	for {
		peak := s.peak.Load()
		if n <= peak || s.peak.CompareAndSwap(peak, n) {
			return
		}
	}
}

func (s *Script) endpoint(name string, w http.ResponseWriter, r *http.Request) {
	switch {
	case name == "":
		s.site().help(w, r)
	case name == "respond":
		s.respond(w, r)
	case name == "echo", strings.HasPrefix(name, "raw/"):
		s.echo(w, r)
	case name == "redirect":
		s.redirect(w, r)
	case name == "upload":
		s.upload(w, r)
	case name == "sse":
		s.sse(w, r)
	case name == "ws":
		s.websocket(w, r)
	case name == "close":
		s.close(w, r)
	case name == "until-close":
		s.untilClose(w, r)
	case name == "wire":
		s.wire(w, r)
	case name == "hang":
		s.hang(w, r)
	default:
		http.Error(w, fmt.Sprintf("no such endpoint %q: /_origin/ lists them all", name), http.StatusNotFound)
	}
}

// wait waits for d; false when the client has gone before.
func wait(r *http.Request, d time.Duration) bool {
	if d <= 0 {
		return r.Context().Err() == nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-r.Context().Done():
		return false
	}
}
