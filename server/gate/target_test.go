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
