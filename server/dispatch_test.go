package server

import (
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"testing"

	"edgecdn/access"
	"edgecdn/cache"
	"edgecdn/route"
)

// echo answers with what it was told.
func echo(w http.ResponseWriter, r *http.Request) {
	in := cache.FromContext(r.Context())
	fmt.Fprintf(w, "%s %s %s body=%v", in.Method, in.Host, in.Target, in.HasBody)
}

func TestTargetsArriveAsSent(t *testing.T) {
	e := start(t, setup{handler: echo})
	targets := []string{
		"/", "/%2F", "/a%2Fb", "/a//b", "//a", "//evil.test/a", "/a/../b", "/a/./b", "/..", "/%2e%2e/x", "/a;b=c", "/a?",
		"/a?b=%20&c=%2F/..//", "/a?b#"[:4], "/%41", "/a%00b", "/~a'()*!$&+,=:@", "/a\\b"[:2], "/a%5Cb", "/?a?b", "/a%ff",
	}
	e.each(t, func(t *testing.T, c *client) {
		for _, target := range targets {
			r := c.request(t, "GET", "/", nil)
			path, query, hasQuery := strings.Cut(target, "?")
			clean, err := url.PathUnescape(path)
			if err != nil {
				t.Fatal(err)
			}
			r.URL.Path, r.URL.RawPath, r.URL.RawQuery, r.URL.ForceQuery = clean, path, query, hasQuery && query == ""
			if _, body := c.do(t, r); body != "GET "+r.URL.Host+" "+target+" body=false" {
				t.Errorf("%q arrived as %q", target, body)
			}
		}
	})
}

func TestHosts(t *testing.T) {
	e := start(t, setup{handler: echo, hosts: []route.Host{
		{Names: []string{"a.test"}, Policy: route.Policy{Origin: "o"}},
	}})
	e.each(t, func(t *testing.T, c *client) {
		scheme, _, _ := strings.Cut(c.base, "://")
		own := map[string]string{"http": "80", "https": "443"}[scheme]
		for _, test := range []struct{ host, want string }{
			{"a.test", "a.test"},
			{"A.TEST", "a.test"},
			{"a.test.", "a.test"},
			{"a.test:" + own, "a.test"},
			{"a.test:8080", "a.test:8080"},
			{"b.test", "421"},
			{"a.test:99999", "400"},
			{"a..test", "400"},
			{"a_.test,a.test", "400"},
		} {
			r := c.request(t, "GET", "/x", nil)
			r.Host = test.host
			resp, err := c.Do(r)
			if err != nil {
				if test.want != "400" { // clients and engines refuse some themselves
					t.Errorf("%q: %v", test.host, err)
				}
				continue
			}
			body, _ := io.ReadAll(resp.Body)
			_ = resp.Body.Close()
			if got := string(body); !strings.HasPrefix(got, test.want) && !strings.HasPrefix(got, "GET "+test.want+" ") {
				t.Errorf("%q: %q, want %q", test.host, got, test.want)
			}
		}
	})
}

func TestRawHTTP1(t *testing.T) {
	e := start(t, setup{handler: echo, hosts: []route.Host{{Names: []string{"a.test"}, Policy: route.Policy{Origin: "o"}}}})
	tests := []struct {
		name, request string
		status        int
		body          string // prefix
	}{
		{"absolute form wins over Host", "GET http://a.test/x HTTP/1.1\r\nHost: b.test\r\n\r\n", 200, "GET a.test /x"},
		{"absolute form without a path", "GET http://a.test?q HTTP/1.1\r\nHost: a.test\r\n\r\n", 200, "GET a.test /?q"},
		{"absolute form of another scheme", "GET https://a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n", 421, ""},
		{"two slashes are a path", "GET //b.test/x HTTP/1.1\r\nHost: a.test\r\n\r\n", 200, "GET a.test //b.test/x"},
		{"OPTIONS *", "OPTIONS * HTTP/1.1\r\nHost: a.test\r\n\r\n", 200, "OPTIONS a.test *"},
		{"GET *", "GET * HTTP/1.1\r\nHost: a.test\r\n\r\n", 400, ""},
		{"no Host", "GET / HTTP/1.1\r\n\r\n", 400, ""},
		{"no Host in 1.0", "GET / HTTP/1.0\r\n\r\n", 400, ""},
		{"empty Host", "GET / HTTP/1.1\r\nHost:\r\n\r\n", 400, ""},
		{"two Hosts", "GET / HTTP/1.1\r\nHost: a.test\r\nHost: a.test\r\n\r\n", 400, ""},
		{"userinfo in Host", "GET / HTTP/1.1\r\nHost: u@a.test\r\n\r\n", 400, ""},
		{"path in Host", "GET / HTTP/1.1\r\nHost: a.test/b\r\n\r\n", 400, ""},
		{"fragment", "GET /a#b HTTP/1.1\r\nHost: a.test\r\n\r\n", 400, ""},
		{"CONNECT", "CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\n\r\n", 501, ""},
		{"CONNECT of a path", "CONNECT /x HTTP/1.1\r\nHost: a.test\r\n\r\n", 501, ""},
		{"TRACE", "TRACE / HTTP/1.1\r\nHost: a.test\r\n\r\n", 405, ""},
		{"another method", "BREW /pot HTTP/1.1\r\nHost: a.test\r\n\r\n", 200, "BREW a.test /pot"},
		{"HTTP/1.0", "GET /x HTTP/1.0\r\nHost: a.test\r\n\r\n", 200, "GET a.test /x"},
		{"the preface of HTTP/2", "PRI * HTTP/2.0\r\nHost: a.test\r\n\r\n", 505, ""},
		{"empty chunked body", "GET /x HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 200, "GET a.test /x body=true"},
		{"Content-Length: 0", "GET /x HTTP/1.1\r\nHost: a.test\r\nContent-Length: 0\r\n\r\n", 200, "GET a.test /x body=false"},
		{"body", "GET /x HTTP/1.1\r\nHost: a.test\r\nContent-Length: 1\r\n\r\na", 200, "GET a.test /x body=true"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			resp := e.raw(t, test.request, 1)[0]
			body, _ := io.ReadAll(resp.Body)
			if resp.StatusCode != test.status || !strings.HasPrefix(string(body), test.body) {
				t.Errorf("%d %q, want %d %q", resp.StatusCode, body, test.status, test.body)
			}
			if resp.StatusCode == 400 && !resp.Close {
				t.Error("the connection stays open after a malformed request")
			}
		})
	}
}

