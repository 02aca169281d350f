package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"edgecdn/config"
)

// ruled is a node in this process whose rules for keys change, and that starts again.
type ruled struct {
	t      *testing.T
	origin string
	asked  atomic.Int64
	file   string
	data   string
	n      *node
	stop   func()
}

func newRuled(t *testing.T) *ruled {
	dir := t.TempDir()
	r := &ruled{t: t, file: filepath.Join(dir, "edge.yaml"), data: filepath.Join(dir, "data")}
	behind := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Cache-Control", "max-age=3600")
		fmt.Fprint(w, r.asked.Add(1))
	}))
	t.Cleanup(behind.Close)
	r.origin = behind.URL
	return r
}

func (r *ruled) write(key string) *config.Config {
	r.t.Helper()
	text := fmt.Sprintf(`server: {http: ["127.0.0.1:0"], access_log: {format: "off"}}
admin: {listen: "127.0.0.1:0"}
data: %q
store: {disk: [{path: %q, bytes: 64MiB}]}
origins: {o: {url: %q}}
hosts: [{names: ["*"], origin: o, cache: {key: %s}}]
`, r.data, filepath.Join(r.data, "cache"), r.origin, key)
	if err := os.WriteFile(r.file, []byte(text), 0o600); err != nil {
		r.t.Fatal(err)
	}
	cfg, err := config.Load(r.file)
	if err != nil {
		r.t.Fatal(err)
	}
	return cfg
}

func (r *ruled) start(key string) {
	r.t.Helper()
	cfg := r.write(key)
	r.n = &node{level: new(slog.LevelVar), log: slog.New(slog.DiscardHandler)}
	ctx, cancel := context.WithCancel(r.t.Context())
	ran := make(chan error, 1)
	go func() { ran <- r.n.serve(ctx, cfg, r.file, nil) }()
	stopped := false
	r.stop = func() {
		if stopped {
			return
		}
		stopped = true
		// What has not been copied to disk yet is not there after a restart.
		r.until("what is stored is on disk", func() bool {
			return r.n.state.now() != serving || r.n.store.Stats().OffersPending == 0
		})
		cancel()
		if err := <-ran; err != nil {
			r.t.Error(err)
		}
	}
	r.t.Cleanup(r.stop)
	r.until("it serves", func() bool { return r.n.state.now() == serving })
}

func (r *ruled) reload(key string) {
	r.t.Helper()
	r.write(key)
	if err := r.n.reload(r.t.Context()); err != nil {
		r.t.Fatal(err)
	}
}

func (r *ruled) until(what string, ok func() bool) {
	r.t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for late := time.After(30 * time.Second); !ok(); {
		select {
		case <-tick.C:
		case <-late:
			r.t.Fatalf("%s: not in time", what)
		}
	}
}

// get asks for a target of a.test, and says whether the origin was asked.
func (r *ruled) get(target string) (asked bool) {
	r.t.Helper()
	addresses, _ := r.n.server.Addresses()
	req, err := http.NewRequest("GET", "http://"+addresses[0]+target, nil)
	if err != nil {
		r.t.Fatal(err)
	}
	req.Host = "a.test"
	before := r.asked.Load()
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	defer resp.Body.Close()
	if _, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode != 200 {
		r.t.Fatal(resp.Status, err)
	}
	return r.asked.Load() != before
}

func (r *ruled) purge(target string) {
	r.t.Helper()
	var answer any
	newOperator(r.t, r.n, r.data).ask("POST", "/v1/purges", fmt.Sprintf(`{"urls":["http://a.test%s"]}`, target), "", 202, &answer)
}

const everyParameter, withoutUTM = `{}`, `{query: {deny: [utm_*]}}`

// TestKeyRulesChange: rules for keys that change, and change back, by reloads and
// restarts, bring back nothing that was purged in between, and take nothing else.
func TestKeyRulesChange(t *testing.T) {
	r := newRuled(t)
	r.start(withoutUTM)
	for _, target := range []string{"/a?utm_source=x", "/b?utm_source=x", "/c?utm_source=x"} {
		if !r.get(target) {
			t.Fatal("it cannot be stored")
		}
	}
	r.reload(everyParameter)
	r.purge("/a?utm_source=x")
	r.reload(withoutUTM)
	if !r.get("/a?utm_source=x") {
		t.Error("a reload brought back what was purged")
	}
	r.stop()
	r.start(everyParameter)
	r.purge("/b?utm_source=x")
	r.stop()
	r.start(withoutUTM)
	if !r.get("/b") {
		t.Error("a restart brought back what was purged")
	}
	if r.get("/c?utm_source=y") {
		t.Error("what nobody purged is gone")
	}
}

// TestKeyRulesAreLost: without the file nobody knows under which rules something is
// stored, so nothing of it is used. A file that can be read of a newer version is
// not touched.
func TestKeyRulesAreLost(t *testing.T) {
	r := newRuled(t)
	r.start(withoutUTM)
	r.get("/a")
	file := filepath.Join(r.data, keyRulesFile)
	for _, text := range []string{"", "{", `{"version":1`} {
		r.stop()
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
		if text != "" {
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		r.start(withoutUTM)
		if !r.get("/a") {
			t.Errorf("%q: what was stored before is used", text)
		}
		r.until("the file is written anew", func() bool {
			b, err := os.ReadFile(file)
			return err == nil && len(b) > len(text) && len(r.n.purges.List([16]byte{}, 9)) > 0
		})
		r.get("/a")
	}
	r.stop()
	r.start(withoutUTM)
	if r.get("/a") {
		t.Error("the next start forgets all the same")
	}
	r.stop()
	if err := os.WriteFile(file, []byte(`{"version":2}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := (&node{level: new(slog.LevelVar), log: slog.New(slog.DiscardHandler)}).serve(t.Context(), r.write(withoutUTM), r.file, nil); err == nil {
		t.Error("a newer version was read")
	}
}

// TestKeyRulesAreBounded: those that are too many go, and with them all that was
// stored.
func TestKeyRulesAreBounded(t *testing.T) {
	r := newRuled(t)
	r.start(withoutUTM)
	r.get("/a")
	for i := range keyRulesMax {
		if r.get("/a") {
			t.Fatalf("forgotten after %d rules", i)
		}
		r.reload(fmt.Sprintf(`{query: {deny: [other%d]}}`, i))
	}
	r.until("all is purged", func() bool {
		r.n.keyRules.mu.Lock()
		defer r.n.keyRules.mu.Unlock()
		return len(r.n.keyRules.all) == keyRulesKept
	})
	if !r.get("/a") {
		t.Error("what was stored under the oldest rules is used")
	}
}
