package main

// How a node looks at itself: whether its listeners answer, over UDP too. Where
// HTTP/3 does not, DNS tells clients nothing of it (dns_nodes.go).

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"

	"edgecdn/cluster"
	"edgecdn/route"
)

const (
	selfProbeInterval = 5 * time.Second
	selfProbeTimeout  = time.Second
	selfProbeTries    = 2 // of HTTP/3, whose packets may be lost on a busy machine
	selfProbeAgent    = "edge-self-probe"
)

// selfProbes is what this node's own look at its listeners showed last.
type selfProbes struct {
	last atomic.Pointer[[]cluster.Probe]
}

// answered tells whether a probe succeeded when it was last made, or is the first.
func (s *selfProbes) answered(name string) bool {
	if last := s.last.Load(); last != nil {
		return !slices.Contains(*last, cluster.Probe{Name: name})
	}
	return true
}

// probeSelf looks at this node's own listeners, as clients would, now and then.
func (n *node) probeSelf(ctx context.Context) error {
	if n.cluster == nil {
		return nil
	}
	tick := time.NewTicker(selfProbeInterval)
	defer tick.Stop()
	for {
		probes := n.lookAtSelf(ctx)
		n.probes.last.Store(&probes)
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// lookAtSelf probes each listener once, one after the other.
func (n *node) lookAtSelf(ctx context.Context) (probes []cluster.Probe) {
	http, https := n.server.Addresses()
	cfg := n.reloader.Current()
	for i, address := range append(append([]string(nil), http...), https...) {
		network, name := "tcp", "http "+address
		if i >= len(http) {
			name = "https " + address
		}
		if path, ok := strings.CutPrefix(address, "unix:"); ok {
			network, address = "unix", path
		}
		c, err := (&net.Dialer{Timeout: selfProbeTimeout}).DialContext(ctx, network, reachable(address))
		if err == nil {
			c.Close()
		}
		probes = append(probes, cluster.Probe{Name: name, OK: err == nil})
		if i >= len(http) && network == "tcp" && *cfg.Server.HTTP3 {
			err := probeH3(ctx, reachable(address), nameToAsk(cfg.Hosts))
			if err != nil && n.state.now() == serving && n.probes.answered("h3 "+address) {
				n.log.Warn("this node does not reach itself over HTTP/3: DNS tells clients of HTTP/2 alone", "listener", address, "err", err)
			}
			probes = append(probes, cluster.Probe{Name: "h3 " + address, OK: err == nil})
		}
	}
	return probes
}

// nameToAsk is one that there is a certificate for, if there is any.
func nameToAsk(hosts []route.Host) string {
	for _, h := range hosts {
		for _, name := range h.Names {
			if name != "*" {
				return strings.Replace(name, "*", "probe", 1)
			}
		}
	}
	return "localhost"
}

// probeH3 shakes hands over QUIC and asks something that goes no further than this
// node (RFC 9110 7.6.2). Whatever the answer is, who gives it is alive.
func probeH3(ctx context.Context, address, name string) (err error) {
	for range selfProbeTries {
		if err = askH3(ctx, address, name); err == nil || ctx.Err() != nil {
			break
		}
	}
	return err
}

func askH3(ctx context.Context, address, name string) error {
	ctx, cancel := context.WithTimeout(ctx, selfProbeTimeout)
	defer cancel()
	// Whose certificate it is does not matter, nor that it is refused to give one.
	conf := &tls.Config{ServerName: name, InsecureSkipVerify: true, NextProtos: []string{http3.NextProtoH3}, MinVersion: tls.VersionTLS13}
	conn, err := quic.DialAddr(ctx, address, conf, &quic.Config{HandshakeIdleTimeout: selfProbeTimeout})
	if refused, ok := errors.AsType[*quic.TransportError](err); ok && refused.Remote && refused.ErrorCode.IsCryptoError() {
		return nil
	}
	if err != nil {
		return fmt.Errorf("no handshake: %w", err)
	}
	transport := &http3.Transport{}
	defer conn.CloseWithError(quic.ApplicationErrorCode(http3.ErrCodeNoError), "")
	req, err := http.NewRequestWithContext(ctx, http.MethodOptions, "https://"+name+"/", nil)
	if err != nil {
		return err
	}
	req.Header.Set("Max-Forwards", "0")
	req.Header.Set("User-Agent", selfProbeAgent)
	resp, err := transport.NewClientConn(conn).RoundTrip(req)
	if err != nil {
		return fmt.Errorf("no answer: %w", err)
	}
	return resp.Body.Close()
}
