package h1

// strict_test.go holds the engine to the table of docs/http.md: each row's bytes
// over a recording handler, and a request after them that must not be read where
// the connection is said to be closed.

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"edgecdn/cache"
	"edgecdn/internal/unit"
	"edgecdn/server/gate"
)

// strictCase is a row of the table and bytes that it is about. In head, %H stands
// for a line with a good Host, and CRLF is written as "|".
type strictCase struct {
	row    string
	inputs []string
	sees   string // what the handler is told of a request that is passed; "" is not compared
	plain  bool   // inputs stand as they are
}

const long = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"

var strictCases = []strictCase{
	{row: "method in lower case", inputs: []string{"get / HTTP/1.1|%H|"}, sees: "get / a.test"},
	{row: "method that is no token", inputs: []string{"G(T / HTTP/1.1|%H|", "\x80ET / HTTP/1.1|%H|", "GE\x00T / HTTP/1.1|%H|", "GET,PUT / HTTP/1.1|%H|", ": / HTTP/1.1|%H|"}},
	{row: "whitespace before the request line", inputs: []string{" GET / HTTP/1.1|%H|", "\tGET / HTTP/1.1|%H|"}},
	{row: "tab, two spaces, or a space at the end in the request line", inputs: []string{"GET\t/ HTTP/1.1|%H|", "GET /\tHTTP/1.1|%H|", "GET  / HTTP/1.1|%H|", "GET /  HTTP/1.1|%H|", "GET / HTTP/1.1 |%H|", "GET / HTTP/1.1\t|%H|", "GET / a HTTP/1.1|%H|", "GET /\x0bHTTP/1.1|%H|"}},
	{row: "one empty line before the request", inputs: []string{"|GET / HTTP/1.1|%H|"}, sees: "GET / a.test"},
	{row: "two empty lines before the request, or one of LF alone", inputs: []string{"||GET / HTTP/1.1|%H|", "\nGET / HTTP/1.1|%H|", "\r\rGET / HTTP/1.1|%H|"}},
	{row: "HTTP/0.9", inputs: []string{"GET /||", "GET / |%H|", "GET|%H|"}},
	{row: "HTTP/1.2, HTTP/2.0, HTTP/3.0 in the request line", inputs: []string{"GET / HTTP/1.2|%H|", "GET / HTTP/2.0|%H|", "GET / HTTP/3.0|%H|", "GET / HTTP/0.9|%H|"}},
	{row: "version in lower case, with more digits, or none", inputs: []string{"GET / http/1.1|%H|", "GET / HTTP/1.10|%H|", "GET / HTTP/01.1|%H|", "GET / HTTP/1|%H|", "GET / HTTP/1.|%H|", "GET / HTTP/1.1.1|%H|", "GET / HTTP/ 1.1|%H|", "GET / HTP/1.1|%H|", "GET / HTTP/1.1x|%H|", "GET / HTTP/a.b|%H|"}},
	{row: "preface of HTTP/2 (PRI)", inputs: []string{"PRI * HTTP/2.0||SM||"}},
	{row: "fragment in the target", inputs: []string{"GET /a#b HTTP/1.1|%H|", "GET http://a.test/#b HTTP/1.1|%H|"}},
	{row: "bytes beyond ASCII, or controls, in the target", inputs: []string{"GET /\xc3\xa4 HTTP/1.1|%H|", "GET /\x7f HTTP/1.1|%H|", "GET /\x00 HTTP/1.1|%H|", "GET /\x1b HTTP/1.1|%H|", "GET /a\rb HTTP/1.1|%H|"}},
	{row: "empty target, or one without a slash", inputs: []string{"GET  HTTP/1.1|%H|", "GET a HTTP/1.1|%H|", "GET ?a HTTP/1.1|%H|", "GET ../a HTTP/1.1|%H|"}},
	{row: "asterisk, but not of OPTIONS", inputs: []string{"GET * HTTP/1.1|%H|"}},
	{row: "asterisk of OPTIONS", inputs: []string{"OPTIONS * HTTP/1.1|%H|", "OPTIONS http://a.test HTTP/1.1|%H|"}, sees: "OPTIONS * a.test"},
	{row: "absolute form", inputs: []string{"GET http://b.test/c HTTP/1.1|%H|", "GET HTTP://B.test:80/c HTTP/1.1|%H|", "GET http://b.test/c HTTP/1.0||"}, sees: "GET /c b.test"},
	{row: "absolute form without Host in HTTP/1.1", inputs: []string{"GET http://b.test/ HTTP/1.1||"}},
	{row: "absolute form beside a malformed Host", inputs: []string{"GET http://b.test/ HTTP/1.1|Host: a b||", "GET http://b.test/ HTTP/1.1|Host: u@a||", "GET http://b.test/ HTTP/1.1|Host:||"}},
	{row: "absolute form of the other scheme", inputs: []string{"GET https://a.test/ HTTP/1.1|%H|"}},
	{row: "absolute form of an unknown scheme", inputs: []string{"GET ftp://a.test/ HTTP/1.1|%H|", "GET http:/a HTTP/1.1|%H|", "GET http:///a HTTP/1.1|%H|"}},
	{row: "authority form, but not of CONNECT", inputs: []string{"GET a.test:80 HTTP/1.1|%H|"}},
	{row: "CONNECT", inputs: []string{"CONNECT a.test:443 HTTP/1.1|%H|", "CONNECT /a HTTP/1.1|%H|"}},
	{row: "TRACE", inputs: []string{"TRACE / HTTP/1.1|%H|", "TRACE / HTTP/1.1|Max-Forwards: 0|%H|"}},
	{row: "OPTIONS with Max-Forwards: 0", inputs: []string{"OPTIONS / HTTP/1.1|Max-Forwards: 0|%H|", "OPTIONS * HTTP/1.1|Max-Forwards: 00|%H|"}},
	{row: "OPTIONS with more in Max-Forwards", inputs: []string{"OPTIONS / HTTP/1.1|Max-Forwards: 3|%H|", "OPTIONS / HTTP/1.1|Max-Forwards: 3|%H|"}, sees: "OPTIONS / a.test max-forwards=3"},
	{row: "request line too long", inputs: []string{"GET /" + strings.Repeat(long, 40) + " HTTP/1.1|%H|", strings.Repeat(long, 40)}},
	{row: "header too long", inputs: []string{"GET / HTTP/1.1|a: " + strings.Repeat(long, 40) + "|%H|", "GET / HTTP/1.1|" + strings.Repeat("a: "+long+"|", 40) + "%H|"}},
	{row: "field name of 128 kB", inputs: []string{"GET / HTTP/1.1|" + strings.Repeat(long, 2048) + ": b|%H|"}},
	{row: "5,000 fields", inputs: []string{"GET / HTTP/1.1|" + strings.Repeat("a:b|", 5000) + "%H|", "GET / HTTP/1.1|" + strings.Repeat("a:|", 100) + "%H|"}},
	{row: "bare LF at the end of a line", plain: true, inputs: []string{"GET / HTTP/1.1\nHost: a.test\r\n\r\n", "GET / HTTP/1.1\r\nHost: a.test\n\r\n", "GET / HTTP/1.1\r\nHost: a.test\r\n\n", "GET / HTTP/1.1\nHost: a.test\n\n", "GET / HTTP/1.1\r\nA: b\nContent-Length: 5\r\nHost: a.test\r\n\r\n"}},
	{row: "bare CR", plain: true, inputs: []string{"GET / HTTP/1.1\r\nHost: a.test\r\nA: b\rc\r\n\r\n", "GET / HTTP/1.1\rHost: a.test\r\n\r\n", "GET / HTTP/1.1\r\nHost: a.test\r\r\n\r\n", "GET / HTTP/1.1\r\nA\r: b\r\nHost: a.test\r\n\r\n", "GET / HTTP/1.1\r\nHost: a.test\r\n\rA: b\r\n\r\n"}},
	{row: "NUL or other controls in a field value", inputs: []string{"GET / HTTP/1.1|A: b\x00c|%H|", "GET / HTTP/1.1|A: \x01|%H|", "GET / HTTP/1.1|A: b\x7f|%H|", "GET / HTTP/1.1|A: b\x1fc|%H|", "GET / HTTP/1.1|A: \x0bb|%H|", "GET / HTTP/1.1|A: " + long + "\x08" + long + "|%H|"}},
	{row: "tabs and bytes beyond ASCII in a field value", inputs: []string{"GET / HTTP/1.1|A: \tb\t\xc3\xa4 c \t|%H|"}, sees: "GET / a.test a=b\t\xc3\xa4 c"},
	{row: "line folding", inputs: []string{"GET / HTTP/1.1|%h|A: b| c||", "GET / HTTP/1.1|%h|A: b|\tc||", "GET / HTTP/1.1|Transfer-Encoding:| chunked|%H|"}},
	{row: "whitespace before the first field", inputs: []string{"GET / HTTP/1.1| A: b|%H|", "GET / HTTP/1.1|\tHost: b.test|%H|", "GET / HTTP/1.1| |%H|"}},
	{row: "whitespace before the colon", inputs: []string{"GET / HTTP/1.1|A : b|%H|", "GET / HTTP/1.1|Content-Length\t: 3|%H|", "GET / HTTP/1.1|Host : a.test||", "POST / HTTP/1.1|Transfer-Encoding : chunked|%H0||"}},
	{row: "field line without a colon", inputs: []string{"GET / HTTP/1.1|Abc|%H|", "GET / HTTP/1.1|%h|A||"}},
	{row: "field name that is empty or no token", inputs: []string{"GET / HTTP/1.1|: b|%H|", "GET / HTTP/1.1|A(: b|%H|", "GET / HTTP/1.1|\xc3\xa4: b|%H|", "GET / HTTP/1.1|A\x00: b|%H|", "GET / HTTP/1.1|A/b: c|%H|", "GET / HTTP/1.1|\"A\": c|%H|"}},
	{row: "Host missing in HTTP/1.1", inputs: []string{"GET / HTTP/1.1||", "GET / HTTP/1.1|A: b||"}},
	{row: "Host missing in HTTP/1.0", inputs: []string{"GET / HTTP/1.0||"}},
	{row: "Host twice, even the same", inputs: []string{"GET / HTTP/1.1|Host: b.test|%H|", "GET / HTTP/1.1|Host: a.test|%H|", "GET / HTTP/1.0|Host: a.test|%H|"}},
	{row: "Host empty, with userinfo, path, list, escape, space or bad port", inputs: hosts("", "u@a.test", "a.test/b", "a.test,b.test", "a%2etest", "a b", "a.test:x", "a.test:65536", "a.test:-1", "::1", "[::1", "a..test", "a.test#b", "http://a.test", "a.test:80:80", "\xc3\xa4.test")},
	{row: "Content-Length beside Transfer-Encoding", inputs: []string{"POST / HTTP/1.1|Content-Length: 3|Transfer-Encoding: chunked|%H0||", "POST / HTTP/1.1|Transfer-Encoding: chunked|Content-Length: 0|%H0||"}},
	{row: "Content-Length twice, even the same", inputs: []string{"POST / HTTP/1.1|Content-Length: 3|Content-Length: 4|%Habc", "POST / HTTP/1.1|Content-Length: 3|Content-Length: 3|%Habc"}},
	{row: "Content-Length that is a list", inputs: lengths("3, 3", "3,4", "3,", ",3", "3;3")},
	{row: "Content-Length empty, signed, hexadecimal, with a space, or huge", inputs: lengths("", "+3", "-3", "-0", "0x3", "3 3", "3.0", "3e0", "1_0", "three", "9223372036854775808", "18446744073709551619", strings.Repeat("0", 40)+"3", "\xd9\xa3")},
	{row: "Content-Length with leading zeros", inputs: lengths("003"), sees: "POST / a.test content-length=003 body=abc"},
	{row: "Transfer-Encoding in HTTP/1.0", inputs: []string{"POST / HTTP/1.0|Transfer-Encoding: chunked|Connection: keep-alive|%H0||"}},
	{row: "Transfer-Encoding that does not end in chunked", inputs: codings("chunked, gzip", "chunked, identity", "chunked|Transfer-Encoding: gzip")},
	{row: "Transfer-Encoding with chunked twice", inputs: codings("chunked, chunked", "chunked|Transfer-Encoding: chunked", "chunked, gzip, chunked")},
	{row: "Transfer-Encoding of codings that are not known", inputs: codings("gzip, chunked", "identity", "xchunked", "chunkedx", "gzip", "gzip|Transfer-Encoding: chunked", "deflate, gzip, chunked", "compress")},
	{row: "Transfer-Encoding empty, with parameters or empty members", inputs: codings("", "chunked;q=1", "chunked,", ",chunked", "chunked ; a", "\"chunked\"", "chunked foo")},
	{row: "Transfer-Encoding in other case, or with whitespace around", inputs: codings("CHUNKED", "Chunked", "\t chunked \t"), sees: "POST / a.test body="},
	{row: "Transfer-Encoding with other spaces", inputs: codings("\x0bchunked", "chunked\x0c", "chun\x00ked", "\rchunked")},
	{row: "body of GET", inputs: []string{"GET / HTTP/1.1|Content-Length: 3|%Habc", "GET / HTTP/1.1|Content-Length: 3|%Habc"}, sees: "GET / a.test content-length=3 body=abc"},
	{row: "chunk size empty, signed, with 0x, a space or no hexadecimal", inputs: chunks("|", "+3|abc|0||", "-3|abc|0||", "0x3|abc|0||", " 3|abc|0||", "3 |abc|0||", "3\t|abc|0||", "3g|abc|0||", "g|", ";a=b|", "\xc2\xb2|ab|0||", "3\x00|abc|0||")},
	{row: "chunk size of more than 15 digits", inputs: chunks("0000000000000003|abc|0||", "ffffffffffffffff|abc|0||", "10000000000000003|abc|0||", "8000000000000000|abc|0||")},
	{row: "chunk that does not end where its size says", inputs: chunks("3|abcd|0||", "3|abc0||", "3|abcX|0||", "2|abc|0||", "3|abc\rX0||")},
	{row: "chunk lines that end in LF alone", inputs: chunks("3\nabc|0||", "3|abc\n0||", "3|abc|0\n|", "3|abc|0|\n", "3;a\nabc|0||", "3\rabc|0||", "3|abc\r0||")},
	{row: "chunk extensions", inputs: chunks("3;a=b|abc|0||", "3;a|abc|0;b=\"c;\\\"d\"||", "3 ; a = b ;c=d|abc|0||", "3;;|abc|0||")[:3], sees: "POST / a.test body=abc"},
	{row: "chunk extensions that are malformed", inputs: chunks("3;|abc|0||", "3;=|abc|0||", "3;a=|abc|0||", "3;a=\"b|abc|0||", "3;a b|abc|0||", "3;a=b c|abc|0||", "3;\x00|abc|0||", "3;a=\"\x01\"|abc|0||", "3;;|abc|0||")},
	{row: "chunk extensions of more than 4 kB in a message", inputs: chunks("3;"+strings.Repeat("a", 5000)+"|abc|0||", strings.Repeat("1;"+strings.Repeat("a", 400)+"|x|", 20)+"0||")},
	{row: "trailers", inputs: []string{"POST / HTTP/1.1|Transfer-Encoding: chunked|Trailer: X-Sum|%H3|abc|0|X-Sum: 1||"}, sees: "POST / a.test trailer=X-Sum body=abc X-Sum:1"},
	{row: "trailers that say how messages are framed, routed or processed", inputs: chunks("3|abc|0|Content-Length: 5|X-Sum: 1|Transfer-Encoding: chunked|Host: b.test|Authorization: x|Content-Type: a/b||"), sees: "POST / a.test body=abc X-Sum:1"},
	{row: "trailers that are malformed or too long", inputs: chunks("0| a: b||", "0|a: b| c||", "0|a b||", "0|a: \x00||", "0|Content-Length: x||", "0|a:b\n|", "0|"+strings.Repeat("a: "+long+"|", 40)+"|", "0|"+strings.Repeat("a:|", 100)+"|")},
	{row: "body that ends before its length", inputs: []string{"POST / HTTP/1.1|Content-Length: 300|%Habc", "POST / HTTP/1.1|Transfer-Encoding: chunked|%Hff|abc"}},
	{row: "Expect other than 100-continue", inputs: []string{"POST / HTTP/1.1|Expect: 200-ok|Content-Length: 3|%Habc", "GET / HTTP/1.1|Expect: 100-continue, x|%H|", "GET / HTTP/1.1|Expect:|%H|", "GET / HTTP/1.1|Expect: 100-continue|Expect: y|%H|"}},
	{row: "Expect in HTTP/1.0", inputs: []string{"POST / HTTP/1.0|Expect: 100-continue|Content-Length: 3|%Habc", "POST / HTTP/1.0|Expect: x|Content-Length: 3|%Habc"}},
	{row: "Upgrade to h2c", inputs: []string{"GET / HTTP/1.1|Connection: Upgrade, HTTP2-Settings|Upgrade: h2c|HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA|%H|", "GET / HTTP/1.1|Connection: Upgrade, HTTP2-Settings|Upgrade: websocket, h2c|%H|"}, sees: "GET / a.test connection=Upgrade, HTTP2-Settings"},
	{row: "Upgrade in HTTP/1.0", inputs: []string{"GET / HTTP/1.0|Connection: Upgrade|Upgrade: websocket|%H|"}, sees: "GET / a.test connection=Upgrade"},
	{row: "TLS handshake on a port without TLS", plain: true, inputs: []string{"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"}},
	{row: "Early-Data: 1 on what memory cannot answer", inputs: []string{"GET / HTTP/1.1|Early-Data: 1|%H|"}},
}

