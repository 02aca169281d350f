package cache

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"edgecdn/cache/store"
	"edgecdn/route"
)

// prose returns n bytes that shrink, different for each seed.
func prose(n int, seed string) []byte {
	var b bytes.Buffer
	for i := 0; b.Len() < n; i++ {
		fmt.Fprintf(&b, "%s: line %d of the text\n", seed, i*i)
	}
	return b.Bytes()[:n]
}

func textOrigin(body []byte, fields ...string) answerFunc {
	return func(r *http.Request) (*http.Response, error) {
		fields := append([]string{"Cache-Control", "max-age=600", "Content-Type", "text/plain", "ETag", `"1"`}, fields...)
		return answering(200, bytes.NewReader(body), int64(len(body)), fields...)(r)
	}
}

// get asks as a client does that accepts codings, and waits for what that starts.
func (b *bed) get(target, accept string) *recorder {
	w := b.do(context.Background(), b.request("GET", target, Field{acceptEncoding, accept}))
	synctest.Wait()
	return w
}

// Bodies that live on disk are streamed from there through the encoder.
func TestEncodeLargeFromDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t, route.Host{}, true)
		text := prose(3<<20, "large")
		b.origin.answers[""] = textOrigin(text)
		for i := 0; ; i++ {
			w := b.get("/a", "gzip")
			coding := w.sent.Get("Content-Encoding")
			if decoded(w) != string(text) {
				t.Fatal("another body, coded in", coding)
			}
			if coding == "gzip" {
				break
			}
			if i == 20 {
				t.Fatal("never encoded;", b.cache.stats.EncodingsFailed.Load(), "failed")
			}
			time.Sleep(askAgain * time.Second)
		}
		if saved := b.cache.stats.EncodedSaved.Load(); saved < 2<<20 {
			t.Error("saved", saved)
		}
	})
}

func TestEncodeOnlyWithinBounds(t *testing.T) {
	bothTiers(t, func(t *testing.T, disk bool) {
		b := newBed(t, route.Host{}, disk)
		for size, want := range map[int]string{1023: "", 1024: "br", encodeBytesMax + 1: ""} {
			target := fmt.Sprint("/", size)
			b.origin.answers[target] = textOrigin(prose(size, "x"))
			var w *recorder
			for range 3 {
				w = b.get(target, "br")
			}
			if got := w.sent.Get("Content-Encoding"); got != want {
				t.Error(size, "bytes: coded in", got)
			}
		}
	})
}

// A length that is not announced is judged when the body is there.
func TestEncodeUnknownLength(t *testing.T) {
	bothTiers(t, func(t *testing.T, disk bool) {
		b := newBed(t, route.Host{}, disk)
		for size, want := range map[int]string{500: "", 5000: "zstd"} {
			target := fmt.Sprint("/", size)
			b.origin.answers[target] = func(r *http.Request) (*http.Response, error) {
				resp, err := textOrigin(prose(size, "x"))(r)
				resp.ContentLength = -1
				return resp, err
			}
			var w *recorder
			for range 3 {
				w = b.get(target, "zstd")
			}
			if got := w.sent.Get("Content-Encoding"); got != want || decoded(w) != string(prose(size, "x")) {
				t.Error(size, "bytes: coded in", got)
			}
		}
	})
}

func TestTrailersAreNotParted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t, route.Host{}, false)
		for _, announced := range []bool{true, false} {
			target := fmt.Sprint("/", announced)
			b.origin.answers[target] = func(r *http.Request) (*http.Response, error) {
				resp, err := textOrigin(prose(2000, "x"))(r)
				resp.ContentLength, resp.Trailer = -1, http.Header{}
				if announced {
					resp.Trailer = http.Header{"Repr-Digest": {"sha-256=:AA==:"}}
				} else {
					resp.Body = &afterBody{resp.Body, func() { resp.Trailer.Set("Repr-Digest", "sha-256=:AA==:") }}
				}
				return resp, err
			}
			var w *recorder
			for range 3 {
				w = b.get(target, "br")
			}
			if w.sent.Get("Content-Encoding") != "" || w.header.Get(http.TrailerPrefix+"Repr-Digest") == "" {
				t.Error("announced", announced, w.sent, w.header)
			}
		}
	})
}

