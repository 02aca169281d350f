package h1

import (
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"

	"edgecdn/cache/store"
)

// BenchmarkHit costs a hit over one loopback connection, ours from a real cache
// beside net/http with a handler that has it all ready. CPU is the whole process's,
// the client's share included, which is the same in both.
func BenchmarkHit(b *testing.B) {
	for _, size := range []int{1000, 100_000} {
		path := "/" + strconv.Itoa(size)
		b.Run(fmt.Sprintf("engine/%d", size), func(b *testing.B) {
			e := startCached(b, setup{}, store.Config{}, sized)
			e.dial().get(path)
			benchmarkHit(b, e.address, path, size)
		})
		b.Run(fmt.Sprintf("nethttp/%d", size), func(b *testing.B) {
			body := pattern(size)
			standard := &http.Server{ErrorLog: log.New(io.Discard, "", 0), Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				h := w.Header()
				h["Content-Type"] = []string{"application/octet-stream"}
				h["Cache-Control"] = []string{"max-age=600"}
				h["Etag"] = []string{`"v1"`}
				h["Age"] = []string{"0"}
				h["Cache-Status"] = []string{"edge; hit; ttl=600"}
				h["Content-Length"] = []string{strconv.Itoa(len(body))}
				_, _ = w.Write(body)
			})}
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				b.Fatal(err)
			}
			served := make(chan error, 1)
			go func() { served <- standard.Serve(ln) }()
			defer func() {
				_ = standard.Close()
				<-served
			}()
			benchmarkHit(b, ln.Addr().String(), path, size)
		})
	}
}

func benchmarkHit(b *testing.B, address, path string, size int) {
	c, err := net.Dial("tcp", address)
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	request := []byte("GET " + path + " HTTP/1.1\r\nHost: a.test\r\nUser-Agent: bench\r\nAccept: */*\r\n\r\n")
	buffer := make([]byte, size+4096)
	b.ReportAllocs()
	before := cpu(b)
	for b.Loop() {
		if _, err := c.Write(request); err != nil {
			b.Fatal(err)
		}
		read(b, c, buffer, size)
	}
	b.ReportMetric(float64(cpu(b)-before)/float64(b.N), "cpu-ns/op")
}

// cpu returns the processor time of the process in nanoseconds.
func cpu(b *testing.B) int64 {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return u.Utime.Nano() + u.Stime.Nano()
}
