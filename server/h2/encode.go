package h2

// encode.go writes header blocks. They touch no dynamic table: a block is the
// same on every connection, and can be made once for a stored response.

import (
	"strconv"

	"edgecdn/cache"
	"edgecdn/internal/huffman"
)

// Encode appends a header block of status and fields; it is a cache.Encoder.
// Names are in lower case. It may be called from many goroutines at once.
func Encode(b []byte, status int, fields []cache.Field) []byte {
	b = appendStatus(b, status)
	for i := range fields {
		b = appendField(b, fields[i].Name, fields[i].Value)
	}
	return b
}

func appendStatus(b []byte, status int) []byte {
	if i, ok := statusIndexes[status]; ok {
		return append(b, 0x80|i)
	}
	b = append(b, 0x08, 3)
	return strconv.AppendInt(b, int64(status), 10)
}

// appendField appends a literal field line without indexing (RFC 7541 6.2.2).
func appendField(b []byte, name, value string) []byte {
	return appendText(appendName(b, name), value)
}

// appendPlain is appendField for values that are made for each response, where
// the Huffman code costs more than it saves.
func appendPlain(b []byte, name, value string) []byte {
	b = appendInteger(appendName(b, name), 0, 7, len(value))
	return append(b, value...)
}

func appendName(b []byte, name string) []byte {
	if known, ok := literalNames[name]; ok {
		return append(b, known...)
	}
	return appendText(append(b, 0), name)
}

// appendText appends a string, in the Huffman code where that is shorter.
func appendText(b []byte, s string) []byte {
	if n := huffman.EncodedLen(s); n < len(s) {
		return huffman.AppendEncode(appendInteger(b, 0x80, 7, n), s)
	}
	return append(appendInteger(b, 0, 7, len(s)), s...)
}

// appendInteger appends n with a prefix of so many bits, above which lie the bits
// of pattern (RFC 7541 5.1).
func appendInteger(b []byte, pattern byte, bits, n int) []byte {
	most := 1<<bits - 1
	if n < most {
		return append(b, pattern|byte(n))
	}
	b = append(b, pattern|byte(most))
	for n -= most; n >= 0x80; n >>= 7 {
		b = append(b, byte(n)|0x80)
	}
	return append(b, byte(n))
}
