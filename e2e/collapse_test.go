package e2e

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"edgecdn/cmd/origin/script"
)

// A cold URL under 1,000 simultaneous requests makes one origin request.
func TestCollapse(t *testing.T) {
	for _, tt := range []struct {
		name string
		more []string
	}{
		{"length", nil},
		{"chunked", []string{"chunked", "1", "chunks", "5"}},
	} {
		t.Run(tt.name, func(t *testing.T) { collapse(t, tt.more...) })
	}
}

// batch is a client and how much it asks at once.
type batch struct {
	*client
	requests int
}

func collapse(t *testing.T, more ...string) {
	o := startOrigin(t)
	n := startEdge(t, o)
	// Clients with one connection each for h2 and h3; all over TLS, because the
	// scheme is part of the key.
	h1 := newClient(t, n, "h1")
	h1.base = "https://" + n.https
	batches := []batch{{h1, 400}}
	for range 3 {
		batches = append(batches, batch{newClient(t, n, "h2"), 100}, batch{newClient(t, n, "h3"), 100})
	}
	// Connections of h2 and h3 are opened before, so that the requests that
	// follow share them.
	for _, b := range batches {
		b.get(t, "/_origin/echo")
	}
	// The origin answers after a second. A machine that stands still meanwhile is
	// asked again, for something that takes longer.
	collapsed, asked := 0, int64(0)
	for delay := time.Second; collapsed < 100; delay *= 2 {
		if delay > 8*time.Second {
			t.Fatalf("only %d requests were collapsed: too few to show anything", collapsed)
		}
		target := respond(append([]string{"size", "100kB", "delay", delay.String(), "header", "Cache-Control:max-age=600"}, more...)...)
		asked++
		collapsed = askAtOnce(t, batches, target)
		if got := o.requests(t, "/_origin/respond"); got != asked {
			t.Fatalf("the origin saw %d requests, want %d", got, asked)
		}
	}
}

// askAtOnce has all ask for a target of 100 kB, and returns how many waited for
// another's answer.
func askAtOnce(t *testing.T, batches []batch, target string) (collapsed int) {
	t.Helper()
	want := make([]byte, 100_000)
	script.Pattern(want, 0)
	start := make(chan struct{})
	var wg sync.WaitGroup
	var mu sync.Mutex
	outcomes := map[string]int{}
	note := func(format string, args ...any) {
		mu.Lock()
		defer mu.Unlock()
		outcomes[fmt.Sprintf(format, args...)]++
	}
	sent := 0
	for _, b := range batches {
		for range b.requests {
			sent++
			req := b.request(t, "GET", target, nil)
			wg.Go(func() {
				<-start
				a, err := b.try(req)
				switch {
				case err != nil:
					note("problem: %s: %v", b.name, err)
				case a.StatusCode != 200 || a.body != string(want):
					note("problem: %s: status %d, %d bytes", b.name, a.StatusCode, len(a.body))
				default:
					note("%s", a.Header.Get("Cache-Status"))
				}
			})
		}
	}
	close(start)
	wg.Wait()
	if sent != 1000 {
		t.Fatalf("%d requests sent", sent)
	}
	for outcome, count := range outcomes {
		if strings.HasPrefix(outcome, "problem: ") {
			t.Errorf("%d times %s", count, outcome)
		}
		if strings.Contains(outcome, "collapsed") {
			collapsed += count
		}
	}
	t.Logf("outcomes %v", outcomes)
	return collapsed
}
