package h1

import (
	"strings"
	"testing"
)

func response(in, method string) (r Response, fields []fieldLine, length int64, fault Fault) {
	head := []byte(in)
	end, _, fault := SectionEnd(head, 0)
	if fault != 0 || end == 0 {
		return r, nil, 0, fault
	}
	if fields, fault = ReadResponse(&r, fields, head[:end], most); fault == 0 {
		length, fault = r.Body(method)
	}
	return r, fields, length, fault
}

func TestReadResponse(t *testing.T) {
	r, fields, length, fault := response("HTTP/1.1 200 Fine \xe4\r\nContent-Length: 3\r\nX: y\r\n\r\n", "GET")
	if fault != 0 || r.Status != 200 || r.Reason != "Fine \xe4" || length != 3 || len(fields) != 2 || !r.Persistent(r.Minor) {
		t.Errorf("%+v %q %d %v", r, fields, length, fault)
	}
}

// TestResponseBodies follows RFC 9112 6.3.
func TestResponseBodies(t *testing.T) {
	for _, test := range []struct {
		head, method string
		want         int64
	}{
		{"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n", "GET", 3},
		{"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 3\r\n", "GET", 3},
		{"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n", "HEAD", 0},
		{"HTTP/1.1 304 Not Modified\r\nContent-Length: 3\r\n", "GET", 0},
		{"HTTP/1.1 204 No Content\r\n", "GET", 0},
		{"HTTP/1.1 103 Early Hints\r\n", "GET", 0},
		{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n", "GET", Chunked},
		{"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n", "HEAD", 0},
		{"HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n", "GET", 0},
		{"HTTP/1.1 200 OK\r\n", "GET", ToClose},
		{"HTTP/1.0 200 OK\r\n", "GET", ToClose},
		{"HTTP/1.1 200\r\n", "HEAD", 0},
		{"HTTP/1.1 200 \r\nContent-Length: 0\r\n", "GET", 0},
	} {
		if _, _, length, fault := response(test.head+"\r\n", test.method); fault != 0 || length != test.want {
			t.Errorf("%s %q: %d, %v, want %d", test.method, test.head, length, fault, test.want)
		}
	}
}

func TestResponseFaults(t *testing.T) {
	for _, test := range []struct {
		in   string
		want Fault
	}{
		{"HTTP/1.1 200 OK\nA: b\r\n", FaultBareLF},
		{"HTTP/1.1 200 O\rK\r\n", FaultBareCR},
		{"HTTP/1.1 200 O\x00K\r\n", FaultStartLine},
		{"HTTP/1.1  200 OK\r\n", FaultStatus},
		{"HTTP/1.1 20 OK\r\n", FaultStatus},
		{"HTTP/1.1 2000 OK\r\n", FaultStatus},
		{"HTTP/1.1 099 OK\r\n", FaultStatus},
		{"HTTP/1.1 600 OK\r\n", FaultStatus},
		{"HTTP/1.1 -20 OK\r\n", FaultStatus},
		{"HTTP/1.1 200OK\r\n", FaultStatus},
		{"HTTP/1.1\r\n", FaultStartLine},
		{"HTTP/1.1 \r\n", FaultStartLine},
		{"HTTP/1.1 20\r\n", FaultStatus},
		{"HTTP/2.0 200 OK\r\n", FaultVersionSupport},
		{"HTTP/1.2 200 OK\r\n", FaultVersionSupport},
		{"http/1.1 200 OK\r\n", FaultVersion},
		{"ICY 200 OK\r\n", FaultVersion},
		{" HTTP/1.1 200 OK\r\n", FaultVersion},
		{"HTTP/1.1 200 OK\r\nA: b\r\n c\r\n", FaultFold},
		{"HTTP/1.1 200 OK\r\nA : b\r\n", FaultColon},
		{"HTTP/1.1 200 OK\r\nA: \x00\r\n", FaultValue},
		{"HTTP/1.1 200 OK\r\n" + strings.Repeat("a: b\r\n", most+1), FaultFields},
		{"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n", FaultLengthTwice},
		{"HTTP/1.1 200 OK\r\nContent-Length: 3, 3\r\n", FaultLength},
		{"HTTP/1.1 304 OK\r\nContent-Length: -3\r\n", FaultLength},
		{"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n", FaultCodingAndLength},
		{"HTTP/1.1 304 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n", FaultCodingAndLength},
		{"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n", FaultCodingVersion},
		{"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n", FaultCodingUnknown},
		{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, gzip\r\n", FaultCoding},
		{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", FaultCoding},
	} {
		if _, _, _, fault := response(test.in+"\r\n", "GET"); fault != test.want {
			t.Errorf("%q: %v, want %v", test.in, fault, test.want)
		}
	}
}

func TestEveryFaultHasATextAndAStatus(t *testing.T) {
	seen := map[string]bool{}
	for f := Fault(1); f < faults; f++ {
		if text := f.Error(); text == "" || seen[text] {
			t.Errorf("fault %d: %q", f, text)
		}
		seen[f.Error()] = true
		if s := f.Status(); s != 400 && s != 431 && s != 501 && s != 505 {
			t.Errorf("%v: status %d", f, s)
		}
	}
}
