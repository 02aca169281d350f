package main

import (
	"strings"
	"testing"
	"time"

	"edgecdn/admin"
)

// Who waits sees each node with its state and time: of several purges the worst.
func TestPurgeNodesTable(t *testing.T) {
	at := func(ms int) *time.Time {
		when := time.Date(2026, 11, 1, 12, 0, 0, ms*1e6, time.UTC)
		return &when
	}
	var all purgeNodes
	all.add([]admin.PurgeNode{{Node: "fra", State: admin.PurgeSwept, At: at(1)}, {Node: "ams", State: admin.PurgeApplied, At: at(45)}, {Node: "gru", State: admin.PurgeFenced, At: at(50)}, {Node: "nrt", State: admin.PurgeUnreachable}, {Node: "old", State: admin.PurgeGone}})
	all.add([]admin.PurgeNode{{Node: "fra", State: admin.PurgeApplied, At: at(100)}, {Node: "ams", State: admin.PurgePending}, {Node: "nrt", State: admin.PurgeApplied, At: at(130)}})
	var out strings.Builder
	if err := all.print(&out); err != nil {
		t.Fatal(err)
	}
	const want = `
NODE  STATE        SINCE, BY ITS CLOCK
ams   pending      -
fra   applied      2026-11-01 12:00:00.100 UTC
gru   fenced       2026-11-01 12:00:00.050 UTC
nrt   unreachable  -
old   gone         -
`
	if out.String() != want {
		t.Errorf("%s", &out)
	}
}

// The table comes with --wait, whatever comes of it, and never in JSON.
func TestPurgeWaitShowsNodes(t *testing.T) {
	for _, test := range []struct {
		wait, json, never, shown bool
	}{
		{true, false, false, true}, {true, false, true, true}, {false, false, false, false}, {true, true, false, false},
	} {
		n := startAdmin(t)
		n.purges.never = test.never
		var out, progress strings.Builder
		cmd := purgeCmd{All: true, Wait: test.wait, JSON: test.json, Timeout: 10 * time.Millisecond}
		cmd.Data = n.data
		if err := cmd.run(strings.NewReader(""), &out, &progress); (err != nil) != test.never {
			t.Errorf("%+v: %v", test, err)
		}
		if shown := strings.Contains(out.String(), "\nNODE  STATE  SINCE, BY ITS CLOCK\nedge  swept  -\n"); shown != test.shown {
			t.Errorf("%+v: %s", test, &out)
		}
	}
}
