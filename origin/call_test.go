package origin

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"edgecdn/pool"
)

// backend is a real endpoint that counts, and answers as it is told.
type backend struct {
	*httptest.Server
	address string
	hits    atomic.Int64
	handle  atomic.Pointer[http.HandlerFunc]
}

func (b *backend) set(h http.HandlerFunc) { b.handle.Store(&h) }

func (b *backend) status(code int) {
	b.set(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) })
}

func serve(t *testing.T) *backend {
	t.Helper()
	b := &backend{}
	b.status(200)
	b.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b.hits.Add(1)
		(*b.handle.Load())(w, r)
	}))
	b.address = b.Listener.Addr().String()
	t.Cleanup(func() { b.CloseClientConnections(); b.Close() })
	return b
}

// among returns a fixture whose origin has these endpoints, asked in this order.
func among(t *testing.T, change func(*Config), addresses ...string) *fixture {
	t.Helper()
	cfg := Config{URL: "http://shop.test:80", HeaderTimeout: 20 * time.Second, DialTimeout: 10 * time.Second}
	cfg.Pool.Policy = pool.PolicyRoundRobin
	cfg.Retries.Max = 2
	cfg.Pool.Breaker.Consecutive = 1000
	cfg.Pool.Breaker.Requests = 1000
	for i, address := range addresses {
		cfg.Pool.Endpoints = append(cfg.Pool.Endpoints, pool.Endpoint{Address: address, Priority: i})
	}
	if change != nil {
		change(&cfg)
	}
	return open(t, cfg)
}

func (f *fixture) state() pool.State {
	for _, p := range f.Pools() {
		return p.State()
	}
	f.t.Fatal("no pool")
	return pool.State{}
}

// idle wants no lease left.
func (f *fixture) idle() {
	f.t.Helper()
	eventually(f.t, "no lease is held", func() bool {
		s := f.state()
		for _, e := range s.Endpoints {
			if e.Active != 0 {
				return false
			}
		}
		return s.Active == 0 && s.Waiting == 0
	})
}

// finish reads a response to its end.
func finish(t *testing.T, resp *http.Response, err error) (int, string) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	return resp.StatusCode, string(body)
}

// Whatever is wrong with the first endpoint, what may be sent again is answered by
// the second, and what may not is not sent twice.
func TestEndpointsThatFail(t *testing.T) {
	wire := func(serve func(conn net.Conn, r *bufio.Reader)) string {
		cfg := raw(t, func(_ int, conn net.Conn, r *bufio.Reader) {
			if _, err := http.ReadRequest(r); err == nil {
				serve(conn, r)
			}
		})
		return strings.TrimPrefix(cfg.URL, "http://")
	}
	hold := func(conn net.Conn) { _, _ = conn.Read(make([]byte, 1)) }
	for name, c := range map[string]struct {
		address string
		post    bool // may be sent again after this failure
		kind    int
	}{
		"dead":    {nobody, true, RetryConnect},
		"hangs":   {wire(func(conn net.Conn, _ *bufio.Reader) { hold(conn) }), false, RetryFailure},
		"closes":  {wire(func(net.Conn, *bufio.Reader) {}), false, RetryFailure},
		"resets":  {wire(func(conn net.Conn, _ *bufio.Reader) { _ = conn.(*net.TCPConn).SetLinger(0) }), false, RetryFailure},
		"garbage": {wire(func(conn net.Conn, _ *bufio.Reader) { io.WriteString(conn, "SSH-2.0-x\r\n\r\n"); hold(conn) }), false, RetryFailure},
		"half":    {wire(func(conn net.Conn, _ *bufio.Reader) { io.WriteString(conn, "HTTP/1.1 200 OK\r\nX: y") }), false, RetryFailure},
		"says 503": {wire(func(conn net.Conn, _ *bufio.Reader) {
			io.WriteString(conn, "HTTP/1.1 503 x\r\nContent-Length: 0\r\n\r\n")
			hold(conn)
		}), false, RetryStatus},
	} {
		t.Run(name, func(t *testing.T) {
			second := serve(t)
			f := among(t, func(cfg *Config) {
				if name == "hangs" {
					cfg.HeaderTimeout = 2 * time.Second
				}
			}, c.address, second.address)
			resp, err := f.do("GET", "/", nil)
			status, _ := finish(t, resp, err)
			want(t, "GET", status, 200)
			want(t, "retries", f.stats().Retries[c.kind].Load(), 1)
			want(t, "failures counted as the origin's", f.stats().Errors[KindTerminated.index()].Load(), 0)
			before := second.hits.Load()
			resp, err = f.do("POST", "/", nil)
			if err == nil {
				finish(t, resp, err)
			}
			want(t, "POST sent again", second.hits.Load()-before == 1, c.post)
			if !c.post {
				want(t, "refused", f.stats().RetriesRefused[RefusedMethod].Load(), 1)
			}
			f.idle()
		})
	}
}

