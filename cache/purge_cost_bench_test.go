package cache

// What purges cost those who hit: CPU time of the thread that looks up, in rounds that
// alternate between no new purge and a thousand a second of all kinds, so that both
// meet the same machine. It is the mean over all pairs of rounds, and beside it that over
// the middle half of them.
//
//	EDGE_PURGE_RECORDS=10000000 go test -run '^$' -bench PurgeCost -benchtime 300x ./cache
//
// A record of the check alone takes 0.6 kB, one of a whole hit 1.1 kB.

import (
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"edgecdn/cache/store"
)

const (
	// costRound is how many hits are measured, some tens of purges at 1,000 a second, and
	// how many come before: what those of the other kind wrote leaves the processor's
	// caches at the cost of who comes after them.
	costRound = 20_000
	// costStanding purges come before anything is measured, and costBetween hits between two
	// of them, as one thread makes in a millisecond: as many as come while the sweep walks
	// over ten million records, for which it takes a fourth of a processor. Some hundred
	// rounds bring them to three times as many, what there is when the next pass ends.
	costStanding = 12_000
	costBetween  = 500
	// costLate purges are made at once at most.
	costLate = 20
)

func costRecords(tb testing.TB) int {
	text := os.Getenv("EDGE_PURGE_RECORDS")
	if text == "" {
		return 1_000_000
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		tb.Fatal(err)
	}
	return n
}

// threadTime is the CPU time of this thread.
func threadTime(tb testing.TB) time.Duration {
	var t unix.Timespec // getrusage counts in ticks of 4 ms
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &t); err != nil {
		tb.Fatal(err)
	}
	return time.Duration(t.Nano())
}

// A pick chooses the record that the next hit finds.
type pick func() int

// costPicks are how hits spread over n records: as in a zipf with exponent 0.9, which
// is what a busy node sees, and evenly, so that nearly every hit finds one that was last
// looked at tens of thousands of purges ago.
func costPicks(n int) []struct {
	name string
	pick pick
} {
	rng := rand.New(rand.NewPCG(1, 2))
	const skew = 1 - 0.9
	drawn, at := make([]uint32, 1<<24), 0
	top := math.Pow(float64(n+1), skew) - 1
	for i := range drawn {
		rank := uint64(math.Pow(1+rng.Float64()*top, 1/skew)) - 1
		drawn[i] = uint32(rank * 2_654_435_761 % uint64(n)) // so that neighbours in rank are none in memory
	}
	return []struct {
		name string
		pick pick
	}{
		{"zipf", func() int { at++; return int(drawn[at&(len(drawn)-1)]) }},
		{"even", func() int { return rng.IntN(n) }},
	}
}

// costTarget is five segments deep.
func costTarget(b []byte, i int) []byte {
	for _, part := range []struct {
		name string
		n    int
	}{{"/shop/", i % 10}, {"/", i % 100}, {"/", i % 1000}, {"/item-", i}} {
		b = strconv.AppendInt(append(b, part.name...), int64(part.n), 10)
	}
	return b
}

// costMeta names a record's prefixes and eight groups, appended to hashes.
func costMeta(c *Cache, r *Request, i int, hashes []uint64) store.Meta {
	from := len(hashes)
	hashes = c.names.appendPrefixes(hashes, "https://"+r.Host, r.Target)
	for k, of := range []int{2, 3, 5, 7, 11, 1009, 10007, 1 << 30} {
		hashes = append(hashes, c.names.group.Sum(r.Host+"\n"+string(byte('a'+k))+strconv.Itoa(i%of)))
	}
	now := time.Now().UnixNano()
	return store.Meta{Length: 16, Stored: now, FreshUntil: 1 << 62, URL: c.names.url.Sum(string(appendURL(nil, r))), Host: c.names.host.Sum(r.Host),
		Groups: hashes[from:len(hashes):len(hashes)]}
}

// measureCost runs rounds of look, which hits a record, and reports what they cost.
// While they are quiet another cache is purged as often: that another processor works,
// perhaps on the same core, is not what purges cost those who hit.
func measureCost(b *testing.B, c *Cache, look func(i int), pick pick) {
	began := time.Now()
	if _, err := c.pass(b.Context(), func() bool { return true }); err != nil { // those of the last measurement leave the table
		b.Fatal(err)
	}
	pass := time.Since(began)
	elsewhere, _ := purgeBed(b, 0)
	at := [2]*Cache{elsewhere.cache, c}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	g := &c.purges
	for i := range costStanding {
		if _, err := c.Purge([]Purge{otherPurge(i)}); err != nil {
			b.Fatal(err)
		}
		for range costBetween {
			look(pick())
		}
	}
	purge := make(chan int) // at which
	done := make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		on, since, made := 0, time.Now(), 0
		for i := costStanding; ; {
			select {
			case to, more := <-purge:
				if !more {
					return
				}
				on, since, made = to, time.Now(), 0
			case <-tick.C:
			}
			due := int(time.Since(since) / time.Millisecond)
			if due-made > costLate {
				made = due // the machine stood still
			}
			for ; made < due; made, i = made+1, i+1 {
				_, _ = at[on].Purge([]Purge{otherPurge(i)})
			}
		}
	}()
	round := func() float64 {
		began := threadTime(b)
		for range costRound {
			look(pick())
		}
		return float64(threadTime(b)-began) / costRound
	}
	var quiet, more []float64
	var purged, worked, entries float64
	for b.Loop() {
		order := g.order.Load()
		g.order.Store(0) // nothing is newer than any record's last look
		_ = round()
		without := round()
		g.order.Store(order)
		purge <- 1
		_ = round()
		from := g.order.Load()
		with := round()
		purged, worked = purged+float64(g.order.Load()-from), worked+with*costRound/1e9
		purge <- 0
		quiet, more = append(quiet, without), append(more, with-without)
		entries += float64(c.stats.PurgeEntries.Load())
	}
	close(purge)
	<-done
	b.ReportMetric(mean(quiet), "quiet-ns/hit")
	b.ReportMetric(mean(more), "more-ns/hit")
	b.ReportMetric(standardError(more), "more-se-ns/hit")
	b.ReportMetric(midmean(more), "more-mid-ns/hit")
	b.ReportMetric(purged/worked, "purges/s")
	b.ReportMetric(entries/float64(len(more)), "entries")
	b.ReportMetric(pass.Seconds(), "s/sweep")
	b.ReportMetric(0, "ns/op")
}

