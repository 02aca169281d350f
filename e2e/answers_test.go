package e2e

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
)

// oddAnswers are what no origin should say, by name. head is what stands before the
// fields that would have it stored; token is that of Proxy-Status, "" where the
// header is fine and the body breaks off: then the client must see that.
var oddAnswers = []struct{ name, head, rest, token string }{
	{"lengths that differ", "HTTP/1.1 200 OK", "Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", "http_protocol_error"},
	{"a list of lengths", "HTTP/1.1 200 OK", "Content-Length: 3, 3\r\n\r\nabc", "http_protocol_error"},
	{"a negative length", "HTTP/1.1 200 OK", "Content-Length: -3\r\n\r\nabc", "http_protocol_error"},
	{"a length with a sign", "HTTP/1.1 200 OK", "Content-Length: +3\r\n\r\nabc", "http_protocol_error"},
	{"a hexadecimal length", "HTTP/1.1 200 OK", "Content-Length: 0x3\r\n\r\nabc", "http_protocol_error"},
	{"a length beside chunks", "HTTP/1.1 200 OK", "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", "http_protocol_error"},
	{"chunks twice", "HTTP/1.1 200 OK", "Transfer-Encoding: chunked, chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", "http_response_transfer_coding"},
	{"chunks inside of gzip", "HTTP/1.1 200 OK", "Transfer-Encoding: chunked, gzip\r\n\r\n3\r\nabc\r\n0\r\n\r\n", "http_response_transfer_coding"},
	{"an unknown coding", "HTTP/1.1 200 OK", "Transfer-Encoding: xchunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", "http_response_transfer_coding"},
	{"chunks in HTTP/1.0", "HTTP/1.0 200 OK", "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", "http_protocol_error"},
	{"NUL in a value", "HTTP/1.1 200 OK", "X: a\x00b\r\nContent-Length: 3\r\n\r\nabc", "http_protocol_error"},
	{"CR in a value", "HTTP/1.1 200 OK", "X: a\rb\r\nContent-Length: 3\r\n\r\nabc", "http_protocol_error"},
	{"a line that ends in LF", "HTTP/1.1 200 OK", "X: a\nContent-Length: 3\r\n\r\nabc", "http_protocol_error"},
	{"a folded line", "HTTP/1.1 200 OK", "X: a\r\n b\r\nContent-Length: 3\r\n\r\nabc", "http_protocol_error"},
	{"a space before the colon", "HTTP/1.1 200 OK", "Content-Length : 3\r\n\r\nabc", "http_protocol_error"},
	{"no colon", "HTTP/1.1 200 OK", "Content-Length 3\r\n\r\nabc", "http_protocol_error"},
	{"a space in a name", "HTTP/1.1 200 OK", "Set Cookie: a=b\r\nContent-Length: 3\r\n\r\nabc", "http_protocol_error"},
	{"an empty name", "HTTP/1.1 200 OK", ": x\r\nContent-Length: 3\r\n\r\nabc", "http_protocol_error"},
	{"101 that nobody asked for", "HTTP/1.1 101 Switching Protocols", "Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n", "http_upgrade_failed"},
	{"a status of two digits", "HTTP/1.1 20 OK", "Content-Length: 3\r\n\r\nabc", "http_protocol_error"},
	{"a status beyond 599", "HTTP/1.1 700 OK", "Content-Length: 3\r\n\r\nabc", "http_protocol_error"},
	{"no status", "HTTP/1.1 OK", "Content-Length: 3\r\n\r\nabc", "http_protocol_error"},
	{"another version", "HTTP/2.0 200 OK", "Content-Length: 3\r\n\r\nabc", "http_protocol_error"},
	{"another protocol", "ICY 200 OK", "Content-Length: 3\r\n\r\nabc", "http_protocol_error"},
	{"too many fields", "HTTP/1.1 200 OK", strings.Repeat("X: a\r\n", 300) + "Content-Length: 3\r\n\r\nabc", "http_response_header_section_size"},
	{"a header without end", "HTTP/1.1 200 OK", "X: " + strings.Repeat("x", 100<<10), "http_response_header_section_size"},
	{"too many informational answers", strings.Repeat("HTTP/1.1 103 Early Hints\r\n\r\n", 20) + "HTTP/1.1 200 OK", "Content-Length: 3\r\n\r\nabc", "http_protocol_error"},

	{"a short body", "HTTP/1.1 200 OK", "Content-Length: 10\r\n\r\nabc", ""},
	{"no last chunk", "HTTP/1.1 200 OK", "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", ""},
	{"no end of trailers", "HTTP/1.1 200 OK", "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n", ""},
	{"a short chunk", "HTTP/1.1 200 OK", "Transfer-Encoding: chunked\r\n\r\n5\r\nabc\r\n0\r\n\r\n", ""},
	{"a long chunk", "HTTP/1.1 200 OK", "Transfer-Encoding: chunked\r\n\r\n2\r\nabc\r\n0\r\n\r\n", ""},
	{"a size that is none", "HTTP/1.1 200 OK", "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0x1\r\nd\r\n0\r\n\r\n", ""},
	{"a size without end", "HTTP/1.1 200 OK", "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n00000000000000000001\r\nd\r\n0\r\n\r\n", ""},
	{"chunk lines that end in LF", "HTTP/1.1 200 OK", "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n1\nd\n0\n\n", ""},
	{"an extension without end", "HTTP/1.1 200 OK", "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n1;" + strings.Repeat("x", 8<<10) + "\r\nd\r\n0\r\n\r\n", ""},
	{"NUL in a trailer", "HTTP/1.1 200 OK", "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX: \x00\r\n\r\n", ""},
}

