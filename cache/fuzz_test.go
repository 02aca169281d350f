package cache

import (
	"strings"
	"testing"
	"time"
)

// Whatever a targeted field holds, a lifetime out of it is within bounds, and what
// is no dictionary leaves Cache-Control in force.
func FuzzEffectiveControl(f *testing.F) {
	f.Add("max-age=60, no-store=?0", "max-age=30+60;edge, content=\"ESI/1.0\"")
	f.Add("max-age=60, &", `content="a, no-store"`)
	f.Fuzz(func(t *testing.T, cdn, surrogate string) {
		for _, fields := range [][]Field{
			{{"cdn-cache-control", cdn}, {"cache-control", "private"}},
			{{surrogateControl, surrogate}, {"cache-control", "private"}},
		} {
			c, targeted := effectiveControl(fields, []string{surrogateControl, "cdn-cache-control"})
			if !targeted && !c.private {
				t.Errorf("%q hides Cache-Control", fields)
			}
			for _, d := range []time.Duration{c.maxAge, c.sMaxAge, c.staleIfError, c.staleWhileRevalidate} {
				if d != absent && (d < 0 || d > deltaMax*time.Second) {
					t.Errorf("%q gives %v", fields, d)
				}
			}
		}
	})
}

// The names in Vary are lower case, in order and each there once.
func FuzzVaryNames(f *testing.F) {
	f.Add("Accept, accept-encoding,, *")
	f.Fuzz(func(t *testing.T, value string) {
		names, ok := varyNames([]Field{{"vary", value}, {"vary", "z"}})
		for i, name := range names {
			if name != strings.ToLower(name) || name == "" || name == "*" || i > 0 && names[i-1] >= name {
				t.Errorf("%q gives %q", value, names)
			}
		}
		if ok == (names == nil) {
			t.Errorf("%q gives %q, %v", value, names, ok)
		}
	})
}

// Only a listed value comes out, and where it does the field has it in some form.
func FuzzFirstListed(f *testing.F) {
	f.Add("en-GB;q=0.9, de;q=0")
	f.Fuzz(func(t *testing.T, value string) {
		got := firstListed([]Field{{"accept-language", value}}, "accept-language", []string{"de", "en-US"})
		low := strings.ToLower(value)
		if got != "" && got != "de" && got != "en-US" || got == "de" && !strings.Contains(low, "de") || got == "en-US" && !strings.Contains(low, "en") {
			t.Errorf("%q gives %q", value, got)
		}
	})
}

// Two lists of field lines have the same key only if they are the same list.
func FuzzAppendValues(f *testing.F) {
	f.Add("a, b", "c", true)
	f.Add("a,=b", "", false)
	f.Fuzz(func(t *testing.T, one, two string, second bool) {
		if strings.ContainsAny(one+two, "\n") {
			return // no field value has one
		}
		fields := []Field{{"x", one}}
		if second {
			fields = append(fields, Field{"x", two})
		}
		trim := func(s string) string { return strings.Trim(s, " \t") }
		want := trim(one)
		if second {
			want += ", " + trim(two)
		}
		if got := string(appendValues(nil, fields, "x")); got != "="+want {
			t.Errorf("%q: %q", fields, got)
		}
	})
}

// A date is read only where it is one, and a lifetime out of it is within bounds.
func FuzzLifetime(f *testing.F) {
	f.Add("Fri, 31 Dec 9999 23:59:59 GMT", "Sat, 01 Jan 2000 00:00:00 GMT", "10, 5", "Mon, 01 Jan 0001 00:00:00 GMT")
	f.Add("0", "", "99999999999999999999", "")
	f.Fuzz(func(t *testing.T, expires, date, age, modified string) {
		at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
		p := received{status: 200, requestTime: at, responseTime: at.Add(time.Second), fields: []Field{
			{"age", age}, {"date", date}, {"expires", expires}, {"last-modified", modified}}, control: parseControl(nil, "")}
		own, _ := p.ownLifetime()
		guess := p.heuristic()
		if old := p.initialAge(); own < 0 || own > deltaMax*time.Second || guess < 0 || guess > heuristicMax || old < 0 || old > (deltaMax+1)*time.Second {
			t.Errorf("lifetime %v, guess %v, age %v", own, guess, old)
		}
		if stored := (&response{ageZero: at.UnixNano(), freshUntil: at.UnixNano() + int64(own)}); own > 0 && stored.usable(at.UnixNano()) != useFresh {
			t.Error("a lifetime overflows")
		}
	})
}

// The Forwarded field cannot be broken out of.
func FuzzQuoteForwarded(f *testing.F) {
	f.Add(`a.test:8443`)
	f.Fuzz(func(t *testing.T, s string) {
		if value, rest, closed := unquote(quoteForwarded(s)); strings.HasPrefix(quoteForwarded(s), `"`) && (!closed || rest != "" || value != s) {
			t.Errorf("%q is %q", s, quoteForwarded(s))
		}
	})
}

// A structured string ends where it should.
func FuzzAppendSFString(f *testing.F) {
	f.Add(`a"b\c`)
	f.Fuzz(func(t *testing.T, s string) {
		got := string(appendSFString(nil, s))
		if _, rest, closed := unquote(got); !closed || rest != "" || strings.ContainsAny(got, "\r\n\x00\x7f") {
			t.Errorf("%q is %q", s, got)
		}
	})
}
