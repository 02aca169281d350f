package cache

// slices.go keeps large bodies in slices of sliceBytes, each an object of its own
// under a key made of the response's key, a salt and its number. A manifest under
// the response's key holds header, size and salt. Slices are fetched by Range when
// somebody wants their bytes, so that a seek in a large video costs a few slices,
// and partial responses are stored, reused, combined and completed (RFC 9111 3.3,
// 3.4). That needs a strong ETag, a known size and an origin that knows ranges; a
// slice whose validator is another's makes the manifest void.

import (
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"

	"edgecdn/cache/store"
)

const (
	sliceBytes = store.BodyMax
	// sliceOver is the size over which a whole response is kept in slices.
	sliceOver = 32 << 20
)

// slice is a part of a body to be fetched.
type slice struct {
	number int64
	// of is the manifest that the part belongs to; nil when it is not known yet.
	of *response
}

func (s *slice) span() span {
	at := span{s.number * sliceBytes, sliceBytes}
	if s.of != nil {
		at.n = min(at.n, s.of.total-at.off)
	}
	return at
}

// ask adds the fields that ask the origin for the part.
func (s *slice) ask(fields []Field) []Field {
	at := s.span()
	fields = setField(fields, "range", "bytes="+strconv.FormatInt(at.off, 10)+"-"+strconv.FormatInt(at.off+at.n-1, 10))
	if s.of != nil {
		fields = setField(fields, "if-range", s.of.etag)
	}
	return fields
}

// sliceKey is the key of a slice; the part of a body whose manifest is not known
// yet has one that nothing is stored under.
func sliceKey(key string, manifest *response, number int64) string {
	salt := ""
	if manifest != nil {
		salt = manifest.salt
	}
	return key + "\nslice" + salt + ":" + strconv.FormatInt(number, 10)
}

// sliceable says whether the rest of a body can be asked for part by part.
func sliceable(resp *fetched) bool {
	ranges, _ := fieldValue(resp.fields, "accept-ranges")
	return resp.status == http.StatusOK && strings.EqualFold(ranges, "bytes") && resp.strong() && len(resp.Trailer) == 0
}

func (p *received) strong() bool {
	tag, _ := fieldValue(p.fields, "etag")
	return validETag(tag) && !strings.HasPrefix(tag, "W/")
}

// sliceWhole begins to keep a large response in slices: the manifest, and the
// first slice from what the origin is sending already.
func (f *fill) sliceWhole(resp *fetched) {
	manifest, err := f.writeManifest(resp, resp.ContentLength, 0)
	if err != nil {
		f.passOn(resp, "store-full")
		return
	}
	f.slice = &slice{number: 0, of: manifest}
	f.fillSlice(resp, true)
}

// judgeFirstSlice takes the first part of a body that nothing is known of.
func (f *fill) judgeFirstSlice(resp *fetched) {
	value, _ := fieldValue(resp.fields, "content-range")
	at, size, ok := parseContentRange(value)
	whole := *resp
	whole.status, whole.fields = http.StatusOK, without(resp.fields, "content-range")
	storing, why := storable(f.asked(), &whole.received, f.request.Route, -1)
	want := f.slice.span()
	if !ok || !storing || !resp.strong() || at.off != want.off || at.n != min(want.n, size-want.off) {
		f.passSlice(resp, why)
		return
	}
	if at.n == size { // it is all there is
		whole.ContentLength = size
		f.slice = nil
		f.fillStore(&whole)
		return
	}
	manifest, err := f.writeManifest(&whole, size, f.slice.number)
	if err != nil {
		f.passSlice(resp, "store-full")
		return
	}
	f.slice.of = manifest
	f.fillSlice(resp, true)
}

// passSlice sends everybody to the origin for themselves: this part is not theirs.
func (f *fill) passSlice(resp *fetched, why string) {
	f.mu.Lock()
	f.gone = true
	f.mu.Unlock()
	if why == "" {
		why = "not-sliceable"
	}
	f.passOn(resp, why)
}

// writeManifest stores header and size of a body kept in slices. The fill can be
// joined by the slice that it brings before anybody can know of it.
func (f *fill) writeManifest(resp *fetched, size, number int64) (*response, error) {
	c := f.cache
	p := resp.settle(f.request.Route)
	p.fields = without(p.fields, "age")
	p.sliced, p.total, p.salt = true, size, newSalt()
	key := f.chooseKey(p)
	f.sliceKey = sliceKey(key, p, number)
	c.register(f, f.sliceKey)
	meta := f.meta(p, 0)
	writer, err := c.store.Create(c.store.Hasher().Key(key), meta)
	if err != nil {
		return nil, err
	}
	defer writer.Abort()
	lock := c.target(f.found.primary)
	lock.Lock()
	defer lock.Unlock()
	if f.outdated(&meta) {
		return nil, errPurged
	}
	stored, err := writer.Commit(meta)
	if err != nil {
		return nil, err
	}
	stored.Close()
	f.found.close()
	f.found.key = key
	c.stats.Sliced.Add(1)
	return p, nil
}

