package cache

// invalidate.go forgets what an unsafe request that succeeded has changed
// (RFC 9111 4.4, RFC 9875 3).

import (
	"net/http"
	"net/url"
	"slices"
	"strings"

	"edgecdn/cache/store"
)

// invalidGroupsMax is how many groups an answer to an unsafe request may name, as many
// as one request of the API; what it names beyond stays.
const invalidGroupsMax = 256

func unsafeMethod(method string) bool {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace:
		return false
	}
	return true
}

// invalidateAfter forgets the target of r, what Location and Content-Location name on
// the same origin, and the groups of Cache-Group-Invalidation; fields are those of
// the answer. It may stay itself, as own, whose fetch it was (RFC 9110 9.3.3).
func (c *Cache) invalidateAfter(r *Request, fields []Field, own *fill) {
	var kept *store.Meta
	since := uint64(0)
	if own != nil {
		meta := own.named
		meta.Groups = c.labels(own.request, fields)
		kept, since = &meta, own.order
	}
	keys, hashes := c.changed(r, fields, own)
	if len(hashes) == 0 {
		return
	}
	c.stats.Invalidated.Add(uint64(len(hashes)))
	order, clean := c.purges.invalidate(hashes, kept, since)
	if own != nil {
		c.mu.Lock()
		own.order = order
		c.mu.Unlock()
		own.overtaken.Store(!clean)
	}
	for _, key := range keys {
		c.removeTarget(key)
	}
}

// changed returns the primary keys and the hashes of what an answer to r says has
// changed, as far as something is stored or fetched for it.
func (c *Cache) changed(r *Request, fields []Field, own *fill) (keys []string, hashes []uint64) {
	targets := []*Request{r}
	for _, name := range []string{"location", "content-location"} {
		reference, _ := fieldValue(fields, name)
		if other := c.sameOrigin(r, reference); other != nil {
			targets = append(targets, other)
		}
	}
	for _, target := range targets {
		key := string(appendKey(nil, target))
		if hash := c.names.url.Sum(string(appendURL(nil, target))); !slices.Contains(hashes, hash) && c.known(target, key, hash, own) {
			keys, hashes = append(keys, key), append(hashes, hash)
		}
	}
	groups := listedGroups(valuesOf(fields, "cache-group-invalidation"))
	if len(groups) > invalidGroupsMax {
		c.stats.InvalidGroupsCut.Add(1)
		groups = groups[:invalidGroupsMax]
	}
	for _, group := range groups {
		hashes = append(hashes, c.names.group.Sum(hostName(r)+"\n"+group))
	}
	return keys, hashes
}

// known says whether there may be something to forget for a target: what is stored
// or, but for own, on its way. Where fields and cookies of requests are part of the
// key nobody can tell.
func (c *Cache) known(r *Request, key string, url uint64, own *fill) bool {
	if !keyable(r) {
		return false
	}
	if len(r.Route.Key.Headers)+len(r.Route.Key.Cookies) > 0 || c.store.Has(c.store.Hasher().Key(key)) {
		return true
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	flying := c.flights.urls[url]
	if own != nil && own.named.URL == url {
		flying--
	}
	return flying > 0
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

// removeTarget removes what is stored under a primary key: what was invalidated must
// not come back with a restart, which knows nothing of it.
func (c *Cache) removeTarget(key string) {
	lock := c.target(key)
	lock.Lock()
	defer lock.Unlock()
	if err := c.store.Remove(c.store.Hasher().Key(key)); err != nil {
		c.stats.StoreErrors.Add(1)
	}
}
