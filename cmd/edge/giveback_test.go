package main

import "testing"

// Memory is given back when a burst is over, a few times, and not while it lasts.
func TestBurstIsOver(t *testing.T) {
	var b burst
	total := uint64(0)
	for i, step := range []struct {
		allocated uint64
		want      bool
	}{
		{4 << 20, false}, {100 << 10, false}, // little happens: nothing to give back
		{50 << 20, false}, {80 << 20, false}, // a burst
		{500 << 10, true}, {0, true}, {1 << 10, true}, {0, false}, {500 << 10, false},
		{8 << 20, false}, {0, false}, {12 << 20, false}, {0, true}, // many small ones
		{30 << 20, false}, {0, true}, {30 << 20, false}, {0, true}, {0, true}, {0, true}, {0, false},
	} {
		total += step.allocated
		if got := b.over(total, 0); got != step.want {
			t.Errorf("step %d: %v", i, got)
		}
	}
	large := burst{}
	for range 2 { // a burst, and the quiet after it
		if large.over(50<<20, 1<<30) {
			t.Error("a large heap is collected for a small burst")
		}
	}
}
