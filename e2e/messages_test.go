package e2e

import (
	"context"
	"fmt"
	"net/http/httptrace"
	"net/textproto"
	"strings"
	"testing"
)

// What the origin says before its answer reaches the client, over each protocol.
func TestInterimResponses(t *testing.T) {
	n := startEdge(t, startOrigin(t))
	for _, protocol := range everyProtocol {
		c := newClient(t, n, protocol)
		var seen []string
		trace := &httptrace.ClientTrace{Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
			seen = append(seen, fmt.Sprint(code, h["Link"]))
			return nil
		}}
		target := respond("early", "Link:</a.css>", "early", "Link:</b.css>", "body", "late", "delay", "50ms")
		a := c.do(t, c.request(t, "GET", target, nil).WithContext(httptrace.WithClientTrace(context.Background(), trace)))
		if strings.Join(seen, " ") != "103 [</a.css> </b.css>]" || a.StatusCode != 200 || a.body != "late" || a.Header.Get("Link") != "" {
			t.Errorf("%s: 1xx %q, then %s %q, Link %q", protocol, seen, a.Status, a.body, a.Header.Get("Link"))
		}
	}
}

// A client that waits for 100 (Continue) gets it from a node that wants the body.
func TestContinue(t *testing.T) {
	n := startEdge(t, startOrigin(t))
	conn := dialRaw(t, n.http)
	conn.say(t, "POST /_origin/upload HTTP/1.1\r\nHost: a.test\r\nContent-Length: 5\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n")
	if line := conn.line(t); line != "HTTP/1.1 100 Continue" {
		t.Fatalf("got %q", line)
	}
	conn.say(t, "hello")
	rest := conn.rest(t)
	if !strings.Contains(rest, "HTTP/1.1 200 OK") || !strings.Contains(rest, `"length": 5`) {
		t.Errorf("then: %q", rest)
	}
}

// HEAD is answered as GET is, without content: on a miss, a hit, and a range.
func TestHead(t *testing.T) {
	n := startEdge(t, startOrigin(t))
	for _, protocol := range everyProtocol {
		c := newClient(t, n, protocol)
		target := respond("size", "70000", "for", protocol, "etag", `"v"`, "header", "Cache-Control:max-age=600")
		head := func(wantStatus int, cacheStatus string, fields ...string) answer {
			req := c.request(t, "HEAD", target, nil)
			for i := 0; i < len(fields); i += 2 {
				req.Header.Set(fields[i], fields[i+1])
			}
			a := c.do(t, req)
			a.want(t, wantStatus, cacheStatus)
			if a.body != "" {
				t.Errorf("%s: HEAD brought %d bytes", protocol, len(a.body))
			}
			return a
		}
		if a := head(200, "edge; fwd=.*"); a.Header.Get("Content-Length") != "70000" {
			t.Errorf("%s: miss: Content-Length %q", protocol, a.Header.Get("Content-Length"))
		}
		if a := c.get(t, target); len(a.body) != 70000 {
			t.Errorf("%s: GET after HEAD: %d bytes", protocol, len(a.body))
		}
		if a := head(200, hit); a.Header.Get("Content-Length") != "70000" || a.Header.Get("Etag") != `"v"` {
			t.Errorf("%s: hit: %v", protocol, a.Header)
		}
		head(304, hit, "If-None-Match", `"v"`)
		// RFC 9110 14.2: Range means nothing with HEAD.
		if a := head(200, hit, "Range", "bytes=0-9"); a.Header.Get("Content-Range") != "" {
			t.Errorf("%s: HEAD with Range: %v", protocol, a.Header)
		}
	}
}

// What a proxy before us took in early data is answered from memory or refused
// (RFC 8470 5.2), over each protocol.
func TestEarlyDataField(t *testing.T) {
	o := startOrigin(t)
	n := startEdge(t, o)
	for _, protocol := range everyProtocol {
		c := newClient(t, n, protocol)
		target := respond("body", "x", "for", protocol, "header", "Cache-Control:max-age=600")
		before := o.requests(t, "/_origin/respond")
		if a := c.get(t, target, "Early-Data", "1"); a.StatusCode != 425 {
			t.Errorf("%s: miss: %s", protocol, a.Status)
		}
		post := c.request(t, "POST", target, strings.NewReader("unsafe"))
		post.Header.Set("Early-Data", "1")
		if a := c.do(t, post); a.StatusCode != 425 {
			t.Errorf("%s: POST: %s", protocol, a.Status)
		}
		if got := o.requests(t, "/_origin/respond"); got != before {
			t.Errorf("%s: %d early requests reached the origin", protocol, got-before)
		}
		c.get(t, target).want(t, 200, miss)
		c.get(t, target, "Early-Data", "1").want(t, 200, hit)
	}
}
