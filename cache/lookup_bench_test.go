package cache

import (
	"bytes"
	"context"
	"testing"

	"edgecdn/cache/store"
	"edgecdn/route"
)

// BenchmarkLookup costs a hit in memory, by what the client accepts and the
// response is.
func BenchmarkLookup(b *testing.B) {
	for _, bench := range []struct {
		name, contentType string
		accept            string
	}{
		{"plain", "image/png", "gzip, deflate, br, zstd"},
		{"coded", "text/css", "gzip, deflate, br, zstd"},
		{"codable", "text/css", "identity"},
	} {
		b.Run(bench.name, func(b *testing.B) {
			memory, err := store.Open(store.Config{Prepare: Prepare}, nil)
			if err != nil {
				b.Fatal(err)
			}
			defer func() { _ = memory.Close() }()
			body := bytes.Repeat([]byte("body { color: red }\n"), 1000)
			c := New(Config{Store: memory, Origin: &scriptedOrigin{answers: map[string]answerFunc{
				"/a": answering(200, bytes.NewReader(body), int64(len(body)), "Cache-Control", "max-age=60", "ETag", `"1"`, "Content-Type", bench.contentType)}},
				Direct: func(ctx context.Context, _, target string) context.Context {
					return context.WithValue(ctx, targetKey{}, target)
				}})
			table, err := route.NewTable([]route.Host{{Names: []string{"*"}, Policy: route.Policy{Origin: "o"}}})
			if err != nil {
				b.Fatal(err)
			}
			bed := &bed{cache: c, table: table}
			request := func() *Request {
				return bed.request("GET", "/a", Field{"user-agent", "bench"}, Field{"accept", "*/*"}, Field{"accept-encoding", bench.accept})
			}
			for range 3 { // fetched, asked for, coded
				bed.do(context.Background(), request())
				c.work.Wait()
			}
			r := request()
			b.ReportAllocs()
			for b.Loop() {
				hit, ok := c.Lookup(r)
				if !ok {
					b.Fatal("no hit")
				}
				hit.Release()
			}
		})
	}
}
