package route

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"edgecdn/internal/unit"
)

func newTable(t testing.TB, hosts ...Host) *Table {
	t.Helper()
	table, err := NewTable(hosts)
	if err != nil {
		t.Fatal(err)
	}
	return table
}

func simpleHost(origin string, names ...string) Host {
	return Host{Names: names, Policy: Policy{Origin: origin}}
}

func path(pattern, origin string) Path {
	return Path{Path: pattern, Policy: Policy{Origin: origin}}
}

func TestMatchHost(t *testing.T) {
	table := newTable(t,
		simpleHost("exact", "www.example.com", "Upper.Example.com"),
		simpleHost("wide", "*.example.com"),
		simpleHost("narrow", "*.eu.example.com"),
		simpleHost("six", "[::1]"),
		simpleHost("rest", "*"),
	)
	tests := []struct{ host, origin string }{
		{"www.example.com", "exact"},
		{"www.example.com:8443", "exact"},
		{"www.example.com.", "exact"},
		{"www.example.com.:8443", "exact"},
		{"upper.example.com", "exact"},
		{"a.example.com", "wide"},
		{"a.b.example.com", "wide"},
		{"a.eu.example.com", "narrow"},
		{"a.b.eu.example.com", "narrow"},
		{"eu.example.com", "wide"},
		{"example.com", "rest"},
		{"notexample.com", "rest"},
		{"[::1]", "six"},
		{"[::1]:8080", "six"},
		{"[::2]:8080", "rest"},
		{"", "rest"},
		{"127.0.0.1:8080", "rest"},
		{"evil.com/x", ""},
		{"evil.com\r\nx", ""},
		{"a b", ""},
		{strings.Repeat("a", 261), ""},
	}
	for _, test := range tests {
		r, err := table.Match(test.host, "/")
		if test.origin == "" {
			if !errors.Is(err, ErrNoHost) {
				t.Errorf("Match(%q) = %v, %v, want ErrNoHost", test.host, r, err)
			}
		} else if err != nil || r.Origin != test.origin {
			t.Errorf("Match(%q) = %+v, %v, want origin %s", test.host, r, err, test.origin)
		}
	}
	if diff := cmp.Diff([]string{"www.example.com", "*.example.com", "*.eu.example.com", "[::1]", "*"}, table.Hosts()); diff != "" {
		t.Error(diff)
	}
	if r, _ := table.Match("a.eu.example.com", "/"); table.Hosts()[r.HostIndex] != r.Host || r.Host != "*.eu.example.com" {
		t.Errorf("host %q has index %d", r.Host, r.HostIndex)
	}
	alone := newTable(t, simpleHost("exact", "www.example.com"))
	if _, err := alone.Match("example.com", "/"); !errors.Is(err, ErrNoHost) {
		t.Errorf("unknown host: %v", err)
	}
}

