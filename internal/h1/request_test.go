package h1

import (
	"slices"
	"strings"
	"testing"
)

// fieldLine is a Line of our own, as users have theirs.
type fieldLine struct{ Name, Value string }

// most is the number of field lines that the tests take.
const most = 50

func request(in string) (r Request, fields []fieldLine, length int64, fault Fault) {
	head := []byte(in)
	end, _, fault := SectionEnd(head, 0)
	if fault != 0 || end == 0 {
		return r, nil, 0, fault
	}
	if fields, fault = ReadRequest(&r, fields, head[:end], most); fault == 0 {
		length, fault = r.Body()
	}
	return r, fields, length, fault
}

func TestReadRequest(t *testing.T) {
	r, fields, length, fault := request("POST /a?b HTTP/1.1\r\nHOST: a.test\r\nX-Y_z:  v \t\r\nConnection: x, Upgrade,close , keep-ALIVE\r\nExpect: 100-Continue\r\nContent-Length: 12\r\nEmpty:\r\n\r\n")
	want := []fieldLine{{"x-y_z", "v"}, {"connection", "x, Upgrade,close , keep-ALIVE"}, {"expect", "100-Continue"}, {"content-length", "12"}, {"empty", ""}}
	if fault != 0 || r.Method != "POST" || r.Target != "/a?b" || r.Minor != 1 || r.Host != "a.test" || length != 12 || !slices.Equal(fields, want) {
		t.Errorf("%+v, %q, %d, %v", r, fields, length, fault)
	}
	if !r.Close || !r.KeepAlive || !r.Upgrade || !r.Continue || r.Expects || r.Persistent(1) {
		t.Errorf("%+v", r.Facts)
	}
}

// TestRequestFaults names what is wrong; that all of it is refused over the wire is
// tested where it is served.
func TestRequestFaults(t *testing.T) {
	const host = "Host: a\r\n"
	for _, test := range []struct {
		in   string
		want Fault
	}{
		{"GET / HTTP/1.1\r\n" + host, 0},
		{"GET  / HTTP/1.1\r\n" + host, FaultStartLine},
		{"GET /\r\n" + host, FaultStartLine},
		{"GET\r\n" + host, FaultStartLine},
		{"G\xffT / HTTP/1.1\r\n" + host, FaultMethod},
		{" GET / HTTP/1.1\r\n" + host, FaultMethod},
		{"GET /\xff HTTP/1.1\r\n" + host, FaultTarget},
		{"GET / HTTP/1.1 \r\n" + host, FaultStartLine},
		{"GET / HTTP/1.10\r\n" + host, FaultVersion},
		{"GET / http/1.1\r\n" + host, FaultVersion},
		{"GET / HTTP/2.0\r\n" + host, FaultVersionSupport},
		{"GET / HTTP/1.2\r\n" + host, FaultVersionSupport},
		{"GET / HTTP/1.1\n" + host, FaultBareLF},
		{"GET / HTTP/1.1\r\nA: b\rc\r\n" + host, FaultBareCR},
		{"GET / HTTP/1.1\r\n A: b\r\n" + host, FaultFold},
		{"GET / HTTP/1.1\r\nA: b\r\n\tc\r\n" + host, FaultFold},
		{"GET / HTTP/1.1\r\nA : b\r\n" + host, FaultColon},
		{"GET / HTTP/1.1\r\nA\r\n" + host, FaultColon},
		{"GET / HTTP/1.1\r\n: b\r\n" + host, FaultName},
		{"GET / HTTP/1.1\r\nA(: b\r\n" + host, FaultName},
		{"GET / HTTP/1.1\r\nA: 1234567\x00\r\n" + host, FaultValue},
		{"GET / HTTP/1.1\r\nA: 12345678\x7f9\r\n" + host, FaultValue},
		{"GET / HTTP/1.1\r\n" + strings.Repeat("a:\r\n", most) + host, FaultFields},
		{"GET / HTTP/1.1\r\nContent-Length: \r\n" + host, FaultLength},
		{"GET / HTTP/1.1\r\nContent-Length: 1,1\r\n" + host, FaultLength},
		{"GET / HTTP/1.1\r\nContent-Length: 1000000000000000000\r\n" + host, FaultLength},
		{"GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1\r\n" + host, FaultLengthTwice},
		{"GET / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n" + host, FaultCodingAndLength},
		{"GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n" + host, FaultCodingVersion},
		{"GET / HTTP/1.1\r\nTransfer-Encoding: chunked, gzip\r\n" + host, FaultCoding},
		{"GET / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n" + host, FaultCodingUnknown},
		{"GET / HTTP/1.1\r\n", FaultHost},
		{"GET / HTTP/1.0\r\n", 0},
		{"GET / HTTP/1.1\r\n" + host + host, FaultHost},
	} {
		if _, _, _, fault := request(test.in + "\r\n"); fault != test.want {
			t.Errorf("%q: %v, want %v", test.in, fault, test.want)
		}
	}
}

func TestSectionEnd(t *testing.T) {
	whole := "GET / HTTP/1.1\r\nHost: a\r\n\r\nrest"
	want := len(whole) - len("rest")
	from := 0
	for n := range len(whole) + 1 {
		end, next, fault := SectionEnd([]byte(whole[:n]), from)
		if fault != 0 || (end == 0) != (n < want) || end != 0 && end != want {
			t.Fatalf("of %q: %d, %v", whole[:n], end, fault)
		}
		from = next
	}
}

func TestReadRequestAllocatesNothing(t *testing.T) {
	text := "GET /index.html?a=b HTTP/1.1\r\nHost: www.example.com\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64)\r\nAccept: */*\r\nAccept-Encoding: gzip, br\r\nConnection: keep-alive\r\n\r\n"
	head := []byte(text)
	fields := make([]fieldLine, 0, 16)
	var r Request
	if n := testing.AllocsPerRun(100, func() {
		var fault Fault
		if fields, fault = ReadRequest(&r, fields[:0], head, most); fault != 0 {
			t.Fatal(fault)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkReadRequest(b *testing.B) {
	text := "GET /index.html?a=b HTTP/1.1\r\nHost: www.example.com\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:120.0) Gecko/20100101 Firefox/120.0\r\nAccept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\nAccept-Language: en-US,en;q=0.5\r\nAccept-Encoding: gzip, deflate, br\r\nConnection: keep-alive\r\n\r\n"
	head := []byte(text)
	fields := make([]fieldLine, 0, 16)
	var r Request
	b.ReportAllocs()
	b.SetBytes(int64(len(head)))
	for b.Loop() {
		if end, _, fault := SectionEnd(head, 0); end != len(head) || fault != 0 {
			b.Fatal(end, fault)
		}
		fields, _ = ReadRequest(&r, fields[:0], head, most)
	}
	if len(fields) != 5 {
		b.Fatal(fields)
	}
}
