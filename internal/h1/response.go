package h1

// Response is the head of a response. Its strings point into what was read.
type Response struct {
	Status int
	Reason string
	// Minor is the minor version: 0 or 1.
	Minor int
	Facts
}

// ReadResponse reads a whole head, as SectionEnd delimits it, and appends its
// field lines but Transfer-Encoding. What it understood before a fault stays in r.
func ReadResponse[F Line](r *Response, fields []F, head []byte, most int) ([]F, Fault) {
	r.Status, r.Reason, r.Minor = 0, "", 1
	r.reset(true)
	n, fault := r.startLine(head)
	if fault != 0 {
		return fields, fault
	}
	return AppendFields(fields, head[n:], most, &r.Facts)
}

// startLine reads "version SP status [SP reason] CRLF" (RFC 9112 4). The space
// after the status is missing often enough where no reason follows.
func (r *Response) startLine(b []byte) (n int, fault Fault) {
	const at, end = len("HTTP/1.1 "), len("HTTP/1.1 200")
	if r.Minor, fault = version(b); fault != 0 {
		return 0, fault
	}
	if len(b) < end+2 || b[at-1] != ' ' {
		return 0, FaultStartLine
	}
	for _, c := range b[at:end] {
		if c < '0' || c > '9' {
			return 0, FaultStatus
		}
		r.Status = r.Status*10 + int(c-'0')
	}
	if r.Status < 100 || r.Status > 599 || b[end] != ' ' && b[end] != '\r' {
		return 0, FaultStatus
	}
	stop := textEnd(b, end)
	switch {
	case stop+1 >= len(b) || b[stop] != '\r' && b[stop] != '\n':
		return 0, FaultStartLine
	case b[stop] == '\n':
		return 0, FaultBareLF
	case b[stop+1] != '\n':
		return 0, FaultBareCR
	}
	r.Reason = trim(text(b[end:stop]))
	return stop + 2, 0
}

// Body returns the length of the body that follows as the answer to a method,
// Chunked, ToClose, or 0 for none (RFC 9112 6.3). What comes after a 2xx to
// CONNECT and after 101 is no message and not told here.
func (r *Response) Body(method string) (int64, Fault) {
	switch {
	case r.codings > 0:
		if fault := r.coded(r.Minor); fault != 0 {
			return 0, fault
		}
		if method == "HEAD" || bodyless(r.Status) {
			return 0, 0
		}
		return Chunked, 0
	case method == "HEAD" || bodyless(r.Status):
		return 0, 0
	case r.Length >= 0:
		return r.Length, 0
	}
	return ToClose, 0
}

// bodyless lists the statuses that no body follows (RFC 9112 6.3).
func bodyless(status int) bool { return status < 200 || status == 204 || status == 304 }
