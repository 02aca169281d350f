package e2e

// addresses_test.go: rules about addresses, asked for from machines that have them.

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const addressConfig = `
server:
  http: ["10.0.0.1:80", "[2001:db8::1]:80"]
  https: ["10.0.0.1:443", "[2001:db8::1]:443"]
  access_log: {format: "off"}
  proxy_protocol: {trust: [10.9.0.1]}
  limits: {connections_per_address: 4, connections_per_prefix: 6}
admin: {listen: "127.0.0.1:8081"}
data: "{data}"
origins: {site: {url: "http://10.0.0.1:9000"}}
hosts:
  - names: [deny.test]
    origin: site
    access: {deny: [10.6.6.6, "2001:db8:66::/48"]}
  - names: [allow.test]
    origin: site
    access: {allow: [10.7.0.0/16, "2001:db8:7::/48"]}
  - names: [rate.test]
    origin: site
    access: {rates: [{requests: 1, per: 1h, burst: 2}]}
  - names: [prefix.test]
    origin: site
    access: {rates: [{key: prefix, requests: 1, per: 1h, burst: 2}]}
`

// onNetwork starts an edge and its origin on a machine.
func onNetwork(t *testing.T, m *machine, config string) *node {
	t.Helper()
	n := newNode(t)
	file := filepath.Join(t.TempDir(), "edge.yaml")
	writeFile(t, file, n.fill(config))
	m.start(t, filepath.Join(bin, "origin"), "--listen", "10.0.0.1:9000")
	n.process = m.start(t, n.program, "serve", "--config", file)
	eventually(t, "edge is ready", func() bool {
		if !n.running() {
			t.Fatalf("edge ended\n%s", tail(n.output.String(), 20))
		}
		return m.status("http://127.0.0.1:8081/readyz", "127.0.0.1") == 200 && m.status("http://10.0.0.1:9000/", "10.0.0.1") == 200
	})
	return n
}

// status asks for a URL over a connection of its own, from one of the machine's
// addresses where it is given; 0 without an answer.
func (m *machine) status(url, host string, from ...string) int {
	tr := &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true},
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			return m.dialFrom(ctx, network, address, from...)
		}}
	req, err := http.NewRequest("GET", url, nil)
	if err != nil {
		return 0
	}
	req.Host = host
	resp, err := (&http.Client{Transport: tr, Timeout: patience}).Do(req)
	if err != nil {
		return 0
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode
}

func (m *machine) dialFrom(ctx context.Context, network, address string, from ...string) (c net.Conn, err error) {
	d := new(net.Dialer)
	if len(from) > 0 {
		d.LocalAddr = &net.TCPAddr{IP: net.ParseIP(from[0])}
	}
	if failed := m.enter(func() { c, err = d.DialContext(ctx, network, address) }); failed != nil {
		return nil, failed
	}
	return c, err
}

func TestAddressRules(t *testing.T) {
	lan := newLAN(t)
	server := lan.machine(t, "10.0.0.1/8", "2001:db8::1/32")
	bad := lan.machine(t, "10.6.6.6/8", "2001:db8:66:1::1/32")
	good := lan.machine(t, "10.7.0.1/8", "2001:db8:7::1/32")
	good.address(t, "10.7.0.2/8")
	good.address(t, "2001:db8:7::2/32")   // of the same /64
	good.address(t, "2001:db8:7:1::1/32") // of another, and the same /48
	good.address(t, "2001:db8:8::1/32")   // of another /48
	onNetwork(t, server, addressConfig)
	const v4, v6, v6tls = "http://10.0.0.1/", "http://[2001:db8::1]/", "https://[2001:db8::1]/"
	for _, test := range []struct {
		from      *machine
		address   string // "" is the first
		url, host string
		want      int
	}{
		{bad, "", v4, "deny.test", 403},
		{bad, "", v6, "deny.test", 403},
		{bad, "", v6tls, "deny.test", 403},
		{good, "", v4, "deny.test", 200},
		{good, "", v6tls, "deny.test", 200},
		{bad, "", v4, "allow.test", 403},
		{bad, "", v6, "allow.test", 403},
		{good, "10.7.0.1", v4, "allow.test", 200},
		{good, "2001:db8:7::1", v6, "allow.test", 200},
		{good, "2001:db8:8::1", v6, "allow.test", 403},
		// Two at once for each address, of IPv6 for each /64, over all listeners.
		{good, "10.7.0.1", v4, "rate.test", 200},
		{good, "10.7.0.1", v4, "rate.test", 200},
		{good, "10.7.0.1", v4, "rate.test", 429},
		{good, "10.7.0.2", v4, "rate.test", 200},
		{good, "2001:db8:7::1", v6, "rate.test", 200},
		{good, "2001:db8:7::2", v6tls, "rate.test", 200},
		{good, "2001:db8:7::1", v6, "rate.test", 429},
		{good, "2001:db8:7:1::1", v6, "rate.test", 200},
		// For each network: an IPv4 /24, an IPv6 /48.
		{good, "10.7.0.1", v4, "prefix.test", 200},
		{good, "10.7.0.2", v4, "prefix.test", 200},
		{good, "10.7.0.1", v4, "prefix.test", 429},
		{bad, "", v4, "prefix.test", 200},
		{good, "2001:db8:7::1", v6, "prefix.test", 200},
		{good, "2001:db8:7:1::1", v6, "prefix.test", 200},
		{good, "2001:db8:7::2", v6, "prefix.test", 429},
		{good, "2001:db8:8::1", v6, "prefix.test", 200},
	} {
		var from []string
		if test.address != "" {
			from = []string{test.address}
		}
		if got := test.from.status(test.url, test.host, from...); got != test.want {
			t.Errorf("%s from %s %s: %d, want %d", test.host, test.from.name, test.address, got, test.want)
		}
	}
}