func mean(of []float64) float64 {
	sum := 0.0
	for _, v := range of {
		sum += v
	}
	return sum / float64(len(of))
}

// standardError is how far the mean of so many may be off by chance.
func standardError(of []float64) float64 {
	middle, squares := mean(of), 0.0
	for _, v := range of {
		squares += (v - middle) * (v - middle)
	}
	return math.Sqrt(squares) / float64(len(of))
}

// midmean is the mean of the middle half: a processor that is taken away from a machine
// counts as work in the few rounds that it is taken from.
func midmean(of []float64) float64 {
	slices.Sort(of)
	return mean(of[len(of)/4 : (3*len(of)+3)/4])
}

// BenchmarkPurgeCostOfCheck is what a hit does for purges beside what it reads anyway.
func BenchmarkPurgeCostOfCheck(b *testing.B) {
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	n := costRecords(b)
	bed, _ := purgeBed(b, 1)
	c := bed.cache
	metas, headers, hashes := make([]store.Meta, n), make([]response, n), make([]uint64, 0, 14*n)
	seen := make([]struct { // and what a lookup writes anyway
		order atomic.Uint64
		hits  atomic.Int64
		_     [48]byte
	}, n)
	r := bed.request("GET", "/")
	var target []byte
	for i := range n {
		target = costTarget(target[:0], i)
		r.Target = string(target)
		metas[i] = costMeta(c, r, i, hashes)
		hashes = hashes[:len(hashes)+len(metas[i].Groups)]
		c.purges.setPrints(&metas[i])
		if i%2_000_000 == 1_999_999 {
			runtime.GC()
		}
	}
	now := time.Now().UnixNano()
	look := func(i int) {
		seen[i].hits.Add(1)
		meta, p := &metas[i], &headers[i]
		if meta.Length != 16 || p.varyBy != nil || p.usable(now) == useFresh || !c.purges.admits(meta, p, &seen[i].order, true) {
			b.Fatal("no hit")
		}
	}
	for _, p := range costPicks(n) {
		b.Run(p.name, func(b *testing.B) { measureCost(b, c, look, p.pick) })
	}
}

// costBed returns a cache with n responses in memory, as costTarget and costMeta say.
func costBed(b *testing.B, n int) *bed {
	defer debug.SetGCPercent(debug.SetGCPercent(20))
	bed, _ := purgeBed(b, 1)
	keep := bed.cache.store
	header := (&response{status: 200, freshUntil: 1 << 62}).encode()
	r := bed.request("GET", "/")
	var target []byte
	for i := range n {
		target = costTarget(target[:0], i)
		r.Target = string(target)
		meta := costMeta(bed.cache, r, i, make([]uint64, 0, 14))
		meta.Header = header
		writer, err := keep.Create(keep.Hasher().Key(string(appendKey(nil, r))), meta)
		if err != nil {
			b.Fatal(i, err)
		}
		if _, err := writer.Write(make([]byte, 16)); err != nil {
			b.Fatal(i, err)
		}
		stored, err := writer.Commit(meta)
		if err != nil {
			b.Fatal(i, err)
		}
		stored.Close()
	}
	runtime.GC()
	return bed
}

// BenchmarkPurgeCostOfHit is all of a hit. No sweep runs: each would begin with the first
// purge of a round, and slow those that follow down as any work beside them does.
func BenchmarkPurgeCostOfHit(b *testing.B) {
	n := costRecords(b)
	bed := costBed(b, n)
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	r := bed.request("GET", "/", Field{"accept", "*/*"})
	var target []byte
	look := func(i int) {
		target = costTarget(target[:0], i)
		r.Target = text(target)
		hit, ok := bed.cache.Lookup(r)
		if !ok {
			b.Fatal("no hit: ", fmt.Sprint(r.Target))
		}
		hit.Release()
	}
	for _, p := range costPicks(n) {
		b.Run(p.name, func(b *testing.B) { measureCost(b, bed.cache, look, p.pick) })
	}
}

// BenchmarkSweep is a pass of the sweep over memory, without its rests, when purges wait.
func BenchmarkSweep(b *testing.B) {
	n := costRecords(b)
	bed := costBed(b, n)
	for i := 0; b.Loop(); {
		b.StopTimer()
		for to := i + costStanding; i < to; i++ {
			if _, err := bed.cache.Purge([]Purge{otherPurge(i)}); err != nil {
				b.Fatal(err)
			}
		}
		b.StartTimer()
		if _, err := bed.cache.pass(b.Context(), func() bool { return true }); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/record")
}
