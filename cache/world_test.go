package cache

// The world of the property test: an origin that answers as it likes, but
// remembers what it said of each answer. It runs in a synctest bubble only.

import (
	"bytes"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

const worldTargets = 6

// rule is what an answer says of its caching, and what that means.
type rule struct {
	control    string
	setCookie  bool
	secret     bool // may not be stored
	noCache    bool
	neverStale bool
	authorized bool // may be shared among those with Authorization
	lifetime   time.Duration
	while, err time.Duration // windows to be used stale
}

var worldRules = []rule{
	{control: "max-age=60", lifetime: time.Minute},
	{control: "max-age=5", lifetime: 5 * time.Second},
	{control: "max-age=60, must-revalidate", lifetime: time.Minute, neverStale: true, authorized: true},
	{control: "max-age=9, proxy-revalidate, stale-while-revalidate=99, stale-if-error=99", lifetime: 9 * time.Second, neverStale: true},
	{control: "public, max-age=30, stale-while-revalidate=30", lifetime: 30 * time.Second, while: 30 * time.Second, authorized: true},
	{control: "max-age=20, stale-if-error=100, stale-while-revalidate=5", lifetime: 20 * time.Second, err: 100 * time.Second, while: 5 * time.Second},
	{control: "s-maxage=40, max-age=1", lifetime: 40 * time.Second, authorized: true},
	{control: "no-cache, max-age=60", noCache: true},
	{control: "max-age=0", lifetime: 0},
	{control: "private, max-age=60", secret: true},
	{control: `private="x-owner", s-maxage=60`, secret: true},
	{control: "no-store, max-age=60", secret: true},
	{control: "public, max-age=60", setCookie: true, secret: true},
}

// said is an answer of the origin.
type said struct {
	rule
	request int // whose it was an answer to
	begun   int // event at which it was asked for
	at      time.Time
	shared  bool // may be sent to others
	version int  // of the target
}

// change is an unsafe request that the origin took.
type change struct{ request, target, made, done int }

type world struct {
	mu       sync.Mutex
	seed     uint64
	versions [worldTargets]int
	changes  []change
	failing  bool
	event    int
	said     []said
	asked    map[int]int // answers by request
	failed   [worldTargets]time.Time
}

// tick numbers what happens.
func (o *world) tick() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.event++
	return o.event
}

// varies says which targets have a representation for each language.
func varies(target int) bool { return target%2 == 1 }

func worldSize(target int) int64 {
	if target == 4 { // in slices
		return 1<<20 + 12345
	}
	return int64(200 + 777*target)
}

// representation returns the entity-tag and body of a target.
func representation(target int, lang string, version int) (string, []byte) {
	if !varies(target) {
		lang = ""
	}
	name := fmt.Sprintf("%d-%s-%d", target, lang, version)
	return `"` + name + `"`, bodyOf(name, worldSize(target))
}

// bodyOf returns bytes that nothing else has: whatever is mixed in shows.
func bodyOf(name string, size int64) []byte {
	h := fnv.New64a()
	_, _ = h.Write([]byte(name))
	body := make([]byte, size)
	for i, x := 0, h.Sum64()|1; i < len(body); i++ {
		if i%8 == 0 { // xorshift
			x ^= x << 13
			x ^= x >> 7
			x ^= x << 17
		}
		body[i] = byte(x >> (i % 8 * 8))
	}
	copy(body, name+"\n")
	return body
}

