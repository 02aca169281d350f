package server

import (
	"bytes"
	"crypto/tls"
	"encoding/hex"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"edgecdn/server/gate"
)

// v2 makes a header of version 2 from its parts in hexadecimal.
func v2(parts ...string) string {
	b, err := hex.DecodeString(strings.Join(parts, ""))
	if err != nil {
		panic(err)
	}
	return proxyV2 + string(b)
}

// v2Client is a header of version 2 for 192.0.2.7:8000, with a field behind.
var v2Client = v2("2111", "0010", "c0000207", "7f000001", "1f40", "01bb", "04000161")

func TestReadProxy(t *testing.T) {
	const refused = "refused"
	for _, test := range []struct{ name, in, want string }{
		{"v1 IPv4", "PROXY TCP4 192.0.2.7 127.0.0.1 8000 443\r\n", "192.0.2.7:8000"},
		{"v1 IPv6", "PROXY TCP6 2001:db8::7 ::1 8000 443\r\n", "[2001:db8::7]:8000"},
		{"v1 unknown", "PROXY UNKNOWN\r\n", "invalid AddrPort"},
		{"v1 unknown with more", "PROXY UNKNOWN ffff:f...f:ffff 65535\r\n", "invalid AddrPort"},
		{"v1 LF alone", "PROXY TCP4 192.0.2.7 127.0.0.1 8000 443\n", refused},
		{"v1 two spaces", "PROXY  TCP4 192.0.2.7 127.0.0.1 8000 443\r\n", refused},
		{"v1 lower case", "PROXY tcp4 192.0.2.7 127.0.0.1 8000 443\r\n", refused},
		{"v1 wrong family", "PROXY TCP4 2001:db8::7 ::1 8000 443\r\n", refused},
		{"v1 zone", "PROXY TCP6 fe80::1%eth0 ::1 8000 443\r\n", refused},
		{"v1 leading zeros", "PROXY TCP4 192.0.2.7 127.0.0.1 08000 443\r\n", refused},
		{"v1 port", "PROXY TCP4 192.0.2.7 127.0.0.1 80000 443\r\n", refused},
		{"v1 one address", "PROXY TCP4 192.0.2.7 8000\r\n", refused},
		{"v1 CR inside", "PROXY UNKNOWN \r \r\n", refused},
		{"v1 endless", "PROXY UNKNOWN " + strings.Repeat("x", 200) + "\r\n", refused},
		{"v2 IPv4", v2Client, "192.0.2.7:8000"},
		{"v2 IPv6", v2("2121", "0024", "20010db8000000000000000000000007", "00000000000000000000000000000001", "1f40", "01bb"), "[2001:db8::7]:8000"},
		{"v2 local", v2("2000", "0000"), "invalid AddrPort"},
		{"v2 unspecified", v2("2100", "0004", "01020304"), "invalid AddrPort"},
		{"v2 version", v2("1111", "000c", "c0000207", "7f000001", "1f40", "01bb"), refused},
		{"v2 command", v2("2211", "000c", "c0000207", "7f000001", "1f40", "01bb"), refused},
		{"v2 UDP", v2("2112", "000c", "c0000207", "7f000001", "1f40", "01bb"), refused},
		{"v2 short", v2("2111", "000b", "c0000207", "7f000001", "1f40", "01"), refused},
		{"v2 cut", v2("2111", "000c", "c0000207"), refused},
		{"v2 too long", v2("2111", "1001") + strings.Repeat("x", 4097), refused},
		{"nothing", "", refused},
		{"HTTP", "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n", refused},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := strings.NewReader(test.in + "what follows")
			if strings.HasSuffix(test.name, "cut") || test.in == "" {
				r = strings.NewReader(test.in)
			}
			got, err := readProxy(r)
			rest, _ := io.ReadAll(r)
			switch {
			case test.want == refused && err == nil:
				t.Errorf("got %v, want an error", got)
			case test.want != refused && (err != nil || got.String() != test.want || string(rest) != "what follows"):
				t.Errorf("got %v, %v, left %q; want %s", got, err, rest, test.want)
			}
		})
	}
}

