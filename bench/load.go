package main

// Clients: wrk for HTTP/1.1, h2load for HTTP/2, and one of our own for HTTP/3,
// which Debian's have not. All are closed loops of a fixed number of
// connections: what is wanted is the cost of a request, not the highest rate.

import (
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

const (
	http1Connections = 16
	http2Connections = 16
	http2Streams     = 20
	http3Connections = 8
	http3Streams     = 10
	// distinctURLs of each size are asked for in turn.
	distinctURLs = 16
)

// shape is a size of body.
type shape struct {
	name  string // as in the URL
	bytes int64
}

func shapes() []shape {
	return []shape{{"1kB", 1000}, {"10kB", 10_000}, {"100kB", 100_000}, {"1MB", 1_000_000}}
}

func (s shape) paths() []string {
	paths := make([]string, distinctURLs)
	for i := range paths {
		paths[i] = fmt.Sprintf("/video/%s.bin?n=%d", s.name, i)
	}
	return paths
}

// load sends requests for about d and returns how many were answered in full.
type load func(ctx context.Context, s *stage, to *server, what shape, d time.Duration) (int64, error)

// loadHTTP1 is wrk with a script that goes through the URLs.
func loadHTTP1(ctx context.Context, s *stage, to *server, what shape, d time.Duration) (int64, error) {
	script := filepath.Join(s.dir, "wrk-"+what.name+".lua")
	text := "local paths = {\"" + strings.Join(what.paths(), `","`) + "\"}\nlocal n = 0\n" +
		"request = function() n = n % #paths + 1; return wrk.format('GET', paths[n]) end\n"
	if err := os.WriteFile(script, []byte(text), 0o600); err != nil {
		return 0, err
	}
	// wrk knows whole seconds only.
	seconds := strconv.Itoa(max(1, int(d.Seconds()+0.5)))
	out, err := exec.CommandContext(ctx, "wrk", "-t1", "-c", strconv.Itoa(http1Connections), "-d", seconds+"s", "-s", script, "http://"+to.clear).CombinedOutput()
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
func loadHTTP2(ctx context.Context, s *stage, to *server, what shape, d time.Duration) (int64, error) {
	return h2load(ctx, to, what, max(http2Probe, int64(s.http2Rate[to.name+what.name]*d.Seconds())))
}

// http2Probe is enough requests to see a rate and to open every connection.
const http2Probe = http2Connections * http2Streams * 2

// prepareHTTP2 fills the cache over TLS (the scheme is part of the key) and
// learns the rate.
func prepareHTTP2(ctx context.Context, s *stage, to *server, what shape) error {
	for range 3 {
		started := time.Now()
		if _, err := h2load(ctx, to, what, http2Probe); err != nil {
			return err
		}
		s.http2Rate[to.name+what.name] = http2Probe / time.Since(started).Seconds()
	}
	return nil
}

// prepareHTTP3 fills the cache over HTTP/3.
func prepareHTTP3(ctx context.Context, s *stage, to *server, what shape) error {
	_, err := loadHTTP3(ctx, s, to, what, 200*time.Millisecond)
	return err
}

func h2load(ctx context.Context, to *server, what shape, n int64) (int64, error) {
	args := []string{"-n", strconv.FormatInt(n, 10), "-c", strconv.Itoa(http2Connections), "-m", strconv.Itoa(http2Streams), "-t1"}
	for _, path := range what.paths() {
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
func loadHTTP3(ctx context.Context, _ *stage, to *server, what shape, d time.Duration) (int64, error) {
	stop := time.Now().Add(d)
	var wg sync.WaitGroup
	results := make(chan error, http3Connections*http3Streams)
	var mu sync.Mutex
	var total int64
	for range http3Connections {
		transport := newHTTP3()
		defer transport.Close()
		for stream := range http3Streams {
			wg.Go(func() {
				n, err := loopHTTP3(ctx, transport, to, what, stream, stop)
				if err != nil {
					results <- err
				}
				mu.Lock()
				defer mu.Unlock()
				total += n
			})
		}
	}
	wg.Wait()
	close(results)
	return total, <-results
}

func newHTTP3() *http3.Transport {
	// The certificate was made for this run and proves nothing here.
	return &http3.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableCompression: true}
}

func loopHTTP3(ctx context.Context, transport *http3.Transport, to *server, what shape, first int, stop time.Time) (n int64, err error) {
	paths := what.paths()
	buf := make([]byte, 64<<10)
	for i := first; time.Now().Before(stop); i++ {
		size, err := fetchHTTP3(ctx, transport, "https://"+to.udp+paths[i%len(paths)], buf)
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

// prepareHTTP1 asks a server for every URL until it has them all, and checks
// that the bodies are the same as the origin's, so that what is measured is a
// hit and right.
func prepareHTTP1(ctx context.Context, s *stage, to *server, what shape) error {
	for _, path := range what.paths() {
		want, _, err := body(ctx, s.originURL+path)
		if err != nil {
			return err
		}
		for range 4 {
			got, status, err := body(ctx, "http://"+to.clear+path)
			if err != nil {
				return err
			}
			if !bytes.Equal(got, want) {
				return fmt.Errorf("%s: %s: not the origin's bytes", to.name, path)
			}
			if strings.Contains(strings.ToLower(status), "hit") {
				break
			}
		}
	}
	return nil
}

func body(ctx context.Context, url string) (text []byte, cacheStatus string, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, "", err
	}
	resp, err := http.DefaultClient.Do(req)
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
