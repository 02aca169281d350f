package origin

// directory.go is an origin that is a directory on this machine. Nothing outside of
// it can be reached: paths are resolved by os.Root, which follows symbolic links only
// where they stay inside.

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path"
	"strconv"
	"strings"
	"syscall"
	"time"
)

type directory struct {
	cfg   Config
	stats *Stats
}

// newDirectory returns an origin for the directory, which must be there.
func newDirectory(cfg Config, stats *Stats) (*directory, error) {
	root, err := os.OpenRoot(cfg.Directory)
	if err != nil {
		return nil, fmt.Errorf("directory: %w", err)
	}
	_ = root.Close() // read only
	return &directory{cfg: cfg, stats: stats}, nil
}

// visit is a request in the directory as it is now: another may be put in its place
// while the node runs.
type visit struct {
	*directory
	root *os.Root
}

// roundTrip answers r from the directory.
func (d *directory) roundTrip(r *http.Request, target string) (*http.Response, error) {
	start := time.Now()
	d.stats.Requests.Add(1)
	closeBody(r)
	if err := checkTarget(target); err != nil {
		return nil, d.count(err)
	}
	root, err := os.OpenRoot(d.cfg.Directory)
	if err != nil {
		return nil, d.count(&Error{Kind: KindInternal, Err: err})
	}
	defer func() { _ = root.Close() }() // read only; open files stay
	resp, err := visit{d, root}.answer(r, target, start)
	if err != nil {
		return nil, d.count(&Error{Kind: KindInternal, Err: err})
	}
	d.stats.HeaderTime.observe(time.Since(start))
	return resp, nil
}

func (d *directory) count(err error) error {
	var e *Error
	if errors.As(err, &e) {
		d.stats.Errors[e.Kind.index()].Add(1)
	}
	return err
}

// answer finds the file and what is wanted of it.
func (d visit) answer(r *http.Request, target string, now time.Time) (*http.Response, error) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		resp := d.plain(r, http.StatusMethodNotAllowed)
		resp.Header.Set("Allow", "GET, HEAD")
		return resp, nil
	}
	raw, query, hasQuery := strings.Cut(target, "?")
	name, ok := d.name(raw)
	if !ok {
		return d.plain(r, http.StatusNotFound), nil
	}
	f, info, err := d.open(name)
	if err == nil && info.IsDir() {
		_ = f.Close() // read only
		if !strings.HasSuffix(raw, "/") {
			if hasQuery {
				query = "?" + query
			}
			resp := d.plain(r, http.StatusMovedPermanently)
			resp.Header.Set("Location", raw+"/"+query) // a path: name refuses "//" at its start
			return resp, nil
		}
		name = path.Join(name, d.cfg.Index)
		f, info, err = d.open(name)
	} else if err == nil && strings.HasSuffix(raw, "/") {
		_ = f.Close() // read only
		err = fs.ErrNotExist
	}
	switch {
	case err == nil && !info.Mode().IsRegular():
		_ = f.Close() // read only
		return d.plain(r, http.StatusNotFound), nil
	case errors.Is(err, fs.ErrPermission):
		return d.plain(r, http.StatusForbidden), nil
	case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE), errors.Is(err, syscall.EIO):
		return nil, err
	case err != nil: // not there, outside, a name that is too long, a file for a directory
		return d.plain(r, http.StatusNotFound), nil
	}
	return d.serve(r, name, f, info, now), nil
}

// open opens what may be a file, without waiting for the other end of a pipe.
func (d visit) open(name string) (*os.File, fs.FileInfo, error) {
	f, err := d.root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, nil, err
	}
	info, err := f.Stat()
	if err != nil {
		_ = f.Close() // the error that is returned says more
		return nil, nil, err
	}
	return f, info, nil
}

// name returns the file that a path is of. There is one path for each file: no empty
// segments, no dots to resolve, no encoded slashes. Names that begin with a dot are
// nobody's business unless the configuration says so, but for .well-known (RFC 8615).
func (d *directory) name(raw string) (string, bool) {
	decoded, err := url.PathUnescape(raw)
	if err != nil || !strings.HasPrefix(decoded, "/") || strings.Count(decoded, "/") != strings.Count(raw, "/") ||
		strings.ContainsAny(decoded, "\x00\\") {
		return "", false
	}
	trimmed := strings.TrimSuffix(decoded[1:], "/")
	if trimmed == "" {
		return ".", decoded == "/"
	}
	for segment := range strings.SplitSeq(trimmed, "/") {
		if segment == "" || segment == "." || segment == ".." ||
			segment[0] == '.' && segment != ".well-known" && !d.cfg.Dotfiles {
			return "", false
		}
	}
	return trimmed, true
}

