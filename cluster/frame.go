package cluster

// Frames on a stream, and messages in gossip. Both are version 1: the stream's by
// ALPN (trust.go), gossip's by its first byte.
//
//	stream: length 4 (of what follows it), flags 1, kind 1, payload
//	gossip: version 1, kind 1, origin 1+n, payload

import (
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"time"
)

const (
	frameHeaderBytes = 6
	frameBytesMax    = MessageBytesMax + frameHeaderBytes
	gossipVersion    = 1
	gossipHeaderMax  = 3 + nameBytesMax

	flagBroadcast = 1 // the sender has sent it to all

	kindHeartbeat = 1
	kindFacts     = 2

	probesMax        = 32
	probeBytesMax    = 64
	positionBytesMax = 16 << 10
	heartbeatVersion = 1
)

// frame is one, as it came.
type frame struct {
	flags, kind byte
	payload     []byte
}

// appendFrame adds a frame; the payload is no longer than MessageBytesMax.
func appendFrame(b []byte, flags, kind byte, payload []byte) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(len(payload)+2))
	return append(append(b, flags, kind), payload...)
}

// readFrame reads one. What it takes of memory is bounded before it is taken.
func readFrame(r io.Reader) (frame, error) {
	var header [frameHeaderBytes]byte
	if _, err := io.ReadFull(r, header[:]); err != nil {
		return frame{}, err
	}
	n := binary.BigEndian.Uint32(header[:])
	if n < 2 || n > MessageBytesMax+2 {
		return frame{}, fmt.Errorf("cluster: a frame of %d bytes: 2 to %d are allowed", n, MessageBytesMax+2)
	}
	f := frame{flags: header[4], kind: header[5], payload: make([]byte, n-2)}
	_, err := io.ReadFull(r, f.payload)
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return f, err
}

func encodeGossip(kind byte, origin string, payload []byte) []byte {
	b := appendText([]byte{gossipVersion, kind}, origin, nameBytesMax)
	return append(b, payload...)
}

func decodeGossip(b []byte) (kind byte, origin string, payload []byte, err error) {
	r := reader{b: b}
	if v := r.byte(); v != gossipVersion {
		return 0, "", nil, fmt.Errorf("cluster: gossip of version %d, this node reads %d", v, gossipVersion)
	}
	kind, origin = r.byte(), r.text(nameBytesMax)
	if r.err == nil && !isName(origin, nameBytesMax) {
		return 0, "", nil, fmt.Errorf("cluster: gossip of %q, which is no name", origin)
	}
	return kind, origin, r.b, r.err
}

// heartbeat is what a node says twice a second.
type heartbeat struct {
	sent   time.Time
	boot   uint64
	phase  Phase
	facts  uint64 // digest
	report Report
}

// encode leaves the time at the front, so that it can be written at the last moment:
//
//	version 1, time 8, boot 8, phase 1, facts 8, load 8, capacity 8, cold 1,
//	count of probes 1, each: name 1+n, ok 1; position 2+n
func (h heartbeat) encode() []byte {
	b := []byte{heartbeatVersion}
	b = binary.BigEndian.AppendUint64(b, uint64(h.sent.UnixNano()))
	b = binary.BigEndian.AppendUint64(b, h.boot)
	b = append(b, byte(h.phase))
	b = binary.BigEndian.AppendUint64(b, h.facts)
	b = binary.BigEndian.AppendUint64(b, math.Float64bits(h.report.Load))
	b = binary.BigEndian.AppendUint64(b, math.Float64bits(h.report.Capacity))
	b = append(b, flag(h.report.Cold))
	probes := h.report.Probes[:min(len(h.report.Probes), probesMax)]
	b = append(b, byte(len(probes)))
	for _, p := range probes {
		b = append(appendText(b, p.Name, probeBytesMax), flag(p.OK))
	}
	position := h.report.Position
	if len(position) > positionBytesMax {
		position = nil
	}
	b = binary.BigEndian.AppendUint16(b, uint16(len(position)))
	return append(b, position...)
}

// stampHeartbeat writes the time into an encoded heartbeat.
func stampHeartbeat(b []byte, now time.Time) {
	binary.BigEndian.PutUint64(b[1:], uint64(now.UnixNano()))
}

func decodeHeartbeat(b []byte) (h heartbeat, err error) {
	r := reader{b: b}
	if v := r.byte(); v == 0 {
		return h, fmt.Errorf("cluster: a heartbeat of version %d", v)
	}
	h.sent = time.Unix(0, int64(r.uint64()))
	h.boot, h.phase, h.facts = r.uint64(), Phase(r.byte()), r.uint64()
	h.report.Load, h.report.Capacity = finite(r.uint64()), finite(r.uint64())
	h.report.Cold = r.byte() != 0
	n := int(r.byte())
	if n > probesMax {
		return h, fmt.Errorf("cluster: %d probes in a heartbeat", n)
	}
	for range n {
		h.report.Probes = append(h.report.Probes, Probe{r.text(probeBytesMax), r.byte() != 0})
	}
	length := int(r.uint16())
	if length > positionBytesMax {
		return h, fmt.Errorf("cluster: a position of %d bytes", length)
	}
	h.report.Position = append([]byte(nil), r.take(length)...)
	return h, r.err
}

// finite reads a number that is one.
func finite(bits uint64) float64 {
	f := math.Float64frombits(bits)
	if math.IsNaN(f) || math.IsInf(f, 0) || f < 0 {
		return 0
	}
	return f
}
