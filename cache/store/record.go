package store

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"math"
)

// The records of a segment, format version 1. Numbers are little endian. A
// record begins on a unit; its head is followed at once by its body, and zeros
// fill the last unit.
//
//	prefix   magic u32, crc u32 (CRC-32C of the head from here on), kind u8,
//	         version u8, flags u16, head bytes u32, body bytes u32,
//	         sequence u64, position u64, hash 2 x u64
//	object   length u64, stored, fresh until, keep until 3 x i64, order, URL,
//	         host, fill, body address 5 x u64, slice bytes u32, key bytes u32,
//	         header bytes u32, groups u32, checksums u32; then the groups,
//	         the checksums, the key, the header
//	slice    fill u64, owner u64, number u32, checksums u32; the checksums
//	removal  count u32, unused u32; then (fingerprint, position) 2 x u64 each
//
// The position is part of what the checksum covers, so that a misdirected or
// left-over write is never taken for a record.
const (
	recordVersion = 1
	recordMagic   = 0x52474445 // "EDGR"

	unitBytes    = 512
	unitBits     = 17
	segmentMax   = unitBytes << unitBits // 64 MiB: what a position can address
	addressBits  = 26                    // bytes in a segment
	blockBytes   = 64 << 10              // of body under one checksum
	sliceMax     = 1 << 20               // bytes of body in one record
	prefixBytes  = 52
	objectBytes  = prefixBytes + 9*8 + 5*4
	sliceBytes   = prefixBytes + 2*8 + 2*4
	removalBytes = prefixBytes + 8

	headMax     = headMask * unitBytes
	keyMax      = 64<<10 - 1
	groupsMax   = 4096
	removalsMax = 2048
)

type recordKind uint8

const (
	kindObject  recordKind = 1 // header of an object, and its body when small
	kindSlice   recordKind = 2 // part of a large body
	kindRemoval recordKind = 3 // positions that are removed
)

// flagElsewhere: the body is at the body address, not behind the head.
const flagElsewhere = 1

var (
	errNoRecord = errors.New("no record here")
	castagnoli  = crc32.MakeTable(crc32.Castagnoli)
)

// prefix is what all records begin with.
type prefix struct {
	kind      recordKind
	flags     uint16
	headBytes int
	bodyBytes int
	sequence  uint64
	position  uint64 // segment id and unit
	hash      Hash
}

// units returns how many units the record takes.
func (p *prefix) units() int { return unitsOf(p.headBytes + p.bodyBytes) }

func unitsOf(bytes int) int { return (bytes + unitBytes - 1) / unitBytes }

// objectHead is the decoded head of an object. key, header, groups and sums
// point into the bytes it was decoded from or are given by the encoder.
type objectHead struct {
	prefix
	meta       Meta
	key        string
	fill       uint64 // names the slices; 0 when the body is one piece
	address    uint64 // of the body when flagElsewhere
	sliceBytes int    // of all slices but the last
	sums       []uint32
}

type sliceHead struct {
	prefix
	fill, owner uint64 // owner: fingerprint of the object's key
	number      int
	sums        []uint32
}

// removal says that what print named at position or before is gone.
type removal struct{ print, position uint64 }

// checksums appends the CRC-32C of each block of body.
func checksums(dst []uint32, body []byte) []uint32 {
	for len(body) > 0 {
		n := min(len(body), blockBytes)
		dst = append(dst, crc32.Checksum(body[:n], castagnoli))
		body = body[n:]
	}
	return dst
}

func blocksOf(bytes int64) int { return int((bytes + blockBytes - 1) / blockBytes) }

func appendPrefix(b []byte, p *prefix) []byte {
	b = binary.LittleEndian.AppendUint32(b, recordMagic)
	b = append(b, 0, 0, 0, 0, byte(p.kind), recordVersion)
	b = binary.LittleEndian.AppendUint16(b, p.flags)
	b = binary.LittleEndian.AppendUint32(b, 0)
	b = binary.LittleEndian.AppendUint32(b, uint32(p.bodyBytes))
	b = append(b, make([]byte, 16)...) // sequence and position: stamp
	b = binary.LittleEndian.AppendUint64(b, p.hash.Hi)
	return binary.LittleEndian.AppendUint64(b, p.hash.Lo)
}

