package cache

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"

	"edgecdn/cache/store"
	"edgecdn/route"
)

// browserFields are what a browser sends.
var browserFields = []Field{
	{"connection", "keep-alive"},
	{"user-agent", "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36"},
	{"accept", "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"},
	{"accept-encoding", "gzip, deflate, br, zstd"},
	{"accept-language", "en-GB,en;q=0.9,de;q=0.8"},
	{"sec-ch-ua", `"Chromium";v="140", "Not=A?Brand";v="24"`},
	{"sec-ch-ua-mobile", "?0"},
	{"sec-ch-ua-platform", `"Linux"`},
	{"sec-fetch-dest", "document"},
	{"sec-fetch-mode", "navigate"},
	{"sec-fetch-site", "none"},
	{"sec-fetch-user", "?1"},
	{"upgrade-insecure-requests", "1"},
	{"cookie", "session=3f9c2ab8e1d74f6b; consent=1; theme=dark"},
	{"referer", "https://www.example.com/"},
	{"priority", "u=0, i"},
}

// hitCase is a request that memory answers, by what has to be judged for it.
type hitCase struct {
	name   string
	fields []Field
	host   route.Host
	vary   string
	more   []string // fields of the response: name, value, ...
	status int
	coding string // of the body that is sent
}

var hitCases = []hitCase{
	{name: "bare", fields: []Field{}, status: 200},
	{name: "browser", status: 200},
	{name: "if-none-match", fields: append([]Field{{"if-none-match", `"0", W/"1"`}}, browserFields...), status: 304},
	{name: "if-modified-since", fields: append([]Field{{"if-modified-since", "Mon, 01 Jan 2024 00:00:00 GMT"}}, browserFields...), status: 304},
	{name: "if-match", fields: append([]Field{{"if-match", `"1"`}}, browserFields...), status: 200},
	{name: "range", fields: append([]Field{{"range", "bytes=100-199"}, {"if-range", `"1"`}}, browserFields...), status: 206},
	{name: "no-range", fields: append([]Field{{"range", "bytes=100000-"}}, browserFields...), status: 416},
	{name: "authorization", fields: append([]Field{{"authorization", "Bearer x"}}, browserFields...), status: 200},
	{name: "vary", vary: "Accept-Encoding, Accept-Language", status: 200},
	{name: "vary-listed", vary: "Accept-Language", status: 200,
		host: route.Host{Policy: route.Policy{Cache: route.Cache{Vary: map[string][]string{"Accept-Language": {"de", "en"}}}}}},
	{name: "groups", status: 200, more: []string{"Cache-Groups", `"a", "b"`, "Surrogate-Key", "c d e", "Cache-Tag", "f,g,h"}},
	{name: "stale-windows", status: 200, more: []string{"CDN-Cache-Control", "max-age=36000, stale-while-revalidate=60, stale-if-error=600"}},
	{name: "coded", status: 200, coding: "br", more: []string{"Content-Type", "text/css"}},
	{name: "coded-304", fields: append([]Field{{"if-none-match", `W/"1"`}}, browserFields...), status: 304, more: []string{"Content-Type", "text/css"}},
	{name: "key", status: 200, host: route.Host{Policy: route.Policy{Cache: route.Cache{
		Key: route.Key{Headers: []string{"Accept-Language"}, Cookies: []string{"theme"}, Query: route.Query{Deny: []string{"utm_*"}}}}}}},
}

// hitBed is a cache with so many stored responses, and the request for each.
func hitBed(t testing.TB, hc hitCase, keys int) (*Cache, []*Request) {
	t.Helper()
	memory, err := store.Open(store.Config{Memory: store.MemoryConfig{Bytes: 256 << 20}, Prepare: Prepare}, nil)
	if err != nil {
		t.Fatal(err)
	}
	host, fields := hc.host, hc.fields
	host.Names, host.Origin = []string{"*"}, "o"
	table, err := route.NewTable([]route.Host{host})
	if err != nil {
		t.Fatal(err)
	}
	body := bytes.Repeat([]byte("x"), 2000)
	o := &scriptedOrigin{answers: map[string]answerFunc{"": func(r *http.Request) (*http.Response, error) {
		h := []string{"Cache-Control", "public, max-age=36000", "ETag", `"1"`, "Last-Modified", "Mon, 01 Jan 2024 00:00:00 GMT",
			"Content-Type", "image/png", "Server", "origin/1.0", "Strict-Transport-Security", "max-age=31536000"}
		if hc.vary != "" {
			h = append(h, "Vary", hc.vary)
		}
		resp, err := answering(200, bytes.NewReader(body), 2000, h...)(r)
		for i := 0; i < len(hc.more); i += 2 {
			resp.Header.Set(hc.more[i], hc.more[i+1])
		}
		return resp, err
	}}}
	c := New(Config{Store: memory, Origin: o, Direct: func(ctx context.Context, _, target string) context.Context {
		return context.WithValue(ctx, targetKey{}, target)
	}})
	b := &bed{cache: c, table: table, origin: o}
	if fields == nil {
		fields = browserFields
	}
	requests := make([]*Request, keys)
	for i := range requests {
		target := fmt.Sprintf("/assets/%d/page-%d.html?v=%d", i%97, i, i)
		for range 2 { // fetched, and asked for in a coding
			b.do(t.Context(), b.request("GET", target, browserFields...))
			c.work.Wait()
		}
		requests[i] = b.request("GET", target, fields...)
	}
	t.Cleanup(func() {
		c.Close()
		if err := memory.Close(); err != nil {
			t.Error(err)
		}
	})
	return c, requests
}

