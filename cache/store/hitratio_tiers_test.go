package store

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"runtime"
	"testing"

	"edgecdn/internal/unit"
)

// tiersScale is by how much sizes and tiers are smaller than what they stand for,
// so that the disk tier of the test fits on any machine.
const tiersScale = 8

// tiersGoals on zipf09, after the first quarter.
const (
	writtenPerServedMax   = 0.15
	writeAmplificationMax = 1.5
	tiersToS3FIFOMin      = 0.97
)

// TestHitRatioOfTiers replays requests through memory of half a percent over a
// disk of ten percent of the footprint. It takes minutes and some GB of disk:
// only with EDGE_HITRATIO=all.
func TestHitRatioOfTiers(t *testing.T) {
	if os.Getenv("EDGE_HITRATIO") != "all" {
		t.Skip("EDGE_HITRATIO=all is not set")
	}
	tr := zipfTrace(1_000_000)
	for i := range tr.sizes {
		tr.sizes[i] = max(tr.sizes[i]/tiersScale, 1)
	}
	total, _ := tr.footprint()
	tiers := openTiers(t, total/200, total/10)
	quarter := len(tr.requests) / 4
	var hits, all, served int64
	var start DirectoryStats
	for i, id := range tr.requests {
		if i == quarter {
			start = tiers.store.disk.Stats().Directories[0]
			hits, all, served = 0, 0, 0
		}
		all++
		served += tr.sizes[id]
		if tiers.request(t, uint64(id), tr.sizes[id]) {
			hits++
		}
		tiers.keepUp(i)
	}
	end := tiers.store.disk.Stats().Directories[0]
	written, again := end.BytesWritten-start.BytesWritten, end.TakenBackBytes-start.TakenBackBytes
	ratio := float64(hits) / float64(all)
	best, _ := replay(tr, newS3FIFO(total/10))
	perServed, amplification := float64(written)/float64(served), float64(written)/float64(written-again)
	t.Logf("disk of %.0f MiB, used %.0f: object hit ratio %.3f, S3-FIFO's %.3f; %.3f bytes written per byte served, write amplification %.2f",
		mib(end.BytesMax), mib(end.BytesUsed), ratio, best, perServed, amplification)
	t.Logf("%+v", end)
	if ratio < tiersToS3FIFOMin*best {
		t.Errorf("object hit ratio is %.3f of S3-FIFO's, want %.2f", ratio/best, tiersToS3FIFOMin)
	}
	if perServed > writtenPerServedMax || amplification > writeAmplificationMax {
		t.Errorf("%.3f bytes written per byte served and amplification %.2f, want at most %.2f and %.1f",
			perServed, amplification, writtenPerServedMax, writeAmplificationMax)
	}
}

type tiers struct {
	store *Tiered
	body  []byte
}

func openTiers(t *testing.T, memory, disk int64) *tiers {
	store, err := Open(Config{
		Memory: MemoryConfig{Bytes: unit.Bytes(max(memory, int64(memoryBytesMin)))},
		Disk:   []DiskConfig{{Path: t.TempDir(), Bytes: unit.Bytes(disk)}},
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	// The filters are made for the sizes that these stand for.
	store.disk.seen.Store(newSeenFilter(disk * tiersScale / keyBytes))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- store.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := errors.Join(<-done, store.Close()); err != nil {
			t.Error(err)
		}
	})
	return &tiers{store, make([]byte, 256e6/tiersScale)}
}

func (c *tiers) request(t *testing.T, id uint64, size int64) bool {
	key := c.store.Hasher().Key(fmt.Sprint("https://example.org/", id))
	s, err := c.store.Open(key)
	if err == nil {
		s.Close()
		return true
	}
	meta := Meta{Header: c.body[:200], Length: size, KeepUntil: math.MaxInt64}
	w, err := c.store.Create(key, meta)
	if err != nil {
		return false // the disk tier does not want a large object yet
	}
	defer w.Abort()
	for rest := size; rest > 0; rest -= min(rest, BodyMax) {
		if _, err := w.Write(c.body[:min(rest, BodyMax)]); err != nil {
			return false
		}
	}
	if s, err = w.Commit(meta); err != nil {
		t.Log(err)
		return false
	}
	s.Close()
	return false
}

// keepUp lets the disk tier catch up: a replay is faster than any traffic.
func (c *tiers) keepUp(i int) {
	if i%64 != 0 {
		return
	}
	for c.store.stats.offersPending.Load() > offersMax/4 || c.store.disk.Stats().Directories[0].BacklogBytes > 8<<20 {
		runtime.Gosched()
	}
}

func mib(n int64) float64 { return float64(n) / (1 << 20) }
