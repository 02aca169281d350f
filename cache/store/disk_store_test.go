package store_test

import (
	"context"
	"log/slog"
	"testing"

	"edgecdn/cache/store"
	"edgecdn/cache/store/storetest"
	"edgecdn/internal/unit"
)

// TestDiskConformance holds the disk tier to what every Store must do.
func TestDiskConformance(t *testing.T) {
	storetest.Run(t, func(t *testing.T) storetest.Subject {
		config := []store.DiskConfig{{Path: t.TempDir(), Bytes: 256 * unit.MiB}}
		d, stop := openRunning(t, config)
		t.Cleanup(func() { stop() })
		return storetest.Subject{
			Store: d, Hasher: d.Hasher(),
			Reopen: func(t *testing.T) store.Store {
				stop()
				d, stop = openRunning(t, config)
				return d
			},
		}
	})
}

// openRunning opens a disk tier and runs it until the function it returns.
func openRunning(t *testing.T, config []store.DiskConfig) (*store.Disk, func()) {
	t.Helper()
	d, err := store.OpenDisk(config, nil, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- d.Run(context.Background()) }()
	return d, func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}
