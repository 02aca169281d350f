package main

// Clients: wrk for HTTP/1.1, h2load for HTTP/2, and our own for handshakes and
// HTTP/3, which Debian's have not. All are closed loops of a fixed number of
// connections: what is wanted is the cost of a request, not the highest rate.

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/quic-go/quic-go/http3"
)

// loadWrk is wrk in the clear, loadWrkTLS the same over TLS.
func loadWrk(ctx context.Context, s *stage, to *server, what *row, d time.Duration) (int64, error) {
	return wrk(ctx, s, "http://"+to.clear, what, d)
}

func loadWrkTLS(ctx context.Context, s *stage, to *server, what *row, d time.Duration) (int64, error) {
	return wrk(ctx, s, "https://"+to.tls, what, d)
}

// wrk runs with a script that goes through the paths.
func wrk(ctx context.Context, s *stage, base string, what *row, d time.Duration) (int64, error) {
	var text strings.Builder
	text.WriteString("local paths = {\"" + strings.Join(what.paths, `","`) + "\"}\nlocal headers = {}\n")
	for _, field := range what.fields {
		name, value, _ := strings.Cut(field, ": ")
		fmt.Fprintf(&text, "headers[%q] = %q\n", name, value)
	}
	one := "return wrk.format('GET', paths[n], headers)"
	if what.fresh {
		fmt.Fprintf(&text, "local total = 0\n")
		one = fmt.Sprintf("total = total + 1; return wrk.format('GET', paths[n] .. '&fresh=%d-' .. total, headers)", time.Now().UnixNano())
	}
	text.WriteString("local n = 0\nrequest = function() n = n % #paths + 1; " + one + " end\n")
	script := filepath.Join(s.dir, "wrk.lua")
	if err := os.WriteFile(script, []byte(text.String()), 0o600); err != nil {
		return 0, err
	}
	// wrk knows whole seconds only.
	seconds := strconv.Itoa(max(1, int(d.Seconds()+0.5)))
	out, err := exec.CommandContext(ctx, "wrk", "-t1", "-c", strconv.Itoa(what.connections), "-d", seconds+"s", "-s", script, base).CombinedOutput()
	if err != nil {
		return 0, fmt.Errorf("wrk: %w\n%s", err, out)
	}
	return parseWrk(string(out))
}

var (
	wrkRequests = regexp.MustCompile(`(\d+) requests in `)
	wrkTrouble  = regexp.MustCompile(`Socket errors: .*|Non-2xx or 3xx responses: .*`)
)

func parseWrk(out string) (int64, error) {
	if trouble := wrkTrouble.FindString(out); trouble != "" {
		return 0, errors.New("wrk: " + trouble)
	}
	return firstNumber("wrk", wrkRequests, out)
}

// loadHTTP2 is h2load over TLS. It stops by count exactly and by time roughly,
// so the count comes from the rate seen in prepareHTTP2.
func loadHTTP2(ctx context.Context, s *stage, to *server, what *row, d time.Duration) (int64, error) {
	return h2load(ctx, to, what, max(what.probe(), int64(s.http2Rate[to.name+what.name]*d.Seconds())))
}

// probe is enough requests to see a rate and to open every connection.
func (r *row) probe() int64 { return int64(r.connections * r.streams * 2) }

// prepareHTTP2 fills the cache over TLS (the scheme is part of the key) and
// learns the rate.
func prepareHTTP2(ctx context.Context, s *stage, to *server, what *row) error {
	if err := prepareTLS(ctx, s, to, what); err != nil {
		return err
	}
	for range 3 {
		started := time.Now()
		if _, err := h2load(ctx, to, what, what.probe()); err != nil {
			return err
		}
		s.http2Rate[to.name+what.name] = float64(what.probe()) / time.Since(started).Seconds()
	}
	return nil
}

// prepareHTTP3 fills the cache over HTTP/3.
func prepareHTTP3(ctx context.Context, s *stage, to *server, what *row) error {
	_, err := loadHTTP3(ctx, s, to, what, 200*time.Millisecond)
	return err
}

func h2load(ctx context.Context, to *server, what *row, n int64) (int64, error) {
	args := []string{"-n", strconv.FormatInt(n, 10), "-c", strconv.Itoa(what.connections), "-m", strconv.Itoa(what.streams), "-t1"}
	for _, path := range what.paths {
		args = append(args, "https://"+to.tls+path)
	}
	out, err := exec.CommandContext(ctx, "h2load", args...).CombinedOutput()
	if err != nil {
		return 0, fmt.Errorf("h2load: %w\n%s", err, out)
	}
	return parseH2load(string(out))
}

var (
	h2loadRequests = regexp.MustCompile(`requests: .* (\d+) succeeded, 0 failed, 0 errored, 0 timeout`)
	h2loadOther    = regexp.MustCompile(`status codes: \d+ 2xx, 0 3xx, 0 4xx, 0 5xx`)
)

func parseH2load(out string) (int64, error) {
	if !h2loadOther.MatchString(out) {
		return 0, fmt.Errorf("h2load: not every answer was a good one:\n%s", out)
	}
	return firstNumber("h2load", h2loadRequests, out)
}

func firstNumber(program string, pattern *regexp.Regexp, out string) (int64, error) {
	m := pattern.FindStringSubmatch(out)
	if m == nil {
		return 0, fmt.Errorf("%s says nothing of %s:\n%s", program, pattern, out)
	}
	return strconv.ParseInt(m[1], 10, 64)
}

