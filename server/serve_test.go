package server

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"edgecdn/cache"
)

func TestServesEveryProtocol(t *testing.T) {
	seen := make(chan cache.Request, 1)
	e := start(t, setup{handler: func(w http.ResponseWriter, r *http.Request) {
		seen <- recorded(r)
		w.Header().Set("X-From", "handler")
		_, _ = io.WriteString(w, "hello over "+r.Proto)
	}})
	e.each(t, func(t *testing.T, c *client) {
		r := c.request(t, "GET", "/a/b?c=d", nil)
		r.Header.Set("X-Odd-Name", "v")
		resp, body := c.do(t, r)
		if resp.StatusCode != 200 || resp.Header.Get("X-From") != "handler" || !strings.HasPrefix(body, "hello over HTTP/") {
			t.Errorf("status %d, fields %v, body %q", resp.StatusCode, resp.Header, body)
		}
		got := <-seen
		scheme, address, _ := strings.Cut(c.base, "://")
		if got.Proto != c.proto || got.Scheme != scheme || got.Host != address || got.Target != "/a/b?c=d" || got.Listener != address {
			t.Errorf("the handler was told %+v", got)
		}
		if got.Client.Addr() != loopback || got.Client.Port() == 0 || got.HasBody || got.Route == nil {
			t.Errorf("the handler was told %+v", got)
		}
		if v, ok := got.Field("x-odd-name"); !ok || v != "v" {
			t.Errorf("fields %v lack x-odd-name", got.Fields)
		}
		if _, ok := got.Field("host"); ok {
			t.Errorf("fields %v repeat the host", got.Fields)
		}
	})
}
