package purge

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"edgecdn/cache"
)

func TestMain(m *testing.M) { leaks(m) }

// failing returns a fault for the named calls on paths with a part.
func failing(err error, part string, ops ...string) func(op, path string) error {
	return func(op, path string) error {
		if slices.Contains(ops, op) && strings.Contains(path, part) {
			return err
		}
		return nil
	}
}

// made purges n URLs and returns the receipts.
func made(t *testing.T, n *testNode, from, count int) (all []Receipt) {
	t.Helper()
	for i := range count {
		r, err := n.purgeURL(urlOf(from + i))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, r)
	}
	return all
}

// names returns the paths that receipts name, in their order.
func paths(all []Receipt) (names []string) {
	for _, r := range all {
		for _, p := range r.Entry.Purges {
			names = append(names, p.Name)
		}
	}
	return names
}

func TestPlacesGoOnAfterRestart(t *testing.T) {
	fsys, disk := newMemFS(1), &objects{}
	n := startNode(t, smallTuning(fsys), disk)
	made(t, n, 0, 30)
	n.stop()
	n = startNode(t, smallTuning(fsys.restart(true)), disk)
	made(t, n, 30, 3)
	if n.Stats().Replayed.Load() != 30 {
		t.Errorf("%d replayed", n.Stats().Replayed.Load())
	}
	all := n.List(ID{}, 100)
	if len(all) != 33 {
		t.Fatalf("%d receipts", len(all))
	}
	for i, r := range all {
		want := Place{n.Incarnation(), uint64(33 - i)}
		if r.Entry.Place != want || r.Entry.Purges[0].Name != urlOf(32 - i)[len("https://www.example.com"):] {
			t.Errorf("receipt %d is of %v %v, want place %v", i, r.Entry.Place, r.Entry.Purges, want)
		}
		if i > 0 && (all[i-1].Entry.ID.String() <= r.Entry.ID.String() || all[i-1].Entry.Order <= r.Entry.Order) {
			t.Errorf("%v %d and %v %d are out of order", all[i-1].Entry.ID, all[i-1].Entry.Order, r.Entry.ID, r.Entry.Order)
		}
	}
	if boot := all[0].Entry.Order >> 40; boot != n.Boot() || n.Boot() < 2 {
		t.Errorf("order of boot %d in boot %d", boot, n.Boot())
	}
	// Pages meet without a gap.
	page := n.List(all[9].Entry.ID, 5)
	if diff := cmp.Diff(paths(all[10:15]), paths(page)); diff != "" {
		t.Error(diff)
	}
	for _, r := range all {
		got, ok := n.Receipt(r.Entry.ID)
		if diff := cmp.Diff(r, got); !ok || diff != "" {
			t.Errorf("receipt of %v: %v %s", r.Entry.ID, ok, diff)
		}
	}
	if _, ok := n.Receipt(ID{1}); ok {
		t.Error("a receipt of what was never made")
	}
}

// What a write or sync that failed leaves behind is void, even where it cannot be
// cut off, and the log takes purges again when the disk does.
func TestFailedWrites(t *testing.T) {
	for _, ops := range [][]string{{"sync", "truncate"}, {"write", "truncate"}, {"sync"}, {"write"}, {"sync", "create"}} {
		for _, why := range []error{syscall.ENOSPC, syscall.EIO} {
			t.Run(strings.Join(ops, "+")+" "+why.Error(), func(t *testing.T) {
				fsys, disk := newMemFS(1), &objects{}
				n := startNode(t, smallTuning(fsys), disk)
				made(t, n, 0, 2)
				n.cache.store(urlOf(7), 1)
				fsys.inject(failing(why, segmentSuffix, ops...))
				for range 3 {
					if _, err := n.purgeURL(urlOf(7)); !errors.Is(err, ErrNotDurable) {
						t.Fatalf("%v, want ErrNotDurable", err)
					}
				}
				if told := strings.Count(n.said.String(), "level=ERROR"); told != 1 {
					t.Errorf("told %d times: %s", told, n.said)
				}
				if served := n.cache.served(urlOf(7)); served != nil {
					t.Error("not applied")
				}
				fsys.inject(nil)
				before := n.segments[len(n.segments)-1].sequence
				made(t, n, 2, 2)
				if now := n.segments[len(n.segments)-1].sequence; now == before {
					t.Error("a file whose sync failed is written to again")
				}
				want := []string{"/3", "/2", "/1", "/0"}
				if diff := cmp.Diff(want, paths(n.List(ID{}, 10))); diff != "" {
					t.Error(diff)
				}
				n.stop()
				n = startNode(t, smallTuning(fsys.restart(false)), disk)
				if diff := cmp.Diff(want, paths(n.List(ID{}, 10))); diff != "" || n.Stats().Lost.Load() != 0 {
					t.Errorf("after a restart: %s%s", diff, n.said)
				}
			})
		}
	}
}