// serve answers with a file, or with its smaller sibling.
func (d visit) serve(r *http.Request, name string, f *os.File, info fs.FileInfo, now time.Time) *http.Response {
	h := http.Header{"Content-Type": {mediaType(name)}, "Accept-Ranges": {"bytes"}}
	if d.cfg.CacheControl != "" {
		h["Cache-Control"] = []string{d.cfg.CacheControl}
	}
	if smaller, coding, varies := d.sibling(name, r.Header["Accept-Encoding"]); varies {
		h["Vary"] = []string{"Accept-Encoding"}
		if smaller != nil {
			_ = f.Close() // read only
			f, info = smaller.file, smaller.info
			h["Content-Encoding"] = []string{coding}
		}
	}
	tag := entityTag(info, now)
	h["Etag"] = []string{tag}
	modified := info.ModTime().UTC().Truncate(time.Second)
	if !modified.After(now) && modified.Unix() > 0 {
		h["Last-Modified"] = []string{modified.Format(http.TimeFormat)}
	}
	status, off, n := choose(r, tag, modified, info.Size())
	resp := d.response(r, status, h)
	switch status {
	case http.StatusPartialContent:
		h["Content-Range"] = []string{fmt.Sprintf("bytes %d-%d/%d", off, off+n-1, info.Size())}
	case http.StatusRequestedRangeNotSatisfiable:
		h["Content-Range"] = []string{fmt.Sprintf("bytes */%d", info.Size())}
	}
	if status != http.StatusNotModified {
		resp.ContentLength = n
		h["Content-Length"] = []string{strconv.FormatInt(n, 10)}
	}
	if r.Method == http.MethodHead || n == 0 {
		_ = f.Close() // read only
		return resp
	}
	d.stats.Active.Add(1)
	resp.Body = &fileBody{SectionReader: io.NewSectionReader(f, off, n), file: f, info: info, dir: d.directory}
	return resp
}

type sibling struct {
	file *os.File
	info fs.FileInfo
}

// siblings are the codings that files may be there in beside the plain ones, the
// smaller first.
var siblings = []struct{ coding, suffix string }{{"br", ".br"}, {"zstd", ".zst"}, {"gzip", ".gz"}}

// sibling opens the file that was compressed beforehand in the coding that the client
// likes best. varies: there are some.
func (d visit) sibling(name string, accept []string) (best *sibling, coding string, varies bool) {
	most := 0.0
	for _, s := range siblings {
		info, err := d.root.Stat(name + s.suffix)
		if err != nil || !info.Mode().IsRegular() {
			continue
		}
		varies = true
		weight := codingWeight(accept, s.coding)
		if weight <= most {
			continue
		}
		f, info, err := d.open(name + s.suffix)
		if err != nil || !info.Mode().IsRegular() {
			continue
		}
		if best != nil {
			_ = best.file.Close() // read only
		}
		best, coding, most = &sibling{f, info}, s.coding, weight
	}
	return best, coding, varies
}

// codingWeight is what Accept-Encoding gives a coding, 0 for none (RFC 9110 12.5.3).
func codingWeight(accept []string, coding string) (weight float64) {
	for _, line := range accept {
		for member := range strings.SplitSeq(line, ",") {
			name, parameter, _ := strings.Cut(member, ";")
			name = strings.ToLower(strings.TrimSpace(name))
			if name != coding && name != "*" || name == "*" && weight != 0 {
				continue
			}
			q := 1.0
			if value, ok := strings.CutPrefix(strings.ToLower(strings.TrimSpace(parameter)), "q="); ok {
				var err error
				if q, err = strconv.ParseFloat(value, 64); err != nil || !(q >= 0 && q <= 1) {
					q = 0
				}
			}
			if name == coding {
				return q
			}
			weight = q
		}
	}
	return weight
}

// entityTag is strong: size, time of change to the nanosecond and file say which
// bytes it is. In the first second that does not hold, as a file may be written twice
// between two ticks of its clock.
func entityTag(info fs.FileInfo, now time.Time) string {
	inode := uint64(0)
	if sys, ok := info.Sys().(*syscall.Stat_t); ok {
		inode = sys.Ino
	}
	tag := fmt.Sprintf(`"%x-%x-%x"`, info.Size(), info.ModTime().UnixNano(), inode)
	if now.Sub(info.ModTime()) < time.Second {
		return "W/" + tag
	}
	return tag
}

