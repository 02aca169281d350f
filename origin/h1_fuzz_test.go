package origin

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"
)

// scriptedConn is an origin that has said all that it will say.
type scriptedConn struct {
	net.Conn
	r      io.Reader
	closed bool
}

func (c *scriptedConn) Read(p []byte) (int, error)       { return c.r.Read(p) }
func (c *scriptedConn) Write(p []byte) (int, error)      { return len(p), nil }
func (c *scriptedConn) Close() error                     { c.closed = true; return nil }
func (c *scriptedConn) SetDeadline(time.Time) error      { return nil }
func (c *scriptedConn) SetReadDeadline(time.Time) error  { return nil }
func (c *scriptedConn) SetWriteDeadline(time.Time) error { return nil }

// verdict is what became of an answer.
type verdict struct {
	head, whole bool
	status      int
	fields      string
	body        string
	trailers    string
	reused      bool
	err         error
}

func fieldsOf(h http.Header) string {
	var lines []string
	for name, values := range h {
		if name == "Trailer" {
			continue // moved to where net/http has it, where chunks follow
		}
		for _, value := range values {
			lines = append(lines, fmt.Sprintf("%s: %q", name, value))
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// ours reads an answer with the client, in reads of the given size.
func ours(t *testing.T, method string, answer []byte, size int) (v verdict) {
	t.Helper()
	stats := &Stats{}
	cfg := Config{}.WithDefaults()
	nc := &scriptedConn{r: bytes.NewReader(answer)}
	client := newH1Client(&cfg, &url.URL{}, stats, nil)
	client.pool.add(newH1Conn(nc, stats))
	r, err := http.NewRequest(method, "http://client.example/", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, fields, err := client.roundTrip(message{Request: r, host: "client.example", target: "/"})
	if v.err = err; err == nil {
		v.head, v.status, v.fields = true, resp.StatusCode, fieldsOf(mapOf(fields))
		var body bytes.Buffer
		_, v.err = io.CopyBuffer(&body, struct{ io.Reader }{resp.Body}, make([]byte, size))
		v.whole, v.body, v.trailers = v.err == nil, body.String(), fieldsOf(resp.Trailer)
		if err := resp.Body.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	}
	v.reused = !nc.closed
	if n := stats.Active.Load(); n != 0 {
		t.Errorf("%d are active", n)
	}
	if open := len(client.pool.resting); (open == 1) != v.reused || client.pool.open != open {
		t.Errorf("closed: %v, but %d rest and %d are open", nc.closed, open, client.pool.open)
	}
	return v
}

// theirs reads it as net/http does, past informational responses.
func theirs(method string, answer []byte) (v verdict, left int) {
	r := bufio.NewReaderSize(bytes.NewReader(answer), len(answer)+16)
	for {
		resp, err := http.ReadResponse(r, &http.Request{Method: method})
		if v.err = err; err != nil {
			return v, 0
		}
		if resp.StatusCode >= 100 && resp.StatusCode < 200 {
			continue
		}
		v.head, v.status, v.fields = true, resp.StatusCode, fieldsOf(resp.Header)
		body, err := io.ReadAll(resp.Body)
		v.err, v.whole, v.body, v.trailers = err, err == nil, string(body), fieldsOf(resp.Trailer)
		return v, r.Buffered()
	}
}

// FuzzAnswer holds the client to net/http's reading of the same bytes: what we take
// for a whole response is one to net/http too, and the same. What net/http takes and
// we refuse stands in docs/origins.md; see TestStricterThanNetHTTP.
func FuzzAnswer(f *testing.F) {
	for _, text := range answerSeeds {
		f.Add("GET", []byte(text), 7)
		f.Add("HEAD", []byte(text), 512)
	}
	f.Fuzz(func(t *testing.T, method string, answer []byte, size int) {
		if method != http.MethodHead {
			method = http.MethodGet
		}
		mine := ours(t, method, answer, min(max(size, 1), 64<<10))
		std, left := theirs(method, answer)
		if mine.reused && left > 0 {
			t.Errorf("reused with %d bytes left", left)
		}
		if !mine.head {
			return
		}
		if !std.head && strings.Contains(std.err.Error(), "bad trailer key") {
			return // we ignore what may not stand in trailers (RFC 9110 6.5.1)
		}
		if !std.head {
			t.Fatalf("net/http refuses what we take: %v", std.err)
		}
		if mine.status != std.status || mine.fields != std.fields {
			t.Fatalf("%d\n%s\nto net/http %d\n%s", mine.status, mine.fields, std.status, std.fields)
		}
		if !mine.whole {
			return
		}
		if !std.whole || mine.body != std.body {
			t.Fatalf("%q\nto net/http %v %q", mine.body, std.err, std.body)
		}
		for line := range strings.SplitSeq(mine.trailers, "\n") {
			if !strings.Contains(std.trailers, line) {
				t.Fatalf("trailers %q, to net/http %q", mine.trailers, std.trailers)
			}
		}
	})
}

var answerSeeds = []string{
	"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc",
	"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabcHTTP/1.1 200 OK\r\n\r\n",
	"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 204 No Content\r\nA: b\r\nA: c\r\n\r\n",
	"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: A, Content-Length\r\n\r\n3;x=\"y\"\r\nabc\r\n01\r\nd\r\n0\r\nA: b\r\n\r\n",
	"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n\r\nto the end",
	"HTTP/1.1 304 Not Modified\r\nContent-Length: 10\r\nETag: \"x\"\r\n\r\n",
	"HTTP/1.1 200\r\nx-Y_z: \x80\t1 \r\n\r\n",
}

// TestStricterThanNetHTTP lists what net/http takes and we refuse. The table in
// docs/origins.md has a line for each.
func TestStricterThanNetHTTP(t *testing.T) {
	const head = "HTTP/1.1 200 OK\r\n"
	for name, text := range map[string]string{
		"lines that end in LF alone":        "HTTP/1.1 200 OK\nContent-Length: 0\n\n",
		"a folded line":                     head + "A: b\r\n c\r\nContent-Length: 0\r\n\r\n",
		"a space before the colon":          head + "A : b\r\nContent-Length: 0\r\n\r\n",
		"Content-Length beside chunks":      head + "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"Transfer-Encoding in HTTP/1.0":     "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx",
		"a status beyond 599":               "HTTP/1.1 999 OK\r\nContent-Length: 0\r\n\r\n",
		"another version":                   "HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n",
		"a malformed chunk extension":       head + "Transfer-Encoding: chunked\r\n\r\n1;=\r\nx\r\n0\r\n\r\n",
		"more than 256 fields":              head + strings.Repeat("A: b\r\n", 257) + "Content-Length: 0\r\n\r\n",
		"spaces around the size of a chunk": head + "Transfer-Encoding: chunked\r\n\r\n1 \r\nx\r\n0\r\n\r\n",
		"a control character in the reason": "HTTP/1.1 200 O\x01K\r\nContent-Length: 0\r\n\r\n",
		"a length of more than 18 digits":   head + "Content-Length: 0000000000000000003\r\n\r\nabc",
	} {
		std, _ := theirs("GET", []byte(text))
		mine := ours(t, "GET", []byte(text), 512)
		if !std.whole {
			t.Errorf("%s: net/http refuses it, too: %v", name, std.err)
		}
		if mine.whole || mine.reused {
			t.Errorf("%s: taken", name)
		}
	}
}
