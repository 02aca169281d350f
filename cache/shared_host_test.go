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

// What a path shares is found by purges of its host, whose other paths share nothing or
// have no origin.
func TestPurgeOfSharingPath(t *testing.T) {
	shares := route.Policy{Origin: "o", Cache: route.Cache{Key: route.Key{Host: new(false)}}}
	for name, host := range map[string]route.Host{
		"others do not share":   {Policy: route.Policy{Origin: "o"}},
		"others have no origin": {},
	} {
		for kind, purge := range map[string]Purge{
			"host":   {Kind: PurgeHost, Host: "b.test"},
			"prefix": {Kind: PurgePrefix, Host: "b.test", Name: "/shared"},
			"group":  {Kind: PurgeGroup, Host: "b.test", Name: "g"},
		} {
			synctest.Test(t, func(t *testing.T) {
				host.Names = []string{"a.test", "b.test"}
				host.Routes = []route.Path{{Path: "/shared/*", Policy: shares}}
				table, err := route.NewTable([]route.Host{host})
				if err != nil {
					t.Fatal(err)
				}
				b := newBed(t, route.Host{}, false)
				b.table, b.cache.match = table, table.Match
				b.authority = "a.test"
				for _, want := range []string{"old", "new"} {
					b.origin.answers[""] = scripted([]byte("200\nCache-Control: max-age=60\nCache-Tag: g\n\n" + want))
					if w := b.do(context.Background(), b.request("GET", "/shared/x")); w.body.String() != want {
						t.Errorf("%s, purge by %s: %q, want %q: %s", name, kind, w.body.String(), want, w.sent.Get("Cache-Status"))
					}
					b.purge(purge)
				}
			})
		}
	}
}
