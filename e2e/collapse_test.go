package e2e

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"edgecdn/cmd/origin/script"
)

// A cold URL under 1,000 simultaneous requests makes one origin request.
func TestCollapse(t *testing.T) {
	for _, tt := range []struct{ name, target string }{
		{"length", respond("size", "100kB", "delay", "1s", "header", "Cache-Control:max-age=600")},
		{"chunked", respond("size", "100kB", "delay", "1s", "chunked", "1", "chunks", "5", "header", "Cache-Control:max-age=600")},
	} {
		t.Run(tt.name, func(t *testing.T) { collapse(t, tt.target) })
	}
}

func collapse(t *testing.T, target string) {
	o := startOrigin(t)
	n := startEdge(t, o)
	want := make([]byte, 100_000)
	script.Pattern(want, 0)

	// Clients with one connection each for h2 and h3; all over TLS, because the
	// scheme is part of the key.
	type batch struct {
		*client
		requests int
	}
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

	start := make(chan struct{})
	var wg sync.WaitGroup
	var mu sync.Mutex
	outcomes := map[string]int{}
	problem := func(format string, args ...any) {
		mu.Lock()
		defer mu.Unlock()
		outcomes["problem: "+fmt.Sprintf(format, args...)]++
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
					problem("%s: %v", b.name, err)
				case a.StatusCode != 200 || a.body != string(want):
					problem("%s: status %d, %d bytes", b.name, a.StatusCode, len(a.body))
				default:
					mu.Lock()
					defer mu.Unlock()
					outcomes[a.Header.Get("Cache-Status")]++
				}
			})
		}
	}
	close(start)
	wg.Wait()

	if sent != 1000 {
		t.Fatalf("%d requests sent", sent)
	}
	if got := o.requests(t, "/_origin/respond"); got != 1 {
		t.Errorf("the origin saw %d requests, want 1", got)
	}
	collapsed := 0
	for outcome, count := range outcomes {
		if strings.HasPrefix(outcome, "problem: ") {
			t.Errorf("%d times %s", count, outcome)
		}
		if strings.Contains(outcome, "collapsed") {
			collapsed += count
		}
	}
	if collapsed < 100 {
		t.Errorf("%d requests were collapsed: too few to show anything; outcomes %v", collapsed, outcomes)
	}
}
