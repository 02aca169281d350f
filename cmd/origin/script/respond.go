package script

import (
	"compress/gzip"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// answer is what the parameters of /_origin/respond describe.
type answer struct {
	status      int
	fields      []field
	early       []field
	earlyStatus int
	delay       time.Duration
	chunkDelay  time.Duration
	chunks      int
	size        int64
	body        io.Reader
	text        string // in front of body
	truncate    int64  // bytes after which the connection is cut; -1: never
	reset       bool   // cut with RST
	chunked     bool
	ranges      bool
	trailers    []field
	etag        string
}

// respond answers as its parameters say.
func (s *Script) respond(w http.ResponseWriter, r *http.Request) {
	p := newParams(r)
	fails := p.numbers("fail")
	a := answer{
		status:      p.number("status", 200, 200, 599),
		fields:      p.fields("header"),
		early:       p.fields("early"),
		earlyStatus: p.number("early_status", http.StatusEarlyHints, 102, 199),
		delay:       p.delay("delay", 0),
		chunkDelay:  p.delay("chunk_delay", 0),
		chunks:      p.number("chunks", 1, 1, chunksMax),
		size:        p.size("size", 0),
		truncate:    p.size("truncate", -1),
		reset:       p.flag("rst"),
		chunked:     p.flag("chunked"),
		ranges:      p.flag("ranges"),
		trailers:    p.fields("trailer"),
		etag:        p.text("etag"),
		text:        p.text("body"),
	}
	for _, name := range p.values["echo"] {
		a.text += fmt.Sprintf("%s: %s\n", name, strings.Join(r.Header.Values(name), ", "))
	}
	zipped := p.flag("gzip")
	failStatus := p.number("fail_status", http.StatusServiceUnavailable, 200, 599)
	if !p.ok(w) {
		return
	}
	count := s.targets.add(r.RequestURI)
	w.Header().Set("X-Origin-Count", strconv.FormatInt(count, 10))
	if fails(count) {
		a.status, a.etag, a.ranges = failStatus, "", false
	}
	if zipped {
		a.text = inGzip(a.text)
		w.Header().Set("Content-Encoding", "gzip")
	}
	a.size += int64(len(a.text))
	a.body = &pattern{size: a.size - int64(len(a.text))}
	a.send(w, r)
}

func inGzip(text string) string {
	var b strings.Builder
	z := gzip.NewWriter(&b)
	_, _ = io.WriteString(z, text) // a Builder takes all
	_ = z.Close()
	return b.String()
}

func (a *answer) send(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	if len(a.early) > 0 {
		for _, f := range a.early {
			h.Add(f.name, f.value)
		}
		w.WriteHeader(a.earlyStatus)
		for _, f := range a.early {
			h.Del(f.name)
		}
	}
	if !wait(r, a.delay) {
		return
	}
	h.Set("Content-Type", "text/plain; charset=utf-8")
	if a.text == "" {
		h.Set("Content-Type", "application/octet-stream")
	}
	if a.etag != "" {
		h.Set("ETag", a.etag)
	}
	own := map[string]bool{}
	for _, f := range a.fields {
		if key := http.CanonicalHeaderKey(f.name); !own[key] {
			own[key] = true
			h.Del(key) // what the URL names replaces what we would have sent
		}
		h.Add(f.name, f.value)
	}
	switch {
	case a.ranges && a.status == 200:
		http.ServeContent(w, r, "", time.Time{}, &pattern{size: a.size})
	case matches(r, h.Get("ETag")) && a.status == 200:
		w.WriteHeader(http.StatusNotModified)
	default:
		a.sendBody(w, r)
	}
}

// matches says whether If-None-Match holds a validator (weak comparison,
// RFC 9110 13.1.2).
func matches(r *http.Request, etag string) bool {
	if etag == "" || r.Method != http.MethodGet && r.Method != http.MethodHead {
		return false
	}
	for _, line := range r.Header.Values("If-None-Match") {
		for candidate := range strings.SplitSeq(line, ",") {
			candidate = strings.TrimSpace(candidate)
			if candidate == "*" || strings.TrimPrefix(candidate, "W/") == strings.TrimPrefix(etag, "W/") {
				return true
			}
		}
	}
	return false
}

func (a *answer) sendBody(w http.ResponseWriter, r *http.Request) {
	if a.status == http.StatusNoContent || a.status == http.StatusNotModified {
		w.WriteHeader(a.status)
		return
	}
	h := w.Header()
	for _, f := range a.trailers {
		h.Add("Trailer", f.name)
	}
	if !a.chunked && len(a.trailers) == 0 {
		h.Set("Content-Length", strconv.FormatInt(a.size, 10))
	}
	w.WriteHeader(a.status)
	flush := http.NewResponseController(w).Flush
	if flush() != nil || r.Method == http.MethodHead {
		return
	}
	rest := a.size
	if a.truncate >= 0 {
		rest = min(rest, a.truncate)
	}
	body := io.LimitReader(io.MultiReader(strings.NewReader(a.text), a.body), rest)
	piece := (a.size + int64(a.chunks) - 1) / int64(a.chunks)
	for sent := int64(0); sent < rest; {
		if sent > 0 && !wait(r, a.chunkDelay) {
			return
		}
		n, err := io.CopyN(w, body, min(piece, rest-sent))
		if err != nil || flush() != nil {
			return
		}
		sent += n
	}
	if a.truncate >= 0 {
		cut(w, a.reset)
	}
	for _, f := range a.trailers {
		h.Add(f.name, f.value)
	}
}

// cut ends the response so that the client sees it broken: the connection is
// closed, or reset, over HTTP/1.1; the stream is reset over HTTP/2.
func cut(w http.ResponseWriter, reset bool) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	if reset {
		linger(conn)
	}
	conn.Close()
	panic(http.ErrAbortHandler)
}

// linger makes Close of a connection send RST instead of FIN.
func linger(conn net.Conn) {
	if outer, ok := conn.(interface{ NetConn() net.Conn }); ok {
		conn = outer.NetConn()
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		tcp.SetLinger(0)
	}
}