func TestMatchPath(t *testing.T) {
	host := simpleHost("own", "*")
	host.Routes = []Path{
		path("/static/*", "static"), path("/static/img/*", "img"), path("/static/img/logo.png", "logo"),
		path("/robots.txt", "robots"), path("/a", "exact"), path("/a/*", "prefix"), path("/caf%C3%A9/*", "cafe"),
	}
	table := newTable(t, host)
	tests := []struct {
		target, want string
		err          error
	}{
		{"/", "/*", nil},
		{"*", "/*", nil},
		{"/robots.txt", "/robots.txt", nil},
		{"/robots.txt?x=1", "/robots.txt", nil},
		{"/robots.txt/", "/*", nil},
		{"/static", "/static/*", nil},
		{"/static/", "/static/*", nil},
		{"/staticx", "/*", nil},
		{"/static?x=/static/img/", "/static/*", nil},
		{"/static/css/deep/app.css", "/static/*", nil},
		{"/static/img", "/static/img/*", nil},
		{"/static/img/deep/er/and/longer/than/all.png", "/static/img/*", nil},
		{"/static/imgs/a", "/static/*", nil},
		{"/static/img/logo.png", "/static/img/logo.png", nil},
		{"/a", "/a", nil},
		{"/a/", "/a/*", nil},
		{"/caf%C3%A9/x", "/caf%C3%A9/*", nil},
		// Both readings agree: nothing is wrong with these.
		{"/static/a%2Fb", "/static/*", nil},
		{"/static//a", "/static/*", nil},
		{"/static/x/../y", "/static/*", nil},
		{"/other/%7Euser//x/..", "/*", nil},
		// They disagree: an origin may take either.
		{"/static/../admin", "", ErrAmbiguous},
		{"/static/%2e%2e/admin", "", ErrAmbiguous},
		{"/static/..%2Fadmin", "", ErrAmbiguous},
		{"/static/..%5cadmin", "", ErrAmbiguous},
		{`/static/..\admin`, "", ErrAmbiguous},
		{"/static/..;/admin", "", ErrAmbiguous},
		{"/static%2Fx", "", ErrAmbiguous},
		{"//static/x", "", ErrAmbiguous},
		{"/st%61tic/x", "", ErrAmbiguous},
		{"/x/../static/a", "", ErrAmbiguous},
		{"/caf%c3%a9/x", "", ErrAmbiguous},
		{"/" + strings.Repeat("x/", 2000) + "%2e%2e", "/*", nil},
		{"", "", ErrNoRoute},
		{"http://a/", "", ErrNoRoute},
		{"?x", "", ErrNoRoute},
	}
	for _, test := range tests {
		r, err := table.Match("h", test.target)
		if !errors.Is(err, test.err) || err == nil && r.Pattern != test.want {
			t.Errorf("Match(%.60q) = %+v, %v, want %q, %v", test.target, r, err, test.want, test.err)
		}
	}
}

func TestMatchWithoutOrigin(t *testing.T) {
	some := Host{Names: []string{"some"}, Routes: []Path{path("/api/*", "api")}}
	moved := Host{Names: []string{"moved"}, Redirects: []Redirect{{Path: "/old", To: "/new"}}}
	table := newTable(t, some, moved)
	if _, err := table.Match("some", "/"); !errors.Is(err, ErrNoRoute) {
		t.Errorf("path without origin: %v", err)
	}
	if r, err := table.Match("some", "/api/x"); err != nil || r.Origin != "api" {
		t.Errorf("path with origin: %v, %v", r, err)
	}
	if r, err := table.Match("moved", "/x"); err != nil || r.Origin != "" {
		t.Errorf("host of redirects: %v, %v", r, err)
	}
}

func pointer[T any](v T) *T { return &v }