// TestConnectionBoundsByAddress: connections are counted by the address that they
// come from, and by its network.
func TestConnectionBoundsByAddress(t *testing.T) {
	lan := newLAN(t)
	server := lan.machine(t, "10.0.0.1/8", "2001:db8::1/32")
	client := lan.machine(t, "10.7.0.1/8")
	var addresses []string
	for i := range 3 {
		for _, address := range []string{fmt.Sprintf("10.8.0.%d", i+1), fmt.Sprintf("10.8.1.%d", i+1), fmt.Sprintf("2001:db8:7::%d", i+1)} {
			client.address(t, address+map[bool]string{true: "/32", false: "/8"}[strings.Contains(address, ":")])
			addresses = append(addresses, address)
		}
	}
	onNetwork(t, server, addressConfig)
	open := map[string]int{}
	for range 5 {
		for _, address := range addresses {
			to := "10.0.0.1:80"
			if strings.Contains(address, ":") {
				to = "[2001:db8::1]:80"
			}
			if c := client.held(t, to, address); c != nil {
				defer c.Close()
				open[address]++
				open[network24(address)]++
			}
		}
	}
	for _, network := range []string{"10.8.0.0", "10.8.1.0", "2001:db8:7::"} {
		if open[network] != 6 {
			t.Errorf("%d connections of %s, want 6: %v", open[network], network, open)
		}
	}
	for _, address := range []string{"10.7.0.1", "2001:db8:7:1::1"} {
		to := "10.0.0.1:80"
		if strings.Contains(address, ":") {
			client.address(t, address+"/32")
			to = "[2001:db8::1]:80"
		}
		for range 6 {
			if c := client.held(t, to, address); c != nil {
				defer c.Close()
				open[address]++
			}
		}
		if open[address] != 4 {
			t.Errorf("%d connections of %s, want 4", open[address], address)
		}
	}
}

func network24(address string) string {
	if i := strings.LastIndex(address, "."); i >= 0 {
		return address[:i] + ".0"
	}
	return "2001:db8:7::"
}

// held returns a connection on which a request was answered, nil where it was refused.
func (m *machine) held(t *testing.T, to, from string) net.Conn {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	c, err := m.dialFrom(ctx, "tcp", to, from)
	if err != nil {
		return nil
	}
	_ = c.SetDeadline(time.Now().Add(patience))
	_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: deny.test\r\n\r\n")
	b := make([]byte, 12)
	if _, err := io.ReadFull(c, b); err != nil || string(b) != "HTTP/1.1 200" {
		_ = c.Close()
		return nil
	}
	return c
}

// TestProxyByAddress: a trusted proxy says whose a connection is; whoever else says
// so is turned away, loudly.
func TestProxyByAddress(t *testing.T) {
	lan := newLAN(t)
	server := lan.machine(t, "10.0.0.1/8", "2001:db8::1/32")
	proxy, other := lan.machine(t, "10.9.0.1/8"), lan.machine(t, "10.9.0.2/8")
	n := onNetwork(t, server, addressConfig)
	say := func(m *machine, header string) string {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		c, err := m.dial(ctx, "tcp", "10.0.0.1:80")
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(patience))
		_, _ = io.WriteString(c, header+"GET / HTTP/1.1\r\nHost: allow.test\r\nConnection: close\r\n\r\n")
		b := make([]byte, 12)
		k, _ := io.ReadFull(c, b)
		return string(b[:k])
	}
	for header, want := range map[string]string{
		"PROXY TCP4 10.7.0.9 10.0.0.1 4000 80\r\n":         "HTTP/1.1 200",
		"PROXY TCP6 2001:db8:7::9 2001:db8::1 4000 80\r\n": "HTTP/1.1 200",
		"PROXY TCP4 10.6.6.6 10.0.0.1 4000 80\r\n":         "HTTP/1.1 403",
		"": "",
	} {
		if got := say(proxy, header); got != want {
			t.Errorf("the proxy says %q: %q, want %q", header, got, want)
		}
	}
	// Once a second the log says so.
	eventually(t, "the log says that it was refused", func() bool {
		if got := say(other, "PROXY TCP4 10.7.0.9 10.0.0.1 4000 80\r\n"); got == "HTTP/1.1 200" {
			t.Fatalf("another says who it is and is believed: %q", got)
		}
		return strings.Contains(n.output.String(), "10.9.0.2:")
	})
}
