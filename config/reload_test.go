package config

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"edgecdn/dnsgeo"
)

// base is a configuration with room for one difference.
func base(difference string) string {
	return `server: {http: [":80"]}
origins: {web: {url: "http://127.0.0.1:9000"}}
hosts: [{names: ["*"], origin: web}]
` + difference
}

// write writes a file in place, all of it at once: nobody reads an empty one, or half.
func write(t *testing.T, path, text string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	const size = 1 << 10 // of all, so that nothing is left of a longer one
	_, err = f.WriteAt([]byte(text+strings.Repeat("\n", size-len(text))), 0)
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
}

// rooms records what it was asked.
type rooms struct {
	mu               sync.Mutex
	calls            []string
	checkErr, failAt error
	taken            chan string // levels that were put in force
}

func (r *rooms) check(c *Config) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.calls = append(r.calls, "check "+c.Log.Level)
	return r.checkErr
}

func (r *rooms) apply(c *Config) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.calls = append(r.calls, "apply "+c.Log.Level)
	if c.Log.Level == "error" && r.failAt != nil {
		return r.failAt
	}
	if r.taken != nil {
		r.taken <- c.Log.Level
	}
	return nil
}

func newReloader(t *testing.T, r *rooms) (*Reloader, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "edge.yaml")
	write(t, path, base(""))
	c, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	return NewReloader(path, c, r.check, r.apply), path
}

func TestReload(t *testing.T) {
	r := &rooms{}
	reloader, path := newReloader(t, r)
	first := reloader.Current()
	refused := func(name, want string) {
		t.Helper()
		err := reloader.Reload()
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", name, err, want)
		}
		if reloader.Current() != first {
			t.Errorf("%s: another configuration is in force", name)
		}
		if s := reloader.Status(); s.LastError != err.Error() || s.LastErrorAt.IsZero() || s.Hash != first.Hash() {
			t.Errorf("%s: status %+v", name, s)
		}
	}

	write(t, path, base("log: {level: loud}\nnode: \"\\0\""))
	refused("bad file", path+":4: log.level: \"loud\" is no level")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	refused("no file", "no such file")
	write(t, path, base("log: {level: warn}"))
	r.checkErr = errors.New("admin: no")
	refused("a room that refuses", "is refused: admin: no")
	r.checkErr = nil
	r.failAt = errors.New("server: no")
	write(t, path, base("log: {level: error}"))
	refused("a room that fails", "server: no")
	want := []string{"check warn", "check error", "apply error", "apply info"}
	if diff := cmp.Diff(want, r.calls); diff != "" {
		t.Errorf("calls: %s", diff)
	}

	write(t, path, base("log: {level: debug}"))
	if err := reloader.Reload(); err != nil {
		t.Fatal(err)
	}
	if err := reloader.Reload(); err != nil { // the same again: certificates may have changed
		t.Fatal(err)
	}
	status := reloader.Status()
	if status.Reloads != 2 || status.Failures != 4 || status.LastError != "" || !status.LastErrorAt.IsZero() ||
		status.Hash == first.Hash() || status.Hash != reloader.Current().Hash() || status.File != path || status.Loaded.IsZero() {
		t.Errorf("status %+v", status)
	}
	if reloader.Current().Log.Level != "debug" {
		t.Errorf("level %q is in force", reloader.Current().Log.Level)
	}
}

func TestReloadWithoutFile(t *testing.T) {
	c, err := TryOut("http://127.0.0.1:9000", "", "", "", "")
	if err != nil {
		t.Fatal(err)
	}
	r := &rooms{}
	reloader := NewReloader("", c, r.check, r.apply)
	if err := reloader.Reload(); err == nil || !strings.Contains(err.Error(), "flags alone") {
		t.Errorf("%v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := reloader.Run(ctx, slog.New(slog.DiscardHandler)); err != nil {
		t.Error(err)
	}
}

func TestReloadRefusesWhatNeedsARestart(t *testing.T) {
	tests := []struct{ difference, want string }{
		{"node: other", "%s:4: node: changes only with a restart: put the old value back, or restart the node"},
		{"data: other", "%s:4: data: changes only with a restart: put the old value back, or restart the node"},
		{"admin:\n  public: true\n  listen: :8081", "%s:5: admin.public: changes only with a restart: put the old value back, or restart the node\n" +
			"%[1]s:6: admin.listen: changes only with a restart: put the old value back, or restart the node"},
	}
	r := &rooms{}
	reloader, path := newReloader(t, r)
	for _, test := range tests {
		write(t, path, base(test.difference))
		err := reloader.Reload()
		want := strings.ReplaceAll(strings.ReplaceAll(test.want, "%[1]s", path), "%s", path)
		if err == nil || !slices.Equal(slices.Sorted(strings.SplitSeq(err.Error(), "\n")), slices.Sorted(strings.SplitSeq(want, "\n"))) {
			t.Errorf("%s: %v, want %s", test.difference, err, want)
		}
	}
	if len(r.calls) != 0 {
		t.Errorf("rooms were asked: %v", r.calls)
	}
	// Each key of the table is one, and a difference in it is seen.
	for _, key := range restart {
		a, b := Config{}, Config{DNS: new(dnsgeo.Config)}
		v := b.value(key)
		if !v.IsValid() {
			t.Errorf("there is no key %s", key)
			continue
		}
		differ(v)
		if err := a.unchangeable(&b); err == nil || !strings.Contains(err.Error(), key+": changes only") {
			t.Errorf("%s: %v", key, err)
		}
	}
	if err := (&Config{}).unchangeable(&Config{Log: Log{Level: "debug"}}); err != nil {
		t.Errorf("log.level: %v", err)
	}
}

// differ makes v another than zero.
func differ(v reflect.Value) {
	switch v.Kind() {
	case reflect.Struct:
		differ(v.Field(0))
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
	case reflect.String:
		v.SetString("x")
	case reflect.Bool:
		v.SetBool(true)
	default:
		v.SetInt(1)
	}
}

// start runs the reloader until the test ends.
func start(t *testing.T, reloader *Reloader, log io.Writer) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- reloader.Run(ctx, slog.New(slog.NewTextHandler(log, nil))) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
}