func FuzzReadProxy(f *testing.F) {
	f.Add([]byte("PROXY TCP4 192.0.2.7 127.0.0.1 8000 443\r\nGET"))
	f.Add([]byte("PROXY TCP6 2001:db8::7 ::1 8000 443\r\n"))
	f.Add([]byte("PROXY UNKNOWN\r\n"))
	f.Add([]byte(v2Client))
	f.Add([]byte(v2("2121", "0024", "20010db8000000000000000000000007", "00000000000000000000000000000001", "1f40", "01bb")))
	f.Fuzz(func(t *testing.T, in []byte) {
		r := bytes.NewReader(in)
		client, err := readProxy(r)
		used := in[:len(in)-r.Len()]
		if err != nil {
			return
		}
		if !bytes.HasPrefix(used, []byte(proxyV1)) && !bytes.HasPrefix(used, []byte(proxyV2)) {
			t.Fatalf("%q is taken for a header", used)
		}
		if again, err := readProxy(bytes.NewReader(used)); err != nil || again != client {
			t.Fatalf("what was used of it reads as %v, %v; before %v", again, err, client)
		}
		for n := range len(used) {
			if _, err := readProxy(bytes.NewReader(used[:n])); err == nil {
				t.Fatalf("%d of %d bytes are enough", n, len(used))
			}
		}
	})
}

// through sends a request behind a header and returns the client's address that
// the handler saw, "" where the connection was refused.
func through(t *testing.T, e *edge, from, header string, secure bool) string {
	t.Helper()
	e.alone() // who was here before has given its place back
	address := e.http
	if secure {
		address = e.https
	}
	c := dialFrom(t, from, address)
	defer c.Close()
	_, _ = io.WriteString(c, header)
	if secure {
		config := e.tls("http/1.1")
		config.ServerName = "127.0.0.1"
		c = tls.Client(c, config)
	}
	_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n")
	b, _ := io.ReadAll(c)
	_, body, _ := strings.Cut(string(b), "\r\n\r\n")
	return body
}

func TestProxyProtocol(t *testing.T) {
	e := start(t, setup{
		config:  Config{ProxyProtocol: ProxyProtocol{Trust: []string{"127.9.0.0/16"}}, Limits: Limits{ConnectionsPerAddress: 2}},
		handler: func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.RemoteAddr) },
	})
	const v1 = "PROXY TCP4 192.0.2.7 127.0.0.1 8000 443\r\n"
	stats := e.Stats().Gate
	for _, secure := range []bool{false, true} {
		for _, header := range []string{v1, v2Client} {
			if got := through(t, e, "127.9.0.1", header, secure); got != "192.0.2.7:8000" {
				t.Errorf("TLS %v, %q: the client is %q", secure, header, got)
			}
		}
		for _, header := range []string{"PROXY UNKNOWN\r\n", v2("2000", "0000")} {
			if got := through(t, e, "127.9.0.1", header, secure); !strings.HasPrefix(got, "127.9.0.1:") {
				t.Errorf("TLS %v, a connection of the proxy's own: the client is %q", secure, got)
			}
		}
		if got := through(t, e, "127.0.0.1", "", secure); !strings.HasPrefix(got, "127.0.0.1:") {
			t.Errorf("TLS %v, not by a proxy: the client is %q", secure, got)
		}
		refused, untrusted := stats.ProxyRefused.Load(), stats.ProxyUntrusted.Load()
		for _, header := range []string{"", "PROXY TCP4 nonsense\r\n"} {
			if got := through(t, e, "127.9.0.1", header, secure); got != "" {
				t.Errorf("TLS %v, trusted, with header %q: served %q", secure, header, got)
			}
		}
		for _, header := range []string{v1, v2Client} {
			if got := through(t, e, "127.0.0.1", header, secure); got != "" {
				t.Errorf("TLS %v, not trusted, with header %q: served %q", secure, header, got)
			}
		}
		if r, u := stats.ProxyRefused.Load()-refused, stats.ProxyUntrusted.Load()-untrusted; r != 2 || u != 2 {
			t.Errorf("TLS %v: %d refused, %d untrusted counted", secure, r, u)
		}
	}
	if log := e.log.String(); !strings.Contains(log, "connection refused") || !strings.Contains(log, "server.proxy_protocol.trust") {
		t.Errorf("the log does not say so: %s", log)
	}
	// The client counts, and not the proxy.
	e.alone()
	for n := range 3 {
		c := dialFrom(t, "127.9.0.1", e.http)
		_, _ = io.WriteString(c, v1)
		if got := served(t, c); got != (n < 2) {
			t.Errorf("connection %d of one client is served: %v", n, got)
		}
	}
	if n := e.refused(gate.TooManyOfAddress); n != 1 {
		t.Errorf("%d refused", n)
	}
	c := dialFrom(t, "127.9.0.1", e.http)
	_, _ = io.WriteString(c, strings.Replace(v1, "0.2.7", "0.2.8", 1))
	if !served(t, c) {
		t.Error("another client behind the same proxy is not served")
	}
}

