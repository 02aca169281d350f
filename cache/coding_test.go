package cache

import (
	"fmt"
	"testing"

	"edgecdn/route"
)

func TestCodingWeights(t *testing.T) {
	const all = "br zstd gzip"
	for _, tt := range []struct {
		in   string
		want string // codings from the one that is liked best on, down to identity
	}{
		{"", ""},
		{"gzip, deflate, br, zstd", all},
		{"gzip;q=1.0, br;q=0.8, zstd;q=0.9", "gzip zstd br"},
		{"*", all},
		{"*;q=0.1, gzip;q=0.2", "gzip br zstd"},
		{"*;q=0", ""},
		{"*;q=0, br", "br"},
		{"br;q=0.5, identity", ""},
		{"br;q=0.5, identity;q=0.5", "br"},
		{"br, gzip;q=0.4, identity;q=0.5", "br"},
		{"identity;q=0", ""},
		{"identity;q=0, gzip", "gzip"},
		{"identity;q=0, *;q=0.1", all},
		{"gzip;q=0, gzip;q=0.5", "gzip"}, // of several the highest
		{"gzip, gzip;q=0", "gzip"},
		{"x-gzip", "gzip"},
		{"X-GZIP;q=0.3,BR;Q=0.2", "gzip br"},
		{"\tbr\t;\tq=0.5\t,\tgzip", "gzip br"},
		{"br;level=4;q=0.1, gzip", "gzip br"},
		{",,br,,", "br"},
		{";q=1", ""},
		{"br gzip", ""},
		{"br;q=0.0001", "br"},
		{"br;q=0.0000", ""},
		{"br;q=0.", ""},
		{"br;q=00.5", "br"}, // no qvalue says nothing
		{"br;q=.0, gzip;q=0.9", "br gzip"},
		{"br;q=-1, gzip;q=0.9", "br gzip"},
		{"br;q=9, gzip;q=0.9", "br gzip"},
		{"br;q= 0, gzip;q=0.9", "br gzip"},
		{"br;q=\"0\", gzip;q=0.9", "br gzip"},
		{"br;q=0.5x, gzip;q=0.9", "br gzip"},
		{"br;q=0.999, gzip;q=0.99899999", "br gzip"},
		{"br;q=0.123456789012345678901234567890, gzip;q=0.2", "gzip br"},
		{"br;q", "br"},
		{"br;", "br"},
		{"brotli, gzipp, zst", ""},
		{"deflate, compress", ""},
	} {
		if got := ranking(codingWeights([]Field{{"accept", "br"}, {acceptEncoding, tt.in}})); got != tt.want {
			t.Errorf("%q: %q, want %q", tt.in, got, tt.want)
		}
	}
	two := []Field{{acceptEncoding, "br;q=0.1"}, {acceptEncoding, "gzip"}}
	if got := ranking(codingWeights(two)); got != "gzip br" {
		t.Error("two lines:", got)
	}
}

// ranking lists the codings that are better than none, best first.
func ranking(w weights) (list string) {
	for left := accepted(7); ; {
		i := w.best(left)
		if i < 0 {
			return list
		}
		left &^= 1 << i
		if list != "" {
			list += " "
		}
		list += route.Codings[i]
	}
}

func FuzzCodingWeights(f *testing.F) {
	f.Add("gzip;q=0.5, br, *;q=0")
	f.Add("identity;q=0.001 , x-gzip;a=b;q=0.9")
	f.Add(";;,=,q=0")
	f.Fuzz(func(t *testing.T, value string) {
		w := codingWeights([]Field{{acceptEncoding, value}})
		again := ""
		for i, q := range w.of {
			if q < 0 || q > 1000 {
				t.Fatalf("%q: %s has weight %d", value, route.Codings[i], q)
			}
			again += fmt.Sprintf("%s;q=%d.%03d, ", route.Codings[i], q/1000, q%1000)
		}
		if w.identity != unsaid {
			again += fmt.Sprintf("identity;q=%d.%03d", w.identity/1000, w.identity%1000)
		}
		if got := codingWeights([]Field{{acceptEncoding, again}}); got != w {
			t.Errorf("%q is %v, written again as %q it is %v", value, w, again, got)
		}
		if best := w.best(7); best >= 0 && (w.of[best] == 0 || w.of[best] < w.identity) {
			t.Errorf("%q: %s is refused and chosen", value, route.Codings[best])
		}
	})
}

func TestCodingOf(t *testing.T) {
	for value, want := range map[string]string{
		"br": "br", "GZIP": "gzip", "x-gzip": "gzip", " zstd ": "zstd", "identity": "identity", "": "identity",
		"deflate": "identity", "br, gzip": "identity", "*": "identity",
	} {
		if got := string(codingOf([]Field{{"content-encoding", value}}).append(nil)); got != want {
			t.Errorf("%q: %s", value, got)
		}
	}
	if codingOf([]Field{{"content-encoding", "br"}, {"content-encoding", "gzip"}}) != 0 {
		t.Error("two lines are one coding")
	}
}
