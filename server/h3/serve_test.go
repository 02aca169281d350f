package h3

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/quic-go/quic-go/http3"
)

func TestHits(t *testing.T) {
	e := start(t, setup{altSvc: `h3=":443"`})
	c := e.client()
	for _, n := range []int{0, 1, 1000, 100_000, 1_000_000} {
		path := fmt.Sprint("/", n)
		for i, want := range []string{"edge; fwd=uri-miss", "edge; hit"} {
			resp, body := get(t, c, path)
			if status := resp.Header.Get("Cache-Status"); !strings.HasPrefix(status, want) {
				t.Errorf("%s, time %d: Cache-Status %q, want %q", path, i, status, want)
			}
			if body != string(content(n)) || resp.StatusCode != 200 || resp.ContentLength != int64(n) || resp.Header.Get("Alt-Svc") != `h3=":443"` {
				t.Errorf("%s, time %d: %d, %d bytes, %v", path, i, resp.StatusCode, len(body), resp.Header)
			}
		}
	}
	for _, tt := range []struct {
		method, field, value string
		status               int
		body                 string
	}{
		{"HEAD", "Accept", "*/*", 200, ""},
		{"GET", "If-None-Match", `"abcdefabcdef"`, 304, ""},
		{"GET", "Range", "bytes=10-14", 206, "01234"},
		{"GET", "Range", "bytes=2000-", 416, ""},
	} {
		r, _ := http.NewRequest(tt.method, "https://edge.test/1000", nil)
		r.Header.Set(tt.field, tt.value)
		resp, err := c.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		if body := readAll(t, resp); resp.StatusCode != tt.status || body != tt.body || !strings.HasPrefix(resp.Header.Get("Cache-Status"), "edge; hit") {
			t.Errorf("%s with %s: %d %q %v", tt.method, tt.field, resp.StatusCode, body, resp.Header)
		}
	}
}

func TestManyAtOnce(t *testing.T) {
	e := start(t, setup{})
	c := e.client()
	get(t, c, "/1000")
	get(t, c, "/50000")
	var all sync.WaitGroup
	for i := range 20 {
		all.Go(func() {
			for range 50 {
				n := 1000
				if i%4 == 0 {
					n = 50000
				}
				resp, err := c.Get(fmt.Sprint("https://edge.test/", n))
				if err != nil {
					t.Error(err)
					return
				}
				body, err := io.ReadAll(resp.Body)
				_ = resp.Body.Close()
				if err != nil || string(body) != string(content(n)) {
					t.Errorf("%d bytes, %v", len(body), err)
					return
				}
			}
		})
	}
	all.Wait()
}

func TestReplies(t *testing.T) {
	e := start(t, setup{})
	c := e.client()
	r, _ := http.NewRequest("GET", "https://edge.test/1000", nil)
	r.Host = "other.test"
	resp, err := c.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	if body := readAll(t, resp); resp.StatusCode != 421 || !strings.HasPrefix(body, "421 ") || resp.Header.Get("Date") == "" || resp.ContentLength != int64(len(body)) {
		t.Errorf("%d %q %v", resp.StatusCode, body, resp.Header)
	}
}

func TestBodies(t *testing.T) {
	e := start(t, setup{handler: func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Trailer", "Sum")
		n, err := io.Copy(w, r.Body)
		w.Header().Set("Sum", fmt.Sprintf("%d %v %q %d", n, err, r.Trailer.Get("Check"), r.ContentLength))
	}})
	c := e.client()
	for _, n := range []int{0, 1, 5000, 3_000_000} {
		for _, known := range []bool{true, false} {
			r, _ := http.NewRequest("POST", "https://edge.test/h/echo", io.MultiReader(bytes.NewReader(content(n))))
			var want string
			if known {
				r.ContentLength = int64(n)
				want = fmt.Sprintf("%d <nil> %q %d", n, "", n)
				if n == 0 {
					r.Body = http.NoBody
				}
			} else {
				r.Trailer = http.Header{"Check": {"yes"}}
				want = fmt.Sprintf("%d <nil> %q -1", n, "yes")
			}
			resp, err := c.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			body := readAll(t, resp)
			if got := resp.Trailer.Get("Sum"); got != want || body != string(content(n)) {
				t.Errorf("%d bytes, known %v: %d came back, trailers %v, want %q", n, known, len(body), resp.Trailer, want)
			}
		}
	}
}

// TestClientGone has the handler's context end when the client stops the stream.
func TestClientGone(t *testing.T) {
	gone := make(chan struct{})
	e := start(t, setup{handler: func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(200)
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
		close(gone)
	}})
	ctx, cancel := context.WithCancel(context.Background())
	r, _ := http.NewRequestWithContext(ctx, "GET", "https://edge.test/h/", nil)
	resp, err := e.client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	wait(t, gone)
	_ = resp.Body.Close()
}

func TestAbort(t *testing.T) {
	e := start(t, setup{handler: func(w http.ResponseWriter, r *http.Request) {
		_, _ = w.Write(content(10_000))
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}})
	resp, err := e.client().Get("https://edge.test/h/")
	if err == nil { // the reset may overtake the header
		_, err = io.ReadAll(resp.Body)
		_ = resp.Body.Close()
	}
	var reset *http3.Error
	if !errors.As(err, &reset) || !reset.Remote || reset.ErrorCode != codeInternalError {
		t.Errorf("%v", err)
	}
}

// TestDrain has a request under way finish, and the connection end cleanly.
func TestDrain(t *testing.T) {
	inBubble(t, func(t *testing.T, n *network) {
		begun, proceed := make(chan struct{}), make(chan struct{})
		e := start(t, setup{network: n, handler: func(w http.ResponseWriter, r *http.Request) {
			close(begun)
			<-proceed
			_, _ = io.WriteString(w, "finished")
		}})
		q := e.dial()
		c := newTalk(t, q)
		s := c.open()
		s.write(headersFrame(getFields("/h/")...))
		s.close()
		wait(t, begun)
		e.Drain()
		if id := c.goaway(); id != goawayAny {
			t.Errorf("first GOAWAY names %d", id)
		}
		if id := c.goaway(); id != 4 {
			t.Errorf("second GOAWAY names %d, want 4", id)
		}
		late := c.open()
		late.write(headersFrame(getFields("/h/")...))
		late.close()
		late.wantReset(codeRequestRejected)
		close(proceed)
		if resp := s.response(); resp.body != "finished" {
			t.Errorf("%+v", resp)
		}
		c.wantClosed(codeNoError)
		if n := e.stats.Rejected.Load(); n != 1 {
			t.Errorf("%d rejected", n)
		}
	})
}
