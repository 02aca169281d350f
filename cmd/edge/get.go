package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/netip"
	"net/textproto"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"

	"edgecdn/server"
)

// getCmd is a small HTTP client that says what the caches on the way did.
type getCmd struct {
	URL      string        `arg:"" help:"What to fetch. Without a scheme: http."`
	HTTP1    bool          `name:"http1" xor:"protocol" help:"Speak HTTP/1.1."`
	HTTP2    bool          `name:"http2" xor:"protocol" help:"Speak HTTP/2 (https only)."`
	HTTP3    bool          `name:"http3" xor:"protocol" help:"Speak HTTP/3 (https only)."`
	Repeat   int           `short:"n" default:"1" placeholder:"N" help:"Fetch N times, one after the other on the same connection."`
	Header   []string      `short:"H" sep:"none" placeholder:"NAME:VALUE" help:"Request field to send; may be given more than once."`
	Method   string        `short:"X" default:"GET" help:"Request method."`
	Head     bool          `short:"I" help:"Same as --method=HEAD."`
	Output   string        `short:"o" placeholder:"FILE" help:"Write the body of the last response here; - is standard output, and all else goes to standard error."`
	Insecure bool          `short:"k" help:"Accept any certificate."`
	CACert   string        `name:"cacert" placeholder:"FILE" help:"Trust the certificate authorities in this PEM file."`
	Resolve  []string      `sep:"none" placeholder:"HOST:PORT:ADDR" help:"Connect to ADDR for HOST and PORT; may be given more than once."`
	Timeout  time.Duration `default:"30s" help:"Give up on a fetch after this long."`
	Data     string        `default:"./data" placeholder:"DIR" help:"Data directory of an edge on this machine, whose development certificate authority is trusted for loopback addresses."`
}

const getRepeatMax = 10_000

// Help is shown below the flags.
func (c *getCmd) Help() string {
	return `Shows for each fetch the status, the protocol that was really spoken, where the time went, and what the cache fields of the response mean.

Examples:

  edge get --repeat 2 http://127.0.0.1:8080/         # a miss, then a hit
  edge get --http3 https://127.0.0.1:8443/           # over QUIC
  edge get --http2 -H 'Range: bytes=0-99' https://127.0.0.1:8443/video/1MB.bin
  edge get --http3 --resolve www.example.com:443:192.0.2.7 https://www.example.com/
  edge get -o page.html http://127.0.0.1:8080/

The exit code is 0 when every fetch got a whole response, whatever its status.`
}

// Run fetches and reports.
func (c *getCmd) Run() error { return c.run(os.Stdout, os.Stderr) }

// run writes the report to stdout, or to stderr where stdout takes the body.
func (c *getCmd) run(stdout, stderr io.Writer) error {
	target, err := c.target()
	if err != nil {
		return err
	}
	client, closeClient, err := c.client(target)
	if err != nil {
		return err
	}
	defer closeClient()
	report := stdout
	if c.Output == "-" {
		report = stderr
	}
	fmt.Fprintf(report, "%s %s%s\n", c.Method, target, client.trust)
	for i := range c.Repeat {
		body, closeBody := io.Discard, func() error { return nil }
		if i == c.Repeat-1 && c.Output == "-" {
			body = stdout
		} else if i == c.Repeat-1 && c.Output != "" {
			file, err := os.Create(c.Output)
			if err != nil {
				return fmt.Errorf("get: output: %w", err)
			}
			body, closeBody = file, file.Close
		}
		f, err := c.fetch(client, target, body)
		err = errors.Join(err, closeBody())
		fmt.Fprintf(report, "\n%d. ", i+1)
		f.report(report)
		if err != nil {
			return fmt.Errorf("get: %w", err)
		}
	}
	return nil
}

// target checks the flags and returns the URL with its scheme.
func (c *getCmd) target() (*url.URL, error) {
	if c.Head {
		c.Method = http.MethodHead
	}
	if c.Repeat < 1 || c.Repeat > getRepeatMax {
		return nil, fmt.Errorf("get: --repeat %d: choose 1 to %d", c.Repeat, getRepeatMax)
	}
	text := c.URL
	if !strings.Contains(text, "://") {
		text = "http://" + text
	}
	target, err := url.Parse(text)
	if err != nil {
		return nil, fmt.Errorf("get: %w", err)
	}
	switch {
	case target.Scheme != "http" && target.Scheme != "https":
		return nil, fmt.Errorf("get: %s: only http and https can be fetched", target)
	case target.Host == "":
		return nil, fmt.Errorf("get: %s: no host in this URL", target)
	case target.Scheme == "http" && (c.HTTP2 || c.HTTP3):
		return nil, fmt.Errorf("get: %s: HTTP/2 and HTTP/3 need https", target)
	}
	return target, nil
}

// getClient is a round tripper with what must be told of its making.
type getClient struct {
	http.RoundTripper
	trust string // text for the report: what was trusted beside the system's authorities
}

