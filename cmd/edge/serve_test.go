package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"edgecdn/admin"
	"edgecdn/config"
)

func TestHints(t *testing.T) {
	got := hints("d", []string{"[::]:80"}, []string{"127.0.0.1:8443"}, true)
	want := `
Try:

  edge get --repeat 2 http://127.0.0.1:80/
  edge get --repeat 2 --http3 --data d https://127.0.0.1:8443/
  edge status --data d

Ctrl-C stops.

`
	if got != want {
		t.Errorf("got %q\nwant %q", got, want)
	}
	if got := hints("d", nil, nil, false); strings.Contains(got, "edge ") {
		t.Errorf("nothing listens, but %q", got)
	}
}

func TestNotReadyWhileStarting(t *testing.T) {
	n := &node{}
	for _, tt := range []struct {
		phase phase
		want  string
	}{{starting, "[starting]"}, {serving, "[]"}, {draining, "[draining]"}} {
		n.state.enter(tt.phase)
		if got := fmt.Sprint(n.notReady()); got != tt.want {
			t.Errorf("%v: reasons %s, want %s", tt.phase, got, tt.want)
		}
	}
	n.state.enter(starting)
	if err := n.check(&config.Config{}); err == nil || !strings.Contains(err.Error(), "still starting") {
		t.Errorf("a reload while rooms are being made: %v", err)
	}
}

// reloadable is a node that runs on a file in this process.
type reloadable struct {
	*node
	t    *testing.T
	file string
}

func (r *reloadable) write(text string) {
	r.t.Helper()
	if err := os.WriteFile(r.file, []byte(text), 0o600); err != nil {
		r.t.Fatal(err)
	}
}

func (r *reloadable) get(url, token string) (status int, body string) {
	r.t.Helper()
	req, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		r.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

// A reload reaches every room, or none.
func TestReloadReachesEveryRoom(t *testing.T) {
	origins := make([]string, 2)
	for i := range origins {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprintf(w, "origin %d, %s", i+1, r.Header.Get("X-Secret"))
		}))
		t.Cleanup(s.Close)
		origins[i] = s.URL
	}
	t.Setenv("SECRET", "hush")
	data := t.TempDir()
	oldToken, oldHash := admin.NewToken()
	newToken, newHash := admin.NewToken()
	text := func(origin, more, hash, level string) string {
		return fmt.Sprintf(`
data: %s
server: {http: ["127.0.0.1:0"], access_log: {format: off}}
admin: {listen: "127.0.0.1:0", tokens: [{name: ops, sha256: %s, scopes: [read]}]}
log: {level: %s}
origins: {web: {url: "%s"%s}}
hosts: [{names: ["*"], origin: web, request: {set: {X-Secret: "${SECRET}"}}}]
`, data, hash, level, origin, more)
	}
	r := &reloadable{t: t, file: filepath.Join(t.TempDir(), "edge.yaml")}
	r.write(text(origins[0], "", oldHash, "info"))
	cfg, err := config.Load(r.file)
	if err != nil {
		t.Fatal(err)
	}
	r.node = startServing(t, cfg, r.file)
	front, _ := r.server.Addresses()
	page, status := "http://"+front[0]+"/", "http://"+r.admin.Addr()+"/v1/status"
	expect := func(when, body, token string, level slog.Level) {
		t.Helper()
		if code, got := r.get(page, ""); code != 200 || got != body {
			t.Errorf("%s: %d %q, want %q", when, code, got, body)
		}
		if code, _ := r.get(status, token); code != 200 {
			t.Errorf("%s: token answered %d", when, code)
		}
		if r.level.Level() != level {
			t.Errorf("%s: log level %v", when, r.level.Level())
		}
	}
	expect("at first", "origin 1, hush", oldToken, slog.LevelInfo)

	r.write(text("https://127.0.0.1:1", ", ca: missing.pem", newHash, "debug"))
	if err := r.reload(t.Context()); err == nil || !strings.Contains(err.Error(), "missing.pem") {
		t.Errorf("a CA file that is not there: %v", err)
	}
	expect("after a refusal", "origin 1, hush", oldToken, slog.LevelInfo)
	if code, _ := r.get(status, newToken); code != 401 {
		t.Errorf("the new token of a refused configuration answers %d", code)
	}

	r.write(text(origins[1], "", newHash, "debug"))
	if err := r.reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	expect("after a reload", "origin 2, hush", newToken, slog.LevelDebug)
	if code, _ := r.get(status, oldToken); code != 401 {
		t.Errorf("the old token answers %d", code)
	}

	shown, err := r.config()
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(shown)
	if err != nil || bytes.Contains(b, []byte("hush")) || !bytes.Contains(b, []byte(origins[1])) {
		t.Errorf("the configuration in force is shown as %s, %v", b, err)
	}
}

