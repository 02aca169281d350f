package purge

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"edgecdn/cache"
)

func TestNames(t *testing.T) {
	const example = "www.example.com"
	url := func(scheme, host, target string) cache.Purge {
		return cache.Purge{Kind: cache.PurgeURL, Scheme: scheme, Host: host, Name: target}
	}
	for _, tt := range []struct {
		in   Request
		want []cache.Purge
	}{
		{Request{URLs: []string{"https://www.example.com/a?b=%20", "HTTP://WWW.example.COM.:80"}},
			[]cache.Purge{url("https", example, "/a?b=%20"), url("http", example, "/")}},
		{Request{URLs: []string{"https://www.example.com?x", "http://[2001:DB8:0::1]:8080/A/../b//c"}},
			[]cache.Purge{url("https", example, "/?x"), url("http", "[2001:db8::1]:8080", "/A/../b//c")}},
		{Request{Prefixes: []string{"www.Example.com/static/", "www.example.com/a/b", "www.example.com/"}, Soft: true}, []cache.Purge{
			{Kind: cache.PurgePrefix, Host: example, Name: "/static", Soft: true},
			{Kind: cache.PurgePrefix, Host: example, Name: "/a/b", Soft: true},
			{Kind: cache.PurgePrefix, Host: example, Name: "/", Soft: true}}},
		{Request{Hosts: []string{"WWW.example.com.", "a.example:8443"}}, []cache.Purge{
			{Kind: cache.PurgeHost, Host: example}, {Kind: cache.PurgeHost, Host: "a.example:8443"}}},
		{Request{Groups: Groups{example, []string{"Product 7", "ü"}}}, []cache.Purge{
			{Kind: cache.PurgeGroup, Host: example, Name: "Product 7"}, {Kind: cache.PurgeGroup, Host: example, Name: "ü"}}},
		{Request{All: true}, []cache.Purge{{Kind: cache.PurgeEverything}}},
	} {
		got, err := resolve(&tt.in)
		if err != nil {
			t.Errorf("%+v: %v", tt.in, err)
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%+v: %s", tt.in, diff)
		}
	}
}

func TestWrongNames(t *testing.T) {
	long := strings.Repeat("x", nameBytesMax+1)
	many := func(text string, n int) (all []string) {
		for range n {
			all = append(all, text)
		}
		return all
	}
	const good = "https://www.example.com/"
	for _, tt := range []struct {
		in    Request
		field string
		says  string
	}{
		{Request{}, "", "name one of"},
		{Request{All: true, Hosts: []string{"a.example"}}, "", "name one of"},
		{Request{URLs: []string{good, good, good, "/logo.svg"}}, "urls[3]", "absolute"},
		{Request{URLs: []string{"ftp://a.example/"}}, "urls[0]", "absolute"},
		{Request{URLs: []string{"https:///x"}}, "urls[0]", "valid host"},
		{Request{URLs: []string{"https://u@a.example/x"}}, "urls[0]", "valid host"},
		{Request{URLs: []string{"https://a.example/x y"}}, "urls[0]", "spaces"},
		{Request{URLs: []string{"https://a.example/ü"}}, "urls[0]", "absolute"},
		{Request{URLs: []string{"https://a.example/x#y"}}, "urls[0]", "fragment"},
		{Request{URLs: []string{good + long}}, "urls[0]", "at most 16384"},
		{Request{URLs: many(good, URLsMax+1)}, "urls", "at most 10000"},
		{Request{Prefixes: []string{"https://a.example/x"}}, "prefixes[0]", "write a.example/x"},
		{Request{Prefixes: []string{"a.example"}}, "prefixes[0]", "purge the host"},
		{Request{Prefixes: []string{"a.example/img/*"}}, "prefixes[0]", "regular expressions"},
		{Request{Prefixes: []string{"a.example/img?x"}}, "prefixes[0]", "no query"},
		{Request{Prefixes: []string{"a b/img"}}, "prefixes[0]", "valid host"},
		{Request{Prefixes: []string{"a.example" + strings.Repeat("/x", cache.PrefixDepthMax+1)}}, "prefixes[0]", "segments"},
		{Request{Prefixes: many("a.example/x", PrefixesMax+1)}, "prefixes", "at most 256"},
		{Request{Hosts: []string{"a.example", "*.b.example"}}, "hosts[1]", "valid host"},
		{Request{Hosts: many("a.example", HostsMax+1)}, "hosts", "at most 256"},
		{Request{Groups: Groups{"", []string{"x"}}}, "groups.host", "valid host"},
		{Request{Groups: Groups{"a.example", nil}}, "groups.names", "missing"},
		{Request{Groups: Groups{"a.example", []string{"x", ""}}}, "groups.names[1]", "no name"},
		{Request{Groups: Groups{"a.example", []string{"x\ny"}}}, "groups.names[0]", "control"},
		{Request{Groups: Groups{"a.example", many("x", GroupsMax+1)}}, "groups.names", "at most 256"},
		{Request{All: true, Reason: "x\x1b[2J"}, "reason", "control"},
		{Request{All: true, Reason: long}, "reason", "at most 1024"},
		{Request{All: true, Actor: "\xff"}, "actor", "text"},
	} {
		_, err := resolve(&tt.in)
		var problems FieldErrors
		if !errors.As(err, &problems) || problems[0].Field != tt.field || !strings.Contains(problems[0].Detail, tt.says) {
			t.Errorf("%.60v: %v, want %q at %q", tt.in, err, tt.says, tt.field)
		}
	}
	if _, err := resolve(&Request{URLs: many("x", URLsMax)}); len(err.(FieldErrors)) != problemsMax {
		t.Errorf("%d problems told", len(err.(FieldErrors)))
	}
	n := startNode(t, smallTuning(newMemFS(1)), &objects{})
	if _, err := n.Purge(t.Context(), Request{}); !errors.As(err, new(FieldErrors)) || n.Stats().Invalid.Load() != 1 {
		t.Error(err)
	}
	big := Request{URLs: many(good+strings.Repeat("x", 1<<10), 5000)}
	if _, err := n.Purge(t.Context(), big); !errors.As(err, new(FieldErrors)) || !strings.Contains(err.Error(), "in parts") {
		t.Error(err)
	}
}