// loadHTTP3 keeps a number of streams busy on each of a number of connections.
func loadHTTP3(ctx context.Context, _ *stage, to *server, what *row, d time.Duration) (int64, error) {
	stop := time.Now().Add(d)
	var loops loops
	for range what.connections {
		transport := newHTTP3()
		defer transport.Close()
		for stream := range what.streams {
			loops.run(func() (int64, error) { return loopHTTP3(ctx, transport, to, what, stream, stop) })
		}
	}
	return loops.wait()
}

// loops adds up what several closed loops have done.
type loops struct {
	running sync.WaitGroup
	mu      sync.Mutex
	total   int64
	err     error // the first
}

func (l *loops) run(loop func() (int64, error)) {
	l.running.Go(func() {
		n, err := loop()
		l.mu.Lock()
		defer l.mu.Unlock()
		l.total += n
		if l.err == nil {
			l.err = err
		}
	})
}

func (l *loops) wait() (int64, error) {
	l.running.Wait()
	return l.total, l.err
}

func newHTTP3() *http3.Transport {
	// The certificate was made for this run and proves nothing here.
	return &http3.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableCompression: true}
}

func loopHTTP3(ctx context.Context, transport *http3.Transport, to *server, what *row, first int, stop time.Time) (n int64, err error) {
	buf := make([]byte, 64<<10)
	for i := first; time.Now().Before(stop); i++ {
		size, err := fetchHTTP3(ctx, transport, "https://"+to.udp+what.paths[i%len(what.paths)], buf)
		if err == nil && size != what.bytes {
			err = fmt.Errorf("%d bytes instead of %d", size, what.bytes)
		}
		if err != nil {
			return n, fmt.Errorf("HTTP/3 to %s: %w", to.name, err)
		}
		n++
	}
	return n, nil
}

// loadHandshakes asks once on each connection.
func loadHandshakes(ctx context.Context, s *stage, to *server, what *row, d time.Duration) (int64, error) {
	stop := time.Now().Add(d)
	var loops loops
	for range what.connections {
		loops.run(func() (n int64, err error) {
			config := &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}}
			if what.resume {
				config.ClientSessionCache = tls.NewLRUClientSessionCache(4)
			}
			for time.Now().Before(stop) {
				if err := askOnce(ctx, to, config, what, what.resume && n > 0); err != nil {
					return n, err
				}
				n++
			}
			return n, nil
		})
	}
	return loops.wait()
}

// askOnce connects, asks, reads the answer to its end and leaves.
func askOnce(ctx context.Context, to *server, config *tls.Config, what *row, resumed bool) error {
	dialer := tls.Dialer{Config: config}
	conn, err := dialer.DialContext(ctx, "tcp", to.tls)
	if err != nil {
		return err
	}
	defer conn.Close()
	if state := conn.(*tls.Conn).ConnectionState(); state.DidResume != resumed {
		return fmt.Errorf("%s: a resumed handshake is %v, not %v", to.name, state.DidResume, resumed)
	}
	if _, err := fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", what.paths[0], to.tls); err != nil {
		return err
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if n, err := io.Copy(io.Discard, resp.Body); err != nil || n != what.bytes {
		return fmt.Errorf("%s: %d bytes instead of %d: %w", to.name, n, what.bytes, err)
	}
	return nil
}

func fetchHTTP3(ctx context.Context, transport *http3.Transport, url string, buf []byte) (int64, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, err
	}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return 0, errors.New(resp.Status)
	}
	return io.CopyBuffer(struct{ io.Writer }{io.Discard}, resp.Body, buf)
}

func tryHTTP3(ctx context.Context, url string) error {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	transport := newHTTP3()
	defer transport.Close()
	_, err := fetchHTTP3(ctx, transport, url, make([]byte, 4096))
	return err
}

// prepareClear and prepareTLS ask a server for every URL until it has them all, and
// check that the bodies are the same as the origin's, so that what is measured is a
// hit and right.
func prepareClear(ctx context.Context, s *stage, to *server, what *row) error {
	return fill(ctx, s, to, "http://"+to.clear, what, 4)
}

func prepareTLS(ctx context.Context, s *stage, to *server, what *row) error {
	return fill(ctx, s, to, "https://"+to.tls, what, 4)
}

// prepareDisk asks three times for each, so that the disk tier takes it.
func prepareDisk(ctx context.Context, s *stage, to *server, what *row) error {
	return fill(ctx, s, to, "http://"+to.clear, what, 3)
}

func prepareNothing(context.Context, *stage, *server, *row) error { return nil }

func fill(ctx context.Context, s *stage, to *server, base string, what *row, times int) error {
	seen := map[string]bool{}
	for _, path := range what.paths {
		if seen[path] {
			continue
		}
		seen[path] = true
		want, _, err := body(ctx, s.originURL+path)
		if err != nil {
			return err
		}
		for n := range times {
			got, status, err := body(ctx, base+path)
			if err != nil {
				return err
			}
			if !bytes.Equal(got, want) && to != s.goStd {
				return fmt.Errorf("%s: %s: not the origin's bytes", to.name, path)
			}
			if n > 1 && strings.Contains(strings.ToLower(status), "hit") {
				break
			}
		}
	}
	return nil
}

// client trusts anybody: the certificate was made for this run.
var client = &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableCompression: true}}

func body(ctx context.Context, url string) (text []byte, cacheStatus string, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, "", err
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, "", err
	}
	defer resp.Body.Close()
	text, err = io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", url, resp.Status)
	}
	return text, resp.Header.Get("Cache-Status"), err
}
