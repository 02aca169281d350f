package main

import (
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/dunglas/httpsfv"
)

// fetched is one fetch of `edge get` and what it was seen to do.
type fetched struct {
	mu                                           sync.Mutex // guards what trace notes
	connectStart, connectDone, tlsStart, tlsDone time.Time
	firstByte                                    time.Time
	reused                                       bool
	interim                                      []interim

	start, done time.Time
	response    *http.Response
	size        int64
}

// interim is a 1xx response.
type interim struct {
	code   int
	header http.Header
}

// explained are the fields that a cache reads or writes, in the order they are
// shown, with what they mean where that takes words.
var explained = []struct {
	name    string
	explain func([]string) []string
}{
	{"Cache-Status", explainCacheStatus},
	{"Age", explainAge},
	{"Cache-Control", nil},
	{"Cdn-Cache-Control", nil},
	{"Expires", nil},
	{"Etag", explainETag},
	{"Last-Modified", nil},
	{"Vary", explainVary},
	{"Content-Range", nil},
	{"Alt-Svc", explainAltSvc},
}

// report writes all that is known of the fetch.
func (f *fetched) report(w io.Writer) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, in := range f.interim {
		fmt.Fprintf(w, "%d %s\n", in.code, http.StatusText(in.code))
		writeFields(w, in.header)
		fmt.Fprint(w, "   ")
	}
	resp := f.response
	if resp == nil {
		fmt.Fprintln(w, "no response")
		return
	}
	fmt.Fprintf(w, "%s, %s, %s\n", strings.TrimSpace(resp.Status+" "), resp.Proto, bytesInWords(f.size))
	fmt.Fprintf(w, "   time: %s\n", f.times())
	for _, field := range explained {
		values := resp.Header.Values(field.name)
		if len(values) == 0 {
			continue
		}
		name := field.name
		if name == "Etag" {
			name = "ETag"
		}
		fmt.Fprintf(w, "   %s: %s\n", name, strings.Join(values, ", "))
		if field.explain != nil {
			for _, line := range field.explain(values) {
				fmt.Fprintf(w, "     %s\n", line)
			}
		}
	}
	if len(resp.Trailer) > 0 {
		fmt.Fprintln(w, "   trailers:")
		writeFields(w, resp.Trailer)
	}
}

func writeFields(w io.Writer, fields http.Header) {
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		for _, value := range fields[name] {
			fmt.Fprintf(w, "     %s: %s\n", name, value)
		}
	}
}

// times says where the time went: a connection, its handshake, the wait for the
// header, and all of it.
func (f *fetched) times() string {
	var parts []string
	span := func(what string, from, to time.Time) {
		if !from.IsZero() && !to.IsZero() {
			parts = append(parts, what+" "+milliseconds(to.Sub(from)))
		}
	}
	if f.reused {
		parts = append(parts, "connection reused")
	} else {
		span("connect", f.connectStart, f.connectDone)
		if f.response.ProtoMajor == 3 {
			span("QUIC and TLS", f.tlsStart, f.tlsDone)
		} else {
			span("TLS", f.tlsStart, f.tlsDone)
		}
	}
	span("first byte", f.start, f.firstByte)
	span("total", f.start, f.done)
	return strings.Join(parts, ", ")
}

func milliseconds(d time.Duration) string {
	return strconv.FormatFloat(d.Seconds()*1000, 'f', 1, 64) + " ms"
}

func bytesInWords(n int64) string {
	switch {
	case n < 1000:
		return strconv.FormatInt(n, 10) + " bytes"
	case n < 1_000_000:
		return strconv.FormatFloat(float64(n)/1e3, 'f', 1, 64) + " kB"
	}
	return strconv.FormatFloat(float64(n)/1e6, 'f', 1, 64) + " MB"
}

// forwards says in words why a cache forwarded a request (RFC 9211 2.2).
var forwards = map[string]string{
	"bypass":    "is told not to handle such requests and asked the origin",
	"method":    "cannot answer this method itself and asked the origin",
	"uri-miss":  "had nothing under this URL and asked the origin",
	"vary-miss": "had responses under this URL, but none for these request fields (Vary), and asked the origin",
	"miss":      "had nothing stored that fits this request and asked the origin",
	"request":   "had a fresh response, but the request wanted one from the origin",
	"stale":     "had a stale response and asked the origin",
	"partial":   "had only a part of the response and asked the origin for the rest",
}