// afterBody calls then when the body has been read.
type afterBody struct {
	body interface {
		Read([]byte) (int, error)
		Close() error
	}
	then func()
}

func (b *afterBody) Read(p []byte) (int, error) {
	n, err := b.body.Read(p)
	if err != nil {
		b.then()
	}
	return n, err
}

func (b *afterBody) Close() error { return b.body.Close() }

// What can be purged, and by when it was fetched, is the same for a body in all
// codings; no gain is remembered in the same way.
func TestCodedBodyInheritsMeta(t *testing.T) {
	bothTiers(t, func(t *testing.T, disk bool) {
		b := newBed(t, route.Host{}, disk)
		b.origin.answers["/text"] = textOrigin(prose(2000, "x"), "Cache-Tag", "a, b")
		b.origin.answers["/noise"] = textOrigin(pattern(2000, 1), "Cache-Tag", "a, b")
		for _, target := range []string{"/text", "/noise"} {
			for range 3 {
				b.get(target, "br")
			}
			r := b.request("GET", target)
			fd := b.cache.find(r)
			if fd.stored == nil {
				t.Fatal("not stored")
			}
			coded := b.cache.open(string(appendCoded([]byte(fd.key), fd.resp, 0)))
			if coded == nil {
				t.Fatal("no coded body")
			}
			if diff := cmp.Diff(fd.stored.Meta(), coded.Meta(), cmpopts.IgnoreFields(store.Meta{}, "Header", "Length", "KeepUntil")); diff != "" || len(coded.Meta().Groups) != 4 {
				t.Error(target, diff)
			}
			if length := coded.Meta().Length; (length == 0) != (target == "/noise") {
				t.Error(target, length, "bytes")
			}
			coded.Close()
			fd.close()
		}
		if made, vain := b.cache.stats.Encoded.Load(), b.cache.stats.EncodingsVain.Load(); made != 1 || vain != 1 {
			t.Error(made, "made,", vain, "in vain")
		}
		time.Sleep(time.Minute) // long enough to be asked for again
		for range 3 {
			if w := b.get("/noise", "br"); w.sent.Get("Content-Encoding") != "" {
				t.Error("coded without gain")
			}
		}
		if vain := b.cache.stats.EncodingsVain.Load(); vain != 1 {
			t.Error("tried again:", vain)
		}
	})
}

// holdEncodings keeps what is asked for on the list until the returned function is
// called.
func (b *bed) holdEncodings() (release func()) {
	c := b.cache
	c.mu.Lock()
	defer c.mu.Unlock()
	c.isEncoding = true
	return func() {
		c.work.Add(1)
		c.encodeAll()
	}
}

func TestEncodingsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t, route.Host{}, false)
		b.origin.answers[""] = textOrigin(prose(2000, "x"))
		release := b.holdEncodings()
		for i := range encodingsMax + 10 {
			for range 3 { // once for each
				b.get(fmt.Sprint("/", i), "br")
			}
		}
		listed, dropped := len(b.cache.encodings), b.cache.stats.EncodingsDropped.Load()
		if listed != encodingsMax || dropped != 10 {
			t.Error(listed, "listed,", dropped, "dropped")
		}
		release()
		if n := b.cache.stats.Encoded.Load(); n != encodingsMax || b.cache.encodings != nil || b.cache.isEncoding {
			t.Error(n, "encoded")
		}
		time.Sleep(askAgain * time.Second)
		last := fmt.Sprint("/", encodingsMax+9)
		b.get(last, "br")
		if w := b.get(last, "br"); w.sent.Get("Content-Encoding") != "br" {
			t.Error("what was dropped is not asked for again")
		}
	})
}

// What is replaced or forgotten before its turn comes is not encoded.
func TestEncodingOfWhatHasGone(t *testing.T) {
	bothTiers(t, func(t *testing.T, disk bool) {
		b := newBed(t, route.Host{}, disk)
		for _, target := range []string{"/gone", "/new", "/there"} {
			b.origin.answers[target] = textOrigin(prose(2000, "old"))
			b.get(target, "br")
		}
		release := b.holdEncodings()
		for _, target := range []string{"/gone", "/new", "/there", "/there"} {
			b.get(target, "br")
		}
		for _, target := range []string{"/gone", "/new"} {
			answer := b.origin.answers[target]
			b.origin.answers[target] = answering(204, http.NoBody, 0)
			post := b.request("POST", target)
			post.HasBody = true
			b.do(context.Background(), post)
			b.origin.answers[target] = answer
		}
		b.origin.answers["/new"] = textOrigin(prose(2000, "new"))
		b.get("/new", "")
		release()
		if made, failed := b.cache.stats.Encoded.Load(), b.cache.stats.EncodingsFailed.Load(); made != 1 || failed != 0 {
			t.Error(made, "encoded,", failed, "failed")
		}
		if w := b.get("/new", "br"); decoded(w) != string(prose(2000, "new")) {
			t.Error("an older body:", decoded(w)[:20])
		}
	})
}