func wait(t *testing.T, taken <-chan string, want string) {
	t.Helper()
	select {
	case got := <-taken:
		if got != want {
			t.Fatalf("level %s was put in force, want %s", got, want)
		}
	case <-time.After(30 * time.Second):
		t.Fatalf("level %s was not put in force", want)
	}
}

// lines is a log that can be waited for.
type lines chan string

func (l lines) Write(p []byte) (int, error) { l <- string(p); return len(p), nil }

// next waits for a line that says something.
func (l lines) next(t *testing.T, says ...string) {
	t.Helper()
	select {
	case line := <-l:
		for _, want := range says {
			if !strings.Contains(line, want) {
				t.Errorf("log: %s, want %q", line, want)
			}
		}
	case <-time.After(30 * time.Second):
		t.Fatalf("nothing was logged, want %q", says)
	}
}

func TestRunFollowsTheFile(t *testing.T) {
	r := &rooms{taken: make(chan string, 100)}
	reloader, path := newReloader(t, r)
	write(t, path, base("log: {level: debug}")) // between the start and the watch
	log := make(lines, 100)
	start(t, reloader, log)
	wait(t, r.taken, "debug")
	log.next(t, "configuration reloaded")

	write(t, path, base("log: {level: warn}")) // in place
	wait(t, r.taken, "warn")
	log.next(t, "configuration reloaded")

	write(t, path+".new", base("log: {level: error}")) // as editors do
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
	wait(t, r.taken, "error")
	log.next(t, "configuration reloaded")

	write(t, path, base("log: {level: loud}"))
	log.next(t, "configuration refused", "is no level")
	if s := reloader.Status(); s.Failures != 1 || s.LastError == "" || reloader.Current().Log.Level != "error" {
		t.Errorf("status %+v", s)
	}
	write(t, path, base("log: {level: info}"))
	wait(t, r.taken, "info")
	log.next(t, "configuration reloaded")
}

// Container platforms mount a symlink to a file in a directory that is a symlink
// too, and replace the latter.
func TestRunFollowsSymlinks(t *testing.T) {
	dir := t.TempDir()
	link := func(to, name string) {
		t.Helper()
		if err := os.Symlink(to, filepath.Join(dir, name+".new")); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(filepath.Join(dir, name+".new"), filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	version := func(name, level string) {
		t.Helper()
		if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, name, "edge.yaml"), base("log: {level: "+level+"}"))
	}
	version("v1", "info")
	link("v1", "..data")
	link("..data/edge.yaml", "edge.yaml")
	path := filepath.Join(dir, "edge.yaml")
	c, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	r := &rooms{taken: make(chan string, 100)}
	start(t, NewReloader(path, c, r.check, r.apply), io.Discard)

	version("v2", "debug")
	link("v2", "..data")
	wait(t, r.taken, "debug")
	write(t, filepath.Join(dir, "v2", "edge.yaml"), base("log: {level: warn}")) // behind the symlink
	wait(t, r.taken, "warn")
}

func TestWatch(t *testing.T) {
	path := filepath.Join(t.TempDir(), "edge.yaml")
	write(t, path, "a")
	changed := make(chan string, 100)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	ready := make(chan struct{})
	go func() {
		close(ready)
		done <- Watch(ctx, path, func() { changed <- digest(path) })
	}()
	<-ready
	// The watch may begin only after the first of these: the last is seen.
	for i := range 50 {
		write(t, path, fmt.Sprint(i))
		write(t, filepath.Join(filepath.Dir(path), "other"), fmt.Sprint(i))
	}
	last := digest(path)
	deadline := time.After(30 * time.Second)
	for seen := ""; seen != last; {
		select {
		case seen = <-changed:
		case <-time.After(500 * time.Millisecond):
			write(t, path, "last") // in case all came before the watch
			last = digest(path)
		case <-deadline:
			t.Fatal("the last content was not seen")
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if err := Watch(t.Context(), filepath.Join(t.TempDir(), "none", "edge.yaml"), func() {}); err == nil {
		t.Error("a directory that is not there is watched")
	}
}
