package h1

import (
	"errors"
	"io"
	"net"
	"net/http"
	"testing"

	"edgecdn/cache"
)

// TestLateRead: a transport that begins to read a body when its handler has gone says
// nothing on the connection, which may be another request's by then.
func TestLateRead(t *testing.T) {
	e := start(t, setup{})
	client, server := net.Pipe()
	heard := make(chan []byte)
	go func() {
		b, _ := io.ReadAll(client) // ends with the pipe
		heard <- b
	}()
	c := newConn(e.Engine, server, nil)
	c.request.Continue = true
	x := e.door.Begin(cache.HTTP1)
	s := new(stream)
	s.begin(c, x, 5, func() {})
	s.finish()
	x.End()
	if n, err := s.Read(make([]byte, 5)); n != 0 || !errors.Is(err, http.ErrBodyReadAfterClose) {
		t.Errorf("%d bytes, %v", n, err)
	}
	_ = server.Close()
	if b := <-heard; len(b) > 0 || c.outRoom != nil {
		t.Errorf("said %q", b)
	}
}
