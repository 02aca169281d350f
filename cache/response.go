package cache

// response.go holds what a stored response is to the judges, and its encoding:
// the opaque Header of a store.Meta.

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"edgecdn/cache/store"
)

// codecVersion is the first byte of an encoded header. A higher one than ours is
// refused, which makes the object a miss.
const codecVersion = 1

// Kinds of stored headers.
const (
	kindResponse = 1 // a response
	kindVary     = 2 // no body: names the request fields that select the response
	kindSliced   = 3 // no body: a response whose body is kept in slices
	kindSalted   = 4 // a response that has coded bodies or may get them
)

// Flags of an encoded response.
const (
	flagNoCache     = 1 << iota // validate before each use (RFC 9111 5.2.2.4)
	flagNeverStale              // must-revalidate, proxy-revalidate
	flagAuthorized              // may answer requests with Authorization (RFC 9111 3.5)
	flagHeuristic               // lifetime is heuristic (RFC 9111 4.2.2)
	flagNoTransform             // RFC 9111 5.2.2.6
	flagSMaxAge                 // no client's max-stale counts (RFC 9111 5.2.2.10)
)

var errEncoding = errors.New("cache: stored header is damaged or of an unknown version")

// response is a decoded stored header. Immutable once made, but for what is known
// of purges: freshening makes a new one. Instants and spans are in nanoseconds, instants since 1970.
//
// What a hit reads comes first, in three lines of the processor's cache, and is asked of
// memory at once.
type response struct {
	// varyBy and variants, of a vary marker: the request fields that select, and how many
	// variants have been stored under its salt.
	varyBy   []string
	variants uint16
	flags    uint8
	// sliced: the body of total bytes is kept in slices (slices.go).
	sliced bool
	// What negotiation asks: whether the body may be sent in another coding, the one
	// that it is stored in if we know it, and what is said of it then (weakETag).
	negotiable, addVary bool
	coded               accepted
	status              int
	// ageZero is the instant at which the response's Age was 0 (RFC 9111 4.2.3).
	ageZero int64
	// stale is, of one that is stored, atomic, the instant from which a soft purge makes
	// it stale; 0 if none.
	stale      int64
	freshUntil int64

	trailers []Field
	// blocks are the header of a whole answer as each protocol sends it, without
	// what differs from answer to answer; see Hit.Block.
	blocks [protos][]byte
	fields []Field // end to end, lower-case names, sorted by name
	// Windows after freshUntil in which a stale response may be used (RFC 5861).
	staleWhileRevalidate, staleIfError int64

	etag, weakETag string // as sent, W/ included; "" if none
	lastModified   int64  // seconds since 1970; 0 if none
	total          int64
	// salt is part of the keys of a marker's variants, of a body's slices, or of a
	// response's coded bodies (compress.go).
	salt string

	_ [32]byte // so that the allocator begins it with a line
}

// printsMax holds host, the labels of five segments and those of eight groups.
const printsMax = store.PrintsMax

func (p *response) has(flag uint8) bool { return p.flags&flag != 0 }

// age returns the current age in whole seconds (RFC 9111 4.2.3).
func (p *response) age(now int64) int64 { return max(0, now-p.ageZero) / 1e9 }

// ttl returns the seconds of freshness left, so that it and the age make up the
// lifetime; negative when stale.
func (p *response) ttl(now int64) int64 {
	d := p.freshTo() - now
	if d < 0 {
		return (d - (1e9 - 1)) / 1e9
	}
	return (d + 1e9 - 1) / 1e9
}

// field returns the first value of a field.
func (p *response) field(name string) (string, bool) { return fieldValue(p.fields, name) }

func fieldValue(fields []Field, name string) (string, bool) {
	for i := range fields {
		if fields[i].Name == name {
			return fields[i].Value, true
		}
	}
	return "", false
}

// encode writes the header record of a response or a vary marker.
func (p *response) encode() []byte {
	kind := byte(kindResponse)
	switch {
	case p.varyBy != nil:
		kind = kindVary
	case p.sliced:
		kind = kindSliced
	case p.salt != "":
		kind = kindSalted
	}
	b := append(make([]byte, 0, 512), codecVersion, kind)
	if kind == kindVary {
		b = appendString(b, p.salt)
		b = binary.AppendUvarint(b, uint64(p.variants))
		b = binary.AppendUvarint(b, uint64(len(p.varyBy)))
		for _, name := range p.varyBy {
			b = appendString(b, name)
		}
		return b
	}
	b = append(b, p.flags)
	for _, n := range []int64{int64(p.status), p.ageZero, p.freshUntil, p.staleWhileRevalidate, p.staleIfError} {
		b = binary.AppendVarint(b, n)
	}
	b = appendFields(b, p.fields)
	b = appendFields(b, p.trailers)
	if p.sliced {
		b = binary.AppendVarint(appendString(b, p.salt), p.total)
	} else if p.salt != "" {
		b = appendString(b, p.salt)
	}
	return b
}

func appendFields(b []byte, fields []Field) []byte {
	b = binary.AppendUvarint(b, uint64(len(fields)))
	for _, f := range fields {
		b = appendString(appendString(b, f.Name), f.Value)
	}
	return b
}

