package cache

// passing.go makes use of what passes through: the answer to a POST that stands for
// a later GET (RFC 9110 9.3.3), and what the answer to a HEAD tells of a stored
// response (RFC 9111 4.3.5).

import (
	"errors"
	"io"
	"net/http"

	"edgecdn/cache/store"
)

// beginPost makes a POST whose answer may be kept one of the fetches under way,
// before it is sent; nil where it may not. The caller forgets it.
func (x *exchange) beginPost() *fill {
	c, r := x.cache, x.r
	if r.Method != http.MethodPost || r.Route.Bypass || !keyable(r) {
		return nil
	}
	f := c.newFill(r, x.order)
	f.found.primary = string(appendKey(nil, r))
	c.mu.Lock()
	defer c.mu.Unlock()
	c.begin(f)
	return f
}

// keepPost begins to store the answer to a POST under the key of a GET; nil where
// it may not be. The caller copies the body through keeping and calls end.
func (f *fill) keepPost(resp *http.Response, got *received) *keeping {
	c, r := f.cache, f.request
	if !representsTarget(c, r, got) {
		return nil
	}
	_, few := groupsOf(got.fields)
	ok, _ := storable(f.asked(), got, r.Route, resp.ContentLength)
	if !ok || !few || resp.ContentLength < 0 || len(resp.Trailer) > 0 || c.unframed(resp) {
		return nil
	}
	fd := c.find(r)
	fd.close()
	f.found.key, f.found.resp, f.found.marker = fd.key, fd.resp, fd.marker // not primary, which others read
	p := got.settle(r.Route)
	p.fields = without(p.fields, "age")
	meta := f.meta(p, resp.ContentLength)
	writer, err := c.store.Create(c.store.Hasher().Key(f.chooseKey(p)), meta)
	if err != nil {
		c.stats.StoreErrors.Add(1)
		return nil
	}
	return &keeping{fill: f, response: p, meta: meta, body: resp.Body, writer: writer}
}

// representsTarget says whether the answer to a POST is what a GET of its target
// would have: it says so itself, and for how long (RFC 9110 9.3.3).
func representsTarget(c *Cache, r *Request, got *received) bool {
	lifetime, explicit := got.ownLifetime()
	if got.status != http.StatusOK || !explicit || lifetime <= got.initialAge() {
		return false
	}
	location, _ := fieldValue(got.fields, "content-location")
	same := c.sameOrigin(r, location)
	return same != nil && same.Target == r.Target
}

// keeping is a body that is stored while it passes.
type keeping struct {
	*fill
	response *response
	meta     store.Meta
	body     io.Reader
	writer   store.Writer
	err      error // of the store; the body goes on
	whole    bool
}

func (k *keeping) Read(p []byte) (int, error) {
	n, err := k.body.Read(p)
	if n > 0 && k.err == nil {
		_, k.err = k.writer.Write(p[:n])
	}
	k.whole = k.whole || err == io.EOF
	return n, err
}

// end makes what was stored visible, if it is whole and still holds.
func (k *keeping) end() {
	defer k.writer.Abort()
	c := k.cache
	lock := c.target(k.found.primary)
	lock.Lock()
	defer lock.Unlock()
	if !k.whole || k.outdated(&k.meta) {
		return
	}
	if k.err == nil {
		var stored *store.Stored
		if stored, k.err = k.writer.Commit(k.meta); k.err == nil {
			stored.Close()
			c.stats.Stored.Add(1)
			return
		}
	}
	c.stats.StoreErrors.Add(1)
}

// learnFromHead updates or forgets the stored response that the answer to a HEAD
// speaks of (RFC 9111 4.3.5). kept: fields of the answer are in it now.
func (x *exchange) learnFromHead(resp *http.Response, got *received) (kept bool) {
	c, r := x.cache, x.r
	f := c.newFill(r, x.order)
	f.found = c.find(r)
	defer f.found.close()
	p := f.found.resp
	if p == nil || p.status != http.StatusOK || got.status != http.StatusOK || p.coded&^acceptedCodings(r.Fields) != 0 ||
		conditionsOf(r.Fields).authorization && !p.has(flagAuthorized) {
		return false // not what the HEAD could have been answered from
	}
	f.order = max(f.order, f.found.stored.Meta().Order)
	size := p.total
	if !p.sliced {
		size = f.found.stored.Meta().Length
	}
	if sameValidators(got.fields, p) && (resp.ContentLength < 0 || !got.sized || resp.ContentLength == size) {
		if news := f.merged(got); news != nil {
			f.renew(news)
			return true
		}
	}
	if err := c.store.Remove(c.store.Hasher().Key(f.found.key)); err != nil && !errors.Is(err, store.ErrNotFound) {
		c.stats.StoreErrors.Add(1)
	}
	c.stats.Invalidated.Add(1)
	return false
}

// sameValidators says whether fields have validators and all are p's.
func sameValidators(fields []Field, p *response) bool {
	tag, tagged := fieldValue(fields, "etag")
	if tagged && tag != p.etag {
		return false
	}
	value, dated := fieldValue(fields, "last-modified")
	if !dated {
		return tagged
	}
	t, valid := parseTime(value)
	return valid && t.Unix() == p.lastModified
}
