// Package huffman is the Huffman code of HPACK and QPACK (RFC 7541 5.2 and
// Appendix B, RFC 9204 4.1.2). It allocates nothing but what its callers' buffers
// need to grow.
package huffman

import (
	"encoding/binary"
	"errors"
)

// ErrInvalid is said of bytes that are no encoded string: EOS within them, or
// padding that is longer than 7 bits or not the start of EOS.
var ErrInvalid = errors.New("huffman: invalid code or padding")

const (
	eos     = 256
	bitsMax = 30
	// shortBits is the longest code that one look into a table decodes. It covers
	// what field values are made of.
	shortBits = 8
)

// lengths has the bits of each symbol's code, EOS last. The code is canonical:
// codes of one length follow each other in the order of their symbols, and longer
// ones come after shorter ones. So their lengths say it all.
var lengths = [eos + 1]uint8{
	13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28,
	28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
	6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6,
	5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
	13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
	7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
	15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5,
	6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
	20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23,
	24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
	22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23,
	21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
	26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25,
	19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
	20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23,
	26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
	bitsMax,
}

// tables are what encoding and decoding look into.
type tables struct {
	codes [eos + 1]uint32
	// short maps the next 8 bits to symbol<<8 | length, 0 where the code is longer.
	short [1 << shortBits]uint16
	// symbols in the order of their codes; for each length the first code, the
	// index of its symbol, and the first code that is longer, all of them shifted
	// to the left of 32 bits but for first.
	symbols [eos + 1]uint16
	first   [bitsMax + 1]uint32
	index   [bitsMax + 1]uint16
	beyond  [bitsMax + 1]uint64
}

var code = makeTables()

func makeTables() *tables {
	t := new(tables)
	next, rank := uint32(0), 0
	for bits := 1; bits <= bitsMax; bits++ {
		t.first[bits], t.index[bits] = next, uint16(rank)
		for symbol, length := range lengths {
			if int(length) != bits {
				continue
			}
			t.codes[symbol], t.symbols[rank] = next, uint16(symbol)
			if bits <= shortBits {
				from := next << (shortBits - bits)
				for i := range uint32(1) << (shortBits - bits) {
					t.short[from+i] = uint16(symbol)<<8 | uint16(bits)
				}
			}
			next++
			rank++
		}
		t.beyond[bits] = uint64(next) << (32 - bits)
		next <<= 1
	}
	return t
}

// EncodedLen returns the number of bytes that AppendEncode appends.
func EncodedLen(s string) int {
	bits := 0
	for i := range len(s) {
		bits += int(lengths[s[i]])
	}
	return (bits + 7) / 8
}

// AppendEncode appends the encoding of s, padded to whole bytes.
func AppendEncode(dst []byte, s string) []byte {
	var held uint64 // its low n bits are still to be written
	n := 0
	for i := range len(s) {
		bits := int(lengths[s[i]])
		held = held<<bits | uint64(code.codes[s[i]])
		n += bits
		if n >= 32 {
			n -= 32
			dst = binary.BigEndian.AppendUint32(dst, uint32(held>>n))
		}
	}
	for ; n >= 8; n -= 8 {
		dst = append(dst, byte(held>>(n-8)))
	}
	if n > 0 {
		dst = append(dst, byte(held<<(8-n))|0xff>>n)
	}
	return dst
}

// AppendDecode appends what src encodes, at most len(src)*8/5 bytes. Where src is
// not valid it returns ErrInvalid and dst as it came.
func AppendDecode(dst, src []byte) ([]byte, error) {
	before := len(dst)
	var held uint64 // its low n bits are still to be read
	n := 0
	for {
		if n <= 32 {
			if len(src) >= 4 {
				held, n = held<<32|uint64(binary.BigEndian.Uint32(src)), n+32
				src = src[4:]
			}
			for n <= 56 && len(src) > 0 && len(src) < 4 {
				held, n = held<<8|uint64(src[0]), n+8
				src = src[1:]
			}
		}
		window := uint32(0)
		if n >= 32 {
			window = uint32(held >> (n - 32))
		} else {
			window = uint32(held<<(32-n)) | (1<<(32-n) - 1) // as if EOS followed
		}
		symbol, bits := lookup(window)
		if bits > n { // nothing but padding is left
			if n >= 8 || window != 1<<32-1 {
				return dst[:before], ErrInvalid
			}
			return dst, nil
		}
		if symbol == eos {
			return dst[:before], ErrInvalid
		}
		dst = append(dst, byte(symbol))
		n -= bits
	}
}

// lookup returns the first symbol of 32 bits and the length of its code.
func lookup(window uint32) (symbol uint16, bits int) {
	if e := code.short[window>>(32-shortBits)]; e != 0 {
		return e >> 8, int(e & 0xff)
	}
	bits = shortBits + 1
	for uint64(window) >= code.beyond[bits] {
		bits++
	}
	return code.symbols[uint32(code.index[bits])+window>>(32-bits)-code.first[bits]], bits
}
