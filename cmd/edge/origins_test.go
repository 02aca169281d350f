package main

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"edgecdn/admin"
	"edgecdn/origin"
	"edgecdn/pool"
)

func TestOriginsAreShown(t *testing.T) {
	now := time.Now()
	until := now.Add(1500 * time.Millisecond)
	stats := new(origin.Stats)
	stats.Retries[origin.RetryStatus].Add(2)
	o := originState("shop", pool.State{
		Policy: "ewma", Active: 3, Waiting: 1, Concurrency: 10, Resolved: now, ResolutionError: "no answer",
		Endpoints: []pool.EndpointState{
			{Address: "10.0.0.1:80", Weight: 2, Up: true, Probed: true, Breaker: "open", OpenUntil: until, Share: 1, Requests: 9, Failures: 5, Latency: 1500 * time.Microsecond},
			{Address: "10.0.0.2:80", Weight: 1, Priority: 1, Probed: true, ProbeError: "refused", Breaker: "closed", Share: 0.25, Discovered: true},
			{Address: "10.0.0.3:80", Weight: 1, Up: true, Breaker: "closed", Share: 1},
		},
	}, stats)
	var out bytes.Buffer
	printOrigins(&out, []admin.Origin{o, {Name: "other", Policy: "maglev"}}, now)
	for _, want := range []string{
		"shop: ewma, 3 of 10 under way, 1 wait, 2 retries, 0 hedges", "DNS: no answer", "open (trial in 1.5s)",
		"down (refused)", "25%", "unprobed", "1.5ms", "other: maglev",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is not in\n%s", want, &out)
		}
	}
}
