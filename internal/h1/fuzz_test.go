package h1

// fuzz_test.go feeds the same bytes to net/http and to this package. Where one
// takes what the other refuses, a table says why; docs/http.md has the cases.

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"net/textproto"
	"net/url"
	"slices"
	"strings"
	"testing"
)

var requestSeeds = []string{
	"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
	"POST /a%20b?c HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc",
	"PUT / HTTP/1.1\r\nhost: a\r\nTransfer-Encoding: chunked\r\nTrailer: X\r\n\r\n3;a=b\r\nabc\r\n0\r\nX: y\r\n\r\n",
	"GET http://b/ HTTP/1.0\r\nHost: a\r\nConnection: keep-alive, x\r\n\r\n",
	"OPTIONS * HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n\r\n",
	"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
	"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
	"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: a\r\nA: b\r\n c\r\n\r\n",
	"GET / HTTP/1.1\nHost: a\n\n",
	"GET / HTTP/1.2\r\nHost: a\r\nA:\tb\t\xff\r\n\r\n",
	"GET /\x7f\xc3\xa4 HTTP/1.1\r\nHost : a\r\n\r\n",
	"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3 \nabc\r\n0\r\n\n",
}

// stricter lists the faults that net/http does not see: what it takes there is
// listed in docs/http.md as refused. All other faults it must see too.
var stricter = map[Fault]string{
	FaultStartLine:       "a space at the end of the request line, HTTP/0.9",
	FaultTarget:          "bytes beyond ASCII and controls in the target",
	FaultVersion:         "digits behind the version",
	FaultVersionSupport:  "HTTP/1.2, HTTP/2.0, HTTP/3.0 in the request line",
	FaultBareLF:          "bare LF at the end of a line",
	FaultBareCR:          "bare CR",
	FaultFold:            "line folding",
	FaultValue:           "NUL or other controls in a field value",
	FaultFields:          "5,000 fields",
	FaultLength:          "Content-Length of more than 18 digits, or empty",
	FaultLengthTwice:     "Content-Length twice, even the same",
	FaultCodingAndLength: "Content-Length beside Transfer-Encoding",
	FaultCodingVersion:   "Transfer-Encoding in HTTP/1.0",
	FaultCoding:          "Transfer-Encoding in HTTP/1.0", // where net/http does not look at it
	FaultCodingUnknown:   "Transfer-Encoding in HTTP/1.0",
	FaultHost:            "Host missing, or twice: its server refuses them later",
	FaultChunk:           "chunk size of more than 15 digits, or with a space",
	FaultChunkExtension:  "chunk extensions that are malformed",
	FaultColon:           "field line without a colon, or whitespace before it, in trailers",
	FaultName:            "field name that is no token, in trailers",
	FaultTrailer:         "trailers that are too long",
}

// looser says why net/http refuses what we take; "" is no reason.
func looser(r *Request, fields []fieldLine) string {
	if _, err := url.ParseRequestURI(r.Target); err != nil {
		return "targets that are no URL are refused behind the wire form, in server/gate"
	}
	for _, f := range fields {
		if f.Name == "trailer" {
			return "what Trailer announces is looked at when it comes"
		}
	}
	return ""
}

func FuzzRequest(f *testing.F) {
	for _, seed := range requestSeeds {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		if bytes.HasPrefix(in, []byte("\r\n")) || bytes.HasPrefix(in, []byte("\n")) || len(in) > 16<<10 {
			return // empty lines before a request are the engine's affair
		}
		std, stdErr := http.ReadRequest(bufio.NewReader(bytes.NewReader(in)))
		ours := bytes.Clone(in)
		end, _, fault := SectionEnd(ours, 0)
		if fault == 0 && end == 0 {
			return // not all here
		}
		var r Request
		var fields []fieldLine
		length := int64(0)
		if fault == 0 {
			fields, fault = ReadRequest(&r, []fieldLine(nil), ours[:end], most)
		}
		if fault == 0 {
			length, fault = r.Body()
		}
		switch {
		case fault != 0 && stdErr != nil:
		case fault != 0:
			if stricter[fault] == "" {
				t.Fatalf("%q: %v, but net/http takes it", in, fault)
			}
		case stdErr != nil:
			if looser(&r, fields) == "" {
				t.Fatalf("%q: taken, but net/http says %v", in, stdErr)
			}
		default:
			sameRequest(t, in, &r, fields, std)
			sameBody(t, in[end:], length, std)
		}
	})
}

func sameRequest(t *testing.T, in []byte, r *Request, fields []fieldLine, std *http.Request) {
	t.Helper()
	if r.Method != std.Method || r.Target != std.RequestURI || r.Minor != std.ProtoMinor {
		t.Fatalf("%q: %q %q 1.%d, net/http %q %q %s", in, r.Method, r.Target, r.Minor, std.Method, std.RequestURI, std.Proto)
	}
	if std.URL.Host == "" && r.Host != std.Host {
		t.Fatalf("%q: host %q, net/http %q", in, r.Host, std.Host)
	}
	got := http.Header{}
	for _, f := range fields {
		name := textproto.CanonicalMIMEHeaderKey(f.Name)
		got[name] = append(got[name], f.Value)
	}
	delete(got, "Trailer") // which net/http moves, if chunks follow
	delete(std.Header, "Trailer")
	if pragma := got["Pragma"]; len(pragma) > 0 && pragma[0] == "no-cache" && got["Cache-Control"] == nil {
		got["Cache-Control"] = []string{"no-cache"} // which net/http adds
	}
	for name, values := range std.Header {
		if !slices.Equal(got[name], values) {
			t.Fatalf("%q: %s is %q, net/http has %q", in, name, got[name], values)
		}
		delete(got, name)
	}
	if len(got) > 0 {
		t.Fatalf("%q: %q, which net/http has not", in, got)
	}
	if closes := !r.Persistent(r.Minor); closes != std.Close {
		t.Fatalf("%q: close %v, net/http %v", in, closes, std.Close)
	}
}

