package cache

// ranges.go reads Range (RFC 9110 14). One range is answered 206; several are
// answered with the whole, which RFC 9110 14.2 allows.

import (
	"strconv"
	"strings"
)

type rangeVerdict int

const (
	rangeNone rangeVerdict = iota // send the whole
	rangeOne
	rangeUnsatisfiable
)

// parseRange judges a Range value against a body of so many bytes.
func parseRange(value string, size int64) (off, n int64, v rangeVerdict) {
	spec, ok := cutBytesUnit(value)
	if !ok || strings.IndexByte(spec, ',') >= 0 {
		return 0, 0, rangeNone
	}
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

// startsAtZero says whether a Range asks for the body from its first byte on, so
// that filling the cache serves it without delay.
func startsAtZero(value string) bool {
	spec, ok := cutBytesUnit(value)
	return ok && strings.HasPrefix(strings.TrimLeft(spec, " \t"), "0-")
}

func contentRange(off, n, size int64) string {
	return "bytes " + strconv.FormatInt(off, 10) + "-" + strconv.FormatInt(off+n-1, 10) + "/" + strconv.FormatInt(size, 10)
}
