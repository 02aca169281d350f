package main

// What is known of the origins' endpoints, for operators.

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"text/tabwriter"
	"time"

	"edgecdn/admin"
	"edgecdn/origin"
	"edgecdn/pool"
)

// origins tells of every configured origin.
func (n *node) origins() []admin.Origin {
	if n.state.now() == starting {
		return nil
	}
	stats := map[string]*origin.Stats{}
	for name, s := range n.origin.Stats() {
		stats[name] = s
	}
	var list []admin.Origin
	for name, p := range n.origin.Pools() {
		list = append(list, originState(name, p.State(), stats[name]))
	}
	return list
}

func originState(name string, s pool.State, stats *origin.Stats) admin.Origin {
	o := admin.Origin{
		Name: name, Policy: s.Policy, Active: s.Active, Waiting: s.Waiting, Concurrency: s.Concurrency,
		DNSError: s.ResolutionError, Endpoints: []admin.Endpoint{},
	}
	if !s.Resolved.IsZero() {
		o.Resolved = &s.Resolved
	}
	if stats != nil { // else a reload has just taken it away
		for i := range stats.Retries {
			o.Retries += stats.Retries[i].Load()
		}
		o.Hedges = stats.Hedges.Load()
	}
	for i := range s.Endpoints {
		e := &s.Endpoints[i]
		shown := admin.Endpoint{
			Address: e.Address, Weight: e.Weight, Priority: e.Priority, Discovered: e.Discovered,
			Health: healthName(e), ProbeError: e.ProbeError, Since: e.Since, Breaker: e.Breaker, Share: e.Share,
			Active: e.Active, Requests: e.Requests, Failures: e.Failures,
			LatencyMS: float64(e.Latency.Microseconds()) / 1000,
		}
		if !e.OpenUntil.IsZero() {
			shown.OpenUntil = &e.OpenUntil
		}
		o.Endpoints = append(o.Endpoints, shown)
	}
	return o
}

func healthName(e *pool.EndpointState) string {
	switch {
	case !e.Probed:
		return "unprobed"
	case e.Up:
		return "up"
	}
	return "down"
}

// pool gives what a pool counts. Endpoints are counted, not named: DNS makes names.
func (emit emitter) pool(name string, state pool.State, stats *pool.Stats) {
	label := admin.Label{Name: "origin", Value: name}
	byHealth, byBreaker := map[string]int{}, map[string]int{}
	for i := range state.Endpoints {
		byHealth[healthName(&state.Endpoints[i])]++
		byBreaker[state.Endpoints[i].Breaker]++
	}
	for _, health := range []string{"up", "down", "unprobed"} {
		emit.gauge("edge_origin_endpoints", "Endpoints, by what probes say of them.", float64(byHealth[health]), label, admin.Label{Name: "health", Value: health})
	}
	for _, breaker := range []string{"closed", "open", "half-open"} {
		emit.gauge("edge_origin_breakers", "Endpoints, by the state of their breaker.", float64(byBreaker[breaker]), label, admin.Label{Name: "state", Value: breaker})
	}
	emit.gauge("edge_origin_queue", "Requests that wait until fewer are under way.", float64(state.Waiting), label)
	emit.counter("edge_origin_queued_total", "Requests that had to wait for that.", stats.Queued.Load(), label)
	for _, refused := range []struct {
		reason string
		count  uint64
	}{{"unavailable", stats.Unavailable.Load()}, {"queue_full", stats.QueueFull.Load()}, {"queue_timeout", stats.QueueTimeout.Load()}} {
		emit.counter("edge_origin_refused_total", "Requests and tries that no endpoint was asked for, by reason.", refused.count, label, admin.Label{Name: "reason", Value: refused.reason})
	}
	emit.counter("edge_origin_all_tried_total", "Choices among all endpoints, because more were unusable than breaker.open_share.", stats.AllTried.Load(), label)
	emit.counter("edge_origin_tries_total", "Requests sent to an endpoint: first tries, retries and hedges.", stats.Picks.Load(), label)
	emit.counter("edge_origin_breaker_opened_total", "Breakers that opened.", stats.BreakerOpened.Load(), label)
	emit.counter("edge_origin_breaker_closed_total", "Breakers that closed again.", stats.BreakerClosed.Load(), label)
	emit.counter("edge_origin_endpoints_down_total", "Endpoints that probes took down.", stats.WentDown.Load(), label)
	emit.counter("edge_origin_endpoints_up_total", "Endpoints that probes brought up again.", stats.WentUp.Load(), label)
	emit.counter("edge_origin_probes_total", "Probes of endpoints.", stats.Probes.Load(), label)
	emit.counter("edge_origin_probes_failed_total", "Probes that failed.", stats.ProbesFailed.Load(), label)
	emit.counter("edge_origin_resolutions_total", "Answers of DNS with endpoints.", stats.Resolutions.Load(), label)
	emit.counter("edge_origin_resolutions_failed_total", "Look-ups in DNS that brought no endpoint; those known stay.", stats.ResolutionsFailed.Load(), label)
	emit.counter("edge_origin_endpoints_dropped_total", "Endpoints in answers of DNS beyond what an origin may have.", stats.EndpointsDropped.Load(), label)
}