// Nothing is sent again once the response's header has gone to the caller.
func TestBodyThatBreaksOffIsNotRepeated(t *testing.T) {
	broken, second := serve(t), serve(t)
	broken.set(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "10")
		io.WriteString(w, "half")
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	})
	f := among(t, nil, broken.address, second.address)
	resp, err := f.do("GET", "/", nil)
	if err != nil {
		t.Fatal(err)
	}
	_, err = io.ReadAll(resp.Body)
	wantKind(t, "body", err, KindResponseIncomplete)
	resp.Body.Close()
	want(t, "second", second.hits.Load(), 0)
	want(t, "failures", f.state().Endpoints[0].Failures, 1)
	f.idle()
}

func TestBodiesAreReplayedInBounds(t *testing.T) {
	for name, c := range map[string]struct {
		method string
		size   int
		key    bool // Idempotency-Key, which the route trusts
		read   bool // by the endpoint, before it fails
		again  bool
	}{
		"small":                      {"PUT", 1000, false, true, true},
		"at the bound":               {"PUT", 4096, false, true, true},
		"beyond it":                  {"PUT", 200_000, false, true, false},
		"POST":                       {"POST", 1000, false, true, false},
		"POST with Idempotency-Key":  {"POST", 1000, true, true, true},
		"large, but connect refused": {"POST", 200_000, false, false, true},
		"small, but connect refused": {"POST", 1000, false, false, true},
	} {
		t.Run(name, func(t *testing.T) {
			first, second := serve(t), serve(t)
			address := first.address
			if !c.read {
				address = nobody
			}
			first.set(func(_ http.ResponseWriter, r *http.Request) {
				io.Copy(io.Discard, r.Body)
				panic(http.ErrAbortHandler)
			})
			got := make(chan string, 1)
			second.set(func(_ http.ResponseWriter, r *http.Request) {
				text, _ := io.ReadAll(r.Body)
				got <- string(text)
			})
			f := among(t, func(cfg *Config) { cfg.Retries.BodyMax = 4096 }, address, second.address)
			text := pattern(0, c.size)
			source := &closing{Reader: strings.NewReader(text)}
			r := f.request(t.Context(), c.method, "/", source)
			r.ContentLength = int64(c.size)
			fields := []Field{{"idempotency-key", "k"}}
			resp, _, err := f.Forward(r, "o", "/", fields, c.key, nil, nil) // of no use where it is not trusted
			if c.again {
				status, _ := finish(t, resp, err)
				want(t, "status", status, 200)
				want(t, "body, the second time", <-got == text, true)
			} else if err == nil {
				t.Errorf("answered: %v", resp.Status)
			}
			eventually(t, "the caller's body is closed", func() bool { return source.closed.Load() == 1 })
			f.idle()
		})
	}
}

type closing struct {
	io.Reader
	closed atomic.Int64
}

func (c *closing) Close() error { c.closed.Add(1); return nil }

// All endpoints fail: the load on them grows by no more than the budget.
func TestBudgetBoundsRetries(t *testing.T) {
	one, two := serve(t), serve(t)
	one.status(503)
	two.status(503)
	f := among(t, func(cfg *Config) { cfg.Retries.Backoff = time.Millisecond }, one.address, two.address)
	const n = 500
	var work sync.WaitGroup
	for range 10 {
		work.Go(func() {
			for range n / 10 {
				resp, err := f.do("GET", "/", nil)
				if err != nil {
					t.Error(err)
					return
				}
				resp.Body.Close()
			}
		})
	}
	work.Wait()
	if seen := one.hits.Load() + two.hits.Load(); seen > n*12/10 || seen <= n {
		t.Errorf("%d requests, the endpoints saw %d", n, seen)
	}
	if f.stats().RetriesRefused[RefusedBudget].Load() == 0 {
		t.Error("no retry was refused for the budget")
	}
	f.idle()
}

func TestBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := new(budget)
		b.apply(20, 10)
		spend := func() (n int) {
			for b.take(time.Now()) {
				n++
			}
			return n
		}
		want(t, "without load: the floor", spend(), 10)
		for range 30 { // 100 requests a second for 30 s, all fail
			for range 100 {
				b.request(time.Now())
				b.take(time.Now())
			}
			time.Sleep(time.Second)
		}
		b.request(time.Now())
		if n := spend(); n > 20 {
			t.Errorf("%d more in the window", n)
		}
		total := 0
		for _, s := range b.slices {
			total += s.extra
		}
		if total > 200 {
			t.Errorf("%d in ten seconds with 1000 requests", total)
		}
		time.Sleep(time.Minute)
		want(t, "after a minute", spend(), 10)
		b.giveBack(time.Now())
		want(t, "given back", spend(), 1)
	})
}