// judgeSlice takes a part of a body whose manifest is known.
func (f *fill) judgeSlice(resp *fetched) {
	manifest := f.slice.of
	value, _ := fieldValue(resp.fields, "content-range")
	at, size, ok := parseContentRange(value)
	tag, _ := fieldValue(resp.fields, "etag")
	whole := resp.received
	whole.status = http.StatusOK
	storing, _ := storable(f.asked(), &whole, f.request.Route, -1)
	switch {
	case resp.status == http.StatusPartialContent && ok && storing && size == manifest.total && at == f.slice.span() && tag == manifest.etag:
		f.fillSlice(resp, false)
	case serverError(resp.status):
		_ = resp.Body.Close() // an error's text is of no use in the middle of a body
		f.failWith(errors.New("cache: the origin answered " + strconv.Itoa(resp.status) + " to a part"))
	default:
		_ = resp.Body.Close() // it is part of another representation, or not for all
		f.cache.stats.SlicesVoid.Add(1)
		if err := f.cache.store.Remove(f.cache.store.Hasher().Key(f.found.key)); err != nil {
			f.cache.stats.StoreErrors.Add(1)
		}
		f.cache.forget(f)
		f.again(nil)
	}
}

// fillSlice streams a part into the store and to all who follow it. Where it is
// the first of its body, everybody is sent to the manifest and finds it there.
func (f *fill) fillSlice(resp *fetched, first bool) {
	c, part := f.cache, f.slice
	at := part.span()
	key := sliceKey(f.found.key, part.of, part.number)
	header := &response{status: http.StatusPartialContent, freshUntil: part.of.freshUntil}
	meta := f.meta(header, at.n)
	meta.KeepUntil, meta.Groups = endless, c.labels(f.request, part.of.fields)
	writer, err := c.store.Create(c.store.Hasher().Key(key), meta)
	if err != nil {
		_ = resp.Body.Close() // the store will not have it
		c.stats.StoreErrors.Add(1)
		f.failWith(err)
		return
	}
	f.writer, f.resp, f.length, f.verdict = writer, header, at.n, verdictFollow
	f.sliceKey = key
	if first {
		f.verdict = verdictAgain
	}
	f.mu.Lock()
	f.storing = true
	f.mu.Unlock()
	close(f.ready)
	err = f.copyBody(io.LimitReader(resp.Body, at.n))
	_ = resp.Body.Close() // of a whole response, the rest is asked for part by part
	if err == nil && f.written != at.n {
		err = io.ErrUnexpectedEOF
	}
	f.end(err, func() store.Meta { return meta }, nil)
}

// failWith ends a fill without a stored response that could stand in. Who comes once
// that is known asks again: it is a failure of those who waited alone.
func (f *fill) failWith(err error) {
	f.cache.forget(f)
	f.found.close()
	f.verdict, f.err = verdictFailed, err
	close(f.ready)
}

// rangeMiss fetches the slice that a range starts in; true: look again.
func (x *exchange) rangeMiss(fd found, first int64) bool {
	c := x.cache
	part := &slice{number: first / sliceBytes}
	key := sliceKey(fd.key, nil, part.number)
	if c.passMarked(key) {
		x.pass(fd.fwd, "hit-for-miss")
		return false
	}
	f, reader, at := c.join(x.r, fd, key, part, true)
	switch at {
	case placeAgain:
		return true
	case placeNone:
		x.pass(fd.fwd, "fills-refused")
		return false
	}
	defer reader.leave()
	leader := at == placeFirst
	x.r.Outcome = Outcome{Fwd: fd.fwd, Collapsed: !leader}
	x.await(f, leader)
	switch f.verdict {
	case verdictAgain:
		x.filled, x.filledStatus = fd.fwd, f.fwdStatus
		return true
	case verdictFollow:
		return x.join(f, reader, leader)
	case verdictFailed:
		x.failFetch(f.err)
		return false
	case verdictLive:
		if leader {
			f.abandon() // what came is no part: it is asked for as the client does
		}
	}
	x.pass(fd.fwd, f.detail)
	return false
}

// pieces sends a sliced body. The first slice is at hand before the header is
// written, so that a manifest that proves void costs no broken response.
type pieces struct {
	x        *exchange
	fd       *found
	manifest *response
	open     *follower     // of the slice at number, when it is being fetched
	stored   *store.Stored // of the slice at number, when it is stored
	number   int64
	fetched  bool // not everything was stored
	noFetch  bool // the request wants what is stored and no more
	lost     int  // slices that were stored and could not be read
}

