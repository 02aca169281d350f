package e2e

import (
	"bufio"
	"context"
	"crypto/tls"
	"io"
	"net"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// rawConn is a connection on which a test says what it likes.
type rawConn struct {
	net.Conn
	in *bufio.Reader
}

// dialRaw opens a connection that ends with the test.
func dialRaw(t *testing.T, address string) *rawConn {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(patience))
	return &rawConn{conn, bufio.NewReader(conn)}
}

func (c *rawConn) say(t *testing.T, text string) {
	t.Helper()
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
}

// line returns the next line, without its end.
func (c *rawConn) line(t *testing.T) string {
	t.Helper()
	line, err := c.in.ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimRight(line, "\r\n")
}

// rest returns all that comes until the node closes.
func (c *rawConn) rest(t *testing.T) string {
	t.Helper()
	text, err := io.ReadAll(c.in)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// dialTLS opens a TLS connection of a protocol, or none.
func dialTLS(ctx context.Context, n *node, config *tls.Config, protocol string) (net.Conn, error) {
	config = config.Clone()
	config.NextProtos = []string{protocol}
	return (&tls.Dialer{Config: config}).DialContext(ctx, "tcp", n.https)
}

// count returns the sum of a metric's samples that have all labels, each
// written as name="value".
func count(t *testing.T, n *node, name string, labels ...string) float64 {
	t.Helper()
	return countIn(t, n.metrics(t), name, labels...)
}

// countIn is count for a page that is there.
func countIn(t *testing.T, metrics, name string, labels ...string) float64 {
	t.Helper()
	sum := 0.0
	for _, m := range regexp.MustCompile(`(?m)^`+name+`(\{[^}]*\})? ([0-9.e+-]+)$`).FindAllStringSubmatch(metrics, -1) {
		has := true
		for _, label := range labels {
			has = has && strings.Contains(m[1], label)
		}
		if !has {
			continue
		}
		v, err := strconv.ParseFloat(m[2], 64)
		if err != nil {
			t.Fatal(err)
		}
		sum += v
	}
	return sum
}
