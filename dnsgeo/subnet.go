package dnsgeo

// EDNS client subnet (RFC 7871), validated raw: the library's parser accepts
// what must be refused.

import (
	"encoding/binary"
	"errors"
	"net/netip"

	"github.com/miekg/dns"
)

// subnet is the option as the query had it.
type subnet struct {
	present bool
	family  uint16
	source  uint8
	addr    netip.Addr // masked as it came; invalid with source 0 and family 0
}

var errSubnet = errors.New("malformed client subnet")

// parseSubnet reads the option's data.
func parseSubnet(data []byte) (subnet, error) {
	if len(data) < 4 {
		return subnet{}, errSubnet
	}
	s := subnet{present: true, family: binary.BigEndian.Uint16(data), source: data[2]}
	scope, address := data[3], data[4:]
	bits := 0
	switch s.family {
	case 0: // "no address at all"; common with source 0
	case 1:
		bits = 32
	case 2:
		bits = 128
	default:
		return subnet{}, errSubnet
	}
	// RFC 7871 6: as many bytes as the source prefix needs, zeros behind it, and
	// scope 0 in queries.
	if int(s.source) > bits || scope != 0 || len(address) != (int(s.source)+7)/8 {
		return subnet{}, errSubnet
	}
	if spare := s.source % 8; spare != 0 && address[len(address)-1]<<spare != 0 {
		return subnet{}, errSubnet
	}
	switch s.family {
	case 1:
		var a [4]byte
		copy(a[:], address)
		s.addr = netip.AddrFrom4(a)
	case 2:
		var a [16]byte
		copy(a[:], address)
		s.addr = netip.AddrFrom16(a)
	}
	return s, nil
}

// prefix is the client's network, if the option tells it.
func (s subnet) prefix() (netip.Prefix, bool) {
	if !s.present || s.source == 0 {
		return netip.Prefix{}, false
	}
	if s.addr.Is4In6() { // a v4 client in disguise
		if s.source <= 96 {
			return netip.Prefix{}, false
		}
		return netip.PrefixFrom(s.addr.Unmap(), int(s.source)-96), true
	}
	return netip.PrefixFrom(s.addr, int(s.source)), true
}

// shown is the scope as the option has it.
func (s subnet) shown(scope uint8) uint8 {
	if s.source == 0 { // it asked not to be told apart
		return 0
	}
	if s.addr.Is4In6() && scope > 0 {
		return scope + 96
	}
	return scope
}

// echo is the option of the answer: family, source and address as they came
// (RFC 7871 7.2.1), and the scope that the answer holds for.
func (s subnet) echo(scope uint8) *dns.EDNS0_SUBNET {
	e := &dns.EDNS0_SUBNET{Code: dns.EDNS0SUBNET, Family: s.family, SourceNetmask: s.source, SourceScope: s.shown(scope)}
	if s.addr.IsValid() {
		e.Address = s.addr.AsSlice()
	}
	return e
}
