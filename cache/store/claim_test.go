package store

import (
	"log/slog"
	"math/rand/v2"
	"syscall"
	"testing"
)

// A directory that cannot be marked is used if what it holds may be served, and
// is away, until it can be emptied, if not: a failing device stops no start.
func TestClaimOnFailingDevice(t *testing.T) {
	dir := t.TempDir()
	fs := newFaultFS(rand.New(rand.NewPCG(1, 1)))
	const n = 10
	// open is a start under a log.
	open := func(log byte, boot uint64) *running {
		d, err := openDiskWith(configsOf(64<<20, dir), nil, slog.New(slog.DiscardHandler), smallTuning(fs))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := (&Tiered{disk: d}).Claim([16]byte{log}, boot, 0); err != nil {
			t.Fatalf("log %d, start %d: %v", log, boot, err)
		}
		return runDisk(d)
	}
	r := open(1, 1)
	fillDisk(t, r.Disk, 0, n, 1000)
	r.stop(t)

	fs.inject(failing(syscall.EROFS, formatName, "write"))
	r = open(1, 2)
	for i := range n {
		wantTag(t, r.Disk, keyOf(r.Disk, i), uint64(i+1)<<32)
	}
	r.stop(t)

	fs.inject(failing(syscall.EROFS, dir, "write", "create", "remove", "rename"))
	r = open(2, 1)
	for i := range n {
		wantNone(t, r.Disk, keyOf(r.Disk, i))
	}
	if s := r.Stats().Directories[0]; s.State != "broken" || s.Error == "" {
		t.Errorf("state %s, error %q", s.State, s.Error)
	}
	fs.inject(nil)
	mustComeBack(t, r)
	for i := range n {
		wantNone(t, r.Disk, keyOf(r.Disk, i))
	}
	fillDisk(t, r.Disk, n, 2*n, 1000)
	r.stop(t)
	r = open(2, 2)
	defer r.stop(t)
	for i := range n {
		wantNone(t, r.Disk, keyOf(r.Disk, i))
		wantTag(t, r.Disk, keyOf(r.Disk, n+i), uint64(n+i+1)<<32)
	}
}
