package gate

import (
	"fmt"
	"testing"

	"edgecdn/cache"
)

func TestHostStats(t *testing.T) {
	var s Stats
	a := s.hosts.of("a.test", 0)
	if s.hosts.of("a.test", 0) != a || s.hosts.of("a.test", 7) != a {
		t.Error("one host, two counters")
	}
	if b := s.hosts.of("b.test", 0); b == a || b.Name != "b.test" {
		t.Error("a reload gave one host's counters to another")
	}
	for i := range 2 * hostsMax {
		s.hosts.of(fmt.Sprint(i, ".test"), i)
	}
	if n := len(s.Hosts()); n != hostsMax+2 { // the nameless and "other"
		t.Errorf("%d hosts counted", n)
	}
	if h := s.hosts.of("late.test", 5); h.Name != "other" {
		t.Errorf("a host beyond the bound is counted as %q", h.Name)
	}
}

// A request whose client leaves before the answer has no status: it is counted, but
// not among responses.
func TestNoAnswerIsNoResponse(t *testing.T) {
	var s Stats
	for _, status := range []int{0, 101, 200} {
		s.finished(&Exchange{Request: cache.Request{Proto: cache.HTTP2}, Status: status}, 0)
	}
	var got [5]uint64
	for class := range got {
		got[class] = s.Status[cache.HTTP2-1][class].Load()
	}
	if got != [5]uint64{1, 1} {
		t.Errorf("responses by class: %v", got)
	}
	if n := s.Hosts()[0].Requests[cache.HTTP2-1][0].Load(); n != 3 {
		t.Errorf("%d requests", n)
	}
}
