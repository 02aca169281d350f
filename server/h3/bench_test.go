package h3

// bench_test.go compares the cost of a hit with that of quic-go's http3.Server
// answering the same from a handler. Each serves in a process of its own, so that
// its CPU time is known apart from the client's.

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
	"golang.org/x/sys/unix"

	"edgecdn/cache"
)

const (
	serveEnv           = "EDGE_H3_BENCH_SERVE"
	benchConns, perOne = 8, 10
)

// BenchmarkHit reports the server's CPU time for each request and, for the
// engine, its ratio to http3.Server's in the same run.
func BenchmarkHit(b *testing.B) {
	for _, size := range []int{1000, 100_000} {
		var reference float64
		for _, kind := range []string{"http3", "engine"} {
			b.Run(fmt.Sprintf("%dkB/%s", size/1000, kind), func(b *testing.B) {
				cost := benchServer(b, kind, size)
				b.ReportMetric(cost, "server-µs/op")
				if kind == "http3" {
					reference = cost
				} else if reference > 0 {
					b.ReportMetric(cost/reference, "of-http3")
				}
			})
		}
	}
}

// benchServer returns the µs of CPU that a server takes for a request.
func benchServer(b *testing.B, kind string, size int) float64 {
	child := exec.Command(os.Args[0], "-test.run=^TestBenchServe$", "-test.v")
	child.Env = append(os.Environ(), serveEnv+"="+kind)
	child.Stderr = os.Stderr
	in, _ := child.StdinPipe()
	out, _ := child.StdoutPipe()
	if err := child.Start(); err != nil {
		b.Fatal(err)
	}
	defer func() { _ = in.Close(); _ = child.Wait() }()
	address := ""
	for lines := bufio.NewScanner(out); address == "" && lines.Scan(); {
		address, _ = strings.CutPrefix(lines.Text(), "serving ")
		if address == lines.Text() {
			address = ""
		}
	}
	go func() { _, _ = io.Copy(io.Discard, out) }()
	load, err := newLoad(address, size)
	if err != nil {
		b.Fatal(err)
	}
	defer load.close()
	for range 3 { // stored, in memory, warm
		load.run(2 * benchConns * perOne)
	}
	before := cpuTime(b, child.Process.Pid)
	b.ResetTimer()
	if err := load.run(b.N); err != nil {
		b.Fatal(err)
	}
	b.StopTimer()
	return float64(cpuTime(b, child.Process.Pid)-before) / float64(b.N) / 1e3
}

// cpuTime is what a process has used, user and system, in nanoseconds.
func cpuTime(b *testing.B, pid int) int64 {
	const perProcess = 2 // clock_getcpuclockid(3)
	var t unix.Timespec
	if err := unix.ClockGettime(int32(^pid<<3|perProcess), &t); err != nil {
		b.Fatal(err)
	}
	return t.Nano()
}

// load asks for one thing over and over.
type load struct {
	conns   []*quic.Conn
	request []byte
	size    int
}

func newLoad(address string, size int) (*load, error) {
	l := &load{size: size, request: headersFrame(getFields("/"+strconv.Itoa(size), cache.Field{Name: "user-agent", Value: "bench"}, cache.Field{Name: "accept", Value: "*/*"})...)}
	config := insecure()
	for range benchConns {
		q, err := quic.DialAddr(context.Background(), address, config, &quic.Config{})
		if err != nil {
			return nil, err
		}
		l.conns = append(l.conns, q)
	}
	return l, nil
}

func (l *load) close() {
	for _, q := range l.conns {
		_ = q.CloseWithError(codeNoError, "")
	}
}

// run makes n requests, ten at a time on each connection.
func (l *load) run(n int) error {
	var all sync.WaitGroup
	var mu sync.Mutex
	var failed error
	left := n
	for i := range benchConns * perOne {
		all.Go(func() {
			buf := make([]byte, 32<<10)
			for {
				mu.Lock()
				left--
				more := left >= 0 && failed == nil
				mu.Unlock()
				if !more {
					return
				}
				if err := l.ask(l.conns[i%benchConns], buf); err != nil {
					mu.Lock()
					failed = err
					mu.Unlock()
				}
			}
		})
	}
	all.Wait()
	return failed
}

func (l *load) ask(q *quic.Conn, buf []byte) error {
	s, err := q.OpenStreamSync(context.Background())
	if err != nil {
		return err
	}
	if _, err := s.Write(l.request); err != nil {
		return err
	}
	_ = s.Close()
	got := 0
	for err == nil {
		var n int
		n, err = s.Read(buf)
		got += n
	}
	if err != io.EOF || got < l.size {
		return fmt.Errorf("%d bytes, %w", got, err)
	}
	return nil
}

// TestBenchServe is the server process of BenchmarkHit.
func TestBenchServe(t *testing.T) {
	kind := os.Getenv(serveEnv)
	if kind == "" {
		t.Skip("serves BenchmarkHit only")
	}
	var address net.Addr
	if kind == "engine" {
		address = start(t, setup{}).address
	} else {
		ln, _, stop := listen(t, nil, quicConfig(128, false))
		defer stop()
		address = ln.Addr()
		server := &http3.Server{Handler: http.HandlerFunc(benchHandler)}
		served := make(chan error, 1)
		go func() { served <- server.ServeListener(ln) }()
		defer func() {
			_ = server.Close()
			_ = ln.Close()
			if err := <-served; err != nil && !errors.Is(err, http.ErrServerClosed) {
				t.Log(err)
			}
		}()
	}
	fmt.Println("serving", address)
	_, _ = io.Copy(io.Discard, os.Stdin)
}

// benchHandler answers /N with N bytes, as simply as it can.
func benchHandler(w http.ResponseWriter, r *http.Request) {
	body := benchBodies[r.URL.Path]
	h := w.Header()
	h["Content-Type"] = []string{"application/octet-stream"}
	h["Cache-Control"] = []string{"public, max-age=3600"}
	h["Etag"] = []string{`"abcdefabcdef"`}
	h["Last-Modified"] = []string{"Sun, 22 Nov 2026 17:00:00 GMT"}
	h["Date"] = []string{time.Now().UTC().Format(http.TimeFormat)}
	h["Age"] = []string{"12"}
	h["Cache-Status"] = []string{"edge; hit; ttl=3588"}
	h["Content-Length"] = []string{strconv.Itoa(len(body))}
	_, _ = w.Write(body)
}

var benchBodies = map[string][]byte{"/1000": content(1000), "/100000": content(100_000)}
