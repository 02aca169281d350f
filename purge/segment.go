package purge

// segment.go reads and writes segment files. One begins with a header; frames
// follow, each written by one call and synced before the next is. So only the
// last frame of the last segment can be torn.

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math"
	"path/filepath"
	"strconv"
	"strings"
)

const (
	segmentMagic   = "EDGEPRGS"
	segmentVersion = 1
	segmentHeader  = 64
	segmentSuffix  = ".log"

	// frameMagic is in no text: none of its bytes is in UTF-8.
	frameMagic  = "\xf5\xfa\xc1\xfe"
	frameHeader = 12 // magic, length u32, CRC32C u32
	// frameBytesMax bounds a frame: some entries and one of the largest.
	frameBytesMax = 2 * EntryBytesMax
)

// Kinds of frames, their first byte.
const (
	// frameEntries: count, each entry with its length before it, and, but for those
	// of an older edge, for each when it was applied here, u64 (ms since 1970).
	frameEntries = 1
	frameSwept   = 2 // how far the sweep is: see appendNote
)

// header is how a segment begins. first is the number of its first entry: what
// an older segment has from there on was never acknowledged and is void.
type header struct {
	incarnation     Incarnation
	sequence, first uint64
}

// encode: magic 8, version u16, zero u16, incarnation 16, sequence u64, first
// u64, zero to 60, CRC32C of all before it u32.
func (h *header) encode() []byte {
	b := make([]byte, segmentHeader)
	copy(b, segmentMagic)
	binary.LittleEndian.PutUint16(b[8:], segmentVersion)
	copy(b[12:], h.incarnation[:])
	binary.LittleEndian.PutUint64(b[28:], h.sequence)
	binary.LittleEndian.PutUint64(b[36:], h.first)
	binary.LittleEndian.PutUint32(b[60:], crc32.Checksum(b[:60], castagnoli))
	return b
}

func decodeHeader(b []byte) (h header, err error) {
	if len(b) < segmentHeader || string(b[:8]) != segmentMagic ||
		binary.LittleEndian.Uint32(b[60:]) != crc32.Checksum(b[:60], castagnoli) {
		return h, fmt.Errorf("header %w", errDamaged)
	}
	if version := binary.LittleEndian.Uint16(b[8:]); version != segmentVersion {
		return h, fmt.Errorf("of version %d %w", version, errNewer)
	}
	copy(h.incarnation[:], b[12:])
	h.sequence = binary.LittleEndian.Uint64(b[28:])
	h.first = binary.LittleEndian.Uint64(b[36:])
	return h, nil
}

func segmentName(sequence uint64) string { return fmt.Sprintf("%016x%s", sequence, segmentSuffix) }

func segmentPath(dir string, sequence uint64) string {
	return filepath.Join(dir, segmentName(sequence))
}

// parseSegmentName reads what segmentName writes.
func parseSegmentName(name string) (uint64, bool) {
	digits, ok := strings.CutSuffix(name, segmentSuffix)
	sequence, err := strconv.ParseUint(digits, 16, 64)
	return sequence, ok && err == nil && segmentName(sequence) == name
}

// frameSum is the checksum of a frame: of the log, the place and the payload, so
// that neither an old file's blocks nor anything that somebody named can pass
// for a frame.
func frameSum(log Incarnation, offset int64, payload []byte) uint32 {
	var at [8]byte
	binary.LittleEndian.PutUint64(at[:], uint64(offset))
	sum := crc32.Update(0, castagnoli, log[:])
	return crc32.Update(crc32.Update(sum, castagnoli, at[:]), castagnoli, payload)
}

// openFrame appends the header of a frame, to be completed by closeFrame.
func openFrame(b []byte, kind byte) []byte {
	b = append(b, frameMagic...)
	return append(append(b, make([]byte, frameHeader-len(frameMagic))...), kind)
}

// closeFrame completes the frame that b is, to be written at offset.
func closeFrame(b []byte, log Incarnation, offset int64) {
	payload := b[frameHeader:]
	binary.LittleEndian.PutUint32(b[4:], uint32(len(payload)))
	binary.LittleEndian.PutUint32(b[8:], frameSum(log, offset, payload))
}

// frameAt returns the payload of the frame at offset of a segment, and whether
// there is a whole one.
func frameAt(segment []byte, log Incarnation, offset int64) ([]byte, bool) {
	b := segment[offset:]
	if len(b) <= frameHeader || string(b[:len(frameMagic)]) != frameMagic {
		return nil, false
	}
	length := int64(binary.LittleEndian.Uint32(b[4:]))
	if length == 0 || length > frameBytesMax || length > int64(len(b)-frameHeader) {
		return nil, false
	}
	payload := b[frameHeader : frameHeader+length]
	return payload, binary.LittleEndian.Uint32(b[8:]) == frameSum(log, offset, payload)
}

// frameBeyond tells whether a whole frame begins anywhere after offset: what is
// at offset is then no torn end, but damage.
func frameBeyond(segment []byte, log Incarnation, offset int64) bool {
	for at := offset + 1; at < int64(len(segment)); at++ {
		i := bytes.Index(segment[at:], []byte(frameMagic))
		if i < 0 {
			return false
		}
		at += int64(i)
		if _, ok := frameAt(segment, log, at); ok {
			return true
		}
	}
	return false
}

// note is what a frame says about the sweep.
type note struct {
	order  uint64 // it has passed all up to this
	boot   uint64 // in which it has
	at     int64  // in milliseconds since 1970
	counts []counts
}

// counts is what the sweep has counted for an entry.
type counts struct {
	number, memory, disk uint64
	counted              bool // else unknown
}

func appendNote(b []byte, n *note) []byte {
	for _, v := range [...]uint64{n.order, n.boot, uint64(n.at)} {
		b = binary.LittleEndian.AppendUint64(b, v)
	}
	b = binary.AppendUvarint(b, uint64(len(n.counts)))
	for _, c := range n.counts {
		b = binary.AppendUvarint(b, c.number)
		if !c.counted {
			b = append(b, 0)
			continue
		}
		b = binary.AppendUvarint(append(b, 1), c.memory)
		b = binary.AppendUvarint(b, c.disk)
	}
	return b
}

func decodeNote(b []byte) (note, error) {
	d := decoder{rest: b}
	n := note{order: d.uint64(), boot: d.uint64(), at: int64(d.uint64())}
	for left := d.uvarint(uint64(len(b))); left > 0 && !d.bad; left-- {
		c := counts{number: d.uvarint(math.MaxUint64)}
		switch d.byte() {
		case 0:
		case 1:
			c.memory, c.disk, c.counted = d.uvarint(math.MaxInt64), d.uvarint(math.MaxInt64), true
		default:
			d.bad = true
		}
		n.counts = append(n.counts, c)
	}
	if d.bad || len(d.rest) > 0 {
		return note{}, fmt.Errorf("note of the sweep %w", errDamaged)
	}
	return n, nil
}
