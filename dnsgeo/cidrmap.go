package dnsgeo

// The operator's map of networks: a million of them in two sorted arrays.
// Networks inside others are laid flat into ranges, so that a search finds one
// range, and the answer's scope is what of it is uniform: a network that has
// exceptions never lends its answer to them (RFC 7871 7.2.1).

import (
	"bufio"
	"cmp"
	"encoding/binary"
	"fmt"
	"io"
	"math/bits"
	"net/netip"
	"slices"
	"strings"
)

const (
	mapLinesMax  = 4_000_000
	mapValuesMax = 100_000
)

// cidrMap is never changed once it is made.
type cidrMap struct {
	values []Place // 0 is "not in the map"
	v4     ranges[uint32]
	v6     ranges[u128]
}

// u128 is an IPv6 address as a number.
type u128 struct{ hi, lo uint64 }

// ranges says which value holds from a start to the next one.
type ranges[N any] struct {
	starts []N
	values []uint32
	// first tells for each 16 leading bits which range they begin in.
	first []uint32
}

// mapped is a line of the file.
type mapped struct {
	network netip.Prefix
	value   uint32
}

// readCIDRMap reads lines "CIDR site" or "CIDR latitude,longitude"; "#" begins a
// remark. Of two lines for one network the later counts.
func readCIDRMap(r io.Reader) (*cidrMap, error) {
	m := &cidrMap{values: make([]Place, 1)}
	index := map[string]uint32{}
	var v4, v6 []mapped
	in := bufio.NewScanner(r)
	for line := 1; in.Scan(); line++ {
		text, _, _ := strings.Cut(in.Text(), "#")
		fields := strings.Fields(text)
		if len(fields) == 0 {
			continue
		}
		if line > mapLinesMax {
			return nil, fmt.Errorf("has more than %d lines", mapLinesMax)
		}
		network, err := parseNetwork(fields[0])
		if err != nil || len(fields) < 2 {
			return nil, fmt.Errorf(`line %d: %q is not a network and where it is: write "192.0.2.0/24 fra" or "192.0.2.0/24 50.1,8.7"`, line, in.Text())
		}
		value, err := m.value(index, strings.Join(fields[1:], ""))
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", line, err)
		}
		if network.Addr().Is4() {
			v4 = append(v4, mapped{network, value})
		} else {
			v6 = append(v6, mapped{network, value})
		}
	}
	if err := in.Err(); err != nil {
		return nil, err
	}
	m.v4 = flatten(v4, number4, func(a uint32, shift int) (uint32, bool) {
		next := uint64(a) + 1<<shift
		return uint32(next), next > 1<<32-1
	})
	m.v6 = flatten(v6, number6, func(a u128, shift int) (u128, bool) {
		if shift >= 64 {
			hi, carry := bits.Add64(a.hi, 1<<(shift-64), 0)
			return u128{hi, a.lo}, carry != 0 || shift == 128
		}
		lo, carry := bits.Add64(a.lo, 1<<shift, 0)
		hi, over := bits.Add64(a.hi, 0, carry)
		return u128{hi, lo}, over != 0
	})
	m.v4.index(func(a uint32) uint16 { return uint16(a >> 16) })
	m.v6.index(func(a u128) uint16 { return uint16(a.hi >> 48) })
	return m, nil
}

func parseNetwork(text string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(text)
	if err != nil {
		a, err := netip.ParseAddr(text)
		if err != nil || a.Zone() != "" {
			return netip.Prefix{}, fmt.Errorf("%q is no network", text)
		}
		p = netip.PrefixFrom(a, a.BitLen())
	}
	if a := p.Addr(); a.Is4In6() {
		if p.Bits() < 96 {
			return netip.Prefix{}, fmt.Errorf("%q is no network", text)
		}
		p = netip.PrefixFrom(a.Unmap(), p.Bits()-96)
	}
	return p.Masked(), nil
}

func (m *cidrMap) value(index map[string]uint32, text string) (uint32, error) {
	if v, ok := index[text]; ok {
		return v, nil
	}
	if len(m.values) > mapValuesMax {
		return 0, fmt.Errorf("more than %d different sites and places", mapValuesMax)
	}
	place := Place{Source: "map"}
	if strings.Contains(text, ",") {
		at, err := ParsePoint(text)
		if err != nil {
			return 0, err
		}
		place.Point, place.HasPoint = at, true
	} else {
		place.Site = strings.Clone(text)
		place.Prefer, place.PreferBy = []string{place.Site}, "its network"
	}
	m.values = append(m.values, place)
	v := uint32(len(m.values) - 1)
	index[strings.Clone(text)] = v
	return v, nil
}

