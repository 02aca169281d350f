package main

import "testing"

func TestColdIsWhoLostSomething(t *testing.T) {
	dir := t.TempDir()
	var first, second warmth
	first.open(dir)
	for _, step := range []struct {
		objects int64
		want    bool
	}{{0, false}, {3, false}, {0, false}, {1, false}} {
		if got := first.cold(step.objects); got != step.want {
			t.Errorf("a node with %d objects: cold %v", step.objects, got)
		}
	}
	second.open(dir)
	if !second.cold(0) {
		t.Error("a node that starts without what it had is not cold")
	}
	if second.cold(1) || second.cold(0) {
		t.Error("a node that has stored something since is cold")
	}
	var third warmth
	third.open(t.TempDir())
	if third.cold(0) {
		t.Error("a new node is cold")
	}
}
