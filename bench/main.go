// Command bench measures what it costs to serve: CPU of the server per request,
// read from /proc, side by side with others on the same machine in the same
// run. Rates on a shared machine vary from run to run; CPU per request and its
// ratio hold. The two sides take turns, and the median of several rounds counts.
//
// Each topic writes one file under bench/results; -assemble makes
// docs/performance.md of them.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// settings of a run.
type settings struct {
	edge, origin string        // programs
	results      string        // directory
	docs         string        // the page to assemble
	rounds       int           // how often the sides take turns
	duration     time.Duration // of load in each round
	topics       string        // which to run, separated by commas; "" is all
	short        bool
	assemble     bool
	store        bool
	reference    string // serve here instead of measuring; see reference.go
	referenceDNS string // the same for DNS; see dns.go
	behind       string
	tlsDir       string
}

func main() {
	var s settings
	flag.StringVar(&s.edge, "edge", "bin/edge", "the edge `program`")
	flag.StringVar(&s.origin, "origin", "bin/origin", "the origin `program`")
	flag.StringVar(&s.results, "results", "bench/results", "`directory` of results")
	flag.StringVar(&s.docs, "docs", "docs/performance.md", "`file` that -assemble writes")
	flag.IntVar(&s.rounds, "rounds", 5, "rounds of each measurement")
	flag.DurationVar(&s.duration, "duration", 2*time.Second, "load in each round")
	flag.StringVar(&s.topics, "topics", "", "only these, such as http1,http3")
	flag.BoolVar(&s.short, "short", false, "2 rounds of half a second, nothing written")
	flag.BoolVar(&s.assemble, "assemble", false, "make the page of the results and do nothing else")
	flag.BoolVar(&s.store, "store", false, "run the store's Go benchmarks, write their results and do nothing else")
	flag.StringVar(&s.reference, "reference", "", "serve with Go's own servers at these three `addresses` (used by the measurement)")
	flag.StringVar(&s.referenceDNS, "reference-dns", "", "serve DNS with miekg/dns at this `address` (used by the measurement)")
	flag.StringVar(&s.behind, "behind", "", "origin `URL` for -reference")
	flag.StringVar(&s.tlsDir, "tls", "", "`directory` of the certificate for -reference")
	flag.Parse()
	if s.short {
		s.rounds, s.duration = 2, 500*time.Millisecond
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, s); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		stop()
		os.Exit(1)
	}
}

func run(ctx context.Context, s settings) error {
	switch {
	case s.assemble:
		return assemble(s.results, s.docs)
	case s.store:
		result, err := measureStore(ctx, s.rounds)
		if err != nil {
			return err
		}
		fmt.Println(result.markdown())
		return result.write(filepath.Join(s.results, "store.json"))
	case s.referenceDNS != "":
		return servePlainDNS(ctx, s.referenceDNS)
	case s.reference != "":
		return serveReference(ctx, s.reference, s.tlsDir, s.behind)
	}
	ctx, cancel := context.WithTimeout(ctx, 40*time.Minute)
	defer cancel()
	stage, err := newStage(ctx, s)
	if err != nil {
		return err
	}
	defer stage.close()
	for _, t := range topics(stage) {
		if s.topics != "" && !strings.Contains(","+s.topics+",", ","+t.name+",") {
			continue
		}
		result, err := stage.measure(ctx, t)
		if err != nil {
			return fmt.Errorf("%s: %w", t.name, err)
		}
		fmt.Println(result.markdown())
		if s.short {
			continue
		}
		if err := result.write(filepath.Join(s.results, t.name+".json")); err != nil {
			return err
		}
	}
	return nil
}