// A torn end is cut off and said; the log goes on behind it.
func TestTornTail(t *testing.T) {
	tune := smallTuning(nil)
	tune.segmentBytes = 1 << 20
	whole := newMemFS(1)
	tune.fs = whole
	n := startNode(t, tune, &objects{})
	made(t, n, 0, 5)
	before := n.segments[0].size
	made(t, n, 5, 1)
	n.stop()
	name := segmentPath(testDir, n.segments[0].sequence)
	for cut := before; cut < int64(len(whole.files[name].data)); cut++ {
		fsys := whole.restart(false)
		fsys.files[name].data = fsys.files[name].data[:cut]
		tune.fs = fsys
		disk := &objects{owner: n.Incarnation()}
		n := startNode(t, tune, disk)
		if n.Stats().Lost.Load() != 0 || int64(n.Stats().TornBytes.Load()) != cut-before {
			t.Fatalf("cut at %d of %d: %d bytes torn; %s", cut, before, n.Stats().TornBytes.Load(), n.said)
		}
		made(t, n, 6, 1)
		if diff := cmp.Diff([]string{"/6", "/4", "/3", "/2", "/1", "/0"}, paths(n.List(ID{}, 10))); diff != "" {
			t.Fatal(diff)
		}
		n.stop()
	}
}

// Damage anywhere but at the end of the log, and a missing file, is noticed: the
// log begins anew, and the store forgets all.
func TestLostLog(t *testing.T) {
	whole := newMemFS(1)
	disk := &objects{}
	n := startNode(t, smallTuning(whole), disk)
	made(t, n, 0, 12)
	n.stop()
	if len(n.segments) < 3 {
		t.Fatalf("%d segments", len(n.segments))
	}
	last := segmentPath(testDir, n.segments[len(n.segments)-1].sequence)
	check := func(what string, fsys *memFS) {
		t.Helper()
		again := startNode(t, smallTuning(fsys), &objects{owner: n.Incarnation(), all: map[string][]object{"x": nil}})
		defer again.stop()
		if again.Incarnation() == n.Incarnation() || again.Stats().Lost.Load() != 1 || len(again.cache.disk.all) != 0 {
			t.Errorf("%s: not noticed", what)
		}
		if !strings.Contains(again.said.String(), "level=ERROR msg=\"the log of purges is lost") {
			t.Errorf("%s: not said: %s", what, again.said)
		}
		if again.Boot() <= n.Boot() && what != "head" {
			t.Errorf("%s: boot %d after %d", what, again.Boot(), n.Boot())
		}
		made(t, again, 0, 3)
		again.stop()
		third := startNode(t, smallTuning(fsys.restart(true)), again.cache.disk)
		defer third.stop()
		if third.Incarnation() != again.Incarnation() || len(third.List(ID{}, 10)) != 3 {
			t.Errorf("%s: the new log does not last", what)
		}
	}
	flips := 0
	for name, f := range whole.files {
		if !strings.HasSuffix(name, segmentSuffix) {
			continue
		}
		fsys := whole.restart(false)
		delete(fsys.files, name)
		check("missing "+name, fsys)
		for at := 0; at < len(f.data); at += 7 {
			if name == last && at > segmentHeader {
				break // what is last may be torn
			}
			if at > 42 && at < 60 {
				continue // no bits there
			}
			fsys := whole.restart(false)
			fsys.files[name].data[at] ^= 4
			check(name+" flipped", fsys)
			flips++
		}
	}
	if flips < 100 {
		t.Errorf("%d bits flipped", flips)
	}
	fsys := whole.restart(false)
	delete(fsys.files, testDir+"/"+headName)
	check("head", fsys)
}

