package e2e

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"
)

const (
	idleConnections = 10_000
	// Bytes that they may cost.
	idleClearMax, idleTLSMax = 100e6, 250e6
)

const idleConfig = `server:
  http: ["{http}"]
  https: ["{https}"]
  limits: {idle_timeout: 10m, connections_per_address: 20000, connections_per_prefix: 20000, handshake_rate_per_prefix: 2000}
  access_log: {format: "off"}
admin: {listen: "{admin}"}
data: "{data}"
store: {memory: {bytes: 64MiB}}
origins: {site: {url: "${E2E_ORIGIN}"}}
hosts: [{names: ["*"], origin: site}]
`

// Connections that wait cost little memory, are all still good for a request
// afterwards, and are gone when their clients are.
func TestSoakIdle(t *testing.T) {
	soak(t)
	for _, tt := range []struct {
		name   string
		secure bool
		most   int64
	}{
		{"clear", false, idleClearMax},
		{"TLS", true, idleTLSMax},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Setenv("E2E_ORIGIN", startOrigin(t).url)
			n, _ := startConfigured(t, idleConfig)
			ask := idleClient(t, n, tt.secure)
			first := ask.open()
			ask.ask(first)
			first.Close()
			goroutines := count(t, n, "go_goroutines")
			before := residentBytes(t, n)
			conns := make([]net.Conn, idleConnections)
			each(conns, func(c *net.Conn) {
				*c = ask.open()
				ask.ask(*c)
			})
			eventually(t, "all are idle", func() bool { return count(t, n, "edge_http1_idle_connections") == idleConnections })
			// What is given back late is not a cost of being idle.
			most, least := tt.most, int64(1<<62)
			deadline := time.Now().Add(patience)
			within(t, 2*patience, "memory is given back", func() bool {
				least = min(least, residentBytes(t, n)-before)
				return least <= most || time.Now().After(deadline)
			})
			t.Logf("%d idle connections cost %d MB", idleConnections, least/1e6)
			if least > most {
				t.Errorf("more than %d MB", most/1e6)
			}
			each(conns, func(c *net.Conn) { ask.ask(*c) })
			each(conns, func(c *net.Conn) {
				if *c != nil {
					(*c).Close()
				}
			})
			settles(t, n, goroutines)
		})
	}
}

// each calls f for every connection, some at a time.
func each(conns []net.Conn, f func(*net.Conn)) {
	var wg sync.WaitGroup
	const workers = 8
	for worker := range workers {
		wg.Go(func() {
			for i := worker; i < len(conns); i += workers {
				f(&conns[i])
			}
		})
	}
	wg.Wait()
}

// idler opens connections and asks on them; what goes wrong fails its test.
type idler struct {
	t       *testing.T
	address string
	tls     *tls.Config // nil: in the clear
}

func idleClient(t *testing.T, n *node, secure bool) *idler {
	c := &idler{t: t, address: n.http}
	if secure {
		c.address, c.tls = n.https, trust(t, n)
		c.tls.NextProtos = []string{"http/1.1"}
	}
	return c
}

func (c *idler) open() net.Conn {
	var conn net.Conn
	var err error
	if c.tls == nil {
		conn, err = net.DialTimeout("tcp", c.address, patience)
	} else {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		conn, err = (&tls.Dialer{Config: c.tls}).DialContext(ctx, "tcp", c.address)
	}
	if err != nil {
		c.t.Error(err)
		return nil
	}
	return conn
}

func (c *idler) ask(conn net.Conn) {
	if conn == nil {
		return
	}
	fmt.Fprintf(conn, "GET /video/1kB.bin HTTP/1.1\r\nHost: a.test\r\n\r\n") // an error shows below
	resp, err := http.ReadResponse(bufio.NewReaderSize(conn, 2048), nil)
	if err == nil {
		_, err = io.Copy(io.Discard, resp.Body)
	}
	if err != nil || resp.StatusCode != 200 {
		c.t.Errorf("%v, %v", resp, err)
	}
}
