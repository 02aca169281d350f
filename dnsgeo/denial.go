package dnsgeo

// denial.go proves that something is not there, by compact denial of existence
// (RFC 9824): one NSEC record of the very name that was asked for, made when it
// is asked, which says which types the name has. For a name that does not exist
// it says NXNAME. No name of the zone is given away, and one signature is enough.

import (
	"slices"
	"strings"

	"github.com/miekg/dns"
)

// nameBytesMax is of a name in wire form (RFC 1035 2.3.4).
const nameBytesMax = 255

// denial returns the NSEC record of a name with these types; nil types are of a
// name that does not exist. ttl is the lesser of the SOA record's TTL and its
// minimum (RFC 9077).
func denial(name string, types []uint16, ttl uint32) *dns.NSEC {
	bitmap := append(slices.Clone(types), dns.TypeRRSIG, dns.TypeNSEC)
	if types == nil {
		bitmap = append(bitmap, dns.TypeNXNAME)
	}
	slices.Sort(bitmap)
	return &dns.NSEC{
		Hdr:        dns.RR_Header{Name: name, Rrtype: dns.TypeNSEC, Class: dns.ClassINET, Ttl: ttl},
		NextDomain: successor(dns.CanonicalName(name)),
		TypeBitMap: slices.Compact(bitmap),
	}
}

// successor returns the name that follows in canonical order (RFC 4034 6.1): a
// label of one zero byte in front. Of a name too long for that it is the next at
// the same level (RFC 4471 3.1.2), or at one above.
func successor(name string) string {
	if wireBytes(name)+2 <= nameBytesMax {
		return `\000.` + strings.TrimPrefix(name, ".")
	}
	for name != "." {
		labels := dns.SplitDomainName(name)
		first, rest := []byte(unescape(labels[0])), strings.Join(labels[1:], ".")+"."
		// There is no room for one byte more (or only behind a label that is full):
		// the last byte that can be larger becomes so, and what is behind it goes.
		for n := len(first); n > 0; n-- {
			if c := first[n-1]; c < 0xff {
				if c++; c >= 'A' && c <= 'Z' {
					c = 'Z' + 1 // the canonical form has no capital letters
				}
				first[n-1] = c
				return escape(first[:n]) + "." + rest
			}
		}
		name = rest
	}
	return "."
}

func wireBytes(name string) int {
	n := 1
	for _, label := range dns.SplitDomainName(name) {
		n += 1 + len(unescape(label))
	}
	return n
}

// unescape turns a label as dns writes it into its bytes.
func unescape(label string) string {
	if !strings.Contains(label, `\`) {
		return label
	}
	var b strings.Builder
	for i := 0; i < len(label); i++ {
		switch c := label[i]; {
		case c != '\\' || i+1 == len(label):
			b.WriteByte(c)
		case i+3 < len(label) && isDigit(label[i+1]) && isDigit(label[i+2]) && isDigit(label[i+3]):
			b.WriteByte((label[i+1]-'0')*100 + (label[i+2]-'0')*10 + label[i+3] - '0')
			i += 3
		default:
			i++
			b.WriteByte(label[i])
		}
	}
	return b.String()
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

// escape is the other way round; all but letters, digits, - and _ by number.
func escape(label []byte) string {
	var b strings.Builder
	for _, c := range label {
		if isDigit(c) || c >= 'a' && c <= 'z' || c == '-' || c == '_' {
			b.WriteByte(c)
			continue
		}
		b.Write([]byte{'\\', '0' + c/100, '0' + c/10%10, '0' + c%10})
	}
	return b.String()
}