func TestPipelinedRequestsAreAnsweredInOrder(t *testing.T) {
	e := start(t, setup{handler: echo})
	one := "GET /%d HTTP/1.1\r\nHost: a.test\r\n\r\n"
	for i, resp := range e.raw(t, fmt.Sprintf(one+one+one, 1, 2, 3), 3) {
		if body, _ := io.ReadAll(resp.Body); !strings.Contains(string(body), fmt.Sprintf("/%d ", i+1)) {
			t.Errorf("answer %d is %q", i+1, body)
		}
	}
}

// TestHasBody: a GET without a body may be answered inline, one with a body never.
func TestHasBody(t *testing.T) {
	looked := make(chan string, 1)
	e := start(t, setup{
		lookup: func(r *cache.Request) (cache.Hit, bool) { looked <- r.Target; return cache.Hit{}, false },
		handler: func(w http.ResponseWriter, r *http.Request) {
			in := cache.FromContext(r.Context())
			body, err := io.ReadAll(r.Body)
			fmt.Fprintf(w, "%v %d %q %v", in.HasBody, r.ContentLength, body, err)
		},
	})
	unknown := func(s string) io.Reader { return io.MultiReader(strings.NewReader(s)) } // hides the length
	e.each(t, func(t *testing.T, c *client) {
		for _, test := range []struct {
			method string
			body   io.Reader
			want   string
			looked bool
		}{
			{"GET", nil, `false 0 "" <nil>`, true},
			{"HEAD", nil, "", true},
			{"DELETE", nil, `false 0 "" <nil>`, false},
			{"GET", strings.NewReader("abc"), `true 3 "abc" <nil>`, false},
			{"GET", unknown("abc"), `true -1 "abc" <nil>`, false},
			{"POST", strings.NewReader("abc"), `true 3 "abc" <nil>`, false},
			{"POST", unknown("abc"), `true -1 "abc" <nil>`, false},
			{"DELETE", unknown("abc"), `true -1 "abc" <nil>`, false},
		} {
			_, body := c.do(t, c.request(t, test.method, "/", test.body))
			if body != test.want {
				t.Errorf("%s with %T: %s, want %s", test.method, test.body, body, test.want)
			}
			select {
			case <-looked:
				if !test.looked {
					t.Errorf("%s with %T was looked up", test.method, test.body)
				}
			default:
				if test.looked {
					t.Errorf("%s with %T was not looked up", test.method, test.body)
				}
			}
		}
	})
}