// sendSliced answers from a body kept in slices; true: look again.
func (x *exchange) sendSliced(fd *found, now int64, detail string) bool {
	defer fd.close()
	p := fd.resp
	a := x.conds.answerParts(x.r.Method, p, p.total)
	in := &pieces{x: x, fd: fd, manifest: p, number: -1, noFetch: x.noStore() || x.onlyIfCached()}
	defer in.close()
	first := a.off
	if a.parts != nil {
		first = a.parts.spans[0].off
	}
	if a.n > 0 && x.r.Method != http.MethodHead {
		if err := in.seek(first / sliceBytes); err != nil {
			if errors.Is(err, errVoid) {
				return true
			}
			x.failFetch(err)
			return false
		}
	}
	o := Outcome{HasTTL: true, TTL: p.ttl(now), Detail: detail}
	switch {
	case x.filled != FwdNone:
		o.Fwd, o.Stored = x.filled, detail == ""
		if x.filledStatus != a.status {
			o.FwdStatus = x.filledStatus
		}
	case in.fetched:
		o.Fwd, o.Stored = FwdPartial, true
	default:
		o.Hit, o.Tier = true, in.tier()
	}
	x.r.Outcome = o
	x.writeAnswer(p, &a, now, false)
	x.sendParts(&a, in.send)
	return false
}

// complete says whether all that an answer from fd needs is stored.
func (x *exchange) complete(fd *found) bool {
	p := fd.resp
	if !p.sliced || x.r.Method == http.MethodHead {
		return true
	}
	a := x.conds.answerParts(x.r.Method, p, p.total)
	wanted := []span{{a.off, a.n}}
	if a.parts != nil {
		wanted = a.parts.spans
	}
	for _, s := range wanted {
		for number := s.off / sliceBytes; number*sliceBytes < s.off+s.n; number++ {
			stored := x.cache.open(sliceKey(fd.key, p, number))
			if stored == nil {
				return false
			}
			stored.Close()
		}
	}
	return true
}

var errPurged = errors.New("cache: the response was purged while it was fetched")

var errVoid = errors.New("cache: the stored parts are of another representation")

func (in *pieces) tier() string {
	if in.stored != nil {
		return in.stored.Tier()
	}
	return ""
}

func (in *pieces) close() {
	if in.open != nil {
		in.open.leave()
		in.open = nil
	}
	if in.stored != nil {
		in.stored.Close()
		in.stored = nil
	}
}

// seek makes a slice ready to be read: from the store, or by a fetch that others
// may share.
func (in *pieces) seek(number int64) error {
	if in.number == number {
		return nil
	}
	in.close()
	in.number = number
	x, c := in.x, in.x.cache
	key := sliceKey(in.fd.key, in.manifest, number)
	var f *fill
	at := placeAgain
	for range attemptsMax {
		if in.stored = c.open(key); in.stored != nil {
			return nil
		}
		if in.noFetch {
			return errVoid // it was there a moment ago
		}
		in.fetched = true
		fd := found{primary: in.fd.primary, key: in.fd.key, order: in.fd.order}
		if f, in.open, at = c.join(x.r, fd, key, &slice{number, in.manifest}, true); at != placeAgain {
			break
		}
	}
	if f == nil {
		return errors.New("cache: too many fetches are under way")
	}
	if err := f.await(x.hr.Context(), x.early); err != nil {
		return err
	}
	switch {
	case f.verdict == verdictFailed:
		return f.err
	case f.sliceKey != key:
		return errVoid
	}
	return nil
}

// ahead starts to fetch the slice after this one, so that a reader does not wait
// for the origin at every border.
func (in *pieces) ahead(end int64) {
	next := in.number + 1
	c := in.x.cache
	if next*sliceBytes >= end {
		return
	}
	key := sliceKey(in.fd.key, in.manifest, next)
	if c.filling(key) {
		return
	}
	if stored := c.open(key); stored != nil {
		stored.Close()
		return
	}
	fd := found{primary: in.fd.primary, key: in.fd.key, order: in.fd.order}
	if f, reader, _ := c.join(in.x.r, fd, key, &slice{next, in.manifest}, true); f != nil {
		reader.leave()
	}
}

// send writes body[off:off+n], slice by slice.
func (in *pieces) send(off, n int64) {
	for end := off + n; off < end; {
		if err := in.seek(off / sliceBytes); err != nil {
			panic(http.ErrAbortHandler) // the header has gone out: the client must see it
		}
		if in.fetched {
			in.ahead(end)
		}
		from := off % sliceBytes
		m := min(sliceBytes-from, end-off)
		switch {
		case in.stored == nil:
			in.open.advance(from - in.open.off)
			in.x.copyFrom(io.LimitReader(in.open.reader(in.x.hr.Context()), m))
		case in.stored.Bytes() != nil:
			in.x.writeAll(in.stored.Bytes()[from : from+m])
		default:
			m = in.sendStored(from, m)
		}
		off += m
	}
}

// sendStored sends a part of a stored slice and returns how much of it: what the
// disk has lost is forgotten, so that the next look fetches that slice alone.
func (in *pieces) sendStored(off, n int64) int64 {
	sent, err := in.x.copySome(io.NewSectionReader(in.stored, off, n))
	if err == nil {
		return n
	}
	c := in.x.cache
	c.stats.StoreErrors.Add(1)
	key := sliceKey(in.fd.key, in.manifest, in.number)
	if in.lost++; in.lost > attemptsMax || c.store.Remove(c.store.Hasher().Key(key)) != nil {
		panic(http.ErrAbortHandler)
	}
	in.close()
	in.number = -1
	return sent
}
