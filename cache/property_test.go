package cache

// Whatever is asked, and whatever the origin answers: no private response reaches
// another client, none is used stale where it must not be, every byte is that of
// the representation it is said to be, and who waited for another's fetch sees what
// the origin would have told them.

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"mime"
	"mime/multipart"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"edgecdn/route"
)

const (
	propertyRuns     = 3 // on each kind of store
	propertyRunsFull = 20
	propertySteps    = 120
)

// testSeed returns EDGE_TEST_SEED, or else a seed of its own, and logs it.
func testSeed(t *testing.T) uint64 {
	t.Helper()
	seed := rand.Uint64()
	if text := os.Getenv("EDGE_TEST_SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("EDGE_TEST_SEED=%d", seed)
	return seed
}

func TestNothingLeaksOrMixes(t *testing.T) {
	seed := testSeed(t)
	runs := uint64(propertyRuns)
	if os.Getenv("EDGE_FULL") != "" {
		runs = propertyRunsFull
	}
	var stored, freshened, collapsed uint64
	for _, tiers := range []string{"memory", "tiered"} {
		for run := range runs {
			t.Run(fmt.Sprint(tiers, run), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					b := newBed(t, route.Host{}, tiers == "tiered")
					o := &world{seed: seed + run, asked: map[int]int{}}
					for i := range worldTargets {
						b.origin.answers[fmt.Sprint("/", i)] = o.answer
					}
					runProperty(t, b, o, rand.New(rand.NewPCG(seed, run)))
					stats := &b.cache.stats
					stored, freshened, collapsed = stored+stats.Stored.Load(), freshened+stats.Freshened.Load(), collapsed+stats.Collapsed.Load()
				})
			})
		}
	}
	// In all runs together: one in some thousand freshens nothing.
	if !t.Failed() && (stored == 0 || freshened == 0 || collapsed == 0) {
		t.Errorf("%d were stored, %d freshened and %d collapsed: the test shows nothing", stored, freshened, collapsed)
	}
}

// asking is a client's request and what became of it.
type asking struct {
	*Request
	id, target int
	lang       string
	begun      int
	start      time.Time
	versions   [2]int // of the target, before and after
	w          *recorder
}

func runProperty(t *testing.T, b *bed, o *world, rng *rand.Rand) {
	id := 0
	for range propertySteps {
		switch rng.IntN(10) {
		case 0:
			time.Sleep(time.Duration(rng.IntN(90)) * time.Second)
		case 1:
			o.mu.Lock()
			o.versions[rng.IntN(worldTargets)]++
			o.mu.Unlock()
		case 2:
			o.mu.Lock()
			o.failing = rng.IntN(3) == 0
			o.mu.Unlock()
		default:
			batch := make([]*asking, 1+rng.IntN(6)*rng.IntN(3))
			target := rng.IntN(worldTargets)
			for i := range batch {
				if rng.IntN(8) == 0 {
					target = rng.IntN(worldTargets)
				}
				id++
				batch[i] = newAsking(b, rng, id, target)
			}
			askAll(b, o, batch)
			for _, a := range batch {
				a.check(t, o)
			}
		}
		if t.Failed() {
			return
		}
	}
}

func newAsking(b *bed, rng *rand.Rand, id, target int) *asking {
	method := []string{"GET", "GET", "GET", "GET", "GET", "GET", "HEAD", "POST"}[rng.IntN(8)]
	a := &asking{id: id, target: target}
	fields := []Field{{"x-request", fmt.Sprint(id)}}
	if a.lang = []string{"", "de", "en"}[rng.IntN(3)]; a.lang != "" {
		fields = append(fields, Field{"accept-language", a.lang})
	}
	if rng.IntN(4) == 0 {
		fields = append(fields, Field{"authorization", fmt.Sprint("Bearer ", id)})
	}
	tag, _ := representation(target, a.lang, rng.IntN(6))
	switch rng.IntN(9) {
	case 0:
		fields = append(fields, Field{"if-none-match", tag})
	case 1:
		fields = append(fields, Field{"if-match", tag})
	case 2:
		fields = append(fields, Field{"cache-control", "no-store"})
	case 3, 4:
		off := rng.Int64N(worldSize(target))
		fields = append(fields, Field{"range", fmt.Sprintf("bytes=%d-%d", off, off+rng.Int64N(worldSize(target)))})
		if rng.IntN(2) == 0 {
			fields = append(fields, Field{"if-range", tag})
		}
	case 5:
		fields = append(fields, Field{"range", "bytes=0-9, 20-29, -5"})
	}
	a.Request = b.request(method, fmt.Sprint("/", target), fields...)
	a.HasBody = method == "POST"
	return a
}

// askAll sends requests at once.
func askAll(b *bed, o *world, batch []*asking) {
	var wg sync.WaitGroup
	for _, a := range batch {
		wg.Go(func() {
			a.begun, a.start = o.tick(), time.Now()
			o.mu.Lock()
			a.versions[0] = o.versions[a.target]
			o.mu.Unlock()
			a.w = b.do(context.Background(), a.Request)
			event := o.tick()
			o.mu.Lock()
			defer o.mu.Unlock()
			a.versions[1] = o.versions[a.target]
			for i := range o.changes {
				if o.changes[i].request == a.id {
					o.changes[i].done = event
				}
			}
		})
	}
	wg.Wait()
}