// stamp completes an encoded head with where and when it is written.
func stamp(head []byte, position, sequence uint64) {
	binary.LittleEndian.PutUint32(head[12:], uint32(len(head)))
	binary.LittleEndian.PutUint64(head[20:], sequence)
	binary.LittleEndian.PutUint64(head[28:], position)
	binary.LittleEndian.PutUint32(head[4:], crc32.Checksum(head[8:], castagnoli))
}

// encodeObject makes the head of an object, to be stamped. It returns
// ErrTooLarge for what no record can hold.
func encodeObject(h *objectHead) ([]byte, error) {
	m := &h.meta
	size := objectBytes + 8*len(m.Groups) + 4*len(h.sums) + len(h.key) + len(m.Header)
	if len(h.key) > keyMax || len(m.Header) > HeaderMax || len(m.Groups) > groupsMax || size > headMax {
		return nil, ErrTooLarge
	}
	h.kind = kindObject
	b := appendPrefix(make([]byte, 0, size), &h.prefix)
	for _, v := range [...]uint64{uint64(m.Length), uint64(m.Stored), uint64(m.FreshUntil), uint64(m.KeepUntil),
		m.Order, m.URL, m.Host, h.fill, h.address} {
		b = binary.LittleEndian.AppendUint64(b, v)
	}
	for _, v := range [...]int{h.sliceBytes, len(h.key), len(m.Header), len(m.Groups), len(h.sums)} {
		b = binary.LittleEndian.AppendUint32(b, uint32(v))
	}
	for _, g := range m.Groups {
		b = binary.LittleEndian.AppendUint64(b, g)
	}
	for _, s := range h.sums {
		b = binary.LittleEndian.AppendUint32(b, s)
	}
	b = append(b, h.key...)
	return append(b, m.Header...), nil
}

func encodeSlice(h *sliceHead) []byte {
	h.kind = kindSlice
	b := appendPrefix(make([]byte, 0, sliceBytes+4*len(h.sums)), &h.prefix)
	b = binary.LittleEndian.AppendUint64(b, h.fill)
	b = binary.LittleEndian.AppendUint64(b, h.owner)
	b = binary.LittleEndian.AppendUint32(b, uint32(h.number))
	b = binary.LittleEndian.AppendUint32(b, uint32(len(h.sums)))
	for _, s := range h.sums {
		b = binary.LittleEndian.AppendUint32(b, s)
	}
	return b
}

func encodeRemovals(gone []removal) []byte {
	b := appendPrefix(make([]byte, 0, removalBytes+16*len(gone)), &prefix{kind: kindRemoval})
	b = binary.LittleEndian.AppendUint32(b, uint32(len(gone)))
	b = append(b, 0, 0, 0, 0)
	for _, r := range gone {
		b = binary.LittleEndian.AppendUint64(b, r.print)
		b = binary.LittleEndian.AppendUint64(b, r.position)
	}
	return b
}

// decodePrefix reads the prefix at the start of b and says how long the head
// is; it does not look beyond prefixBytes and does not verify the checksum.
func decodePrefix(b []byte) (prefix, error) {
	var p prefix
	if len(b) < prefixBytes || binary.LittleEndian.Uint32(b) != recordMagic || b[9] != recordVersion {
		return p, errNoRecord
	}
	p.kind = recordKind(b[8])
	p.flags = binary.LittleEndian.Uint16(b[10:])
	head, body := binary.LittleEndian.Uint32(b[12:]), binary.LittleEndian.Uint32(b[16:])
	if head < prefixBytes || head > headMax || body > sliceMax {
		return p, errNoRecord
	}
	p.headBytes, p.bodyBytes = int(head), int(body)
	p.sequence = binary.LittleEndian.Uint64(b[20:])
	p.position = binary.LittleEndian.Uint64(b[28:])
	p.hash.Hi = binary.LittleEndian.Uint64(b[36:])
	p.hash.Lo = binary.LittleEndian.Uint64(b[44:])
	return p, nil
}

// decodeHead reads the prefix and verifies the whole head against its checksum
// and against the position it was read from.
func decodeHead(b []byte, position uint64) (prefix, []byte, error) {
	p, err := decodePrefix(b)
	if err != nil {
		return p, nil, err
	}
	if p.headBytes > len(b) || p.position != position ||
		binary.LittleEndian.Uint32(b[4:]) != crc32.Checksum(b[8:p.headBytes], castagnoli) {
		return p, nil, errNoRecord
	}
	return p, b[prefixBytes:p.headBytes], nil
}

