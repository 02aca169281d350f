// Command origin runs the scripted origin of package script: a sample site, and
// faults by URL.
package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/alecthomas/kong"

	"edgecdn/cmd/origin/script"
)

type flags struct {
	Listen string `default:"127.0.0.1:9000" help:"Address to listen on; port 0 picks a free one."`
	TLS    bool   `name:"tls" help:"Speak TLS (HTTP/1.1 and HTTP/2) with a certificate made for localhost."`
	Cert   string `type:"existingfile" and:"pair" help:"Speak TLS with this certificate chain (PEM)."`
	Key    string `type:"existingfile" and:"pair" help:"Private key of --cert (PEM)."`
}

const description = `A scripted origin: a sample site, and faults by URL.

Examples:

  origin                                  serve on 127.0.0.1:9000
  origin --listen 127.0.0.1:0             serve on a free port, which is printed
  origin --listen 127.0.0.1:9443 --tls    HTTP/1.1 and HTTP/2 over TLS

  curl -i http://127.0.0.1:9000/                             the sample site
  curl -i http://127.0.0.1:9000/_origin/                     all endpoints, described
  curl -i 'http://127.0.0.1:9000/_origin/respond?status=503' one of them
  curl -r 0-9 http://127.0.0.1:9000/video/10GB.bin | xxd     a large body in ranges
  curl http://127.0.0.1:9000/_origin/stats                   requests seen by path`

func main() {
	var f flags
	kong.Parse(&f, kong.Name("origin"), kong.Description(description))
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, f, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "origin:", err)
		os.Exit(1)
	}
}

// run serves until ctx is done, then closes what is open: faults may last for
// minutes and nobody waits for them. The address is written to out once the
// listener is open.
func run(ctx context.Context, f flags, out io.Writer) error {
	server := &http.Server{
		Handler:           script.New(),
		ReadHeaderTimeout: 30 * time.Second,
		IdleTimeout:       2 * time.Minute,
	}
	scheme := "http"
	if f.TLS || f.Cert != "" {
		scheme = "https"
		cert, err := certificate(f)
		if err != nil {
			return err
		}
		server.TLSConfig = &tls.Config{Certificates: []tls.Certificate{cert}}
	}
	listener, err := net.Listen("tcp", f.Listen)
	if err != nil {
		return fmt.Errorf("%w: choose another address with --listen", err)
	}
	fmt.Fprintf(out, "origin: listening on %s://%s, endpoints described under /_origin/\n", scheme, listener.Addr())

	defer context.AfterFunc(ctx, func() { server.Close() })()
	if server.TLSConfig != nil {
		err = server.ServeTLS(listener, "", "")
	} else {
		err = server.Serve(listener)
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// certificate reads the pair that was named, or makes one for loopback names.
func certificate(f flags) (tls.Certificate, error) {
	if f.Cert != "" {
		return tls.LoadX509KeyPair(f.Cert, f.Key)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()),
		DNSNames:     []string{"localhost"},
		IPAddresses:  []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().AddDate(0, 0, 30),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, err
}
