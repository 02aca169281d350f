package authority

import (
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
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
		got, ok := Parse(test.in, test.scheme)
		if ok != (test.want != "") || got != test.want {
			t.Errorf("Parse(%q, %q) = %q, %v, want %q", test.in, test.scheme, got, ok, test.want)
		}
	}
}

func TestParseAllocatesNothingForUsualHosts(t *testing.T) {
	for _, host := range []string{"www.example.com", "www.example.com:8080", "example.com.", "[::1]:8080"} {
		if n := testing.AllocsPerRun(100, func() { _, _ = Parse(host, "http") }); n > 0 && host[0] != '[' {
			t.Errorf("%q: %v allocations", host, n)
		}
	}
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
		host, ok := Parse(authority, scheme)
		if !ok {
			return
		}
		again, ok := Parse(host, scheme)
		if !ok || again != host {
			t.Fatalf("%q became %q, which becomes %q, %v", authority, host, again, ok)
		}
		if host == "" || host != strings.ToLower(host) || strings.ContainsAny(host, "@/?#, \\\r\n\t") {
			t.Fatalf("%q became %q", authority, host)
		}
	})
}