func hosts(values ...string) (inputs []string) {
	for _, v := range values {
		inputs = append(inputs, "GET / HTTP/1.1|Host: "+v+"||")
	}
	return inputs
}

func lengths(values ...string) (inputs []string) {
	for _, v := range values {
		inputs = append(inputs, "POST / HTTP/1.1|Content-Length: "+v+"|%Habc")
	}
	return inputs
}

func codings(values ...string) (inputs []string) {
	for _, v := range values {
		inputs = append(inputs, "POST / HTTP/1.1|Transfer-Encoding: "+v+"|%H0||")
	}
	return inputs
}

func chunks(bodies ...string) (inputs []string) {
	for _, b := range bodies {
		inputs = append(inputs, "POST / HTTP/1.1|Transfer-Encoding: chunked|%H"+b)
	}
	return inputs
}

func (c *strictCase) bytes(input string) string {
	if c.plain {
		return input
	}
	return strings.NewReplacer("|", "\r\n", "%H", "Host: a.test\r\n\r\n", "%h", "Host: a.test").Replace(input)
}

// verdict is what docs/http.md says of a row.
type verdict struct {
	passed, broken bool
	status         int
	open           bool
}

var tableRow = regexp.MustCompile(`(?m)^\| ([^|]+) \| ([^|]+) \| ([^|]*) \| ([^|]*) \|$`)

