package gate

import (
	"fmt"
	"testing"
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
