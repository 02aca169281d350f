package purge

import (
	"log/slog"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"context"
)

// startReal runs a log in a directory.
func startReal(tb testing.TB, dir string, fsys filesystem) (*Log, *fakeCache) {
	tb.Helper()
	tune := defaultTuning
	tune.fs = fsys
	l, err := open(Config{Dir: filepath.Join(dir, "purge")}, slog.New(slog.DiscardHandler), tune)
	if err != nil {
		tb.Fatal(err)
	}
	disk := &objects{}
	disk.claim(l.Incarnation())
	c := newFakeCache(l.Boot(), disk)
	if err := l.Replay(c); err != nil {
		tb.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ran := make(chan error, 1)
	go func() { ran <- l.Run(ctx) }()
	tb.Cleanup(func() {
		cancel()
		if err := <-ran; err != nil {
			tb.Error(err)
		}
	})
	return l, c
}

// BenchmarkPurge is a purge of one URL, durable on a real file system, with many
// that ask at once; syncs/purge says how many share a sync.
func BenchmarkPurge(b *testing.B) {
	for _, at := range []int{1, 256} {
		b.Run(map[int]string{1: "one at a time", 256: "256 at once"}[at], func(b *testing.B) {
			l, _ := startReal(b, b.TempDir(), osFS{})
			b.ReportAllocs()
			b.SetParallelism(at)
			var next atomic.Int64
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					r := Request{URLs: []string{urlOf(int(next.Add(1)))}, Actor: "bench"}
					if _, err := l.Purge(context.Background(), r); err != nil {
						b.Fatal(err)
					}
				}
			})
			b.ReportMetric(float64(l.Stats().Syncs.Load())/float64(l.Stats().Purges.Load()), "syncs/purge")
		})
	}
}

// BenchmarkOpen replays a log of 100,000 entries.
func BenchmarkOpen(b *testing.B) {
	fsys := newMemFS(1)
	tune := defaultTuning
	tune.fs = fsys
	l, err := open(Config{Dir: testDir}, nil, tune)
	if err != nil {
		b.Fatal(err)
	}
	const entries, perBatch = 100_000, 1000
	for i := 0; i < entries; i += perBatch {
		var batch []*pending
		for k := range perBatch {
			p := &pending{entry: Entry{ID: l.identify(time.Now()), Order: 1<<40 + uint64(i+k), Time: time.Now(), Actor: "bench"}}
			p.entry.Purges = append(p.entry.Purges, purgeOf(urlOf(i+k)))
			p.code = appendEntry(nil, &p.entry)
			batch = append(batch, p)
		}
		if err := l.write(batch); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportAllocs()
	for b.Loop() {
		l, err := open(Config{Dir: testDir}, nil, tune)
		if err != nil {
			b.Fatal(err)
		}
		if err := l.Replay(newFakeCache(9, &objects{})); err != nil {
			b.Fatal(err)
		}
		if l.Stats().Replayed.Load() != entries {
			b.Fatal(l.Stats().Replayed.Load())
		}
	}
}

// slowFS is the real file system on a device that takes its time to sync: how many
// purges share a sync depends on that, and some devices sync in no time.
type slowFS struct{ osFS }

type slowFile struct{ file }

func (f slowFile) Sync() error {
	<-time.After(50 * time.Millisecond)
	return f.file.Sync()
}

func (s slowFS) open(path string) (file, error) { return slow(s.osFS.open(path)) }

func (s slowFS) create(path string) (file, error) { return slow(s.osFS.create(path)) }

func slow(f file, err error) (file, error) {
	if err != nil {
		return nil, err
	}
	return slowFile{f}, nil
}

// A thousand purges a second share their syncs.
func TestStorm(t *testing.T) {
	l, c := startReal(t, t.TempDir(), slowFS{})
	const perSecond, seconds, at = 1000, 3, 20
	began := time.Now()
	tick := time.NewTicker(time.Second * at / perSecond)
	defer tick.Stop()
	results := make(chan error, perSecond*seconds)
	for i := range perSecond * seconds {
		if i%at == 0 {
			<-tick.C
		}
		go func() {
			_, err := l.Purge(context.Background(), Request{URLs: []string{urlOf(i)}, Actor: "storm"})
			results <- err
		}()
	}
	for range perSecond * seconds {
		if err := <-results; err != nil {
			t.Fatal(err)
		}
	}
	s := l.Stats()
	t.Logf("%d purges in %v with %d syncs", s.Purges.Load(), time.Since(began).Round(time.Millisecond), s.Syncs.Load())
	if s.Syncs.Load() > perSecond*seconds/4 {
		t.Errorf("%d syncs for %d purges", s.Syncs.Load(), perSecond*seconds)
	}
	if got := len(l.List(ID{}, 10_000)); got != perSecond*seconds || len(c.applied) != got {
		t.Errorf("%d receipts, %d applied", got, len(c.applied))
	}
}
