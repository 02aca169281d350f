package purge

// What is seldom: each of these takes several things in a row.

import (
	"strings"
	"syscall"
	"testing"
	"time"
)

// A start says in which boot entries last stopped to be applied, also when the note
// of it has left with its segment.
func TestDropped(t *testing.T) {
	fsys, disk := newMemFS(1), &objects{}
	next := func(n *testNode) *testNode {
		n.stop()
		fsys = fsys.restart(true)
		return startNode(t, smallTuning(fsys), disk)
	}
	n := startNode(t, smallTuning(fsys), disk)
	made(t, n, 0, 3)
	if n.Dropped() != 0 {
		t.Errorf("%d before any sweep", n.Dropped())
	}
	n.cache.sweep()
	n.followSweep()
	first := n.Boot()
	n = next(n)
	if n.Dropped() != first {
		t.Errorf("%d, but %d noted the sweep", n.Dropped(), first)
	}
	made(t, n, 0, 30)
	n.followSweep() // nothing is swept in this boot, but segments go
	if n.segments[0].sequence == 1 {
		t.Fatal("the segment with the note is still there")
	}
	n = next(n)
	if n.Dropped() != first {
		t.Errorf("%d after the note has gone, want %d", n.Dropped(), first)
	}
	n.cache.sweep()
	n.followSweep()
	third := n.Boot()
	noted := n.segments[len(n.segments)-1].sequence
	fsys.inject(failing(syscall.EIO, segmentSuffix, "write")) // upon which a new segment begins
	if _, err := n.purgeURL(urlOf(0)); err == nil {
		t.Fatal("it was written")
	}
	fsys.inject(nil)
	made(t, n, 0, 30)
	n.followSweep()
	if n.segments[0].sequence <= noted {
		t.Fatal("the segment with the second note is still there")
	}
	n = next(n)
	if n.Dropped() != third {
		t.Errorf("%d, but %d noted the last sweep", n.Dropped(), third)
	}
}

// Numbers are not given twice, also where all segments with entries have gone.
func TestNumbersWithoutSegments(t *testing.T) {
	fsys, disk := newMemFS(1), &objects{}
	tune := smallTuning(fsys)
	tune.receiptAge = -time.Hour
	n := startNode(t, tune, disk)
	made(t, n, 0, 1)
	n.cache.sweep()
	n.followSweep()
	writes := 0
	fsys.inject(func(op, path string) error { // all but the header of a new segment
		if op == "write" && strings.HasSuffix(path, segmentSuffix) {
			if writes++; writes != 2 {
				return syscall.EIO
			}
		}
		return nil
	})
	for range 2 {
		if _, err := n.purgeURL(urlOf(1)); err == nil {
			t.Fatal("it was written")
		}
	}
	fsys.inject(nil)
	n.followSweep()
	if len(n.index) != 0 || len(n.segments) != 1 {
		t.Fatalf("%d entries in %d segments", len(n.index), len(n.segments))
	}
	n.stop()
	tune.fs = fsys.restart(true)
	n = startNode(t, tune, disk)
	if r := made(t, n, 1, 1)[0]; r.Entry.Place.Number != 2 || n.Stats().Lost.Load() != 0 {
		t.Errorf("number %d; %s", r.Entry.Place.Number, n.said)
	}
}

// Frames that are missing at the end are noticed where the head has seen them.
func TestMissingEnd(t *testing.T) {
	fsys, disk := newMemFS(1), &objects{}
	n := startNode(t, smallTuning(fsys), disk)
	made(t, n, 0, 20)
	n.cache.sweep()
	n.followSweep()
	made(t, n, 0, 1)
	n.stop()
	last := n.segments[len(n.segments)-1]
	n = startNode(t, smallTuning(fsys.restart(true)), disk) // its head counts all
	n.stop()
	next := n.t.fs.(*memFS).restart(true)
	next.files[segmentPath(testDir, last.sequence)].data = next.files[segmentPath(testDir, last.sequence)].data[:segmentHeader+1]
	n = startNode(t, smallTuning(next), disk)
	if n.Stats().Lost.Load() != 1 {
		t.Error("not noticed")
	}
}

// A receipt is never of another purge, whatever the file says.
func TestDamagedReceipt(t *testing.T) {
	fsys := newMemFS(1)
	n := startNode(t, smallTuning(fsys), &objects{})
	id := made(t, n, 0, 1)[0].Entry.ID
	r := n.index[0]
	fsys.mu.Lock()
	fsys.files[segmentPath(testDir, 1)].data[r.offset+3] ^= 1
	fsys.mu.Unlock()
	if _, ok := n.Receipt(id); ok || n.Stats().Errors.Load() != 1 || !strings.Contains(n.said.String(), "is damaged") {
		t.Errorf("%v; %s", ok, n.said)
	}
}

// A key that failed and was used again is kept for its whole time.
func TestKeyUsedAgain(t *testing.T) {
	var k keys
	var stats Stats
	tune := defaultTuning
	key, now := [16]byte{1}, time.Now()
	failed := &pending{entry: Entry{Key: key}, err: ErrNotDurable}
	k.add(key, &use{pending: failed}, now, &tune, &stats)
	k.settle(failed)
	later := now.Add(time.Hour)
	k.add(key, &use{id: ID{1}}, later, &tune, &stats)
	k.expire(now.Add(tune.keyAge+time.Minute), &tune)
	if k.uses[key] == nil {
		t.Error("gone with the first use")
	}
	k.expire(later.Add(tune.keyAge+time.Minute), &tune)
	if k.uses[key] != nil || k.order != nil {
		t.Error("still there")
	}
}
