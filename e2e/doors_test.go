package e2e

// doors_test.go: many who want nothing good do not keep out those who do.

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

func TestSlowConnections(t *testing.T) { slowConnections(t, 2000) }

func TestSoakSlowConnections(t *testing.T) {
	soak(t)
	slowConnections(t, 10_000)
}

// dialFrom connects from an address of loopback; nil where it is refused.
func dialFrom(t *testing.T, from, to string) net.Conn {
	t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}, Timeout: 10 * time.Second}
	c, err := d.Dial("tcp", to)
	if errors.Is(err, syscall.ECONNRESET) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// slowConnections opens many connections that begin something and do not go on:
// first from everywhere, so that all stay open, then from one address.
func slowConnections(t *testing.T, count int) {
	n := startEdge(t, startOrigin(t))
	behave := wellBehaved(t, n)
	before := residentBytes(t, n)
	for _, kind := range []struct{ name, address, begin string }{
		{"header", n.http, "GET / HTTP/1.1\r\nHost: a.test\r\nX-Slow: "},
		{"ClientHello", n.https, "\x16\x03\x01\x02\x00\x01\x00\x01"},
	} {
		var open []net.Conn
		for i := range count {
			c := dialFrom(t, fmt.Sprintf("127.1.%d.%d", 1+i/200%200, 1+i%200), kind.address)
			for late := time.Now().Add(10 * time.Second); c == nil && time.Now().Before(late); { // handshake_rate
				<-time.After(10 * time.Millisecond)
				c = dialFrom(t, fmt.Sprintf("127.1.%d.%d", 1+i/200%200, 1+i%200), kind.address)
			}
			if c == nil {
				continue
			}
			_, _ = c.Write([]byte(kind.begin))
			open = append(open, c)
		}
		behave(kind.name)
		each := (residentBytes(t, n) - before) / int64(count)
		t.Logf("%d slow connections (%s): %d bytes of resident memory each", len(open), kind.name, each)
		if each > 48<<10 {
			t.Errorf("%s: %d bytes for each slow connection", kind.name, each)
		}
		if len(open) < count {
			t.Errorf("%s: %d of %d connections are within the bounds and were refused", kind.name, count-len(open), count)
		}
		for _, c := range open {
			_ = c.Close()
		}
	}
	var open []net.Conn
	for range count {
		if c := dialFrom(t, "127.2.0.1", n.http); c != nil {
			open = append(open, c)
		}
	}
	behave("from one address")
	eventually(t, fmt.Sprintf("all beyond 1000 of %d are refused", count), func() bool {
		return counted(t, n, `edge_connections_refused_total{limit="connections_per_address"}`) >= count-1000-1
	})
	for _, c := range open {
		_ = c.Close()
	}
}

// wellBehaved returns what asks by every protocol, over new connections too.
func wellBehaved(t *testing.T, n *node) func(when string) {
	return func(when string) {
		t.Helper()
		for _, protocol := range []string{"h1", "h2", "h3"} {
			c := newClient(t, n, protocol)
			for range 20 {
				a, err := c.try(c.request(t, "GET", respond("size", "1000", "header", "Cache-Control:max-age=36000"), nil))
				if err != nil || a.StatusCode != 200 || len(a.body) != 1000 {
					t.Errorf("%s, %s: %v", when, protocol, err)
					break
				}
			}
		}
	}
}

// counted returns the value of a metric.
func counted(t *testing.T, n *node, series string) int {
	t.Helper()
	m := regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(series) + ` (\S+)$`).FindStringSubmatch(n.metrics(t))
	if m == nil {
		t.Fatalf("no %s", series)
	}
	value, err := strconv.ParseFloat(m[1], 64)
	if err != nil {
		t.Fatal(err)
	}
	return int(value)
}

