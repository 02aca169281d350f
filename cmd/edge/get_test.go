package main

import (
	"crypto/tls"
	"encoding/pem"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/alecthomas/kong"
	"github.com/quic-go/quic-go/http3"

	"edgecdn/server"
)

// getServer answers on one port over HTTP/1.1 and HTTP/2 on TCP and HTTP/3 on
// UDP, and puts its certificate where a node's data directory would have it.
func getServer(t *testing.T, handler http.HandlerFunc) (base, data string) {
	t.Helper()
	front := httptest.NewUnstartedServer(handler)
	packets, err := net.ListenPacket("udp", front.Listener.Addr().String())
	for range 20 { // somebody else may have that port
		if err == nil {
			break
		}
		front.Listener.Close()
		front = httptest.NewUnstartedServer(handler)
		packets, err = net.ListenPacket("udp", front.Listener.Addr().String())
	}
	if err != nil {
		t.Fatal(err)
	}
	front.EnableHTTP2 = true
	front.Config.ErrorLog = log.New(io.Discard, "", 0) // handshakes fail on purpose
	front.StartTLS()
	t.Cleanup(front.Close)
	quicServer := &http3.Server{Handler: handler, TLSConfig: http3.ConfigureTLSConfig(&tls.Config{Certificates: front.TLS.Certificates})}
	served := make(chan error, 1)
	go func() { served <- quicServer.Serve(packets) }()
	t.Cleanup(func() {
		quicServer.Close()
		packets.Close()
		if err := <-served; !errors.Is(err, http.ErrServerClosed) {
			t.Errorf("http3: %v", err)
		}
	})
	data = t.TempDir()
	ca := server.DevelopmentCA(data)
	if err := os.MkdirAll(filepath.Dir(ca), 0o700); err != nil {
		t.Fatal(err)
	}
	block := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: front.Certificate().Raw})
	if err := os.WriteFile(ca, block, 0o600); err != nil {
		t.Fatal(err)
	}
	return front.URL, data
}

// get runs `edge get` with these arguments and returns what it wrote.
func get(t *testing.T, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	c, err := parseGet(t, args)
	if err != nil {
		return "", "", err
	}
	var out, report strings.Builder
	err = c.run(&out, &report)
	return out.String(), report.String(), err
}

func parseGet(t *testing.T, args []string) (c getCmd, err error) {
	t.Helper()
	parser, err := kong.New(&c)
	if err != nil {
		t.Fatal(err)
	}
	_, err = parser.Parse(args)
	return c, err
}

func TestGetProtocols(t *testing.T) {
	base, data := getServer(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Link", "</a.css>; rel=preload")
		w.WriteHeader(http.StatusEarlyHints)
		w.Header().Del("Link")
		w.Header().Set("Cache-Status", "edge; fwd=uri-miss; stored")
		w.Header().Set("Trailer", "Digest")
		io.WriteString(w, "hello over "+r.Proto)
		w.Header().Set("Digest", "42")
	})
	for _, tt := range []struct{ flag, proto string }{
		{"--http1", "HTTP/1.1"}, {"--http2", "HTTP/2.0"}, {"--http3", "HTTP/3.0"},
	} {
		t.Run(tt.proto, func(t *testing.T) {
			body, report, err := get(t, tt.flag, "--data", data, "--output", "-", "--repeat", "2", base)
			if err != nil {
				t.Fatal(err)
			}
			if want := "hello over " + tt.proto; body != want {
				t.Errorf("body %q, want %q: that of the last fetch alone", body, want)
			}
			for _, want := range []string{
				`^GET https://127\.0\.0\.1:\d+\ntrusting the development certificate authority .*tls/development-ca\.pem \(loopback only\)\n`,
				`\n1\. 103 Early Hints\n     Link: </a\.css>; rel=preload\n`,
				`\n   200 OK, ` + tt.proto + `, 19 bytes\n`,
				`\n   time: .*TLS [0-9.]+ ms, first byte [0-9.]+ ms, total [0-9.]+ ms\n`,
				`\n   Cache-Status: edge; fwd=uri-miss; stored\n     edge had nothing under this URL and asked the origin; stored the response for the next\n`,
				`\n   trailers:\n     Digest: 42\n`,
				`\n2\. 103 [^2]*\n[^2]*200 OK[^\n]*\n   time: connection reused, first byte`,
			} {
				if !regexp.MustCompile(want).MatchString(report) {
					t.Errorf("report does not match %q:\n%s", want, report)
				}
			}
		})
	}
}

