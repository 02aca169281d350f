package h2

import (
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/textproto"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// story is a handler and the request that it gets.
type story struct {
	name    string
	method  string // default GET
	body    string // sent without a length where there are trailers
	fields  []string
	trailer http.Header
	handler http.HandlerFunc
	differs string // row of docs/http.md that says so
}

func flush(w http.ResponseWriter) { _ = http.NewResponseController(w).Flush() }

var stories = []story{
	{name: "nothing", handler: func(http.ResponseWriter, *http.Request) {}},
	{name: "short body", handler: func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, "short") }},
	{name: "long body", handler: func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, strings.Repeat("x", 100_000)) }},
	{name: "many writes", handler: func(w http.ResponseWriter, r *http.Request) {
		for i := range 5000 {
			fmt.Fprintln(w, i)
		}
	}},
	{name: "length", handler: func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "5")
		_, _ = io.WriteString(w, "12345")
	}},
	{name: "more than the length", handler: func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "5")
		n, err := io.WriteString(w, "12345")
		m, err2 := io.WriteString(w, "6")
		w.Header().Set(http.TrailerPrefix+"X-Said", fmt.Sprint(n, err, m, err2))
	}, differs: "content beyond the announced length"},
	{name: "less than the length", handler: func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "5")
		_, _ = io.WriteString(w, "123")
		flush(w)
	}},
	{name: "HEAD", method: "HEAD", handler: func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, "counted, not sent") }},
	{name: "HEAD with a length", method: "HEAD", handler: func(w http.ResponseWriter, r *http.Request) { w.Header().Set("Content-Length", "1000") }},
	{name: "204", handler: func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(204) }},
	{name: "204 with a body", handler: func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(204)
		_, err := io.WriteString(w, "no")
		if !errors.Is(err, http.ErrBodyNotAllowed) {
			panic(err)
		}
	}},
	{name: "304", handler: func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Etag", `"1"`)
		w.Header().Del("Content-Type")
		w.WriteHeader(304)
	}},
	{name: "odd status", handler: func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(799) }},
	{name: "error", handler: func(w http.ResponseWriter, r *http.Request) { http.Error(w, "no", http.StatusServiceUnavailable) }},
	{name: "redirect", handler: func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "/there", http.StatusTemporaryRedirect)
	}},
	{name: "twice the header", handler: func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(201)
		w.WriteHeader(500)
	}},
	{name: "fields after the header", handler: func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(200)
		w.Header().Set("X-Late", "no")
	}},
	{name: "repeated fields", handler: func(w http.ResponseWriter, r *http.Request) {
		w.Header()["Set-Cookie"] = []string{"a=1", "b=2"}
		w.Header()["X-Empty"] = []string{""}
	}},
	{name: "fields of the connection", handler: func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Keep-Alive", "timeout=1")
		w.Header().Set("Transfer-Encoding", "chunked")
		w.Header().Set("Upgrade", "h2c")
		w.Header().Set("Proxy-Connection", "close")
	}, differs: "fields of the connection that the handler sets"},
	{name: "large header", handler: func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Large", strings.Repeat("y\x80", 20_000))
	}},
	{name: "trailers", handler: func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Trailer", "X-A, X-B")
		_, _ = io.WriteString(w, "body")
		w.Header().Set("X-A", "1")
		w.Header().Set(http.TrailerPrefix+"X-C", "3")
	}, differs: "content-length beside announced trailers"},
	{name: "trailers alone", handler: func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Trailer", "Grpc-Status")
		w.WriteHeader(200)
		w.Header().Set("Grpc-Status", "0")
	}, differs: "content-length beside announced trailers"},
	{name: "no content type", handler: func(w http.ResponseWriter, r *http.Request) {
		w.Header().Del("Content-Type")
		_, _ = io.WriteString(w, "<html>")
	}, differs: "Content-Type that the handler does not set"},
	{name: "hints", handler: func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Link", "</a>; rel=preload")
		w.WriteHeader(103)
		w.WriteHeader(103)
		w.WriteHeader(200)
	}},
	{name: "abort", handler: func(w http.ResponseWriter, r *http.Request) { panic(http.ErrAbortHandler) }},
	{name: "abort after the header", handler: func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(200)
		flush(w)
		panic(http.ErrAbortHandler)
	}},
	{name: "abort in the body", handler: func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, strings.Repeat("z", 50_000))
		flush(w)
		panic(http.ErrAbortHandler)
	}},
	{name: "panic in the body", handler: func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "half")
		flush(w)
		panic("a bug")
	}},
	{name: "echo", method: "POST", body: strings.Repeat("request ", 5000), handler: func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Length", fmt.Sprint(r.ContentLength))
		_, _ = io.Copy(w, r.Body)
	}},
	{name: "request trailers", method: "POST", body: "upload", trailer: http.Header{"X-Sum": {"42"}}, handler: func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%q %v %v %d", body, err, r.Trailer, r.ContentLength)
	}},
	{name: "unread request", method: "POST", body: strings.Repeat("x", 10_000), handler: func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(403)
	}},
	{name: "what is known of a request", method: "PATCH", body: "x", fields: []string{"Cookie", "a=1", "Cookie", "b=2", "X-Twice", "1", "X-Twice", "2", "Te", "trailers"}, handler: func(w http.ResponseWriter, r *http.Request) {
		var names []string
		for name := range r.Header {
			names = append(names, name)
		}
		slices.Sort(names)
		for _, name := range names {
			fmt.Fprintf(w, "%s: %q\n", name, r.Header[name])
		}
		fmt.Fprintln(w, r.Method, r.URL, r.RequestURI, r.Proto, r.ProtoMajor, r.ProtoMinor, r.ContentLength, r.TransferEncoding, r.TLS != nil, r.Close)
	}},
}

