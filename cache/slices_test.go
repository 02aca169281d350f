package cache

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"mime"
	"mime/multipart"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"edgecdn/route"
)

// ranging is an origin that knows ranges: size bytes, deterministic by offset.
type ranging struct {
	mu       sync.Mutex
	size     int64
	etag     string
	seed     byte
	ranges   []string // that were asked for, "" for the whole
	served   int64    // body bytes that were read
	noRanges bool
}

func (o *ranging) at(off int64) byte { return byte(off*7+off>>11) ^ o.seed }

func (o *ranging) bytes(off, n int64) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = o.at(off + int64(i))
	}
	return b
}

func (o *ranging) answer(r *http.Request) (*http.Response, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	value := r.Header.Get("Range")
	o.ranges = append(o.ranges, value)
	h := http.Header{"Cache-Control": {"max-age=60"}, "Etag": {o.etag}, "Accept-Ranges": {"bytes"}}
	resp := &http.Response{StatusCode: 200, Header: h, ContentLength: o.size, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1}
	if r.Header.Get("If-None-Match") == o.etag {
		resp.StatusCode, resp.Body, resp.ContentLength = 304, http.NoBody, 0
		return resp, nil
	}
	off, n := int64(0), o.size
	if match := r.Header.Get("If-Range"); value != "" && !o.noRanges && (match == "" || match == o.etag) {
		var verdict rangeVerdict
		if off, n, verdict = parseRange(value, o.size); verdict == rangeUnsatisfiable {
			resp.StatusCode, resp.Body, resp.ContentLength = 416, http.NoBody, 0
			return resp, nil
		}
		resp.StatusCode = 206
		h.Set("Content-Range", contentRange(off, n, o.size))
	}
	resp.ContentLength = n
	resp.Body = io.NopCloser(&rangingBody{r.Context(), o, off, off + n, o.seed})
	return resp, nil
}

type rangingBody struct {
	ctx      context.Context
	o        *ranging
	off, end int64
	seed     byte
}

func (b *rangingBody) Read(p []byte) (int, error) {
	if err := b.ctx.Err(); err != nil {
		return 0, err
	}
	n := min(int64(len(p)), b.end-b.off, 32<<10)
	if n == 0 {
		return 0, io.EOF
	}
	b.o.mu.Lock()
	defer b.o.mu.Unlock()
	for i := range n {
		p[i] = byte((b.off+i)*7+(b.off+i)>>11) ^ b.seed
	}
	b.off += n
	b.o.served += n
	return int(n), nil
}

func newRangingBed(t *testing.T, size int64, disk bool) (*bed, *ranging) {
	b := newBed(t, route.Host{}, disk)
	o := &ranging{size: size, etag: `"v1"`}
	b.origin.answers[""] = o.answer
	return b, o
}

func (b *bed) getRange(value string) *recorder {
	w := b.do(context.Background(), b.request("GET", "/video", Field{"range", value}))
	synctest.Wait()
	return w
}

// bothTiers runs a test in a bubble with and without a disk tier.
func bothTiers(t *testing.T, run func(t *testing.T, disk bool)) {
	for _, disk := range []bool{false, true} {
		t.Run(map[bool]string{false: "memory", true: "tiered"}[disk], func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { run(t, disk) })
		})
	}
}

func TestSeekCostsSlices(t *testing.T) {
	bothTiers(t, func(t *testing.T, disk bool) {
		b, o := newRangingBed(t, 10e9, disk)
		off := int64(7e9)
		want := fmt.Sprintf("bytes=%d-%d", off, off+1<<20)
		for i, status := range []string{"edge; fwd=uri-miss; fwd-status=206; ttl=60; stored", "edge; hit; ttl=60"} {
			if i == 0 {
				status = "edge; fwd=uri-miss; ttl=60; stored"
			}
			w := b.getRange(want)
			if w.status != 206 || !bytes.Equal(w.body.Bytes(), o.bytes(off, 1<<20+1)) || w.aborted {
				t.Fatal(w.status, w.body.Len(), w.aborted)
			}
			if got := w.sent.Get("Content-Range"); got != fmt.Sprintf("bytes %d-%d/10000000000", off, off+1<<20) {
				t.Error(got)
			}
			if got := w.sent.Get("Cache-Status"); got != status {
				t.Error(got)
			}
		}
		if o.served > 3<<20 || len(o.ranges) > 3 {
			t.Error("the origin sent", o.served, "bytes for", o.ranges)
		}
	})
}

