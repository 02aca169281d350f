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

var units = []struct {
	name string
	size Bytes
}{
	{"TiB", TiB}, {"GiB", GiB}, {"MiB", MiB}, {"KiB", KiB},
	{"TB", 1e12}, {"GB", 1e9}, {"MB", 1e6}, {"kB", 1e3}, {"B", 1},
}

// UnmarshalText parses text such as "64MiB", "1.5 GB" or "4096". Negative and
// overflowing values are errors.
func (b *Bytes) UnmarshalText(text []byte) error {
	s := strings.ToLower(strings.TrimSpace(string(text)))
	size := Bytes(1)
	for _, unit := range units {
		if rest, ok := strings.CutSuffix(s, strings.ToLower(unit.name)); ok {
			s, size = strings.TrimSpace(rest), unit.size
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
	text := strconv.FormatInt(int64(b), 10) + "B"
	for _, unit := range units {
		if b == 0 || b%unit.size != 0 {
			continue
		}
		if s := strconv.FormatInt(int64(b/unit.size), 10) + unit.name; len(s) < len(text) {
			text = s
		}
	}
	return text
}
