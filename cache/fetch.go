package cache

// fetch.go forwards requests for the store: one fetch for all who want the same
// (collapsed forwarding), judged when its header is there and before anybody is
// answered, streamed while it fills.

import (
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"edgecdn/cache/store"
)

const copyBytes = 64 << 10

var copyBuffers = sync.Pool{New: func() any { return new([copyBytes]byte) }}

// clone copies r so that it outlives the engine's buffers.
func (r *Request) clone() *Request {
	c := *r
	c.scratch, c.values, c.owned, c.room = nil, nil, nil, nil
	for _, s := range []*string{&c.Method, &c.Scheme, &c.Authority, &c.Host, &c.Target, &c.Listener} {
		*s = strings.Clone(*s)
	}
	c.Fields = make([]Field, len(r.Fields))
	for i, f := range r.Fields {
		c.Fields[i] = Field{strings.Clone(f.Name), strings.Clone(f.Value)}
	}
	return &c
}

// A place is how a request takes part in a fill.
type place int

const (
	placeNone  place = iota // no more fills may be under way
	placeFirst              // the fill was made for it
	placeNext               // it waits for another's
	placeAgain              // none: another's has just ended, look again
)

// join takes part in the fill for what was not found or is to be validated, and
// starts it where there is none. key is what others join by, part what is wanted
// of the body (nil: all), shared whether others may take part.
func (c *Cache) join(r *Request, fd found, key string, part *slice, shared bool) (*fill, *follower, place) {
	c.mu.Lock()
	defer c.mu.Unlock()
	ofKnown := part != nil && part.of != nil
	if fd.order < c.purges.swept.Load() && !ofKnown {
		return nil, nil, placeAgain // what was not found out may have left the table
	}
	if shared {
		if f := c.fills[key]; f != nil && (ofKnown || !c.overtaken(f)) {
			c.stats.Collapsed.Add(1)
			return f, f.follow(), placeNext
		}
		wanted := key
		if part != nil && part.of == nil {
			wanted = fd.key
		}
		// A fill is on the list until its response can be found.
		if stored, ok := c.store.Lookup(c.store.Hasher().Key(wanted)); ok {
			value, live := stored.Value(), c.admits(&stored)
			stored.Close()
			if live && value != any(fd.resp) && (fd.marker == nil || value != any(fd.marker)) {
				return nil, nil, placeAgain
			}
		}
	}
	if c.stats.Fills.Load() >= c.fillsMax || c.background.Err() != nil {
		c.stats.FillsRefused.Add(1)
		return nil, nil, placeNone
	}
	f := c.newFill(r, fd.order)
	f.found, f.slice, f.ofKnown, f.length = fd, part, ofKnown, -1
	f.ready, f.moved, f.readers = make(chan struct{}), make(chan struct{}), map[*follower]int64{}
	c.begin(f)
	f.ctx, f.cancel = context.WithCancel(c.background)
	if shared {
		f.joined, f.keys, c.fills[key] = key, []string{key}, f
	}
	c.stats.Fills.Add(1)
	c.work.Add(1)
	reader := f.follow()
	go f.run()
	return f, reader, placeFirst
}

// forget takes a fill off the list that others join from.
func (c *Cache) forget(f *fill) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.unlist(f)
	c.flights.remove(f)
}

// unlist is forget for whoever holds mu.
func (c *Cache) unlist(f *fill) {
	for _, key := range f.keys {
		if c.fills[key] == f {
			delete(c.fills, key)
		}
	}
	f.keys = nil
}

// register lets others join a shared fill under one more key.
func (c *Cache) register(f *fill, key string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if f.joined != "" && c.fills[key] == nil && !f.overtaken.Load() {
		f.keys, c.fills[key] = append(f.keys, key), f
	}
}

// run is the fill's goroutine.
func (f *fill) run() {
	defer f.cache.work.Done()
	defer f.cache.stats.Fills.Add(-1)
	defer f.cache.forget(f)
	resp, err := f.forward(f.found.validators())
	switch {
	case failingFetch(resp, err) && f.fallBack(resp, err):
		err = nil
	case err == nil:
		err = f.judge(resp)
	}
	if err != nil {
		f.fail(err)
	}
	if f.verdict != verdictLive { // then it is the first client's to end
		f.cancel()
	}
}

// forward asks the origin, with our own conditions if any.
func (f *fill) forward(validators []Field) (*fetched, error) {
	c := f.cache
	out := c.outgoing(f.ctx, f.request, false)
	out.early = f.addEarly
	if f.slice != nil {
		out.fields = f.slice.ask(out.fields)
	}
	for _, v := range validators {
		out.fields = setField(out.fields, v.Name, v.Value)
	}
	sent := time.Now()
	resp, fields, err := c.forward(&out)
	if err != nil {
		c.stats.FetchErrors.Add(1)
		return nil, err
	}
	return &fetched{resp, c.receive(f.request, resp, fields, sent)}, nil
}

