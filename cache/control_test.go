package cache

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func empty() control { return parseControl(nil, "cache-control") }

func TestParseControl(t *testing.T) {
	with := func(change func(*control)) control {
		c := empty()
		change(&c)
		return c
	}
	for _, tt := range []struct {
		name string
		in   []string
		want control
	}{
		{"none", nil, empty()},
		{"empty", []string{"", " , ,"}, empty()},
		{"plain", []string{"max-age=60, public"}, with(func(c *control) { c.maxAge, c.public = time.Minute, true })},
		{"case and space", []string{"\tMAX-AGE=60 ,\tNo-Store"}, with(func(c *control) { c.maxAge, c.noStore = time.Minute, true })},
		{"several lines", []string{"s-maxage=1", "max-age=2"}, with(func(c *control) { c.sMaxAge, c.maxAge = time.Second, 2*time.Second })},
		{"first duplicate", []string{"max-age=1, max-age=2"}, with(func(c *control) { c.maxAge = time.Second })},
		{"quoted", []string{`max-age="60"`}, with(func(c *control) { c.maxAge = time.Minute })},
		{"quoted comma", []string{`private="a, no-store", max-age=1`}, with(func(c *control) { c.private, c.maxAge = true, time.Second })},
		{"unterminated", []string{`ext="a, no-store`, "max-age=1"}, with(func(c *control) { c.noStore, c.maxAge = true, time.Second })},
		{"escaped", []string{`max-age="6\0"`}, with(func(c *control) { c.maxAge = time.Minute })},
		{"negative", []string{"max-age=-1"}, with(func(c *control) { c.maxAge = 0 })},
		{"fraction", []string{"max-age=1.5"}, with(func(c *control) { c.maxAge = 0 })},
		{"no value", []string{"max-age"}, with(func(c *control) { c.maxAge = 0 })},
		{"empty value", []string{"max-age="}, with(func(c *control) { c.maxAge = 0 })},
		{"overflow", []string{"max-age=99999999999999999999"}, with(func(c *control) { c.maxAge = (1 << 31) * time.Second })},
		{"no-cache with fields", []string{`no-cache="set-cookie"`}, with(func(c *control) { c.noCache = true })},
		{"space before equals", []string{"max-age =60"}, with(func(c *control) { c.maxAge = 0 })},
		{"stale windows", []string{"stale-while-revalidate=5, stale-if-error=6"}, with(func(c *control) {
			c.staleWhileRevalidate, c.staleIfError = 5*time.Second, 6*time.Second
		})},
		{"any staleness", []string{"max-stale"}, with(func(c *control) { c.maxStale = (1 << 31) * time.Second })},
		{"the rest", []string{"private,must-revalidate,proxy-revalidate,only-if-cached,no-transform,immutable,must-understand,min-fresh=3"},
			with(func(c *control) {
				c.private, c.mustRevalidate, c.proxyRevalidate, c.onlyIfCached = true, true, true, true
				c.noTransform, c.immutable, c.mustUnderstand, c.minFresh = true, true, true, 3*time.Second
			})},
	} {
		t.Run(tt.name, func(t *testing.T) {
			fields := []Field{{"other", "no-store"}}
			for _, value := range tt.in {
				fields = append(fields, Field{"cache-control", value})
			}
			if diff := cmp.Diff(tt.want, parseControl(fields, "cache-control"), cmp.AllowUnexported(control{})); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// Whatever is said, a refusal in it is never lost by what follows.
func FuzzParseControl(f *testing.F) {
	f.Add(`max-age=60, private="a"`)
	f.Add(`ext="\`)
	f.Fuzz(func(t *testing.T, s string) {
		before := parseControl([]Field{{"cache-control", "no-store"}, {"cache-control", s}}, "cache-control")
		if !before.noStore {
			t.Error("no-store on a line of its own was lost")
		}
		c := parseControl([]Field{{"cache-control", s}}, "cache-control")
		for _, d := range []time.Duration{c.maxAge, c.sMaxAge, c.staleIfError, c.staleWhileRevalidate, c.minFresh, c.maxStale} {
			if d != absent && (d < 0 || d > deltaMax*time.Second) {
				t.Errorf("%q gives %v", s, d)
			}
		}
	})
}
