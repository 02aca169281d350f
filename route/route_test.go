package route

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"
)

func routeOf(t testing.TB, host Host) *Route {
	t.Helper()
	host.Names = []string{"*"}
	host.Origin = "web"
	r, err := newTable(t, host).Match("h", "/")
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestAllows(t *testing.T) {
	open := routeOf(t, Host{})
	narrow := routeOf(t, Host{Policy: Policy{Methods: []string{"GET", "PROPFIND"}}})
	for method, want := range map[string][2]bool{
		"GET": {true, true}, "HEAD": {true, true}, "POST": {true, false}, "PROPFIND": {true, true}, "PURGE": {false, false}, "get": {true, false},
		"CONNECT": {false, false}, "TRACE": {false, false},
	} {
		if got := [2]bool{open.Allows(method), narrow.Allows(method)}; got != want {
			t.Errorf("%s: %v, want %v", method, got, want)
		}
	}
	if got := narrow.AllowField(); got != "GET, PROPFIND, HEAD" {
		t.Errorf("Allow: %s", got)
	}
	if got := open.AllowField(); strings.Contains(got, "TRACE") || !strings.Contains(got, "GET") {
		t.Errorf("Allow: %s", got)
	}
}

// PURGE has a switch of its own, which a path inherits and may turn off.
func TestPurgeIsLetIn(t *testing.T) {
	on, off := true, false
	table := newTable(t, Host{Policy: Policy{Origin: "web", Methods: []string{"GET"}, Purge: &on}, Names: []string{"h"}, Routes: []Path{
		{Path: "/more/*"}, {Path: "/never/*", Policy: Policy{Purge: &off}},
	}})
	for target, want := range map[string]string{"/": "GET, HEAD, PURGE", "/more/x": "GET, HEAD, PURGE", "/never/x": "GET, HEAD"} {
		r, err := table.Match("h", target)
		if err != nil {
			t.Fatal(err)
		}
		if r.Allows("PURGE") != strings.Contains(want, "PURGE") || r.AllowField() != want {
			t.Errorf("%s: PURGE %v, Allow: %s", target, r.Allows("PURGE"), r.AllowField())
		}
	}
}

// Whether Idempotency-Key is trusted is said of the host, and of a path otherwise.
func TestIdempotencyKeyIsTrusted(t *testing.T) {
	on, off := true, false
	table := newTable(t, Host{Policy: Policy{Origin: "web", IdempotencyKey: &on}, Names: []string{"h"}, Routes: []Path{
		{Path: "/more/*"}, {Path: "/never/*", Policy: Policy{IdempotencyKey: &off}},
	}}, Host{Policy: Policy{Origin: "web"}, Names: []string{"other"}})
	for url, want := range map[string]bool{"h/": true, "h/more/x": true, "h/never/x": false, "other/": false} {
		host, _, _ := strings.Cut(url, "/")
		if r, err := table.Match(host, url[len(host):]); err != nil || r.IdempotencyKey != want {
			t.Errorf("%s: %v", url, err)
		}
	}
}

func TestTarget(t *testing.T) {
	tests := []struct{ strip, add, raw, want string }{
		{"", "", "/a%2Fb//../c?x=%20", "/a%2Fb//../c?x=%20"},
		{"/app", "", "/app", "/"},
		{"/app", "", "/app?x", "/?x"},
		{"/app", "", "/app/a%2Fb//../c?x=/app", "/a%2Fb//../c?x=/app"},
		{"/app/", "", "/app/x", "/x"},
		{"/app", "", "/application", "/application"},
		{"/app", "", "/%61pp/x", "/%61pp/x"},
		{"", "/v2/", "/x?y", "/v2/x?y"},
		{"/app", "/v2", "/app", "/v2/"},
		{"/app", "/v2", "/other", "/v2/other"},
		{"/app", "/v2", "*", "*"},
	}
	for _, test := range tests {
		r := routeOf(t, Host{Policy: Policy{Rewrite: &Rewrite{StripPrefix: test.strip, AddPrefix: test.add}}})
		if got := r.Target(test.raw); got != test.want {
			t.Errorf("strip %q, add %q: Target(%q) = %q, want %q", test.strip, test.add, test.raw, got, test.want)
		}
	}
}

func TestLifetime(t *testing.T) {
	r := routeOf(t, Host{Policy: Policy{Cache: Cache{Freshness: []Freshness{
		{Status: []string{"404", "410"}, Lifetime: time.Minute},
		{Status: []string{"5xx"}, Force: true},
		{Types: []string{"image/*", "Text/CSS"}, Lifetime: time.Hour, Force: true},
		{Status: []string{"200", "3XX"}, Lifetime: time.Second},
	}}}})
	tests := []struct {
		status      int
		contentType string
		want        time.Duration
		force, ok   bool
	}{
		{404, "image/png", time.Minute, false, true},
		{410, "", time.Minute, false, true},
		{503, "", 0, true, true},
		{200, "image/png", time.Hour, true, true},
		{200, "IMAGE/PNG; x=y", time.Hour, true, true},
		{200, "text/css ; charset=utf-8", time.Hour, true, true},
		{200, "text/cssx", time.Second, false, true},
		{200, "image/", time.Second, false, true},
		{200, "", time.Second, false, true},
		{301, "image/png", time.Second, false, true},
		{403, "", 0, false, false},
		{99, "", 0, false, false},
		{9999, "", 0, false, false},
	}
	for _, test := range tests {
		d, force, ok := r.Lifetime(test.status, test.contentType)
		if d != test.want || force != test.force || ok != test.ok {
			t.Errorf("Lifetime(%d, %q) = %v, %v, %v", test.status, test.contentType, d, force, ok)
		}
	}
	if allocs := testing.AllocsPerRun(100, func() { r.Lifetime(200, "text/html; charset=utf-8") }); allocs != 0 {
		t.Errorf("%v allocations", allocs)
	}
}

func TestRedirect(t *testing.T) {
	https := Redirect{Scheme: "http", To: "https://{host}{target}"}
	tests := []struct {
		name                 string
		rules                []Redirect
		scheme, host, target string
		want                 string
		status               int
	}{
		{"to https", []Redirect{https}, "http", "a.example:8080", "/x?y=1", "https://a.example/x?y=1", 308},
		{"https stays", []Redirect{https}, "https", "a.example", "/x", "", 0},
		{"skips itself", []Redirect{{To: "https://www.example.com{target}"}}, "https", "www.example.com", "/x?y", "", 0},
		{"skips itself at the root", []Redirect{{To: "https://www.example.com"}}, "https", "www.example.com", "/", "", 0},
		{"other name", []Redirect{{To: "https://www.example.com{target}", Status: 301}}, "https", "example.com", "/x?y", "https://www.example.com/x?y", 301},
		{"name with that prefix", []Redirect{{To: "https://www.example.com{target}"}}, "https", "www.example.co", "/x", "https://www.example.com/x", 308},
		{"first wins", []Redirect{{Path: "/a", To: "/1"}, {To: "/2"}}, "http", "h", "/a", "/1", 308},
		{"next is tried", []Redirect{{Path: "/a", To: "/1"}, {Path: "/b", To: "/2"}}, "http", "h", "/b", "/2", 308},
		{"exact path only", []Redirect{{Path: "/a", To: "/1"}}, "http", "h", "/a/", "", 0},
		{"rest", []Redirect{{Path: "/old/*", To: "/new/{rest}?{query}"}}, "http", "h", "/old/a%2Fb/?x=1", "/new/a%2Fb/?x=1", 308},
		{"rest without query", []Redirect{{Path: "/old/*", To: "/new/{rest}?{query}"}}, "http", "h", "/old", "/new/", 308},
		{"query joined", []Redirect{{Path: "/old", To: "/new?from=old&{query}"}}, "http", "h", "/old?a=1", "/new?from=old&a=1", 308},
		{"path", []Redirect{{To: "https://other.example{path}"}}, "http", "h", "/a?b", "https://other.example/a", 308},
		{"prefix ends at a segment", []Redirect{{Path: "/old/*", To: "/new"}}, "http", "h", "/older", "", 0},
		{"no other host by rest", []Redirect{{Path: "/old/*", To: "/{rest}"}}, "http", "h", "/old//evil.example/", "/evil.example/", 308},
		{"no other host by backslash", []Redirect{{Path: "/old/*", To: "/{rest}"}}, "http", "h", `/old/\evil.example/`, "/evil.example/", 308},
		{"no other host by target", []Redirect{{To: "{target}#x"}}, "http", "h", "//evil.example/", "/evil.example/#x", 308},
		{"one line", []Redirect{https}, "http", "h", "/\r\nSet-Cookie: x \x00\xff\"<>#", "https://h/%0D%0ASet-Cookie:%20x%20%00%FF%22%3C%3E%23", 308},
		{"host that cannot be written", []Redirect{https}, "http", "h/evil", "/", "", 0},
		{"no host", []Redirect{https}, "http", "", "/", "", 0},
		{"only one reading matches", []Redirect{{Path: "/old/*", To: "/new"}}, "http", "h", "/old/../x", "", 0},
		{"asterisk", []Redirect{https}, "http", "h", "*", "", 0},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			r := routeOf(t, Host{Redirects: test.rules})
			location, status, ok := r.Redirect(test.scheme, test.host, test.target)
			if location != test.want || status != test.status || ok != (test.want != "") {
				t.Errorf("Redirect = %q, %d, %v, want %q, %d", location, status, ok, test.want, test.status)
			}
		})
	}
}

