package main

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"
)

// topic is what one results file is about: the edge beside one other, under one
// kind of load.
type topic struct {
	name, title, text string
	prepare           func(ctx context.Context, s *stage, to *server, what shape) error
	load              load
	other             *server
}

func topics(s *stage) []topic {
	return []topic{
		{
			"http1", "HTTP/1.1 in the clear, hits in memory",
			fmt.Sprintf("wrk, %d connections.", http1Connections),
			prepareHTTP1, loadHTTP1, s.nginx,
		},
		{
			"http2", "HTTP/2 over TLS 1.3, hits in memory",
			fmt.Sprintf("h2load, %d connections of %d streams.", http2Connections, http2Streams),
			prepareHTTP2, loadHTTP2, s.nginx,
		},
		{
			"http3", "HTTP/3, hits in memory",
			fmt.Sprintf("A closed loop over quic-go, %d connections of %d streams. Debian's nginx has no HTTP/3; the other side is quic-go's own http3.Server with the bodies in memory.", http3Connections, http3Streams),
			prepareHTTP3, loadHTTP3, s.quicGo,
		},
	}
}

// sample is one round of one side.
type sample struct {
	Microseconds float64 `json:"us_per_request"` // of server CPU
	Rate         float64 `json:"requests_per_second"`
}

// measure lets the sides take turns over all shapes.
func (s *stage) measure(ctx context.Context, t topic) (*result, error) {
	r := &result{
		Topic: t.name, Title: t.title,
		Text:    fmt.Sprintf("%s %d distinct URLs of each size. Server CPU (user and system) in µs a request, median of %d rounds of %v in turns; ratio below 1: the edge costs less.", t.text, distinctURLs, s.rounds, s.duration),
		Date:    time.Now().UTC().Format(time.DateOnly),
		Command: fmt.Sprintf("go run ./bench -topics %s -rounds %d -duration %v", t.name, s.rounds, s.duration),
		Machine: machine(), Versions: s.versions,
		Columns: []string{"body", "edge", t.other.name, "ratio", "edge, requests/s", t.other.name + ", requests/s"},
		Samples: map[string][]sample{},
	}
	sides := []*server{s.edgeNode, t.other}
	for _, what := range shapes() {
		for _, side := range sides {
			if err := t.prepare(ctx, s, side, what); err != nil {
				return nil, err
			}
		}
		row := []string{what.name}
		var cost, rate []float64
		for round := range s.rounds {
			if round%2 == 1 { // neither side always goes first
				slices.Reverse(sides)
			}
			for _, side := range sides {
				got, err := s.sample(ctx, t, side, what)
				if err != nil {
					return nil, err
				}
				key := what.name + " " + side.name
				r.Samples[key] = append(r.Samples[key], got)
			}
		}
		for _, side := range []*server{s.edgeNode, t.other} {
			us, rps := medians(r.Samples[what.name+" "+side.name])
			cost, rate = append(cost, us), append(rate, rps)
		}
		row = append(row, fmt.Sprintf("%.1f", cost[0]), fmt.Sprintf("%.1f", cost[1]), fmt.Sprintf("%.2f", cost[0]/cost[1]),
			fmt.Sprintf("%.0f", rate[0]), fmt.Sprintf("%.0f", rate[1]))
		r.Rows = append(r.Rows, row)
		fmt.Println(t.name, strings.Join(row, "  "))
	}
	return r, nil
}

func (s *stage) sample(ctx context.Context, t topic, side *server, what shape) (sample, error) {
	before, err := side.cpu()
	if err != nil {
		return sample{}, err
	}
	started := time.Now()
	n, err := t.load(ctx, s, side, what, s.duration)
	if err != nil {
		return sample{}, err
	}
	took := time.Since(started)
	after, err := side.cpu()
	if err != nil {
		return sample{}, err
	}
	if n == 0 {
		return sample{}, fmt.Errorf("%s answered nothing", side.name)
	}
	return sample{float64((after - before).Microseconds()) / float64(n), float64(n) / took.Seconds()}, nil
}

func medians(samples []sample) (us, rate float64) {
	var costs, rates []float64
	for _, s := range samples {
		costs, rates = append(costs, s.Microseconds), append(rates, s.Rate)
	}
	return median(costs), median(rates)
}

// median of at least one value; of an even number the mean of the middle two.
func median(values []float64) float64 {
	slices.Sort(values)
	mid := len(values) / 2
	if len(values)%2 == 0 {
		return (values[mid-1] + values[mid]) / 2
	}
	return values[mid]
}

// machine says in a line what this was measured on.
func machine() string {
	model := "unknown processor"
	if text, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.SplitSeq(string(text), "\n") {
			if name, ok := strings.CutPrefix(line, "model name"); ok {
				model = strings.TrimSpace(strings.TrimLeft(name, "\t :"))
				break
			}
		}
	}
	kernel, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		kernel = []byte("unknown")
	}
	return fmt.Sprintf("%s, %d cores, Linux %s, %s; clients on the same machine", model, runtime.NumCPU(), strings.TrimSpace(string(kernel)), runtime.Version())
}
