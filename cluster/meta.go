package cluster

// What a node says of itself in gossip: at most 512 bytes, since memberlist panics
// at more. The codec is made so that nothing valid comes near that.
//
//	version 1, least version that a reader must know 1, phase, boot 8, weight 2,
//	stream port 2, place known 1, latitude 4, longitude 4 (millionths of a degree),
//	site 1+n, version 1+n, count of addresses 1, each: 4 or 16, IP, three ports
//
// A later version may add at the end; one that changes what is here raises the
// second byte, and older nodes then know that they cannot read it.

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"net/netip"
)

const (
	metaVersion     = 1
	metaBytesMax    = 512
	versionBytesMax = 32
)

var errShort = errors.New("cluster: it ends too early")

// meta is the part of a Member that is gossiped.
type meta struct {
	phase      Phase
	boot       uint64
	weight     uint16
	streamPort uint16
	place      Place
	site       string
	version    string
	public     []Address
}

func (m meta) encode() []byte {
	b := []byte{metaVersion, metaVersion, byte(m.phase)}
	b = binary.BigEndian.AppendUint64(b, m.boot)
	b = binary.BigEndian.AppendUint16(b, m.weight)
	b = binary.BigEndian.AppendUint16(b, m.streamPort)
	b = append(b, flag(m.place.Known))
	b = binary.BigEndian.AppendUint32(b, uint32(int32(math.Round(m.place.Lat*1e6))))
	b = binary.BigEndian.AppendUint32(b, uint32(int32(math.Round(m.place.Lon*1e6))))
	b = appendText(b, m.site, siteBytesMax)
	b = appendText(b, m.version, versionBytesMax)
	public := m.public[:min(len(m.public), addressesMax)]
	b = append(b, byte(len(public)))
	for _, a := range public {
		ip := a.IP.Unmap().AsSlice()
		b = append(append(b, byte(len(ip))), ip...)
		for _, port := range []uint16{a.HTTP, a.HTTPS, a.H3} {
			b = binary.BigEndian.AppendUint16(b, port)
		}
	}
	return b
}

func decodeMeta(b []byte) (m meta, err error) {
	if len(b) > metaBytesMax {
		return m, fmt.Errorf("cluster: %d bytes of node facts", len(b))
	}
	r := reader{b: b}
	version, least := r.byte(), r.byte()
	if version == 0 || least > metaVersion {
		return m, fmt.Errorf("cluster: node facts of version %d, which wants a reader of version %d; this one is of %d: update this node", version, least, metaVersion)
	}
	m.phase, m.boot, m.weight, m.streamPort = Phase(r.byte()), r.uint64(), r.uint16(), r.uint16()
	m.place.Known = r.byte() != 0
	m.place.Lat, m.place.Lon = float64(int32(r.uint32()))/1e6, float64(int32(r.uint32()))/1e6
	m.site, m.version = r.text(siteBytesMax), r.text(versionBytesMax)
	n := int(r.byte())
	if n > addressesMax {
		return m, fmt.Errorf("cluster: %d public addresses", n)
	}
	for range n {
		length := int(r.byte())
		ip, ok := netip.AddrFromSlice(r.take(length))
		if !ok {
			return m, errShort
		}
		m.public = append(m.public, Address{IP: ip.Unmap(), HTTP: r.uint16(), HTTPS: r.uint16(), H3: r.uint16()})
	}
	if p := m.place; p.Lat < -90 || p.Lat > 90 || p.Lon < -180 || p.Lon > 180 {
		m.place = Place{}
	}
	if m.site != "" && !isName(m.site, siteBytesMax) {
		return m, fmt.Errorf("cluster: site %q", m.site)
	}
	return m, r.err
}

func flag(on bool) byte {
	if on {
		return 1
	}
	return 0
}

// appendText adds a length of one byte and the text, cut at bytesMax.
func appendText(b []byte, s string, bytesMax int) []byte {
	s = s[:min(len(s), bytesMax)]
	return append(append(b, byte(len(s))), s...)
}

// reader reads what came from a network: what is missing reads as zero, and is an
// error at the end.
type reader struct {
	b   []byte
	err error
}

// take returns the next n bytes, of the reader's own slice; nil where they are missing.
func (r *reader) take(n int) []byte {
	if n < 0 || n > len(r.b) {
		r.b, r.err = nil, errShort
		return nil
	}
	taken := r.b[:n:n]
	r.b = r.b[n:]
	return taken
}

func (r *reader) byte() byte {
	if b := r.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (r *reader) uint16() uint16 {
	if b := r.take(2); b != nil {
		return binary.BigEndian.Uint16(b)
	}
	return 0
}

func (r *reader) uint32() uint32 {
	if b := r.take(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

func (r *reader) uint64() uint64 {
	if b := r.take(8); b != nil {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

func (r *reader) text(bytesMax int) string {
	n := int(r.byte())
	if n > bytesMax {
		r.b, r.err = nil, fmt.Errorf("cluster: a text of %d bytes, more than %d", n, bytesMax)
		return ""
	}
	return string(r.take(n))
}
