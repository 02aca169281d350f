package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"edgecdn/admin"
)

// purgesFake remembers purges, and applies them at once or never.
type purgesFake struct {
	made  []admin.PurgeRequest
	never bool
	err   error
}

func (f *purgesFake) Purge(_ context.Context, p admin.PurgeRequest) (admin.Receipt, error) {
	if f.err != nil {
		return admin.Receipt{}, f.err
	}
	f.made = append(f.made, p)
	r, _ := f.Receipt(fmt.Sprint("p", len(f.made)))
	return r, nil
}

func (f *purgesFake) DryRun(_ context.Context, p admin.PurgeRequest) (admin.Receipt, error) {
	return admin.Receipt{Actor: p.Actor, Kind: p.Kind, Mode: "hard", TargetsTotal: len(p.Targets), State: admin.PurgePending, DryRun: true, Counts: admin.PurgeCounts{MemoryCounted: true, Disk: 7}, Nodes: []admin.PurgeNode{}}, nil
}

func (f *purgesFake) Receipt(id string) (admin.Receipt, bool) {
	for i, p := range f.made {
		if fmt.Sprint("p", i+1) == id {
			mode := map[bool]string{true: "soft", false: "hard"}[p.Soft]
			return admin.Receipt{ID: id, Actor: p.Actor, Kind: p.Kind, Mode: mode, TargetsTotal: len(p.Targets), State: admin.PurgeSwept,
				Counts: admin.PurgeCounts{Memory: 1, MemoryCounted: true, Disk: 2, Counted: true}, Nodes: []admin.PurgeNode{{Node: "edge", State: admin.PurgeSwept}}}, true
		}
	}
	return admin.Receipt{}, false
}

func (f *purgesFake) List(string, int) ([]admin.Receipt, string) { return nil, "" }
func (f *purgesFake) Watch(context.Context) <-chan admin.Receipt { return nil }
func (f *purgesFake) Counts(_ context.Context, id string) (admin.Receipt, bool) {
	return f.Receipt(id)
}
func (f *purgesFake) Wait(ctx context.Context, id string) (admin.Receipt, error) {
	r, _ := f.Receipt(id)
	if f.never {
		<-ctx.Done()
		return r, ctx.Err()
	}
	return r, nil
}

func lines(n int, format string) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, format+"\n", i)
	}
	return b.String()
}

func TestPurgeCommand(t *testing.T) {
	for _, tt := range []struct {
		name  string
		cmd   purgeCmd
		stdin string
		kinds []admin.PurgeKind
		sizes []int
		out   string
	}{
		{"URLs", purgeCmd{Targets: []string{"https://a/1", "https://a/2"}, Soft: true, Reason: "why"}, "", []admin.PurgeKind{admin.PurgeURL}, []int{2},
			"PURGE  KIND  MODE  TARGETS  STATE  MEMORY  DISK  NODES\np1     url   soft  2        swept  1       2     1 of 1\n"},
		{"prefixes", purgeCmd{Targets: []string{"a/b"}, Prefix: true}, "", []admin.PurgeKind{admin.PurgePrefix}, []int{1}, "prefix"},
		{"hosts", purgeCmd{Targets: []string{"a"}, Host: true, Wait: true}, "", []admin.PurgeKind{admin.PurgeHost}, []int{1}, "host"},
		{"groups", purgeCmd{Targets: []string{"x", "y"}, Group: "a"}, "", []admin.PurgeKind{admin.PurgeGroup}, []int{2}, "group"},
		{"all", purgeCmd{All: true}, "", []admin.PurgeKind{admin.PurgeAll}, []int{0}, "all"},
		{"from standard input, with one more", purgeCmd{Targets: []string{"-", "https://b/"}}, lines(admin.PurgeURLsMax+5, "https://a/%d\n"), []admin.PurgeKind{admin.PurgeURL, admin.PurgeURL}, []int{admin.PurgeURLsMax, 6}, "p2 "},
		{"as many bytes as fit", purgeCmd{Targets: []string{"-"}}, lines(600, "https://a/%d"+strings.Repeat("x", 7<<10)), []admin.PurgeKind{admin.PurgeURL, admin.PurgeURL, admin.PurgeURL}, []int{292, 292, 16}, "p3 "},
		{"hosts in parts", purgeCmd{Targets: []string{"-"}, Host: true}, lines(300, "h%d"), []admin.PurgeKind{admin.PurgeHost, admin.PurgeHost}, []int{256, 44}, "p2 "},
		{"nothing on standard input", purgeCmd{Targets: []string{"-"}}, " \n\n", nil, nil, ""},
		{"dry run", purgeCmd{Targets: []string{"https://a/"}, DryRun: true}, "", nil, nil, "-      url   hard  1        dry run  0       about 7  0 of 0"},
		{"JSON", purgeCmd{Targets: []string{"https://a/"}, JSON: true}, "", []admin.PurgeKind{admin.PurgeURL}, []int{1}, `{"id":"p1",`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			n := startAdmin(t)
			var out, progress strings.Builder
			tt.cmd.Data, tt.cmd.Timeout = n.data, time.Second
			if err := tt.cmd.run(strings.NewReader(tt.stdin), &out, &progress); err != nil {
				t.Fatal(err)
			}
			var kinds []admin.PurgeKind
			var sizes []int
			keys := map[string]bool{}
			for _, p := range n.purges.made {
				kinds, sizes, keys[p.Key] = append(kinds, p.Kind), append(sizes, len(p.Targets)), true
				if p.Soft != tt.cmd.Soft || p.Reason != tt.cmd.Reason || p.Host != tt.cmd.Group || p.Actor != admin.TokenFile || p.Key == "" {
					t.Errorf("made %v %v %q %q %q", p.Soft, p.Kind, p.Reason, p.Host, p.Key)
				}
			}
			if diff := cmp.Diff([]any{tt.kinds, tt.sizes}, []any{kinds, sizes}); diff != "" || len(keys) != len(kinds) {
				t.Errorf("%s, keys %v", diff, keys)
			}
			if !strings.Contains(out.String(), tt.out) {
				t.Errorf("printed\n%swant\n%s", &out, tt.out)
			}
			if tt.cmd.JSON && !json.Valid([]byte(out.String())) {
				t.Errorf("not JSON: %s", &out)
			}
			if len(sizes) > 1 && !strings.Contains(progress.String(), fmt.Sprintf("in %d purges", len(sizes))) {
				t.Errorf("progress %q", &progress)
			}
		})
	}
}

