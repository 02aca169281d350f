package cache

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"

	"edgecdn/route"
)

func TestGroupsOf(t *testing.T) {
	many := strings.Repeat("x ", 10)
	for i := range groupsMax {
		many += fmt.Sprint("g", i, " ")
	}
	for _, tt := range []struct {
		name string
		in   []Field
		want []string
		ok   bool
	}{
		{"none", nil, nil, true},
		{"surrogate-key", []Field{{"surrogate-key", " a  b\ta "}}, []string{"a", "b"}, true},
		{"cache-tag", []Field{{"cache-tag", "a, b c ,,d"}, {"cache-tag", "e"}}, []string{"a", "b c", "d", "e"}, true},
		{"cache-groups", []Field{{"cache-groups", `"a", "B c";x=1, token, 7, ("d")`}}, []string{"a", "B c"}, true},
		{"invalid cache-groups", []Field{{"cache-groups", `"a`}, {"cache-tag", "b"}}, []string{"b"}, true},
		{"several fields", []Field{{"cache-groups", `"a"`}, {"cache-tag", "a,b"}}, []string{"a", "b"}, true},
		{"too many", []Field{{"surrogate-key", many}}, nil, false},
		{"too long", []Field{{"cache-tag", strings.Repeat("x", groupBytesMax+1)}}, nil, false},
	} {
		got, ok := groupsOf(tt.in)
		if diff := cmp.Diff(tt.want, got); ok && diff != "" || ok != tt.ok {
			t.Error(tt.name, ok, diff)
		}
	}
}

func FuzzGroupsOf(f *testing.F) {
	f.Add(`"a", "b"`, "a b", "a,b")
	f.Fuzz(func(t *testing.T, list, keys, tags string) {
		groups, ok := groupsOf([]Field{{"cache-groups", list}, {"surrogate-key", keys}, {"cache-tag", tags}})
		if ok && len(groups) > groupsMax {
			t.Error(len(groups), "groups")
		}
	})
}

func TestTooManyGroupsAreNotStored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t, route.Host{}, false)
		for i, tt := range []struct{ name, value, want string }{
			{"Cache-Tag", strings.Repeat("x", groupBytesMax+1), "detail=too-many-groups"},
			{"Cache-Tag", manyGroups("t%d", groupsMax+1), "detail=too-many-groups"},
			{"Cache-Groups", manyGroups(`"g%d"`, groupsMax+1), "detail=too-many-groups"},
			{"Cache-Groups", manyGroups(`"g%d"`, groupsMax), "stored"},
		} {
			b.origin.answers[""] = answering(200, bytes.NewReader([]byte("a")), 1, "Cache-Control", "max-age=60", tt.name, tt.value)
			w := b.do(context.Background(), b.request("GET", fmt.Sprint("/", i)))
			if got := w.sent.Get("Cache-Status"); !strings.HasSuffix(got, tt.want) {
				t.Errorf("%d: %s", i, got)
			}
		}
		if n := b.cache.stats.GroupsRefused.Load(); n != 3 {
			t.Errorf("%d refused", n)
		}
	})
}

func manyGroups(format string, n int) string {
	var groups []string
	for i := range n {
		groups = append(groups, fmt.Sprintf(format, i))
	}
	return strings.Join(groups, ", ")
}

// An answer may invalidate as many groups as a purge may name; what is beyond is
// counted.
func TestManyGroupsInvalidated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t, route.Host{}, false)
		get := func(group int) string {
			b.origin.answers[""] = answering(200, bytes.NewReader([]byte("a")), 1, "Cache-Control", "max-age=60", "Cache-Groups", fmt.Sprintf(`"g%d"`, group))
			return b.do(context.Background(), b.request("GET", fmt.Sprint("/", group))).sent.Get("Cache-Status")
		}
		for _, n := range []int{invalidGroupsMax, invalidGroupsMax + 1} {
			for _, group := range []int{0, invalidGroupsMax - 1, invalidGroupsMax} {
				get(group)
			}
			b.origin.answers[""] = answering(200, strings.NewReader("ok"), 2, "Cache-Group-Invalidation", manyGroups(`"g%d"`, n))
			b.do(context.Background(), b.request("POST", "/change"))
			for group, want := range map[int]string{0: "fwd=uri-miss", invalidGroupsMax - 1: "fwd=uri-miss", invalidGroupsMax: "edge; hit"} {
				chance := b.metInAPlace(fmt.Sprint("/", group))
				if got := get(group); !strings.Contains(got, want) && !(group == invalidGroupsMax && chance) {
					t.Errorf("%d groups, of group %d: %s", n, group, got)
				}
			}
			if cut := b.cache.stats.InvalidGroupsCut.Load(); cut != uint64(n-invalidGroupsMax) {
				t.Errorf("%d groups: %d cut", n, cut)
			}
		}
	})
}