func appendString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// decode reads what encode wrote. It keeps nothing of b.
func decode(b []byte) (*response, error) {
	d := decoder{rest: string(b)}
	version, kind := d.byte(), d.byte()
	p := &response{}
	switch {
	case d.err == nil && version != codecVersion:
		return nil, fmt.Errorf("%w: version %d", errEncoding, version)
	case kind == kindVary:
		p.salt = d.string()
		p.variants = uint16(d.uvarint())
		p.varyBy = make([]string, 0, 4)
		for range d.count() {
			p.varyBy = append(p.varyBy, d.string())
		}
	case kind == kindResponse || kind == kindSliced || kind == kindSalted:
		p.flags = d.byte()
		p.status = int(d.varint())
		p.ageZero, p.freshUntil = d.varint(), d.varint()
		p.staleWhileRevalidate, p.staleIfError = d.varint(), d.varint()
		p.fields = d.fields()
		p.trailers = d.fields()
		if kind == kindSliced {
			p.sliced, p.salt, p.total = true, d.string(), d.varint()
		}
		if kind == kindSalted {
			p.salt = d.string()
		}
	default:
		d.err = errEncoding
	}
	if d.err == nil && d.rest != "" {
		d.err = errEncoding
	}
	if d.err != nil {
		return nil, d.err
	}
	p.index()
	return p, nil
}

// index fills in what is read out of the fields once and asked often.
func (p *response) index() {
	p.etag, _ = p.field("etag")
	if !validETag(p.etag) {
		p.etag = ""
	}
	if s, ok := p.field("last-modified"); ok {
		if t, ok := parseTime(s); ok {
			p.lastModified = t.Unix()
		}
	}
	p.indexCodings()
}

// decoder reads an encoded header and remembers the first error. Strings share
// one copy of the input.
type decoder struct {
	rest string
	err  error
}

func (d *decoder) fail() { d.err, d.rest = errEncoding, "" }

func (d *decoder) byte() byte {
	if d.rest == "" {
		d.fail()
		return 0
	}
	c := d.rest[0]
	d.rest = d.rest[1:]
	return c
}

func (d *decoder) uvarint() uint64 {
	n := uint64(0)
	for shift := 0; shift < 64; shift += 7 {
		c := d.byte()
		n |= uint64(c&0x7f) << shift
		if c < 0x80 {
			return n
		}
	}
	d.fail()
	return 0
}

func (d *decoder) varint() int64 {
	n := d.uvarint()
	return int64(n>>1) ^ -int64(n&1)
}

// count reads a number of things that take at least a byte each.
func (d *decoder) count() int {
	n := d.uvarint()
	if n > uint64(len(d.rest)) {
		d.fail()
		return 0
	}
	return int(n)
}

func (d *decoder) string() string {
	n := d.count()
	s := d.rest[:min(n, len(d.rest))]
	d.rest = d.rest[len(s):]
	return s
}

func (d *decoder) fields() []Field {
	n := d.count()
	if n == 0 {
		return nil
	}
	fields := make([]Field, 0, n/2+1)
	for range n {
		fields = append(fields, Field{d.string(), d.string()})
	}
	return fields
}

// An Encoder appends the start of a header section as one protocol sends it:
// status and fields.
type Encoder func(b []byte, status int, fields []Field) []byte

// Prepare decodes a stored header for lookups; it is the store's Config.Prepare
// where no engine wants its fields encoded beforehand.
func Prepare(m *store.Meta) (any, int64, error) { return prepare(m, [protos]Encoder{}) }

// Preparer is Prepare for engines that do: encoders are those of HTTP/1.1, HTTP/2
// and HTTP/3, nil for none.
func Preparer(encoders [protos]Encoder) func(*store.Meta) (any, int64, error) {
	return func(m *store.Meta) (any, int64, error) { return prepare(m, encoders) }
}

func prepare(m *store.Meta, encoders [protos]Encoder) (any, int64, error) {
	p, err := decode(m.Header)
	if err != nil {
		return nil, 0, err
	}
	const fieldSize, responseSize = 32, 320
	bytes := len(m.Header) + len(p.weakETag) + responseSize + fieldSize*(cap(p.fields)+len(p.trailers)+len(p.varyBy))
	return p, int64(bytes + p.encodeBlocks(m.Length, encoders)), nil
}

// encodeBlocks fills blocks in and returns their size.
func (p *response) encodeBlocks(length int64, encoders [protos]Encoder) (bytes int) {
	if p.varyBy != nil || p.sliced || p.trailers != nil {
		return 0 // no Hit
	}
	var fields []Field
	var all []byte
	var ends [protos]int
	for i, encode := range encoders {
		if encode == nil {
			continue
		}
		if fields == nil {
			fields = appendStored(make([]Field, 0, len(p.fields)+2), new(Request), p, &answer{status: p.status, n: length, size: length})
		}
		all = encode(all, p.status, fields)
		ends[i] = len(all)
	}
	all = append(make([]byte, 0, len(all)), all...)
	from := 0
	for i, end := range ends {
		if end > 0 {
			p.blocks[i] = all[from:end:end]
			from = end
		}
	}
	return len(all)
}

// validETag reports whether s is an entity-tag (RFC 9110 8.8.3).
func validETag(s string) bool {
	s = strings.TrimPrefix(s, "W/")
	if len(s) < 2 || s[0] != '"' || s[len(s)-1] != '"' {
		return false
	}
	for i := 1; i < len(s)-1; i++ {
		if s[i] == '"' || s[i] < 0x21 || s[i] == 0x7f {
			return false
		}
	}
	return true
}