func queryRoute(t testing.TB, q Query) *Route {
	return routeOf(t, Host{Policy: Policy{Cache: Cache{Key: Key{Query: q}}}})
}

func TestAppendQuery(t *testing.T) {
	many := strings.Repeat("b=1&", 127) + "a=1"
	tests := []struct {
		name     string
		q        Query
		in, want string
	}{
		{"no rules", Query{}, "b=%20&a;utm_x", "b=%20&a;utm_x"},
		{"drop all", Query{Allow: &[]string{}}, "a=1;b", ""},
		{"allow", Query{Allow: &[]string{"id", "p*"}}, "x=1&id=%41+b&page=2&p&id&idx=1", "id=%41+b&page=2&p&id"},
		{"allow sees through escapes", Query{Allow: &[]string{"id", "a b"}}, "%69d=1&%69%64=2&a+b=3&a%20b=4", "%69d=1&%69%64=2&a+b=3&a%20b=4"},
		{"deny", Query{Deny: []string{"utm_*", "gclid"}}, "utm_source=x&a=1&gclid=2&gclidx=3&UTM_x=4", "a=1&gclidx=3&UTM_x=4"},
		{"deny sees through escapes", Query{Deny: []string{"utm_*"}}, "%75tm_a=1&b", "b"},
		{"deny after allow", Query{Allow: &[]string{"*"}, Deny: []string{"x"}}, "x=1&y=2", "y=2"},
		{"sort", Query{Sort: pointer(true)}, "b=2&a=1&b=1&a", "a=1&a&b=2&b=1"},
		{"sort keeps spellings of a name in order", Query{Sort: pointer(true)}, "id=2&a&%69d=1", "a&id=2&%69d=1"},
		{"sort is by byte", Query{Sort: pointer(true)}, "ab&a&%ff&B", "B&a&ab&%ff"},
		{"semicolons may part parameters", Query{Allow: &[]string{"a"}, Sort: pointer(true)}, "x=1;a=evil", "x=1;a=evil"},
		{"empty parameters", Query{Sort: pointer(true)}, "b&&a", "&a&b"},
		{"empty", Query{Sort: pointer(true)}, "", ""},
		{"at the bound", Query{Sort: pointer(true)}, many, "a=1&" + strings.TrimSuffix(strings.Repeat("b=1&", 127), "&")},
		{"over the bound of bytes", Query{Deny: []string{"a"}}, "a=" + strings.Repeat("x", queryBytesMax), "a=" + strings.Repeat("x", queryBytesMax)},
		{"over the bound", Query{Sort: pointer(true)}, "c&" + many, "c&" + many},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := string(queryRoute(t, test.q).AppendQuery([]byte("?"), test.in)); got != "?"+test.want {
				t.Errorf("AppendQuery(%.80q) = %.80q, want %.80q", test.in, got[1:], test.want)
			}
		})
	}
}

