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
		for _, path := range []string{"/a-0", "/a-10", "/a-1000", "/a-100000", "/a-3000000"} {
			for i := range 3 {
				resp, body := c.get(t, path)
				if resp.StatusCode != 200 || resp.Proto != "HTTP/2.0" || resp.Header.Get("Etag") != `"v1"` || resp.Header.Get("Alt-Svc") == "" {
					t.Fatalf("%s: %v %v", path, resp.Status, resp.Header)
				}
				if _, size, _ := strings.Cut(path, "-"); strconv.Itoa(len(body)) != size || strings.Trim(body, "x") != "" {
					t.Errorf("%s: %d bytes of %d", path, len(body), resp.ContentLength)
				}
				if i > 0 && !strings.Contains(resp.Header.Get("Cache-Status"), "hit") {
					t.Errorf("%s: %v", path, resp.Header)
				}
			}
		}
	})
}