func TestRefusals(t *testing.T) {
	e := start(t, setup{hosts: []route.Host{{
		Names:  []string{"a.test"},
		Policy: route.Policy{Origin: "o"},
		Redirects: []route.Redirect{
			{Path: "/old/*", To: "/new/{rest}", Status: 301},
		},
		Routes: []route.Path{
			{Path: "/read/*", Policy: route.Policy{Methods: []string{"GET"}}},
			{Path: "/a/b", Policy: route.Policy{Methods: []string{"GET"}}},
		},
	}, {
		Names:     []string{"moved.test"},
		Redirects: []route.Redirect{{Path: "/gone", To: "https://a.test/"}},
	}}})
	tests := []struct {
		name, method, host, path string
		status                   int
		field, value             string
	}{
		{"no such host", "GET", "b.test", "/", 421, "Cache-Control", "no-store"},
		{"two readings", "GET", "a.test", "/a/%62", 400, "Cache-Control", "no-store"},
		{"redirect", "GET", "a.test", "/old/x?y", 301, "Location", "/new/x"},
		{"redirect of another method", "POST", "a.test", "/old/x", 301, "Location", "/new/x"},
		{"redirects only", "GET", "moved.test", "/gone", 308, "Location", "https://a.test/"},
		{"no path", "GET", "moved.test", "/else", 404, "Cache-Control", "no-store"},
		{"method", "POST", "a.test", "/read/x", 405, "Allow", "GET, HEAD"},
		{"TRACE", "TRACE", "a.test", "/", 405, "Cache-Control", "no-store"},
	}
	e.each(t, func(t *testing.T, c *client) {
		for _, test := range tests {
			t.Run(test.name, func(t *testing.T) {
				r := c.request(t, test.method, test.path, nil)
				r.Host = test.host
				resp, body := c.do(t, r)
				if resp.StatusCode != test.status {
					t.Fatalf("status %d, want %d (%s)", resp.StatusCode, test.status, body)
				}
				if got := resp.Header.Get(test.field); got != test.value {
					t.Errorf("%s: %q, want %q", test.field, got, test.value)
				}
				if resp.Header.Get("Content-Type") != "text/plain; charset=utf-8" || !strings.HasPrefix(body, fmt.Sprint(test.status)) {
					t.Errorf("fields %v, body %q", resp.Header, body)
				}
				if resp.ContentLength != int64(len(body)) {
					t.Errorf("Content-Length %d of %d bytes", resp.ContentLength, len(body))
				}
			})
		}
	})
}

func TestJudgeCanKeepARequestFromLookup(t *testing.T) {
	o := setup{lookup: func(*cache.Request) (cache.Hit, bool) { panic("looked up") }}
	seam := o.fill(t)
	seam.Judge = func(*route.Route, string, netip.Addr) access.Verdict {
		return access.Verdict{Action: access.NeedsHandler}
	}
	e := startSeam(t, o, seam)
	if resp, _ := e.h1().get(t, "/"); resp.StatusCode != 200 {
		t.Error(resp.Status)
	}
}

func TestHeaderLimitIsTheSameEverywhere(t *testing.T) {
	e := start(t, setup{config: Config{Limits: Limits{HeaderBytes: 8 << 10}}})
	e.each(t, func(t *testing.T, c *client) {
		for _, test := range []struct{ size, status int }{{7 << 10, 200}, {8<<10 + 1, 431}, {11 << 10, 431}} {
			r := c.request(t, "GET", "/", nil)
			r.Header.Set("X-Long", strings.Repeat("a", test.size))
			resp, err := c.Do(r)
			if err != nil && test.status == 431 {
				continue // the connection was cut
			} else if err != nil {
				t.Fatal(err)
			}
			_ = resp.Body.Close()
			if resp.StatusCode != test.status {
				t.Errorf("a field of %d bytes: %s, want %d", test.size, resp.Status, test.status)
			}
		}
	})
}

func TestHandlersAreBounded(t *testing.T) {
	release := make(chan struct{})
	entered := make(chan struct{}, 10)
	e := start(t, setup{
		config: Config{Limits: Limits{Handlers: 2}},
		handler: func(w http.ResponseWriter, r *http.Request) {
			entered <- struct{}{}
			<-release
		},
	})
	busy := []*client{e.h1(), e.h3()}
	done := make(chan int, 2)
	for _, c := range busy {
		go func() {
			resp, err := c.Get(c.base + "/")
			if err != nil {
				done <- 0
				return
			}
			_ = resp.Body.Close()
			done <- resp.StatusCode
		}()
		<-entered
	}
	e.each(t, func(t *testing.T, c *client) {
		resp, _ := c.get(t, "/")
		if resp.StatusCode != 503 || resp.Header.Get("Retry-After") != "1" {
			t.Errorf("%s, Retry-After %q", resp.Status, resp.Header.Get("Retry-After"))
		}
	})
	if n, refused := e.Stats().Gate.HandlersBusy.Load(), e.Stats().Gate.HandlersRefused.Load(); n != 2 || refused != 4 {
		t.Errorf("%d handlers busy, %d requests refused, want 2 and 4", n, refused)
	}
	close(release)
	for range busy {
		if status := <-done; status != 200 {
			t.Errorf("a request within the bound got %d", status)
		}
	}
	// A handler's place is free when its answer is out.
	eventually(t, "all places are free", func() bool { return e.Stats().Gate.HandlersBusy.Load() == 0 })
	if resp, _ := e.h2().get(t, "/"); resp.StatusCode != 200 {
		t.Errorf("after all: %s", resp.Status)
	}
}
