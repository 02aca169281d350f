package main

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"edgecdn/cache"
)

func TestExplainCacheStatus(t *testing.T) {
	for _, tt := range []struct {
		name, in string
		want     []string
	}{
		{"hit", "edge; hit; ttl=59", []string{"edge answered from what it had stored; fresh for another 59 s"}},
		{"miss", "edge; fwd=uri-miss; stored; ttl=7200", []string{"edge had nothing under this URL and asked the origin; stored the response for the next; fresh for another 2 hours"}},
		{"collapsed", "edge; fwd=uri-miss; collapsed", []string{"edge had nothing under this URL and asked the origin; shared the answer to another's request that was already under way"}},
		{"validated", "edge; fwd=stale; fwd-status=304; ttl=0", []string{"edge had a stale response and asked the origin; the origin said that the stored one is still good (304); at the end of its freshness"}},
		{"stale", "edge; hit; ttl=-130", []string{"edge answered from what it had stored; stale for 2 minutes"}},
		{"origin status", "edge; fwd=partial; fwd-status=206", []string{"edge had only a part of the response and asked the origin for the rest; the origin answered 206"}},
		{"two caches", `inner; hit; key="/a", "outer one"; fwd=request; detail=why`, []string{`inner answered from what it had stored; cache key "/a"`, "outer one had a fresh response, but the request wanted one from the origin; adds: why"}},
		{"false is not said", "edge; hit=?0; stored=?0", []string{"edge did not say what it did"}},
		{"unknown reason", "edge; fwd=mood", []string{"edge asked the origin (mood)"}},
		{"wrong types", `edge; ttl="x"; fwd-status=ok`, []string{"edge did not say what it did"}},
		{"inner list", "(a b); hit", []string{"a list where the name of a cache should be"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, explainCacheStatus([]string{tt.in})); diff != "" {
				t.Error(diff)
			}
		})
	}
	if got := explainCacheStatus([]string{"edge; hit;;"}); !strings.Contains(got[0], "not readable") {
		t.Errorf("unparsable field explained as %q", got)
	}
}

// Every outcome that our cache can give has words of its own.
func TestForwardsComplete(t *testing.T) {
	for _, token := range cache.Tokens {
		if _, ok := forwards[token]; !ok && !slices.Contains([]string{"none", "hit"}, token) {
			t.Errorf("fwd=%s has no words", token)
		}
	}
}

func TestExplainFields(t *testing.T) {
	for _, tt := range []struct {
		name    string
		explain func([]string) []string
		in      []string
		want    []string
	}{
		{"age", explainAge, []string{"90"}, []string{"left the origin, or was last confirmed by it, 90 s ago"}},
		{"age of days", explainAge, []string{"200000"}, []string{"left the origin, or was last confirmed by it, 2 days ago"}},
		{"age twice", explainAge, []string{"1", "2"}, []string{"not a number of seconds"}},
		{"negative age", explainAge, []string{"-1"}, []string{"not a number of seconds"}},
		{"strong", explainETag, []string{`"a"`}, []string{"validator: send it in If-None-Match to get 304 while nothing changed"}},
		{"weak", explainETag, []string{`W/"a"`}, []string{"weak validator: send it in If-None-Match to get 304 while nothing of substance changed"}},
		{"vary", explainVary, []string{"accept", "origin"}, []string{"one stored response for each value of these request fields: accept, origin"}},
		{"vary star", explainVary, []string{"*"}, []string{"depends on more than the request says: caches cannot reuse it"}},
		{"alt-svc", explainAltSvc, []string{`h3=":8443"; ma=2592000, h2="b.test:1"`}, []string{"HTTP/3 is served too, at this host, port 8443; good to know for 30 days", "h2 is served too, at b.test:1"}},
		{"alt-svc clear", explainAltSvc, []string{"clear"}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, tt.explain(tt.in)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// Whatever a server sends is explained without a panic.
func FuzzExplain(f *testing.F) {
	for _, text := range []string{"edge; hit; ttl=-5", `a;fwd="x", (b c);d`, `h3=":443"; ma=60, clear`, "W/\"x\"", "*", "-1", "", ";=,;;\"", "edge; ttl=9223372036854775807"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		for _, field := range explained {
			if field.explain != nil {
				field.explain([]string{text})
				field.explain([]string{text, text})
			}
		}
	})
}
