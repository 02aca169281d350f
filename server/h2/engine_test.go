package h2

import (
	"strconv"
	"strings"
	"testing"
)

func TestHit(t *testing.T) {
	o := cached(t, sized)
	o.altSvc = `h3=":443"`
	e := start(t, o)
	e.each(t, func(t *testing.T, c *client) {
		for _, path := range []string{"/a-0", "/a-10", "/a-1000", "/a-100000", "/a-1000000"} {
			warm(t, c, path)
			r := c.request(t, "GET", path, nil)
			r.Host = "a.test"
			resp, body := c.do(t, r)
			if resp.StatusCode != 200 || resp.Proto != "HTTP/2.0" || resp.Header.Get("Etag") != `"v1"` || resp.Header.Get("Alt-Svc") != o.altSvc {
				t.Fatalf("%s: %v %v", path, resp.Status, resp.Header)
			}
			if _, size, _ := strings.Cut(path, "-"); strconv.Itoa(len(body)) != size || strings.Trim(body, "x") != "" {
				t.Errorf("%s: %d bytes of %d", path, len(body), resp.ContentLength)
			}
			for _, other := range []struct {
				method, field, value string
				status, length       int
			}{{"HEAD", "", "", 200, 0}, {"GET", "If-None-Match", `"v1"`, 304, 0}, {"GET", "Range", "bytes=1-2", 206, 2}} {
				r := c.request(t, other.method, path, nil)
				r.Host = "a.test"
				if other.field != "" {
					r.Header.Set(other.field, other.value)
				}
				if len(body) == 0 && other.status == 206 {
					continue
				}
				resp, body := c.do(t, r)
				if resp.StatusCode != other.status || len(body) != other.length || !strings.Contains(resp.Header.Get("Cache-Status"), "; hit") {
					t.Errorf("%s %s: %s, %d bytes, %v", other.method, path, resp.Status, len(body), resp.Header)
				}
			}
		}
	})
}
