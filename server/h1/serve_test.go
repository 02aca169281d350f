package h1

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"edgecdn/cache"
)

func echo(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	fmt.Fprintf(w, "%s %s %s", r.Method, r.RequestURI, body)
}

func TestKeepAlive(t *testing.T) {
	both(t, func(t *testing.T, secure bool) {
		e := start(t, setup{handler: echo, secure: secure})
		c := e.dial()
		for i := range 5 {
			path := fmt.Sprint("/", i)
			if a := c.get(path); a.StatusCode != 200 || a.body != "GET "+path+" " || a.err != nil {
				t.Errorf("%v %q %v", a.Status, a.body, a.err)
			}
			c.send("POST " + path + " HTTP/1.1\r\nHost: a.test\r\nContent-Length: 4\r\n\r\nbody")
			if a := c.read("POST"); a.body != "POST "+path+" body" {
				t.Errorf("%q", a.body)
			}
			c.send("PUT " + path + " HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n")
			if a := c.read("PUT"); a.body != "PUT "+path+" abcde" {
				t.Errorf("%q", a.body)
			}
		}
		c.send("GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n")
		if a := c.read("GET"); !a.Close {
			t.Error("the answer does not say close")
		}
		c.ended()
	})
}

func TestPipelining(t *testing.T) {
	both(t, func(t *testing.T, secure bool) {
		e := start(t, setup{handler: echo, secure: secure})
		c := e.dial()
		var requests strings.Builder
		for i := range 50 {
			fmt.Fprintf(&requests, "GET /%d HTTP/1.1\r\nHost: a.test\r\n\r\n", i)
			fmt.Fprintf(&requests, "POST /%d HTTP/1.1\r\nHost: a.test\r\nContent-Length: 3\r\n\r\nabc", i)
		}
		go io.WriteString(c, requests.String())
		for i := range 50 {
			if a := c.read("GET"); a.body != fmt.Sprintf("GET /%d ", i) {
				t.Fatalf("%d: %q", i, a.body)
			}
			if a := c.read("POST"); a.body != fmt.Sprintf("POST /%d abc", i) {
				t.Fatalf("%d: %q", i, a.body)
			}
		}
		if e.stats.Pipelined.Load() == 0 {
			t.Error("nothing was counted as pipelined")
		}
	})
}

// TestPanicsEndTheirConnectionAlone: a mistake on the way to an answer is logged,
// and others are served.
func TestPanicsEndTheirConnectionAlone(t *testing.T) {
	e := start(t, setup{handler: echo, lookup: func(r *cache.Request) (cache.Hit, bool) {
		if r.Target == "/panic" {
			panic("mistaken")
		}
		return cache.Hit{}, false
	}})
	c, other := e.dial(), e.dial()
	c.get("/")
	c.send("GET /panic HTTP/1.1\r\nHost: a.test\r\n\r\n")
	c.ended()
	if a := other.get("/"); a.StatusCode != 200 {
		t.Error(a.Status)
	}
	if !strings.Contains(e.log.String(), "mistaken") || e.gate.Stats().Panics.Load() != 1 {
		t.Error("the panic is not told")
	}
	eventually(t, "nothing under way", func() bool { return e.gate.Inflight() == 0 })
}

func TestLargeBodies(t *testing.T) {
	both(t, func(t *testing.T, secure bool) {
		e := start(t, setup{secure: secure, handler: func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(w, r.Body) }})
		want := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
		for _, head := range []string{"Content-Length: 1048576\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\n"} {
			c := e.dial()
			c.send("POST / HTTP/1.1\r\nHost: a.test\r\n" + head)
			go func() {
				if !strings.Contains(head, "chunked") {
					_, _ = c.Write(want)
					return
				}
				for i := 0; i < len(want); i += 1000 {
					part := want[i:min(i+1000, len(want))]
					fmt.Fprintf(c, "%x\r\n%s\r\n", len(part), part)
				}
				_, _ = io.WriteString(c, "0\r\n\r\n")
			}()
			if a := c.read("POST"); a.body != string(want) || a.err != nil {
				t.Errorf("%d bytes, %v", len(a.body), a.err)
			}
			if a := c.get("/"); a.StatusCode != 200 {
				t.Error(a.Status)
			}
		}
	})
}
