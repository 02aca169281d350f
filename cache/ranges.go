package cache

// ranges.go reads Range (RFC 9110 14) and writes multipart/byteranges.

import (
	"crypto/rand"
	"encoding/hex"
	"strconv"
	"strings"
)

type rangeVerdict int

const (
	rangeNone rangeVerdict = iota // send the whole
	rangeOne
	rangeUnsatisfiable
)

// rangesMax bounds the parts of one answer; a request for more gets the whole,
// and so does one for more bytes than there are (RFC 9110 14.2, 17.15).
const rangesMax = 16

// span is a part of a body.
type span struct{ off, n int64 }

// parseRanges judges a Range value with several ranges against a body of so many
// bytes. nil: send the whole.
func parseRanges(value string, size int64) (spans []span, v rangeVerdict) {
	spec, ok := cutBytesUnit(value)
	if !ok {
		return nil, rangeNone
	}
	total, seen := int64(0), 0
	for one := range strings.SplitSeq(spec, ",") {
		if one = strings.Trim(one, " \t"); one == "" {
			continue
		}
		if seen++; seen > rangesMax {
			return nil, rangeNone
		}
		off, n, verdict := parseSpec(one, size)
		switch verdict {
		case rangeNone:
			return nil, rangeNone // one that is malformed spoils all
		case rangeOne:
			spans = append(spans, span{off, n})
			total += n
		}
	}
	switch {
	case seen == 0 || total > size:
		return nil, rangeNone
	case len(spans) == 0:
		return nil, rangeUnsatisfiable
	}
	return spans, rangeOne
}

// parseRange judges a Range value with one range against a body of so many bytes.
func parseRange(value string, size int64) (off, n int64, v rangeVerdict) {
	spec, ok := cutBytesUnit(value)
	if !ok {
		return 0, 0, rangeNone
	}
	return parseSpec(spec, size)
}

func parseSpec(spec string, size int64) (off, n int64, v rangeVerdict) {
	first, last, ok := strings.Cut(strings.Trim(spec, " \t"), "-")
	if !ok {
		return 0, 0, rangeNone
	}
	if first == "" { // the last n bytes
		n, ok := position(last)
		switch {
		case !ok:
			return 0, 0, rangeNone
		case n == 0 || size == 0:
			return 0, 0, rangeUnsatisfiable
		}
		n = min(n, size)
		return size - n, n, rangeOne
	}
	from, ok := position(first)
	if !ok {
		return 0, 0, rangeNone
	}
	to := size - 1
	if last != "" {
		if to, ok = position(last); !ok || to < from {
			return 0, 0, rangeNone
		}
	}
	if from >= size {
		return 0, 0, rangeUnsatisfiable
	}
	to = min(to, size-1)
	return from, to - from + 1, rangeOne
}

func cutBytesUnit(value string) (string, bool) {
	const unit = "bytes="
	if len(value) < len(unit) || !strings.EqualFold(value[:len(unit)], unit) {
		return "", false
	}
	return value[len(unit):], true
}

// position reads digits only; what overflows is as large as can be.
func position(s string) (int64, bool) {
	if s == "" {
		return 0, false
	}
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return 0, false
		}
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return 1<<63 - 1, true
	}
	return n, true
}

// firstByte returns where the single range of a value starts; false for a suffix,
// several ranges, or what is no range of bytes.
func firstByte(value string) (int64, bool) {
	spec, ok := cutBytesUnit(value)
	if !ok || strings.IndexByte(spec, ',') >= 0 {
		return 0, false
	}
	first, _, ok := strings.Cut(strings.Trim(spec, " \t"), "-")
	if !ok {
		return 0, false
	}
	return position(first)
}

// startOf returns where the first range of a value starts, as far as that can be told
// without the size of the body: 0 for a suffix. false for what is no range of bytes.
func startOf(value string) (int64, bool) {
	spec, ok := cutBytesUnit(value)
	if !ok {
		return 0, false
	}
	first, last, ok := strings.Cut(firstOfList(spec), "-")
	if ok && first == "" {
		_, ok = position(last)
		return 0, ok
	}
	if !ok {
		return 0, false
	}
	return position(first)
}

// wantsAll says whether a Range asks for the whole body, from its first byte on.
func wantsAll(value string) bool {
	spec, ok := cutBytesUnit(value)
	return ok && strings.Trim(spec, " \t") == "0-"
}

// parseContentRange reads "bytes first-last/size" (RFC 9110 14.4).
func parseContentRange(value string) (at span, size int64, ok bool) {
	const unit = "bytes "
	if len(value) < len(unit) || !strings.EqualFold(value[:len(unit)], unit) {
		return span{}, 0, false
	}
	spec, whole, ok := strings.Cut(value[len(unit):], "/")
	first, last, ok2 := strings.Cut(spec, "-")
	from, ok3 := position(first)
	to, ok4 := position(last)
	size, ok5 := position(whole)
	if !(ok && ok2 && ok3 && ok4 && ok5) || from > to || to >= size {
		return span{}, 0, false
	}
	return span{from, to - from + 1}, size, true
}

// byteRanges is an answer with several ranges (RFC 9110 14.6).
type byteRanges struct {
	boundary string
	spans    []span
	heads    []string // of each part, and the end
	length   int64
}

func newByteRanges(spans []span, contentType string, size int64) *byteRanges {
	random := make([]byte, 12)
	_, _ = rand.Read(random) // never fails
	m := &byteRanges{boundary: hex.EncodeToString(random), spans: spans}
	for _, s := range spans {
		head := "\r\n--" + m.boundary + "\r\n"
		if contentType != "" {
			head += "Content-Type: " + contentType + "\r\n"
		}
		head += "Content-Range: " + contentRange(s.off, s.n, size) + "\r\n\r\n"
		m.heads = append(m.heads, head)
		m.length += int64(len(head)) + s.n
	}
	end := "\r\n--" + m.boundary + "--\r\n"
	m.heads = append(m.heads, end)
	m.length += int64(len(end))
	return m
}

func contentRange(off, n, size int64) string {
	return string(appendContentRange(nil, off, n, size))
}

func appendContentRange(b []byte, off, n, size int64) []byte {
	b = strconv.AppendInt(append(b, "bytes "...), off, 10)
	b = strconv.AppendInt(append(b, '-'), off+n-1, 10)
	return strconv.AppendInt(append(b, '/'), size, 10)
}
