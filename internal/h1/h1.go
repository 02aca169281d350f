// Package h1 is the wire form of HTTP/1.1 messages (RFC 9112): start lines, field
// lines, framing and chunks, of requests and of responses. It does no I/O and, but
// for faults that it names, allocates nothing: what it returns points into the
// bytes that it is given, whose field names it puts into lower case in place.
//
// It is strict: what two recipients could read in two ways is a Fault, so that
// nothing ambiguous is ever forwarded or stored. docs/http.md lists the cases.
package h1

import (
	"encoding/binary"
	"net/http"
	"unsafe"
)

// Fault says what is wrong with a message. The zero Fault is none.
type Fault uint8

// What can be wrong with a message.
const (
	FaultStartLine Fault = iota + 1
	FaultMethod
	FaultTarget
	FaultVersion
	FaultVersionSupport
	FaultStatus
	FaultBareLF
	FaultBareCR
	FaultFold
	FaultColon
	FaultName
	FaultValue
	FaultFields
	FaultLength
	FaultLengthTwice
	FaultCoding
	FaultCodingUnknown
	FaultCodingAndLength
	FaultCodingVersion
	FaultHost
	FaultChunk
	FaultChunkExtension
	FaultTrailer

	faults
)

// faultTexts are for people, by Fault.
var faultTexts = [faults]string{
	"",
	"the start line is not three parts with one space between them",
	"the method is not a token",
	"the request target is empty or has characters that no target has",
	"the version is not HTTP/ and two digits",
	"the version is not one of HTTP/1.0 and HTTP/1.1",
	"the status is not three digits from 100 to 599",
	"a line ends in LF without CR",
	"a CR stands without LF",
	"a field line begins with whitespace",
	"a field line has no colon, or whitespace before it",
	"a field name is empty or not a token",
	"a field value has control characters",
	"too many field lines",
	"Content-Length is not one decimal number",
	"Content-Length is given more than once",
	"Transfer-Encoding is not chunked alone",
	"Transfer-Encoding names a coding that is not known",
	"Transfer-Encoding and Content-Length are both there",
	"Transfer-Encoding is of no use in HTTP/1.0",
	"Host is missing or given more than once",
	"a chunk does not begin with its size, or does not end where its size says",
	"a chunk has an extension that is malformed or too long",
	"the trailer section is too long",
}

// Error implements error.
func (f Fault) Error() string { return faultTexts[f] }

// Status is what a server answers to a request with the fault.
func (f Fault) Status() int {
	switch f {
	case FaultVersionSupport:
		return http.StatusHTTPVersionNotSupported
	case FaultCodingUnknown:
		return http.StatusNotImplemented // RFC 9112 6.1
	case FaultFields, FaultTrailer:
		return http.StatusRequestHeaderFieldsTooLarge
	}
	return http.StatusBadRequest
}

// lowerNames maps the characters of tokens (RFC 9110 5.6.2) to their lower case,
// all others to 0.
var lowerNames = lowerTable()

func lowerTable() (table [256]byte) {
	for _, c := range []byte("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz") {
		table[c] = c
	}
	for c := byte('A'); c <= 'Z'; c++ {
		table[c] = c + 'a' - 'A'
	}
	return table
}

// isToken reports whether s is a token (RFC 9110 5.6.2).
func isToken(s string) bool {
	for i := range len(s) {
		if lowerNames[s[i]] == 0 {
			return false
		}
	}
	return s != ""
}

// text returns b as a string without a copy.
func text(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// textEnd returns the index of the first byte of b from i on that no field value
// has: controls but tabs (RFC 9110 5.5). Bytes beyond ASCII are opaque.
func textEnd(b []byte, i int) int {
	const ones, highs = 0x0101010101010101, 0x8080808080808080
	for ; i+8 <= len(b); i += 8 {
		v := binary.LittleEndian.Uint64(b[i:])
		del := v ^ 0x7f*ones
		if ((v-0x20*ones)&^v|(del-ones)&^del)&highs != 0 {
			break
		}
	}
	for ; i < len(b); i++ {
		if c := b[i]; c < ' ' && c != '\t' || c == 0x7f {
			return i
		}
	}
	return i
}

func isBlank(c byte) bool { return c == ' ' || c == '\t' }

// trim cuts optional whitespace off (RFC 9110 5.6.3).
func trim(s string) string {
	for s != "" && isBlank(s[0]) {
		s = s[1:]
	}
	for s != "" && isBlank(s[len(s)-1]) {
		s = s[:len(s)-1]
	}
	return s
}