// A small object asked for by range is stored whole and answers everything.
func TestRangeOfSmallObjectStoresTheWhole(t *testing.T) {
	bothTiers(t, func(t *testing.T, disk bool) {
		b, o := newRangingBed(t, 1000, disk)
		if w := b.getRange("bytes=10-19"); w.status != 206 || !bytes.Equal(w.body.Bytes(), o.bytes(10, 10)) {
			t.Error(w.status, w.body.Len())
		}
		w := b.do(context.Background(), b.request("GET", "/video"))
		if w.sent.Get("Cache-Status") != "edge; hit; ttl=60" || !bytes.Equal(w.body.Bytes(), o.bytes(0, 1000)) || len(o.ranges) != 1 {
			t.Error(w.sent, o.ranges)
		}
	})
}

// RFC 9111 3.4: parts of the same representation make up the whole.
func TestPartsAreCompleted(t *testing.T) {
	bothTiers(t, func(t *testing.T, disk bool) {
		size := int64(5<<20 + 123)
		b, o := newRangingBed(t, size, disk)
		b.getRange("bytes=2097152-2097153") // slice 2, and 3 is not needed
		b.getRange("bytes=-5")
		before := len(o.ranges)
		w := b.do(context.Background(), b.request("GET", "/video"))
		synctest.Wait()
		if w.status != 200 || !bytes.Equal(w.body.Bytes(), o.bytes(0, size)) || w.aborted {
			t.Fatal(w.status, w.body.Len(), w.aborted)
		}
		if got := w.sent.Get("Cache-Status"); got != "edge; fwd=partial; ttl=60; stored" {
			t.Error(got)
		}
		if asked := len(o.ranges) - before; asked != 4 {
			t.Error("asked for", o.ranges[before:])
		}
		if w = b.do(context.Background(), b.request("GET", "/video")); w.sent.Get("Cache-Status") != "edge; hit; ttl=60" || w.body.Len() != int(size) {
			t.Error(w.sent, w.body.Len())
		}
	})
}

func TestLargeWholeIsSliced(t *testing.T) {
	bothTiers(t, func(t *testing.T, disk bool) {
		size := int64(sliceOver + 5)
		b, o := newRangingBed(t, size, disk)
		w := b.do(context.Background(), b.request("GET", "/video"))
		if w.status != 200 || w.aborted || !bytes.Equal(w.body.Bytes(), o.bytes(0, size)) {
			t.Fatal(w.status, w.body.Len(), w.aborted)
		}
		if o.ranges[0] != "" || b.cache.stats.Sliced.Load() != 1 || o.served > size+1<<20 {
			t.Error(o.ranges[0], b.cache.stats.Sliced.Load(), o.served)
		}
	})
}

func TestOriginWithoutRangesFillsFromTheWhole(t *testing.T) {
	bothTiers(t, func(t *testing.T, disk bool) {
		b, o := newRangingBed(t, 900<<10, disk)
		o.noRanges = true
		w := b.getRange("bytes=1000-1009")
		if w.status != 206 || !bytes.Equal(w.body.Bytes(), o.bytes(1000, 10)) {
			t.Error(w.status, w.body.Len())
		}
		if w = b.do(context.Background(), b.request("GET", "/video")); w.sent.Get("Cache-Status") != "edge; hit; ttl=60" {
			t.Error(w.sent)
		}
	})
}

// A weak validator cannot combine parts: the client's own range is passed on.
func TestWeakValidatorIsNotSliced(t *testing.T) {
	bothTiers(t, func(t *testing.T, disk bool) {
		b, o := newRangingBed(t, 5<<20, disk)
		o.etag = `W/"v1"`
		for range 2 {
			if w := b.getRange("bytes=3000000-3000009"); w.status != 206 || !bytes.Equal(w.body.Bytes(), o.bytes(3000000, 10)) {
				t.Error(w.status, w.body.Len())
			}
		}
		if got := strings.Join(o.ranges, " "); got != "bytes=2097152-3145727 bytes=3000000-3000009 bytes=3000000-3000009" {
			t.Error(got)
		}
	})
}

