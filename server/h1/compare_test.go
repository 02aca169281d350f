package h1

// compare_test.go runs the same handlers on net/http's server and on the engine:
// what a client sees of status, fields, body, trailers, 1xx and aborts is the same,
// but for what docs/http.md lists.

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"log"
	"maps"
	"net"
	"net/http"
	"net/textproto"
	"slices"
	"strings"
	"testing"
	"time"
)

const (
	getRequest  = "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n"
	headRequest = "HEAD / HTTP/1.1\r\nHost: a.test\r\n\r\n"
	oldRequest  = "GET / HTTP/1.0\r\nHost: a.test\r\n\r\n"
	keptRequest = "GET / HTTP/1.0\r\nHost: a.test\r\nConnection: keep-alive\r\n\r\n"
	lastRequest = "GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n"
	postRequest = "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 5\r\n\r\nhello"
	chunkedPost = "POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 7\r\n\r\n"
)

var allRequests = []string{getRequest, headRequest, oldRequest, keptRequest, lastRequest, postRequest, chunkedPost}

// comparison is a handler that both serve. Content-Type is set before it is
// called: net/http guesses one otherwise.
type comparison struct {
	name    string
	handler http.HandlerFunc
}

var comparisons = []comparison{
	{"nothing", func(http.ResponseWriter, *http.Request) {}},
	{"status alone", func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(404) }},
	{"short", func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, "short") }},
	{"empty write", func(w http.ResponseWriter, r *http.Request) { _, _ = w.Write(nil) }},
	{"long", func(w http.ResponseWriter, r *http.Request) { _, _ = w.Write(pattern(100_000)) }},
	{"many writes", func(w http.ResponseWriter, r *http.Request) {
		for i := range 300 {
			fmt.Fprintf(w, "line %d\n", i)
		}
	}},
	{"length declared", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "5000")
		_, _ = w.Write(pattern(5000))
	}},
	{"more than declared", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "5")
		_, err := io.WriteString(w, "hello and more")
		if !errors.Is(err, http.ErrContentLength) {
			panic("no error")
		}
	}},
	{"less than declared", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "50")
		_, _ = io.WriteString(w, "hello")
		w.(http.Flusher).Flush()
	}},
	{"flush first", func(w http.ResponseWriter, r *http.Request) {
		w.(http.Flusher).Flush()
		_, _ = io.WriteString(w, "after the flush")
	}},
	{"flush between", func(w http.ResponseWriter, r *http.Request) {
		for range 3 {
			_, _ = io.WriteString(w, "part")
			w.(http.Flusher).Flush()
		}
	}},
	{"no content", func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(204)
		if _, err := io.WriteString(w, "x"); !errors.Is(err, http.ErrBodyNotAllowed) {
			panic("no error")
		}
	}},
	{"not modified", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Del("Content-Type")
		w.Header().Set("Etag", `"1"`)
		w.WriteHeader(304)
	}},
	{"second status", func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(201)
		w.WriteHeader(500)
		_, _ = io.WriteString(w, "made")
	}},
	{"fields after the status", func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(200)
		w.Header().Set("X-Late", "1")
	}},
	{"repeated fields", func(w http.ResponseWriter, r *http.Request) {
		w.Header()["Set-Cookie"] = []string{"a=1", "b=2"}
		w.Header().Set("X-Empty", "")
	}},
	{"fields that would break lines", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Split", "a\r\nSet-Cookie: b")
		w.Header()["bad name"] = []string{"x"}
	}},
	{"trailers", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Trailer", "X-Sum, X-None")
		_, _ = io.WriteString(w, "body")
		w.Header().Set("X-Sum", "42")
	}},
	{"trailers by prefix", func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "body")
		w.(http.Flusher).Flush()
		w.Header().Set(http.TrailerPrefix+"X-Sum", "42")
	}},
	{"trailers of an empty body", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Trailer", "X-Sum")
		w.WriteHeader(200)
		w.Header().Set("X-Sum", "42")
	}},
	{"early hints", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Link", "</a.css>; rel=preload")
		w.WriteHeader(103)
		w.Header().Add("Link", "</b.css>; rel=preload")
		w.WriteHeader(103)
		_, _ = io.WriteString(w, "final")
	}},
	{"processing", func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(102)
		w.WriteHeader(204)
	}},
	{"close asked", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Connection", "close")
		_, _ = io.WriteString(w, "the last")
	}},
	{"abort before anything", func(w http.ResponseWriter, r *http.Request) { panic(http.ErrAbortHandler) }},
	{"abort in the middle", func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "half")
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	}},
	{"abort of a known length", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "10")
		_, _ = io.WriteString(w, "half")
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	}},
	{"echo", func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%s %s %s %d %v %q %v %v", r.Method, r.Proto, r.Host, r.ContentLength, r.TransferEncoding, body, err, r.Trailer)
	}},
	{"request as told", func(w http.ResponseWriter, r *http.Request) {
		h := maps.Clone(r.Header)
		delete(h, "Content-Length")
		fmt.Fprint(w, r.Method, r.URL, r.RequestURI, r.ProtoMajor, r.ProtoMinor, h, r.Host, r.Close, len(r.Form))
	}},
	{"reads twice", func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		n, err := r.Body.Read(make([]byte, 1))
		fmt.Fprint(w, n, err)
	}},
	{"io.Copy", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "70000")
		_, _ = io.Copy(w, io.LimitReader(bytes.NewReader(pattern(70_000)), 70_000))
	}},
}