// explainCacheStatus gives a line for each cache on the way, the one nearest to
// the origin first (RFC 9211 2).
func explainCacheStatus(values []string) []string {
	list, err := httpsfv.UnmarshalList(values)
	if err != nil {
		return []string{"not readable as RFC 9211 wants it: " + err.Error()}
	}
	var lines []string
	for _, member := range list {
		item, ok := member.(httpsfv.Item)
		if !ok {
			lines = append(lines, "a list where the name of a cache should be")
			continue
		}
		lines = append(lines, fmt.Sprintf("%v %s", item.Value, explainCache(item.Params)))
	}
	return lines
}

func explainCache(params *httpsfv.Params) string {
	var said []string
	say := func(text string) { said = append(said, text) }
	get := func(name string) any { value, _ := params.Get(name); return value }

	if get("hit") == true {
		say("answered from what it had stored")
	}
	if reason := get("fwd"); reason != nil {
		words, known := forwards[fmt.Sprint(reason)]
		if !known {
			words = fmt.Sprintf("asked the origin (%v)", reason)
		}
		say(words)
	}
	if status, ok := get("fwd-status").(int64); ok {
		if status == http.StatusNotModified {
			say("the origin said that the stored one is still good (304)")
		} else {
			say(fmt.Sprintf("the origin answered %d", status))
		}
	}
	if get("collapsed") == true {
		say("shared the answer to another's request that was already under way")
	}
	if get("stored") == true {
		say("stored the response for the next")
	}
	if ttl, ok := get("ttl").(int64); ok {
		switch {
		case ttl > 0:
			say("fresh for another " + secondsInWords(ttl))
		case ttl == 0:
			say("at the end of its freshness")
		default:
			say("stale for " + secondsInWords(-ttl))
		}
	}
	if key := get("key"); key != nil {
		say(fmt.Sprintf("cache key %q", key))
	}
	if detail := get("detail"); detail != nil {
		say(fmt.Sprintf("adds: %v", detail))
	}
	if len(said) == 0 {
		return "did not say what it did"
	}
	return strings.Join(said, "; ")
}

func explainAge(values []string) []string {
	seconds, err := strconv.ParseInt(values[0], 10, 64)
	if err != nil || seconds < 0 || len(values) > 1 {
		return []string{"not a number of seconds"}
	}
	return []string{"left the origin, or was last confirmed by it, " + secondsInWords(seconds) + " ago"}
}

func explainETag(values []string) []string {
	if strings.HasPrefix(values[0], "W/") {
		return []string{"weak validator: send it in If-None-Match to get 304 while nothing of substance changed"}
	}
	return []string{"validator: send it in If-None-Match to get 304 while nothing changed"}
}

func explainVary(values []string) []string {
	text := strings.Join(values, ", ")
	if strings.Contains(text, "*") {
		return []string{"depends on more than the request says: caches cannot reuse it"}
	}
	return []string{"one stored response for each value of these request fields: " + text}
}

// explainAltSvc reads Alt-Svc (RFC 7838 3) well enough to say where HTTP/3 is.
func explainAltSvc(values []string) []string {
	var lines []string
	for entry := range strings.SplitSeq(strings.Join(values, ","), ",") {
		alternative, params, _ := strings.Cut(strings.TrimSpace(entry), ";")
		protocol, authority, ok := strings.Cut(alternative, "=")
		if !ok {
			continue
		}
		where := strings.Trim(authority, `"`)
		if port, same := strings.CutPrefix(where, ":"); same {
			where = "this host, port " + port
		}
		line := protocol + " is served too, at " + where
		if protocol == "h3" {
			line = "HTTP/3 is served too, at " + where
		}
		for param := range strings.SplitSeq(params, ";") {
			if age, ok := strings.CutPrefix(strings.TrimSpace(param), "ma="); ok {
				if seconds, err := strconv.ParseInt(age, 10, 64); err == nil {
					line += "; good to know for " + secondsInWords(seconds)
				}
			}
		}
		lines = append(lines, line)
	}
	return lines
}

// secondsInWords rounds down to a unit of which there are at least two.
func secondsInWords(n int64) string {
	for _, unit := range []struct {
		seconds int64
		name    string
	}{{86400, "days"}, {3600, "hours"}, {60, "minutes"}} {
		if n >= 2*unit.seconds {
			return strconv.FormatInt(n/unit.seconds, 10) + " " + unit.name
		}
	}
	return strconv.FormatInt(n, 10) + " s"
}