func TestInheritance(t *testing.T) {
	host := Host{Names: []string{"*"}, Policy: Policy{
		Origin: "web", Methods: []string{"GET"},
		Rewrite:  &Rewrite{AddPrefix: "/site/"},
		Request:  Fields{Set: map[string]string{"X-A": "host", "x-b": "host"}, Remove: []string{"X-Gone", "X-C"}},
		Response: Fields{Remove: []string{"Server"}},
		Cache: Cache{
			Key: Key{Query: Query{Deny: []string{"utm_*"}, Sort: pointer(true)}, Headers: []string{"X-Tenant", "Accept-Language", "x-tenant"},
				Cookies: []string{"b", "A", "b"}},
			Targets: []string{"Mine-Cache-Control"}, Vary: map[string][]string{"Accept-Language": {"de", "en"}}, StatusKey: pointer(true),
			Freshness:            []Freshness{{Lifetime: time.Minute}},
			StaleWhileRevalidate: pointer(time.Second), StaleIfError: pointer(time.Hour), MaxBytes: unit.MiB,
			Compress: Compress{Codings: []string{"zstd", "br"}, Types: []string{"Text/*"}, MinBytes: pointer(5 * unit.KiB)},
		},
	}}
	host.Routes = []Path{
		{Path: "/same"},
		{Path: "/own", Policy: Policy{
			Origin: "api", Methods: []string{"POST"}, Rewrite: &Rewrite{},
			Request: Fields{Set: map[string]string{"x-a": "path", "x-c": "path"}, Remove: []string{"X-B"}},
			Cache: Cache{
				Bypass: pointer(true), Key: Key{Query: Query{Allow: &[]string{}, Deny: []string{}, Sort: pointer(false)}, Headers: []string{}, Cookies: []string{}, Host: pointer(false)},
				Freshness: []Freshness{}, StaleWhileRevalidate: pointer(time.Duration(0)), StaleIfError: pointer(time.Duration(0)),
				MaxBytes: unit.GiB, RequestDirectives: pointer(true),
				Targets: []string{}, Vary: map[string][]string{}, StatusKey: pointer(false),
				Compress: Compress{Codings: []string{}, MinBytes: pointer(unit.Bytes(0))},
			},
		}},
	}
	table := newTable(t, host)
	want := &Route{
		Host: "*", Pattern: "/*", Shares: true, Origin: "web", Methods: []string{"GET", "HEAD"}, Rewrite: &Rewrite{AddPrefix: "/site"},
		Request:  Fields{Set: map[string]string{"x-a": "host", "x-b": "host"}, Remove: []string{"x-c", "x-gone"}},
		Response: Fields{Remove: []string{"server"}},
		Key: Key{Query: Query{Deny: []string{"utm_*"}, Sort: pointer(true)}, Headers: []string{"accept-language", "x-tenant"},
			Cookies: []string{"A", "b"}, Host: pointer(true)},
		Freshness: []Freshness{{Status: []string{"200"}, Lifetime: time.Minute}}, StaleWhileRevalidate: time.Second, StaleIfError: time.Hour, MaxBytes: 1 << 20,
		Targets: []string{"mine-cache-control"}, Vary: map[string][]string{"accept-language": {"de", "en"}}, StatusKey: true,
		Codings: 1<<0 | 1<<2, CompressBytesMin: 5 << 10,
	}
	options := []cmp.Option{cmpopts.IgnoreUnexported(Route{}), cmpopts.EquateEmpty()}
	own, _ := table.Match("h", "/")
	if diff := cmp.Diff(want, own, options...); diff != "" {
		t.Errorf("host: %s", diff)
	}
	want.Pattern = "/same"
	same, _ := table.Match("h", "/same")
	if diff := cmp.Diff(want, same, options...); diff != "" {
		t.Errorf("inherited: %s", diff)
	}
	want = &Route{
		Host: "*", Pattern: "/own", Shares: true, Origin: "api", Methods: []string{"POST"},
		Request:  Fields{Set: map[string]string{"x-a": "path", "x-c": "path"}, Remove: []string{"x-b", "x-gone"}},
		Response: Fields{Remove: []string{"server"}},
		Bypass:   true, Key: Key{Query: Query{Allow: &[]string{}, Sort: pointer(false)}, Host: pointer(false)}, MaxBytes: 1 << 30, RequestDirectives: true,
	}
	changed, _ := table.Match("h", "/own")
	if diff := cmp.Diff(want, changed, options...); diff != "" {
		t.Errorf("refined: %s", diff)
	}
	if got := string(same.AppendQuery(nil, "utm_a=1&z=1&b=2")); got != "b=2&z=1" {
		t.Errorf("inherited query rules: %q", got)
	}
	if got := string(changed.AppendQuery(nil, "a=1")); got != "" {
		t.Errorf("own query rules: %q", got)
	}
	if !same.Compressible("TEXT/css; charset=utf-8") || same.Compressible("image/svg+xml") || changed.Compressible("text/css") {
		t.Error("rules for compression are not inherited and replaced")
	}
	if _, _, ok := changed.Lifetime(200, ""); ok {
		t.Error("an empty list of freshness rules does not replace the host's")
	}
}

func TestDefaults(t *testing.T) {
	r, err := newTable(t, simpleHost("web", "*")).Match("h", "/")
	if err != nil {
		t.Fatal(err)
	}
	want := &Route{Host: "*", Pattern: "/*", Origin: "web", Key: Key{Host: pointer(true), Query: Query{Sort: pointer(false)}}, MaxBytes: 1 << 30,
		Targets: []string{"surrogate-control", "cdn-cache-control"}, Codings: 7, CompressBytesMin: 1 << 10}
	if diff := cmp.Diff(want, r, cmpopts.IgnoreUnexported(Route{}), cmpopts.EquateEmpty()); diff != "" {
		t.Error(diff)
	}
	if r.Methods != nil {
		t.Error("Methods is not nil")
	}
	for mediaType, want := range map[string]bool{"text/html; charset=utf-8": true, "application/json": true, "image/svg+xml": true,
		"font/ttf": true, "font/woff2": false, "image/png": false, "application/octet-stream": false, "": false, "text/": false} {
		if r.Compressible(mediaType) != want {
			t.Errorf("Compressible(%q) is not %v", mediaType, want)
		}
	}
}

