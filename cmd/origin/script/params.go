package script

import (
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/http/httpguts"

	"edgecdn/internal/unit"
)

// Bounds of what a URL may ask for, beside sizeMax.
const (
	delayMax  = 10 * time.Minute
	chunksMax = 100_000
	fieldsMax = 200 // of each kind: header, trailer, early
)

// params reads the parameters of a request's query; the first that cannot be
// used is kept in err.
type params struct {
	values url.Values
	err    error
}

func newParams(r *http.Request) *params {
	values, err := url.ParseQuery(r.URL.RawQuery)
	return &params{values, err}
}

func (p *params) fail(name, problem string) {
	if p.err == nil {
		p.err = fmt.Errorf("parameter %s=%s: %s", name, p.values.Get(name), problem)
	}
}

// ok answers 400 when a parameter was of no use.
func (p *params) ok(w http.ResponseWriter) bool {
	if p.err != nil {
		http.Error(w, p.err.Error(), http.StatusBadRequest)
	}
	return p.err == nil
}

func (p *params) text(name string) string { return p.values.Get(name) }

// flag is true for "name", "name=1" and "name=true".
func (p *params) flag(name string) bool {
	switch value := p.values.Get(name); value {
	case "":
		return p.values.Has(name)
	case "1", "true":
		return true
	case "0", "false":
	default:
		p.fail(name, "write 1 or 0")
	}
	return false
}

func (p *params) number(name string, otherwise, low, high int) int {
	if !p.values.Has(name) {
		return otherwise
	}
	n, err := strconv.Atoi(p.values.Get(name))
	if err != nil || n < low || n > high {
		p.fail(name, fmt.Sprintf("write a number from %d to %d", low, high))
	}
	return n
}

// size reads a number of bytes, with or without a unit.
func (p *params) size(name string, otherwise int64) int64 {
	if !p.values.Has(name) {
		return otherwise
	}
	var size unit.Bytes
	if err := size.UnmarshalText([]byte(p.values.Get(name))); err != nil || size > sizeMax {
		p.fail(name, "write a size such as 10000 or 10MiB, at most 64GiB")
	}
	return int64(size)
}

func (p *params) delay(name string, otherwise time.Duration) time.Duration {
	if !p.values.Has(name) {
		return otherwise
	}
	d, err := time.ParseDuration(p.values.Get(name))
	if err != nil || d < 0 || d > delayMax {
		p.fail(name, "write a duration such as 100ms or 2s, at most 10m")
	}
	return d
}

// fields reads header field lines such as "Cache-Control:max-age=60".
func (p *params) fields(name string) []field {
	lines := p.values[name]
	if len(lines) > fieldsMax {
		p.fail(name, fmt.Sprintf("at most %d", fieldsMax))
		return nil
	}
	var fields []field
	for _, line := range lines {
		key, value, ok := strings.Cut(line, ":")
		value = strings.Trim(value, " \t")
		if !ok || !httpguts.ValidHeaderFieldName(key) || !httpguts.ValidHeaderFieldValue(value) {
			p.fail(name, fmt.Sprintf("%q is no field: write Name:value", line))
			return nil
		}
		fields = append(fields, field{key, value})
	}
	return fields
}

type field struct{ name, value string }

// numbers is a set such as "2", "1-3,7" or "4-".
func (p *params) numbers(name string) func(n int64) bool {
	type span struct{ first, last int64 }
	var spans []span
	for part := range strings.SplitSeq(p.values.Get(name), ",") {
		if part == "" {
			continue
		}
		low, high, isRange := strings.Cut(part, "-")
		first, err := strconv.ParseInt(low, 10, 64)
		last := first
		if isRange && high == "" {
			last = 1<<63 - 1
		} else if isRange && err == nil {
			last, err = strconv.ParseInt(high, 10, 64)
		}
		if err != nil || len(spans) == fieldsMax {
			p.fail(name, "write numbers and ranges such as 2 or 1-3,7 or 4-")
			break
		}
		spans = append(spans, span{first, last})
	}
	return func(n int64) bool {
		for _, s := range spans {
			if s.first <= n && n <= s.last {
				return true
			}
		}
		return false
	}
}
