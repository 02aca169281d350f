package cache

import (
	"context"
	"testing"
	"testing/synctest"

	"edgecdn/route"
)

// When hosts begin to share what is stored, they do not share what one of them had
// for itself: a purge of another would not find it.
func TestSharingBeginsWithNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t, route.Host{}, false)
		shared := func(host *bool) {
			policy := route.Policy{Origin: "o", Cache: route.Cache{Key: route.Key{Host: host}}}
			table, err := route.NewTable([]route.Host{{Names: []string{"a.test", "b.test"}, Policy: policy}})
			if err != nil {
				t.Fatal(err)
			}
			b.table, b.cache.match = table, table.Match
		}
		get := func(authority, want string) {
			t.Helper()
			b.authority = authority
			if w := b.do(context.Background(), b.request("GET", "/a")); w.body.String() != want {
				t.Errorf("%s: %q, want %q: %s", authority, w.body.String(), want, w.sent.Get("Cache-Status"))
			}
		}
		b.origin.answers[""] = scripted([]byte("200\nCache-Control: max-age=60\n\nold"))
		shared(nil)
		get("a.test", "old")
		b.origin.answers[""] = scripted([]byte("200\nCache-Control: max-age=60\n\nnew"))
		shared(new(false))
		b.purge(Purge{Kind: PurgeHost, Host: "b.test"})
		get("b.test", "new")
		get("a.test", "new")
	})
}