func FuzzAppendQuery(f *testing.F) {
	f.Add("b=2&a=1&utm_x=3&%69d=4&id=5")
	f.Add("a;b&c=&=d&&")
	f.Add("%&%7&%zz=1&+=2")
	r := queryRoute(f, Query{Allow: &[]string{"id", "a*", "b"}, Deny: []string{"ab*"}, Sort: pointer(true)})
	dst := make([]byte, 0, 1<<20)
	f.Fuzz(func(t *testing.T, query string) {
		once := string(r.AppendQuery(dst, query))
		if twice := string(r.AppendQuery(dst, once)); twice != once {
			t.Errorf("%q: %q becomes %q the second time", query, once, twice)
		}
		if allocs := testing.AllocsPerRun(10, func() { r.AppendQuery(dst, query) }); allocs != 0 {
			t.Errorf("%q: %v allocations", query, allocs)
		}
		if strings.Contains(query, ";") || strings.Count(query, "&") >= parametersMax || len(query) > queryBytesMax {
			if once != query {
				t.Errorf("%q became %q", query, once)
			}
			return
		}
		// The standard library's reading of names must lead to the same choice.
		var want []string
		for p := range strings.SplitSeq(query, "&") {
			raw, _, _ := strings.Cut(p, "=")
			if n, err := url.QueryUnescape(raw); err != nil {
				return
			} else if (n == "id" || n == "b" || strings.HasPrefix(n, "a")) && !strings.HasPrefix(n, "ab") {
				want = append(want, p)
			}
		}
		slices.SortStableFunc(want, func(a, b string) int {
			a, _, _ = strings.Cut(a, "=")
			b, _, _ = strings.Cut(b, "=")
			a, _ = url.QueryUnescape(a)
			b, _ = url.QueryUnescape(b)
			return strings.Compare(a, b)
		})
		if once != strings.Join(want, "&") {
			t.Errorf("AppendQuery(%q) = %q, want %q", query, once, strings.Join(want, "&"))
		}
	})
}

func BenchmarkAppendQuery(b *testing.B) {
	var many []string
	for i := range 100 {
		many = append(many, fmt.Sprintf("p%d=%d", i*37%100, i))
	}
	r := queryRoute(b, Query{Deny: []string{"utm_*", "gclid", "fbclid"}, Sort: pointer(true)})
	dst := make([]byte, 0, 4096)
	for _, test := range []struct{ name, query string }{
		{"none", ""}, {"usual", "v=12345&utm_source=news&a=1"}, {"hundred", strings.Join(many, "&")},
	} {
		b.Run(test.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				dst = r.AppendQuery(dst[:0], test.query)
			}
		})
	}
}

func BenchmarkRedirect(b *testing.B) {
	r := routeOf(b, Host{Redirects: []Redirect{{Scheme: "http", To: "https://{host}{target}"}, {To: "https://www.example.com{target}"}}})
	b.ReportAllocs()
	for b.Loop() {
		if _, _, ok := r.Redirect("https", "www.example.com", "/static/app.css?v=1"); ok {
			b.Fatal("redirected")
		}
	}
}
