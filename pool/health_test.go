package pool

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestProbes(t *testing.T) {
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/ok":
			fmt.Fprintf(w, "ready: %s %s", r.Host, r.URL.RawQuery)
		case "/redirect":
			w.Header().Set("Location", "/ok")
			w.WriteHeader(302)
		case "/hang":
			<-r.Context().Done()
		case "/endless":
			for r.Context().Err() == nil {
				if _, err := w.Write(make([]byte, 1<<16)); err != nil {
					return
				}
			}
		case "/huge":
			w.Header().Set("X", strings.Repeat("x", probeHeaderMax))
		default:
			w.WriteHeader(503)
		}
	})
	plain, secure := httptest.NewServer(handler), httptest.NewTLSServer(handler)
	defer plain.Close()
	defer secure.Close()
	both, clear := httptest.NewUnstartedServer(handler), httptest.NewUnstartedServer(handler)
	both.EnableHTTP2 = true
	both.StartTLS()
	defer both.Close()
	clear.Config.Protocols = new(http.Protocols)
	clear.Config.Protocols.SetUnencryptedHTTP2(true)
	clear.Start()
	defer clear.Close()
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	address := plain.Listener.Addr().String()
	tls := secure.Client().Transport.(*http.Transport).TLSClientConfig
	for _, c := range []struct {
		name, address, want string
		probe               Probe
	}{
		{"tcp", address, "", Probe{}},
		{"tcp to one that accepts and says nothing", silent.Addr().String(), "", Probe{}},
		{"tcp refused", "127.0.0.1:1", "refused", Probe{}},
		{"http", address, "", Probe{HTTP: true, Path: "/ok"}},
		{"body and host", address, "", Probe{HTTP: true, Path: "/ok?q", Host: "shop.example", Body: "ready: shop.example q"}},
		{"another body", address, "does not hold", Probe{HTTP: true, Path: "/ok", Body: "unready"}},
		{"503", address, "status 503", Probe{HTTP: true, Path: "/x"}},
		{"503 is good", address, "", Probe{HTTP: true, Path: "/x", Statuses: []int{404, 503}}},
		{"a redirect is not followed", address, "status 302", Probe{HTTP: true, Path: "/redirect"}},
		{"http hangs", address, "no answer within 50ms", Probe{HTTP: true, Path: "/hang"}},
		{"http to one that says nothing", silent.Addr().String(), "no answer within 50ms", Probe{HTTP: true}},
		{"endless body", address, "does not hold", Probe{HTTP: true, Path: "/endless", Body: "x"}},
		{"huge header", address, "exceeded", Probe{HTTP: true, Path: "/huge"}},
		{"path of two slashes", address, "status 503", Probe{HTTP: true, Path: "//ok"}},
		{"h2 over tls", both.Listener.Addr().String(), "", Probe{HTTP: true, H2: true, Path: "/ok", Host: "example.com", TLS: tls}},
		{"h2 in the clear", clear.Listener.Addr().String(), "", Probe{HTTP: true, H2: true, Path: "/ok"}},
		{"h2 where it is not spoken", address, "http2", Probe{HTTP: true, H2: true, Path: "/ok"}},
		{"tls", secure.Listener.Addr().String(), "", Probe{HTTP: true, Path: "/ok", Host: "example.com", TLS: tls}},
		{"tls of another name", secure.Listener.Addr().String(), "certificate", Probe{HTTP: true, Path: "/ok", Host: "example.org", TLS: tls}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.probe.Timeout == 0 {
				c.probe.Timeout = 20 * time.Second
				if strings.Contains(c.want, "50ms") {
					c.probe.Timeout = 50 * time.Millisecond
				}
			}
			err := c.probe.Check(t.Context(), c.address)
			if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

// A timeline of probes, by a dialer that fails when told to.
func TestRiseAndFall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var (
			mu    sync.Mutex
			dead  = map[string]bool{"b:1": true}
			tries []time.Time
		)
		cfg := static(2)
		cfg.Health = Health{Type: HealthTCP, Interval: 10 * time.Second, Rise: 2, Fall: 3}
		cfg.Probe.Dial = func(_ context.Context, _, address string) (net.Conn, error) {
			mu.Lock()
			defer mu.Unlock()
			if address == "a:1" {
				tries = append(tries, time.Now())
			}
			if dead[address] {
				return nil, errors.New("dead")
			}
			here, there := net.Pipe()
			there.Close()
			return here, nil
		}
		set := func(address string, to bool) {
			mu.Lock()
			defer mu.Unlock()
			dead[address] = to
		}
		p := open(t, cfg)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- p.Run(ctx) }()
		time.Sleep(firstProbe)
		synctest.Wait()
		want(t, "a at first", state(t, p, "a:1").Up, true)
		want(t, "b at first: one probe decides", state(t, p, "b:1").Up, false)
		for range 20 {
			want(t, "where it goes", use(t, p, Hint{}, good), "a:1")
		}
		set("b:1", false)
		time.Sleep(12 * time.Second)
		want(t, "b after one good probe", state(t, p, "b:1").Up, false)
		time.Sleep(12 * time.Second)
		want(t, "b after two", state(t, p, "b:1").Up, true)
		if share := state(t, p, "b:1").Share; share == 1 {
			t.Error("b did not start slowly")
		}
		set("a:1", true)
		time.Sleep(15 * time.Second) // of three two are at least 16 apart
		want(t, "a after two bad probes at the most", state(t, p, "a:1").Up, true)
		time.Sleep(22 * time.Second)
		want(t, "a after three", state(t, p, "a:1").Up, false)
		want(t, "why", state(t, p, "a:1").ProbeError, "dead")
		set("b:1", true)
		time.Sleep(40 * time.Second)
		_, err := p.Pick(t.Context(), Hint{})
		var none *UnavailableError
		if !errors.As(err, &none) || none.RetryAfter != 10*time.Second {
			t.Errorf("both down: %v", err)
		}
		mu.Lock()
		seen := map[time.Duration]bool{}
		for i := 1; i < len(tries); i++ {
			gap := tries[i].Sub(tries[i-1])
			seen[gap] = true
			if gap < 8*time.Second || gap > 12*time.Second {
				t.Errorf("%v between two probes", gap)
			}
		}
		mu.Unlock()
		if len(seen) < 3 {
			t.Errorf("no jitter: %v", seen)
		}
		cfg.Health = Health{} // nobody probes any more: nothing is believed of what probes said
		if err := p.Apply(cfg); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		want(t, "a without probes", state(t, p, "a:1").Up, true)
		cancel()
		want(t, "Run", <-done, nil)
	})
}
