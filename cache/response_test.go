package cache

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"edgecdn/cache/store"
)

func sample() *response {
	p := &response{status: 200, flags: flagNoCache | flagAuthorized, ageZero: 5, freshUntil: -7,
		staleWhileRevalidate: 1 << 40, staleIfError: 3,
		fields:   []Field{{"etag", `"1"`}, {"last-modified", "Mon, 01 Jan 2024 00:00:00 GMT"}, {"x", ""}},
		trailers: []Field{{"x-sum", "1"}}}
	p.index()
	return p
}

func TestResponseRoundTrip(t *testing.T) {
	for name, want := range map[string]*response{
		"response": sample(),
		"marker":   newMarker([]string{"accept", "accept-language"}),
		"empty":    {status: 404},
		"sliced":   {status: 200, sliced: true, total: 1 << 40, salt: "12345678"},
	} {
		got, err := decode(want.encode())
		if err != nil {
			t.Fatal(name, err)
		}
		if diff := cmp.Diff(want, got, cmp.AllowUnexported(response{})); diff != "" {
			t.Error(name, diff)
		}
	}
	if p := sample(); p.etag != `"1"` || p.lastModified != 1704067200 {
		t.Error("validators were not read", p.etag, p.lastModified)
	}
}

func TestDecodeRefusesDamage(t *testing.T) {
	whole := sample().encode()
	for n := range whole {
		if _, err := decode(whole[:n]); err == nil {
			t.Errorf("the first %d of %d bytes were taken", n, len(whole))
		}
	}
	if _, err := decode(append(whole, 0)); err == nil {
		t.Error("a byte too many was taken")
	}
	newer := append([]byte{codecVersion + 1}, whole[1:]...)
	if _, err := decode(newer); err == nil {
		t.Error("a newer version was taken")
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(sample().encode())
	f.Add(newMarker([]string{"accept"}).encode())
	f.Add((&response{status: 200, sliced: true, total: 5, salt: "s"}).encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := decode(b)
		if err != nil {
			return
		}
		again, err := decode(p.encode())
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(p, again, cmp.AllowUnexported(response{})); diff != "" {
			t.Error(diff)
		}
	})
}

func TestPrepareCharges(t *testing.T) {
	header := sample().encode()
	value, bytes, err := Prepare(&store.Meta{Header: header})
	if _, ok := value.(*response); !ok || err != nil || bytes <= int64(len(header)) {
		t.Error(value, bytes, err)
	}
}

func TestValidETag(t *testing.T) {
	for tag, want := range map[string]bool{`"a"`: true, `W/"a"`: true, `""`: true, `a`: false, `"a`: false,
		`"a"b"`: false, ``: false, `W/`: false, `w/"a"`: false, "\"a b\"": false, "\"\x7f\"": false, "\"\xff\"": true} {
		if got := validETag(tag); got != want {
			t.Errorf("%q: %v", tag, got)
		}
	}
}