// decodeObject decodes a verified head. The result shares nothing with rest
// but the key.
func decodeObject(p prefix, rest []byte) (*objectHead, error) {
	if p.kind != kindObject || len(rest) < objectBytes-prefixBytes {
		return nil, errNoRecord
	}
	h := &objectHead{prefix: p}
	m := &h.meta
	word := func(i int) uint64 { return binary.LittleEndian.Uint64(rest[8*i:]) }
	m.Length = int64(word(0))
	m.Stored, m.FreshUntil, m.KeepUntil = int64(word(1)), int64(word(2)), int64(word(3))
	m.Order, m.URL, m.Host = word(4), word(5), word(6)
	h.fill, h.address = word(7), word(8)
	count := func(i int) int { return int(binary.LittleEndian.Uint32(rest[72+4*i:])) }
	h.sliceBytes = count(0)
	keyBytes, headerBytes, groups, sums := count(1), count(2), count(3), count(4)
	rest = rest[objectBytes-prefixBytes:]
	if keyBytes > keyMax || headerBytes > HeaderMax || groups > groupsMax || sums > sliceMax/blockBytes ||
		len(rest) != 8*groups+4*sums+keyBytes+headerBytes {
		return nil, errNoRecord
	}
	if groups > 0 {
		m.Groups = make([]uint64, groups)
		for i := range m.Groups {
			m.Groups[i] = binary.LittleEndian.Uint64(rest[8*i:])
		}
	}
	rest = rest[8*groups:]
	h.sums = decodeSums(rest, sums)
	rest = rest[4*sums:]
	h.key = string(rest[:keyBytes])
	m.Header = append([]byte{}, rest[keyBytes:]...)
	return h, h.check()
}

func decodeSums(b []byte, n int) []uint32 {
	if n == 0 {
		return nil
	}
	sums := make([]uint32, n)
	for i := range sums {
		sums[i] = binary.LittleEndian.Uint32(b[4*i:])
	}
	return sums
}

// check refuses heads whose numbers contradict each other.
func (h *objectHead) check() error {
	switch {
	case h.meta.Length < 0:
	case h.fill != 0: // sliced
		if h.bodyBytes == 0 && len(h.sums) == 0 && h.sliceBytes > 0 && h.sliceBytes <= sliceMax &&
			h.sliceBytes%blockBytes == 0 && h.meta.Length/int64(h.sliceBytes) < math.MaxInt32 {
			return nil
		}
	case h.meta.Length > sliceMax || len(h.sums) != blocksOf(h.meta.Length):
	case h.flags&flagElsewhere != 0:
		if h.bodyBytes == 0 {
			return nil
		}
	case int64(h.bodyBytes) == h.meta.Length:
		return nil
	}
	return errNoRecord
}

func decodeSlice(p prefix, rest []byte) (*sliceHead, error) {
	if p.kind != kindSlice || len(rest) < sliceBytes-prefixBytes {
		return nil, errNoRecord
	}
	h := &sliceHead{
		prefix: p,
		fill:   binary.LittleEndian.Uint64(rest),
		owner:  binary.LittleEndian.Uint64(rest[8:]),
		number: int(binary.LittleEndian.Uint32(rest[16:])),
	}
	sums := int(binary.LittleEndian.Uint32(rest[20:]))
	rest = rest[sliceBytes-prefixBytes:]
	if sums != blocksOf(int64(p.bodyBytes)) || len(rest) != 4*sums {
		return nil, errNoRecord
	}
	h.sums = decodeSums(rest, sums)
	return h, nil
}

func decodeRemovals(p prefix, rest []byte) ([]removal, error) {
	if p.kind != kindRemoval || p.bodyBytes != 0 || len(rest) < removalBytes-prefixBytes {
		return nil, errNoRecord
	}
	n := int(binary.LittleEndian.Uint32(rest))
	rest = rest[removalBytes-prefixBytes:]
	if n > removalsMax || len(rest) != 16*n {
		return nil, errNoRecord
	}
	gone := make([]removal, n)
	for i := range gone {
		gone[i] = removal{binary.LittleEndian.Uint64(rest[16*i:]), binary.LittleEndian.Uint64(rest[16*i+8:])}
	}
	return gone, nil
}
