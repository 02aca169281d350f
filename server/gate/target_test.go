package gate

import (
	"strings"
	"testing"
)

func TestParseTarget(t *testing.T) {
	tests := []struct {
		name, method, raw, scheme string
		authority, target         string
		problem                   problem
	}{
		{"origin form", "GET", "/a/b?c=d", "http", "", "/a/b?c=d", ""},
		{"bytes are kept", "GET", "//a/../%2F/./%2e?%", "http", "", "//a/../%2F/./%2e?%", ""},
		{"empty", "GET", "", "http", "", "", problemTarget},
		{"no slash", "GET", "a", "http", "", "", problemTarget},
		{"query alone", "GET", "?a", "http", "", "", problemTarget},
		{"fragment", "GET", "/a#b", "http", "", "", problemTarget},
		{"space", "GET", "/a b", "http", "", "", problemTarget},
		{"control", "GET", "/a\x01", "http", "", "", problemTarget},
		{"beyond ASCII", "GET", "/\xc3\xa4", "http", "", "", problemTarget},
		{"asterisk of OPTIONS", "OPTIONS", "*", "http", "", "*", ""},
		{"asterisk of GET", "GET", "*", "http", "", "", problemTarget},
		{"absolute form", "GET", "http://a.test/b?c", "http", "a.test", "/b?c", ""},
		{"absolute form, scheme in capitals", "GET", "HTTP://a.test/b", "http", "a.test", "/b", ""},
		{"absolute form over TLS", "GET", "https://a.test:8443/b", "https", "a.test:8443", "/b", ""},
		{"absolute form, other scheme", "GET", "https://a.test/", "http", "", "", problemScheme},
		{"absolute form, unknown scheme", "GET", "ftp://a.test/", "http", "", "", problemTarget},
		{"absolute form, no path", "GET", "http://a.test", "http", "a.test", "/", ""},
		{"absolute form, no path but a query", "GET", "http://a.test?b/c", "http", "a.test", "/?b/c", ""},
		{"absolute form, no host", "GET", "http:///a", "http", "", "", problemTarget},
		{"absolute form of OPTIONS *", "OPTIONS", "http://a.test", "http", "a.test", "*", ""},
		{"authority form", "GET", "a.test:80", "http", "", "", problemTarget},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			authority, target, p := parseTarget(test.method, test.raw, test.scheme)
			if authority != test.authority || target != test.target || p != test.problem {
				t.Errorf("parseTarget(%q, %q, %q) = %q, %q, %q", test.method, test.raw, test.scheme, authority, target, p)
			}
		})
	}
}

func TestParseAuthority(t *testing.T) {
	tests := []struct {
		in, scheme, want string // want "" is refused
	}{
		{"a.test", "http", "a.test"},
		{"A.Test", "http", "a.test"},
		{"a.test.", "http", "a.test"},
		{"a.test.:8080", "http", "a.test:8080"},
		{"a.test:80", "http", "a.test"},
		{"a.test:80", "https", "a.test:80"},
		{"a.test:443", "https", "a.test"},
		{"a.test:0443", "https", "a.test"},
		{"a.test:08080", "http", "a.test:8080"},
		{"a.test:", "http", "a.test"},
		{"a_b-c.test", "http", "a_b-c.test"},
		{"127.0.0.1:8080", "http", "127.0.0.1:8080"},
		{"[::1]", "http", "[::1]"},
		{"[::1]:8080", "http", "[::1]:8080"},
		{"[0:0:0::1]:80", "http", "[::1]"},
		{"[2001:DB8::A]", "http", "[2001:db8::a]"},
		{"", "http", ""},
		{".", "http", ""},
		{":80", "http", ""},
		{"a..test", "http", ""},
		{".a.test", "http", ""},
		{"a.test..", "http", ""},
		{"user@a.test", "http", ""},
		{"a.test/b", "http", ""},
		{"a.test,b.test", "http", ""},
		{"a.test b.test", "http", ""},
		{"a.test:65536", "http", ""},
		{"a.test:-1", "http", ""},
		{"a.test:+80", "http", ""},
		{"a.test:8_0", "http", ""},
		{"a.test:80:80", "http", ""},
		{"a%2etest", "http", ""},
		{"\xc3\xa4.test", "http", ""},
		{"::1", "http", ""},
		{"[::1", "http", ""},
		{"[::1]x", "http", ""},
		{"[127.0.0.1]", "http", ""},
		{"[fe80::1%25eth0]", "http", ""},
		{"[fe80::1%eth0]", "http", ""},
		{strings.Repeat("a", 255), "http", ""},
		{strings.Repeat("a", 300), "http", ""},
	}
	for _, test := range tests {
		got, ok := parseAuthority(test.in, test.scheme)
		if ok != (test.want != "") || got != test.want {
			t.Errorf("parseAuthority(%q, %q) = %q, %v, want %q", test.in, test.scheme, got, ok, test.want)
		}
	}
}

func TestParseAuthorityAllocatesNothingForUsualHosts(t *testing.T) {
	for _, host := range []string{"www.example.com", "www.example.com:8080", "example.com.", "[::1]:8080"} {
		if n := testing.AllocsPerRun(100, func() { _, _ = parseAuthority(host, "http") }); n > 0 && host[0] != '[' {
			t.Errorf("%q: %v allocations", host, n)
		}
	}
}

// FuzzTarget holds what must be true of every target that is let in.
func FuzzTarget(f *testing.F) {
	for _, seed := range []string{"/", "//a/../%2F", "*", "http://a.test/b", "https://[::1]:8443?x", "HTTP://A.test", "/a#b", "a:80"} {
		f.Add("GET", seed, true)
		f.Add("OPTIONS", seed, false)
	}
	f.Fuzz(func(t *testing.T, method, raw string, secure bool) {
		scheme := "http"
		if secure {
			scheme = "https"
		}
		authority, target, p := parseTarget(method, raw, scheme)
		if p != "" {
			if authority != "" || target != "" {
				t.Fatalf("refused %q but returned %q, %q", raw, authority, target)
			}
			return
		}
		if target == "*" {
			if method != "OPTIONS" {
				t.Fatalf("%s * was let in", method)
			}
		} else if !strings.HasPrefix(target, "/") {
			t.Fatalf("%q became %q", raw, target)
		}
		if authority == "" && target != raw {
			t.Fatalf("origin form %q became %q", raw, target)
		}
		if authority != "" && !strings.HasPrefix(strings.ToLower(raw), scheme+"://"+strings.ToLower(authority)) {
			t.Fatalf("%q: authority %q", raw, authority)
		}
		if strings.ContainsAny(target, " #\r\n\x00") {
			t.Fatalf("%q let %q in", raw, target)
		}
	})
}

// FuzzAuthority: what is let in is in its one normal form.
func FuzzAuthority(f *testing.F) {
	for _, seed := range []string{"a.test", "A.TEST.:80", "[::1]:443", "a.test:0080", "user@a.test", "a..b", "[::ffff:1.2.3.4]"} {
		f.Add(seed, true)
		f.Add(seed, false)
	}
	f.Fuzz(func(t *testing.T, authority string, secure bool) {
		scheme := "http"
		if secure {
			scheme = "https"
		}
		host, ok := parseAuthority(authority, scheme)
		if !ok {
			return
		}
		again, ok := parseAuthority(host, scheme)
		if !ok || again != host {
			t.Fatalf("%q became %q, which becomes %q, %v", authority, host, again, ok)
		}
		if host == "" || host != strings.ToLower(host) || strings.ContainsAny(host, "@/?#, \\\r\n\t") {
			t.Fatalf("%q became %q", authority, host)
		}
	})
}