// The breaker opens, and what is left is an error at once that says when to come again.
func TestNothingLeft(t *testing.T) {
	one := serve(t)
	one.set(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	f := among(t, func(cfg *Config) {
		cfg.Pool.Breaker = pool.Breaker{Consecutive: 3, Open: time.Minute, OpenMax: time.Minute}
		cfg.Retries = Retries{Off: true}
	}, one.address)
	for range 3 {
		_, err := f.do("GET", "/", nil)
		wantKind(t, "while closed", err, KindTerminated)
	}
	for range 100 {
		_, err := f.do("GET", "/", nil)
		wantKind(t, "open", err, KindUnavailable)
		var e *Error
		if errors.As(err, &e); e.RetryAfter() < 40*time.Second || e.RetryAfter() > 75*time.Second || e.Kind.Status() != 503 {
			t.Fatalf("Retry-After %v, status %d", e.RetryAfter(), e.Kind.Status())
		}
	}
	want(t, "seen", one.hits.Load(), 3)
	f.idle()
}

func TestConcurrencyIsCapped(t *testing.T) {
	one := serve(t)
	release := make(chan struct{})
	one.set(func(http.ResponseWriter, *http.Request) { <-release })
	f := among(t, func(cfg *Config) {
		cfg.HeaderTimeout = time.Minute
		cfg.Pool.Concurrency, cfg.Pool.Queue, cfg.Pool.QueueTimeout = 2, 2, 20*time.Millisecond
	}, one.address)
	var work sync.WaitGroup
	for range 2 {
		work.Go(func() {
			resp, err := f.do("GET", "/", nil)
			if err != nil {
				t.Error(err)
				return
			}
			resp.Body.Close()
		})
	}
	eventually(t, "both arrive", func() bool { return one.hits.Load() == 2 })
	_, err := f.do("GET", "/", nil)
	wantKind(t, "one that waits too long", err, KindConnectionLimit)
	close(release)
	work.Wait()
	f.idle()
}

func TestRetryAfterIsRespected(t *testing.T) {
	one := serve(t)
	for _, c := range []struct {
		header string
		hits   int64
		wait   time.Duration
	}{{"", 1, 0}, {"1", 2, time.Second}, {"120", 1, 0}, {"soon", 1, 0}} {
		var n atomic.Int64
		one.set(func(w http.ResponseWriter, _ *http.Request) {
			if n.Add(1) == 1 {
				if c.header != "" {
					w.Header().Set("Retry-After", c.header)
				}
				w.WriteHeader(503)
			}
		})
		start := time.Now()
		resp, err := among(t, nil, one.address).do("GET", "/", nil)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		want(t, "Retry-After: "+c.header, n.Load(), c.hits)
		if time.Since(start) < c.wait {
			t.Errorf("Retry-After: %s: came again after %v", c.header, time.Since(start))
		}
	}
}

// An endpoint that is slow now and then does not show: a second is asked.
func TestHedging(t *testing.T) {
	one, two := serve(t), serve(t)
	asked, gone := make(chan struct{}, 9), make(chan struct{}, 9)
	var posts atomic.Int64
	one.set(func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			asked <- struct{}{}
			<-r.Context().Done()
			gone <- struct{}{}
		}
	})
	two.set(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == "POST" {
			posts.Add(1)
		}
		if r.URL.Path == "/slow" {
			select {
			case <-asked: // a loser that has not sent anything yet is not called back
			case <-r.Context().Done():
			}
			io.WriteString(w, "two")
		}
	})
	f := among(t, func(cfg *Config) {
		cfg.HeaderTimeout = time.Minute
		cfg.Hedging = Hedging{Enabled: true, DelayMin: time.Millisecond}
		cfg.Retries.BudgetMin = 100 // the first requests may be hedged, too
	}, one.address, two.address)
	for range 30 {
		resp, err := f.do("GET", "/", nil)
		finish(t, resp, err)
	}
	resp, err := f.do("GET", "/slow", nil)
	_, body := finish(t, resp, err)
	want(t, "answered by", body, "two")
	receive(t, "the loser is called back", gone)
	if f.stats().HedgesWon.Load() == 0 || f.stats().HedgesWon.Load() > f.stats().Hedges.Load() {
		t.Errorf("hedges: %d, won %d", f.stats().Hedges.Load(), f.stats().HedgesWon.Load())
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if resp, err := f.RoundTrip(f.request(ctx, "POST", "/slow", nil)); err == nil {
		resp.Body.Close()
	}
	f.idle()
	want(t, "POST hedged", posts.Load(), 0)
}

func TestLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := new(delays)
		if _, ok := d.late(time.Now()); ok {
			t.Error("nothing was seen")
		}
		for i := range 100 {
			took := 10 * time.Millisecond
			if i%10 == 0 {
				took = time.Second
			}
			d.observe(time.Now(), took)
		}
		if p95, ok := d.late(time.Now()); !ok || p95 < time.Second || p95 > 1300*time.Millisecond {
			t.Errorf("10 %% take a second: %v", p95)
		}
		time.Sleep(15 * time.Second)
		for range 400 {
			d.observe(time.Now(), 10*time.Millisecond)
		}
		if p95, _ := d.late(time.Now()); p95 < 10*time.Millisecond || p95 > 13*time.Millisecond {
			t.Errorf("2 %% take a second: %v", p95)
		}
		time.Sleep(time.Minute)
		if _, ok := d.late(time.Now()); ok {
			t.Error("what was seen a minute ago counts")
		}
	})
}

// A connection that was upgraded holds its lease until it is closed.
func TestUpgradeHoldsItsLease(t *testing.T) {
	s, cfg := scripted(t, "h1")
	_ = s
	f := open(t, cfg)
	r := f.request(t.Context(), "GET", "/_origin/ws", nil)
	for name, value := range map[string]string{"Connection": "Upgrade", "Upgrade": "websocket", "Sec-Websocket-Version": "13", "Sec-Websocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="} {
		r.Header.Set(name, value)
	}
	resp, err := f.RoundTrip(r)
	if err != nil || resp.StatusCode != 101 {
		t.Fatal(resp, err)
	}
	want(t, "under way", f.state().Active, 1)
	if _, ok := resp.Body.(io.ReadWriteCloser); !ok {
		t.Error("nothing can be written")
	}
	if _, ok := resp.Body.(interface{ CloseWrite() error }); !ok {
		t.Error("it cannot be half closed")
	}
	resp.Body.Close()
	f.idle()
}

// Requests given up at any moment leave no lease behind.
func TestGivenUpAmongEndpoints(t *testing.T) {
	one, two := serve(t), serve(t)
	slow := func(w http.ResponseWriter, r *http.Request) {
		w.(http.Flusher).Flush()
		io.WriteString(w, pattern(0, 1000))
	}
	one.set(slow)
	two.status(503)
	f := among(t, func(cfg *Config) {
		cfg.Hedging = Hedging{Enabled: true, DelayMin: time.Millisecond}
		cfg.Pool.Endpoints[1].Priority = 0
	}, one.address, two.address)
	var work sync.WaitGroup
	for i := range 200 {
		work.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i)*50*time.Microsecond)
			defer cancel()
			var body io.Reader
			method := "GET"
			if i%3 == 0 {
				method, body = "PUT", &closing{Reader: strings.NewReader("text")}
			}
			if resp, err := f.RoundTrip(f.request(ctx, method, "/", body)); err == nil {
				if i%2 == 0 {
					io.Copy(io.Discard, resp.Body)
				}
				resp.Body.Close()
			}
		})
	}
	work.Wait()
	f.idle()
	for _, e := range f.state().Endpoints {
		if e.Breaker != "closed" {
			t.Errorf("%s: its breaker is %s", e.Address, e.Breaker)
		}
	}
}

// A reload that changes the pool alone keeps connections and what is known.
func TestReloadKeepsThePool(t *testing.T) {
	one, two := serve(t), serve(t)
	cfg := Config{URL: "http://" + one.address}
	f := open(t, cfg)
	f.get("/")
	dialed := f.stats().ConnectionsDialed.Load()
	cfg.Pool.Endpoints = []pool.Endpoint{{Address: one.address, Weight: 3}, {Address: two.address, Priority: 1}}
	apply(t, f, map[string]Config{"o": cfg})
	f.get("/")
	want(t, "dialed", f.stats().ConnectionsDialed.Load(), dialed)
	want(t, "requests that are remembered", f.state().Endpoints[0].Requests, 2)
	cfg.Pool.Endpoints = cfg.Pool.Endpoints[1:]
	apply(t, f, map[string]Config{"o": cfg})
	eventually(t, "the connection to what is gone closes", func() bool { return f.stats().ConnectionsOpen.Load() == 0 })
	f.get("/")
	want(t, "two", two.hits.Load(), 1)
}