// What fails half way is taken back: nothing is left listening, and the data
// directory is free again.
func TestFailedStart(t *testing.T) {
	taken := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(taken.Close)
	data := t.TempDir()
	cfg, err := config.TryOut("http://127.0.0.1:1", taken.Listener.Addr().String(), "off", "127.0.0.1:0", data)
	if err != nil {
		t.Fatal(err)
	}
	n := &node{level: new(slog.LevelVar), log: slog.New(slog.DiscardHandler)}
	if err := n.serve(context.Background(), cfg, "", nil); err == nil || !strings.Contains(err.Error(), taken.Listener.Addr().String()) {
		t.Errorf("error %v, want one that names the address", err)
	}
	if _, err := os.Stat(filepath.Join(data, addrFile)); err == nil {
		t.Error("the address of a node that never served was published")
	}
	again, err := claim(data)
	if err != nil {
		t.Fatal(err)
	}
	again.release()
}

// Budgets of the store change with a reload; directories do not, and then
// nothing else of the file is taken either.
func TestReloadChangesBudgets(t *testing.T) {
	data := t.TempDir()
	text := func(level, memory, disk string) string {
		return fmt.Sprintf(`
data: %s
server: {http: ["127.0.0.1:0"], access_log: {format: off}}
admin: {listen: "127.0.0.1:0"}
log: {level: %s}
store: {memory: {bytes: %s}, disk: [%s]}
origins: {web: {url: "http://127.0.0.1:1"}}
hosts: [{names: ["*"], origin: web}]
`, data, level, memory, disk)
	}
	r := &reloadable{t: t, file: filepath.Join(t.TempDir(), "edge.yaml")}
	directory := func(name, bytes string) string {
		return fmt.Sprintf("{path: %s, bytes: %s}", filepath.Join(data, name), bytes)
	}
	r.write(text("info", "16MiB", directory("a", "64MiB")))
	cfg, err := config.Load(r.file)
	if err != nil {
		t.Fatal(err)
	}
	r.node = startServing(t, cfg, r.file)
	expect := func(when string, memory, disk int64, level slog.Level) {
		t.Helper()
		tiers := r.status().Store
		if len(tiers) != 2 || tiers[0].BytesMax != memory<<20 || tiers[1].BytesMax != disk<<20 || r.level.Level() != level {
			t.Errorf("%s: tiers %+v, log level %v", when, tiers, r.level.Level())
		}
	}
	expect("at first", 16, 64, slog.LevelInfo)
	r.write(text("debug", "32MiB", directory("a", "128MiB")))
	if err := r.reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	expect("after a reload", 32, 128, slog.LevelDebug)
	for name, disk := range map[string]string{
		"another directory": directory("b", "128MiB"), "one more": directory("a", "256MiB") + "," + directory("b", "128MiB"), "none": "",
	} {
		r.write(text("info", "64MiB", disk))
		if err := r.reload(t.Context()); err == nil || !strings.Contains(err.Error(), "store.disk") || !strings.Contains(err.Error(), "restart") {
			t.Errorf("%s: %v", name, err)
		}
		expect(name, 32, 128, slog.LevelDebug)
	}
}
