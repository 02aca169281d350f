package e2e

import (
	"context"
	"io"
	"net"
	"strings"
	"time"
)

func attacksHTTP1() []attack {
	slowly := func(first, more string) func(context.Context, *victim) {
		return func(ctx context.Context, v *victim) {
			v.hold(ctx, func() (func() error, func()) { return openSlowly(v, first, more) })
		}
	}
	return []attack{
		{"h1: headers that never end", slowly("GET / HTTP/1.1\r\nHost: a.test\r\n", "X: y\r\n"), "header_timeout", "h1"},
		{"h1: bodies that never end", slowly("POST /_origin/upload HTTP/1.1\r\nHost: a.test\r\nContent-Length: 100000\r\n\r\n", "x"), "min_rate", "h1"},
		{"h1: responses that nobody reads", slowly(strings.Repeat("GET /video/1MB.bin HTTP/1.1\r\nHost: a.test\r\n\r\n", 20), ""), "", ""},
		{"h1: pipelines that nobody reads", pipeline(false), "", ""},
		{"h1: pipelines", pipeline(true), "pipelined", "h1"},
		{"h1: requests for nothing", repeatHTTP1("GET / HTTP/1.1\r\n\r\n"), "", ""},
		{"TLS: handshakes that never end", func(ctx context.Context, v *victim) {
			v.hold(ctx, func() (func() error, func()) { return openTo(v.https, "\x16\x03\x01\x02\x00\x01\x00", "\x00") })
		}, "", ""},
	}
}

func openSlowly(v *victim, first, more string) (write func() error, shut func()) {
	return openTo(v.http, first, more)
}

// openTo opens a connection, says something, and returns what says more.
func openTo(address, first, more string) (write func() error, shut func()) {
	conn, err := net.DialTimeout("tcp", address, patience)
	if err != nil {
		return nil, nil
	}
	_ = conn.(*net.TCPConn).SetReadBuffer(4096) // so that little is taken for us
	if _, err := io.WriteString(conn, first); err != nil {
		conn.Close()
		return nil, nil
	}
	return func() error {
		conn.SetWriteDeadline(time.Now().Add(time.Second))
		_, err := io.WriteString(conn, more)
		return err
	}, func() { conn.Close() }
}

// pipeline sends many requests without waiting for answers.
func pipeline(read bool) func(context.Context, *victim) {
	return func(ctx context.Context, v *victim) {
		conn, err := net.DialTimeout("tcp", v.http, patience)
		if err != nil {
			return
		}
		defer conn.Close()
		defer context.AfterFunc(ctx, func() { conn.Close() })()
		conn.SetDeadline(time.Now().Add(5 * time.Second))
		done := make(chan struct{})
		go func() {
			defer close(done)
			if read {
				io.Copy(io.Discard, conn)
			}
		}()
		lot := strings.Repeat("GET "+v.small+" HTTP/1.1\r\nHost: a.test\r\n\r\n", 100)
		for range 200 {
			if _, err := io.WriteString(conn, lot); err != nil {
				break
			}
		}
		conn.Close()
		<-done
	}
}

// repeatHTTP1 opens a connection for each request.
func repeatHTTP1(request string) func(context.Context, *victim) {
	return func(ctx context.Context, v *victim) {
		for range 50 {
			conn, err := net.DialTimeout("tcp", v.http, patience)
			if err != nil || ctx.Err() != nil {
				return
			}
			conn.SetDeadline(time.Now().Add(5 * time.Second))
			io.WriteString(conn, request)
			io.Copy(io.Discard, conn)
			conn.Close()
		}
	}
}
