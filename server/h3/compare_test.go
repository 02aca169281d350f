package h3

// compare_test.go has the same handlers answer behind quic-go's http3.Server and
// behind the engine, and compares what a client sees. Intended differences are
// listed in docs/http.md and in differs.

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/quic-go/quic-go/http3"
)

// seen is what a client sees of an answer.
type seen struct {
	Status   int
	Header   http.Header
	Length   int64
	Body     string
	Trailer  http.Header
	Informed []string
	Failed   bool
}

// scripted answers by the request's path.
func scripted(w http.ResponseWriter, r *http.Request) {
	flush := func() { _ = http.NewResponseController(w).Flush() }
	switch strings.TrimPrefix(r.URL.Path, "/h/") {
	case "nothing":
	case "short":
		_, _ = io.WriteString(w, "short")
	case "in parts":
		for _, part := range []string{"a", "bc", "def"} {
			_, _ = io.WriteString(w, part)
		}
	case "flushed":
		_, _ = io.WriteString(w, "first ")
		flush()
		_, _ = io.WriteString(w, "second")
	case "flushed at once":
		flush()
		_, _ = io.WriteString(w, "body")
	case "long":
		_, _ = w.Write(content(300_000))
	case "length":
		w.Header().Set("Content-Length", "5")
		_, _ = io.WriteString(w, "12345")
	case "length, long":
		w.Header().Set("Content-Length", "300000")
		_, _ = w.Write(content(100_000))
		_, _ = w.Write(content(200_000))
	case "length too long":
		w.Header().Set("Content-Length", "10")
		_, _ = io.WriteString(w, "12345")
	case "length too short":
		w.Header().Set("Content-Length", "3")
		_, err := io.WriteString(w, "12345")
		if !errors.Is(err, http.ErrContentLength) {
			panic(err)
		}
	case "fields":
		w.Header()["Set-Cookie"] = []string{"a=1", "b=2"}
		w.Header().Set("X-Odd", "ü \" , ;")
		w.Header().Set("X-Empty", "")
		w.Header().Set("x-lower", "case")
		w.WriteHeader(http.StatusTeapot)
	case "status twice":
		w.WriteHeader(http.StatusAccepted)
		w.WriteHeader(http.StatusTeapot)
	case "fields after status":
		w.WriteHeader(http.StatusOK)
		w.Header().Set("X-Late", "yes")
		_, _ = io.WriteString(w, "body")
	case "hints":
		w.Header().Set("Link", "</a>; rel=preload")
		w.WriteHeader(http.StatusEarlyHints)
		w.Header().Add("Link", "</b>; rel=preload")
		w.WriteHeader(http.StatusEarlyHints)
		_, _ = io.WriteString(w, "body")
	case "trailers":
		w.Header().Set("Trailer", "Sum, Unset")
		_, _ = io.WriteString(w, "body")
		w.Header().Set("Sum", "1")
	case "trailers by prefix":
		_, _ = io.WriteString(w, "body")
		flush()
		w.Header().Set(http.TrailerPrefix+"Sum", "1")
	case "trailers without a body":
		w.Header().Set("Trailer", "Sum")
		w.WriteHeader(http.StatusOK)
		w.Header().Set("Sum", "1")
	case "no content":
		w.WriteHeader(http.StatusNoContent)
		if _, err := io.WriteString(w, "body"); !errors.Is(err, http.ErrBodyNotAllowed) {
			panic(err)
		}
	case "not modified":
		w.Header().Set("Etag", `"1"`)
		w.WriteHeader(http.StatusNotModified)
	case "abort":
		panic(http.ErrAbortHandler)
	case "abort in the middle":
		_, _ = w.Write(content(100_000))
		flush()
		panic(http.ErrAbortHandler)
	case "echo":
		body, err := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%s %q %d %d %v %v %v %q", r.Method, body, len(body), r.ContentLength, err, r.Header["X-Asked"], r.Trailer, r.RequestURI)
	case "unread":
		_, _ = io.WriteString(w, "did not read")
	}
}

