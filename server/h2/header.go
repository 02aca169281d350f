package h2

// header.go judges the fields of a request as they are decoded (RFC 9113 8.2 and
// 8.3). What is malformed here is a stream error; what is well-formed but makes no
// sense is for the gate to refuse.

import (
	"strings"

	"edgecdn/cache"
)

// header is a decoded header or trailer section. It is reused; its strings are
// those of the decoder.
type header struct {
	// Set before decoding.
	trailer             bool
	bytesMax, fieldsMax int

	method, scheme, authority, path, protocol, host string

	fields  []cache.Field // without pseudo-header fields and host
	length  int64         // Content-Length, -1 for none
	cookies int           // number of cookie fields
	expects bool          // 100-continue
	demands bool          // anything else with Expect
	prio    priority
	pseudo  uint8 // bits of what has been seen
	regular bool  // a regular field has been seen
	hosts   bool  // a host field has been seen

	size    int    // as in HTTP/1.1
	over    bool   // more than is taken: what follows is not kept
	problem string // why the request is malformed, "" if it is not
}

// Bits of header.pseudo.
const (
	sawMethod = 1 << iota
	sawScheme
	sawAuthority
	sawPath
	sawProtocol
)

// lineOverhead is what a field line costs in HTTP/1.1 beside name and value.
const lineOverhead = len(": \r\n")

// reset prepares for a block.
func (h *header) reset(trailer bool, bytesMax, fieldsMax int) {
	clear(h.fields)
	*h = header{trailer: trailer, bytesMax: bytesMax, fieldsMax: fieldsMax, fields: h.fields[:0], length: -1, prio: defaultPriority}
	if !trailer {
		h.size = len("  HTTP/1.1\r\nhost: \r\n\r\n")
	}
}

// malformed notes the first reason.
func (h *header) malformed(reason string) {
	if h.problem == "" {
		h.problem = reason
	}
}

// add takes one line. It reports false where the line is not kept.
func (h *header) add(l *line) bool {
	if l.name != "" && l.name[0] == ':' {
		h.size += len(l.value) // of the request line
	} else {
		h.size += len(l.name) + len(l.value) + lineOverhead
	}
	if h.size > h.bytesMax || len(h.fields) > h.fieldsMax {
		h.over = true
		return false
	}
	switch {
	case l.name == "":
		h.malformed("a field without a name")
	case l.name[0] == ':':
		return h.addPseudo(l)
	case !l.sound && !(soundName(l.name) && soundValue(l.value)):
		h.malformed("a field with invalid characters")
	default:
		h.regular = true
		return h.addField(l)
	}
	return true
}

// addPseudo takes a pseudo-header field. An unknown one is not kept: its name is not
// in the size, and a block may name it thousands of times in a byte each.
func (h *header) addPseudo(l *line) bool {
	var bit uint8
	var to *string
	switch l.name {
	case ":method":
		bit, to = sawMethod, &h.method
	case ":scheme":
		bit, to = sawScheme, &h.scheme
	case ":authority":
		bit, to = sawAuthority, &h.authority
	case ":path":
		bit, to = sawPath, &h.path
	case ":protocol":
		bit, to = sawProtocol, &h.protocol // RFC 8441 4
	default:
		h.malformed("an unknown pseudo-header field")
		return false
	}
	switch {
	case h.trailer:
		h.malformed("a pseudo-header field in a trailer section")
	case h.regular:
		h.malformed("a pseudo-header field after others")
	case h.pseudo&bit != 0:
		h.malformed("a pseudo-header field twice")
	case !l.sound && !soundValue(l.value):
		h.malformed("a pseudo-header field with invalid characters")
	}
	h.pseudo |= bit
	*to = l.value
	return true
}