func verdicts(t *testing.T) map[string]verdict {
	t.Helper()
	text, err := os.ReadFile("../../docs/http.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(text), "\n## HTTP/1.1\n")
	section, _, _ = strings.Cut(section, "\n## ")
	all := map[string]verdict{}
	for _, m := range tableRow.FindAllStringSubmatch(section, -1) {
		v := verdict{passed: strings.HasPrefix(m[2], "passed"), broken: strings.HasPrefix(m[2], "broken off"), open: strings.Contains(m[2], "stays open")}
		if status, err := strconv.Atoi(strings.TrimRight(strings.Fields(m[2])[0], ",:")); err == nil {
			v.status = status
		}
		if m[1] != "case" && !v.passed && !v.broken && v.status == 0 {
			t.Errorf("row %q: %q is no verdict", m[1], m[2])
		}
		all[m[1]] = v
	}
	delete(all, "case")
	return all
}

// recorder is a handler that remembers what it was told.
type recorder struct {
	mu   sync.Mutex
	told []string
}

func (o *recorder) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	in := cache.FromContext(r.Context())
	line := in.Method + " " + in.Target + " " + in.Host
	for _, f := range in.Fields {
		line += " " + f.Name + "=" + f.Value
	}
	body, err := io.ReadAll(r.Body)
	if in.HasBody {
		line += " body=" + string(body)
	}
	for name, values := range r.Trailer {
		line += " " + name + ":" + strings.Join(values, ",")
	}
	if err != nil {
		line += " BROKEN"
	}
	o.mu.Lock()
	o.told = append(o.told, line)
	o.mu.Unlock()
	if err != nil {
		w.WriteHeader(http.StatusBadRequest)
	}
}

