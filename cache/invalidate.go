package cache

// invalidate.go forgets what an unsafe request that succeeded has changed
// (RFC 9111 4.4).

import (
	"net/http"
	"net/url"
	"strings"
)

func unsafeMethod(method string) bool {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace:
		return false
	}
	return true
}

// invalidateAfter forgets the target of r and what Location and Content-Location
// name on the same origin. The answer itself, own, may stay (RFC 9110 9.3.3).
func (c *Cache) invalidateAfter(r *Request, resp *http.Response, own *fill) {
	c.invalidate(r, own)
	for _, name := range []string{"Location", "Content-Location"} {
		if other := c.sameOrigin(r, resp.Header.Get(name)); other != nil {
			c.invalidate(other, own)
		}
	}
}

// sameOrigin returns a GET for what a reference names, nil where it leads to
// another origin or nowhere.
func (c *Cache) sameOrigin(r *Request, reference string) *Request {
	if reference == "" {
		return nil
	}
	base := &url.URL{Scheme: r.Scheme, Host: r.Host, Path: "/"}
	if at, err := url.ParseRequestURI(r.Target); err == nil {
		base.Path, base.RawPath = at.Path, at.RawPath
	}
	u, err := base.Parse(reference)
	if err != nil || u.Scheme != r.Scheme || !strings.EqualFold(withoutDefaultPort(u), r.Host) {
		return nil
	}
	other := &Request{Method: http.MethodGet, Scheme: r.Scheme, Authority: r.Authority, Host: r.Host,
		Target: u.RequestURI(), Route: r.Route}
	if c.match != nil {
		if other.Route, err = c.match(r.Host, other.Target); err != nil {
			return nil
		}
	}
	return other
}

// withoutDefaultPort returns the host as Request.Host has it.
func withoutDefaultPort(u *url.URL) string {
	if port := u.Port(); u.Scheme == "https" && port == "443" || u.Scheme == "http" && port == "80" || port == "" {
		return strings.TrimSuffix(u.Host, ":"+port)
	}
	return u.Host
}

// invalidate forgets what is stored for the target of r, all variants. A fetch
// under way that began before must not be stored either.
func (c *Cache) invalidate(r *Request, own *fill) {
	if !keyable(r) {
		return
	}
	c.stats.Invalidated.Add(1)
	key := string(appendKey(nil, r))
	c.mu.Lock()
	for _, f := range c.fills {
		if f != own && f.found.primary == key {
			f.doomed.Store(true)
			c.unlist(f)
		}
	}
	c.mu.Unlock()
	lock := c.target(key)
	lock.Lock()
	defer lock.Unlock()
	if err := c.store.Remove(c.store.Hasher().Key(key)); err != nil {
		c.stats.StoreErrors.Add(1)
	}
}
