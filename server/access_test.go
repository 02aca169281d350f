package server

import (
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"edgecdn/cache"
	"edgecdn/route"
)

// TestAccessComesBeforeLookup: who asks too often, or may not, is not answered
// from memory either.
func TestAccessComesBeforeLookup(t *testing.T) {
	var looked atomic.Int64
	e := start(t, setup{
		lookup: func(*cache.Request) (cache.Hit, bool) { looked.Add(1); return cache.Hit{}, false },
		hosts: []route.Host{{Names: []string{"*"}, Policy: route.Policy{Origin: "o"}, Routes: []route.Path{
			{Path: "/denied", Policy: route.Policy{Access: route.Access{Deny: []string{"127.0.0.0/8"}}}},
			{Path: "/h1", Policy: often(2)}, {Path: "/h1-over-TLS", Policy: often(2)}, {Path: "/h2", Policy: often(2)}, {Path: "/h3", Policy: often(2)},
		}}},
	})
	e.each(t, func(t *testing.T, c *client) {
		path := "/" + strings.ReplaceAll(c.name, " ", "-")
		for range 2 {
			if resp, _ := c.get(t, path); resp.StatusCode != http.StatusOK {
				t.Fatal(resp.Status)
			}
		}
		before := looked.Load()
		resp, body := c.get(t, path)
		if resp.StatusCode != http.StatusTooManyRequests || resp.Header.Get("Retry-After") != "1800" || !strings.Contains(body, "too many requests") {
			t.Errorf("%s, Retry-After %q, %q", resp.Status, resp.Header.Get("Retry-After"), body)
		}
		if resp, _ := c.get(t, "/denied"); resp.StatusCode != http.StatusForbidden {
			t.Error(resp.Status)
		}
		if looked.Load() != before {
			t.Error("was looked up")
		}
	})
}

func often(requests int) route.Policy {
	return route.Policy{Access: route.Access{Rates: []route.Rate{{Requests: requests, Per: time.Hour}}}}
}

// TestDualStack: one listener for IPv4 and IPv6, whose lists know an IPv4 client
// for what it is.
func TestDualStack(t *testing.T) {
	e := start(t, setup{
		config: Config{HTTP: []string{"[::]:0"}, HTTPS: []string{"[::]:0"}},
		hosts:  []route.Host{{Names: []string{"*"}, Policy: route.Policy{Origin: "o", Access: route.Access{Deny: []string{"127.0.0.0/8"}}}}},
	})
	http, https := e.http, e.https
	for host, status := range map[string]int{"127.0.0.1": 403, "[::1]": 200} {
		e.http, e.https = strings.Replace(http, "[::]", host, 1), strings.Replace(https, "[::]", host, 1)
		for _, c := range e.clients() {
			if resp, _ := c.get(t, "/"); resp.StatusCode != status {
				t.Errorf("%s from %s: %s, want %d", c.name, host, resp.Status, status)
			}
		}
	}
}
