package main

// What the standard library and quic-go do by themselves: the same bodies out of
// memory over net/http and http3.Server, and httputil.ReverseProxy for the rest.

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/quic-go/quic-go/http3"
	"golang.org/x/sync/errgroup"

	"edgecdn/internal/unit"
)

const referenceBodyMax = 16 * unit.MiB

// serveReference answers /video/SIZE.bin, and asks behind for everything else,
// until ctx is done. addresses are that in the clear, that for TLS and QUIC, and one
// in the clear where all is asked for behind as httputil does it by itself.
func serveReference(ctx context.Context, addresses, dir, behind string) error {
	at := strings.Split(addresses, ",")
	if len(at) != 3 {
		return fmt.Errorf("-reference: want three addresses, not %q", addresses)
	}
	clear, secure := at[0], at[1]
	cert, err := tls.LoadX509KeyPair(filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem"))
	if err != nil {
		return err
	}
	origin, err := url.Parse(behind)
	if err != nil {
		return err
	}
	handler := referenceHandler(origin)
	config := &tls.Config{Certificates: []tls.Certificate{cert}}
	plain, safe := &http.Server{Handler: handler}, &http.Server{Handler: handler, TLSConfig: config}
	asItComes := &http.Server{Handler: httputil.NewSingleHostReverseProxy(origin)}
	quick := &http3.Server{Handler: handler, TLSConfig: http3.ConfigureTLSConfig(config)}
	packets, err := net.ListenPacket("udp", secure)
	if err != nil {
		return err
	}
	defer packets.Close()
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return serveOn(clear, plain.Serve) })
	group.Go(func() error { return serveOn(at[2], asItComes.Serve) })
	group.Go(func() error {
		return serveOn(secure, func(ln net.Listener) error { return safe.ServeTLS(ln, "", "") })
	})
	group.Go(func() error { return quick.Serve(packets) })
	group.Go(func() error {
		<-ctx.Done()
		plain.Close()
		asItComes.Close()
		safe.Close()
		return quick.Close()
	})
	return group.Wait()
}

func serveOn(address string, serve func(net.Listener) error) error {
	ln, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	return serve(ln)
}

func referenceHandler(origin *url.URL) http.Handler {
	body := make([]byte, referenceBodyMax)
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(origin) },
		Transport: &http.Transport{
			MaxIdleConnsPerHost: 64, ForceAttemptHTTP2: true,
			TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, // ours, made for this run
		},
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		text, ok := strings.CutPrefix(r.URL.Path, "/video/")
		if !ok {
			proxy.ServeHTTP(w, r)
			return
		}
		var size unit.Bytes
		if err := size.UnmarshalText([]byte(strings.TrimSuffix(text, ".bin"))); err != nil || size > referenceBodyMax {
			http.Error(w, fmt.Sprintf("no such body: %q", r.URL.Path), http.StatusNotFound)
			return
		}
		h := w.Header()
		h.Set("Content-Type", "application/octet-stream")
		h.Set("Content-Length", strconv.FormatInt(int64(size), 10))
		h.Set("Cache-Control", "public, max-age=3600")
		h.Set("Etag", `"pattern"`)
		h.Set("Age", "1")
		w.Write(body[:size])
	})
}