// The representation changes while its parts are being kept: start over, and
// never mix.
func TestChangedValidatorStartsOver(t *testing.T) {
	bothTiers(t, func(t *testing.T, disk bool) {
		size := int64(6 << 20)
		b, o := newRangingBed(t, size, disk)
		b.getRange("bytes=0-10")
		synctest.Wait()
		o.mu.Lock()
		o.etag, o.seed = `"v2"`, 0x55
		o.mu.Unlock()
		// Still fresh: what is stored answers.
		if w := b.getRange("bytes=0-10"); w.sent.Get("Etag") != `"v1"` {
			t.Error(w.sent)
		}
		w := b.getRange("bytes=4194304-4194313")
		if w.status != 206 || w.sent.Get("Etag") != `"v2"` || !bytes.Equal(w.body.Bytes(), o.bytes(4194304, 10)) {
			t.Error(w.status, w.sent, w.body.Bytes())
		}
		if b.cache.stats.SlicesVoid.Load() != 1 {
			t.Error("void:", b.cache.stats.SlicesVoid.Load())
		}
		w = b.do(context.Background(), b.request("GET", "/video"))
		if !bytes.Equal(w.body.Bytes(), o.bytes(0, size)) {
			t.Error("old and new were mixed")
		}
	})
}

// When the header has gone out, a change can only be made visible by an abort.
func TestChangedValidatorMidWayAborts(t *testing.T) {
	bothTiers(t, func(t *testing.T, disk bool) {
		b, o := newRangingBed(t, 8<<20, disk)
		b.getRange("bytes=0-10")
		w := &recorder{header: http.Header{}}
		changed := false
		w.slow = func() {
			if !changed && w.body.Len() > 0 {
				changed = true
				o.mu.Lock()
				o.etag, o.seed = `"v2"`, 0x55
				o.mu.Unlock()
			}
		}
		b.serve(context.Background(), w, b.request("GET", "/video"))
		old := ranging{}
		if !w.aborted || !bytes.Equal(w.body.Bytes(), old.bytes(0, int64(w.body.Len()))) {
			t.Error("aborted", w.aborted, "after", w.body.Len())
		}
	})
}

func TestStaleSlicesAreValidated(t *testing.T) {
	bothTiers(t, func(t *testing.T, disk bool) {
		b, o := newRangingBed(t, 3<<20, disk)
		b.getRange("bytes=0-10")
		time.Sleep(61 * time.Second)
		w := b.getRange("bytes=0-10")
		if got := w.sent.Get("Cache-Status"); got != "edge; fwd=stale; fwd-status=304; ttl=60; stored" || w.body.Len() != 11 {
			t.Error(got)
		}
		if got := strings.Join(o.ranges, ","); got != "bytes=0-1048575,bytes=0-1048575" {
			t.Error(got)
		}
	})
}

func TestSlicesCollapse(t *testing.T) {
	bothTiers(t, func(t *testing.T, disk bool) {
		b, o := newRangingBed(t, 3<<20, disk)
		var wg sync.WaitGroup
		for i := range 100 {
			wg.Go(func() {
				off := int64(i * 10)
				w := b.do(context.Background(), b.request("GET", "/video", Field{"range", fmt.Sprintf("bytes=%d-%d", off, off+9)}))
				if !bytes.Equal(w.body.Bytes(), o.bytes(off, 10)) {
					t.Error("wrong bytes at", off)
				}
			})
		}
		wg.Wait()
		if len(o.ranges) != 1 {
			t.Error(o.ranges)
		}
	})
}

func TestMultipleRanges(t *testing.T) {
	bothTiers(t, func(t *testing.T, disk bool) {
		for _, size := range []int64{1000, 5 << 20} {
			b, o := newRangingBed(t, size, disk)
			b.getRange("bytes=0-10")
			spans := []span{{size - 10, 10}, {0, 5}, {size / 2, 100}}
			var specs []string
			for _, s := range spans {
				specs = append(specs, fmt.Sprintf("%d-%d", s.off, s.off+s.n-1))
			}
			w := b.getRange("bytes=" + strings.Join(specs, ", "))
			if n, _ := strconv.Atoi(w.sent.Get("Content-Length")); w.status != 206 || n != w.body.Len() {
				t.Fatal(w.status, n, w.body.Len())
			}
			_, params, err := mime.ParseMediaType(w.sent.Get("Content-Type"))
			if err != nil {
				t.Fatal(err)
			}
			parts := multipart.NewReader(&w.body, params["boundary"])
			for _, s := range spans {
				part, err := parts.NextPart()
				if err != nil {
					t.Fatal(err)
				}
				body, _ := io.ReadAll(part)
				if part.Header.Get("Content-Range") != contentRange(s.off, s.n, size) || !bytes.Equal(body, o.bytes(s.off, s.n)) {
					t.Error(part.Header, len(body))
				}
			}
			if _, err := parts.NextPart(); err != io.EOF {
				t.Error(err)
			}
		}
	})
}