// ask sends a request and notes all that comes.
func observe(c *http.Client, r *http.Request) (s seen) {
	trace := &httptrace.ClientTrace{Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
		s.Informed = append(s.Informed, strconv.Itoa(code)+" "+strings.Join(h["Link"], ", "))
		return nil
	}}
	resp, err := c.Do(r.WithContext(httptrace.WithClientTrace(r.Context(), trace)))
	if err != nil {
		return seen{Failed: true}
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return seen{Failed: true} // how much came before does not matter
	}
	resp.Header.Del("Date") // another one
	s.Status, s.Header, s.Length, s.Body, s.Trailer = resp.StatusCode, resp.Header, resp.ContentLength, string(body), resp.Trailer
	return s
}

// differs makes of what http3.Server said what is meant to be said here.
func differs(method, name string, theirs, ours *seen) {
	withoutLength := func() {
		theirs.Header.Del("Content-Length")
		theirs.Length = -1
	}
	theirs.Header.Del("Content-Type") // is not guessed
	switch {
	case name == "fields after status":
		theirs.Header.Del("X-Late") // too late, as with net/http's servers
	case strings.HasPrefix(name, "trailers") && name != "trailers by prefix":
		withoutLength() // where trailers are announced
	case name == "echo" && (method == "GET" || method == "HEAD"):
		// A request without a body has a length: 0.
		theirs.Body = strings.Replace(theirs.Body, "0 -1", "0 0", 1)
		theirs.Header, theirs.Length = ours.Header, ours.Length
	}
	if method == "HEAD" {
		if ours.Length < 0 {
			withoutLength() // only that of a short body is known without making it
		}
		if theirs.Trailer != nil {
			theirs.Trailer = ours.Trailer // announced, not sent
			for _, values := range ours.Trailer {
				if len(values) > 0 {
					theirs.Trailer = nil
				}
			}
		}
	}
}

// reference runs scripted behind http3.Server.
func reference(t *testing.T) *http.Client {
	t.Helper()
	ln, roots, stop := listen(t, nil, quicConfig(100, false))
	server := &http3.Server{Handler: http.HandlerFunc(scripted)}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = server.ServeListener(ln)
	}()
	t.Cleanup(func() {
		_ = server.Close()
		stop()
		<-served
	})
	config := insecure()
	config.RootCAs, config.InsecureSkipVerify = roots, false
	return newClient(t, ln.Addr().(*net.UDPAddr), config)
}

func TestAsHTTP3Server(t *testing.T) {
	e := start(t, setup{handler: scripted})
	ours, theirs := e.client(), reference(t)
	for _, method := range []string{"GET", "HEAD", "POST", "PUT"} {
		for _, name := range []string{"nothing", "short", "in parts", "flushed", "flushed at once", "long", "length", "length, long", "length too long", "length too short",
			"fields", "status twice", "fields after status", "hints", "trailers", "trailers by prefix", "trailers without a body", "no content", "not modified",
			"abort", "abort in the middle", "echo", "unread"} {
			t.Run(method+" "+name, func(t *testing.T) {
				request := func() *http.Request {
					var body io.Reader
					if method == "POST" {
						body = bytes.NewReader(content(100))
					} else if method == "PUT" {
						body = io.MultiReader(bytes.NewReader(content(20_000))) // of unknown length
					}
					r, err := http.NewRequestWithContext(context.Background(), method, "https://edge.test/h/"+strings.ReplaceAll(name, " ", "%20")+"?q=1", body)
					if err != nil {
						t.Fatal(err)
					}
					r.Header["X-Asked"] = []string{"1", "2"}
					if method == "PUT" {
						r.Trailer = http.Header{"Check": {"sum"}}
					}
					return r
				}
				got, want := observe(ours, request()), observe(theirs, request())
				differs(method, name, &want, &got)
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("http3.Server - and engine +\n%s", diff)
				}
			})
		}
	}
}
