package purge

// The log with the real cache over the real store.

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"edgecdn/cache"
	"edgecdn/cache/store"
	"edgecdn/internal/unit"
	"edgecdn/route"
)

// realOrigin answers with the number of the fetch, and with groups by path.
type realOrigin struct {
	mu      sync.Mutex
	fetches int
	hold    map[string]chan struct{} // by target: the answer waits
	failing bool
}

func (o *realOrigin) RoundTrip(r *http.Request) (*http.Response, error) {
	target := r.Context().Value(targetKey{}).(string)
	o.mu.Lock()
	o.fetches++
	body := strconv.Itoa(o.fetches)
	hold, failing := o.hold[target], o.failing
	o.mu.Unlock()
	if failing {
		return nil, errors.New("the origin is away")
	}
	if hold != nil {
		<-hold
	}
	return &http.Response{
		StatusCode: 200, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, ContentLength: int64(len(body)),
		Header: http.Header{
			"Cache-Control": {"max-age=36000, stale-if-error=36000"}, "Etag": {`"1"`},
			"Surrogate-Key": {"all group" + target[len(target)-1:]},
		},
		Body: io.NopCloser(strings.NewReader(body)),
	}, nil
}

type targetKey struct{}

// realNode is log, cache and store, wired as the program does it.
type realNode struct {
	t      *testing.T
	origin *realOrigin
	log    *Log
	store  *store.Tiered
	cache  *cache.Cache
	table  *route.Table
	cancel context.CancelFunc
	work   sync.WaitGroup
}

func startRealNode(t *testing.T, dir string, o *realOrigin) *realNode {
	t.Helper()
	n := &realNode{t: t, origin: o}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	var err error
	n.log, err = Open(Config{Dir: filepath.Join(dir, "purge")}, slog.New(slog.DiscardHandler))
	must(err)
	n.store, err = store.Open(store.Config{
		Memory:  store.MemoryConfig{Bytes: 8 * unit.MiB},
		Disk:    []store.DiskConfig{{Path: filepath.Join(dir, "cache"), Bytes: 64 * unit.MiB}},
		Prepare: cache.Prepare,
	}, slog.New(slog.DiscardHandler))
	must(err)
	n.table, err = route.NewTable([]route.Host{{Names: []string{"*"}, Policy: route.Policy{Origin: "o"}}})
	must(err)
	n.cache = cache.New(cache.Config{
		Store: n.store, Origin: o, Match: n.table.Match,
		Direct: func(ctx context.Context, _, target string) context.Context {
			return context.WithValue(ctx, targetKey{}, target)
		},
	})
	_, err = n.store.Claim(n.log.Incarnation(), n.log.Boot(), n.log.Dropped())
	must(err)
	n.cache.BeginOrder(n.log.Boot())
	must(n.log.Replay(n.cache))
	ctx, cancel := context.WithCancel(context.Background())
	n.cancel = cancel
	for _, run := range []func(context.Context) error{n.store.Run, n.cache.Run, n.log.Run} {
		n.work.Go(func() {
			if err := run(ctx); err != nil {
				t.Error(err)
			}
		})
	}
	t.Cleanup(n.stop)
	return n
}

func (n *realNode) stop() {
	if n.cancel == nil {
		return
	}
	n.cancel()
	n.cancel = nil
	n.cache.Close()
	n.work.Wait()
	if err := n.store.Close(); err != nil {
		n.t.Error(err)
	}
}

// get returns the number of the fetch that the answer is of, and whether it came
// from the store.
func (n *realNode) get(host, target string) (version int, hit bool) {
	n.t.Helper()
	rt, err := n.table.Match(host, target)
	if err != nil {
		n.t.Fatal(err)
	}
	r := &cache.Request{Method: "GET", Scheme: "https", Authority: host, Host: host, Target: target, Route: rt}
	req := httptest.NewRequest("GET", "https://"+host+target, nil)
	w := httptest.NewRecorder()
	n.cache.ServeHTTP(w, req.WithContext(cache.NewContext(n.t.Context(), r)))
	version, err = strconv.Atoi(w.Body.String())
	if w.Code == 502 {
		return 0, false
	}
	if err != nil || w.Code != 200 {
		n.t.Fatalf("%d %q", w.Code, w.Body)
	}
	return version, strings.Contains(w.Header().Get("Cache-Status"), "; hit")
}

func (n *realNode) onDisk() int { return n.store.Stats().Disk.Directories[0].Objects }

// written waits until so many objects are on disk, and written out.
func (n *realNode) written(objects int) {
	n.t.Helper()
	waitFor(n.t, func() bool {
		disk := n.store.Stats().Disk.Directories[0]
		return int(disk.Objects) == objects && disk.BacklogBytes == 0
	})
}

