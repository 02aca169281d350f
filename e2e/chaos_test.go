package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"edgecdn/admin"
)

const chaosConfig = `server: {http: ["{http}"], access_log: {format: "off"}}
admin: {listen: "{admin}"}
data: "{data}"
origins:
  site:
    url: http://site.test
    endpoints: [{address: "A"}, {address: "B"}, {address: "C"}]
    header_timeout: 500ms
    dial_timeout: 500ms
    slow_start: 1s
    health: {type: http, path: /robots.txt, interval: 300ms, timeout: 300ms, rise: 2, fall: 3}
    breaker: {open: 200ms, open_max: 2s}
hosts: [{names: ["*"], origin: site}]
`

// slowly passes connections on, and holds what comes back for a while when told to.
type slowly struct {
	address string
	delay   atomic.Int64
}

func startSlowly(t *testing.T, to string) *slowly {
	t.Helper()
	s := &slowly{address: address(t)}
	listener, err := net.Listen("tcp", s.address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", to)
			if err != nil {
				client.Close()
				continue
			}
			go func() { _, _ = io.Copy(server, client); server.Close() }()
			go func() {
				defer client.Close()
				buf := make([]byte, 32<<10)
				for {
					n, err := server.Read(buf)
					if err != nil {
						return
					}
					if d := time.Duration(s.delay.Load()); d > 0 {
						<-time.After(d)
					}
					if _, err := client.Write(buf[:n]); err != nil {
						return
					}
				}
			}()
		}
	}()
	return s
}

// chaos is a run: what was offered and what came of it.
type chaos struct {
	n        *node
	client   *http.Client
	offered  atomic.Int64
	statuses [6]atomic.Int64 // by hundreds; 0 is no response
	slowest  atomic.Int64
	n503     atomic.Int64 // with Retry-After and Proxy-Status
	mu       sync.Mutex
	failures []string
}

func (c *chaos) reset() {
	c.offered.Store(0)
	c.slowest.Store(0)
	for i := range c.statuses {
		c.statuses[i].Store(0)
	}
}

// offer sends requests at a steady pace, whatever comes of them, for so long.
func (c *chaos) offer(query string, every, d time.Duration) {
	var work sync.WaitGroup
	defer work.Wait()
	tick := time.NewTicker(every)
	defer tick.Stop()
	for end := time.Now().Add(d); time.Now().Before(end); <-tick.C {
		id := c.offered.Add(1)
		work.Go(func() {
			start := time.Now()
			resp, err := c.client.Get(fmt.Sprintf("http://%s/_origin/respond?size=100&header=Cache-Control:no-store&id=%d&%s", c.n.http, id, query))
			class := 0
			if err == nil {
				var body []byte
				if body, err = io.ReadAll(resp.Body); err == nil {
					class = resp.StatusCode / 100
				}
				resp.Body.Close()
				if resp.StatusCode == 503 && resp.Header.Get("Retry-After") != "" && strings.Contains(resp.Header.Get("Proxy-Status"), "error=destination_unavailable") {
					c.n503.Add(1)
				}
				_ = body
			}
			c.statuses[class].Add(1)
			took := int64(time.Since(start))
			for old := c.slowest.Load(); took > old && !c.slowest.CompareAndSwap(old, took); old = c.slowest.Load() {
			}
			if class != 2 {
				c.mu.Lock()
				if len(c.failures) < 5 {
					text := fmt.Sprint(err)
					if resp != nil {
						text = resp.Status + " " + resp.Header.Get("Proxy-Status")
					}
					c.failures = append(c.failures, text)
				}
				c.mu.Unlock()
			}
		})
	}
}

// origins asks the node what it knows.
func (n *node) origins(t *testing.T) []admin.Origin {
	t.Helper()
	stdout, stderr, code := run(t, filepath.Join(bin, "edge"), "origins", "--data", n.data, "--json")
	var all admin.Origins
	if err := json.Unmarshal([]byte(stdout), &all); err != nil || code != 0 {
		t.Fatalf("edge origins: %v, %s", err, stderr)
	}
	return all.Origins
}