// addField looks at the regular fields that mean something to the connection.
func (h *header) addField(l *line) bool {
	switch l.name {
	case "host":
		if h.hosts || h.trailer || l.value == "" {
			h.malformed("an empty or second host field, or one in a trailer section")
		}
		h.hosts, h.host = true, l.value
		return true
	case "connection", "proxy-connection", "keep-alive", "transfer-encoding", "upgrade": // RFC 9113 8.2.2
		h.malformed("a field of the connection")
	case "te":
		if !strings.EqualFold(l.value, "trailers") {
			h.malformed("a te field that says more than trailers")
		}
	case "content-length":
		n, ok := parseLength(l.value)
		if !ok || h.length >= 0 || h.trailer {
			h.malformed("an invalid or second content-length field")
			return true
		}
		h.length = n
	case "cookie":
		h.cookies++
	case "expect":
		if strings.EqualFold(l.value, "100-continue") {
			h.expects = true
		} else {
			h.demands = true
		}
	case "priority":
		h.prio = parsePriority(l.value)
	}
	h.fields = append(h.fields, cache.Field{Name: l.name, Value: l.value})
	return true
}

// judge looks at the whole of a request's header.
func (h *header) judge(ended bool) {
	if h.over {
		return // parts of it may be missing: it is refused for that
	}
	switch {
	case h.problem != "":
	case h.pseudo&sawMethod == 0 || !soundToken(h.method):
		h.malformed("no valid :method")
	case h.method == "CONNECT" && h.pseudo&sawProtocol == 0:
		if h.pseudo&(sawScheme|sawPath) != 0 || h.authority == "" { // RFC 9113 8.5
			h.malformed("CONNECT with :scheme or :path, or without :authority")
		}
	case h.pseudo&sawProtocol != 0 && h.method != "CONNECT": // RFC 8441 4
		h.malformed(":protocol without CONNECT")
	case h.pseudo&sawScheme == 0 || h.scheme == "":
		h.malformed("no :scheme")
	case h.path == "":
		h.malformed("no :path")
	case ended && h.length > 0:
		h.malformed("a content-length without content")
	}
}

// joinCookies makes one field of several (RFC 9113 8.2.3) and returns text, to
// which it has appended the value.
func (h *header) joinCookies(text []byte) []byte {
	at, first, kept := len(text), -1, h.fields[:0]
	for i, f := range h.fields {
		if f.Name != "cookie" {
			kept = append(kept, f)
			continue
		}
		if first < 0 {
			first = i
			kept = append(kept, f)
		} else {
			text = append(text, "; "...)
		}
		text = append(text, f.Value...)
	}
	clear(h.fields[len(kept):])
	h.fields = kept
	h.fields[first].Value = view(text[at:])
	return text
}

// parseLength reads a Content-Length: digits alone.
func parseLength(s string) (n int64, ok bool) {
	if s == "" || len(s) > 18 {
		return 0, false
	}
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return 0, false
		}
		n = n*10 + int64(s[i]-'0')
	}
	return n, true
}

// Bits of octets: what may stand in a token, in a field name over HTTP/2, and in a
// field value (RFC 9110 5.5 and 5.6.2, RFC 9113 8.2.1).
const (
	inToken = 1 << iota
	inName
	inValue
)

var octets = makeOctetTable()

func makeOctetTable() (t [256]uint8) {
	for c := range t {
		switch {
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9', strings.IndexByte("!#$%&'*+-.^_`|~", byte(c)) >= 0 && c < 0x80:
			t[c] = inToken | inName
		case 'A' <= c && c <= 'Z':
			t[c] = inToken
		}
		if c == '\t' || c >= ' ' && c != 0x7f {
			t[c] |= inValue
		}
	}
	return t
}

func soundToken(s string) bool { return s != "" && all(s, inToken) }

func soundName(s string) bool { return s != "" && all(s, inName) }

// soundValue refuses controls, and spaces around the value.
func soundValue(s string) bool {
	if s == "" {
		return true
	}
	first, last := s[0], s[len(s)-1]
	return first > ' ' && last > ' ' && all(s, inValue)
}

func all(s string, bit uint8) bool {
	for i := range len(s) {
		if octets[s[i]]&bit == 0 {
			return false
		}
	}
	return true
}