func (c *getCmd) client(target *url.URL) (*getClient, func(), error) {
	dialAddress, err := c.resolver()
	if err != nil {
		return nil, nil, err
	}
	conf, trust, err := c.tlsConfig(target, dialAddress)
	if err != nil {
		return nil, nil, err
	}
	if c.HTTP3 {
		transport := &http3.Transport{
			TLSClientConfig:    conf,
			DisableCompression: true,
			Dial: func(ctx context.Context, address string, tc *tls.Config, qc *quic.Config) (*quic.Conn, error) {
				trace := httptrace.ContextClientTrace(ctx)
				trace.TLSHandshakeStart()
				conn, err := quic.DialAddr(ctx, dialAddress(address), tc, qc)
				if err != nil {
					return nil, err
				}
				trace.TLSHandshakeDone(conn.ConnectionState().TLS, nil)
				return conn, nil
			},
		}
		return &getClient{transport, trust}, func() { transport.Close() }, nil
	}
	var protocols http.Protocols
	protocols.SetHTTP1(!c.HTTP2)
	protocols.SetHTTP2(!c.HTTP1)
	transport := &http.Transport{
		TLSClientConfig:    conf,
		DisableCompression: true,
		Protocols:          &protocols,
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, dialAddress(address))
		},
	}
	return &getClient{transport, trust}, transport.CloseIdleConnections, nil
}

// resolver returns a function from the address in a URL to the one to dial.
func (c *getCmd) resolver() (func(string) string, error) {
	dial := map[string]string{}
	for _, entry := range c.Resolve {
		parts := strings.SplitN(entry, ":", 3)
		if len(parts) != 3 || parts[0] == "" || parts[1] == "" || strings.Trim(parts[2], "[]") == "" {
			return nil, fmt.Errorf("get: --resolve %s: write HOST:PORT:ADDR, such as www.example.com:443:192.0.2.7", entry)
		}
		dial[net.JoinHostPort(parts[0], parts[1])] = net.JoinHostPort(strings.Trim(parts[2], "[]"), parts[1])
	}
	return func(address string) string {
		if mapped, ok := dial[address]; ok {
			return mapped
		}
		return address
	}, nil
}

// tlsConfig says what to trust, and in words where that is not the usual.
func (c *getCmd) tlsConfig(target *url.URL, dialAddress func(string) string) (*tls.Config, string, error) {
	conf := &tls.Config{InsecureSkipVerify: c.Insecure}
	if target.Scheme != "https" {
		return conf, "", nil
	}
	if c.Insecure {
		return conf, "\naccepting any certificate", nil
	}
	file, trust := c.CACert, ""
	if file == "" {
		dev := server.DevelopmentCA(findData(c.Data))
		if _, err := os.Stat(dev); err != nil || !isLoopback(dialAddress(hostPort(target))) {
			return conf, "", nil
		}
		file, trust = dev, "\ntrusting the development certificate authority "+dev+" (loopback only)"
	}
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, "", fmt.Errorf("get: certificate authorities: %w", err)
	}
	if conf.RootCAs, err = x509.SystemCertPool(); err != nil {
		conf.RootCAs = x509.NewCertPool()
	}
	if !conf.RootCAs.AppendCertsFromPEM(pem) {
		return nil, "", fmt.Errorf("get: %s: no certificate in PEM form in it", file)
	}
	return conf, trust, nil
}

func hostPort(target *url.URL) string {
	port := target.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[target.Scheme]
	}
	return net.JoinHostPort(target.Hostname(), port)
}

func isLoopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	if host == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsLoopback()
}

// fetch sends one request and reads the whole response. What is known at an
// error is in the fetched all the same.
func (c *getCmd) fetch(client *getClient, target *url.URL, body io.Writer) (*fetched, error) {
	ctx, cancel := context.WithTimeout(context.Background(), c.Timeout)
	defer cancel()
	f := &fetched{start: time.Now()}
	req, err := http.NewRequestWithContext(httptrace.WithClientTrace(ctx, f.trace()), c.Method, target.String(), nil)
	if err != nil {
		return f, err
	}
	req.Header.Set("User-Agent", "edge-get/"+version)
	for _, line := range c.Header {
		name, value, ok := strings.Cut(line, ":")
		if name = strings.TrimSpace(name); !ok || name == "" {
			return f, fmt.Errorf("--header %q: write NAME:VALUE", line)
		}
		if value = strings.TrimSpace(value); strings.EqualFold(name, "Host") {
			req.Host = value
		} else {
			req.Header.Add(name, value)
		}
	}
	resp, err := client.RoundTrip(req)
	if err != nil {
		return f, err
	}
	defer resp.Body.Close()
	f.mu.Lock()
	f.firstByte = time.Now()
	f.mu.Unlock()
	f.response = resp
	f.size, err = io.Copy(body, resp.Body)
	f.done = time.Now()
	if err != nil {
		return f, fmt.Errorf("the body ended early, after %d bytes: %w", f.size, err)
	}
	return f, nil
}

// trace notes where the time goes. Its functions may be called by goroutines of
// the transport, even after the response is there.
func (f *fetched) trace() *httptrace.ClientTrace {
	note := func(at *time.Time) {
		f.mu.Lock()
		defer f.mu.Unlock()
		if at.IsZero() {
			*at = time.Now()
		}
	}
	return &httptrace.ClientTrace{
		ConnectStart: func(string, string) { note(&f.connectStart) },
		ConnectDone: func(_, _ string, err error) {
			if err == nil {
				note(&f.connectDone)
			}
		},
		TLSHandshakeStart: func() { note(&f.tlsStart) },
		TLSHandshakeDone:  func(tls.ConnectionState, error) { note(&f.tlsDone) },
		GotConn: func(info httptrace.GotConnInfo) {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.reused = info.Reused
		},
		Got1xxResponse: func(code int, header textproto.MIMEHeader) error {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.interim = append(f.interim, interim{code, http.Header(header)})
			return nil
		},
	}
}