// seen is what a client sees of an answer.
type seen struct {
	Early   []string
	Status  int
	Header  http.Header
	Length  int64
	Body    string
	Trailer http.Header
	Failed  string // where: "" nowhere
}

func ask(t *testing.T, client *http.Client, base string, s story) (got seen) {
	var body io.Reader
	if s.body != "" {
		body = strings.NewReader(s.body)
		if s.trailer != nil {
			body = io.MultiReader(body)
		}
	}
	r, err := http.NewRequest(s.method, base+"/a%2Fb?c=d", body)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(s.fields); i += 2 {
		r.Header.Add(s.fields[i], s.fields[i+1])
	}
	r.Trailer = s.trailer
	r = r.WithContext(httptrace.WithClientTrace(r.Context(), &httptrace.ClientTrace{Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
		got.Early = append(got.Early, fmt.Sprint(code, h["Link"]))
		return nil
	}}))
	resp, err := client.Do(r)
	if err != nil {
		got.Failed = "before the header"
		return got
	}
	defer resp.Body.Close()
	content, err := io.ReadAll(resp.Body)
	if err != nil {
		got.Failed = "in the body"
	}
	if resp.Header.Get("Date") == "" {
		got.Failed += ", no date"
	}
	resp.Header.Del("Date")
	got.Status, got.Header, got.Length, got.Body, got.Trailer = resp.StatusCode, resp.Header, resp.ContentLength, string(content), resp.Trailer
	return got
}

// TestLikeNetHTTP: clients see the same of a handler here as behind net/http's
// HTTP/2. What is meant to differ is in docs/http.md.
func TestLikeNetHTTP(t *testing.T) {
	page, err := os.ReadFile("../../docs/http.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range stories {
		t.Run(s.name, func(t *testing.T) {
			handler := func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Type", "text/plain")
				s.handler(w, r)
			}
			theirs := httptest.NewUnstartedServer(http.HandlerFunc(handler))
			theirs.EnableHTTP2 = true
			theirs.Config.ErrorLog = log.New(io.Discard, "", 0)
			theirs.StartTLS()
			defer theirs.Close()
			peer := theirs.Client()
			peer.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
			peer.Transport.(*http.Transport).DisableCompression = true
			e := start(t, setup{handler: handler})
			ours := e.overTLS()
			want, got := ask(t, peer, theirs.URL, s), ask(t, ours.Client, ours.base, s)
			diff := cmp.Diff(want, got)
			switch {
			case s.differs == "" && diff != "":
				t.Errorf("net/http and edge differ (-net/http +edge):\n%s", diff)
			case s.differs != "" && (diff == "" || !strings.Contains(string(page), "\n| "+s.differs+" |")):
				t.Errorf("docs/http.md is wrong about %q", s.differs)
			}
		})
	}
}