// answer is the origin's.
func (o *world) answer(r *http.Request) (*http.Response, error) {
	path, _ := splitTarget(r.Context().Value(targetKey{}).(string))
	target, _ := strconv.Atoi(strings.TrimPrefix(path, "/"))
	request, _ := strconv.Atoi(r.Header.Get("X-Request"))
	o.mu.Lock()
	o.asked[request]++
	rng := rand.New(rand.NewPCG(o.seed, uint64(request)<<8|uint64(o.asked[request])))
	o.event++
	begun, failing := o.event, o.failing
	o.mu.Unlock()
	time.Sleep(time.Duration(rng.IntN(3000)) * time.Millisecond)
	if failing && rng.IntN(2) == 0 {
		o.mu.Lock()
		o.failed[target] = time.Now()
		o.mu.Unlock()
		if rng.IntN(2) == 0 {
			return nil, errors.New("down")
		}
		return reply(503, http.Header{}, nil, r), nil
	}
	h := o.header(rng, r, request, begun)
	o.mu.Lock()
	defer o.mu.Unlock()
	if unsafeMethod(r.Method) {
		if rng.IntN(4) == 0 {
			return reply(500, http.Header{}, nil, r), nil
		}
		o.versions[target]++
		o.event++
		o.changes = append(o.changes, change{request: request, target: target, made: o.event})
		if rng.IntN(2) == 0 {
			return reply(204, http.Header{}, nil, r), nil
		}
		h.Set("Content-Location", path)
	}
	serial, _ := strconv.Atoi(h.Get("X-Serial"))
	o.said[serial].version = o.versions[target]
	tag, body := representation(target, r.Header.Get("Accept-Language"), o.versions[target])
	h.Set("Etag", tag)
	h.Set("Accept-Ranges", "bytes")
	if varies(target) {
		h.Set("Vary", "Accept-Language")
	}
	switch {
	case unsafeMethod(r.Method):
	case r.Header.Get("If-Match") != "" && !matchAny(r.Header.Get("If-Match"), tag, true):
		return reply(412, http.Header{}, nil, r), nil
	case matchAny(r.Header.Get("If-None-Match"), tag, false):
		return reply(304, h, nil, r), nil
	case r.Header.Get("Range") != "" && slices.Contains([]string{"", tag}, r.Header.Get("If-Range")):
		if off, n, verdict := parseRange(r.Header.Get("Range"), int64(len(body))); verdict == rangeOne {
			h.Set("Content-Range", contentRange(off, n, int64(len(body))))
			return o.streamed(rng, reply(206, h, body[off:off+n], r)), nil
		}
	}
	return o.streamed(rng, reply(200, h, body, r)), nil
}

// header says how an answer may be cached and remembers it.
func (o *world) header(rng *rand.Rand, r *http.Request, request, begun int) http.Header {
	given := worldRules[rng.IntN(len(worldRules))]
	o.mu.Lock()
	defer o.mu.Unlock()
	serial := len(o.said)
	if r.Method == http.MethodHead {
		begun = o.event // it confirms what is stored now, whenever it was asked for
	}
	shared := !given.secret && (given.authorized || r.Header.Get("Authorization") == "") &&
		!strings.Contains(r.Header.Get("Cache-Control"), "no-store")
	o.said = append(o.said, said{rule: given, request: request, begun: begun, at: time.Now(), shared: shared})
	h := http.Header{"Cache-Control": {given.control}, "X-Serial": {strconv.Itoa(serial)}, "Date": {httpDate(time.Now())}}
	if given.setCookie {
		h.Set("Set-Cookie", fmt.Sprint("id=", request))
	}
	return h
}

// streamed lets a body come in pieces, and now and then break off.
func (o *world) streamed(rng *rand.Rand, resp *http.Response) *http.Response {
	cut := rng.IntN(20) == 0
	resp.Body = io.NopCloser(&slowBody{rest: resp.Body, cut: cut, left: 1 + rng.IntN(len("pieces")), pause: time.Duration(rng.IntN(500)) * time.Millisecond})
	return resp
}

type slowBody struct {
	rest  io.Reader
	pause time.Duration
	cut   bool
	left  int // pieces until it breaks off
}

func (b *slowBody) Read(p []byte) (int, error) {
	time.Sleep(b.pause)
	if b.left--; b.cut && b.left == 0 {
		return 0, io.ErrUnexpectedEOF
	}
	return b.rest.Read(p[:min(len(p), 1000+len(p)/3)])
}

func reply(status int, h http.Header, body []byte, r *http.Request) *http.Response {
	length := int64(len(body))
	h.Set("Content-Length", strconv.FormatInt(length, 10))
	if r.Method == http.MethodHead {
		body = nil
	}
	if status == 304 || status == 204 {
		h.Del("Content-Length")
	}
	return &http.Response{StatusCode: status, Header: h, ContentLength: length, Body: io.NopCloser(bytes.NewReader(body)),
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Request: r}
}