func sameBody(t *testing.T, rest []byte, length int64, std *http.Request) {
	t.Helper()
	want, err := io.ReadAll(std.Body)
	if length != Chunked {
		if std.ContentLength != length || err == nil && !bytes.Equal(want, rest[:length]) {
			t.Fatalf("length %d, net/http %d, %v", length, std.ContentLength, err)
		}
		return
	}
	got, trailers, _, fault := decode(rest, len(rest)+1)
	f, isFault := fault.(Fault)
	switch {
	case std.ContentLength != -1:
		t.Fatalf("chunked, net/http has length %d", std.ContentLength)
	case err == nil && fault == nil:
		if !bytes.Equal(got, want) {
			t.Fatalf("%q: body %q, net/http %q", rest, got, want)
		}
		for _, line := range trailers {
			name := textproto.CanonicalMIMEHeaderKey(line.Name)
			if !slices.Contains(std.Trailer[name], line.Value) && TrailerField(line.Name) {
				t.Fatalf("%q: trailer %s %q, net/http %q", rest, name, line.Value, std.Trailer)
			}
		}
	case err == nil && isFault && stricter[f] != "":
	case err == nil:
		t.Fatalf("%q: %v, but net/http takes it", rest, fault)
	case fault == nil && !strings.Contains(err.Error(), "trailer"):
		t.Fatalf("%q: taken, but net/http says %v", rest, err)
	}
}

// FuzzResponse holds what must be true of every head that is taken: written anew
// it reads the same, and net/http takes it.
func FuzzResponse(f *testing.F) {
	for _, seed := range []string{
		"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nA: b\r\n\r\n", "HTTP/1.0 404 \r\nConnection: keep-alive\r\n\r\n", "HTTP/1.1 200\r\n\r\n",
		"HTTP/1.1 103 Early Hints\r\nLink: <a>\r\n\r\n", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "HTTP/1.1 200 OK\nA: b\n\n",
		"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc", "HTTP/1.1 200 OK\r\nA: b\r\n\tc\r\n\r\n",
	} {
		f.Add([]byte(seed), true)
		f.Add([]byte(seed), false)
	}
	f.Fuzz(func(t *testing.T, in []byte, get bool) {
		method := "HEAD"
		if get {
			method = "GET"
		}
		r, fields, length, fault := response(string(in), method)
		if end, _, _ := SectionEnd(in, 0); fault != 0 || end == 0 {
			return
		}
		std, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(in)), &http.Request{Method: method})
		if err != nil {
			if _, announces := find(fields, "trailer"); !announces {
				t.Fatalf("%q: taken, but net/http says %v", in, err)
			}
			return
		}
		if std.StatusCode != r.Status || length >= 0 && get && std.ContentLength != length && r.Status >= 200 || length == Chunked && std.TransferEncoding == nil {
			t.Fatalf("%q: %d, length %d, net/http %d, %d %v", in, r.Status, length, std.StatusCode, std.ContentLength, std.TransferEncoding)
		}
		b := AppendStatus(nil, r.Status)
		for _, field := range fields {
			b = AppendField(b, field.Name, field.Value)
		}
		again, same, _, fault := response(string(b)+"\r\n", method)
		if fault != 0 || again.Status != r.Status || !slices.Equal(fields, same) {
			t.Fatalf("%q became %q: %v", in, b, fault)
		}
	})
}

func find(fields []fieldLine, name string) (string, bool) {
	for _, f := range fields {
		if f.Name == name {
			return f.Value, true
		}
	}
	return "", false
}

// FuzzChunks: a body reads the same however it arrives.
func FuzzChunks(f *testing.F) {
	for _, seed := range []string{"3\r\nabc\r\n0\r\n\r\n", "3;a=\"b\\\"\"\r\nabc\r\n1 ; x\r\nd\r\n0\r\nA: b\r\n\r\nrest", "0\r\n\n", "5\nhello\r\n0\r\n\r\n", "fffffffffffffffff\r\n", "3\r\nabcd\r\n"} {
		f.Add([]byte(seed), 2)
	}
	f.Fuzz(func(t *testing.T, in []byte, step int) {
		if step < 1 || len(in) > 8<<10 {
			return
		}
		body, trailers, used, err := decode(in, len(in)+1)
		body2, trailers2, used2, err2 := decode(in, step)
		if !bytes.Equal(body, body2) || !slices.Equal(trailers, trailers2) || err != err2 || err == nil && used != used2 {
			t.Fatalf("%q: %q, %d, %v; by %d: %q, %d, %v", in, body, used, err, step, body2, used2, err2)
		}
		if len(body) > len(in) {
			t.Fatalf("%q became %q", in, body)
		}
	})
}