// fileBody is (a part of) a file. One that changes while it is read breaks off, so
// that nobody keeps halves of two.
type fileBody struct {
	*io.SectionReader
	file   *os.File
	info   fs.FileInfo
	dir    *directory
	closed bool
}

// Read implements io.Reader.
func (b *fileBody) Read(p []byte) (int, error) {
	n, err := b.SectionReader.Read(p)
	left := b.SectionReader.Size()
	at, _ := b.SectionReader.Seek(0, io.SeekCurrent)
	switch {
	case err == io.EOF && at < left:
		return n, b.dir.count(errorf(KindResponseIncomplete, "the file became shorter while it was read"))
	case err == io.EOF || err == nil && at == left:
		info, failed := b.file.Stat()
		if failed != nil || info.Size() != b.info.Size() || !info.ModTime().Equal(b.info.ModTime()) {
			return n, b.dir.count(errorf(KindResponseIncomplete, "the file changed while it was read"))
		}
		return n, io.EOF
	case err != nil:
		return n, b.dir.count(&Error{Kind: KindInternal, Err: err})
	}
	return n, nil
}

// Close implements io.Closer.
func (b *fileBody) Close() error {
	if b.closed {
		return nil
	}
	b.closed = true
	b.dir.stats.Active.Add(-1)
	return b.file.Close()
}

func (d *directory) response(r *http.Request, status int, h http.Header) *http.Response {
	return &http.Response{
		StatusCode: status, Status: http.StatusText(status), Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: h, Body: http.NoBody, Request: r,
	}
}

// plain answers with a status and its name.
func (d *directory) plain(r *http.Request, status int) *http.Response {
	text := strconv.Itoa(status) + " " + http.StatusText(status) + "\n"
	resp := d.response(r, status, http.Header{
		"Content-Type": {"text/plain; charset=utf-8"}, "Content-Length": {strconv.Itoa(len(text))},
	})
	resp.ContentLength = int64(len(text))
	if r.Method != http.MethodHead {
		resp.Body = io.NopCloser(strings.NewReader(text))
	}
	return resp
}

// mediaType tells a file's by its name, from a table of ours: what the system's says
// is another on each machine.
func mediaType(name string) string {
	return cmp.Or(mediaTypes[strings.ToLower(path.Ext(name))], "application/octet-stream")
}

var mediaTypes = map[string]string{
	".html": "text/html; charset=utf-8", ".htm": "text/html; charset=utf-8", ".xhtml": "application/xhtml+xml",
	".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".mjs": "text/javascript; charset=utf-8",
	".json": "application/json", ".map": "application/json", ".jsonld": "application/ld+json", ".geojson": "application/geo+json",
	".webmanifest": "application/manifest+json", ".wasm": "application/wasm", ".xml": "text/xml; charset=utf-8",
	".rss": "application/rss+xml", ".atom": "application/atom+xml", ".txt": "text/plain; charset=utf-8",
	".md": "text/markdown; charset=utf-8", ".csv": "text/csv; charset=utf-8", ".vtt": "text/vtt; charset=utf-8",
	".ics": "text/calendar; charset=utf-8", ".svg": "image/svg+xml", ".png": "image/png", ".apng": "image/apng", ".jpg": "image/jpeg",
	".jpeg": "image/jpeg", ".gif": "image/gif", ".webp": "image/webp", ".avif": "image/avif", ".jxl": "image/jxl",
	".ico": "image/vnd.microsoft.icon", ".bmp": "image/bmp", ".tif": "image/tiff", ".tiff": "image/tiff",
	".woff": "font/woff", ".woff2": "font/woff2", ".ttf": "font/ttf", ".otf": "font/otf",
	".mp4": "video/mp4", ".m4v": "video/mp4", ".webm": "video/webm", ".ogv": "video/ogg", ".mov": "video/quicktime", ".ts": "video/mp2t",
	".m4s": "video/iso.segment", ".m3u8": "application/vnd.apple.mpegurl", ".mpd": "application/dash+xml",
	".mp3": "audio/mpeg", ".m4a": "audio/mp4", ".aac": "audio/aac", ".ogg": "audio/ogg", ".opus": "audio/ogg", ".flac": "audio/flac", ".wav": "audio/wav",
	".pdf": "application/pdf", ".zip": "application/zip", ".gz": "application/gzip", ".tar": "application/x-tar", ".zst": "application/zstd",
}
