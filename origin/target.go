package origin

// target.go carries a request's destination and judges its target, and writes it so
// that net/http sends the bytes that were given.

import (
	"context"
	"net/url"
	"strings"
)

type destinationKey struct{}

type destination struct{ origin, target string }

// WithTarget returns a context whose request goes to the origin of that name,
// for target: path and query in origin form, or "*", sent byte for byte behind
// the path of the origin's URL. The request's own URL is not looked at.
func WithTarget(ctx context.Context, origin, target string) context.Context {
	return context.WithValue(ctx, destinationKey{}, destination{origin, target})
}

// checkTarget wants the origin form, or "*", and nothing that ends a request line.
func checkTarget(target string) error {
	if target != "*" && !strings.HasPrefix(target, "/") {
		return errorf(KindRequest, "target %q does not begin with a slash", target)
	}
	for i := range len(target) {
		if target[i] <= ' ' || target[i] == 0x7f {
			return errorf(KindRequest, "target %q has a space or control character in it", target)
		}
	}
	return nil
}

// targetURL returns a URL that net/http writes as base's path followed by target
// over HTTP/2. A target that begins with "//" and has bytes in it that url.URL
// would escape has the origin's host before it: net/http has no way to write it
// otherwise.
func targetURL(base *url.URL, host, target string) (*url.URL, error) {
	if err := checkTarget(target); err != nil {
		return nil, err
	}
	u := &url.URL{Scheme: base.Scheme, Host: base.Host}
	if target == "*" {
		u.Opaque = target
		return u, nil
	}
	whole := strings.TrimSuffix(base.EscapedPath(), "/") + target
	if !strings.HasPrefix(whole, "//") {
		u.Opaque = whole
		return u, nil
	}
	// url.URL writes an Opaque that begins with "//" behind the scheme.
	path, query, hasQuery := strings.Cut(whole, "?")
	if unescaped, err := url.PathUnescape(path); err == nil {
		u.Path, u.RawPath, u.RawQuery, u.ForceQuery = unescaped, path, query, hasQuery
		if u.RequestURI() == whole {
			return u, nil
		}
	}
	return &url.URL{Scheme: base.Scheme, Host: base.Host, Opaque: "//" + host + whole}, nil
}