// Random ranges, evictions and changes of the representation: every complete
// answer is one representation's bytes.
func TestRandomRangesNeverMix(t *testing.T) {
	seed := testSeed(t)
	bothTiers(t, func(t *testing.T, disk bool) {
		r := rand.New(rand.NewPCG(seed, 1))
		size := int64(4<<20 + 77)
		b, o := newRangingBed(t, size, disk)
		for range 150 {
			switch r.IntN(10) {
			case 0:
				o.mu.Lock()
				o.seed = byte(2 + r.IntN(254))
				o.etag = fmt.Sprintf(`"v%d"`, o.seed)
				o.mu.Unlock()
			case 1:
				time.Sleep(time.Duration(r.IntN(70)) * time.Second)
			case 2:
				key := sliceKey("https://a.test/video", nil, 0)
				_ = b.cache.store.Remove(b.cache.store.Hasher().Key(key))
			default:
				off := r.Int64N(size)
				n := min(size-off, 1+r.Int64N(2<<20))
				w := b.getRange(fmt.Sprintf("bytes=%d-%d", off, off+n-1))
				if w.aborted {
					continue
				}
				var v byte
				if _, err := fmt.Sscanf(w.sent.Get("Etag"), `"v%d"`, &v); err != nil {
					t.Fatal(w.sent)
				}
				if v == 1 { // the first, before any change
					v = 0
				}
				old := ranging{seed: v}
				if w.status == 200 { // a range may be ignored (RFC 9110 14.2)
					off, n = 0, size
				} else if w.status != 206 {
					t.Fatal("status", w.status)
				}
				if !bytes.Equal(w.body.Bytes(), old.bytes(off, n)) {
					t.Fatal("status", w.status, "wrong bytes of", w.sent.Get("Etag"), off, n, w.body.Len())
				}
			}
		}
	})
}

func FuzzParseContentRange(f *testing.F) {
	f.Add("bytes 0-1/2")
	f.Fuzz(func(t *testing.T, value string) {
		if at, size, ok := parseContentRange(value); ok && (at.off < 0 || at.n <= 0 || at.off+at.n > size) {
			t.Error(at, size)
		}
	})
}

func FuzzParseRanges(f *testing.F) {
	f.Add("bytes=0-1, 4-", int64(10))
	f.Fuzz(func(t *testing.T, value string, size int64) {
		size &= 1<<40 - 1
		spans, verdict := parseRanges(value, size)
		if verdict != rangeOne {
			return
		}
		total := int64(0)
		for _, s := range spans {
			if s.off < 0 || s.n <= 0 || s.off+s.n > size {
				t.Error(s, size)
			}
			total += s.n
		}
		if len(spans) > rangesMax || total > size {
			t.Error(len(spans), total, size)
		}
	})
}

// A suffix of what is not stored costs the first slice, which says how much there
// is, and those that it is in; several ranges, the slices that they are in.
func TestSuffixAndSeveralOfACold(t *testing.T) {
	bothTiers(t, func(t *testing.T, disk bool) {
		b, o := newRangingBed(t, 10<<20, disk)
		w := b.getRange("bytes=-100")
		if w.status != 206 || !bytes.Equal(w.body.Bytes(), o.bytes(10<<20-100, 100)) || o.served > 3<<20 {
			t.Error(w.status, w.sent, o.served)
		}
		b.origin.answers["/several"] = o.answer
		o.served = 0
		r := b.request("GET", "/several", Field{"range", "bytes=5000000-5000009, 0-9, -1"})
		if w := b.do(context.Background(), r); w.status != 206 || !strings.HasPrefix(w.sent.Get("Content-Type"), "multipart/byteranges") ||
			!bytes.Contains(w.body.Bytes(), o.bytes(5000000, 10)) {
			t.Error(w.status, w.sent, o.served)
		}
		synctest.Wait()
		if o.served > 4<<20 {
			t.Error(o.served, "bytes for three small ranges")
		}
	})
}

