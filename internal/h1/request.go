package h1

// Request is the head of a request. Its strings point into what was read.
type Request struct {
	Method, Target string
	// Minor is the minor version: 0 or 1.
	Minor int
	Facts
}

// ReadRequest reads a whole head, as SectionEnd delimits it, and appends its field
// lines but Host and Transfer-Encoding. What it understood before a fault stays
// in r.
func ReadRequest[F Line](r *Request, fields []F, head []byte, most int) ([]F, Fault) {
	r.Method, r.Target, r.Minor = "", "", 1
	r.reset(false)
	n, fault := r.startLine(head)
	if fault != 0 {
		return fields, fault
	}
	fields, fault = AppendFields(fields, head[n:], most, &r.Facts)
	if fault == 0 && (r.Hosts > 1 || r.Hosts == 0 && r.Minor > 0) {
		fault = FaultHost // RFC 9112 3.2
	}
	return fields, fault
}

// startLine reads "method SP target SP version CRLF" (RFC 9112 3).
func (r *Request) startLine(b []byte) (n int, fault Fault) {
	i := 0
	for i < len(b) && lowerNames[b[i]] != 0 {
		i++
	}
	switch {
	case i == len(b) || isBlank(b[i]) && b[i] != ' ' || b[i] == '\r':
		return 0, FaultStartLine
	case i == 0 || b[i] != ' ':
		return 0, FaultMethod
	}
	r.Method = text(b[:i])
	i++
	at := i
	for i < len(b) && b[i] > ' ' && b[i] < 0x7f {
		i++
	}
	switch {
	case i == len(b) || i == at || b[i] == '\t' || b[i] == '\r':
		return 0, FaultStartLine
	case b[i] != ' ':
		return 0, FaultTarget
	}
	r.Target = text(b[at:i])
	return r.version(b, i+1)
}

// version reads the end of the line.
func (r *Request) version(b []byte, i int) (n int, fault Fault) {
	const size = len("HTTP/1.1\r\n")
	if len(b) >= i+size && text(b[i:i+size]) == "HTTP/1.1\r\n" {
		return i + size, 0
	}
	minor, fault := version(b[i:])
	switch {
	case fault != 0:
		return 0, fault
	case len(b) < i+size || b[i+size-2] != '\r' || b[i+size-1] != '\n':
		return 0, FaultStartLine
	}
	r.Minor = minor
	return i + size, 0
}

// version reads HTTP-version (RFC 9112 2.3) at the start of b.
func version(b []byte) (minor int, fault Fault) {
	const size = len("HTTP/1.1")
	digit := func(c byte) bool { return '0' <= c && c <= '9' }
	switch {
	case len(b) < size || text(b[:5]) != "HTTP/" || !digit(b[5]) || b[6] != '.' || !digit(b[7]),
		len(b) > size && (digit(b[size]) || b[size] == '.'):
		return 0, FaultVersion
	case b[5] != '1' || b[7] > '1':
		return 0, FaultVersionSupport
	}
	return int(b[7] - '0'), 0
}

// Body returns the length of the request's body, Chunked, or 0 where none follows
// (RFC 9112 6.3).
func (r *Request) Body() (int64, Fault) {
	if r.codings > 0 {
		return Chunked, r.coded(r.Minor)
	}
	return max(r.Length, 0), 0
}
