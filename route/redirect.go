package route

import (
	"fmt"
	"strings"
)

// redirect is a compiled Redirect.
type redirect struct {
	scheme string // "" for any
	path   string // pattern without "/*"
	prefix bool   // path is a prefix
	to     []piece
	status int
}

// piece is a part of Redirect.To: literal text or a placeholder.
type piece struct {
	text        string
	placeholder byte // 'h'ost, 'p'ath, 'q'uery, 't'arget, 'r'est; 0: literal
}

var placeholders = []struct {
	name  string
	token byte
}{{"{host}", 'h'}, {"{path}", 'p'}, {"{query}", 'q'}, {"{target}", 't'}, {"{rest}", 'r'}}

// redirectStatusDefault keeps method and body and may be remembered by clients
// (RFC 9110 15.4.9).
const redirectStatusDefault = 308

func compileRedirect(r *Redirect) redirect {
	out := redirect{scheme: r.Scheme, path: r.Path, status: r.Status}
	if r.Path == "" {
		out.prefix = true
	} else {
		out.path, out.prefix = strings.CutSuffix(r.Path, "/*")
	}
	out.to, _ = parseTo(r.To)
	return out
}

// parseTo splits To into literals and placeholders.
func parseTo(to string) (pieces []piece, err error) {
next:
	for to != "" {
		i := strings.IndexByte(to, '{')
		if i < 0 {
			return append(pieces, piece{text: to}), nil
		}
		if i > 0 {
			pieces = append(pieces, piece{text: to[:i]})
			to = to[i:]
		}
		for _, p := range placeholders {
			if rest, ok := strings.CutPrefix(to, p.name); ok {
				pieces = append(pieces, piece{placeholder: p.token})
				to = rest
				continue next
			}
		}
		return nil, fmt.Errorf("%q is no placeholder: {host}, {path}, {query}, {target} and {rest} are", to[:min(len(to), 12)])
	}
	return pieces, nil
}

// Redirect returns where a request is sent instead of being answered: the
// Location and the status of its host's first redirect that applies. One that
// would lead to the very URL that was asked for does not apply, so that
// "https://www.example.com{target}" moves all other names and schemes there.
// A path must match both raw and normalised.
//
// Whatever the client sent, the Location is one line of visible ASCII and, for a
// To that begins with "/", stays on this host.
func (r *Route) Redirect(scheme, host, target string) (location string, status int, ok bool) {
	if len(r.redirects) == 0 || target == "" || target[0] != '/' {
		return "", 0, false
	}
	path, query, _ := strings.Cut(target, "?")
	var cleanBuffer, buffer [1024]byte
	clean := path
	if !normal(path) {
		clean = view(appendNormal(cleanBuffer[:0], path))
	}
	for i := range r.redirects {
		rule := &r.redirects[i]
		rest, matched := rule.match(scheme, path)
		if !matched {
			continue
		}
		if _, matched = rule.match(scheme, clean); !matched {
			continue
		}
		to, usable := rule.appendTo(buffer[:0], host, target, path, query, rest)
		if !usable || leadsBack(view(to), scheme, host, target) {
			continue
		}
		return string(to), rule.status, true
	}
	return "", 0, false
}

// match returns what the "*" of the redirect's path stands for.
func (r *redirect) match(scheme, path string) (rest string, ok bool) {
	if r.scheme != "" && r.scheme != scheme {
		return "", false
	}
	if !r.prefix {
		return "", path == r.path
	}
	rest, ok = strings.CutPrefix(path, r.path)
	if !ok || rest != "" && rest[0] != '/' {
		return "", false
	}
	return strings.TrimPrefix(rest, "/"), true
}

// appendTo fills the placeholders in. It reports false where a host is wanted
// and the request had none that could be written.
func (r *redirect) appendTo(dst []byte, host, target, path, query, rest string) ([]byte, bool) {
	for _, p := range r.to {
		switch p.placeholder {
		case 'h':
			name := withoutPort(host)
			if name == "" || !plainHost(name) {
				return dst, false
			}
			dst = append(dst, name...)
		case 'p':
			dst = appendVisible(dst, path)
		case 'q':
			if query == "" && len(dst) > 0 && dst[len(dst)-1] == '?' {
				dst = dst[:len(dst)-1]
			}
			dst = appendVisible(dst, query)
		case 't':
			dst = appendVisible(dst, target)
		case 'r':
			dst = appendVisible(dst, rest)
		default:
			dst = append(dst, p.text...)
		}
	}
	return sameHost(dst), true
}

// sameHost makes "//evil.example" and "/\evil.example", which browsers read as
// another host (RFC 3986 4.2), start with one "/".
func sameHost(location []byte) []byte {
	if len(location) == 0 || location[0] != '/' {
		return location
	}
	n := 1
	for n < len(location) && (location[n] == '/' || location[n] == '\\') {
		n++
	}
	return location[:1+copy(location[1:], location[n:])]
}

// appendVisible escapes what could end the field line or the URL.
func appendVisible(dst []byte, s string) []byte {
	for i := range len(s) {
		switch c := s[i]; {
		case c <= ' ' || c >= 0x7f || c == '"' || c == '<' || c == '>' || c == '#':
			dst = append(dst, '%', upperHex[c>>4], upperHex[c&15])
		default:
			dst = append(dst, c)
		}
	}
	return dst
}

// leadsBack reports whether location is the URL that was asked for.
func leadsBack(location, scheme, host, target string) bool {
	if rest, ok := strings.CutPrefix(location, scheme); ok {
		if rest, ok = strings.CutPrefix(rest, "://"); ok {
			if rest, ok = strings.CutPrefix(rest, host); ok {
				return rest == target || rest == "" && target == "/"
			}
		}
	}
	return location == target
}
