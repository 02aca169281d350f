package server

// proxy.go reads the header with which proxies say whose connection they bring:
// the PROXY protocol, versions 1 and 2, strictly, and from trusted sources only.

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"edgecdn/route"
)

// ProxyProtocol says from whom a PROXY header is taken.
type ProxyProtocol struct {
	// Trust lists the networks and addresses of proxies; unix stands for all that
	// comes in by unix sockets. Their connections must begin with a PROXY header
	// (version 1 or 2), and count as the client's that it names. TCP only: QUIC
	// has no such header.
	Trust []string `yaml:"trust"`
}

// trustUnix is the word for unix sockets in ProxyProtocol.Trust.
const trustUnix = "unix"

// networks returns the part of the list that are networks, and whether unix
// sockets are in it.
func (p *ProxyProtocol) networks() (list []string, unix bool) {
	for _, entry := range p.Trust {
		if entry == trustUnix {
			unix = true
			continue
		}
		list = append(list, entry)
	}
	return list, unix
}

func (p *ProxyProtocol) validate(report func(path, problem string)) {
	for i, entry := range p.Trust {
		if entry == trustUnix {
			continue
		}
		if problem := route.NetworkProblem(entry); problem != "" {
			report(fmt.Sprintf("proxy_protocol.trust[%d]", i), problem)
		}
	}
}

// trusts says whether a connection must begin with a PROXY header.
func (l *live) trusts(c net.Conn) bool {
	if _, unix := c.RemoteAddr().(*net.UnixAddr); unix {
		return l.trustUnix
	}
	return l.trust.Contains(addrOf(c))
}

const (
	proxyV1 = "PROXY "
	proxyV2 = "\r\n\r\n\x00\r\nQUIT\n"
	// proxyLineMax is the longest header of version 1, proxyBytesMax of what follows
	// the first 16 bytes of version 2: addresses, and fields that nobody here reads.
	proxyLineMax, proxyBytesMax = 107, 4 << 10
)

var (
	errProxyMissing   = errors.New("a trusted proxy sends no PROXY header: have it send one, or take it off server.proxy_protocol.trust")
	errProxyUntrusted = errors.New("a PROXY header from a source that is not trusted: add it to server.proxy_protocol.trust if it is yours")
)

// unwrap takes the PROXY header off a trusted connection and counts that as the
// client's; what is not trusted may not have one.
func (e *tcpEngine) unwrap(c *conn, p *pass) error {
	at, err := c.begins(proxyV1, proxyV2)
	if err != nil {
		return err
	}
	stats := e.door.Stats()
	switch {
	case !c.proxied && at < 0:
		return nil
	case !c.proxied:
		stats.ProxyUntrusted.Add(1)
		return e.warn(c, errProxyUntrusted)
	case at < 0:
		stats.ProxyRefused.Add(1)
		return e.warn(c, errProxyMissing)
	}
	if c.client, err = readProxy(c); err != nil {
		stats.ProxyRefused.Add(1)
		return e.warn(c, err)
	}
	if c.client.IsValid() && !e.place(p, c.client.Addr()) || !c.client.IsValid() && e.tls != nil && !p.shake(true) {
		return errRefused
	}
	return nil
}

// warn puts a refusal in the log, at most one a second.
func (e *tcpEngine) warn(c *conn, err error) error {
	now := time.Now().Unix()
	if last := e.warned.Load(); last != now && e.warned.CompareAndSwap(last, now) {
		e.door.Log().Warn("connection refused", "listener", e.door.Listener, "from", c.Conn.RemoteAddr().String(), "error", err)
	}
	return err
}

// readProxy reads a PROXY header to its end and not beyond. The zero address says
// that the connection is the proxy's own.
func readProxy(r io.Reader) (netip.AddrPort, error) {
	head := make([]byte, 16, proxyLineMax)
	if _, err := io.ReadFull(r, head[:12]); err != nil {
		return netip.AddrPort{}, fmt.Errorf("PROXY header: %w", err)
	}
	if string(head[:12]) == proxyV2 {
		if _, err := io.ReadFull(r, head[12:16]); err != nil {
			return netip.AddrPort{}, fmt.Errorf("PROXY header: %w", err)
		}
		return readProxyV2(r, head[12:16])
	}
	line := head[:12]
	for !bytes.HasSuffix(line, []byte("\r\n")) {
		if len(line) == proxyLineMax {
			return netip.AddrPort{}, errors.New("PROXY header: the line is too long")
		}
		if _, err := io.ReadFull(r, line[len(line):len(line)+1]); err != nil {
			return netip.AddrPort{}, fmt.Errorf("PROXY header: %w", err)
		}
		line = line[:len(line)+1]
	}
	return parseProxyV1(string(line[:len(line)-2]))
}

// parseProxyV1 takes a line without its end.
func parseProxyV1(line string) (client netip.AddrPort, err error) {
	wrong := fmt.Errorf("PROXY header: %q is none", line)
	parts := strings.Split(line, " ")
	if parts[0] != "PROXY" || len(parts) < 2 || strings.ContainsAny(line, "\r\n") {
		return client, wrong
	}
	if parts[1] == "UNKNOWN" {
		return client, nil
	}
	if len(parts) != 6 || parts[1] != "TCP4" && parts[1] != "TCP6" {
		return client, wrong
	}
	for i := range 2 { // the client's, then ours
		a, err := netip.ParseAddr(parts[2+i])
		port, errPort := strconv.ParseUint(parts[4+i], 10, 16)
		if err != nil || errPort != nil || a.Zone() != "" || a.Is4() != (parts[1] == "TCP4") || strconv.FormatUint(port, 10) != parts[4+i] {
			return netip.AddrPort{}, wrong
		}
		if i == 0 {
			client = netip.AddrPortFrom(a.Unmap(), uint16(port))
		}
	}
	return client, nil
}

// readProxyV2 reads what follows the signature: version and command, family and
// transport, length.
func readProxyV2(r io.Reader, head []byte) (client netip.AddrPort, err error) {
	length := int(binary.BigEndian.Uint16(head[2:]))
	if length > proxyBytesMax {
		return client, fmt.Errorf("PROXY header: %d bytes are too many", length)
	}
	body := make([]byte, length)
	if _, err := io.ReadFull(r, body); err != nil {
		return client, fmt.Errorf("PROXY header: %w", err)
	}
	size := 0 // of an address
	switch command, family := head[0], head[1]; {
	case command == 0x20: // LOCAL: the proxy looks whether we live
		return client, nil
	case command != 0x21:
		return client, fmt.Errorf("PROXY header: version and command %#x are not known", command)
	case family == 0x00: // UNSPEC
		return client, nil
	case family == 0x11:
		size = 4
	case family == 0x21:
		size = 16
	default:
		return client, fmt.Errorf("PROXY header: family and transport %#x are not those of TCP", family)
	}
	if length < 2*size+4 {
		return client, errors.New("PROXY header: the addresses are cut short")
	}
	a, _ := netip.AddrFromSlice(body[:size])
	return netip.AddrPortFrom(a.Unmap(), binary.BigEndian.Uint16(body[2*size:])), nil
}
