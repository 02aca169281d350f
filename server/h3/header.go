package h3

// header.go judges the field section of a request (RFC 9114 4.2, 4.3) and makes a
// cache.Request of it. What is malformed is a stream error (4.1.2).

import (
	"strconv"
	"strings"

	"edgecdn/cache"
	"edgecdn/internal/h1"
	"edgecdn/server/gate"
)

// header is what the field section says beside what the cache.Request takes.
type header struct {
	text      []byte // Huffman-coded strings, decoded
	scheme    string
	protocol  string
	host      string
	priority  string
	length    int64 // Content-Length, -1 for none
	seen      pseudo
	regular   bool // a regular field has come
	hosts     bool // the Host field has come
	cookies   int
	continues bool // Expect: 100-continue
	demands   bool // Expect: something else
	elsewhere bool // the scheme is not the listener's
	over      bool // beyond the limits; not read to its end
}

// pseudo has a bit for each pseudo-header field.
type pseudo uint8

const (
	pseudoMethod pseudo = 1 << iota
	pseudoScheme
	pseudoAuthority
	pseudoPath
	pseudoProtocol
)

// read takes an encoded field section into x. Strings in x point into block and
// into h.text. A section beyond the limits is read as far as they go, for gate to
// refuse it.
func (h *header) read(block []byte, x *gate.Exchange, limits *gate.Limits) error {
	*h = header{text: h.text[:0], length: -1}
	s := section{rest: block, text: h.text}
	err := h.lines(&s, x, limits)
	h.text = s.text
	if err != nil || h.over {
		return err
	}
	if err := h.complete(x); err != nil {
		return err
	}
	if h.cookies > 1 {
		h.joinCookies(&x.Request)
	}
	return nil
}

func (h *header) lines(s *section, x *gate.Exchange, limits *gate.Limits) error {
	if err := s.prefix(); err != nil {
		return violation(codeDecompressionFailed, "a field section with an odd prefix")
	}
	req := &x.Request
	x.HeaderBytes = len("  HTTP/1.1\r\n\r\n")
	for len(s.rest) > 0 {
		name, value, err := s.next()
		if err != nil {
			return violation(codeDecompressionFailed, "a field section that cannot be decoded")
		}
		if strings.HasPrefix(name, ":") {
			x.HeaderBytes += len(value)
			err = h.pseudoField(req, name, value)
		} else {
			x.HeaderBytes += len(name) + len(value) + len(": \r\n")
			err = h.field(req, name, value)
		}
		if err != nil {
			return err
		}
		if x.HeaderBytes > int(limits.HeaderBytes) || len(req.Fields) > limits.HeaderFields {
			h.over = true
			return nil
		}
	}
	return nil
}

// pseudoField takes a pseudo-header field: known, once, before all others.
func (h *header) pseudoField(req *cache.Request, name, value string) error {
	var bit pseudo
	switch name {
	case ":method":
		bit, req.Method = pseudoMethod, value
	case ":scheme":
		bit, h.scheme = pseudoScheme, value
	case ":authority":
		bit, req.Authority = pseudoAuthority, value
	case ":path":
		bit, req.Target = pseudoPath, value
	case ":protocol":
		bit, h.protocol = pseudoProtocol, value
	default:
		return malformed("an unknown pseudo-header field")
	}
	if h.regular || h.seen&bit != 0 || !validValue(value) {
		return malformed("a pseudo-header field that came late, twice, or with bytes that it must not have")
	}
	h.seen |= bit
	return nil
}

// field takes a regular field.
func (h *header) field(req *cache.Request, name, value string) error {
	h.regular = true
	if !validName(name) || !validValue(value) {
		return malformed("a field with bytes that it must not have")
	}
	switch name {
	case "connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade":
		return malformed("a field that concerns one connection") // RFC 9114 4.2
	case "te":
		if !strings.EqualFold(value, "trailers") {
			return malformed("a TE other than trailers")
		}
	case "host":
		if h.hosts {
			return malformed("two hosts")
		}
		h.hosts, h.host = true, value
		return nil
	case "content-length":
		n, ok := parseLength(value)
		if !ok || h.length >= 0 {
			return malformed("an odd content-length, or two")
		}
		h.length = n
	case "cookie":
		h.cookies++
	case "expect":
		if h.continues = strings.EqualFold(value, "100-continue"); !h.continues {
			h.demands = true
		}
	case "priority":
		h.priority = value
	}
	req.Fields = append(req.Fields, cache.Field{Name: name, Value: value})
	return nil
}

