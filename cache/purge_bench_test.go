package cache

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"time"

	"edgecdn/cache/store"
	"edgecdn/route"
)

// purgeBed returns a cache with n responses of one host in memory, five segments
// deep and in eight groups each, and the requests that find them.
func purgeBed(tb testing.TB, n int) (*bed, []*Request) {
	keep, err := store.Open(store.Config{Prepare: Prepare, Memory: store.MemoryConfig{Bytes: 14 << 30}}, nil)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = keep.Close() })
	table, err := route.NewTable([]route.Host{{Names: []string{"*"}, Policy: route.Policy{Origin: "o"}}})
	if err != nil {
		tb.Fatal(err)
	}
	b := &bed{table: table, cache: New(Config{Store: keep, Match: table.Match})}
	requests := make([]*Request, n)
	for i := range requests {
		r := b.request("GET", fmt.Sprintf("/shop/%d/%d/%d/item-%d", i%10, i%100, i%1000, i), Field{"accept", "*/*"})
		requests[i] = r
		fields := []Field{{"cache-tag", fmt.Sprintf("a%d,b%d,c%d,d%d,e%d,f%d,g%d,item-%d", i%2, i%3, i%5, i%7, i%11, i%1009, i%10007, i)},
			{"date", "Sun, 22 Nov 2026 22:46:00 GMT"}}
		f := b.cache.newFill(r, 0)
		p := &response{status: 200, fields: fields, freshUntil: 1 << 62}
		writer, err := keep.Create(keep.Hasher().Key(string(appendKey(nil, r))), f.meta(p, 16))
		if err != nil {
			tb.Fatal(err)
		}
		if _, err := writer.Write(bytes.Repeat([]byte("x"), 16)); err != nil {
			tb.Fatal(err)
		}
		stored, err := writer.Commit(f.meta(p, 16))
		if err != nil {
			tb.Fatal(err)
		}
		stored.Close()
	}
	return b, requests
}

// otherPurge names something that nobody has stored.
func otherPurge(i int) Purge {
	p := Purge{Kind: []PurgeKind{PurgeURL, PurgePrefix, PurgeHost, PurgeGroup}[i%4], Soft: i/4%4 == 0, Scheme: "https", Host: "a.test"}
	switch p.Kind {
	case PurgeHost:
		p.Host = fmt.Sprintf("h%d.test", i)
	case PurgeGroup:
		p.Name = fmt.Sprintf("other-%d", i)
	default:
		p.Name = fmt.Sprintf("/other/%d/%d", i%10, i)
	}
	return p
}

// BenchmarkHitWhilePurging costs a hit among many, the keys in random order, while
// purges of all kinds arrive: every hit has to look them up.
func BenchmarkHitWhilePurging(b *testing.B) {
	const records = 1_000_000
	bed, requests := purgeBed(b, records)
	for _, bench := range []struct {
		name     string
		standing int // purges that are not swept
		rate     int // a second
	}{
		{"none", 0, 0}, {"standing=60000", 60_000, 0}, {"rate=1000", 0, 1000}, {"rate=1000/standing=200000", 140_000, 1000},
	} {
		for i := range bench.standing {
			if _, err := bed.cache.Purge([]Purge{otherPurge(i)}); err != nil {
				b.Fatal(err)
			}
		}
		b.Run(bench.name, func(b *testing.B) {
			ctx, stop := context.WithCancel(context.Background())
			done := make(chan struct{})
			go func() {
				defer close(done)
				if bench.rate == 0 {
					return
				}
				tick := time.NewTicker(time.Second / time.Duration(bench.rate))
				defer tick.Stop()
				for i := 1 << 20; ; i++ {
					select {
					case <-ctx.Done():
						return
					case <-tick.C:
					}
					_, _ = bed.cache.Purge([]Purge{otherPurge(i)})
				}
			}()
			rng := rand.New(rand.NewPCG(1, 2))
			b.ReportAllocs()
			for b.Loop() {
				hit, ok := bed.cache.Lookup(requests[rng.IntN(records)])
				if !ok {
					b.Fatal("no hit")
				}
				hit.Release()
			}
			b.StopTimer()
			stop()
			<-done
			b.ReportMetric(float64(bed.cache.stats.PurgeEntries.Load()), "entries")
		})
	}
}

// BenchmarkCheck costs what a hit pays for a purge that came since the last one.
func BenchmarkCheck(b *testing.B) {
	for _, n := range []int{1000, 300_000} {
		bed, requests := purgeBed(b, n)
		type record struct {
			meta *store.Meta
			p    *response
			seen *atomic.Uint64
		}
		records := make([]record, n)
		for i, r := range requests {
			stored, _ := bed.cache.lookupMemory(r)
			records[i] = record{stored.Meta(), stored.Value().(*response), stored.Seen()}
		}
		for i := range 8_000 {
			if _, err := bed.cache.Purge([]Purge{otherPurge(i)}); err != nil {
				b.Fatal(err)
			}
		}
		g := &bed.cache.purges
		for _, moved := range []bool{false, true} {
			b.Run(fmt.Sprintf("records=%d/moved=%v", n, moved), func(b *testing.B) {
				rng := rand.New(rand.NewPCG(1, 2))
				for b.Loop() {
					at := &records[rng.IntN(n)]
					if moved {
						at.seen.Store(g.order.Load() - 5)
					} else {
						at.seen.Store(g.order.Load())
					}
					if !g.admits(at.meta, at.p, at.seen, true) {
						b.Fatal("purged")
					}
				}
			})
		}
	}
}
