package route

import (
	"strings"
	"testing"
)

func TestNormalise(t *testing.T) {
	tests := []struct{ name, in, want string }{
		{"root", "/", "/"},
		{"plain", "/static/app.js", "/static/app.js"},
		{"trailing slash kept", "/static/", "/static/"},
		{"unreserved decoded", "/%61%7E%2d%5F%2E", "/a~-_."},
		{"reserved kept, digits upper", "/a%3fb%C3%a9", "/a%3Fb%C3%A9"},
		{"encoded slash", "/a%2fb%2Fc", "/a/b/c"},
		{"backslash", `/a\b%5Cc`, "/a/b/c"},
		{"decoded once", "/a%252Fb", "/a%252Fb"},
		{"no escape", "/100%/%zz/%4", "/100%25/%25zz/%254"},
		{"escape of an escape", "/%%32%46", "/%252F"},
		{"not ASCII", "/caf\u00e9 x\x00", "/caf%C3%A9%20x%00"},
		{"slashes collapse", "//a///b//", "/a/b/"},
		{"dot", "/a/./b/.", "/a/b/"},
		{"dot dot", "/a/b/../c/..", "/a/"},
		{"above the root", "/../../a", "/a"},
		{"only dots", "/..", "/"},
		{"encoded dots", "/a/%2e%2E/b", "/b"},
		{"encoded dots and slash", "/static/..%2fadmin", "/admin"},
		{"dots after slashes", "/a//../b", "/b"},
		{"parameters on dots", "/static/..;x=1/admin/.;/", "/admin/"},
		{"not dot segments", "/.../..a/.b/a..", "/.../..a/.b/a.."},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := string(appendNormal([]byte("x"), test.in)); got != "x"+test.want {
				t.Errorf("appendNormal(%q) = %q, want %q", test.in, got[1:], test.want)
			}
			if got := normal(test.in); got != (test.in == test.want) {
				t.Errorf("normal(%q) = %v", test.in, got)
			}
		})
	}
}

func FuzzNormalise(f *testing.F) {
	for _, seed := range []string{"/", "/a/%2e%2e/b", "//x//", "/%%32%46", "/..;/a", `/a\..\b`, "/caf\u00e9", "/a/.%2e"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, path string) {
		path = "/" + path
		once := string(appendNormal(nil, path))
		if twice := string(appendNormal(nil, once)); twice != once {
			t.Errorf("%q: %q becomes %q the second time", path, once, twice)
		}
		if !normal(once) {
			t.Errorf("%q: normal(%q) is false", path, once)
		}
		if normal(path) != (once == path) {
			t.Errorf("normal(%q) = %v, but its form is %q", path, normal(path), once)
		}
		for segment := range strings.SplitSeq(once[1:], "/") {
			if dots(segment) > 0 {
				t.Errorf("%q: dot segment left in %q", path, once)
			}
		}
		if strings.Contains(once, "//") || once[0] != '/' || len(once) > 3*len(path) {
			t.Errorf("%q: %q", path, once)
		}
	})
}
