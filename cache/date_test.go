package cache

import (
	"testing"
	"time"
)

func TestParseTime(t *testing.T) {
	want := time.Date(2050, 8, 8, 2, 1, 18, 0, time.UTC)
	for _, s := range []string{
		"Mon, 08 Aug 2050 02:01:18 GMT", "MON, 08 AUG 2050 02:01:18 gmt", "mon, 08 aug 2050 02:01:18 Gmt",
		"Monday, 08-Aug-50 02:01:18 GMT", "MONDAY, 08-aug-50 02:01:18 gmt",
		"Mon Aug  8 02:01:18 2050", "mon aug 08 02:01:18 2050",
	} {
		if got, ok := parseTime(s); !ok || !got.Equal(want) || got.Location() != time.UTC {
			t.Errorf("%q: %v %v", s, got, ok)
		}
	}
	for _, s := range []string{
		"", "0", "-1", "GMT", " GMT", "now", "Mon", "2050-08-08T02:01:18Z", "2543536878",
		"Mon, 08 Aug 2050 02:01:18", "Mon, 08 Aug 2050 02:01:18 UTC", "Mon, 08 Aug 2050 02:01:18 AEST",
		"Mon, 08 Aug 2050 02:01:18 +0000", "Mon, 08 Aug 2050 02:01:18 GMT+1", "Monday, 08-Aug-50 02:01:18 EST",
		"Mon, 08 Aug 2050 2:01:18 GMT", "Mon, 8 Aug 2050 02:01:18 GMT", "Mon,  8 Aug 2050 02:01:18 GMT",
		"Mon, 08  Aug 2050 2:01:18 GMT", "Mon,  08 Aug 2050 02:01:18 GMT", "Mon 08 Aug 2050 02:01:18 GMT",
		"Mon, 08 Aug 50 02:01:18 GMT", "Mon, 08-Aug-2050 02:01:18 GMT", "Mon, 08 Aug 2050 02.01.18 GMT",
		"Mon, 08 Aug 2050 02:01:18.5 GMT", "Mon, 08 Aug 2050 02:01:18  GMT", "Mon, 08 Aug 2050 25:01:18 GMT",
		"Mon, 08 Aug 2050  2:01:18 GMT", "Mon, 31 Feb 2050 02:01:18 GMT", "Mon, 08 Aug 2050 02:01:18 GMT ", " Mon, 08 Aug 2050 02:01:18 GMT",
		"Mon Aug  8 2:01:18 2050", "Mon Aug  8 02:01:18 2050 GMT", "Mon Aug 8 02:01:18 2050", "Mon Aug 8 02:01:18  2050",
		"Xyz, 08 Aug 2050 02:01:18 GMT", "Mon, 08 Aug 2050 02:01:18 GMT, Mon, 08 Aug 2050 02:01:18 GMT",
	} {
		if got, ok := parseTime(s); ok {
			t.Errorf("%q: %v", s, got)
		}
	}
	if s := httpDate(want.In(time.FixedZone("x", 3600))); s != "Mon, 08 Aug 2050 02:01:18 GMT" {
		t.Error(s)
	}
}

func TestParseTimeAt(t *testing.T) {
	for _, tt := range []struct {
		date      string
		now, want int
	}{
		{"Monday, 08-Aug-50 02:01:18 GMT", 2026, 2050},
		{"Monday, 08-Aug-70 02:01:18 GMT", 2026, 2070},
		{"Monday, 08-Aug-76 02:01:18 GMT", 2026, 1976}, // a few months too far
		{"Monday, 08-Aug-75 02:01:18 GMT", 2026, 2075},
		{"Monday, 08-Aug-99 02:01:18 GMT", 2026, 1999},
		{"Monday, 08-Aug-60 02:01:18 GMT", 2000, 1960},
		{"Monday, 08-Aug-49 02:01:18 GMT", 2000, 2049},
		{"Mon, 08 Aug 2099 02:01:18 GMT", 2000, 2099},
		{"Mon Aug  8 02:01:18 2099", 2000, 2099},
	} {
		now := time.Date(tt.now, 1, 1, 0, 0, 0, 0, time.UTC)
		if got, ok := parseTimeAt(tt.date, now); !ok || got.Year() != tt.want {
			t.Errorf("%s in %d: %v", tt.date, tt.now, got)
		}
	}
	if _, ok := parseTimeAt("0", time.Now()); ok {
		t.Error("0 is a date")
	}
}

// What is taken for a date is one in exactly one form.
func FuzzParseTime(f *testing.F) {
	for _, s := range []string{"Mon, 08 Aug 2050 02:01:18 GMT", "Monday, 08-Aug-50 02:01:18 GMT", "Mon Aug  8 02:01:18 2050", "0"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, ok := parseTime(s)
		if !ok {
			return
		}
		if again, ok := parseTime(httpDate(got)); got.Year() > 0 && (!ok || !again.Equal(got)) {
			t.Errorf("%q is %v, which is %v again", s, got, again)
		}
		if len(s) < len(dateASCTime) || len(s) > len(dateRFC850)+len("sdayGMT ") {
			t.Errorf("%q is a date", s)
		}
	})
}
