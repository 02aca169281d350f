package route

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"edgecdn/internal/unit"
)

func problemsOf(hosts []Host) []string {
	var out []string
	origin := func(name string) string {
		if name == "web" {
			return ""
		}
		return name + " is not there"
	}
	ValidateHosts(hosts, origin, func(path, problem string) { out = append(out, path+": "+problem) })
	return out
}

func TestValidateReportsEverything(t *testing.T) {
	hosts := []Host{
		{
			Names: []string{"a.example", "A.example", "https://x", "x.example:80", "x.example.", "a.*.example", "caf\u00e9.example", "a..b", "a b", "[::1]"},
			Policy: Policy{
				Origin: "wbe", Methods: []string{"get", "CONNECT", "a b", "PURGE"},
				Rewrite: &Rewrite{StripPrefix: "app", AddPrefix: "//evil"},
				Request: Fields{Set: map[string]string{"Host": "x", "a b": "x", "X-Line": "a\r\nb", "x-line": "y"}, Remove: []string{"Transfer-Encoding", "Range"}},
				Cache: Cache{
					Freshness:            []Freshness{{Status: []string{"20x", "199", "404"}, Types: []string{"image", "*/*", "a/b;c"}, Lifetime: -1}},
					StaleWhileRevalidate: pointer(-time.Second), StaleIfError: pointer(1 << 62 * time.Nanosecond),
					Key:      Key{Headers: []string{"Cookie", "a:b"}, Cookies: []string{"a=b"}, Query: Query{Allow: &[]string{"", "a*b"}, Deny: []string{"a&b"}}},
					Targets:  []string{"a b", "cache-control"},
					Vary:     map[string][]string{"Accept-Encoding": {"br"}, "Range": {"x"}, "Accept-Language": {"en", "de;q=1", ""}, "Accept": {}},
					Compress: Compress{Codings: []string{"br", "deflate"}, Types: []string{"text"}, MinBytes: pointer(unit.Bytes(-1))},
				},
			},
			Redirects: []Redirect{
				{}, {Scheme: "ftp", Path: "x", To: "{nope}", Status: 200}, {To: "https://a.example{rest}"}, {To: "ftp://x"},
				{To: "https:///x"}, {To: "/a b"}, {To: "https://a?{query}"}, {To: "https://{host}@evil.example/"},
			},
			Routes: []Path{
				{}, {Path: "x"}, {Path: "/a?b"}, {Path: "/a*"}, {Path: "/a//../b/*"}, {Path: "/%7ea"}, {Path: "/a//*"},
				{Path: "/ok", Policy: Policy{Methods: []string{}, Response: Fields{Remove: []string{"Content-Length", "Age"}}}}, {Path: "/ok"}, {Path: "/a/.*"},
			},
		},
		{Names: []string{"a.example"}},
		{},
	}
	want := strings.Split(strings.TrimSpace(`
[0].names[1]: "A.example" is already named by hosts[0].names[0]: keep one of them
[0].names[2]: "https://x" is a URL: write the host's name only
[0].names[3]: "x.example:80" has a port: names hold for all ports, leave it out
[0].names[4]: "x.example." ends in a dot: leave it out, it is matched with and without
[0].names[5]: "a.*.example" has a "*" that is not its whole first label: write "*.example.com" or "*"
[0].names[6]: "café.example" is not ASCII: write it as it is sent, in punycode (xn--...)
[0].names[7]: "a..b" has a label that is empty or longer than 63 bytes
[0].names[8]: "a b" holds ' ', which no host name does
[0].redirects[0].to: is missing: say where to, such as "https://{host}{target}"
[0].redirects[1].scheme: "ftp" is not http or https
[0].redirects[1].path: "x" does not begin with a slash: write "/x"
[0].redirects[1].status: 200 is not a redirect: use 301, 302, 303, 307 or 308
[0].redirects[1].to: "{nope}" is no placeholder: {host}, {path}, {query}, {target} and {rest} are
[0].redirects[2].to: lets the client choose the host: put "/" before {rest} and "?"
[0].redirects[3].to: must begin with "https://", "http://", "/", {path} or {target}
[0].redirects[4].to: names no host after the scheme
[0].redirects[5].to: holds a byte that is not visible ASCII: percent-encode it
[0].redirects[6].to: lets the client choose the host: put "/" before {rest} and "?"
[0].redirects[7].to: lets the client choose the host: put "/" before {rest} and "?"
[0].origin: wbe is not there
[0].methods[0]: methods are case-sensitive: write "GET" instead of "get"
[0].methods[1]: CONNECT asks for a tunnel, which a host cannot give: leave it out
[0].methods[2]: "a b" is not a method: write one such as GET
[0].methods[3]: PURGE is for the edge and is never passed on: leave it out, and set purge: true where it is let in
[0].rewrite.strip_prefix: "app" does not begin with a slash: write "/app"
[0].rewrite.add_prefix: "//evil" begins with "//", which would name a host: write one slash
[0].request.set.Host: Host cannot be changed: it selects the host: set origins.NAME.host instead
[0].request.set.X-Line: "a\r\nb" is not a field value: one line of text, without spaces at its ends, of at most 4096 bytes
[0].request.set.a b: "a b" is not a field name: use letters, digits and hyphens
[0].request.set.x-line: is set twice, in another case: keep one
[0].request.remove[0]: Transfer-Encoding cannot be changed: it frames the message
[0].request.remove[1]: Range cannot be changed: it is used by the cache itself
[0].cache.freshness[0].status[0]: "20x" is not a status from 200 to 599 or a class such as 4xx
[0].cache.freshness[0].status[1]: "199" is not a status from 200 to 599 or a class such as 4xx
[0].cache.freshness[0].types[0]: "image" is not a media type: write one such as text/css or image/*, without parameters
[0].cache.freshness[0].types[1]: "*/*" is not a media type: write one such as text/css or image/*, without parameters
[0].cache.freshness[0].types[2]: "a/b;c" is not a media type: write one such as text/css or image/*, without parameters
[0].cache.freshness[0].lifetime: -1ns is impossible: write a duration from 0s (not stored) to 87600h
[0].cache.stale_while_revalidate: -1s is impossible: write a duration from 0s to 87600h
[0].cache.stale_if_error: 1281023h53m38.427387904s is impossible: write a duration from 0s to 87600h
[0].cache.targets[0]: "a b" is not a field name
[0].cache.targets[1]: Cache-Control holds where none of the targets does: leave it out
[0].cache.vary.Accept: lists 0 values: write 1 to 128
[0].cache.vary.Accept-Encoding: Accept-Encoding is reduced to the codings that are known: leave it out
[0].cache.vary.Accept-Language[1]: "de;q=1" is not one value: write one without comma and semicolon, such as en
[0].cache.vary.Accept-Language[2]: "" is not one value: write one without comma and semicolon, such as en
[0].cache.vary.Range: Range cannot be changed: it is used by the cache itself
[0].cache.key.headers[0]: the whole Cookie field differs for each client: name single cookies under cookies
[0].cache.key.headers[1]: "a:b" is not a field name
[0].cache.key.cookies[0]: "a=b" is not a cookie name
[0].cache.key.query.allow[0]: "" is not a parameter name: write it decoded, such as utm_source, or with a final "*"
[0].cache.key.query.allow[1]: "a*b" is not a parameter name: write it decoded, such as utm_source, or with a final "*"
[0].cache.key.query.deny[0]: "a&b" is not a parameter name: write it decoded, such as utm_source, or with a final "*"
[0].cache.compress.codings[1]: "deflate" is no coding that can be made here: write br, zstd or gzip
[0].cache.compress.types[0]: "text" is not a media type: write one such as text/css or image/*, without parameters
[0].cache.compress.min_bytes: -1B is impossible: write a size such as 1KiB
[0].routes[0].path: is missing: write a path such as /robots.txt or a prefix such as /static/*
[0].routes[1].path: "x" does not begin with a slash: write "/x"
[0].routes[2].path: "/a?b" holds a query or fragment: paths are matched without
[0].routes[3].path: "/a*" has a "*" that is not its last segment: write /prefix/* or an exact path
[0].routes[4].path: "/a//../b/*" is not in normal form (RFC 3986 6.2.2): write "/b/*"
[0].routes[5].path: "/%7ea" is not in normal form (RFC 3986 6.2.2): write "/~a"
[0].routes[6].path: "/a//*" is not in normal form: write "/a/*"
[0].routes[7].methods: is an empty list, which lets nothing in: leave it out or name methods
[0].routes[7].response.remove[0]: Content-Length cannot be changed: it frames the message
[0].routes[7].response.remove[1]: Age cannot be changed: it is written by this node
[0].routes[8].path: "/ok" is already the path of routes[7]: merge them
[0].routes[9].path: "/a/.*" has a "*" that is not its last segment: write /prefix/* or an exact path
[1].names[0]: "a.example" is already named by hosts[0].names[0]: keep one of them
[1].origin: is missing: name the origin that answers misses, or give redirects
[2].names: is empty: list the names that this host answers to, such as www.example.com, or "*" for all
[2].origin: is missing: name the origin that answers misses, or give redirects
`), "\n")
	if diff := cmp.Diff(want, problemsOf(hosts)); diff != "" {
		t.Error(diff)
	}
	if _, err := NewTable(hosts); err == nil || !strings.Contains(err.Error(), "route: hosts[2].names: is empty") {
		t.Errorf("NewTable: %v", err)
	}
}

