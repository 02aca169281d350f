package h1

const (
	// chunkDigitsMax bounds the size of a chunk, leading zeros included.
	chunkDigitsMax = 15
	// extensionBytesMax bounds the chunk extensions of one message, which nobody
	// reads (RFC 9112 7.1.1).
	extensionBytesMax = 4 << 10
)

// Chunks decodes the chunked coding (RFC 9112 7.1): it takes the framing out of
// what its owner reads. The zero value is at the start of a body. Where Left is
// positive so many bytes of the body come next, which the owner takes and reports
// with Took; where it is 0, Framing takes what comes. After Last comes the trailer
// section.
type Chunks struct {
	left       int64
	state      chunkState
	digits     int
	extensions int
}

type chunkState uint8

const (
	chunkSize  chunkState = iota // hexadecimal digits
	chunkBlank                   // whitespace before a semicolon
	chunkName
	chunkEqual // whitespace after a name
	chunkValue // its start
	chunkToken
	chunkQuoted
	chunkEscape
	chunkAfter // a quoted value
	chunkLF    // of the size's line
	chunkData
	chunkDataCR
	chunkDataLF
	chunkStart // of an extension's name
	chunkLast
)

// Left returns how many bytes of the body come next.
func (c *Chunks) Left() int64 {
	if c.state == chunkData {
		return c.left
	}
	return 0
}

// Took says that n of the Left bytes have been taken.
func (c *Chunks) Took(n int) {
	if c.left -= int64(n); c.left == 0 {
		c.state = chunkDataCR
	}
}

// Last reports whether the last chunk has been read: the trailer section is next.
func (c *Chunks) Last() bool { return c.state == chunkLast }

// Framing takes framing from the start of b up to data, the last chunk or the end
// of b, and returns how much.
func (c *Chunks) Framing(b []byte) (n int, fault Fault) {
	for n < len(b) && c.state != chunkData && c.state != chunkLast {
		if fault := c.step(b[n]); fault != 0 {
			return n, fault
		}
		n++
	}
	return n, 0
}

func (c *Chunks) step(b byte) Fault {
	switch c.state {
	case chunkSize:
		return c.size(b)
	case chunkLF:
		if b != '\n' {
			return FaultBareCR
		}
		c.digits = 0
		c.state = chunkData
		if c.left == 0 {
			c.state = chunkLast
		}
	case chunkDataCR:
		if b != '\r' {
			return FaultChunk
		}
		c.state = chunkDataLF
	case chunkDataLF:
		if b != '\n' {
			return FaultChunk
		}
		c.state = chunkSize
	default:
		return c.extension(b)
	}
	return 0
}

func (c *Chunks) size(b byte) Fault {
	digit := int64(-1)
	switch {
	case '0' <= b && b <= '9':
		digit = int64(b - '0')
	case 'a' <= b && b <= 'f':
		digit = int64(b-'a') + 10
	case 'A' <= b && b <= 'F':
		digit = int64(b-'A') + 10
	}
	switch {
	case digit >= 0:
		if c.digits++; c.digits > chunkDigitsMax {
			return FaultChunk
		}
		c.left = c.left<<4 | digit
	case c.digits == 0:
		return FaultChunk
	case b == '\r':
		c.state = chunkLF
	case isBlank(b), b == ';':
		return c.extension(b)
	case b == '\n':
		return FaultBareLF
	default:
		return FaultChunk
	}
	return 0
}

// extension steps through *( BWS ";" BWS name [ BWS "=" BWS value ] ).
func (c *Chunks) extension(b byte) Fault {
	if c.extensions++; c.extensions > extensionBytesMax {
		return FaultChunkExtension
	}
	next, ok := c.state, true
	blank, token := isBlank(b), lowerNames[b] != 0
	switch c.state {
	case chunkSize, chunkBlank:
		next, ok = between(b, blank, chunkBlank)
		ok = ok && next != chunkLF
	case chunkStart:
		if !blank {
			next, ok = chunkName, token
		}
	case chunkName, chunkEqual:
		switch {
		case token && c.state == chunkName:
		case b == '=':
			next = chunkValue
		default:
			next, ok = between(b, blank, chunkEqual)
			ok = ok && !(next == chunkLF && c.state == chunkEqual)
		}
	case chunkValue:
		switch {
		case blank:
		case b == '"':
			next = chunkQuoted
		default:
			next, ok = chunkToken, token
		}
	case chunkToken, chunkAfter:
		if !token || c.state == chunkAfter {
			next, ok = between(b, blank, chunkBlank)
		}
	case chunkQuoted:
		switch b {
		case '"':
			next = chunkAfter
		case '\\':
			next = chunkEscape
		default:
			ok = b >= ' ' && b != 0x7f || b == '\t'
		}
	case chunkEscape:
		next, ok = chunkQuoted, b >= ' ' && b != 0x7f || b == '\t'
	}
	if !ok {
		return FaultChunkExtension
	}
	c.state = next
	return 0
}

// between is what may follow a size, a name or a value.
func between(b byte, blank bool, after chunkState) (chunkState, bool) {
	switch {
	case blank:
		return after, true
	case b == ';':
		return chunkStart, true
	}
	return chunkLF, b == '\r'
}

// TrailerField reports whether a field may stand in a trailer section. Those that
// say how a message is framed, routed, authenticated or processed may not
// (RFC 9110 6.5.1) and are left out.
func TrailerField(name string) bool {
	switch name {
	case "transfer-encoding", "content-length", "host", "trailer", "connection", "keep-alive", "proxy-connection",
		"te", "upgrade", "expect", "max-forwards", "cache-control", "pragma", "vary", "age", "expires", "date", "location", "retry-after",
		"if-match", "if-none-match", "if-modified-since", "if-unmodified-since", "if-range", "range",
		"authorization", "proxy-authorization", "proxy-authenticate", "www-authenticate", "cookie", "set-cookie",
		"content-encoding", "content-type", "content-range":
		return false
	}
	return true
}
