package route

import (
	"fmt"
	"slices"
	"strings"

	"edgecdn/internal/unit"
)

// Codings lists the content codings that the edge can make and undo
// (RFC 9110 8.4.1), in the order of the bits of Route.Codings.
var Codings = [...]string{"br", "gzip", "zstd"}

const (
	compressBytesMinDefault = 1 * unit.KiB
	compressTypesMax        = 100
)

// compressTypesDefault are the media types that shrink by much and that nobody
// sends encoded already: text, code, data, vector images and plain fonts.
var compressTypesDefault = []string{
	"text/*", "application/javascript", "application/x-javascript", "application/json", "application/ld+json",
	"application/manifest+json", "application/problem+json", "application/xml", "application/xhtml+xml",
	"application/rss+xml", "application/atom+xml", "application/wasm", "application/vnd.ms-fontobject",
	"image/svg+xml", "image/bmp", "image/x-icon", "font/ttf", "font/otf",
}

func (c *Compress) fillDefaults() {
	if c.Codings == nil {
		c.Codings = []string{"br", "zstd", "gzip"}
	}
	if c.Types == nil {
		c.Types = slices.Clone(compressTypesDefault)
	}
	if c.MinBytes == nil {
		c.MinBytes = new(compressBytesMinDefault)
	}
}

func (c *Compress) inherit(from *Compress) {
	if c.Codings == nil {
		c.Codings = from.Codings
	}
	if c.Types == nil {
		c.Types = from.Types
	}
	inherit(&c.MinBytes, from.MinBytes)
}

// compileCompress puts what was configured into r.
func (r *Route) compileCompress(c *Compress) {
	for i, name := range Codings {
		if slices.Contains(c.Codings, name) {
			r.Codings |= 1 << i
		}
	}
	r.compressTypes = compileTypes(c.Types)
	r.CompressBytesMin = int64(*c.MinBytes)
}

// Compressible says whether responses with this Content-Type are to be encoded.
// It holds for none where there is no coding to do it with.
func (r *Route) Compressible(contentType string) bool {
	return r.Codings != 0 && len(r.compressTypes) > 0 && hasType(r.compressTypes, contentType)
}

func validateCompress(at string, c *Compress, r reporter) {
	for k, name := range c.Codings {
		if !slices.Contains(Codings[:], name) {
			r.add(fmt.Sprintf("%s.codings[%d]", at, k), "%q is no coding that can be made here: write br, zstd or gzip", name)
		}
	}
	if len(c.Types) > compressTypesMax {
		r.add(at+".types", "%d types are too many: at most %d", len(c.Types), compressTypesMax)
		return
	}
	validateTypes(at, c.Types, r)
	if c.MinBytes != nil && *c.MinBytes < 0 {
		r.add(at+".min_bytes", "%v is impossible: write a size such as 1KiB", *c.MinBytes)
	}
}

// compileTypes returns media types in lower case, those ending in "/" for all of
// their kind.
func compileTypes(types []string) []string {
	out := make([]string, len(types))
	for i, mediaType := range types {
		out[i] = strings.ToLower(strings.TrimSuffix(mediaType, "*"))
	}
	return out
}

func validateTypes(at string, types []string, r reporter) {
	for k, mediaType := range types {
		major, minor, _ := strings.Cut(mediaType, "/")
		if !token(major) || strings.Contains(major, "*") || minor != "*" && !token(minor) {
			r.add(fmt.Sprintf("%s.types[%d]", at, k), "%q is not a media type: write one such as text/css or image/*, without parameters", mediaType)
		}
	}
}