func TestValidateAccepts(t *testing.T) {
	hosts := []Host{{
		Names: []string{"www.example.com", "*.example.com", "*", "[2001:db8::1]", "127.0.0.1", "localhost", "_x.example"},
		Policy: Policy{
			Origin: "web", Methods: []string{"GET", "PROPFIND", "M-SEARCH"}, Rewrite: &Rewrite{StripPrefix: "/", AddPrefix: "/v%20/"},
			Request:  Fields{Set: map[string]string{"X-Forwarded-Proto": "https", "Authorization": "Basic \u00fc", "X-Empty": ""}},
			Response: Fields{Set: map[string]string{"Strict-Transport-Security": "max-age=1"}, Remove: []string{"Server", "Set-Cookie"}},
		},
		Redirects: []Redirect{{To: "https://{host}:8443{target}"}, {Path: "/*", To: "{path}?x"}, {To: "http://www.{host}/{rest}"}, {To: "https://a.example"}},
		Routes:    []Path{path("/*", "web"), path("/", "web"), path("/a/", "web"), path("/a", "web"), path("/a/*", "web"), path("/caf%C3%A9/*", "")},
	}}
	if problems := problemsOf(hosts); problems != nil {
		t.Error(strings.Join(problems, "\n"))
	}
}

func TestValidateBounds(t *testing.T) {
	many := func(n int) []string {
		var out []string
		for i := range n {
			out = append(out, fmt.Sprintf("n%d", i))
		}
		return out
	}
	fields := make(map[string]string)
	for _, name := range many(rulesMax + 1) {
		fields[name] = "x"
	}
	host := simpleHost("web", many(namesMax+1)...)
	host.Redirects = make([]Redirect, redirectsMax+1)
	host.Routes = make([]Path, routesMax+1)
	host.Request.Set = fields
	host.Cache.Freshness = make([]Freshness, rulesMax+1)
	keys := simpleHost("web", "k")
	keys.Cache.Key = Key{Headers: many(keyPartsMax + 1), Cookies: many(keyPartsMax + 1), Query: Query{Allow: pointer(many(parameterMax + 1)), Deny: many(parameterMax + 1)}}
	keys.Rewrite = &Rewrite{AddPrefix: "/" + strings.Repeat("a", patternMax)}
	keys.Routes = []Path{{Path: "/" + strings.Repeat("a", patternMax)}}
	keys.Redirects = []Redirect{{To: "/" + strings.Repeat("a", patternMax)}}
	got := problemsOf([]Host{host, keys})
	for _, at := range []string{
		"[0].names", "[0].redirects", "[0].routes", "[0].request", "[0].cache.freshness", "[1].cache.key.headers", "[1].cache.key.cookies",
		"[1].cache.key.query.allow", "[1].cache.key.query.deny", "[1].rewrite.add_prefix", "[1].routes[0].path", "[1].redirects[0].to",
	} {
		if !slices.ContainsFunc(got, func(p string) bool { return strings.HasPrefix(p, at+": ") }) {
			t.Errorf("nothing reported at %s", at)
		}
	}
	if len(got) != 12 {
		t.Errorf("%d problems:\n%s", len(got), strings.Join(got, "\n"))
	}
	if got := problemsOf(make([]Host, hostsMax+1)); len(got) != 1 {
		t.Errorf("too many hosts: %d problems", len(got))
	}
}