func (o *recorder) take() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	defer func() { o.told = nil }()
	return o.told
}

const follower = "GET /smuggled HTTP/1.1\r\nHost: a.test\r\n\r\n"

func TestStrict(t *testing.T) {
	record := &recorder{}
	e := start(t, setup{handler: record.ServeHTTP, limits: gate.Limits{HeaderBytes: 2 * unit.KiB, HeaderFields: 32}})
	rows := verdicts(t)
	seen := map[string]bool{}
	for _, c := range strictCases {
		want, ok := rows[c.row]
		if !ok {
			t.Errorf("docs/http.md has no row %q", c.row)
			continue
		}
		seen[c.row] = true
		for i, input := range c.inputs {
			t.Run(fmt.Sprintf("%s/%d", c.row, i), func(t *testing.T) {
				e.t = t
				c.check(t, e, record, want, c.bytes(input))
			})
		}
	}
	e.t = t
	for row := range rows {
		if !seen[row] {
			t.Errorf("row %q of docs/http.md is not tested", row)
		}
	}
	for name, counted := range map[string]uint64{
		"LinesTooLong": e.stats.LinesTooLong.Load(), "BodiesMalformed": e.stats.BodiesMalformed.Load(), "TrailersDropped": e.stats.TrailersDropped.Load(),
		"ExpectationsFailed": e.stats.ExpectationsFailed.Load(), "TLSInClear": e.stats.TLSInClear.Load(),
		"Malformed": e.gate.Stats().Malformed.Load(), "HeadersRefused": e.gate.Stats().HeadersRefused.Load(),
	} {
		if counted == 0 {
			t.Errorf("%s is 0", name)
		}
	}
}