// receive reads the header of a response that has just arrived.
func (c *Cache) receive(r *Request, resp *http.Response, fields []Field, sent time.Time) received {
	now, rt := time.Now(), r.Route
	_, sized := fieldValue(fields, "content-length")
	fields = c.responseFields(resp, fields, now)
	if rt.StripSetCookie && !rt.Bypass && (r.Method == http.MethodGet || r.Method == http.MethodHead) {
		fields = without(fields, "set-cookie")
	}
	if rt.HSTS != "" {
		fields = without(fields, "strict-transport-security") // the engines say ours
	}
	directives, targeted := effectiveControl(fields, rt.Targets)
	return received{status: resp.StatusCode, fields: fields, sized: sized,
		control: directives, targeted: targeted, requestTime: sent, responseTime: now}
}

// fetched is an origin's response with its header read.
type fetched struct {
	*http.Response
	received
}

// judge decides what becomes of a response, by its header alone.
func (f *fill) judge(resp *fetched) error {
	c, rt := f.cache, f.request.Route
	f.fwdStatus = resp.status
	if f.slice != nil && f.slice.of != nil {
		f.judgeSlice(resp)
		return nil
	}
	prior := f.prior()
	if f.found.resp != nil && resp.status == http.StatusNotModified {
		_ = resp.Body.Close() // a 304 has no body
		if prior != nil && confirms(resp.fields, prior) {
			if p := f.merged(&resp.received); p != nil {
				f.freshen(p)
				return nil
			}
			f.dropPrior()
			prior = nil
		} // else it speaks of something that we do not have. Ask for the whole.
		if prior == nil {
			f.restart()
		}
		var err error
		if resp, err = f.forward(nil); err != nil {
			return err
		}
		f.fwdStatus = resp.status
	}
	if prior != nil && serverError(resp.status) && prior.usableOnError(time.Now().UnixNano()) {
		_ = resp.Body.Close()
		f.standIn()
		return nil
	}
	if f.slice != nil && resp.status == http.StatusPartialContent {
		f.judgeFirstSlice(resp)
		return nil
	}
	if f.slice != nil { // the origin answered with the whole
		f.slice = nil
		c.register(f, f.found.key)
	}
	ok, why := storable(f.asked(), &resp.received, rt, resp.ContentLength)
	if !ok && why == "too-large" && sliceable(resp) {
		ok = true
	}
	if ok && c.unframed(resp.Response) {
		ok, why = false, "unframed"
	}
	if _, few := groupsOf(resp.fields); ok && !few {
		c.stats.GroupsRefused.Add(1)
		ok, why = false, "too-many-groups"
	}
	if !ok {
		f.passOn(resp, why)
		return nil
	}
	if resp.ContentLength > sliceOver && sliceable(resp) {
		f.sliceWhole(resp)
		return nil
	}
	f.fillStore(resp)
	return nil
}

func (f *fill) asked() asked {
	conds := conditionsOf(f.request.Fields)
	return asked{method: http.MethodGet, authorization: conds.authorization,
		noStore: conds.cacheFields && parseControl(f.request.Fields, "cache-control").noStore}
}

func serverError(status int) bool {
	return status == 500 || status == 502 || status == 503 || status == 504
}

// fail ends a fill that got no response. A stale stored response may stand in
// (RFC 5861 4).
func (f *fill) fail(err error) {
	if p := f.prior(); p != nil && p.usableOnError(time.Now().UnixNano()) {
		f.standIn()
		return
	}
	f.failWith(err)
}

// standIn serves the stale response that was to be validated.
func (f *fill) standIn() {
	f.cache.stats.StaleOnError.Add(1)
	f.detail = "stale-if-error"
	if f.found.resp.sliced {
		f.again(f.found.resp)
		return
	}
	f.serveStored(f.found.resp)
}

// again sends everybody back to what is stored, under header p.
func (f *fill) again(p *response) {
	f.found.close()
	f.verdict, f.resp = verdictAgain, p
	close(f.ready)
}

// serveStored lets everybody read the body that was found, under header p.
func (f *fill) serveStored(p *response) {
	f.verdict, f.resp, f.kept = verdictFollow, p, true
	f.length = f.found.stored.Meta().Length
	f.mu.Lock()
	f.written = f.length
	f.mu.Unlock()
	stored := f.found.stored
	f.found.stored = nil
	f.finish(stored, nil)
	close(f.ready)
}

