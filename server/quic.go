package server

// quic.go serves HTTP/3 with http3.Server on a QUIC transport of our own, for
// http3's own would answer without stateless resets and never ask for an address
// to be proven.

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
	"golang.org/x/time/rate"

	"edgecdn/cache"
)

const (
	// handshakesPerSecond from unproven addresses; beyond that, clients spend a
	// round trip proving theirs (RFC 9000 8.1.2).
	handshakesPerSecond = 1000
	// quicIdle closes connections whose peer has vanished; living peers answer
	// the probes that keep a silent stream alive.
	quicIdle, quicProbe = 30 * time.Second, 15 * time.Second
	// Bytes of request bodies that a client may send ahead of their reader.
	quicStreamWindow, quicConnWindow = 1 << 20, 4 << 20
	// uniStreams: control, QPACK encoder and decoder, and some that nobody knows.
	uniStreams = 16
	// quicLinger is how long a drained connection stays open for the last bytes
	// to arrive, when its client does not close it.
	quicLinger = 2 * time.Second
)

type quicEngine struct {
	door      *door
	udp       *net.UDPConn
	transport *quic.Transport
	listener  *quic.EarlyListener
	http3     *http3.Server
	served    chan struct{} // closed when serve has returned
}

func newQUICEngine(d *door, udp *net.UDPConn, tlsConfig *tls.Config) (*quicEngine, error) {
	s, limits := d.server, d.server.live.Load().limits
	key, err := resetKey(s.config.Data, d.listener)
	if err != nil {
		return nil, err
	}
	limiter := rate.NewLimiter(handshakesPerSecond, handshakesPerSecond)
	e := &quicEngine{door: d, udp: udp, served: make(chan struct{})}
	e.transport = &quic.Transport{
		Conn:              udp, // never wrapped: only a bare UDPConn gets batches, GSO and ECN
		StatelessResetKey: key,
		VerifySourceAddress: func(net.Addr) bool {
			if limiter.Allow() {
				return false
			}
			s.stats.Retries.Add(1)
			return true
		},
	}
	e.listener, err = e.transport.ListenEarly(http3.ConfigureTLSConfig(tlsConfig), &quic.Config{
		Allow0RTT:                  false, // replayable; nothing here tells handlers apart yet
		HandshakeIdleTimeout:       min(limits.HeaderTimeout, 5*time.Second),
		MaxIdleTimeout:             quicIdle,
		KeepAlivePeriod:            quicProbe,
		MaxIncomingStreams:         int64(limits.Streams),
		MaxIncomingUniStreams:      uniStreams,
		MaxStreamReceiveWindow:     quicStreamWindow,
		MaxConnectionReceiveWindow: quicConnWindow,
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("server: %s %s: QUIC: %w", d.key, d.listener, err), e.transport.Close())
	}
	e.http3 = &http3.Server{
		Handler:        d,
		MaxHeaderBytes: int(limits.HeaderBytes),
		IdleTimeout:    limits.IdleTimeout,
		ConnContext:    e.connContext,
		Logger:         s.log.With("protocol", "h3"),
	}
	return e, nil
}

// connContext counts the connection.
func (e *quicEngine) connContext(ctx context.Context, c *quic.Conn) context.Context {
	stats := &e.door.server.stats
	stats.ConnectionsAccepted[cache.HTTP3-1].Add(1)
	stats.ConnectionsOpen[cache.HTTP3-1].Add(1)
	context.AfterFunc(c.Context(), func() { stats.ConnectionsOpen[cache.HTTP3-1].Add(-1) })
	return ctx
}

func (e *quicEngine) serve() error {
	defer close(e.served)
	err := e.http3.ServeListener(e.listener)
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("server: %s %s: QUIC: %w", e.door.key, e.door.listener, err)
}

func (e *quicEngine) shutdown(ctx context.Context) error {
	// The accept loop ends before Shutdown: http3 may miscount, and panic, when a
	// connection is accepted while it shuts down.
	closing := e.listener.Close()
	<-e.served
	goodbye, cancel := context.WithCancel(ctx)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- e.http3.Shutdown(goodbye) }()
	idle := make(chan struct{})
	go func() {
		defer close(idle)
		if e.door.server.inflight.waitFor(goodbye, int(cache.HTTP3-1)) {
			select {
			case <-time.After(quicLinger):
			case <-goodbye.Done():
			}
		}
		cancel()
	}()
	var err error
	select {
	case err = <-done:
	case <-ctx.Done():
		select {
		case err = <-done:
		case <-time.After(cutGrace):
			// Handlers that do not end hold http3's Close; drain reports them.
		}
	}
	cancel()
	<-idle
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		err = nil // connections were left, and have been closed
	}
	err = errors.Join(closing, err, e.transport.Close(), e.udp.Close())
	if err != nil && !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("server: close %s %s: QUIC: %w", e.door.key, e.door.listener, err)
	}
	return nil
}

// resetKey derives a listener's key of stateless resets from one that the node
// keeps, so that clients of a node that was restarted learn at once that their
// connections are gone (RFC 9000 10.3). Each socket has its own: with a shared
// one it would reset its neighbours' connections.
func resetKey(data, listener string) (*quic.StatelessResetKey, error) {
	secret := make([]byte, 32)
	_, _ = rand.Read(secret) // never fails
	if data != "" {
		path := filepath.Join(data, "tls", "quic-reset.key")
		kept, err := os.ReadFile(path)
		switch {
		case err == nil && len(kept) == len(secret):
			secret = kept
		default:
			if err := writeSecret(path, secret); err != nil {
				return nil, fmt.Errorf("server: keep the QUIC reset key: %w", err)
			}
		}
	}
	key := quic.StatelessResetKey(sha256.Sum256(append(secret, listener...)))
	return &key, nil
}
