package cache

// coding.go reduces Accept-Encoding to what tells responses apart: which of the
// codings that we know a client takes (RFC 9110 12.5.3). Requests for the store
// go out with that, so that what comes back fits everybody in the same class.

import "strings"

const acceptEncoding = "accept-encoding"

// codings that we know, in the order that they are listed in.
var codings = [...]string{"br", "gzip", "zstd"}

// accepted is a set of codings, bit i for codings[i].
type accepted uint8

// acceptedCodings reads all Accept-Encoding lines. "*" takes what is not named.
func acceptedCodings(fields []Field) (set accepted) {
	var named, any accepted
	for i := range fields {
		if fields[i].Name != acceptEncoding {
			continue
		}
		for rest := fields[i].Value; rest != ""; {
			var item string
			item, rest, _ = strings.Cut(rest, ",")
			coding, params, _ := strings.Cut(item, ";")
			coding = strings.Trim(coding, " \t")
			refused := zeroQuality(params)
			if coding == "*" {
				if !refused {
					any = 1<<len(codings) - 1
				}
				continue
			}
			for j, known := range codings {
				if strings.EqualFold(coding, known) || known == "gzip" && strings.EqualFold(coding, "x-gzip") {
					named |= 1 << j
					if !refused {
						set |= 1 << j
					}
				}
			}
		}
	}
	return set | any&^named
}

// zeroQuality says whether parameters hold q=0, 0., 0.0, 0.00 or 0.000.
func zeroQuality(params string) bool {
	for params != "" {
		var param string
		param, params, _ = strings.Cut(params, ";")
		param = strings.Trim(param, " \t")
		if len(param) < 3 || param[0]|0x20 != 'q' || param[1] != '=' {
			continue
		}
		value := param[2:]
		return value[0] == '0' && strings.Trim(value[1:], ".0") == ""
	}
	return false
}

// append writes the set as a field value: "br, gzip", or "identity".
func (a accepted) append(b []byte) []byte {
	if a == 0 {
		return append(b, "identity"...)
	}
	first := true
	for i, coding := range codings {
		if a&(1<<i) == 0 {
			continue
		}
		if !first {
			b = append(b, ", "...)
		}
		first = false
		b = append(b, coding...)
	}
	return b
}
