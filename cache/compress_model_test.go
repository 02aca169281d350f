package cache

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"edgecdn/route"
)

// edition is what the model's origin has under a path for a while.
type edition struct {
	tag       string
	body      []byte
	control   string
	coding    string // that it always comes in
	varies    bool   // it comes in gzip to those who take that, and says so
	unchanged bool   // no-transform
	replaced  time.Time
}

// codingModel is an origin whose resources change, and clients that want them in all
// kinds of codings.
type codingModel struct {
	t        *testing.T
	b        *bed
	rnd      *rand.Rand
	mu       sync.Mutex
	editions map[string][]*edition // by path; the last is current
	floor    map[string]int        // editions before it must not be seen any more
	seen     map[string][]string   // entity-tags
	last     string
}

// staleMax is how long after its end an edition may be served: fresh for 30 s and
// stale for 20 more, and once more while that is found out.
const staleMax = 71 * time.Second

func (m *codingModel) change(path string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	old := m.editions[path]
	if n := len(old); n > 0 {
		old[n-1].replaced = time.Now()
	}
	e := &edition{tag: fmt.Sprintf(`"%s.%d"`, path[1:], len(old)), body: prose(1100+m.rnd.IntN(9000), fmt.Sprint(path, len(old))),
		control: []string{"max-age=30", "no-cache", "max-age=10, stale-while-revalidate=20", "s-maxage=20"}[m.rnd.IntN(4)]}
	switch m.rnd.IntN(6) {
	case 0:
		e.coding = route.Codings[m.rnd.IntN(3)]
	case 1:
		e.varies = true
	case 2:
		e.unchanged, e.control = true, e.control+", no-transform"
	case 3:
		e.body = pattern(1500, m.rnd.Uint64()) // gains nothing
	}
	m.editions[path] = append(old, e)
}

func (m *codingModel) answer(r *http.Request) (*http.Response, error) {
	path := r.Context().Value(targetKey{}).(string)
	m.mu.Lock()
	editions := m.editions[path]
	e := editions[len(editions)-1]
	m.mu.Unlock()
	if r.Method == "POST" {
		return answering(204, http.NoBody, 0)(r)
	}
	fields := []string{"Cache-Control", e.control, "Content-Type", "text/plain", "Accept-Ranges", "bytes"}
	coding, tag := e.coding, e.tag
	if e.varies {
		fields = append(fields, "Vary", "Accept-Encoding")
		if strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
			coding, tag = "gzip", `"gz-`+tag[1:]
		}
	}
	fields = append(fields, "ETag", tag)
	if matchAny(r.Header.Get("If-None-Match"), tag, false) {
		return answering(304, http.NoBody, 0, fields...)(r)
	}
	body := e.body
	if coding != "" {
		body, fields = inCoding(coding, body), append(fields, "Content-Encoding", coding)
	}
	return answering(200, bytes.NewReader(body), int64(len(body)), fields...)(r)
}

func (m *codingModel) step() {
	path := fmt.Sprint("/", m.rnd.IntN(3))
	switch m.rnd.IntN(12) {
	case 0:
		m.change(path)
	case 1:
		time.Sleep(time.Duration(m.rnd.IntN(15_000)) * time.Millisecond)
	case 2:
		m.change(path)
		post := m.b.request("POST", path)
		post.HasBody = true
		m.b.do(context.Background(), post)
		m.floor[path] = len(m.editions[path]) - 1
	default:
		m.request(path)
	}
	if m.rnd.IntN(3) > 0 {
		synctest.Wait() // for what goes on in the background
	}
}

func (m *codingModel) request(path string) {
	var fields []Field
	if m.rnd.IntN(8) > 0 {
		fields = append(fields, Field{acceptEncoding, []string{"br", "gzip", "zstd", "gzip, deflate, br, zstd", "*", "br;q=0, *;q=0.1",
			"identity", "identity;q=0, gzip", "gzip;q=0.5, identity;q=0.9", "gzip;q=0.9, zstd;q=0.4", "", "deflate"}[m.rnd.IntN(12)]})
	}
	if seen := m.seen[path]; len(seen) > 0 {
		tag := seen[m.rnd.IntN(len(seen))]
		switch m.rnd.IntN(6) {
		case 0:
			fields = append(fields, Field{"if-none-match", tag})
		case 1:
			fields = append(fields, Field{"if-range", tag}, Field{"range", "bytes=100-299"})
		case 2:
			fields = append(fields, Field{"range", "bytes=100-299"})
		}
	}
	method := "GET"
	if m.rnd.IntN(8) == 0 {
		method = "HEAD"
	}
	r := m.b.request(method, path, fields...)
	m.last = fmt.Sprint(method, " ", path, " ", fields)
	w := m.b.do(context.Background(), r)
	if tag := w.sent.Get("Etag"); tag != "" {
		m.seen[path] = append(m.seen[path], tag)
	}
	m.check(r, w)
}