func TestPurgeCommandFails(t *testing.T) {
	for _, tt := range []struct {
		name  string
		cmd   purgeCmd
		stdin string
		set   func(*adminNode)
		code  int
		want  string // parts of the error, by |
	}{
		{"nothing named", purgeCmd{}, "", nil, exitUsage, "URLs, - for those on standard input, or --all"},
		{"targets beside all", purgeCmd{All: true, Targets: []string{"https://a/"}}, "", nil, exitUsage, "--all takes no targets"},
		{"a timeout too long", purgeCmd{All: true, Timeout: time.Hour}, "", nil, exitUsage, "--timeout"},
		{"a URL that is none", purgeCmd{Targets: []string{"https://a/", "https://a/#b"}}, "", nil, exitUsage, "https://a/#b: leave the fragment out"},
		{"a host of groups that is none", purgeCmd{Targets: []string{"x"}, Group: "https://a"}, "", nil, exitUsage, "groups.host: leave the scheme out"},
		{"after some that were purged", purgeCmd{Targets: []string{"-"}, Host: true}, lines(256, "h%d") + "a/b", nil, exitUsage, "after 256 that were purged|a/b: "},
		{"a line too long", purgeCmd{Targets: []string{"-"}}, strings.Repeat("x", 2*purgeLineMax), nil, exitFailed, "standard input"},
		{"not applied everywhere", purgeCmd{All: true, Wait: true, Timeout: 10 * time.Millisecond}, "", func(n *adminNode) { n.purges.never = true }, exitFailed, "not applied on every node within 10ms"},
		{"a node that fails", purgeCmd{All: true}, "", func(n *adminNode) { n.purges.err = errors.New("broken") }, exitFailed, "log says why"},
		{"no node", purgeCmd{All: true}, "", func(n *adminNode) { _ = os.Remove(filepath.Join(n.data, addrFile)) }, exitFailed, "no node runs"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			n := startAdmin(t)
			if tt.set != nil {
				tt.set(n)
			}
			if tt.cmd.Data = n.data; tt.cmd.Timeout == 0 {
				tt.cmd.Timeout = time.Second
			}
			var out, progress strings.Builder
			err := tt.cmd.run(strings.NewReader(tt.stdin), &out, &progress)
			if err == nil {
				t.Fatal("no error")
			}
			for want := range strings.SplitSeq(tt.want, "|") {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error %q, want %q", err, want)
				}
			}
			code := exitFailed
			if coded, ok := errors.AsType[codedError](err); ok {
				code = coded.code
			}
			if code != tt.code {
				t.Errorf("exit code %d, want %d", code, tt.code)
			}
		})
	}
}

// A node that has no time now is asked again with the same key.
func TestPurgeCommandIsPatient(t *testing.T) {
	var asked atomic.Int64
	keys := make(chan string, 3)
	busy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		keys <- r.Header.Get("Idempotency-Key")
		if asked.Add(1) == 1 {
			w.Header().Set("Retry-After", "1")
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		fmt.Fprint(w, `{"id":"p1","kind":"all","mode":"hard","state":"applied"}`)
	}))
	defer busy.Close()
	var out, progress strings.Builder
	c := purgeCmd{All: true, Timeout: time.Second, nodeFlags: nodeFlags{Admin: busy.URL, Token: "x"}}
	if err := c.run(nil, &out, &progress); err != nil || !strings.Contains(out.String(), "p1") {
		t.Errorf("%v: %s", err, &out)
	}
	if first, second := <-keys, <-keys; first != second || first == "" {
		t.Errorf("keys %q and %q", first, second)
	}
}