func TestGetRequest(t *testing.T) {
	base, data := getServer(t, func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, r.Method+" "+r.Host+" "+r.RequestURI+" "+r.Header.Get("X-One")+" "+r.Header.Get("Accept-Encoding"))
		w.Header().Set("X-Method", r.Method)
	})
	for _, protocol := range []string{"--http1", "--http2", "--http3"} {
		// The path goes out as it was written, and no encoding is asked for.
		body, _, err := get(t, protocol, "--data", data, "-o", "-", "-X", "PURGE", "-H", "host: other.test", "-H", "X-One: 1, 2", base+"/a//b/../%2F?q=%20")
		if want := "PURGE other.test /a//b/../%2F?q=%20 1, 2 "; err != nil || body != want {
			t.Errorf("%s: body %q, error %v, want %q", protocol, body, err, want)
		}
	}
	port := base[strings.LastIndex(base, ":")+1:]
	for _, protocol := range []string{"--http2", "--http3"} {
		body, _, err := get(t, protocol, "--data", data, "-o", "-", "--resolve", "example.com:"+port+":127.0.0.1", "https://example.com:"+port+"/")
		if err != nil || !strings.HasPrefix(body, "GET example.com:"+port) {
			t.Errorf("%s --resolve: body %q, error %v", protocol, body, err)
		}
	}
	out, _, err := get(t, "--head", "--data", data, base)
	if err != nil || !strings.Contains(out, "HEAD https://") || !strings.Contains(out, "200 OK, HTTP/2.0, 0 bytes") {
		t.Errorf("--head: %v\n%s", err, out)
	}
}

func TestGetOutputFile(t *testing.T) {
	base, data := getServer(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "whole") })
	file := filepath.Join(t.TempDir(), "out")
	if _, _, err := get(t, "--data", data, "-o", file, base); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(file); err != nil || string(got) != "whole" {
		t.Errorf("file %q, error %v", got, err)
	}
}

func TestGetTrust(t *testing.T) {
	base, data := getServer(t, func(http.ResponseWriter, *http.Request) {})
	for _, protocol := range []string{"--http1", "--http2", "--http3"} {
		if out, _, err := get(t, protocol, "--data", t.TempDir(), base); err == nil {
			t.Errorf("%s: an unknown authority was trusted:\n%s", protocol, out)
		}
		if out, _, err := get(t, protocol, "--cacert", server.DevelopmentCA(data), base); err != nil || strings.Contains(out, "trusting") {
			t.Errorf("%s --cacert: %v\n%s", protocol, err, out)
		}
		if out, _, err := get(t, protocol, "--insecure", base); err != nil || !strings.Contains(out, "accepting any certificate") {
			t.Errorf("%s --insecure: %v\n%s", protocol, err, out)
		}
	}
	for address, want := range map[string]bool{
		"127.0.0.1:1": true, "127.9.9.9:1": true, "[::1]:1": true, "localhost:1": true,
		"192.0.2.1:1": false, "example.com:1": false, "localhost.example.com:1": false,
	} {
		if isLoopback(address) != want {
			t.Errorf("isLoopback(%s) = %t", address, !want)
		}
	}
}

func TestGetAborted(t *testing.T) {
	seen := make(chan struct{}, 1)
	base, data := getServer(t, func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, strings.Repeat("x", 10_000))
		http.NewResponseController(w).Flush()
		<-seen // a reset may overtake the header on its way
		panic(http.ErrAbortHandler)
	})
	for _, protocol := range []string{"--http1", "--http2", "--http3"} {
		c, err := parseGet(t, []string{protocol, "--data", data, "-o", "-", base})
		if err != nil {
			t.Fatal(err)
		}
		var report strings.Builder
		once := sync.OnceFunc(func() { seen <- struct{}{} })
		err = c.run(writerFunc(func(p []byte) (int, error) { once(); return len(p), nil }), &report)
		if err == nil || !strings.Contains(err.Error(), "the body ended early") || !strings.Contains(report.String(), "200 OK") {
			t.Errorf("%s: error %v\n%s", protocol, err, &report)
		}
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

func TestGetRefusals(t *testing.T) {
	for _, tt := range []struct {
		args []string
		want string
	}{
		{[]string{"--http3", "http://127.0.0.1/"}, "need https"},
		{[]string{"--http2", "127.0.0.1/"}, "need https"},
		{[]string{"ftp://127.0.0.1/"}, "only http and https"},
		{[]string{"http:///a"}, "no host"},
		{[]string{"--repeat", "0", "127.0.0.1"}, "choose 1 to"},
		{[]string{"--resolve", "a:1", "127.0.0.1"}, "HOST:PORT:ADDR"},
		{[]string{"--cacert", "missing.pem", "https://127.0.0.1"}, "missing.pem"},
		{[]string{"--cacert", "get_test.go", "https://127.0.0.1"}, "no certificate"},
		{[]string{"--http1", "--http2", "127.0.0.1"}, "can't be used together"},
		{[]string{"-H", "nocolon", "127.0.0.1:1"}, "NAME:VALUE"},
	} {
		if _, _, err := get(t, tt.args...); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%q: error %v, want one with %q", tt.args, err, tt.want)
		}
	}
}