// seen is what a client saw.
type seen struct {
	informed []string // 1xx: status and fields
	status   int
	fields   string
	body     string
	bodyErr  string
	trailers string
	open     bool // the connection serves another request
	silent   bool // no answer at all
}

func look(t *testing.T, address, request string) (s seen) {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(c, request); err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(c)
	method, _, _ := strings.Cut(request, " ")
	for {
		resp, err := http.ReadResponse(r, &http.Request{Method: method})
		if err != nil {
			s.silent = true
			return s
		}
		if resp.StatusCode < 200 {
			s.informed = append(s.informed, fmt.Sprint(resp.StatusCode, sorted(resp.Header)))
			continue
		}
		s.status, s.fields = resp.StatusCode, sorted(resp.Header)+fmt.Sprint(resp.ContentLength, resp.TransferEncoding, resp.Close)
		body, err := io.ReadAll(resp.Body)
		s.body, s.trailers = string(body), sorted(resp.Trailer)
		if err != nil {
			s.bodyErr = "broken off"
			return s
		}
		break
	}
	if _, err := io.WriteString(c, lastRequest); err == nil {
		_, err = r.Peek(1)
		s.open = err == nil
	}
	return s
}

func sorted(h http.Header) string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(h)) {
		if name == "Connection" && slices.Equal(h[name], []string{"close"}) {
			continue // answer.Close tells the same
		}
		if name == "Date" && len(h[name]) == 1 {
			if _, err := http.ParseTime(h[name][0]); err == nil {
				continue
			}
		}
		fmt.Fprintf(&b, "%s=%q ", textproto.CanonicalMIMEHeaderKey(name), h[name])
	}
	return b.String()
}

// alike removes the intended differences from what net/http's client saw and from
// what ours did; docs/http.md tells of them.
func alike(name, request string, s seen) seen {
	if strings.Contains(request, "HTTP/1.0") {
		s.informed = nil // never sent to HTTP/1.0
		if s.bodyErr == "" && name == "abort in the middle" {
			s.bodyErr = "broken off" // by a reset, where net/http ends as if all were well
		}
		if s.bodyErr != "" {
			s.body = "" // a reset may take away what the client has not read
		}
	}
	return s
}

func TestLikeNetHTTP(t *testing.T) {
	for _, c := range comparisons {
		t.Run(c.name, func(t *testing.T) {
			handler := func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Type", "text/plain")
				c.handler(w, r)
			}
			standard := &http.Server{Handler: http.HandlerFunc(handler), ErrorLog: log.New(io.Discard, "", 0)}
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			served := make(chan error, 1)
			go func() { served <- standard.Serve(ln) }()
			defer func() {
				_ = standard.Close()
				<-served
			}()
			e := start(t, setup{handler: handler})
			for _, request := range allRequests {
				want := alike(c.name, request, look(t, ln.Addr().String(), request))
				got := alike(c.name, request, look(t, e.address, request))
				if fmt.Sprintf("%+v", got) != fmt.Sprintf("%+v", want) {
					t.Errorf("%q:\nengine   %.600s\nnet/http %.600s", request, fmt.Sprintf("%+v", got), fmt.Sprintf("%+v", want))
				}
			}
		})
	}
}
