package main

import (
	"context"
	"runtime/debug"
	"testing"
)

func TestHeapLimit(t *testing.T) {
	const mib = 1 << 20
	for _, tt := range []struct {
		name string
		storeMemory
		want int64
	}{
		{"empty store: all of the budget may become index", storeMemory{1024 * mib, 0, 0}, (1024 + 256 + 512) * mib},
		{"full of bodies: room to work is left", storeMemory{1024 * mib, 1024 * mib, 0}, (256 + 512) * mib},
		{"bodies over the budget for a moment", storeMemory{1024 * mib, 1100 * mib, 0}, (256 + 512) * mib},
		{"the index of the disk tier", storeMemory{1024 * mib, 1024 * mib, 100 * mib}, (256 + 100 + 512) * mib},
		{"no budget", storeMemory{}, 512 * mib},
	} {
		if got := tt.heapLimit(); got != tt.want {
			t.Errorf("%s: %d MiB, want %d", tt.name, got/mib, tt.want/mib)
		}
	}
}

func TestFollowBudget(t *testing.T) {
	before := debug.SetMemoryLimit(-1)
	t.Cleanup(func() { debug.SetMemoryLimit(before) })
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	store := func() storeMemory { return storeMemory{budget: 1 << 30, outside: 1 << 29} }

	t.Setenv("GOMEMLIMIT", "3GiB")
	if err := followBudget(ended, store); err != nil || debug.SetMemoryLimit(-1) != before {
		t.Errorf("the operator's limit was changed: %v", err)
	}
	t.Setenv("GOMEMLIMIT", "")
	if err := followBudget(ended, store); err != nil || debug.SetMemoryLimit(-1) != store().heapLimit() {
		t.Errorf("limit %d, want %d: %v", debug.SetMemoryLimit(-1), store().heapLimit(), err)
	}
}