// Endpoints are killed, stopped, made slow and brought back under a steady load, and
// no client sees it. When all of them fail they get less than 1.2 times the load, and
// clients get an answer at once.
func TestChaos(t *testing.T) {
	a, b, c := startOrigin(t), startOrigin(t), startOrigin(t)
	slow := startSlowly(t, c.address)
	n, _ := startConfigured(t, strings.NewReplacer(`"A"`, `"`+a.address+`"`, `"B"`, `"`+b.address+`"`, `"C"`, `"`+slow.address+`"`).Replace(chaosConfig))
	run := &chaos{n: n, client: &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 200}}}
	t.Cleanup(run.client.CloseIdleConnections)
	line := startTimeline(t, n)
	const every = 10 * time.Millisecond
	steps := []struct {
		name string
		do   func()
	}{
		{"all are well", func() {}},
		{"kill A", a.kill},
		{"start A", func() { a.start(t) }},
		{"stop B", func() { b.signal(t, syscall.SIGSTOP) }},
		{"continue B", func() { b.signal(t, syscall.SIGCONT) }},
		{"C is slow", func() { slow.delay.Store(int64(300 * time.Millisecond)) }},
		{"C is fast", func() { slow.delay.Store(0) }},
	}
	for _, step := range steps {
		line.mark(step.name)
		step.do()
		run.offer("", every, 1500*time.Millisecond)
		if bad := run.offered.Load() - run.statuses[2].Load(); bad != 0 {
			t.Errorf("%s: %d of %d requests failed: %q", step.name, bad, run.offered.Load(), run.failures)
		}
		run.reset()
	}
	// Something to be stale, and then all fail.
	stale := "http://" + n.http + "/_origin/respond?body=kept&header=Cache-Control:max-age=1,stale-if-error=600"
	get := func(url string) (*http.Response, string) {
		resp, err := run.client.Get(url)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, _ := io.ReadAll(resp.Body)
		return resp, string(body)
	}
	get(stale)
	before := a.requests(t, "/_origin/respond") + b.requests(t, "/_origin/respond") + c.requests(t, "/_origin/respond")
	line.mark("all say 503")
	run.failures = nil
	run.offer("status=503", every, 4*time.Second)
	seen := a.requests(t, "/_origin/respond") + b.requests(t, "/_origin/respond") + c.requests(t, "/_origin/respond") - before
	t.Logf("all say 503: %d requests offered, endpoints saw %d; %d answered by ourselves, the slowest after %v", run.offered.Load(), seen, run.n503.Load(), time.Duration(run.slowest.Load()))
	if seen*10 > run.offered.Load()*12 {
		t.Errorf("%d requests offered, endpoints saw %d", run.offered.Load(), seen)
	}
	if run.statuses[5].Load() != run.offered.Load() || run.n503.Load() < run.offered.Load()/2 {
		t.Errorf("of %d: %d 5xx, %d with Retry-After and Proxy-Status", run.offered.Load(), run.statuses[5].Load(), run.n503.Load())
	}
	line.mark("all are dead")
	a.kill()
	b.kill()
	c.kill()
	eventually(t, "nobody is left", func() bool { resp, _ := get("http://" + n.http + "/x"); return resp.StatusCode == 503 })
	resp, body := get(stale)
	if resp.StatusCode != 200 || body != "kept" || !strings.Contains(resp.Header.Get("Cache-Status"), "fwd=stale") {
		t.Errorf("stale-if-error: %d %q, %q", resp.StatusCode, body, resp.Header.Get("Cache-Status"))
	}
	run.reset()
	run.offer("", every, time.Second)
	if slowest := time.Duration(run.slowest.Load()); run.statuses[5].Load() != run.offered.Load() {
		t.Errorf("all dead: %d of %d answered with 5xx, the slowest after %v", run.statuses[5].Load(), run.offered.Load(), slowest)
	}
	line.mark("all are back")
	a.start(t)
	b.start(t)
	c.start(t)
	eventually(t, "it is as before", func() bool {
		for _, e := range n.origins(t)[0].Endpoints {
			if e.Breaker != "closed" || e.Health != "up" {
				get("http://" + n.http + "/_origin/respond?size=1&header=Cache-Control:no-store")
				return false
			}
		}
		return true
	})
	run.reset()
	run.offer("", every, time.Second)
	if bad := run.offered.Load() - run.statuses[2].Load(); bad != 0 {
		t.Errorf("after all: %d of %d failed: %q", bad, run.offered.Load(), run.failures)
	}
	line.stop()
	if file := os.Getenv("EDGE_PLOT"); file != "" {
		writeFile(t, file, line.plot())
	}
}

// timeline follows what the node says of its endpoints.
type timeline struct {
	start  time.Time
	cancel context.CancelFunc
	done   chan struct{}
	marks  []mark
	seen   []moment
}

type mark struct {
	at   time.Duration
	name string
}

type moment struct {
	at     time.Duration
	origin admin.Origin
}

