package server

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

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
