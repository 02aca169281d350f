package e2e

import (
	"context"
	"crypto/tls"
	"io"
	"math/rand/v2"
	"net"
	"os/exec"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Bytes that mean nothing, connections that are half open, and clients that are
// killed leave a node as it was.
func TestGarbage(t *testing.T) {
	v := newVictim(t, 50)
	goroutines := count(t, v.node, "go_goroutines")
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var wg sync.WaitGroup
	for i, hurl := range []func(*rand.Rand){
		func(r *rand.Rand) { hurlBytes(v.http, r, "") },
		func(r *rand.Rand) { hurlBytes(v.http, r, "GET / HTTP/1.1\r\nHost: a.test\r\n") },
		func(r *rand.Rand) {
			hurlBytes(v.http, r, "POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n")
		},
		func(r *rand.Rand) { hurlBytes(v.https, r, "") },
		func(r *rand.Rand) { hurlBytes(v.https, r, "\x16\x03\x01\x00\xff\x01\x00\x00\xfb\x03\x03") },
		func(r *rand.Rand) {
			hurlSecurely(ctx, v, r, "h2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00")
		},
		func(r *rand.Rand) { hurlSecurely(ctx, v, r, "h2", "") },
		func(r *rand.Rand) { hurlSecurely(ctx, v, r, "http/1.1", "") },
		func(r *rand.Rand) { hurlDatagrams(t, v.https, r, "") },
		func(r *rand.Rand) { hurlDatagrams(t, v.https, r, "\xc3\x00\x00\x00\x01\x08") },
		func(r *rand.Rand) { hurlDatagrams(t, v.https, r, "\x43") },
	} {
		r := rand.New(rand.NewPCG(seed, uint64(i)))
		wg.Go(func() {
			for range 40 {
				hurl(r)
			}
		})
	}
	wg.Wait()
	killClients(t, v)
	for _, protocol := range everyProtocol {
		c := newClient(t, v.node, protocol)
		c.get(t, v.small).want(t, 200, hit)
		closeClient(c)
	}
	settles(t, v.node, goroutines)
}

func noise(r *rand.Rand) []byte {
	b := make([]byte, 1+r.IntN(1200))
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// hurlBytes sends something and noise, and leaves: by saying so, by a reset, or
// after it has read what is answered.
func hurlBytes(address string, r *rand.Rand, first string) {
	conn, err := net.DialTimeout("tcp", address, patience)
	if err != nil {
		return
	}
	hurl(conn, r, first)
	if r.IntN(2) == 0 {
		conn.(*net.TCPConn).SetLinger(0)
	}
	conn.Close()
}

func hurl(conn net.Conn, r *rand.Rand, first string) {
	conn.SetDeadline(time.Now().Add(patience))
	io.WriteString(conn, first)
	conn.Write(noise(r))
	if closer, ok := conn.(interface{ CloseWrite() error }); ok && r.IntN(3) == 0 {
		closer.CloseWrite()
		io.Copy(io.Discard, conn)
	}
}

func hurlSecurely(ctx context.Context, v *victim, r *rand.Rand, protocol, first string) {
	conn, err := dialTLS(ctx, v.node, v.tls, protocol)
	if err != nil {
		return
	}
	hurl(conn, r, first)
	if tcp, ok := conn.(*tls.Conn).NetConn().(*net.TCPConn); ok {
		tcp.Close() // without a farewell of TLS
	}
}

func hurlDatagrams(t *testing.T, address string, r *rand.Rand, first string) {
	conn, err := net.Dial("udp", address)
	if err != nil {
		t.Error(err)
		return
	}
	defer conn.Close()
	for range 20 {
		conn.Write(append([]byte(first), noise(r)...)) // may be lost
	}
}

// killClients starts clients in the middle of downloads and uploads and kills
// them.
func killClients(t *testing.T, v *victim) {
	t.Helper()
	long := respond("size", "50MB", "chunks", "5000", "chunk_delay", "20ms", "header", "Cache-Control:no-store")
	for _, tt := range []struct {
		program string
		args    []string
	}{
		{"curl", []string{"-sN", "http://" + v.http + long}},
		{"curl", []string{"-skN", "--http2", "https://" + v.https + long}},
		{"nghttp", []string{"-ny", "-m20", "https://" + v.https + long}},
		{"h2load", []string{"-n1000000", "-c20", "-m10", "https://" + v.https + v.big}},
		{"h2load", []string{"--h1", "-n1000000", "-c20", "http://" + v.http + v.big}},
	} {
		if _, err := exec.LookPath(tt.program); err != nil {
			t.Logf("SKIPPED: killing %s, which is not installed", tt.program)
			continue
		}
		before := count(t, v.node, "edge_response_body_bytes_total")
		cmd := exec.Command(tt.program, tt.args...)
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		// Bytes are counted when a response ends; a long one is seen by its handler.
		eventually(t, tt.program+" is served", func() bool {
			return count(t, v.node, "edge_handlers") > 0 || count(t, v.node, "edge_response_body_bytes_total") > before
		})
		cmd.Process.Kill()
		cmd.Wait()
		eventually(t, "nothing is done for a client that is gone", func() bool { return count(t, v.node, "edge_handlers") == 0 })
	}
}
