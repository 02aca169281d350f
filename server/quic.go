package server

// quic.go accepts QUIC connections for the HTTP/3 engine, on a transport of our
// own: it answers strangers with stateless resets and asks for addresses to be
// proven when many handshakes come.

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/quic-go/quic-go"

	"edgecdn/server/gate"
	"edgecdn/server/h3"
)

const (
	// quicIdle closes connections whose peer has vanished; living peers answer
	// the probes that keep a silent stream alive.
	quicIdle, quicProbe = 30 * time.Second, 15 * time.Second
	// Bytes of request bodies that a client may send ahead of their reader.
	quicStreamWindow, quicConnWindow = 1 << 20, 4 << 20
	// uniStreams: control, QPACK encoder and decoder, and some that nobody knows.
	uniStreams = 16
)

type quicEngine struct {
	door      *gate.Door
	key       string // of the configuration, for errors
	udp       *net.UDPConn
	transport *quic.Transport
	listener  *quic.EarlyListener
	h3        *h3.Engine
	serving   sync.WaitGroup // connections
	served    chan struct{}  // closed when serve has returned
}

func (s *Server) newQUICEngine(d *gate.Door, key string, udp *net.UDPConn, tlsConfig *tls.Config) (*quicEngine, error) {
	reset, err := resetKey(s.config.Data, d.Listener)
	if err != nil {
		return nil, err
	}
	e := &quicEngine{door: d, key: key, udp: udp, h3: h3.New(d, s.stats.H3), served: make(chan struct{})}
	e.transport = &quic.Transport{
		Conn:              udp, // never wrapped: only a bare UDPConn gets batches, GSO and ECN
		StatelessResetKey: reset,
		VerifySourceAddress: func(client net.Addr) bool {
			if !s.bounds.wantsProof(udpAddr(client)) {
				return false
			}
			d.Stats().Retries.Add(1)
			return true
		},
		ConnContext: s.bounds.admitQUIC,
	}
	limits := d.Limits()
	e.listener, err = e.transport.ListenEarly(tlsConfig, &quic.Config{
		Allow0RTT:                  s.config.EarlyData,
		HandshakeIdleTimeout:       min(limits.HeaderTimeout, 5*time.Second),
		MaxIdleTimeout:             quicIdle,
		KeepAlivePeriod:            quicProbe,
		MaxIncomingStreams:         int64(limits.Streams),
		MaxIncomingUniStreams:      uniStreams,
		MaxStreamReceiveWindow:     quicStreamWindow,
		MaxConnectionReceiveWindow: quicConnWindow,
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("server: %s %s: QUIC: %w", key, d.Listener, err), e.transport.Close())
	}
	return e, nil
}

// passKey is the pass in a connection's context.
type passKey struct{}

var errRefused = errors.New("server: a limit of connections or handshakes was met")

// admitQUIC gives a connection its place within the bounds, which it has until its
// context ends. An error refuses it (CONNECTION_REFUSED).
func (b *bounds) admitQUIC(ctx context.Context, client *quic.ClientInfo) (context.Context, error) {
	p, ok := b.enter()
	if !ok {
		return nil, errRefused
	}
	if !p.identify(udpAddr(client.RemoteAddr)) || !p.shake(client.AddrVerified) {
		p.leave()
		return nil, errRefused
	}
	context.AfterFunc(ctx, p.leave)
	return context.WithValue(ctx, passKey{}, p), nil
}

func udpAddr(a net.Addr) netip.Addr {
	if udp, ok := a.(*net.UDPAddr); ok {
		return udp.AddrPort().Addr().Unmap()
	}
	return netip.Addr{}
}

func (e *quicEngine) serve() error {
	defer close(e.served)
	for {
		c, err := e.listener.Accept(context.Background())
		if errors.Is(err, quic.ErrServerClosed) || errors.Is(err, quic.ErrTransportClosed) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("server: %s %s: QUIC: %w", e.key, e.door.Listener, err)
		}
		if p, ok := c.Context().Value(passKey{}).(*pass); ok {
			p.shaken() // what costs has been done
		}
		e.serving.Go(func() { e.h3.ServeConn(c) })
	}
}

func (e *quicEngine) drain() { e.h3.Drain() }

func (e *quicEngine) resume() { e.h3.Resume() }

func (e *quicEngine) shutdown(ctx context.Context) error {
	err := e.listener.Close()
	<-e.served
	e.h3.Drain()
	gone := make(chan struct{})
	go func() {
		e.serving.Wait()
		close(gone)
	}()
	select {
	case <-gone:
	case <-ctx.Done():
		e.h3.Cut()
		select {
		case <-gone:
		case <-time.After(cutGrace):
			// Handlers that do not end hold their connections; drain reports them.
		}
	}
	err = errors.Join(err, e.transport.Close(), e.udp.Close())
	if err != nil && !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("server: close %s %s: QUIC: %w", e.key, e.door.Listener, err)
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
