package access_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"edgecdn/access"
	"edgecdn/route"
)

func hostRoutes(t testing.TB, host route.Access, paths map[string]route.Access) func(path string) *route.Route {
	t.Helper()
	h := route.Host{Names: []string{"a.test"}, Policy: route.Policy{Origin: "o", Access: host}}
	for path, a := range paths {
		h.Routes = append(h.Routes, route.Path{Path: path, Policy: route.Policy{Access: a}})
	}
	table, err := route.NewTable([]route.Host{h})
	if err != nil {
		t.Fatal(err)
	}
	return func(path string) *route.Route {
		r, err := table.Match("a.test", path)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
}

func TestJudgeAddresses(t *testing.T) {
	at := hostRoutes(t, route.Access{Deny: []string{"192.0.2.66", "2001:db8:66::/48", "192.0.2.64/30", "198.51.100.0/24"}}, map[string]route.Access{
		"/own": {Allow: []string{"10.0.0.0/8", "2001:db8::/32", "198.51.100.7", "10.1.0.0/16"}}, "/all": {Deny: []string{}},
	})
	for path, want := range map[string]string{
		"/":    "192.0.2.63 ok|192.0.2.64 no|192.0.2.67 no|192.0.2.68 ok|::ffff:192.0.2.66 no|2001:db8:66:1::1 no|2001:db8:67::1 ok|2001:db8:66::1%eth0 no",
		"/own": "10.0.0.0 ok|10.255.255.255 ok|11.0.0.0 no|9.255.255.255 no|2001:db8:66::1 no|2001:db8:67::1 ok|198.51.100.7 no|192.0.2.1 no",
		"/all": "192.0.2.66 ok",
	} {
		a := access.New()
		denied := uint64(0)
		for one := range strings.SplitSeq(want, "|") {
			address, ok, _ := strings.Cut(one, " ")
			v := a.Judge(at(path), "GET", netip.MustParseAddr(address))
			if (v.Action == access.Allow) != (ok == "ok") || v.Action == access.Deny && v.Status != 403 {
				t.Errorf("%s from %s: %+v, want %s", path, address, v, ok)
			}
			if ok == "no" {
				denied++
			}
		}
		if n := a.Stats().Addresses.Load(); n != denied {
			t.Errorf("%s: %d counted, want %d", path, n, denied)
		}
	}
	if a := access.New(); a.Judge(at("/own"), "GET", netip.Addr{}).Action != access.Deny || a.Judge(at("/"), "GET", netip.Addr{}).Action != access.Allow {
		t.Error("a client without an address is in a list")
	}
}

func TestJudgeRates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		limits := route.Access{Rates: []route.Rate{{Requests: 2, Per: 10 * time.Second, Burst: 3}}}
		at := hostRoutes(t, limits, map[string]route.Access{
			"/own":     {Rates: []route.Rate{{Requests: 100}, {Key: "prefix", Requests: 5, Per: time.Minute}}},
			"/inherit": {Allow: []string{"0.0.0.0/0", "::/0"}},
		})
		a := access.New()
		count := func(path string, client string) (n int, wait time.Duration) {
			for ; n < 1000; n++ {
				v := a.Judge(at(path), "GET", netip.MustParseAddr(client))
				if v.Action == access.Deny {
					if v.Status != 429 {
						t.Errorf("%s: %+v", path, v)
					}
					return n, v.RetryAfter
				}
			}
			return n, 0
		}
		want := func(path, client string, want int) {
			t.Helper()
			if got, _ := count(path, client); got != want {
				t.Errorf("%s from %s: %d let in, want %d", path, client, got, want)
			}
		}
		if n, wait := count("/", "192.0.2.1"); n != 3 || wait != 5*time.Second {
			t.Errorf("%d at once, then wait %v; want 3, 5s", n, wait)
		}
		want("/inherit", "192.0.2.1", 0) // the host's bucket
		want("/", "192.0.2.2", 3)
		want("/", "2001:db8::1", 3)
		want("/", "2001:db8::2", 0) // the same /64
		want("/", "2001:db8:0:1::1", 3)
		want("/own", "198.51.100.1", 5)
		want("/own", "198.51.100.2", 0) // the same network
		want("/own", "198.51.101.1", 5)
		if n := a.Stats().Rates.Load(); n != 9 {
			t.Errorf("%d counted, want 9", n)
		}
		// A reload forgives nothing.
		at = hostRoutes(t, limits, nil)
		want("/", "192.0.2.1", 0)
		time.Sleep(5 * time.Second)
		want("/", "192.0.2.1", 1)
	})
}

func TestJudgeRatesAllocateNothing(t *testing.T) {
	at := hostRoutes(t, route.Access{Deny: []string{"192.0.2.66"}, Rates: []route.Rate{{Requests: 1_000_000}, {Key: "prefix", Requests: 1_000_000}}}, nil)
	a, r, client := access.New(), at("/"), netip.MustParseAddr("192.0.2.1")
	a.Judge(r, "GET", client) // makes the table
	if n := testing.AllocsPerRun(100, func() { a.Judge(r, "GET", client) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkJudge(b *testing.B) {
	var deny []string
	for i := range 1000 {
		deny = append(deny, fmt.Sprintf("10.%d.%d.0/25", i/250, i%250))
	}
	for _, test := range []struct {
		name   string
		access route.Access
	}{
		{"nothing", route.Access{}}, {"deny-1000", route.Access{Deny: deny}},
		{"rate", route.Access{Rates: []route.Rate{{Requests: 1_000_000}}}},
	} {
		b.Run(test.name, func(b *testing.B) {
			a, r := access.New(), hostRoutes(b, test.access, nil)("/")
			client := netip.MustParseAddr("192.0.2.1")
			b.ReportAllocs()
			for b.Loop() {
				a.Judge(r, "GET", client)
			}
		})
	}
}
