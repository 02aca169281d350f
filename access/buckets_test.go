package access_test

import (
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"edgecdn/access"
)

func client(n int) netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(n >> 16), byte(n >> 8), byte(n)}), 32)
}

func TestBucketsGiveRateAndBurst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := access.NewBuckets()
		const interval, burst = 100 * time.Millisecond, 5
		take := func(rule uint64, n int) time.Duration { return b.Take(rule, client(n), interval, burst) }
		for range burst {
			if wait := take(1, 1); wait != 0 {
				t.Fatalf("within the burst: wait %v", wait)
			}
		}
		wait := take(1, 1)
		if wait != interval {
			t.Fatalf("beyond the burst: wait %v, want %v", wait, interval)
		}
		if take(1, 2) != 0 || take(2, 1) != 0 {
			t.Error("another client, or another rule, has to wait")
		}
		time.Sleep(wait)
		if take(1, 1) != 0 {
			t.Error("refused after the wait that was asked for")
		}
		if take(1, 1) == 0 {
			t.Error("two tokens after the time for one")
		}
		time.Sleep(time.Hour)
		for range burst {
			if take(1, 1) != 0 {
				t.Error("refused with a full bucket")
			}
		}
		if take(1, 1) == 0 {
			t.Error("a bucket holds more than its burst")
		}
	})
}

// TestBucketsCannotBeFlushed: whoever comes from a hundred thousand addresses does
// not thereby get a full bucket for any of them, and hardly anybody else suffers.
func TestBucketsCannotBeFlushed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := access.NewBuckets()
		const interval, burst = time.Minute, 3
		for range burst {
			b.Take(1, client(0), interval, burst)
		}
		for n := 1; n <= 100_000; n++ {
			b.Take(1, client(n), interval, burst)
		}
		if b.Take(1, client(0), interval, burst) == 0 {
			t.Error("the bucket was forgotten")
		}
		b = access.NewBuckets()
		for n := range 5_000 { // that are limited
			for range burst {
				b.Take(1, client(n), interval, burst)
			}
		}
		wronged := 0
		for n := 1_000_000; n < 1_010_000; n++ {
			if b.Take(2, client(n), interval, burst) != 0 {
				wronged++
			}
		}
		if wronged > 20 {
			t.Errorf("%d of 10,000 innocent clients are limited", wronged)
		}
	})
}

func TestBucketsAllocateNothing(t *testing.T) {
	b := access.NewBuckets()
	if n := testing.AllocsPerRun(100, func() { b.Take(1, client(1), time.Hour, 5) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkBucketsTake(b *testing.B) {
	buckets := access.NewBuckets()
	b.ReportAllocs()
	for n := 0; b.Loop(); n++ {
		buckets.Take(1, client(n&0xffff), time.Nanosecond, 5)
	}
}