// metInAPlace says whether two invalidations have met in a place of what is stored for
// a target. With so many of them that is so for one seed in twenty thousand, and then
// it goes with them.
func (b *bed) metInAPlace(target string) bool {
	stored := b.cache.open(string(appendKey(nil, b.request("GET", target))))
	if stored == nil {
		return false
	}
	defer stored.Close()
	return slices.ContainsFunc(append([]uint64{stored.Meta().URL}, stored.Meta().Groups...), func(hash uint64) bool {
		at := &b.cache.purges.invalid.places.Load()[hash>>(64-invalidationBits)]
		return at.order.Load() > stored.Meta().Order && at.hash.Load() == 0
	})
}

func TestLabelsBelongToTheirHost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t, route.Host{}, false)
		fields := []Field{{"cache-tag", "a,b"}}
		r := b.request("GET", "/p/q?/r")
		one := b.cache.labels(r, fields)
		r.Host = "b.test"
		all := append(one, b.cache.labels(r, fields)...)
		slices.Sort(all)
		if len(one) != 5 || len(slices.Compact(all)) != 10 { // "", /p, /p/q and two groups
			t.Error(one, all)
		}
	})
}

func TestAcceptedCodings(t *testing.T) {
	for _, tt := range []struct{ in, want string }{
		{"", "identity"},
		{"gzip", "gzip"},
		{"GZIP , br;q=0.1", "br, gzip"},
		{"x-gzip", "gzip"},
		{"zstd;q=1.0, gzip;q=0", "zstd"},
		{"*", "br, gzip, zstd"},
		{"*, br;q=0", "gzip, zstd"},
		{"br;q=0, *;q=0.5", "gzip, zstd"},
		{"gzip;q=0.0, br;q=0.001", "br"},
		{"*;q=0, gzip", "gzip"},
		{"gzip;q=", "gzip"},
		{"identity;q=0, deflate", "identity"},
		{"br;Q=0", "identity"},
	} {
		if got := string(acceptedCodings([]Field{{acceptEncoding, tt.in}}).append(nil)); got != tt.want {
			t.Errorf("%q: %s, want %s", tt.in, got, tt.want)
		}
	}
}

func FuzzAcceptedCodings(f *testing.F) {
	f.Add("br;q=0, *;q=0.5")
	f.Fuzz(func(t *testing.T, s string) {
		set := acceptedCodings([]Field{{acceptEncoding, s}})
		again := string(set.append(nil))
		if acceptedCodings([]Field{{acceptEncoding, again}}) != set {
			t.Errorf("%q is %q, which is something else", s, again)
		}
	})
}

// A client that asks in ever new ways for one target does not fill the store.
func TestVariantsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t, route.Host{}, false)
		b.origin.answers[""] = func(r *http.Request) (*http.Response, error) {
			return answering(200, bytes.NewReader([]byte("a")), 1, "Cache-Control", "max-age=60", "Vary", "X-V")(r)
		}
		for i := range variantsMax + 1 {
			b.do(context.Background(), b.request("GET", "/a", Field{"x-v", fmt.Sprint(i)}))
			synctest.Wait()
		}
		if n := b.cache.stats.VariantsReset.Load(); n != 1 {
			t.Error("resets:", n)
		}
		first := b.do(context.Background(), b.request("GET", "/a", Field{"x-v", "0"}))
		last := b.do(context.Background(), b.request("GET", "/a", Field{"x-v", fmt.Sprint(variantsMax)}))
		if first.sent.Get("Cache-Status") != "edge; fwd=vary-miss; ttl=60; stored" || last.sent.Get("Cache-Status") != "edge; hit; ttl=60" {
			t.Error(first.sent, last.sent)
		}
	})
}
