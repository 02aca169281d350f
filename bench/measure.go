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

// topic is what one results file is about: the edge beside others, under one
// kind of load, in several rows.
type topic struct {
	name, title, text string
	note              string    // why a bound is missed
	sides             []*server // the edge first; ratios are to the second
	rows              []row
	prepare           func(ctx context.Context, s *stage, to *server, r *row) error
	load              load
	// instead measures what is not CPU for each request.
	instead func(ctx context.Context, s *stage, t *topic) (*result, error)
}

// row is one line of a table: which requests, over how many connections.
type row struct {
	name        string
	paths       []string // asked for in turn
	fields      []string // of the requests, "Name: value"
	bytes       int64    // of each body; 0: not checked
	connections int
	streams     int // on each connection, over HTTP/2 and HTTP/3
	resume      bool
	fresh       bool // each request is for a URL that nobody has asked for before
}

// load sends requests for about d and returns how many were answered in full.
type load func(ctx context.Context, s *stage, to *server, r *row, d time.Duration) (int64, error)

// sample is one round of one side.
type sample struct {
	Microseconds float64 `json:"us_per_request"` // of server CPU
	Rate         float64 `json:"requests_per_second"`
}

// newResult returns the head of a result.
func (s *stage) newResult(t *topic) *result {
	return &result{
		Topic: t.name, Title: t.title, Note: t.note,
		Date:    time.Now().UTC().Format(time.DateOnly),
		Command: fmt.Sprintf("go run ./bench -topics %s -rounds %d -duration %v", t.name, s.rounds, s.duration),
		Machine: machine(), Versions: s.versions, Samples: map[string][]sample{},
	}
}

// measure lets the sides take turns over all rows.
func (s *stage) measure(ctx context.Context, t *topic) (*result, error) {
	if t.instead != nil {
		return t.instead(ctx, s, t)
	}
	r := s.newResult(t)
	r.Text = fmt.Sprintf("%s Server CPU (user and system) in µs a request, median of %d rounds of %v in turns; ratio below 1: the edge costs less.", t.text, s.rounds, s.duration)
	r.Columns = []string{""}
	for _, side := range t.sides {
		r.Columns = append(r.Columns, side.name)
	}
	for _, other := range t.sides[1:] {
		r.Columns = append(r.Columns, "ratio to "+other.name)
	}
	r.Columns = append(r.Columns, "edge, requests/s")
	for i := range t.rows {
		if err := s.measureRow(ctx, t, &t.rows[i], r); err != nil {
			return nil, fmt.Errorf("%s: %w", t.rows[i].name, err)
		}
	}
	return r, nil
}

func (s *stage) measureRow(ctx context.Context, t *topic, what *row, r *result) error {
	for _, side := range t.sides {
		if err := t.prepare(ctx, s, side, what); err != nil {
			return err
		}
	}
	sides := slices.Clone(t.sides)
	for round := range s.rounds {
		if round%2 == 1 { // no side always goes first
			slices.Reverse(sides)
		}
		for _, side := range sides {
			got, err := s.sample(ctx, t, side, what)
			if err != nil {
				return err
			}
			key := what.name + " " + side.name
			r.Samples[key] = append(r.Samples[key], got)
		}
	}
	line := []string{what.name}
	var cost []float64
	var rate float64
	for i, side := range t.sides {
		us, rps := medians(r.Samples[what.name+" "+side.name])
		if cost = append(cost, us); i == 0 {
			rate = rps
		}
		line = append(line, fmt.Sprintf("%.1f", us))
	}
	for _, other := range cost[1:] {
		line = append(line, fmt.Sprintf("%.2f", cost[0]/other))
	}
	r.Rows = append(r.Rows, append(line, fmt.Sprintf("%.0f", rate)))
	r.Bars = append(r.Bars, bars{what.name, cost})
	fmt.Println(t.name, strings.Join(r.Rows[len(r.Rows)-1], "  "))
	return nil
}

func (s *stage) sample(ctx context.Context, t *topic, side *server, what *row) (sample, error) {
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