func (c *strictCase) check(t *testing.T, e *edge, record *recorder, want verdict, input string) {
	client := e.dial()
	defer client.Close()
	go func() { // the engine may answer and close before it has read all
		_, _ = io.WriteString(client, input+follower)
		_ = client.Conn.(interface{ CloseWrite() error }).CloseWrite()
	}()
	statuses := answers(t, client.r)
	told := record.take()
	switch {
	case want.passed:
		if len(statuses) == 0 || statuses[0] != 200 || len(told) == 0 || c.sees != "" && told[0] != c.sees {
			t.Fatalf("%q: answered %v, passed %q, want %q", input, statuses, told, c.sees)
		}
		http10 := strings.Contains(input, "HTTP/1.0")
		if !http10 && (len(told) != 2 || !strings.HasPrefix(told[1], "GET /smuggled ")) || http10 && len(told) != 1 {
			t.Fatalf("%q: passed %q", input, told)
		}
	case want.broken:
		if len(told) != 1 || !strings.HasSuffix(told[0], " BROKEN") || !slices.Equal(statuses, []int{400}) {
			t.Fatalf("%q: answered %v, passed %q, want one that is broken off", input, statuses, told)
		}
	case want.open:
		if len(statuses) != 2 || statuses[0] != want.status || statuses[1] != 200 || len(told) != 1 || !strings.HasPrefix(told[0], "GET /smuggled ") {
			t.Fatalf("%q: answered %v, passed %q, want %d and an open connection", input, statuses, told, want.status)
		}
	default:
		if !slices.Equal(statuses, []int{want.status}) || len(told) > 0 {
			t.Fatalf("%q: answered %v, passed %q, want %d alone", input, statuses, told, want.status)
		}
	}
}

// answers returns the statuses of all final answers up to the end of the
// connection, which must be a clean one.
func answers(t *testing.T, r *bufio.Reader) (statuses []int) {
	t.Helper()
	for {
		if _, err := r.Peek(1); err == io.EOF {
			return statuses
		} else if err != nil {
			t.Fatalf("after %v: %v", statuses, err)
		}
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatalf("after %v: %v", statuses, err)
		}
		if _, err := io.Copy(io.Discard, resp.Body); err != nil {
			t.Fatalf("body of %d: %v", resp.StatusCode, err)
		}
		if resp.StatusCode >= 400 && resp.StatusCode != 405 && resp.StatusCode != 421 && resp.StatusCode != 425 && !resp.Close {
			t.Errorf("%d does not say that the connection is closed", resp.StatusCode)
		}
		statuses = append(statuses, resp.StatusCode)
	}
}
