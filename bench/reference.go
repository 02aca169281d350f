package main

// What HTTP/3 is compared with: quic-go's own server answering the same bodies
// out of memory, because Debian's nginx has no HTTP/3.

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/quic-go/quic-go/http3"

	"edgecdn/internal/unit"
)

const referenceBodyMax = 16 * unit.MiB

// serveReference answers /video/SIZE.bin until ctx is done.
func serveReference(ctx context.Context, address, dir string) error {
	cert, err := tls.LoadX509KeyPair(filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem"))
	if err != nil {
		return err
	}
	body := make([]byte, referenceBodyMax)
	server := &http3.Server{
		TLSConfig: http3.ConfigureTLSConfig(&tls.Config{Certificates: []tls.Certificate{cert}}),
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			text := strings.TrimSuffix(strings.TrimPrefix(r.URL.Path, "/video/"), ".bin")
			var size unit.Bytes
			if err := size.UnmarshalText([]byte(text)); err != nil || size > referenceBodyMax {
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
		}),
	}
	packets, err := net.ListenPacket("udp", address)
	if err != nil {
		return err
	}
	defer packets.Close()
	defer context.AfterFunc(ctx, func() { server.Close() })()
	if err := server.Serve(packets); err != nil && ctx.Err() == nil {
		return err
	}
	return nil
}
