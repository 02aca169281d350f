package store_test

import (
	"context"
	"log/slog"
	"testing"

	"edgecdn/cache/store"
	"edgecdn/cache/store/storetest"
	"edgecdn/internal/unit"
)

func TestMemoryConforms(t *testing.T) {
	storetest.Run(t, func(t *testing.T) storetest.Subject {
		return storetest.Subject{
			Store:   runMemory(t, 64*unit.MiB),
			Hasher:  store.NewHasher(1),
			BodyMax: store.BodyMax,
		}
	})
}

// runMemory returns a memory tier whose owner runs until the test ends.
func runMemory(t testing.TB, size unit.Bytes) *store.Memory {
	t.Helper()
	m := store.NewMemory(store.MemoryConfig{Bytes: size}, nil, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- m.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
		if err := m.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return m
}