// hookStore calls before the first time that a coded body is created.
type hookStore struct {
	Keeper
	once   *sync.Once
	before func()
}

func (s hookStore) Create(key store.Key, meta store.Meta) (store.Writer, error) {
	if strings.Contains(key.Text, "\ncoded") {
		s.once.Do(s.before)
	}
	return s.Keeper.Create(key, meta)
}

// What is invalidated, or replaced, while it is encoded leaves no coded body behind.
func TestInvalidatedWhileItIsEncoded(t *testing.T) {
	bothTiers(t, func(t *testing.T, disk bool) {
		var b *bed
		var key string
		before := func() {
			fd := b.cache.find(b.request("GET", "/a"))
			key = string(appendCoded([]byte(fd.key), fd.resp, 0))
			fd.close()
			b.origin.answers["/a"] = answering(204, http.NoBody, 0)
			post := b.request("POST", "/a")
			post.HasBody = true
			b.do(context.Background(), post)
			b.origin.answers["/a"] = textOrigin(prose(2000, "new"))
		}
		b = newBed(t, route.Host{}, disk, func(k Keeper) Keeper { return hookStore{k, new(sync.Once), before} })
		b.origin.answers["/a"] = textOrigin(prose(2000, "old"))
		b.get("/a", "br")
		b.get("/a", "br")
		if made := b.cache.stats.Encoded.Load(); key == "" || made != 0 || b.cache.open(key) != nil {
			t.Error("made", made, "for", key)
		}
		for range 3 {
			if w := b.get("/a", "br"); decoded(w) != string(prose(2000, "new")) {
				t.Error("an older body:", decoded(w)[:20])
			}
			time.Sleep(askAgain * time.Second)
		}
		if made, failed := b.cache.stats.Encoded.Load(), b.cache.stats.EncodingsFailed.Load(); made != 1 || failed != 0 {
			t.Error(made, "made", failed, "failed")
		}
	})
}

// A coded body lasts as long as the response that leads to it, also when that is
// freshened, and so do slices.
func TestCodedBodyOutlastsFreshening(t *testing.T) {
	bothTiers(t, func(t *testing.T, disk bool) {
		b := newBed(t, route.Host{}, disk)
		b.origin.answers["/a"] = func(r *http.Request) (*http.Response, error) {
			if r.Header.Get("If-None-Match") != "" {
				return answering(304, http.NoBody, 0, "Cache-Control", "max-age=600", "ETag", `"1"`)(r)
			}
			return textOrigin(prose(2000, "x"))(r)
		}
		for range 2 {
			b.get("/a", "br")
		}
		for range 3 {
			time.Sleep(11 * time.Minute)
			if w := b.get("/a", "br"); w.sent.Get("Content-Encoding") != "br" || w.sent.Get("Cache-Status") != "edge; fwd=stale; fwd-status=304; ttl=600; stored" {
				t.Error(w.sent)
			}
		}
		fd := b.cache.find(b.request("GET", "/a"))
		coded := b.cache.open(string(appendCoded([]byte(fd.key), fd.resp, 0)))
		if coded.Meta().KeepUntil < fd.stored.Meta().KeepUntil || b.cache.stats.Encoded.Load() != 1 {
			t.Error("ends", fd.stored.Meta().KeepUntil-coded.Meta().KeepUntil, "too early")
		}
		coded.Close()
		fd.close()

		ranges := &ranging{size: 3 << 20, etag: `"v1"`}
		b.origin.answers["/video"] = ranges.answer
		b.getRange("bytes=0-9")
		time.Sleep(11 * time.Minute)
		b.getRange("bytes=0-9")
		fd = b.cache.find(b.request("GET", "/video"))
		part := b.cache.open(sliceKey(fd.key, fd.resp, 0))
		if part.Meta().KeepUntil < fd.stored.Meta().KeepUntil || ranges.served != sliceBytes {
			t.Error("ends", fd.stored.Meta().KeepUntil-part.Meta().KeepUntil, "too early", ranges.served)
		}
		part.Close()
		fd.close()
	})
}

