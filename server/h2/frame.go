package h2

// frame.go has the layout of frames (RFC 9113 4 and 6) and writes them.

import "encoding/binary"

// preface is what a client says first (RFC 9113 3.4).
const preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

const (
	headerSize = 9
	// frameBytesMax is the largest payload that we take, and the largest that we
	// send even to who would take more: it fills a TLS record.
	frameBytesMax = 16384
	streamIDMax   = 1<<31 - 1
	windowMax     = 1<<31 - 1
	windowDefault = 65535
)

// Types of frames.
const (
	kindData           = 0x0
	kindHeaders        = 0x1
	kindPriority       = 0x2
	kindRST            = 0x3
	kindSettings       = 0x4
	kindPushPromise    = 0x5
	kindPing           = 0x6
	kindGoAway         = 0x7
	kindWindowUpdate   = 0x8
	kindContinuation   = 0x9
	kindPriorityUpdate = 0x10 // RFC 9218 7.1
)

// Flags; what they mean depends on the frame.
const (
	flagEndStream  = 0x1
	flagAck        = 0x1
	flagEndHeaders = 0x4
	flagPadded     = 0x8
	flagPriority   = 0x20
)

// Settings (RFC 9113 6.5.2, RFC 8441 3, RFC 9218 2.1).
const (
	settingTableSize     = 0x1
	settingPush          = 0x2
	settingStreams       = 0x3
	settingInitialWindow = 0x4
	settingFrameSize     = 0x5
	settingHeaderList    = 0x6
	settingConnect       = 0x8
	settingNoPriorities  = 0x9
)

// code is an error code (RFC 9113 7).
type code uint32

const (
	codeNo              code = 0x0
	codeProtocol        code = 0x1
	codeInternal        code = 0x2
	codeFlowControl     code = 0x3
	codeStreamClosed    code = 0x5
	codeFrameSize       code = 0x6
	codeRefused         code = 0x7
	codeCancel          code = 0x8
	codeCompression     code = 0x9
	codeCalm            code = 0xb // ENHANCE_YOUR_CALM
	codeInadequateCrypt code = 0xc
)

type frameHeader struct {
	length int
	kind   byte
	flags  byte
	stream uint32
}

func (h *frameHeader) has(flag byte) bool { return h.flags&flag != 0 }

// parseHeader reads the first 9 bytes of b.
func parseHeader(b []byte) frameHeader {
	_ = b[headerSize-1]
	return frameHeader{
		length: int(b[0])<<16 | int(b[1])<<8 | int(b[2]),
		kind:   b[3], flags: b[4],
		stream: binary.BigEndian.Uint32(b[5:]) & streamIDMax, // the first bit is reserved: ignored (RFC 9113 4.1)
	}
}

func appendHeader(b []byte, length int, kind, flags byte, stream uint32) []byte {
	return append(b, byte(length>>16), byte(length>>8), byte(length), kind, flags,
		byte(stream>>24), byte(stream>>16), byte(stream>>8), byte(stream))
}

func appendRST(b []byte, stream uint32, reason code) []byte {
	return binary.BigEndian.AppendUint32(appendHeader(b, 4, kindRST, 0, stream), uint32(reason))
}

func appendGoAway(b []byte, last uint32, reason code) []byte {
	b = binary.BigEndian.AppendUint32(appendHeader(b, 8, kindGoAway, 0, 0), last)
	return binary.BigEndian.AppendUint32(b, uint32(reason))
}

func appendWindowUpdate(b []byte, stream, increment uint32) []byte {
	return binary.BigEndian.AppendUint32(appendHeader(b, 4, kindWindowUpdate, 0, stream), increment)
}

func appendSetting(b []byte, id uint16, value uint32) []byte {
	return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint16(b, id), value)
}

// sealHeaders turns the bytes from start on, a place for a frame header and a
// header block after it, into a HEADERS frame, and into CONTINUATION frames where
// it is too long for one.
func sealHeaders(b []byte, start int, stream uint32, flags byte) []byte {
	length := len(b) - start - headerSize
	if length <= frameBytesMax {
		appendHeader(b[:start], length, kindHeaders, flags|flagEndHeaders, stream)
		return b
	}
	block := append([]byte(nil), b[start+headerSize:]...)
	b = b[:start]
	for kind := byte(kindHeaders); len(block) > 0; kind, flags = kindContinuation, 0 {
		n := min(len(block), frameBytesMax)
		if n == len(block) {
			flags |= flagEndHeaders
		}
		b = append(appendHeader(b, n, kind, flags, stream), block[:n]...)
		block = block[n:]
	}
	return b
}
