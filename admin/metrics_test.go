package admin

import (
	"log/slog"
	"strings"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"
)

var testSamples = []Sample{
	{Name: "edge_requests_total", Help: "Requests answered.", Kind: Counter, Labels: []Label{{"outcome", "hit"}, {"host", "a\"b"}}, Value: 3},
	{Name: "edge_requests_total", Help: "Requests answered.", Kind: Counter, Labels: []Label{{"host", "c"}, {"outcome", "miss"}}, Value: 4},
	{Name: "edge_store_bytes", Help: "Bytes kept.", Kind: Gauge, Value: 5},
	{Name: "edge_request_duration_seconds", Help: "Time taken.", Kind: Histogram, Buckets: []Bucket{{0.1, 2}, {1, 3}}, Sum: 2.5, Count: 4},
}

const testExposition = `# HELP edge_request_duration_seconds Time taken.
# TYPE edge_request_duration_seconds histogram
edge_request_duration_seconds_bucket{le="0.1"} 2
edge_request_duration_seconds_bucket{le="1"} 3
edge_request_duration_seconds_bucket{le="+Inf"} 4
edge_request_duration_seconds_sum 2.5
edge_request_duration_seconds_count 4
# HELP edge_requests_total Requests answered.
# TYPE edge_requests_total counter
edge_requests_total{host="a\"b",outcome="hit"} 3
edge_requests_total{host="c",outcome="miss"} 4
# HELP edge_store_bytes Bytes kept.
# TYPE edge_store_bytes gauge
edge_store_bytes 5
`

func TestMetrics(t *testing.T) {
	n := &node{samples: testSamples}
	registry := newRegistry(n.sources("").Samples)
	if err := testutil.GatherAndCompare(registry, strings.NewReader(testExposition), "edge_requests_total", "edge_store_bytes", "edge_request_duration_seconds"); err != nil {
		t.Error(err)
	}
	problems, err := testutil.GatherAndLint(registry, "edge_requests_total", "edge_store_bytes", "edge_request_duration_seconds")
	if err != nil || len(problems) > 0 {
		t.Errorf("%v %v", problems, err)
	}

	s, token, _ := newTestServer(t, n)
	w := s.answer(ask{path: "/metrics", authorization: "Bearer " + token})
	for _, want := range []string{"edge_store_bytes 5\n", "go_goroutines ", "process_resident_memory_bytes "} {
		if !strings.Contains(w.Body.String(), want) {
			t.Errorf("no %q in /metrics", want)
		}
	}
}

func TestBadSampleIsAnErrorAndNotAPanic(t *testing.T) {
	for _, bad := range []Sample{
		{Name: "edge_x", Help: "No kind.", Value: 1},
		{Name: "", Help: "Name.", Kind: Gauge},
		{Name: "edge_x", Help: "Label.", Kind: Gauge, Labels: []Label{{"a", "\xff"}}},
	} {
		n := &node{samples: []Sample{bad}}
		s, token, logged := newTestServer(t, n)
		if w := s.answer(ask{path: "/metrics", authorization: "Bearer " + token}); w.Code != 500 || logged.Len() == 0 {
			t.Errorf("%+v: %d, log %q", bad, w.Code, logged)
		}
	}
}

func TestScrapesAreBounded(t *testing.T) {
	n := &node{}
	src := n.sources(t.TempDir())
	entered, leave := make(chan struct{}, scrapesMax), make(chan struct{})
	src.Samples = func(func(Sample)) {
		entered <- struct{}{}
		<-leave
	}
	token, hash := NewToken()
	s, err := New(Config{Tokens: []Token{{Name: "p", SHA256: hash, Scopes: []string{"read"}}}}, src, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	scrape := ask{path: "/metrics", authorization: "Bearer " + token}
	var scrapes sync.WaitGroup
	for range scrapesMax {
		scrapes.Go(func() { s.answer(scrape) })
		<-entered
	}
	if w := s.answer(scrape); w.Code != 503 {
		t.Errorf("one over the bound: %d", w.Code)
	}
	close(leave)
	scrapes.Wait()
}