func TestDryRun(t *testing.T) {
	n := startNode(t, smallTuning(newMemFS(1)), &objects{})
	count, err := n.DryRun(t.Context(), Request{All: true})
	if err != nil || count.Memory != 3 || len(n.List(ID{}, 1)) != 0 || n.cache.order != n.Boot()<<40 {
		t.Errorf("%+v, %v", count, err)
	}
	if _, err := n.DryRun(t.Context(), Request{}); !errors.As(err, new(FieldErrors)) {
		t.Error(err)
	}
}

func TestIdempotencyKeys(t *testing.T) {
	ask := func(n *testNode, actor, key string, url string) (Receipt, error) {
		r := Request{URLs: []string{url}, Actor: actor, Key: key}
		copy(r.Print[:], url)
		copy(r.Print[8:], url[len(url)-8:])
		return n.Purge(context.Background(), r)
	}
	fsys, disk := newMemFS(1), &objects{}
	tune := smallTuning(fsys)
	tune.keys = 4
	n := startNode(t, tune, disk)
	first, err := ask(n, "ci", "k1", urlOf(1))
	if err != nil {
		t.Fatal(err)
	}
	check := func(n *testNode) {
		t.Helper()
		order := n.cache.order
		again, err := ask(n, "ci", "k1", urlOf(1))
		if diff := cmp.Diff(first, again); err != nil || diff != "" || n.cache.order != order {
			t.Errorf("%v %s", err, diff)
		}
		if _, err := ask(n, "ci", "k1", urlOf(2)); !errors.Is(err, ErrKeyReused) || n.cache.order != order {
			t.Errorf("another purge with the same key: %v", err)
		}
	}
	check(n)
	if other, err := ask(n, "people", "k1", urlOf(2)); err != nil || other.Entry.ID == first.Entry.ID {
		t.Errorf("the same key of another actor: %v", err)
	}
	n.stop()
	tune.fs = fsys.restart(true)
	n = startNode(t, tune, disk)
	first.Count = cache.PurgeCount{} // forgotten by the cache
	check(n)

	// One whose receipt has left is the same still.
	n.mu.Lock()
	n.index = n.index[1:]
	n.base++
	n.mu.Unlock()
	gone, err := ask(n, "ci", "k1", urlOf(1))
	if err != nil || gone.Entry.ID != first.Entry.ID || gone.State != Swept || !gone.Entry.Time.Equal(first.Entry.Time) || gone.Entry.Purges[0] != first.Entry.Purges[0] {
		t.Errorf("%v %+v", err, gone)
	}

	// One that failed may be asked for again.
	next := tune.fs.(*memFS)
	next.inject(failing(syscall.ENOSPC, segmentSuffix, "write"))
	if _, err := ask(n, "ci", "k2", urlOf(3)); !errors.Is(err, ErrNotDurable) {
		t.Fatal(err)
	}
	next.inject(nil)
	if _, err := ask(n, "ci", "k2", urlOf(3)); err != nil {
		t.Fatal(err)
	}
	// Two at once are one.
	entered, hold := make(chan struct{}, 10), make(chan struct{})
	next.hold(entered, hold)
	var wg sync.WaitGroup
	ids := make([]ID, 5)
	for i := range ids {
		wg.Go(func() {
			r, err := ask(n, "ci", "k3", urlOf(4))
			if err != nil {
				t.Error(err)
			}
			ids[i] = r.Entry.ID
		})
	}
	waitFor(t, func() bool { return n.Stats().Repeated.Load() >= 5 })
	close(hold)
	wg.Wait()
	next.hold(nil, nil)
	for _, id := range ids {
		if id != ids[0] {
			t.Error("two purges with one key")
		}
	}
	// The oldest goes when there are too many, and all go with age.
	for i := range 4 {
		if _, err := ask(n, "ci", fmt.Sprintf("more %d", i), urlOf(5)); err != nil {
			t.Fatal(err)
		}
	}
	if r, err := ask(n, "ci", "k1", urlOf(1)); err != nil || r.Entry.ID == first.Entry.ID || n.Stats().KeysDropped.Load() == 0 {
		t.Errorf("%v, %d dropped", err, n.Stats().KeysDropped.Load())
	}
	n.mu.Lock()
	n.keys.expire(time.Now().Add(tune.keyAge+time.Second), &n.t)
	if len(n.keys.uses) != 0 || len(n.keys.order) != 0 {
		t.Errorf("%d keys stay", len(n.keys.uses))
	}
	n.mu.Unlock()
}