// retries gives what was sent again, and beside.
func (emit emitter) retries(name string, s *origin.Stats) {
	label := admin.Label{Name: "origin", Value: name}
	for i, reason := range origin.RetryNames {
		emit.counter("edge_origin_retries_total", "Requests sent again, by reason.", s.Retries[i].Load(), label, admin.Label{Name: "reason", Value: reason})
	}
	for i, reason := range origin.RefusedNames {
		emit.counter("edge_origin_retries_refused_total", "Failures after which a request was not sent again, by what kept it.", s.RetriesRefused[i].Load(), label, admin.Label{Name: "reason", Value: reason})
	}
	emit.counter("edge_origin_hedges_total", "Requests sent to a second endpoint beside a slow one.", s.Hedges.Load(), label)
	emit.counter("edge_origin_hedges_won_total", "Of them, those that were answered first.", s.HedgesWon.Load(), label)
}

// originsCmd shows what a node knows of its origins.
type originsCmd struct {
	nodeFlags `embed:""`
	JSON      bool `name:"json" help:"Print the whole answer as JSON."`
}

// Help is shown below the flags.
func (c *originsCmd) Help() string {
	return `Examples:

  edge origins
  edge origins --json`
}

// Run prints the origins.
func (c *originsCmd) Run() error { return c.run(os.Stdout) }

func (c *originsCmd) run(stdout io.Writer) error {
	var raw json.RawMessage
	if err := c.ask(http.MethodGet, "/v1/origins", &raw); err != nil {
		return fmt.Errorf("origins: %w", err)
	}
	if c.JSON {
		fmt.Fprintf(stdout, "%s\n", raw)
		return nil
	}
	var all admin.Origins
	if err := json.Unmarshal(raw, &all); err != nil {
		return fmt.Errorf("origins: %w", err)
	}
	printOrigins(stdout, all.Origins, time.Now())
	return nil
}

func printOrigins(stdout io.Writer, origins []admin.Origin, now time.Time) {
	for i, o := range origins {
		if i > 0 {
			fmt.Fprintln(stdout)
		}
		fmt.Fprintf(stdout, "%s: %s, %d of %d under way, %d wait, %d retries, %d hedges\n", o.Name, o.Policy, o.Active, o.Concurrency, o.Waiting, o.Retries, o.Hedges)
		if o.DNSError != "" {
			fmt.Fprintf(stdout, "DNS: %s\n", o.DNSError)
		}
		w := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', 0)
		fmt.Fprintln(w, "  endpoint\tpriority\tweight\tshare\thealth\tbreaker\tactive\trequests\tfailures\tlatency")
		for _, e := range o.Endpoints {
			breaker := e.Breaker
			if e.OpenUntil != nil {
				breaker += fmt.Sprintf(" (trial in %v)", max(0, e.OpenUntil.Sub(now)).Round(100*time.Millisecond))
			}
			health := e.Health
			if e.ProbeError != "" {
				health += " (" + e.ProbeError + ")"
			}
			fmt.Fprintf(w, "  %s\t%d\t%d\t%.0f%%\t%s\t%s\t%d\t%d\t%d\t%.1fms\n",
				e.Address, e.Priority, e.Weight, 100*e.Share, health, breaker, e.Active, e.Requests, e.Failures, e.LatencyMS)
		}
		_ = w.Flush() // standard output, like all the rest
	}
}