// oddOrigin answers /N with the N-th odd answer and leaves the connection open for
// what may come next, which must not be a request.
type oddOrigin struct {
	address string
	mu      sync.Mutex
	asked   [64]int // by answer
	again   int     // requests on a connection after an odd answer
}

func startOddOrigin(t *testing.T) *oddOrigin {
	t.Helper()
	o := &oddOrigin{address: address(t)}
	listener, err := net.Listen("tcp", o.address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go o.serve(conn)
		}
	}()
	return o
}

func (o *oddOrigin) serve(conn net.Conn) {
	defer conn.Close()
	r := bufio.NewReader(conn)
	for n := 0; ; n++ {
		request, err := http.ReadRequest(r)
		if err != nil {
			return
		}
		var i int
		fmt.Sscanf(request.URL.Path, "/%d", &i)
		o.mu.Lock()
		o.asked[i]++
		if n > 0 {
			o.again++
		}
		o.mu.Unlock()
		a := oddAnswers[i]
		io.WriteString(conn, a.head+"\r\nCache-Control: public, max-age=3600\r\n"+a.rest)
		if a.token == "" {
			return // so that a part ends
		}
	}
}

// What an origin says out of order is an answer to nobody: 502 that tells why, or a
// body that breaks off visibly; nothing is stored, and the connection is not used
// again.
func TestOddAnswers(t *testing.T) {
	o := startOddOrigin(t)
	n, _ := startConfigured(t, `data: {data}
server: {http: ["{http}"], access_log: {format: "off"}}
admin: {listen: "{admin}"}
origins: {odd: {url: "http://`+o.address+`", header_timeout: 5s, stall_timeout: 5s, breaker: {off: true}, retries: {off: true}}}
hosts: [{names: ["*"], origin: odd}]
`)
	client := &http.Client{Transport: &http.Transport{DisableCompression: true}}
	defer client.CloseIdleConnections()
	for i, a := range oddAnswers {
		for round := range 2 {
			resp, err := client.Get(fmt.Sprintf("http://%s/%d", n.http, i))
			if err != nil {
				t.Errorf("%s: %v", a.name, err)
				continue
			}
			text, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if a.token == "" {
				if err == nil {
					t.Errorf("%s: ends as if it were whole: %q", a.name, text)
				}
				continue
			}
			status := resp.Header.Get("Proxy-Status")
			if resp.StatusCode != 502 || !strings.HasSuffix(status, "; error="+a.token) {
				t.Errorf("%s: %d, Proxy-Status: %s, want 502 and %s", a.name, resp.StatusCode, status, a.token)
			}
			if got := resp.Header.Get("Cache-Status"); strings.Contains(got, "hit") || strings.Contains(got, "stored") {
				t.Errorf("%s, round %d: Cache-Status: %s", a.name, round, got)
			}
		}
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	for i, a := range oddAnswers {
		if o.asked[i] != 2 {
			t.Errorf("%s: the origin was asked %d times for two requests", a.name, o.asked[i])
		}
	}
	if o.again != 0 {
		t.Errorf("%d requests came on connections on which odd things had been said", o.again)
	}
	if stored := count(t, n, `edge_cache_stored_total`); stored != 0 {
		t.Errorf("%v responses are stored", stored)
	}
}