func TestWatch(t *testing.T) {
	tune := smallTuning(newMemFS(1))
	tune.watchers, tune.events = 2, 4
	n := startNode(t, tune, &objects{})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	keen, slow := n.Watch(ctx), n.Watch(t.Context())
	if _, open := <-n.Watch(t.Context()); open || n.Stats().WatchersFull.Load() != 1 {
		t.Error("a third watcher")
	}
	one := made(t, n, 1, 1)[0]
	if diff := cmp.Diff(one, <-keen); diff != "" {
		t.Error(diff)
	}
	n.cache.sweep()
	n.followSweep()
	if r := <-keen; r.State != Swept || r.Entry.ID != one.Entry.ID || !r.Count.Counted {
		t.Errorf("%+v", r)
	}
	for i := range 3 { // the slow one can hold four
		made(t, n, i, 1)
		<-keen
	}
	if n.Stats().WatchersLost.Load() != 1 {
		t.Errorf("%d lost", n.Stats().WatchersLost.Load())
	}
	got := 0
	for range slow {
		got++
	}
	if got != 4 {
		t.Errorf("the slow one got %d", got)
	}
	// Of many that are swept at once, the newest.
	var last []string
	for i := range 10 {
		last = append(last, made(t, n, i, 1)[0].Entry.ID.String())
		<-keen
	}
	n.cache.sweep()
	n.followSweep()
	if got := []string{(<-keen).Entry.ID.String(), (<-keen).Entry.ID.String()}; !slices.Equal(got, last[8:]) {
		t.Errorf("%q, want the last of %q", got, last)
	}
	cancel()
	if _, open := <-keen; open {
		t.Error("not closed with its context")
	}
	waitFor(t, func() bool { return n.Stats().Watchers.Load() == 0 })
	end := n.Watch(t.Context())
	n.stop()
	if _, open := <-end; open {
		t.Error("not closed with the log")
	}
}
