package cache

import (
	"bytes"
	"context"
	"testing"

	"edgecdn/cache/store"
	"edgecdn/route"
)

// warmBed returns a bed outside of a bubble, and a request that memory answers: for
// a text of 20 kB in the coding that accept likes best, or for what is no text.
func warmBed(tb testing.TB, contentType, accept string) (*bed, *Request) {
	memory, err := store.Open(store.Config{Prepare: Prepare}, nil)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = memory.Close() })
	body := bytes.Repeat([]byte("body { color: red }\n"), 1000)
	c := New(Config{
		Store: memory,
		Origin: &scriptedOrigin{answers: map[string]answerFunc{"/a": answering(200, bytes.NewReader(body), int64(len(body)),
			"Cache-Control", "max-age=60", "ETag", `"1"`, "Content-Type", contentType)}},
		Direct: func(ctx context.Context, _, target string) context.Context {
			return context.WithValue(ctx, targetKey{}, target)
		},
	})
	table, err := route.NewTable([]route.Host{{Names: []string{"*"}, Policy: route.Policy{Origin: "o"}}})
	if err != nil {
		tb.Fatal(err)
	}
	b := &bed{cache: c, table: table}
	request := func() *Request {
		return b.request("GET", "/a", Field{"user-agent", "bench"}, Field{"accept", "*/*"}, Field{"accept-encoding", accept})
	}
	for range 3 { // fetched, asked for, coded
		b.do(context.Background(), request())
		c.work.Wait()
	}
	return b, request()
}

const browserAccepts = "gzip, deflate, br, zstd"

// BenchmarkLookup costs a hit in memory, by what the client accepts and the
// response is.
func BenchmarkLookup(b *testing.B) {
	for _, bench := range []struct{ name, contentType, accept string }{
		{"plain", "image/png", browserAccepts},
		{"coded", "text/css", browserAccepts},
		{"weighed", "text/css", "gzip;q=0.5, br;q=0.9, *;q=0.1"},
		{"identity", "text/css", "identity"},
	} {
		b.Run(bench.name, func(b *testing.B) {
			bed, r := warmBed(b, bench.contentType, bench.accept)
			b.ReportAllocs()
			for b.Loop() {
				hit, ok := bed.cache.Lookup(r)
				if !ok {
					b.Fatal("no hit")
				}
				hit.Release()
			}
		})
	}
}

func TestLookupAllocatesNothing(t *testing.T) {
	for _, accept := range []string{browserAccepts, "GZIP;q=0.5, x-gzip, BR ; q=0.001, *;q=0", "identity"} {
		b, r := warmBed(t, "text/css", accept)
		coded := false
		if n := testing.AllocsPerRun(100, func() {
			hit, ok := b.cache.Lookup(r)
			if !ok {
				t.Fatal("no hit")
			}
			coded = hit.coding != ""
			hit.Release()
		}); n != 0 || coded != (accept != "identity") {
			t.Errorf("%s: %v allocations, coded %v", accept, n, coded)
		}
	}
}