func startTimeline(t *testing.T, n *node) *timeline {
	t.Helper()
	token, err := os.ReadFile(filepath.Join(n.data, admin.TokenFile))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	l := &timeline{start: time.Now(), cancel: cancel, done: make(chan struct{})}
	t.Cleanup(l.stop)
	go func() {
		defer close(l.done)
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for {
			r, _ := http.NewRequestWithContext(ctx, "GET", "http://"+n.admin+"/v1/origins", nil)
			r.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
			if resp, err := http.DefaultClient.Do(r); err == nil {
				var all admin.Origins
				if json.NewDecoder(resp.Body).Decode(&all) == nil && len(all.Origins) == 1 {
					l.seen = append(l.seen, moment{time.Since(l.start), all.Origins[0]})
				}
				resp.Body.Close()
			}
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
		}
	}()
	return l
}

func (l *timeline) mark(name string) { l.marks = append(l.marks, mark{time.Since(l.start), name}) }

func (l *timeline) stop() {
	l.cancel()
	<-l.done
}

// plot draws a band for each endpoint, and what was sent and sent again.
func (l *timeline) plot() string {
	const left, width, band = 70, 860, 34
	total := l.seen[len(l.seen)-1].at
	x := func(at time.Duration) float64 { return left + width*float64(at)/float64(total) }
	endpoints := len(l.seen[0].origin.Endpoints)
	height := 60 + (endpoints+2)*(band+22)
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="11">`+"\n", left+width+20, height)
	fmt.Fprintf(&b, `<rect width="%d" height="%d" fill="white"/>`+"\n", left+width+20, height)
	colours := map[string]string{"closed": "#a8d5a2", "half-open": "#f2d16b", "open": "#d9705f", "down": "#888888"}
	for i, name := range []string{"closed", "half-open", "open", "down"} {
		fmt.Fprintf(&b, `<rect x="%d" y="8" width="10" height="10" fill="%s"/><text x="%d" y="17">%s</text>`+"\n", left+i*110, colours[name], left+i*110+15, name)
	}
	row := func(i int) int { return 50 + i*(band+22) }
	for e := range endpoints {
		fmt.Fprintf(&b, `<text x="6" y="%d">%s</text>`+"\n", row(e)+20, string(rune('A'+e)))
	}
	bars := func(i int, name, colour string, count func(a, b *moment) float64) {
		most := 1.0
		for k := 1; k < len(l.seen); k++ {
			most = max(most, count(&l.seen[k-1], &l.seen[k]))
		}
		fmt.Fprintf(&b, `<text x="6" y="%d">%s</text><text x="6" y="%d">max %.0f/s</text>`+"\n", row(i)+14, name, row(i)+28, most)
		for k := 1; k < len(l.seen); k++ {
			h := band * count(&l.seen[k-1], &l.seen[k]) / most
			fmt.Fprintf(&b, `<rect x="%.1f" y="%.1f" width="%.1f" height="%.1f" fill="%s"/>`, x(l.seen[k-1].at), float64(row(i)+band)-h, x(l.seen[k].at)-x(l.seen[k-1].at), h, colour)
		}
	}
	for e := range endpoints {
		state := func(m *moment) string {
			if m.origin.Endpoints[e].Health == "down" {
				return "down"
			}
			return m.origin.Endpoints[e].Breaker
		}
		for from := 0; from < len(l.seen); {
			to := from
			for to < len(l.seen)-1 && state(&l.seen[to]) == state(&l.seen[from]) {
				to++
			}
			fmt.Fprintf(&b, `<rect x="%.1f" y="%d" width="%.1f" height="%d" fill="%s"/>`+"\n", x(l.seen[from].at), row(e), x(l.seen[to].at)-x(l.seen[from].at), band, colours[state(&l.seen[from])])
			from = max(to, from+1)
		}
	}
	rate := func(a, b *moment, n func(m *moment) uint64) float64 {
		return float64(n(b)-n(a)) / (b.at - a.at).Seconds()
	}
	bars(endpoints, "tries", "#1f77b4", func(a, b *moment) float64 {
		return rate(a, b, func(m *moment) (n uint64) {
			for _, e := range m.origin.Endpoints {
				n += e.Requests
			}
			return n
		})
	})
	bars(endpoints+1, "retries", "#d8b365", func(a, b *moment) float64 {
		return rate(a, b, func(m *moment) uint64 { return m.origin.Retries })
	})
	for i, m := range l.marks {
		fmt.Fprintf(&b, `<line x1="%.1f" y1="38" x2="%.1f" y2="%d" stroke="#333" stroke-dasharray="2,3"/><text x="%.1f" y="%d" font-size="9">%s</text>`+"\n",
			x(m.at), x(m.at), height-18, x(m.at)+2, 34+(i%2)*10, m.name)
	}
	for s := time.Duration(0); s <= total; s += 2 * time.Second {
		fmt.Fprintf(&b, `<text x="%.1f" y="%d" font-size="9">%v</text>`+"\n", x(s), height-6, s)
	}
	b.WriteString("</svg>\n")
	return b.String()
}