func bigTable(t testing.TB) *Table {
	var hosts []Host
	for i := range 100 {
		host := simpleHost("web", fmt.Sprintf("h%d.example.com", i), fmt.Sprintf("*.h%d.example.com", i))
		host.Redirects = []Redirect{{Scheme: "http", To: "https://{host}{target}"}, {To: fmt.Sprintf("https://h%d.example.com{target}", i)}}
		for k := range 20 {
			host.Routes = append(host.Routes, path(fmt.Sprintf("/section-%d/*", k), "api"))
		}
		hosts = append(hosts, host)
	}
	return newTable(t, hosts...)
}

func TestMatchAllocatesNothing(t *testing.T) {
	table := bigTable(t)
	targets := []string{
		"/", "/section-7/deep/er/app.js?v=1234567890", "/assets/%E2%82%AC/a",
		"/assets/" + strings.Repeat("long/", 100), "/assets//x/%7Euser/../y",
	}
	for _, target := range targets {
		allocs := testing.AllocsPerRun(100, func() {
			r, err := table.Match("h42.example.com", target)
			if err != nil {
				t.Fatal(err)
			}
			if _, _, ok := r.Redirect("https", "h42.example.com", target); ok {
				t.Fatal("redirected")
			}
		})
		if allocs != 0 {
			t.Errorf("%.40q: %v allocations", target, allocs)
		}
	}
}

func FuzzMatch(f *testing.F) {
	f.Add("www.example.com", "/static/../admin?x")
	f.Add("a.b.example.com:80", "/static/%2e%2e%2fadmin")
	f.Add("[::1]:1", "*")
	host := simpleHost("web", "www.example.com", "*.example.com")
	host.Redirects = []Redirect{{Path: "/old/*", To: "/{rest}?{query}"}, {Path: "/host/*", To: "https://{host}/{rest}"}, {To: "https://www.example.com{target}"}}
	host.Routes = []Path{path("/static/*", "s"), path("/static/x", "x"), path("/admin/*", "a")}
	table := newTable(f, host, simpleHost("rest", "*"))
	f.Fuzz(func(t *testing.T, name, target string) {
		r, err := table.Match(name, target)
		if err != nil {
			return
		}
		if p, _, _ := strings.Cut(target, "?"); p != "*" {
			again, err := table.Match(name, string(appendNormal(nil, p)))
			if err != nil || again != r {
				t.Errorf("%q: normalised path matches %+v, %v, raw %q", target, again, err, r.Pattern)
			}
		}
		if got := r.Target(target); got != target {
			t.Errorf("Target(%q) = %q without a rewrite", target, got)
		}
		location, status, ok := r.Redirect("https", name, target)
		if !ok {
			return
		}
		if status != 308 || location == "" || strings.HasPrefix(location, "//") || strings.HasPrefix(location, `/\`) {
			t.Errorf("%q redirects %d to %q", target, status, location)
		}
		for i := range len(location) {
			if location[i] <= ' ' || location[i] >= 0x7f {
				t.Fatalf("%q redirects to %q", target, location)
			}
		}
		if rest, ok := strings.CutPrefix(location, "https://"); ok &&
			!strings.HasPrefix(rest, "www.example.com/") && !strings.HasPrefix(rest, withoutPort(name)+"/") {
			t.Errorf("%q redirects to another host: %q", target, location)
		}
	})
}

func BenchmarkMatch(b *testing.B) {
	table := bigTable(b)
	for _, test := range []struct{ name, target string }{
		{"short", "/"}, {"usual", "/section-7/css/app.css?v=12345"}, {"escaped", "/assets/%7Euser//x/../app.css"},
	} {
		b.Run(test.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := table.Match("h42.example.com", test.target); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
