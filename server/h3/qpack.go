package h3

// qpack.go reads and writes encoded field sections (RFC 9204 4.5) without a
// dynamic table: its capacity is advertised as 0, so whatever refers to it is an
// error, and nothing is ever blocked.

import (
	"errors"
	"strconv"
	"unsafe"

	"edgecdn/cache"
	"edgecdn/internal/huffman"
)

// errQPACK is said of every field section that cannot be read.
var errQPACK = errors.New("h3: field section cannot be decoded")

// section reads the lines of one encoded field section. The strings that it
// returns point into the section and into text.
type section struct {
	rest []byte
	text []byte // Huffman-coded strings, decoded
}

// prefix reads the section's prefix (RFC 9204 4.5.1). Nothing can be required of
// a table without entries, and a negative base is invalid.
func (s *section) prefix() error {
	required, ok := s.integer(8)
	if !ok || required != 0 || len(s.rest) == 0 || s.rest[0]&0x80 != 0 {
		return errQPACK
	}
	if _, ok = s.integer(7); !ok {
		return errQPACK
	}
	return nil
}

// next reads a field line. It must only be called while rest is not empty.
func (s *section) next() (name, value string, err error) {
	var ok bool
	switch b := s.rest[0]; {
	case b&0xc0 == 0xc0: // indexed, static
		var f *entry
		if f, ok = s.static(6); !ok {
			return "", "", errQPACK
		}
		return f.name, f.value, nil
	case b&0xd0 == 0x50: // literal with a static name
		var f *entry
		if f, ok = s.static(4); !ok {
			return "", "", errQPACK
		}
		name = f.name
	case b&0xe0 == 0x20: // literal with a literal name
		if name, ok = s.string(3); !ok {
			return "", "", errQPACK
		}
	default: // the rest refers to the dynamic table
		return "", "", errQPACK
	}
	if value, ok = s.string(7); !ok {
		return "", "", errQPACK
	}
	return name, value, nil
}

func (s *section) static(bits uint) (*entry, bool) {
	i, ok := s.integer(bits)
	if !ok || i >= uint64(len(staticTable)) {
		return nil, false
	}
	return &staticTable[i], true
}

// integer reads a prefixed integer (RFC 9204 4.1.1). Up to 62 bits must be
// understood; longer ones are refused, and so is endless padding.
func (s *section) integer(bits uint) (uint64, bool) {
	n, used := readInteger(s.rest, bits)
	s.rest = s.rest[max(used, 0):]
	return n, used > 0
}

// integerBytesMax is the longest integer: the prefix and nine times 7 bits.
const integerBytesMax = 10

// readInteger reads a prefixed integer and says how many bytes it has: 0 where
// it is not complete, -1 where it is too large.
func readInteger(b []byte, bits uint) (n uint64, used int) {
	if len(b) == 0 {
		return 0, 0
	}
	most := uint64(1)<<bits - 1
	if n = uint64(b[0]) & most; n < most {
		return n, 1
	}
	for i := 1; i < len(b); i++ {
		if i >= integerBytesMax {
			return 0, -1
		}
		n += uint64(b[i]&0x7f) << (7 * (i - 1))
		if n >= 1<<62 {
			return 0, -1
		}
		if b[i]&0x80 == 0 {
			return n, i + 1
		}
	}
	if len(b) >= integerBytesMax {
		return 0, -1
	}
	return 0, 0
}

// string reads a string literal whose length has a prefix of so many bits, after
// the bit that tells Huffman's code.
func (s *section) string(bits uint) (string, bool) {
	if len(s.rest) == 0 {
		return "", false
	}
	coded := s.rest[0]&(1<<bits) != 0
	n, ok := s.integer(bits)
	if !ok || n > uint64(len(s.rest)) {
		return "", false
	}
	raw := s.rest[:n]
	s.rest = s.rest[n:]
	if !coded {
		return text(raw), true
	}
	at := len(s.text)
	var err error
	if s.text, err = huffman.AppendDecode(s.text, raw); err != nil {
		return "", false
	}
	return text(s.text[at:]), true
}

// text is b as a string without a copy: valid while b keeps its bytes.
func text(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// Encode appends the start of a response's field section: prefix, status and
// fields. It is a cache.Encoder.
func Encode(b []byte, status int, fields []cache.Field) []byte {
	b = append(b, 0, 0) // no entry required, base 0
	b = appendField(b, ":status", strconv.Itoa(status))
	return appendFields(b, fields)
}

func appendFields(b []byte, fields []cache.Field) []byte {
	for i := range fields {
		b = appendField(b, fields[i].Name, fields[i].Value)
	}
	return b
}

func appendField(b []byte, name, value string) []byte {
	index, ok := staticNames[name]
	if !ok {
		return appendString(appendString(b, 0x20, 3, name), 0, 7, value)
	}
	if whole, ok := staticFields[entry{name, value}]; ok {
		return appendInteger(b, 0xc0, 6, uint64(whole))
	}
	return appendString(appendInteger(b, 0x50, 4, uint64(index)), 0, 7, value)
}

// appendPlain is appendField for what is not worth the Huffman code.
func appendPlain(b []byte, name, value string) []byte {
	if index, ok := staticNames[name]; ok {
		b = appendInteger(b, 0x50, 4, uint64(index))
	} else {
		b = append(appendInteger(b, 0x20, 3, uint64(len(name))), name...)
	}
	return append(appendInteger(b, 0, 7, uint64(len(value))), value...)
}

func appendString(b []byte, first byte, bits uint, s string) []byte {
	if n := huffman.EncodedLen(s); n < len(s) {
		return huffman.AppendEncode(appendInteger(b, first|1<<bits, bits, uint64(n)), s)
	}
	return append(appendInteger(b, first, bits, uint64(len(s))), s...)
}

func appendInteger(b []byte, first byte, bits uint, n uint64) []byte {
	most := uint64(1)<<bits - 1
	if n < most {
		return append(b, first|byte(n))
	}
	b = append(b, first|byte(most))
	for n -= most; n >= 0x80; n >>= 7 {
		b = append(b, byte(n)|0x80)
	}
	return append(b, byte(n))
}