// TestSocketActivation: systemd's own tool hands the sockets over.
func TestSocketActivation(t *testing.T) {
	need(t, "systemd-socket-activate")
	o := startOrigin(t)
	n := newNode(t)
	config := n.fill(`server: {http: ["fd:clear", "unix:{data}.sock"], access_log: {format: "off"}}
admin: {listen: "{admin}"}
data: "{data}"
origins: {site: {url: "` + o.url + `"}}
hosts: [{names: ["*"], origin: site}]
`)
	file := filepath.Join(t.TempDir(), "edge.yaml")
	writeFile(t, file, config)
	start(t, "systemd-socket-activate", "-l", n.http, "--fdname=clear", n.program, "serve", "--config", file)
	eventually(t, "served by the socket that was handed over", func() bool {
		c, err := net.Dial("tcp", n.http)
		if err != nil {
			return false
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(10 * time.Second))
		_, _ = c.Write([]byte("GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n"))
		b := make([]byte, 12)
		_, err = io.ReadFull(c, b)
		return err == nil && string(b) == "HTTP/1.1 200"
	})
	c, err := net.Dial("unix", n.data+".sock")
	if err != nil {
		t.Fatal(err)
	}
	_ = c.Close()
}

// TestSocketNobodyNames: a socket that was handed over for nothing is no secret.
func TestSocketNobodyNames(t *testing.T) {
	spare, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	file, err := spare.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	address := spare.Addr().String()
	_ = spare.Close() // the copy listens on
	o, n := startOrigin(t), newNode(t)
	n.program = "sh"
	n.files = []*os.File{file}
	n.args = []string{"-c", `LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=spare exec "$@"`, "sh", filepath.Join(bin, "edge"),
		"serve", "--origin", o.url, "--http", n.http, "--https", "off", "--admin", n.admin, "--data", n.data}
	n.start(t)
	n.says(t, "WARN", "no address names", "fd:spare", address)
}

func TestHandshakeFlood(t *testing.T) { handshakeFlood(t, 2*time.Second) }

func TestSoakHandshakeFlood(t *testing.T) { handshakeFlood(t, soak(t)) }

// handshakeFlood shakes hands from one network as fast as it goes, for longer where
// that is too slow for any to be refused.
func handshakeFlood(t *testing.T, d time.Duration) {
	t.Setenv("E2E_ORIGIN", startOrigin(t).url)
	n, _ := startConfigured(t, strings.Replace(floodConfig, "access_log", "limits: {handshake_rate_per_prefix: 100}, access_log", 1))
	behave := wellBehaved(t, n)
	behave("before")
	hello := clientHello(t)
	before := residentBytes(t, n)
	begun := time.Now()
	stop := begun.Add(d)
	var shaken, refused atomic.Int64
	var flood sync.WaitGroup
	for worker := range 8 {
		flood.Go(func() {
			for time.Now().Before(stop) || refused.Load() == 0 && time.Now().Before(stop.Add(patience)) {
				c := dialFrom(t, fmt.Sprintf("127.3.0.%d", 1+worker), n.https)
				if c == nil {
					refused.Add(1)
					continue
				}
				_, _ = c.Write(hello)
				_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
				if _, err := c.Read(make([]byte, 1)); err == nil {
					shaken.Add(1) // as far as it costs a server
				} else {
					refused.Add(1)
				}
				_ = c.(*net.TCPConn).SetLinger(0) // no port waits
				_ = c.Close()
			}
		})
	}
	for time.Now().Before(stop) {
		behave("during")
	}
	flood.Wait()
	grown := residentBytes(t, n) - before
	t.Logf("%d handshakes, %d refused, resident memory grew by %d bytes", shaken.Load(), refused.Load(), grown)
	if grown > 64<<20 {
		t.Errorf("resident memory grew by %d bytes", grown)
	}
	// As many as may be at once, and a second's for each second.
	if most := 100 * (int64(time.Since(begun)/time.Second) + 3); shaken.Load() > most || refused.Load() == 0 {
		t.Errorf("%d handshakes from one network in %v, want %d at most", shaken.Load(), d, most)
	}
}

// clientHello is what a client sends first, to be sent again and again: it costs
// the sender nothing and the server a signature.
func clientHello(t *testing.T) []byte {
	t.Helper()
	mine, other := net.Pipe()
	go func() {
		_ = tls.Client(mine, &tls.Config{InsecureSkipVerify: true, ServerName: "127.0.0.1"}).Handshake()
	}()
	defer mine.Close()
	b := make([]byte, 16<<10)
	n, err := other.Read(b)
	if err != nil {
		t.Fatal(err)
	}
	return b[:n]
}
