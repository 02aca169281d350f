package h1

import (
	"bytes"
	"strings"
)

// Line is a field line: its name in lower case, its value as sent without the
// whitespace around it.
type Line interface{ ~struct{ Name, Value string } }

// SectionEnd finds the end of a section of lines that an empty line ends: a head,
// or the trailers. It returns the length with the empty line, or 0 and where to
// go on when b has grown: next, the start of the last line, begun at from.
func SectionEnd(b []byte, from int) (end, next int, fault Fault) {
	for {
		n := bytes.IndexByte(b[from:], '\n')
		switch {
		case n < 0:
			return 0, from, 0
		case n == 0 || b[from+n-1] != '\r':
			return 0, from, FaultBareLF
		case n == 1:
			return from + 2, from, 0
		}
		from += n + 1
	}
}

// AppendFields reads the lines of a section up to the empty one and appends those
// that are not about framing alone (Transfer-Encoding, Host). b ends with the
// section. More than most lines are a fault.
func AppendFields[F Line](fields []F, b []byte, most int, facts *Facts) ([]F, Fault) {
	for count := 0; len(b) > 0 && b[0] != '\r'; count++ {
		name, value, n, fault := line(b)
		if fault != 0 {
			return fields, fault
		}
		if count == most {
			return fields, FaultFields
		}
		keep, fault := facts.note(name, value)
		if fault != 0 {
			return fields, fault
		}
		if keep {
			fields = append(fields, F(struct{ Name, Value string }{name, value}))
		}
		b = b[n:]
	}
	if len(b) != 2 || b[1] != '\n' {
		return fields, FaultBareCR
	}
	return fields, 0
}

// line reads one field line of n bytes (RFC 9112 5).
func line(b []byte) (name, value string, n int, fault Fault) {
	i := 0
	for i < len(b) {
		c := lowerNames[b[i]]
		if c == 0 {
			break
		}
		b[i] = c
		i++
	}
	switch {
	case i == len(b):
		return "", "", 0, FaultColon
	case b[i] != ':':
		return "", "", 0, nameFault(b, i)
	case i == 0:
		return "", "", 0, FaultName
	}
	name = text(b[:i])
	i++
	for i < len(b) && isBlank(b[i]) {
		i++
	}
	end := textEnd(b, i)
	switch {
	case end+1 >= len(b) || b[end] != '\r' && b[end] != '\n':
		return "", "", 0, FaultValue
	case b[end] == '\n':
		return "", "", 0, FaultBareLF
	case b[end+1] != '\n':
		return "", "", 0, FaultBareCR
	}
	return name, trim(text(b[i:end])), end + 2, 0
}

// nameFault says what is wrong where a name ends in something but a colon.
func nameFault(b []byte, i int) Fault {
	switch c := b[i]; {
	case isBlank(c) && i == 0:
		return FaultFold // RFC 9112 2.2, 5.2
	case isBlank(c), c == '\r', c == '\n':
		return FaultColon // RFC 9112 5.1
	}
	return FaultName
}

// Facts is what the field lines of a message say of its framing and of the
// connection. Reset it before use.
type Facts struct {
	// Length is Content-Length, -1 without one.
	Length int64
	// Host is the Host field, Hosts how many there were.
	Host  string
	Hosts int
	// Close and KeepAlive are connection options; Upgrade is one too.
	Close, KeepAlive, Upgrade bool
	// Continue says that 100-continue is expected, Expects that something else is.
	Continue, Expects bool

	lengths int
	codings int // members of Transfer-Encoding
	chunked int // of these
	last    bool
	broken  bool // Transfer-Encoding has an empty member, or parameters
	lenient bool // the same Content-Length may be there twice (responses)
}

func (f *Facts) reset(lenient bool) { *f = Facts{Length: -1, lenient: lenient} }

// note learns from a line and says whether others want it too.
func (f *Facts) note(name, value string) (keep bool, fault Fault) {
	switch name {
	case "content-length":
		return true, f.noteLength(value)
	case "transfer-encoding":
		f.noteCodings(value)
		return false, 0
	case "host":
		f.Host = value
		f.Hosts++
		return false, 0
	case "connection":
		for member := range strings.SplitSeq(value, ",") {
			switch member = trim(member); {
			case equal(member, "close"):
				f.Close = true
			case equal(member, "keep-alive"):
				f.KeepAlive = true
			case equal(member, "upgrade"):
				f.Upgrade = true
			}
		}
	case "expect":
		if equal(value, "100-continue") {
			f.Continue = true
		} else {
			f.Expects = true
		}
	}
	return true, 0
}

// equal compares with a token in lower case, whatever the case of s.
func equal(s, lower string) bool {
	if len(s) != len(lower) {
		return false
	}
	for i := range len(s) {
		if lowerNames[s[i]] != lower[i] {
			return false
		}
	}
	return true
}

// noteLength takes nothing but digits (RFC 9112 6.3): no list, no sign, no space.
func (f *Facts) noteLength(value string) Fault {
	const digitsMax = 18 // never more than fits
	if value == "" || len(value) > digitsMax {
		return FaultLength
	}
	n := int64(0)
	for i := range len(value) {
		c := value[i] - '0'
		if c > 9 {
			return FaultLength
		}
		n = n*10 + int64(c)
	}
	f.lengths++
	if f.lengths > 1 && (!f.lenient || n != f.Length) {
		return FaultLengthTwice
	}
	f.Length = n
	return 0
}

func (f *Facts) noteCodings(value string) {
	for member := range strings.SplitSeq(value, ",") {
		member = trim(member)
		f.codings++
		f.last = equal(member, "chunked")
		switch {
		case f.last:
			f.chunked++
		case !isToken(member):
			f.broken = true
		}
	}
}

// Chunked and ToClose stand for lengths of bodies that are told otherwise: by
// chunks, or by the end of the connection.
const (
	Chunked int64 = -1
	ToClose int64 = -2
)

// coded settles what Transfer-Encoding says (RFC 9112 6.1). Only chunked is known,
// and it says all when it is alone.
func (f *Facts) coded(minor int) Fault {
	switch {
	case minor == 0:
		return FaultCodingVersion
	case f.lengths > 0:
		return FaultCodingAndLength
	case f.broken || f.chunked > 1 || f.chunked == 1 && !f.last:
		return FaultCoding
	case f.codings > f.chunked:
		return FaultCodingUnknown
	}
	return 0
}

// Persistent reports whether the connection may be used again as far as the
// message says (RFC 9112 9.3).
func (f *Facts) Persistent(minor int) bool {
	return !f.Close && (minor > 0 || f.KeepAlive)
}