func number4(a netip.Addr) uint32 {
	b := a.As4()
	return binary.BigEndian.Uint32(b[:])
}

func number6(a netip.Addr) u128 {
	b := a.As16()
	return u128{binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])}
}

// flatten makes ranges of networks that lie in each other. next is the address
// behind a network with shift free bits, and whether there is none.
func flatten[N comparable](all []mapped, number func(netip.Addr) N, next func(N, int) (N, bool)) ranges[N] {
	slices.SortStableFunc(all, func(a, b mapped) int {
		return cmp.Or(a.network.Addr().Compare(b.network.Addr()), cmp.Compare(a.network.Bits(), b.network.Bits()))
	})
	var r ranges[N]
	put := func(start N, value uint32) {
		if n := len(r.starts); n > 0 && r.starts[n-1] == start {
			r.values[n-1] = value
		} else if n == 0 && value == 0 || n > 0 && r.values[n-1] == value {
			return
		} else {
			r.starts, r.values = append(r.starts, start), append(r.values, value)
		}
	}
	var open []mapped // networks that the sweep is inside of, the innermost last
	leave := func() {
		top := open[len(open)-1]
		open = open[:len(open)-1]
		behind, last := next(number(top.network.Addr()), top.network.Addr().BitLen()-top.network.Bits())
		if last {
			return
		}
		value := uint32(0)
		if len(open) > 0 {
			value = open[len(open)-1].value
		}
		put(behind, value)
	}
	for _, one := range all {
		for len(open) > 0 && !open[len(open)-1].network.Contains(one.network.Addr()) {
			leave()
		}
		open = append(open, one)
		put(number(one.network.Addr()), one.value)
	}
	for len(open) > 0 {
		leave()
	}
	r.starts, r.values = slices.Clip(r.starts), slices.Clip(r.values)
	return r
}

// index notes where each 16 leading bits begin.
func (r *ranges[N]) index(leading func(N) uint16) {
	r.first = make([]uint32, 1<<16+1)
	at := 0
	for lead := range 1 << 16 {
		for at < len(r.starts) && int(leading(r.starts[at])) < lead {
			at++
		}
		r.first[lead] = uint32(at)
	}
	r.first[1<<16] = uint32(len(r.starts))
}

// search returns the range that an address is in: -1 before the first.
func (r *ranges[N]) search(a N, lead uint16, less func(a, b N) bool) int {
	low, high := int(r.first[lead]), int(r.first[int(lead)+1])
	for low < high {
		if mid := int(uint(low+high) >> 1); less(a, r.starts[mid]) {
			high = mid
		} else {
			low = mid + 1
		}
	}
	return low - 1
}

// Locate returns what the map says of an address.
func (m *cidrMap) Locate(addr netip.Addr) (Place, netip.Prefix) {
	value, length := uint32(0), 0
	if addr.Is4() {
		a := number4(addr)
		i := m.v4.search(a, uint16(a>>16), func(a, b uint32) bool { return a < b })
		if i >= 0 {
			value = m.v4.values[i]
			if start := m.v4.starts[i]; start > 0 {
				length = max(length, bits.LeadingZeros32(a^(start-1))+1)
			}
		}
		if i+1 < len(m.v4.starts) {
			length = max(length, bits.LeadingZeros32(a^m.v4.starts[i+1])+1)
		}
	} else {
		a := number6(addr)
		i := m.v6.search(a, uint16(a.hi>>48), u128.less)
		if i >= 0 {
			value = m.v6.values[i]
			if start := m.v6.starts[i]; start != (u128{}) {
				lo, borrow := bits.Sub64(start.lo, 1, 0)
				length = max(length, a.common(u128{start.hi - borrow, lo})+1)
			}
		}
		if i+1 < len(m.v6.starts) {
			length = max(length, a.common(m.v6.starts[i+1])+1)
		}
	}
	return m.values[value], netip.PrefixFrom(addr, length)
}

func (a u128) less(b u128) bool { return a.hi < b.hi || a.hi == b.hi && a.lo < b.lo }

// common is how many leading bits two addresses share.
func (a u128) common(b u128) int {
	if n := bits.LeadingZeros64(a.hi ^ b.hi); n < 64 {
		return n
	}
	return 64 + bits.LeadingZeros64(a.lo^b.lo)
}