// merged returns what the stored response becomes with a 304, or with the answer to
// a HEAD (RFC 9111 3.2, 4.3.4, 4.3.5). nil: it may not be stored any longer.
func (f *fill) merged(news *received) *response {
	rt, prior := f.request.Route, f.found.resp
	merged := *news
	merged.status = prior.status
	// Age is that of the news, not of the stored response (RFC 9111 4.2.3).
	merged.fields = freshened(prior, news.fields)
	merged.control, merged.targeted = effectiveControl(merged.fields, rt.Targets)
	length := f.found.stored.Meta().Length
	if prior.sliced {
		length = -1
	}
	names, _ := varyNames(merged.fields)
	if ok, _ := storable(f.asked(), &merged, rt, length); !ok ||
		len(names) > 0 && (f.found.marker == nil || !contains(f.found.marker.varyBy, names)) {
		return nil
	}
	if groups, few := groupsOf(merged.fields); !few || !inGroupsOf(prior, groups) {
		return nil
	}
	p := merged.settle(rt)
	p.fields = without(p.fields, "age")
	p.trailers, p.sliced, p.total, p.salt = prior.trailers, prior.sliced, prior.total, prior.salt
	p.index()
	return p
}

// renew stores the found response's new header.
func (f *fill) renew(p *response) {
	c := f.cache
	c.stats.Freshened.Add(1)
	lock := c.target(f.found.primary)
	lock.Lock()
	defer lock.Unlock()
	meta := f.meta(p, -1)
	if f.outdated(&meta) {
		return
	}
	key := c.store.Hasher().Key(f.found.key)
	if err := c.store.Freshen(key, meta); err != nil && !errors.Is(err, store.ErrNotFound) {
		c.stats.StoreErrors.Add(1)
	}
}

// dropPrior forgets what was to be validated: it may not be stored any longer.
func (f *fill) dropPrior() {
	c := f.cache
	if !f.overtaken.Load() { // else another may have taken its place
		if err := c.store.Remove(c.store.Hasher().Key(f.found.key)); err != nil {
			c.stats.StoreErrors.Add(1)
		}
	}
	f.found.close()
	f.found.resp = nil
}

// freshen answers with the stored response that a 304 has confirmed.
func (f *fill) freshen(p *response) {
	f.renew(p)
	if p.sliced {
		f.again(p)
		return
	}
	f.serveStored(p)
}

// passOn gives a response that may not be stored to the first client; the others
// ask for themselves, and for a while nobody waits for this key.
func (f *fill) passOn(resp *fetched, why string) {
	c := f.cache
	c.stats.Uncacheable.Add(1)
	if f.joined != "" {
		last := passMarkTime
		if resp.status >= 500 || why == detailFallback {
			last = passMarkErrorTime
		}
		c.mu.Lock()
		c.passed.set(c.store.Hasher().Key(f.joined).Hash.Lo, time.Now().Add(last))
		c.mu.Unlock()
	}
	c.forget(f)
	f.found.close()
	f.verdict, f.detail, f.fetched = verdictLive, why, resp
	f.offer(resp.Response)
	close(f.ready)
}

// meta makes what the store keeps of a response beside its body.
func (f *fill) meta(p *response, length int64) store.Meta {
	return store.Meta{
		Header: p.encode(), Length: length, Stored: time.Now().UnixNano(),
		FreshUntil: p.freshUntil, KeepUntil: p.keepUntil(), Order: f.order,
		URL: f.named.URL, Host: f.named.Host, Groups: f.cache.labels(f.request, p.fields),
	}
}

// fillStore streams a storable response into the store and to all who follow.
func (f *fill) fillStore(resp *fetched) {
	c := f.cache
	p := resp.settle(f.request.Route)
	p.fields = without(p.fields, "age")
	if p.encodable(f.request.Route, resp.ContentLength, len(resp.Trailer) > 0) {
		p.salt = newSalt()
	}
	p.index()
	key := f.chooseKey(p)
	writer, err := c.store.Create(c.store.Hasher().Key(key), f.meta(p, resp.ContentLength))
	if err != nil {
		c.stats.StoreErrors.Add(1)
		f.passOn(resp, "store-full")
		return
	}
	f.found.close()
	f.writer, f.resp, f.length, f.verdict = writer, p, resp.ContentLength, verdictFollow
	f.announced = len(resp.Trailer) > 0
	f.mu.Lock()
	f.storing = true
	f.mu.Unlock()
	close(f.ready)
	err = f.copyBody(resp.Body)
	_ = resp.Body.Close() // read to its end, or broken
	trailers := trailersOf(resp.Response)
	f.end(err, func() store.Meta {
		whole := *p
		if whole.trailers = trailers; trailers != nil {
			whole.salt = "" // they may speak of the bytes
		}
		return f.meta(&whole, f.written)
	}, trailers)
}

// end ends the body: stored when it is complete, broken for all when it is not.
func (f *fill) end(err error, meta func() store.Meta, trailers []Field) {
	if err == nil {
		f.commit(meta(), trailers)
		return
	}
	if !errors.Is(err, errAbandoned) && f.ctx.Err() == nil {
		f.cache.stats.Truncated.Add(1)
	}
	f.finish(nil, errBroken)
}