// A hit in memory allocates nothing, whatever has to be judged for it.
func TestHitAllocatesNothing(t *testing.T) {
	for _, hc := range hitCases {
		t.Run(hc.name, func(t *testing.T) {
			c, requests := hitBed(t, hc, 1)
			r := requests[0]
			allocs := testing.AllocsPerRun(200, func() {
				hit, ok := c.Lookup(r)
				if !ok || hit.Status != hc.status || hit.coding != hc.coding {
					t.Fatal(ok, hit.Status, hit.coding)
				}
				hit.Release()
			})
			if allocs != 0 {
				t.Errorf("%v allocations", allocs)
			}
		})
	}
}

// BenchmarkHit costs what each judgement adds to a hit, over distinct keys.
func BenchmarkHit(b *testing.B) {
	for _, hc := range hitCases {
		b.Run(hc.name, func(b *testing.B) {
			c, requests := hitBed(b, hc, 2000)
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				hit, ok := c.Lookup(requests[i%len(requests)])
				if !ok {
					b.Fatal("no hit")
				}
				hit.Release()
				i++
			}
		})
	}
}

// BenchmarkHitFence costs a hit where there never was a fence, and where one has been
// lifted: the two in turns, the quickest of short slices, which a busy machine disturbs
// least.
func BenchmarkHitFence(b *testing.B) {
	const slice = 500
	best := [2]time.Duration{time.Hour, time.Hour}
	var caches [2]*Cache
	var requests [2][]*Request
	for side := range caches {
		caches[side], requests[side] = hitBed(b, hitCase{}, slice)
	}
	caches[1].Fence()
	caches[1].Unfence()
	for b.Loop() {
		for side, c := range caches {
			began := time.Now()
			for _, r := range requests[side] {
				hit, ok := c.Lookup(r)
				if !ok {
					b.Fatal("no hit")
				}
				hit.Release()
			}
			best[side] = min(best[side], time.Since(began))
		}
	}
	b.ReportMetric(float64(best[0].Nanoseconds())/slice, "ns/hit-never-fenced")
	b.ReportMetric(float64(best[1].Nanoseconds())/slice, "ns/hit-fence-lifted")
}

// BenchmarkFields costs the field lines of a hit.
func BenchmarkFields(b *testing.B) {
	c, requests := hitBed(b, hitCase{}, 1)
	hit, ok := c.Lookup(requests[0])
	if !ok {
		b.Fatal("no hit")
	}
	defer hit.Release()
	fields := make([]Field, 0, 32)
	b.ReportAllocs()
	for b.Loop() {
		fields = hit.AppendFields(fields[:0])
	}
}

// BenchmarkMiss costs a request that is fetched and stored, without the origin.
func BenchmarkMiss(b *testing.B) {
	c, requests := hitBed(b, hitCase{}, 1)
	r := requests[0]
	hr, err := http.NewRequestWithContext(NewContext(b.Context(), r), "GET", "https://a.test/", nil)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		r.Target = fmt.Sprint("/miss/", i%5000)
		if err := c.store.Remove(c.store.Hasher().Key("https://a.test" + r.Target)); err != nil {
			b.Fatal(err)
		}
		c.ServeHTTP(discarder{http.Header{}}, hr)
		i++
	}
}

type discarder struct{ h http.Header }

func (d discarder) Header() http.Header         { return d.h }
func (d discarder) WriteHeader(int)             {}
func (d discarder) Write(p []byte) (int, error) { return io.Discard.Write(p) }
