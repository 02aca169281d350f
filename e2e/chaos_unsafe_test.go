package e2e

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

const unsafeConfig = `server: {http: ["{http}"], access_log: {format: "off"}}
admin: {listen: "{admin}"}
data: "{data}"
origins:
  site:
    url: http://site.test
    endpoints: [{address: "A"}, {address: "B"}]
    dial_timeout: 500ms
    slow_start: 500ms
    breaker: {open: 100ms, open_max: 500ms}
hosts:
  - names: ["*"]
    origin: site
    idempotency_key: true
    routes: [{path: /untrusted/*, idempotency_key: false}]
`

// counter is an endpoint that does what it is asked and keeps count, until it dies in
// the middle of that.
type counter struct {
	address string
	done    *deeds
	server  *http.Server
	work    sync.WaitGroup
}

// deeds is how often each request was done, at all endpoints.
type deeds struct {
	mu    sync.Mutex
	times map[string]int
}

func (c *counter) start(t *testing.T) {
	t.Helper()
	listener, err := net.Listen("tcp", c.address)
	if err != nil {
		t.Fatal(err)
	}
	c.server = &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		c.done.mu.Lock()
		c.done.times[r.Header.Get("X-Request")]++
		c.done.mu.Unlock()
		<-time.After(20 * time.Millisecond) // it is done, and nobody knows yet
		w.WriteHeader(http.StatusCreated)
	})}
	server := c.server
	c.work.Go(func() { _ = server.Serve(listener) })
}

// die cuts all connections, what is under way included.
func (c *counter) die() {
	_ = c.server.Close()
	c.work.Wait()
}

// Requests that change something, under a steady load whose endpoints die in the middle
// of them. What may be sent again succeeds; what may not is done at most once, and fails
// only where it was under way when an endpoint died.
func TestChaosOfUnsafeRequests(t *testing.T) {
	done := &deeds{times: map[string]int{}}
	a, b := &counter{address: address(t), done: done}, &counter{address: address(t), done: done}
	a.start(t)
	b.start(t)
	t.Cleanup(func() { a.die(); b.die() })
	n, _ := startConfigured(t, strings.NewReplacer(`"A"`, `"`+a.address+`"`, `"B"`, `"`+b.address+`"`).Replace(unsafeConfig))
	client := &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 200}}
	t.Cleanup(client.CloseIdleConnections)
	kinds := []struct {
		name, method, path string
		key, again         bool
	}{
		{"PUT", "PUT", "/", false, true},
		{"POST", "POST", "/", false, false},
		{"POST with a key", "POST", "/", true, true},
		{"POST with a key that is not trusted", "POST", "/untrusted/x", true, false},
	}
	type outcome struct {
		kind     int
		from, to time.Time
		status   int
		why      string
	}
	var mu sync.Mutex
	all := map[string]outcome{}
	send := func(id string, kind int) {
		k := &kinds[kind]
		r, _ := http.NewRequest(k.method, "http://"+n.http+k.path, strings.NewReader("do it"))
		r.Header.Set("X-Request", id)
		if k.key {
			r.Header.Set("Idempotency-Key", id)
		}
		o := outcome{kind: kind, from: time.Now()}
		resp, err := client.Do(r)
		if err != nil {
			o.why = err.Error()
		} else {
			_, _ = io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
			o.status, o.why = resp.StatusCode, resp.Header.Get("Proxy-Status")
		}
		o.to = time.Now()
		mu.Lock()
		defer mu.Unlock()
		all[id] = o
	}
	type death struct{ from, to time.Time }
	var deaths []death
	offered := 0
	offer := func(d time.Duration) {
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		var work sync.WaitGroup
		defer work.Wait()
		for end := time.Now().Add(d); time.Now().Before(end); <-tick.C {
			id, kind := fmt.Sprint(offered), offered%len(kinds)
			offered++
			work.Go(func() { send(id, kind) })
		}
	}
	offer(500 * time.Millisecond) // who knows nobody dies yet
	for _, c := range []*counter{a, b, a} {
		var work sync.WaitGroup
		work.Go(func() { offer(800 * time.Millisecond) })
		<-time.After(200 * time.Millisecond)
		from := time.Now()
		c.die()
		deaths = append(deaths, death{from, time.Now()})
		<-time.After(300 * time.Millisecond)
		c.start(t)
		work.Wait()
		eventually(t, "it is as before", func() bool {
			for _, e := range n.origins(t)[0].Endpoints {
				if e.Breaker != "closed" {
					resp, err := client.Get("http://" + n.http + "/again")
					if err == nil {
						resp.Body.Close()
					}
					return false
				}
			}
			return true
		})
	}
	twice, failed := 0, 0
	done.mu.Lock() // handlers of connections that were cut may be at work still
	defer done.mu.Unlock()
	for id, o := range all {
		k, times, ok := kinds[o.kind], done.times[id], o.status == http.StatusCreated
		if times > 1 {
			twice++
		}
		if !ok {
			failed++
		}
		underway := false
		for _, d := range deaths {
			underway = underway || o.from.Before(d.to) && o.to.After(d.from)
		}
		switch {
		case k.again && (!ok || times < 1):
			t.Errorf("%s %s: %d, done %d times: %s", k.name, id, o.status, times, o.why)
		case !k.again && (times > 1 || ok && times != 1):
			t.Errorf("%s %s: %d, done %d times", k.name, id, o.status, times)
		case !k.again && !ok && (!underway || o.status != http.StatusBadGateway):
			t.Errorf("%s %s: %d though nobody died: %s", k.name, id, o.status, o.why)
		}
	}
	t.Logf("%d requests, %d failed as they could not be sent again, %d were done twice or more as they may be", len(all), failed, twice)
}