// An origin that varies by Accept-Encoding and codes nothing itself: each class of
// clients has a response and one coded body of its own, and gets no other's.
func TestPlainThatVariesByCoding(t *testing.T) {
	bothTiers(t, func(t *testing.T, disk bool) {
		b := newBed(t, route.Host{}, disk)
		b.origin.answers["/a"] = textOrigin(prose(2000, "x"), "Vary", "Accept-Encoding")
		classes := []struct{ accept, coding string }{
			{"gzip, deflate, br, zstd", "br"}, {"gzip, br", "br"}, {"gzip", "gzip"}, {"gzip;q=0.5, deflate", "gzip"}, {"", ""}, {"identity", ""}}
		for round := range 4 {
			for _, class := range classes {
				w := b.get("/a", class.accept)
				if got := w.sent.Get("Content-Encoding"); decoded(w) != string(prose(2000, "x")) || got != "" && got != class.coding || round > 1 && got != class.coding {
					t.Error(round, class, w.sent)
				}
			}
		}
		if made, asked := b.cache.stats.Encoded.Load(), b.origin.requests; made != 3 || asked != 4 {
			t.Error(made, "coded bodies for 3 classes,", asked, "requests for 4")
		}
	})
}

// errStore fails where a coded body is created.
type errStore struct{ Keeper }

func (s errStore) Create(key store.Key, meta store.Meta) (store.Writer, error) {
	if strings.Contains(key.Text, "\ncoded") {
		return nil, errors.New("no room")
	}
	return s.Keeper.Create(key, meta)
}

func TestEncodingFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t, route.Host{}, false)
		b.cache.store = errStore{b.cache.store}
		b.origin.answers[""] = textOrigin(prose(2000, "x"))
		for range 50 {
			if w := b.get("/a", "br"); w.status != 200 || decoded(w) != string(prose(2000, "x")) {
				t.Fatal(w.status)
			}
			time.Sleep(time.Second)
		}
		if n := b.cache.stats.EncodingsFailed.Load(); n != 5 {
			t.Error(n, "tries in 50 seconds")
		}
	})
}

// A closed cache starts no work and leaves none behind.
func TestEncodingEndsWithTheCache(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t, route.Host{}, false)
		b.origin.answers[""] = textOrigin(prose(500_000, "x"))
		b.get("/a", "br")
		b.do(context.Background(), b.request("GET", "/a", Field{acceptEncoding, "br"}))
		b.cache.Close()
		if b.cache.isEncoding || b.cache.encodings != nil {
			t.Error("still at it")
		}
		b.get("/a", "zstd")
		if b.cache.isEncoding || b.cache.encodings != nil {
			t.Error("work after Close")
		}
	})
}

func TestAskMarks(t *testing.T) {
	var m askMarks
	second := func(n int64) int64 { return (1_700_000_000 + n) * int64(time.Second) }
	a, b := uint64(0xabcdef<<40|5), uint64(0x123456<<40|5) // in one place
	for i, step := range []struct {
		hash uint64
		at   int64
		want bool
	}{
		{a, 0, true}, {a, 0, false}, {a, askAgain - 1, false}, {a, askAgain, true}, {a, askAgain + 1, false},
		{b, askAgain + 1, true}, {a, askAgain + 1, true}, {a + 1, askAgain + 1, true},
		{a, 1 << 30, true}, {a, 1 << 30, false},
	} {
		if got := m.first(step.hash, second(step.at)); got != step.want {
			t.Error("step", i, got)
		}
	}
}

func TestGainWriter(t *testing.T) {
	var out bytes.Buffer
	w := &gainWriter{to: &out, max: 5}
	_, first := w.Write([]byte("12345"))
	_, second := w.Write([]byte("6"))
	if first != nil || !errors.Is(second, errNoGain) || out.String() != "12345" {
		t.Error(first, second, out.String())
	}
}