// TestSlowHeadersEnd: a proxy that says nothing does not hold a connection.
func TestSlowHeadersEnd(t *testing.T) {
	e := start(t, setup{config: Config{H2C: true, ProxyProtocol: ProxyProtocol{Trust: []string{"127.9.0.0/16"}}, Limits: Limits{HeaderTimeout: 100 * time.Millisecond}}})
	for from, begin := range map[string]string{"127.9.0.1": "PROXY TCP4", "127.9.0.2": proxyV2, "127.0.0.1": "PRI * HTTP"} {
		c := dialFrom(t, from, e.http)
		_, _ = io.WriteString(c, begin)
		if _, err := c.Read(make([]byte, 1)); err == nil || strings.Contains(err.Error(), "timeout") {
			t.Errorf("%q: %v, want it closed", begin, err)
		}
	}
	e.alone()
}

func TestHTTP2WithPriorKnowledge(t *testing.T) {
	handler := func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		_, _ = io.WriteString(w, r.Proto+" "+r.URL.Scheme+string(b))
	}
	tr := &http.Transport{Protocols: new(http.Protocols)}
	tr.Protocols.SetUnencryptedHTTP2(true)
	defer tr.CloseIdleConnections()
	for _, on := range []bool{true, false} {
		e := start(t, setup{handler: handler, config: Config{HTTP: []string{"127.0.0.1:0"}, H2C: on}})
		c := &client{base: "http://" + e.http, Client: plainClient(tr)}
		resp, err := c.Get(c.base)
		if on != (err == nil && resp.ProtoMajor == 2 && resp.StatusCode == 200) {
			t.Errorf("h2c %v: %v, %v", on, resp, err)
		}
		if err == nil {
			_ = resp.Body.Close()
		}
		h1 := e.h1()
		for _, method := range []string{"GET", "POST", "PRINT", "PUT"} { // that begin as the preface does
			resp, body := h1.do(t, h1.request(t, method, "/", strings.NewReader("-content")))
			if resp.ProtoMajor != 1 || body != "HTTP/1.1 -content" {
				t.Errorf("h2c %v, %s: %s, %q", on, method, resp.Status, body)
			}
		}
		// One byte at a time, and pipelined.
		raw := dialFrom(t, "127.0.0.1", e.http)
		for _, b := range []byte("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 1\r\n\r\nxGET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n") {
			_, _ = raw.Write([]byte{b})
		}
		if b, err := io.ReadAll(raw); err != nil || bytes.Count(b, []byte("HTTP/1.1 200 OK")) != 2 {
			t.Errorf("h2c %v: %q, %v", on, b, err)
		}
	}
}

func TestProxyProtocolIsValidated(t *testing.T) {
	c := Config{ProxyProtocol: ProxyProtocol{Trust: []string{"unix", "10.0.0.0/8", "10.0.0.1/8", "a.test"}}}
	var got []string
	c.Validate(func(path, _ string) { got = append(got, path) })
	if strings.Join(got, " ") != "proxy_protocol.trust[2] proxy_protocol.trust[3]" {
		t.Error(got)
	}
	var l live
	if l.trusts(&net.TCPConn{}) {
		t.Error("trusts somebody by default")
	}
}
