// Package unit holds the units that configuration files are written in and
// that more than one room reads. It knows nothing else.
package unit

import (
	"fmt"
	"strconv"
	"strings"
)

// Bytes is a number of bytes. In text it may carry a unit: B, kB, MB, GB, TB
// (powers of 1000) or KiB, MiB, GiB, TiB (powers of 1024), in any case.
type Bytes int64

// Powers of 1024.
const (
	KiB Bytes = 1 << 10
	MiB Bytes = 1 << 20
	GiB Bytes = 1 << 30
	TiB Bytes = 1 << 40
)

var suffixes = []struct {
	text string
	size Bytes
}{
	{"tib", TiB}, {"gib", GiB}, {"mib", MiB}, {"kib", KiB},
	{"tb", 1e12}, {"gb", 1e9}, {"mb", 1e6}, {"kb", 1e3}, {"b", 1},
}

// UnmarshalText parses text such as "64MiB", "1.5 GB" or "4096". Negative and
// overflowing values are errors.
func (b *Bytes) UnmarshalText(text []byte) error {
	s := strings.ToLower(strings.TrimSpace(string(text)))
	size := Bytes(1)
	for _, suffix := range suffixes {
		if rest, ok := strings.CutSuffix(s, suffix.text); ok {
			s, size = strings.TrimSpace(rest), suffix.size
			break
		}
	}
	if n, err := strconv.ParseInt(s, 10, 64); err == nil && n >= 0 && n <= int64(^uint64(0)>>1)/int64(size) {
		*b = Bytes(n) * size
		return nil
	}
	f, err := strconv.ParseFloat(s, 64)
	if err != nil || f < 0 || !(f*float64(size) < 1<<62) {
		return fmt.Errorf("%q is not a size: write a number with an optional unit, such as 64MiB or 10GB", text)
	}
	*b = Bytes(f * float64(size))
	return nil
}

// MarshalText writes the shortest exact form, so that a printed configuration
// reads as it was written.
func (b Bytes) MarshalText() ([]byte, error) { return []byte(b.String()), nil }

// String returns the shortest exact form: 1GiB, 1500MB, 4097B.
func (b Bytes) String() string {
	for _, suffix := range []struct {
		text string
		size Bytes
	}{{"TiB", TiB}, {"GiB", GiB}, {"MiB", MiB}, {"KiB", KiB}, {"MB", 1e6}, {"kB", 1e3}} {
		if b != 0 && b%suffix.size == 0 {
			return strconv.FormatInt(int64(b/suffix.size), 10) + suffix.text
		}
	}
	return strconv.FormatInt(int64(b), 10) + "B"
}
