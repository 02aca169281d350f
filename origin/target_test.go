package origin

import (
	"bufio"
	"fmt"
	"net"
	"net/url"
	"strings"
	"testing"

	"edgecdn/cmd/origin/script"
)

func TestTargetsArriveAsSent(t *testing.T) {
	both(t, func(t *testing.T, _ *script.Script, cfg Config) {
		f := open(t, cfg)
		for _, target := range []string{
			"/_origin/raw/", "/_origin/raw/x?", "/_origin/raw/?a=b&&c;d=%2F?e", "/_origin/raw/a%2Fb%2f%41",
			"/_origin/raw//a///b//", "/_origin/raw/./a/../..", "/_origin/raw/%2e%2E/x", "//_origin/raw/x", "//_origin/raw/x?",
			"///_origin/raw/a%2Fb//?q", "//_origin/raw/?\"<>", "/_origin/raw/\"<>[]{}|\\^`", "/_origin/raw/\xff\xfe\xc3\xa4", "/_origin/raw/x?\xff",
			"/_origin/raw/;a=b,c@d:e!$&'()*+~", "/_origin/raw/http://other.example/", "/_origin/raw/+%20%00",
		} {
			e := f.echo(target)
			if string(e.TargetBytes) != target {
				t.Errorf("sent %q, arrived as %q", target, e.TargetBytes)
			}
			want(t, "host", e.Host, "client.example")
		}
	})
}

func TestTargetsBehindAPath(t *testing.T) {
	both(t, func(t *testing.T, _ *script.Script, cfg Config) {
		for _, base := range []string{"/_origin/raw", "/_origin/raw/", "/_origin/raw/a%2Fb"} {
			with := cfg
			with.URL += base
			f := open(t, with)
			for _, target := range []string{"/", "//x", "/?q", "/..", "/%2F\""} {
				want(t, base, string(f.echo(target).TargetBytes), strings.TrimSuffix(base, "/")+target)
			}
		}
	})
}

// TestTargetsThatNoServerOfOursTakes looks at the request line itself, for
// targets that net/http's server refuses.
func TestTargetsThatNoServerOfOursTakes(t *testing.T) {
	lines := make(chan string, 1)
	f := open(t, raw(t, func(_ int, conn net.Conn, r *bufio.Reader) {
		line, _ := r.ReadString('\n')
		lines <- line
		for line != "\r\n" && line != "" {
			line, _ = r.ReadString('\n')
		}
		fmt.Fprint(conn, "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
	}))
	for target, sent := range map[string]string{
		"/a%zz%":     "/a%zz%",
		"/%":         "/%",
		"/a#b?c#d":   "/a#b?c#d",
		"*":          "*",
		"//a%zz":     "//a%zz",
		"//a\"\xff?": "//a\"\xff?",
	} {
		f.get(target)
		want(t, target, receive(t, "a request arrives", lines), "GET "+sent+" HTTP/1.1\r\n")
	}
}

func TestTargetsRefused(t *testing.T) {
	f := open(t, Config{URL: "http://127.0.0.1:1"})
	for _, target := range []string{"", "x", "http://x/", "?q", "/a b", "/a\tb", "/a\r\nX: y", "/\x00", "/\x7f", "**"} {
		_, err := f.do("GET", target, nil)
		wantKind(t, target, err, KindRequest)
	}
	want(t, "connections", f.stats().ConnectionsDialed.Load(), 0)
	_, err := f.RoundTrip(f.request(WithTarget(t.Context(), "o", "/"), "GET", "/", strings.NewReader("x")))
	wantKind(t, "good target", err, KindRefused)
}

func FuzzTarget(f *testing.F) {
	f.Fuzz(func(t *testing.T, path, target string) {
		base, err := url.Parse("http://origin.example")
		if err != nil {
			t.Fatal(err)
		}
		if base.Path, err = url.PathUnescape(path); err != nil || !strings.HasPrefix(path, "/") {
			base.Path = ""
		}
		whole := strings.TrimSuffix(base.EscapedPath(), "/") + target
		u, err := targetURL(base, "client.example", target)
		odd := strings.ContainsFunc(target, func(r rune) bool { return r <= ' ' || r == 0x7f })
		if good := !odd && (target == "*" || strings.HasPrefix(target, "/")); good != (err == nil) {
			t.Fatalf("%q: %v", target, err)
		}
		if err != nil {
			return
		}
		got := u.RequestURI()
		if strings.HasPrefix(whole, "//") {
			got = strings.TrimPrefix(got, "http://client.example")
		}
		if target == "*" {
			whole = target
		}
		if got != whole || u.Host != "origin.example" || u.Scheme != "http" {
			t.Fatalf("%q behind %q is written %q to %s", target, path, got, u.Host)
		}
	})
}