func (a *asking) check(t *testing.T, o *world) {
	t.Helper()
	o.mu.Lock()
	defer o.mu.Unlock()
	serial := a.w.sent.Get("X-Serial")
	if serial == "" {
		if a.w.status < 400 && a.w.status != 204 && !a.w.aborted {
			t.Errorf("%s: %d without a serial: %v", a, a.w.status, a.w.sent)
		}
		return
	}
	n, _ := strconv.Atoi(serial)
	from := &o.said[n]
	if from.request != a.id {
		a.checkReuse(t, from, o)
	}
	a.checkBytes(t, from)
}

// checkReuse judges the use of an answer that another request got.
func (a *asking) checkReuse(t *testing.T, from *said, o *world) {
	t.Helper()
	_, authorized := a.Field("authorization")
	freshFor := a.w.at.Sub(from.at.Add(from.lifetime))
	status := a.w.sent.Get("Cache-Status")
	switch {
	case unsafeMethod(a.Method):
		t.Errorf("%s was answered from what is stored", a)
	case !from.shared:
		t.Errorf("%s got what was for request %d alone: %+v", a, from.request, from.rule)
	case authorized && !from.authorized:
		t.Errorf("%s, with Authorization, got what is not shared with such: %+v", a, from.rule)
	case from.noCache:
		t.Errorf("%s got, not validated, an answer with no-cache (to request %d): %s", a, from.request, status)
	case freshFor < 0:
	case from.neverStale, freshFor > max(from.while, from.err):
		t.Errorf("%s got what has been stale for %v: %+v, %s", a, freshFor, from.rule, status)
	case freshFor > from.while && (!strings.Contains(status, "stale-if-error") || o.failed[a.target].Before(a.start)):
		t.Errorf("%s got what has been stale for %v without an error: %+v, %s", a, freshFor, from.rule, status)
	}
	for _, c := range o.changes {
		if c.target == a.target && c.request != from.request && c.done > 0 && c.done < a.begun && from.begun < c.made {
			t.Errorf("%s got what was asked for before unsafe request %d: %s", a, c.request, status)
		}
	}
}

// checkBytes compares what was sent with the representation that it claims to be.
func (a *asking) checkBytes(t *testing.T, from *said) {
	t.Helper()
	tag := a.w.sent.Get("Etag")
	var version int
	wantTag, body := "", []byte(nil)
	if i := strings.LastIndexByte(tag, '-'); i > 0 {
		version, _ = strconv.Atoi(strings.Trim(tag[i+1:], `"`))
		wantTag, body = representation(a.target, a.lang, version)
	}
	status := a.w.sent.Get("Cache-Status")
	switch {
	case a.w.status == 416:
		return
	case tag != wantTag:
		t.Errorf("%s in %q got %s", a, a.lang, tag)
		return
	case version != from.version, from.begun > a.begun && (version < a.versions[0] || version > a.versions[1]):
		t.Errorf("%s got version %d, where the origin had %d, and %v meanwhile: %s", a, version, from.version, a.versions, status)
	}
	got := a.w.body.Bytes()
	if a.Method == http.MethodHead || a.w.status == 304 {
		if len(got) > 0 {
			t.Errorf("%s got a body with %d", a, a.w.status)
		}
		return
	}
	for _, part := range a.parts(t, body) {
		if len(part.got) > len(part.want) || !bytes.Equal(part.got, part.want[:len(part.got)]) || !a.w.aborted && len(part.got) != len(part.want) {
			t.Errorf("%s got %d bytes of %s with %d that are not its own (want %d, aborted %v, %s)",
				a, len(part.got), tag, a.w.status, len(part.want), a.w.aborted, status)
		}
	}
}

type part struct{ got, want []byte }

// parts pairs what was sent with what it should be.
func (a *asking) parts(t *testing.T, body []byte) []part {
	t.Helper()
	got := a.w.body.Bytes()
	if a.w.status != 206 {
		return []part{{got, body}}
	}
	mediaType, params, _ := mime.ParseMediaType(a.w.sent.Get("Content-Type"))
	if mediaType != "multipart/byteranges" {
		return []part{{got, ranged(t, a.w.sent.Get("Content-Range"), body)}}
	}
	if a.w.aborted {
		return nil
	}
	var all []part
	for in := multipart.NewReader(bytes.NewReader(got), params["boundary"]); ; {
		p, err := in.NextPart()
		if err != nil {
			return all
		}
		var b bytes.Buffer
		if _, err := b.ReadFrom(p); err != nil {
			t.Error(err)
		}
		all = append(all, part{b.Bytes(), ranged(t, p.Header.Get("Content-Range"), body)})
	}
}

func ranged(t *testing.T, value string, body []byte) []byte {
	t.Helper()
	at, size, ok := parseContentRange(value)
	if !ok || size != int64(len(body)) {
		t.Errorf("Content-Range %q of %d bytes", value, len(body))
		return nil
	}
	return body[at.off : at.off+at.n]
}

func (a *asking) String() string {
	return fmt.Sprintf("request %d (%s %s %v)", a.id, a.Method, a.Target, a.Fields)
}