// RFC 9111 5.2.1.7, 5.2.1.5: with only-if-cached and with no-store, stored slices
// answer where they are all that is wanted, and nothing is fetched to be stored.
func TestStoredSlicesAnswerAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t, route.Host{Policy: route.Policy{Cache: route.Cache{RequestDirectives: new(true)}}}, false)
		o := &ranging{size: 10 << 20, etag: `"v1"`}
		b.origin.answers[""] = o.answer
		b.getRange("bytes=2000000-3999999")
		b.getRange("bytes=0-9")
		o.ranges = nil
		for _, tt := range []struct {
			directive, value, status string
			code                     int
		}{
			{"only-if-cached", "bytes=2000000-3999999", "edge; hit; ttl=60", 206},
			{"only-if-cached", "bytes=0-9, 2000000-2000009", "edge; hit; ttl=60", 206},
			{"only-if-cached", "bytes=0-9, 9000000-9000009", "edge; detail=only-if-cached", 504},
			{"only-if-cached", "bytes=9000000-", "edge; detail=only-if-cached", 504},
			{"only-if-cached", "bytes=10485760-", "edge; hit; ttl=60", 416},
			{"only-if-cached", "bytes=0-", "edge; detail=only-if-cached", 504},
			{"no-store", "bytes=2000000-3999999", "edge; hit; ttl=60", 206},
			{"no-store", "bytes=9000000-9000009", "edge; fwd=request; detail=request-no-store", 206},
		} {
			w := b.do(context.Background(), b.request("GET", "/video", Field{"range", tt.value}, Field{"cache-control", tt.directive}))
			synctest.Wait()
			if got := w.sent.Get("Cache-Status"); w.status != tt.code || got != tt.status {
				t.Error(tt, w.status, got)
			}
		}
		if len(o.ranges) != 1 || o.ranges[0] != "bytes=9000000-9000009" {
			t.Error("the origin was asked for", o.ranges)
		}
		head := b.do(context.Background(), b.request("HEAD", "/video", Field{"cache-control", "only-if-cached"}))
		if head.status != 200 || head.sent.Get("Content-Length") != "10485760" {
			t.Error(head.status, head.sent)
		}
	})
}

// Parts are neither coded nor decoded here: a client that does not take the coding
// that a body in slices is stored in gets what the origin has for it.
func TestSlicesInACoding(t *testing.T) {
	bothTiers(t, func(t *testing.T, disk bool) {
		b, o := newRangingBed(t, 3<<20, disk)
		plain := &ranging{size: 9 << 20, etag: `"plain"`, seed: 7}
		b.origin.answers[""] = func(r *http.Request) (*http.Response, error) {
			if !strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
				return plain.answer(r)
			}
			resp, err := o.answer(r)
			resp.Header.Set("Content-Encoding", "gzip")
			resp.Header.Set("Content-Type", "text/plain")
			return resp, err
		}
		get := func(method, accept string) *recorder {
			w := b.do(context.Background(), b.request(method, "/video", Field{"range", "bytes=10-19"}, Field{acceptEncoding, accept}))
			synctest.Wait()
			return w
		}
		get("GET", "gzip")
		for range 2 {
			if w := get("GET", "br, gzip"); !bytes.Equal(w.body.Bytes(), o.bytes(10, 10)) || w.sent.Get("Cache-Status") != "edge; hit; ttl=60" ||
				w.sent.Get("Content-Encoding") != "gzip" {
				t.Error(w.status, w.sent)
			}
			w := get("GET", "br")
			if w.status != 206 || !bytes.Equal(w.body.Bytes(), plain.bytes(10, 10)) || w.sent.Get("Cache-Status") != "edge; fwd=request; detail=coding" {
				t.Error(w.status, w.sent)
			}
			if w := get("HEAD", "identity"); w.sent.Get("Etag") != `"plain"` {
				t.Error(w.status, w.sent)
			}
		}
	})
}