// complete judges the section as a whole (RFC 9114 4.3.1, 4.4, RFC 9220).
func (h *header) complete(x *gate.Exchange) error {
	req := &x.Request
	connect := req.Method == "CONNECT"
	want := pseudoMethod | pseudoScheme | pseudoPath
	switch {
	case connect && h.seen&pseudoProtocol == 0:
		want = pseudoMethod | pseudoAuthority
		if h.seen&^want != 0 {
			return malformed("a CONNECT with a scheme or path")
		}
		req.Target = req.Authority
	case connect:
		want |= pseudoAuthority
	case h.seen&pseudoProtocol != 0:
		return malformed(":protocol without CONNECT")
	}
	if h.seen&want != want || !validToken(req.Method) {
		return malformed("a pseudo-header field is missing")
	}
	switch {
	case !connect && req.Target == "":
		return malformed("an empty path")
	case h.hosts && h.seen&pseudoAuthority != 0 && !strings.EqualFold(h.host, req.Authority):
		return malformed("two different hosts") // RFC 9114 4.3.1
	case h.seen&pseudoAuthority == 0:
		req.Authority = h.host
	}
	if req.Authority == "" {
		return malformed("neither :authority nor host")
	}
	if !connect && !strings.EqualFold(h.scheme, req.Scheme) {
		h.elsewhere = true
	}
	x.HeaderBytes += len(req.Authority) + len("host: \r\n") - len(h.scheme)
	return nil
}

// joinCookies makes one field of many, as all but HTTP/2 and HTTP/3 want them
// (RFC 9114 4.2.1).
func (h *header) joinCookies(req *cache.Request) {
	at, first, kept := len(h.text), -1, req.Fields[:0]
	for _, f := range req.Fields {
		if f.Name != "cookie" {
			kept = append(kept, f)
			continue
		}
		if first < 0 {
			first = len(kept)
			kept = append(kept, f)
		} else {
			h.text = append(h.text, "; "...)
		}
		h.text = append(h.text, f.Value...)
	}
	req.Fields = kept
	req.Fields[first].Value = text(h.text[at:])
}

// readTrailers takes an encoded field section at the end of a request. What it
// returns is independent of block.
func readTrailers(block []byte, limits *gate.Limits) ([]cache.Field, error) {
	s := section{rest: block}
	if err := s.prefix(); err != nil {
		return nil, violation(codeDecompressionFailed, "a field section with an odd prefix")
	}
	var fields []cache.Field
	size := 0
	for len(s.rest) > 0 {
		name, value, err := s.next()
		if err != nil {
			return nil, violation(codeDecompressionFailed, "a field section that cannot be decoded")
		}
		if !validName(name) || !validValue(value) { // pseudo-header fields have a colon
			return nil, malformed("a trailer that must not be one")
		}
		switch name {
		case "connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade", "te", "host", "content-length":
			return nil, malformed("a trailer that concerns the connection or the message as a whole")
		}
		size += len(name) + len(value) + len(": \r\n")
		if size > int(limits.HeaderBytes) || len(fields) == limits.HeaderFields {
			return nil, &streamError{codeExcessiveLoad, "too many trailers"}
		}
		if !h1.TrailerField(name) {
			continue
		}
		fields = append(fields, cache.Field{Name: strings.Clone(name), Value: strings.Clone(value)})
	}
	return fields, nil
}

// parseLength reads a Content-Length (RFC 9110 8.6): digits and nothing else.
func parseLength(value string) (int64, bool) {
	if value == "" || len(value) > 18 {
		return 0, false
	}
	for i := range len(value) {
		if value[i] < '0' || value[i] > '9' {
			return 0, false
		}
	}
	n, err := strconv.ParseInt(value, 10, 64)
	return n, err == nil
}

// tokenBytes are those of a token (RFC 9110 5.6.2): 1 where a field name may have
// them, 2 for the upper-case letters, which it may not (RFC 9114 4.2).
var tokenBytes = func() (t [256]uint8) {
	for _, c := range "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz" {
		t[c] = 1
	}
	for c := 'A'; c <= 'Z'; c++ {
		t[c] = 2
	}
	return t
}()

func validName(name string) bool {
	for i := range len(name) {
		if tokenBytes[name[i]] != 1 {
			return false
		}
	}
	return name != ""
}

func validToken(s string) bool {
	for i := range len(s) {
		if tokenBytes[s[i]] == 0 {
			return false
		}
	}
	return s != ""
}

// validValue refuses controls, and white space at the ends, which are no part of
// a value (RFC 9110 5.5, RFC 9114 10.3).
func validValue(value string) bool {
	for i := range len(value) {
		if c := value[i]; c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return value == "" || !blank(value[0]) && !blank(value[len(value)-1])
}

func blank(c byte) bool { return c == ' ' || c == '\t' }