// check compares a response with the edition that its entity-tag names.
func (m *codingModel) check(r *Request, w *recorder) {
	m.t.Helper()
	fail := func(args ...any) {
		m.t.Helper()
		m.t.Error(append([]any{m.last, "->", w.status, w.sent, ":"}, args...)...)
	}
	tag := w.sent.Get("Etag")
	opaque := strings.TrimPrefix(tag, "W/")
	var e *edition
	for i, one := range m.editions[r.Target] {
		if one.tag == opaque || one.varies && `"gz-`+one.tag[1:] == opaque {
			if e = one; i < m.floor[r.Target] {
				fail("an invalidated edition")
			}
		}
	}
	switch {
	case w.aborted || w.status == 416:
		fail("aborted", w.aborted)
		return
	case e == nil:
		fail("an unknown edition")
		return
	case !e.replaced.IsZero() && time.Since(e.replaced) > staleMax:
		fail("stale for", time.Since(e.replaced))
	}
	coding := w.sent.Get("Content-Encoding")
	own := e.coding
	if e.varies && strings.HasPrefix(opaque, `"gz-`) {
		own = "gzip"
	}
	weak := tag != opaque
	status := w.sent.Get("Cache-Status")
	stored := strings.Contains(status, "hit") || strings.Contains(status, "stored")
	if varies := strings.Contains(w.sent.Get("Vary"), "Accept-Encoding"); !varies && !e.unchanged && stored {
		fail("no Vary")
	}
	switch w.status {
	case 304:
		match, _ := r.Field("if-none-match")
		if !matchAny(match, tag, false) {
			fail("not what the client has")
		}
	case 206:
		if coding != own || weak {
			fail("a range of", coding)
		}
		whole := e.body
		if own != "" {
			whole = inCoding(own, e.body)
		}
		if !bytes.Equal(w.body.Bytes(), whole[100:min(300, len(whole))]) {
			fail("other bytes")
		}
	case 200:
		if !stored && coding != own {
			fail("changed in passing")
		}
		if stored {
			m.checkWhole(r, w, e, own, fail)
		}
	default:
		fail("status")
	}
}

func (m *codingModel) checkWhole(r *Request, w *recorder, e *edition, own string, fail func(...any)) {
	coding, weak := w.sent.Get("Content-Encoding"), strings.HasPrefix(w.sent.Get("Etag"), "W/")
	weights := codingWeights(r.Fields)
	for i, name := range route.Codings {
		if name == coding && weights.of[i] == 0 && !e.unchanged {
			fail("a coding that the client refuses")
		}
		if name == coding && coding != own && weights.of[i] < weights.identity {
			fail("a coding that the client likes less than none")
		}
	}
	if weak != (coding != own) {
		fail("entity-tag of the wrong strength; the origin's coding is", own)
	}
	if e.unchanged && coding != own {
		fail("transformed")
	}
	if r.Method == "GET" {
		if diff := cmp.Diff(string(e.body), decoded(w)); diff != "" {
			fail(diff)
		}
	}
}

// TestCodingModel: whatever the order of requests, changes and time, each body is in
// a coding that its client takes and decodes to what the origin had under the
// entity-tag that it carries.
func TestCodingModel(t *testing.T) {
	seed := testSeed(t)
	bothTiers(t, func(t *testing.T, disk bool) {
		encoded := uint64(0)
		for run := range uint64(4) {
			m := &codingModel{t: t, b: newBed(t, route.Host{}, disk), rnd: rand.New(rand.NewPCG(seed, run)),
				editions: map[string][]*edition{}, floor: map[string]int{}, seen: map[string][]string{}}
			m.b.origin.answers[""] = m.answer
			for i := range 3 {
				m.change(fmt.Sprint("/", i))
			}
			for range 300 {
				if m.step(); t.Failed() {
					t.Fatal("run", run)
				}
			}
			encoded += m.b.cache.stats.Encoded.Load()
		}
		if encoded < 10 {
			t.Error("encoded", encoded)
		}
	})
}