func (f *fill) copyBody(body io.Reader) error {
	buffer := copyBuffers.Get().(*[copyBytes]byte)
	defer copyBuffers.Put(buffer)
	for {
		n, err := body.Read(buffer[:])
		if n > 0 {
			if err := f.add(buffer[:n]); err != nil {
				return err
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// chooseKey returns the key to store p under. Where it varies, the target's
// marker is written first and the fill can be joined by its variant.
func (f *fill) chooseKey(p *response) string {
	names, _ := varyNames(p.fields) // "*" was turned away
	marker := f.found.marker
	if len(names) == 0 && marker == nil {
		return f.found.key
	}
	if len(names) == 0 {
		return f.found.primary // replaces the marker: any request is answered
	}
	write := func() {}
	switch {
	case marker == nil || !contains(marker.varyBy, names):
		marker = mergeMarker(marker, names)
		write = func() { f.writeMarker(marker) }
	case f.found.resp == nil && marker.variants >= variantsMax:
		f.cache.stats.VariantsReset.Add(1)
		marker = newMarker(marker.varyBy)
		write = func() { f.writeMarker(marker) }
	case f.found.resp == nil:
		marker = f.countVariant(marker)
	}
	f.variant, f.varies = string(appendVariant([]byte(f.found.primary), f.request, marker)), marker
	f.cache.register(f, f.variant) // before anybody can know of it
	write()
	return f.variant
}

// mergeMarker returns a marker for names beside those of an older one.
func mergeMarker(old *response, names []string) *response {
	if old != nil {
		if merged := mergeNames(old.varyBy, names); len(merged) <= varyNamesMax {
			names = merged
		}
	}
	return newMarker(names)
}

// writeMarker stores which fields select among the responses of the target.
func (f *fill) writeMarker(marker *response) {
	c := f.cache
	meta := f.markerMeta(marker)
	lock := c.target(f.found.primary)
	lock.Lock()
	defer lock.Unlock()
	if f.outdated(&meta) {
		return // what is stored under it stays out of reach
	}
	writer, err := c.store.Create(c.store.Hasher().Key(f.found.primary), meta)
	if err == nil {
		var stored *store.Stored
		if stored, err = writer.Commit(meta); err == nil {
			stored.Close()
		}
	}
	if err != nil {
		c.stats.StoreErrors.Add(1)
	}
}

// countVariant notes in the marker that there is one more variant. When there are
// too many, the target starts afresh with a new marker: those that are wanted come
// back, the rest is gone.
func (f *fill) countVariant(marker *response) *response {
	c := f.cache
	counted := response{varyBy: marker.varyBy, salt: marker.salt, variants: marker.variants + 1}
	meta := f.markerMeta(&counted)
	lock := c.target(f.found.primary)
	lock.Lock()
	defer lock.Unlock()
	current := c.open(f.found.primary)
	if current == nil {
		return &counted
	}
	defer current.Close()
	if current.Value().(*response).salt != marker.salt || f.outdated(&meta) {
		return &counted // it has been replaced: its variants must not come back
	}
	if err := c.store.Freshen(c.store.Hasher().Key(f.found.primary), meta); err != nil && !errors.Is(err, store.ErrNotFound) {
		c.stats.StoreErrors.Add(1)
	}
	return &counted
}

// endless is the KeepUntil of what others lead to and outlives none of them.
const endless = 1 << 62

// markerMeta is the meta of a marker: it does not age.
func (f *fill) markerMeta(marker *response) store.Meta {
	meta := f.meta(marker, 0)
	meta.FreshUntil, meta.KeepUntil = endless, endless
	return meta
}

func contains(all, some []string) bool {
	for _, s := range some {
		if !slices.Contains(all, s) {
			return false
		}
	}
	return true
}

// commit makes the complete response visible, unless it was invalidated or the
// store gave up meanwhile.
func (f *fill) commit(meta store.Meta, trailers []Field) {
	c := f.cache
	lock := c.target(f.found.primary)
	lock.Lock()
	f.mu.Lock()
	f.trailers = trailers
	if f.overflow || f.outdated(&meta) {
		f.mu.Unlock()
		lock.Unlock()
		f.finish(nil, nil)
		return
	}
	stored, err := f.writer.Commit(meta)
	if err == nil { // in the same breath: a committed Writer cannot be read
		f.writer, f.stored = nil, stored
	}
	f.mu.Unlock()
	lock.Unlock()
	switch {
	case err == nil:
		c.stats.Stored.Add(1)
	case !errors.Is(err, store.ErrNotFound): // purged; else readers go on with what was written
		c.stats.StoreErrors.Add(1)
	}
	f.finish(stored, nil)
}
