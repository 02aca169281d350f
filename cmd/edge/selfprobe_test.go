package main

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/quic-go/quic-go/http3"

	"edgecdn/route"
)

func TestProbeH3(t *testing.T) {
	// A certificate of the standard library's.
	web := httptest.NewTLSServer(nil)
	defer web.Close()
	serve := func(t *testing.T, certificate func(*tls.ClientHelloInfo) (*tls.Certificate, error)) (address string, asked <-chan *http.Request) {
		t.Helper()
		socket, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		requests := make(chan *http.Request, 50)
		s := &http3.Server{
			TLSConfig: http3.ConfigureTLSConfig(&tls.Config{GetCertificate: certificate}),
			Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				requests <- r
				w.WriteHeader(http.StatusMisdirectedRequest)
			}),
		}
		done := make(chan error, 1)
		go func() { done <- s.Serve(socket) }()
		t.Cleanup(func() { s.Close(); <-done; socket.Close() })
		return socket.LocalAddr().String(), requests
	}
	// A second is little on a busy machine.
	probe := func(t *testing.T, address string) (err error) {
		for range 10 {
			if err = probeH3(t.Context(), address, "www.example.com"); err == nil {
				break
			}
		}
		return err
	}
	own := func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &web.TLS.Certificates[0], nil }
	t.Run("answers", func(t *testing.T) {
		address, asked := serve(t, own)
		if err := probe(t, address); err != nil {
			t.Fatal(err)
		}
		r := <-asked
		if r.Method != http.MethodOptions || r.Header.Get("Max-Forwards") != "0" || r.Host != "www.example.com" {
			t.Errorf("it asked %+v", r)
		}
	})
	t.Run("refuses the name", func(t *testing.T) {
		address, _ := serve(t, func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return nil, errors.New("none") })
		if err := probe(t, address); err != nil {
			t.Errorf("who refuses is alive: %v", err)
		}
	})
	t.Run("silent", func(t *testing.T) {
		socket, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer socket.Close()
		if err := probeH3(t.Context(), socket.LocalAddr().String(), "x"); err == nil || !strings.Contains(err.Error(), "no handshake") {
			t.Errorf("nobody answers: %v", err)
		}
	})
	t.Run("ends with its context", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := probeH3(ctx, "127.0.0.1:9", "x"); err == nil {
			t.Error("no error")
		}
	})
}

func TestNameToAsk(t *testing.T) {
	for want, names := range map[string][]string{"localhost": {"*"}, "probe.example.com": {"*", "*.example.com"}, "www.example.com": {"www.example.com"}} {
		if got := nameToAsk([]route.Host{{Names: names}}); got != want {
			t.Errorf("%v: %q, want %q", names, got, want)
		}
	}
}