// In the last segment damage before the last frame is damage, not a torn end.
func TestDamagedMiddleOfTail(t *testing.T) {
	tune := smallTuning(newMemFS(1))
	tune.segmentBytes = 1 << 20
	n := startNode(t, tune, &objects{})
	made(t, n, 0, 5)
	last := n.index[4].offset - 20 // before the frame of the last
	n.stop()
	for at := int64(segmentHeader); at < last; at++ {
		fsys := tune.fs.(*memFS).restart(false)
		fsys.files[segmentPath(testDir, 1)].data[at] ^= 1
		again := tune
		again.fs = fsys
		m := startNode(t, again, &objects{})
		if m.Stats().Lost.Load() != 1 {
			t.Fatalf("a bit at %d", at)
		}
		m.stop()
	}
}

// One slot of the head may rot: the other answers, and no boot is used twice.
func TestHeadSlots(t *testing.T) {
	for slot := range headSlots {
		fsys, disk := newMemFS(1), &objects{}
		n := startNode(t, smallTuning(fsys), disk)
		made(t, n, 0, 12)
		n.stop()
		next := fsys.restart(false)
		next.files[testDir+"/"+headName].data[slot*headSlot+30] ^= 1
		m := startNode(t, smallTuning(next), disk)
		if m.Boot() <= n.Boot() {
			t.Errorf("slot %d: boot %d after %d", slot, m.Boot(), n.Boot())
		}
		if m.Stats().Lost.Load() != 0 || len(m.List(ID{}, 20)) != 12 {
			t.Errorf("slot %d: %s", slot, m.said)
		}
		m.stop()
	}
}

// Purges that arrive while one is being synced share the next sync.
func TestGroupCommit(t *testing.T) {
	fsys := newMemFS(1)
	n := startNode(t, smallTuning(fsys), &objects{})
	made(t, n, 0, 1)
	hold, entered := make(chan struct{}), make(chan struct{}, 100)
	fsys.hold(entered, hold)
	var wg sync.WaitGroup
	wg.Go(func() { made(t, n, 0, 1) })
	<-entered
	for i := range 50 {
		wg.Go(func() { made(t, n, i, 1) })
	}
	waitFor(t, func() bool {
		n.mu.Lock()
		defer n.mu.Unlock()
		return len(n.queue) == 50
	})
	syncs := n.Stats().Syncs.Load()
	close(hold)
	wg.Wait()
	if n := n.Stats().Syncs.Load() - syncs; n > 2 {
		t.Errorf("%d syncs for 51 purges", n)
	}
	if got := len(n.List(ID{}, 100)); got != 52 {
		t.Errorf("%d receipts", got)
	}
}