// copyDir copies what a process that is killed now leaves: the log first, so that
// it is never newer than what is stored.
func copyDir(t *testing.T, from string) string {
	to := t.TempDir()
	for _, part := range []string{"purge", "cache"} {
		err := filepath.WalkDir(filepath.Join(from, part), func(name string, d os.DirEntry, err error) error {
			if err != nil {
				if os.IsNotExist(err) { // reclaimed meanwhile
					return nil
				}
				return err
			}
			rest, _ := filepath.Rel(from, name)
			if d.IsDir() {
				return os.MkdirAll(filepath.Join(to, rest), 0o750)
			}
			data, err := os.ReadFile(name)
			if os.IsNotExist(err) {
				return nil
			}
			if err != nil {
				return err
			}
			return os.WriteFile(filepath.Join(to, rest), data, 0o640)
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return to
}

// ledger is what must not be served: for each URL the fetch up to which purges
// that were acknowledged have forgotten all.
type ledger map[string]int

var realHosts = []string{"a.example", "b.example"}

func realTargets() (all []string) {
	for i := range 12 {
		all = append(all, fmt.Sprintf("/d%d/e%d/%d", i%2, i%3, i%4))
	}
	return all
}

// randomPurge purges something, and writes it down.
func (n *realNode) randomPurge(rng *rand.Rand, gone ledger) {
	host := realHosts[rng.IntN(len(realHosts))]
	target := realTargets()[rng.IntN(12)]
	r := Request{Actor: "test"}
	var named func(host, target string) bool
	switch k := rng.IntN(40); {
	case k < 20:
		r.URLs = []string{"https://" + host + target}
		named = func(h, t string) bool { return h == host && t == target }
	case k < 30:
		prefix := target[:[]int{3, 6}[rng.IntN(2)]]
		r.Prefixes = []string{host + prefix}
		named = func(h, t string) bool { return h == host && strings.HasPrefix(t, prefix+"/") }
	case k < 38:
		last := target[len(target)-1:]
		r.Groups = Groups{host, []string{"group" + last, "other"}}
		named = func(h, t string) bool { return h == host && strings.HasSuffix(t, last) }
	case k == 38:
		r.Hosts = []string{host}
		named = func(h, _ string) bool { return h == host }
	default:
		r.All = true
		named = func(string, string) bool { return true }
	}
	n.origin.mu.Lock()
	before := n.origin.fetches
	n.origin.mu.Unlock()
	if _, err := n.log.Purge(n.t.Context(), r); err != nil {
		n.t.Fatal(err)
	}
	for _, h := range realHosts {
		for _, target := range realTargets() {
			if named(h, target) {
				gone[h+target] = before
			}
		}
	}
}

// TestRestarts purges, fetches, restarts and kills at random: nothing that an
// acknowledged purge has forgotten is served again.
func TestRestarts(t *testing.T) {
	rounds := 8
	if os.Getenv("EDGE_FULL") != "" {
		rounds = 60
	}
	rng := rand.New(rand.NewPCG(seedOf(t), 0))
	dir, o, gone := t.TempDir(), &realOrigin{}, ledger{}
	fromDisk, purges := 0, 0
	for range rounds {
		n := startRealNode(t, dir, o)
		for range 400 {
			host, target := realHosts[rng.IntN(2)], realTargets()[rng.IntN(12)]
			if rng.IntN(8) == 0 {
				n.randomPurge(rng, gone)
				purges++
				continue
			}
			version, hit := n.get(host, target)
			if version <= gone[host+target] {
				t.Fatalf("%s%s: fetch %d is served, and %d was purged", host, target, version, gone[host+target])
			}
			if hit && n.log.Boot() > 1 {
				fromDisk++
			}
		}
		if rng.IntN(3) > 0 {
			n.get(realHosts[0], realTargets()[0]) // something there is, if the last purge was of all
			waitFor(t, func() bool { return n.onDisk() > 0 })
		}
		if rng.IntN(2) == 0 {
			dir = copyDir(t, dir)
		}
		n.stop()
	}
	if fromDisk == 0 {
		t.Error("nothing came from before a restart: the test shows nothing")
	}
	t.Logf("%d purges, %d hits", purges, fromDisk)
}

// Newer than the purge stays through the restart that applies it again, and what it
// has forgotten does not come back; nor after the sweep, when nothing is replayed.
func TestNewerStays(t *testing.T) {
	for _, swept := range []bool{false, true} {
		dir, o := t.TempDir(), &realOrigin{}
		n := startRealNode(t, dir, o)
		keep := func(host string) (version int) {
			for range 3 {
				version, _ = n.get(host, "/x/1")
			}
			return version
		}
		old := keep("a.example")
		other := keep("b.example")
		n.written(2)
		receipt, err := n.log.Purge(t.Context(), Request{Prefixes: []string{"a.example/x"}})
		if err != nil {
			t.Fatal(err)
		}
		if !swept { // killed at once, and not fetched again
			again := startRealNode(t, copyDir(t, dir), o)
			if v, hit := again.get("a.example", "/x/1"); v == old || hit {
				t.Error("purged, and back after a restart")
			}
			if v, hit := again.get("b.example", "/x/1"); v != other || !hit {
				t.Error("not purged, and gone")
			}
			again.stop()
			waitFor(t, func() bool { return n.onDisk() == 1 }) // so that written does not count the old one
		}
		newer := keep("a.example")
		if swept {
			waitFor(t, func() bool {
				r, ok := n.log.Receipt(receipt.Entry.ID)
				return ok && r.State == Swept && r.Count.Counted
			})
			if r, _ := n.log.Receipt(receipt.Entry.ID); r.Count.Memory+r.Count.Disk > 1 {
				t.Errorf("counted %+v", r.Count)
			}
		}
		n.written(2)
		second := startRealNode(t, copyDir(t, dir), o)
		if v, hit := second.get("a.example", "/x/1"); v != newer || !hit {
			t.Errorf("swept %v: fetch %d (hit %v) after the restart, not %d", swept, v, hit, newer)
		}
		if replayed := second.log.Stats().Replayed.Load(); swept && replayed != 0 {
			t.Errorf("%d replayed that were swept", replayed)
		}
		// Orders go on where they were, also where nothing told so.
		if _, err := second.log.Purge(t.Context(), Request{URLs: []string{"https://a.example/x/1"}}); err != nil {
			t.Fatal(err)
		}
		if v, hit := second.get("a.example", "/x/1"); v == newer || hit {
			t.Errorf("swept %v: what an earlier start stored is not purged", swept)
		}
		second.stop()
		n.stop()
	}
}

// A restart keeps apart what was purged hard and soft: without an origin the one is
// an error, the other served stale, since the response allows that.
func TestModesThroughRestart(t *testing.T) {
	dir, o := t.TempDir(), &realOrigin{}
	n := startRealNode(t, dir, o)
	versions := map[string]int{}
	targets := []string{"/hard/1", "/soft/1", "/none/1"}
	for range 3 {
		for _, target := range targets {
			versions[target], _ = n.get("a.example", target)
		}
	}
	n.written(3)
	for _, r := range []Request{{Prefixes: []string{"a.example/hard"}}, {Groups: Groups{"a.example", []string{"group2"}}}, {Prefixes: []string{"a.example/soft"}, Soft: true}} {
		if _, err := n.log.Purge(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	check := func(n *realNode, when string) {
		t.Helper()
		versions := maps.Clone(versions)
		versions["/hard/1"] = 0
		for target, want := range versions {
			if got, hit := n.get("a.example", target); got != want || hit != (target == "/none/1") {
				t.Errorf("%s: %s is fetch %d (hit %v), want %d", when, target, got, hit, want)
			}
		}
	}
	o.mu.Lock()
	o.failing = true
	o.mu.Unlock()
	check(n, "before")
	copied := copyDir(t, dir)
	n.stop()
	again := startRealNode(t, copied, o)
	check(again, "after")
	// Back again, the origin is asked for what is stale.
	o.mu.Lock()
	o.failing = false
	o.mu.Unlock()
	if got, _ := again.get("a.example", "/soft/1"); got == versions["/soft/1"] {
		t.Error("stale, and not validated")
	}
}

// A lost log empties the store; so does one of another node.
func TestLostLogEmptiesStore(t *testing.T) {
	dir, o := t.TempDir(), &realOrigin{}
	n := startRealNode(t, dir, o)
	var old int
	for range 3 {
		old, _ = n.get("a.example", "/1")
	}
	n.written(1)
	n.stop()
	whole := startRealNode(t, copyDir(t, dir), o)
	if v, hit := whole.get("a.example", "/1"); v != old || !hit {
		t.Fatal("it was not kept: the test shows nothing")
	}
	whole.stop()
	if err := os.RemoveAll(filepath.Join(dir, "purge")); err != nil {
		t.Fatal(err)
	}
	n = startRealNode(t, dir, o)
	if v, hit := n.get("a.example", "/1"); v == old || hit {
		t.Error("what may have been purged is served")
	}
}

// A fetch that began before a purge leaves nothing behind, however long it takes.
func TestFetchBeforePurge(t *testing.T) {
	o := &realOrigin{hold: map[string]chan struct{}{"/1": make(chan struct{})}}
	n := startRealNode(t, t.TempDir(), o)
	var first int
	done := make(chan struct{})
	go func() { first, _ = n.get("a.example", "/1"); close(done) }()
	waitFor(t, func() bool { o.mu.Lock(); defer o.mu.Unlock(); return o.fetches == 1 })
	if _, err := n.log.Purge(t.Context(), Request{Hosts: []string{"a.example"}}); err != nil {
		t.Fatal(err)
	}
	hold := o.hold["/1"]
	o.mu.Lock()
	o.hold = nil
	o.mu.Unlock()
	close(hold)
	<-done
	if v, hit := n.get("a.example", "/1"); v == first || hit {
		t.Error("what was fetched before the purge is served after it")
	}
}
