package server

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"edgecdn/cache"
	"edgecdn/route"
)

func TestHSTS(t *testing.T) {
	host := route.Host{Names: []string{"*"}, HSTS: route.HSTS{MaxAge: 24 * time.Hour, Subdomains: true}, Policy: route.Policy{Origin: "o"},
		Redirects: []route.Redirect{{Path: "/old", To: "/new"}}}
	e := start(t, setup{hosts: []route.Host{host}, handler: func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Strict-Transport-Security", "max-age=1") // of an origin
		_, _ = io.WriteString(w, "x")
	}})
	e.each(t, func(t *testing.T, c *client) {
		for _, path := range []string{"/", "/old"} {
			resp, _ := c.get(t, path)
			got := resp.Header.Values("Strict-Transport-Security")
			want := []string{"max-age=86400; includeSubDomains"}
			switch {
			case c.name != "h1":
			case path == "/":
				want = []string{"max-age=1"} // not ours to change
			default:
				want = nil
			}
			if fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("%s: %q, want %q", path, got, want)
			}
		}
	})
}

// TestHSTSOfHits: hits that are sent inline have it too, once.
func TestHSTSOfHits(t *testing.T) {
	c := realCache(t, func(*http.Request) (*http.Response, error) {
		return made(200, "x", "Cache-Control", "max-age=60", "Strict-Transport-Security", "max-age=1"), nil
	})
	var inline atomic.Int64
	host := route.Host{Names: []string{"*"}, HSTS: route.HSTS{MaxAge: time.Hour}, Policy: route.Policy{Origin: "o"}}
	e := start(t, setup{hosts: []route.Host{host}, handler: c.ServeHTTP, lookup: func(r *cache.Request) (cache.Hit, bool) {
		hit, ok := c.Lookup(r)
		if ok {
			inline.Add(1)
		}
		return hit, ok
	}})
	for _, client := range []*client{e.h1s(), e.h2(), e.h3()} {
		for range 2 {
			resp, _ := client.get(t, "/")
			if got := resp.Header.Values("Strict-Transport-Security"); len(got) != 1 || got[0] != "max-age=3600" {
				t.Errorf("%s: %q", client.name, got)
			}
		}
	}
	if n := inline.Load(); n < 5 {
		t.Errorf("%d hits inline", n)
	}
}

func TestAltSvcPort(t *testing.T) {
	for port, want := range map[int]string{0: "", 443: `h3=":443"`} {
		e := start(t, setup{config: Config{HTTPS: []string{"127.0.0.1:0"}, AltSvcPort: port}})
		if port == 0 {
			want = fmt.Sprintf("h3=%q", e.https[strings.LastIndexByte(e.https, ':'):])
		}
		resp, _ := e.h2().get(t, "/")
		if got, _, _ := strings.Cut(resp.Header.Get("Alt-Svc"), ";"); got != want {
			t.Errorf("port %d: Alt-Svc %q, want %q", port, got, want)
		}
		next := e.live.Load().config
		next.AltSvcPort = 8443
		if err := e.Apply(next); err == nil || !strings.Contains(err.Error(), "alt_svc_port") {
			t.Errorf("changed by a reload: %v", err)
		}
		e.shutdown()
	}
}