func TestBounds(t *testing.T) {
	ask := func(t *testing.T, n *testNode, want error) {
		t.Helper()
		if _, err := n.purgeURL(urlOf(0)); !errors.Is(err, want) {
			t.Errorf("%v, want %v", err, want)
		}
	}
	t.Run("unswept", func(t *testing.T) {
		tune := smallTuning(newMemFS(1))
		tune.unswept = 3
		n := startNode(t, tune, &objects{})
		made(t, n, 0, 3)
		order := n.cache.order
		ask(t, n, ErrFull)
		if n.cache.order != order || n.Stats().Full.Load() != 1 {
			t.Error("it was applied, or not counted")
		}
		n.cache.sweep()
		n.followSweep()
		made(t, n, 0, 3)
	})
	t.Run("bytes", func(t *testing.T) {
		tune := smallTuning(newMemFS(1))
		tune.logBytes = 4000
		tune.receipts = 1000
		n := startNode(t, tune, &objects{})
		for n.Stats().Full.Load() == 0 {
			_, _ = n.purgeURL(urlOf(0))
		}
		n.cache.sweep()
		n.followSweep()
		if n.Stats().ReceiptsEarly.Load() == 0 || n.Stats().Bytes.Load() > 3000 {
			t.Errorf("%d receipts left early, %d bytes stay", n.Stats().ReceiptsEarly.Load(), n.Stats().Bytes.Load())
		}
		made(t, n, 0, 3)
	})
	t.Run("pending", func(t *testing.T) {
		tune := smallTuning(newMemFS(1))
		tune.pending = 2
		n := startNode(t, tune, &objects{})
		n.cache.block = make(chan struct{})
		var wg sync.WaitGroup
		for i := range 2 {
			wg.Go(func() { made(t, n, i, 1) })
		}
		waitFor(t, func() bool { return n.Stats().Pending.Load() == 2 })
		ask(t, n, ErrBusy)
		close(n.cache.block)
		wg.Wait()
		ask(t, n, nil)
	})
	t.Run("turns", func(t *testing.T) {
		tune := smallTuning(newMemFS(1))
		tune.applyWait = time.Millisecond
		n := startNode(t, tune, &objects{})
		n.cache.block = make(chan struct{})
		var wg sync.WaitGroup
		wg.Go(func() { made(t, n, 0, 1) })
		waitFor(t, func() bool { return len(n.applying) == 1 })
		ask(t, n, ErrBusy)
		close(n.cache.block)
		wg.Wait()
		ask(t, n, nil)
		if n.Stats().Pending.Load() != 0 || n.queued != 0 {
			t.Error("something is still pending")
		}
	})
	t.Run("the cache's table", func(t *testing.T) {
		n := startNode(t, smallTuning(newMemFS(1)), &objects{})
		n.cache.full = true
		ask(t, n, ErrFull)
		if n.Stats().Pending.Load() != 0 {
			t.Error("it is still pending")
		}
		n.cache.full = false
		ask(t, n, nil)
	})
	t.Run("closed", func(t *testing.T) {
		n := startNode(t, smallTuning(newMemFS(1)), &objects{})
		n.stop()
		ask(t, n, ErrClosed)
	})
}

// Receipts leave with their segments, oldest first, when enough are kept; their
// counts outlive a restart.
func TestReceiptsOfSwept(t *testing.T) {
	fsys, disk := newMemFS(1), &objects{}
	n := startNode(t, smallTuning(fsys), disk)
	all := made(t, n, 0, 40)
	if r := all[0]; r.State != Applied || r.Count != (cache.PurgeCount{Memory: 1, MemoryCounted: true}) ||
		len(r.Nodes) != 1 || r.Nodes[0].Name != "edge" || r.Nodes[0].State != Applied || r.Nodes[0].At.Before(r.Entry.Time) {
		t.Errorf("%+v", r)
	}
	n.cache.sweep()
	n.followSweep()
	kept := n.List(ID{}, 100)
	if len(kept) < 5 || len(kept) > 12 {
		t.Errorf("%d receipts stay", len(kept))
	}
	n.stop()
	next := fsys.restart(true)
	m := startNode(t, smallTuning(next), disk)
	if n := m.Stats().Replayed.Load(); n != 0 {
		t.Errorf("%d replayed that were swept", n)
	}
	again := m.List(ID{}, 100)
	if diff := cmp.Diff(kept, again); diff != "" {
		t.Error(diff)
	}
	if r := again[0]; r.State != Swept || r.Count != (cache.PurgeCount{Memory: 1, Disk: 2, MemoryCounted: true, Counted: true}) {
		t.Errorf("%+v", r)
	}
	if m.Stats().Entries.Load() != int64(len(kept)) || m.Stats().EntriesUnswept.Load() != 0 {
		t.Errorf("%d entries, %d unswept", m.Stats().Entries.Load(), m.Stats().EntriesUnswept.Load())
	}
	// Old ones leave whatever their number.
	tune := smallTuning(next.restart(false))
	m.stop()
	tune.receiptAge = -time.Hour
	m = startNode(t, tune, disk)
	made(t, m, 0, 10)
	m.cache.sweep()
	m.followSweep()
	if n := len(m.List(ID{}, 100)); n > 5 {
		t.Errorf("%d old receipts stay", n)
	}
}

func TestGoneAway(t *testing.T) {
	n := startNode(t, smallTuning(newMemFS(1)), &objects{})
	n.cache.block = make(chan struct{})
	close(n.cache.block)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for range 100 { // whichever is noticed first
		if _, err := n.Purge(ctx, Request{All: true}); err != nil && !errors.Is(err, ErrUnknown) {
			t.Fatal(err)
		}
	}
}
