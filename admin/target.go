package admin

// What operators name, in the one form in which it is stored and compared: a
// token's limit and the purge must mean the same. Paths and queries stay byte for
// byte: they are what clients send.

import (
	"fmt"
	"strings"

	"edgecdn/internal/authority"
)

// canonicalURL returns an absolute URL in canonical form, and its host; or what
// is wrong with it.
func canonicalURL(raw string) (canonical, host, problem string) {
	if problem := plain(raw); problem != "" {
		return "", "", problem
	}
	scheme, rest, ok := strings.Cut(raw, "://")
	if scheme = strings.ToLower(scheme); !ok || scheme != "http" && scheme != "https" {
		return "", "", fmt.Sprintf("%.80q is not an absolute http or https URL: write it such as https://www.example.com/logo.svg", raw)
	}
	named, target := cutAuthority(rest)
	host, ok = authority.Parse(named, scheme)
	if !ok {
		return "", "", fmt.Sprintf("%.80q has no valid host: a name or address and perhaps a port, no user", raw)
	}
	if !strings.HasPrefix(target, "/") {
		target = "/" + target // nothing, or a query alone
	}
	return scheme + "://" + host + target, host, ""
}

// canonicalPrefix does the same for host and path without a scheme.
func canonicalPrefix(raw string) (canonical, host, problem string) {
	if problem := plain(raw); problem != "" {
		return "", "", problem
	}
	if strings.Contains(raw, "://") {
		return "", "", "leave the scheme out: a prefix holds for http and https; write it such as www.example.com/static"
	}
	named, path := cutAuthority(raw)
	if host, problem = canonicalHost(named); problem != "" {
		return "", "", problem
	}
	switch {
	case path == "" || path == "/":
		return "", "", "this is the whole host: name it under hosts"
	case strings.HasSuffix(path, "//"):
		return "", "", "ends in two slashes: write one or none"
	case strings.ContainsAny(path, "?*"):
		return "", "", "a prefix is a path: leave query and * out; it holds for all that goes on with a /"
	}
	return host + strings.TrimSuffix(path, "/"), host, ""
}

// canonicalHost does the same for a host, which has a port only where that is not
// the scheme's own.
func canonicalHost(raw string) (host, problem string) {
	if problem := plain(raw); problem != "" {
		return "", problem
	}
	host, ok := authority.Parse(raw, "")
	switch {
	case !ok && strings.Contains(raw, "://"):
		return "", "leave the scheme out: a host is for http and https; write it such as www.example.com"
	case !ok && strings.HasPrefix(raw, "*."):
		return "", "wildcards are for tokens and routes: name each host"
	case !ok:
		return "", fmt.Sprintf("%.80q is not a host: write it such as www.example.com", raw)
	case strings.HasSuffix(host, ":80"), strings.HasSuffix(host, ":443"):
		if !strings.HasSuffix(host, "]") {
			return "", "leave the port out: 80 and 443 are those of http and https"
		}
	}
	return host, ""
}

// groupName says what is wrong with the name of a group, "" for nothing.
func groupName(name string) string {
	if name == "" {
		return "is empty"
	}
	if len(name) > purgeTargetBytesMax {
		return fmt.Sprintf("is longer than %d bytes", purgeTargetBytesMax)
	}
	for i := range len(name) {
		if name[i] < ' ' || name[i] >= 0x7f {
			return "has bytes that no header field can have: use printable ASCII"
		}
	}
	if name[0] == ' ' || name[len(name)-1] == ' ' {
		return "begins or ends with a space"
	}
	return ""
}

// plain refuses what no target of a request has: bytes that each client would
// escape in its own way, and fragments, which clients keep to themselves.
func plain(raw string) string {
	switch {
	case raw == "":
		return "is empty"
	case len(raw) > purgeTargetBytesMax:
		return fmt.Sprintf("is longer than %d bytes", purgeTargetBytesMax)
	case strings.Contains(raw, "#"):
		return "leave the fragment out: clients do not send it"
	}
	for i := range len(raw) {
		if raw[i] <= ' ' || raw[i] >= 0x7f {
			return "has a space or a byte beyond ASCII: percent-encode it as clients do"
		}
	}
	return ""
}

// cutAuthority splits before the path or query.
func cutAuthority(raw string) (named, rest string) {
	if i := strings.IndexAny(raw, "/?"); i >= 0 {
		return raw[:i], raw[i:]
	}
	return raw, ""
}
