package h3

// codes.go names what is said on the wire: errors, frames, streams, settings.

import (
	"fmt"

	"github.com/quic-go/quic-go"
)

// Error codes (RFC 9114 8.1, RFC 9204 6).
const (
	codeNoError              = 0x100
	codeGeneralProtocolError = 0x101
	codeInternalError        = 0x102
	codeStreamCreationError  = 0x103
	codeClosedCriticalStream = 0x104
	codeFrameUnexpected      = 0x105
	codeFrameError           = 0x106
	codeExcessiveLoad        = 0x107
	codeIDError              = 0x108
	codeSettingsError        = 0x109
	codeMissingSettings      = 0x10a
	codeRequestRejected      = 0x10b
	codeRequestCancelled     = 0x10c
	codeRequestIncomplete    = 0x10d
	codeMessageError         = 0x10e
	codeDecompressionFailed  = 0x200
	codeEncoderStreamError   = 0x201
	codeDecoderStreamError   = 0x202
)

// Frame types (RFC 9114 7.2, RFC 9218 7.2).
const (
	frameData            = 0x0
	frameHeaders         = 0x1
	frameCancelPush      = 0x3
	frameSettings        = 0x4
	framePushPromise     = 0x5
	frameGoaway          = 0x7
	frameMaxPushID       = 0xd
	framePriorityRequest = 0xf0700
	framePriorityPush    = 0xf0701
)

// reservedFrame lists the types that HTTP/2 uses and HTTP/3 must not (RFC 9114
// 7.2.8).
func reservedFrame(kind uint64) bool {
	return kind == 0x2 || kind == 0x6 || kind == 0x8 || kind == 0x9
}

// Types of unidirectional streams (RFC 9114 6.2, RFC 9204 4.2).
const (
	streamControl = 0x0
	streamPush    = 0x1
	streamEncoder = 0x2
	streamDecoder = 0x3
)

// Settings (RFC 9114 7.2.4.1, RFC 9204 5, RFC 9220 3).
const (
	settingTableCapacity       = 0x1
	settingMaxFieldSectionSize = 0x6
	settingBlockedStreams      = 0x7
	settingExtendedConnect     = 0x8
	// settingGrease is one of those reserved to exercise that unknown ones are
	// ignored (RFC 9114 7.2.4.1).
	settingGrease = 0x1f*7 + 0x21
)

// connectionError ends the connection.
type connectionError struct {
	code   quic.ApplicationErrorCode
	reason string
}

func (e *connectionError) Error() string {
	return fmt.Sprintf("h3: %s (connection error %#x)", e.reason, uint64(e.code))
}

// streamError ends one request.
type streamError struct {
	code   quic.StreamErrorCode
	reason string
}

func (e *streamError) Error() string {
	return fmt.Sprintf("h3: %s (stream error %#x)", e.reason, uint64(e.code))
}

func violation(code quic.ApplicationErrorCode, reason string) error {
	return &connectionError{code, reason}
}

func malformed(reason string) error { return &streamError{codeMessageError, reason} }
