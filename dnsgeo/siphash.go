package dnsgeo

// siphash.go is SipHash-2-4 (Aumasson and Bernstein), the function that RFC 9018
// names for server cookies. It is short, and allocates nothing.

import (
	"encoding/binary"
	"math/bits"
)

// sipKey is the 128 bits of a key, as two little-endian words.
type sipKey [2]uint64

func sipKeyOf(secret [16]byte) sipKey {
	return sipKey{binary.LittleEndian.Uint64(secret[:8]), binary.LittleEndian.Uint64(secret[8:])}
}

type sipState struct{ a, b, c, d uint64 }

func (s *sipState) round() {
	s.a += s.b
	s.b = bits.RotateLeft64(s.b, 13) ^ s.a
	s.a = bits.RotateLeft64(s.a, 32)
	s.c += s.d
	s.d = bits.RotateLeft64(s.d, 16) ^ s.c
	s.a += s.d
	s.d = bits.RotateLeft64(s.d, 21) ^ s.a
	s.c += s.b
	s.b = bits.RotateLeft64(s.b, 17) ^ s.c
	s.c = bits.RotateLeft64(s.c, 32)
}

func (s *sipState) word(m uint64) {
	s.d ^= m
	s.round()
	s.round()
	s.a ^= m
}

// siphash returns SipHash-2-4 of data under key.
func siphash(key sipKey, data []byte) uint64 {
	s := sipState{
		key[0] ^ 0x736f6d6570736575, key[1] ^ 0x646f72616e646f6d,
		key[0] ^ 0x6c7967656e657261, key[1] ^ 0x7465646279746573,
	}
	last := uint64(len(data)) << 56
	for len(data) >= 8 {
		s.word(binary.LittleEndian.Uint64(data))
		data = data[8:]
	}
	for i, b := range data {
		last |= uint64(b) << (8 * i)
	}
	s.word(last)
	s.c ^= 0xff
	for range 4 {
		s.round()
	}
	return s.a ^ s.b ^ s.c ^ s.d
}
