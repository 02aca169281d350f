package admin

// Prometheus metrics out of plain samples.

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// Kind of a metric.
type Kind uint8

// Counter goes up only and is named `..._total`; Gauge goes both ways; Histogram
// has Buckets.
const (
	Counter Kind = iota + 1
	Gauge
	Histogram
)

// Sample is one time series at this moment.
type Sample struct {
	// Name in Prometheus form with base units: edge_..._seconds, _bytes, _total.
	Name string
	// Help is one sentence; the same for all samples of a name.
	Help string
	Kind Kind
	// Labels in any order, the same names for all samples of a Name. Values must
	// come from bounded sets.
	Labels []Label
	// Value of a Counter or Gauge.
	Value float64
	// Buckets of a Histogram, with Sum and Count of all observations.
	Buckets []Bucket
	Sum     float64
	Count   uint64
}

// Label is a label's name and value.
type Label struct{ Name, Value string }

// Bucket counts the observations that were at most LE (those of smaller buckets
// included). The bucket for +Inf is left out: it is Count.
type Bucket struct {
	LE    float64
	Count uint64
}

// collector asks for all samples at each scrape. It describes nothing ahead
// (an "unchecked" collector), so that who adds a sample has one place to go to.
type collector struct{ samples func(emit func(Sample)) }

func (c collector) Describe(chan<- *prometheus.Desc) {}

func (c collector) Collect(metrics chan<- prometheus.Metric) {
	c.samples(func(s Sample) { metrics <- s.metric() })
}

func (s Sample) metric() prometheus.Metric {
	names, values := make([]string, len(s.Labels)), make([]string, len(s.Labels))
	for i, l := range s.Labels {
		names[i], values[i] = l.Name, l.Value
	}
	desc := prometheus.NewDesc(s.Name, s.Help, names, nil)
	var m prometheus.Metric
	var err error
	switch s.Kind {
	case Counter:
		m, err = prometheus.NewConstMetric(desc, prometheus.CounterValue, s.Value, values...)
	case Gauge:
		m, err = prometheus.NewConstMetric(desc, prometheus.GaugeValue, s.Value, values...)
	case Histogram:
		buckets := make(map[float64]uint64, len(s.Buckets))
		for _, b := range s.Buckets {
			buckets[b.LE] = b.Count
		}
		m, err = prometheus.NewConstHistogram(desc, s.Count, s.Sum, buckets, values...)
	default:
		err = fmt.Errorf("admin: sample %s has no kind", s.Name)
	}
	if err != nil {
		return prometheus.NewInvalidMetric(desc, err)
	}
	return m
}

// newRegistry holds the samples and what the Go runtime and the process say.
func newRegistry(samples func(emit func(Sample))) *prometheus.Registry {
	registry := prometheus.NewRegistry()
	registry.MustRegister(
		collector{samples},
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	return registry
}
