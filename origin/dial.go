package origin

// dial.go opens connections to one endpoint: TCP, then the PROXY header where the
// origin wants one, then TLS.

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

type dialer struct {
	up      *upstream
	address string       // host:port
	open    atomic.Int64 // connections
}

// tcp opens a TCP connection that counts, for the client of that address.
func (d *dialer) tcp(ctx context.Context, client string) (net.Conn, error) {
	cfg := &d.up.cfg
	by := net.Dialer{Timeout: cfg.DialTimeout}
	tcp, err := by.DialContext(ctx, "tcp", d.address)
	if err != nil {
		return nil, err
	}
	d.open.Add(1)
	d.up.stats.ConnectionsDialed.Add(1)
	d.up.stats.ConnectionsOpen.Add(1)
	c := &conn{Conn: tcp, open: &d.open, stats: d.up.stats}
	if cfg.ProxyProtocol != "" {
		_ = c.SetWriteDeadline(time.Now().Add(cfg.DialTimeout)) // the write tells
		if _, err := c.Write(appendProxy(nil, cfg.ProxyProtocol, client, tcp.RemoteAddr().String())); err != nil {
			_ = c.Close() // the error that is returned says more
			return nil, fmt.Errorf("PROXY header: %w", err)
		}
	}
	return c, nil
}

// probe opens a connection to an address for a probe, which is nobody's.
func (d *dialer) probe(ctx context.Context, network, address string) (net.Conn, error) {
	c, err := new(net.Dialer).DialContext(ctx, network, address)
	if err != nil || d.up.cfg.ProxyProtocol == "" {
		return c, err
	}
	if _, err := c.Write(appendProxy(nil, d.up.cfg.ProxyProtocol, "", address)); err != nil {
		_ = c.Close() // the error that is returned says more
		return nil, fmt.Errorf("PROXY header: %w", err)
	}
	return c, nil
}

// secure opens a TLS connection over which one of these protocols is spoken.
func (d *dialer) secure(ctx context.Context, client string, protocols ...string) (*tls.Conn, error) {
	under, err := d.tcp(ctx, client)
	if err != nil {
		return nil, err
	}
	config := d.up.tls.Clone()
	config.NextProtos = protocols
	if config.ServerName == "" {
		config.ServerName = d.up.base.Hostname()
	}
	c := tls.Client(under, config)
	within := ctx
	if limit := d.up.cfg.TLSTimeout; limit > 0 {
		var stop context.CancelFunc
		within, stop = context.WithTimeout(ctx, limit)
		defer stop()
	}
	if err := c.HandshakeContext(within); err != nil {
		_ = under.Close() // the error that is returned says more
		if within.Err() != nil && ctx.Err() == nil {
			err = fmt.Errorf("the TLS handshake took longer than %v: %w", d.up.cfg.TLSTimeout, err)
		}
		return nil, err
	}
	return c, nil
}

type conn struct {
	net.Conn
	open  *atomic.Int64
	stats *Stats
	once  sync.Once
}

func (c *conn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.stats.BytesReceived.Add(uint64(n))
	return n, err
}

func (c *conn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.stats.BytesSent.Add(uint64(n))
	return n, err
}

func (c *conn) Close() error {
	c.once.Do(func() {
		c.open.Add(-1)
		c.stats.ConnectionsOpen.Add(-1)
	})
	return c.Conn.Close()
}

// CloseWrite ends one direction of an upgraded connection.
func (c *conn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return errors.ErrUnsupported
}

// proxySignature begins a PROXY header of version 2.
const proxySignature = "\r\n\r\n\x00\r\nQUIT\n"

// appendProxy appends the header of the PROXY protocol that tells who the client is
// and which endpoint it is led to. Where nobody knows the client, as in a fetch of
// ours, it says so.
func appendProxy(b []byte, version, client, endpoint string) []byte {
	from, err := netip.ParseAddrPort(client)
	to, err2 := netip.ParseAddrPort(endpoint)
	if err != nil || err2 != nil {
		if version == proxyV1 {
			return append(b, "PROXY UNKNOWN\r\n"...)
		}
		return append(append(b, proxySignature...), 0x20, 0, 0, 0) // LOCAL
	}
	from = netip.AddrPortFrom(from.Addr().Unmap().WithZone(""), from.Port())
	to = netip.AddrPortFrom(to.Addr().Unmap().WithZone(""), to.Port())
	family, six := byte(0x11), byte(0x21)
	if from.Addr().Is6() || to.Addr().Is6() { // both in one family
		from = netip.AddrPortFrom(netip.AddrFrom16(from.Addr().As16()), from.Port())
		to = netip.AddrPortFrom(netip.AddrFrom16(to.Addr().As16()), to.Port())
		family = six
	}
	if version == proxyV1 {
		name := "TCP4"
		if family == six {
			name = "TCP6"
		}
		return fmt.Appendf(b, "PROXY %s %s %s %d %d\r\n", name, from.Addr(), to.Addr(), from.Port(), to.Port())
	}
	src, dst := from.Addr().AsSlice(), to.Addr().AsSlice()
	b = append(append(b, proxySignature...), 0x21, family)
	b = binary.BigEndian.AppendUint16(b, uint16(2*len(src)+4))
	b = append(append(b, src...), dst...)
	b = binary.BigEndian.AppendUint16(b, from.Port())
	return binary.BigEndian.AppendUint16(b, to.Port())
}
