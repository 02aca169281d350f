package origin

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// site writes files, makes them a minute old, and opens an origin over them.
func site(t *testing.T, files map[string]string, change func(*Config)) (*fixture, string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "public")
	old := time.Now().Add(-time.Minute)
	for name, text := range files {
		full := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(full, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(full, old, old); err != nil {
			t.Fatal(err)
		}
	}
	cfg := Config{Directory: dir}
	if change != nil {
		change(&cfg)
	}
	return open(t, cfg), dir
}

// fetch asks with fields, name and value in turn.
func (f *fixture) fetch(method, target string, fields ...string) (*http.Response, string) {
	f.t.Helper()
	r := f.request(f.t.Context(), method, target, nil)
	for i := 0; i < len(fields); i += 2 {
		r.Header.Add(fields[i], fields[i+1])
	}
	resp, err := f.RoundTrip(r)
	if err != nil {
		f.t.Fatalf("%s %s: %v", method, target, err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		f.t.Fatalf("%s %s: %v", method, target, err)
	}
	return resp, string(text)
}

func TestDirectory(t *testing.T) {
	f, _ := site(t, map[string]string{
		"index.html": "home", "sub/index.html": "sub", "sub/a b.txt": "space", "empty/x": "", "app.js": "code",
		"no-suffix": "?", "dir.txt/index.html": "odd",
	}, func(c *Config) { c.CacheControl = "public, max-age=60" })
	for _, test := range []struct {
		target, kind, text string
		status             int
	}{
		{"/", "text/html; charset=utf-8", "home", 200},
		{"/index.html", "text/html; charset=utf-8", "home", 200},
		{"/?q=1", "text/html; charset=utf-8", "home", 200},
		{"/sub/", "text/html; charset=utf-8", "sub", 200},
		{"/sub/a%20b.txt", "text/plain; charset=utf-8", "space", 200},
		{"/app.js", "text/javascript; charset=utf-8", "code", 200},
		{"/no-suffix", "application/octet-stream", "?", 200},
		{"/empty/x", "application/octet-stream", "", 200},
		{"/dir.txt/", "text/html; charset=utf-8", "odd", 200},
		{"/empty/", "text/plain; charset=utf-8", "404 Not Found\n", 404},
		{"/missing", "text/plain; charset=utf-8", "404 Not Found\n", 404},
		{"/app.js/", "text/plain; charset=utf-8", "404 Not Found\n", 404},
		{"/app.js/x", "text/plain; charset=utf-8", "404 Not Found\n", 404},
		{"/" + strings.Repeat("x", 300), "text/plain; charset=utf-8", "404 Not Found\n", 404},
	} {
		resp, text := f.fetch("GET", test.target)
		want(t, test.target, fmt.Sprint(resp.StatusCode, text), fmt.Sprint(test.status, test.text))
		want(t, test.target+" type", resp.Header.Get("Content-Type"), test.kind)
		want(t, test.target+" length", resp.ContentLength, int64(len(test.text)))
		if test.status == 200 {
			want(t, test.target+" control", resp.Header.Get("Cache-Control"), "public, max-age=60")
			head, none := f.fetch("HEAD", test.target)
			want(t, "HEAD", fmt.Sprint(head.StatusCode, head.ContentLength, none), fmt.Sprint(200, len(test.text)))
			want(t, "HEAD tag", head.Header.Get("Etag"), resp.Header.Get("Etag"))
		}
	}
	resp, _ := f.fetch("GET", "/sub?a=b")
	want(t, "redirect", fmt.Sprint(resp.StatusCode, resp.Header.Get("Location")), "301/sub/?a=b")
	resp, _ = f.fetch("POST", "/")
	want(t, "POST", fmt.Sprint(resp.StatusCode, resp.Header.Get("Allow")), "405GET, HEAD")
	want(t, "active", f.stats().Active.Load(), 0)
}

// TestDirectoryKeepsToItself: nothing outside is reached, by whatever spelling.
func TestDirectoryKeepsToItself(t *testing.T) {
	f, dir := site(t, map[string]string{
		"index.html": "home", "real.txt": "real", ".env": "secret", ".git/config": "secret", "a/.hidden": "secret", ".well-known/security.txt": "contact",
	}, nil)
	outside := filepath.Join(filepath.Dir(dir), "outside.txt")
	if err := os.WriteFile(outside, []byte("secret"), 0o644); err != nil {
		t.Fatal(err)
	}
	for link, to := range map[string]string{
		"in": "real.txt", "out": "../outside.txt", "absolute": outside, "up": "..", "loop": "loop", "device": "/dev/zero",
	} {
		if err := os.Symlink(to, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	if err := syscall.Mkfifo(filepath.Join(dir, "pipe"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, target := range []string{
		"/../outside.txt", "/a/../../outside.txt", "/%2e%2e/outside.txt", "/..%2foutside.txt", "/..%5coutside.txt", "/..\\outside.txt",
		"/.%2e/outside.txt", "/a%2f..%2f..%2foutside.txt", "//outside.txt", "/./real.txt", "/a/../real.txt", "//real.txt", "/real.txt%00.html", "/%",
		"/out", "/absolute", "/up/outside.txt", "/up", "/loop", "/device", "/pipe",
		"/.env", "/.git/config", "/a/.hidden", "/%2eenv", "/.git/", "/.",
	} {
		resp, text := f.fetch("GET", target)
		if resp.StatusCode != 404 || strings.Contains(text, "secret") {
			t.Errorf("%s: %d %q", target, resp.StatusCode, text)
		}
	}
	_, text := f.fetch("GET", "/in")
	want(t, "a link inside", text, "real")
	_, text = f.fetch("GET", "/.well-known/security.txt")
	want(t, "well-known", text, "contact")
	all, _ := site(t, map[string]string{".env": "wanted"}, func(c *Config) { c.Dotfiles = true })
	_, text = all.fetch("GET", "/.env")
	want(t, "with dotfiles", text, "wanted")
}

func TestDirectoryConditionsAndRanges(t *testing.T) {
	f, _ := site(t, map[string]string{"a.txt": "0123456789"}, nil)
	first, _ := f.fetch("GET", "/a.txt")
	tag, modified := first.Header.Get("Etag"), first.Header.Get("Last-Modified")
	if strings.HasPrefix(tag, "W/") || tag == "" || modified == "" {
		t.Fatalf("validators: %q, %q", tag, modified)
	}
	older := "Mon, 02 Jan 2006 15:04:05 GMT"
	for _, test := range []struct {
		fields []string
		answer string
	}{
		{[]string{"If-None-Match", tag}, "304"},
		{[]string{"If-None-Match", `"x", W/` + tag}, "304"},
		{[]string{"If-None-Match", "*"}, "304"},
		{[]string{"If-None-Match", `"x"`, "If-Modified-Since", modified}, "200 0123456789"},
		{[]string{"If-Modified-Since", modified}, "304"},
		{[]string{"If-Modified-Since", older}, "200 0123456789"},
		{[]string{"If-Modified-Since", "yesterday"}, "200 0123456789"},
		{[]string{"If-Match", tag}, "200 0123456789"},
		{[]string{"If-Match", "W/" + tag}, "412"},
		{[]string{"If-Match", `"x"`}, "412"},
		{[]string{"If-Unmodified-Since", modified}, "200 0123456789"},
		{[]string{"If-Unmodified-Since", older}, "412"},
		{[]string{"Range", "bytes=2-4"}, "206 234 bytes 2-4/10"},
		{[]string{"Range", "bytes=7-"}, "206 789 bytes 7-9/10"},
		{[]string{"Range", "bytes=7-99"}, "206 789 bytes 7-9/10"},
		{[]string{"Range", "bytes=-3"}, "206 789 bytes 7-9/10"},
		{[]string{"Range", "bytes=-99"}, "206 0123456789 bytes 0-9/10"},
		{[]string{"Range", "bytes=10-"}, "416  bytes */10"},
		{[]string{"Range", "bytes=-0"}, "416  bytes */10"},
		{[]string{"Range", "bytes=4-2"}, "200 0123456789"},
		{[]string{"Range", "bytes=0-1,3-4"}, "200 0123456789"},
		{[]string{"Range", "lines=1-2"}, "200 0123456789"},
		{[]string{"Range", "bytes=99999999999999999999-"}, "200 0123456789"},
		{[]string{"Range", "bytes=2-4", "If-Range", tag}, "206 234 bytes 2-4/10"},
		{[]string{"Range", "bytes=2-4", "If-Range", modified}, "206 234 bytes 2-4/10"},
		{[]string{"Range", "bytes=2-4", "If-Range", `"x"`}, "200 0123456789"},
		{[]string{"Range", "bytes=2-4", "If-Range", older}, "200 0123456789"},
		{[]string{"Range", "bytes=2-4", "If-None-Match", tag}, "304"},
	} {
		resp, text := f.fetch("GET", "/a.txt", test.fields...)
		answer := strings.TrimSpace(fmt.Sprintf("%d %s %s", resp.StatusCode, text, resp.Header.Get("Content-Range")))
		want(t, fmt.Sprint(test.fields), answer, test.answer)
	}
	resp, _ := f.fetch("HEAD", "/a.txt", "Range", "bytes=2-4")
	want(t, "HEAD with a range", fmt.Sprint(resp.StatusCode, resp.ContentLength), "200 10")
}

func TestDirectoryPrecompressed(t *testing.T) {
	f, _ := site(t, map[string]string{
		"app.js": "plain", "app.js.br": "BR", "app.js.gz": "GZ", "app.js.zst": "ZST", "b.css": "plain", "b.css.gz": "GZ", "c.txt": "plain",
	}, nil)
	tags := map[string]bool{}
	for _, test := range []struct{ target, accept, text, coding, vary string }{
		{"/app.js", "", "plain", "", "Accept-Encoding"},
		{"/app.js", "gzip", "GZ", "gzip", "Accept-Encoding"},
		{"/app.js", "gzip, br", "BR", "br", "Accept-Encoding"},
		{"/app.js", "gzip, zstd;q=0.5, br;q=0.1", "GZ", "gzip", "Accept-Encoding"},
		{"/app.js", "zstd", "ZST", "zstd", "Accept-Encoding"},
		{"/app.js", "*", "BR", "br", "Accept-Encoding"},
		{"/app.js", "br;q=0, *", "ZST", "zstd", "Accept-Encoding"},
		{"/app.js", "br;q=x, gzip;q=2", "plain", "", "Accept-Encoding"},
		{"/b.css", "br", "plain", "", "Accept-Encoding"},
		{"/b.css", "br, gzip", "GZ", "gzip", "Accept-Encoding"},
		{"/c.txt", "br, gzip", "plain", "", ""},
		{"/app.js.br", "br", "BR", "", ""},
	} {
		resp, text := f.fetch("GET", test.target, "Accept-Encoding", test.accept)
		h := resp.Header
		want(t, test.target+" "+test.accept, fmt.Sprint(text, h.Get("Content-Encoding"), h.Get("Vary")), fmt.Sprint(test.text, test.coding, test.vary))
		if test.target == "/app.js" {
			want(t, "type", h.Get("Content-Type"), "text/javascript; charset=utf-8")
			tags[text+h.Get("Etag")] = true
		}
	}
	want(t, "tags of four representations", len(tags), 4)
}

// TestFilesThatChange: what was changed while it was read does not end well, and what
// has just been written has no strong tag.
func TestFilesThatChange(t *testing.T) {
	f, dir := site(t, map[string]string{"a.bin": pattern(0, 300_000)}, nil)
	name := filepath.Join(dir, "a.bin")
	touch := func(at time.Time) {
		t.Helper()
		if err := os.Chtimes(name, at, at); err != nil {
			t.Fatal(err)
		}
	}
	for what, change := range map[string]func() error{
		"shorter": func() error { return os.Truncate(name, 1000) },
		"other":   func() error { return os.WriteFile(name, []byte(pattern(1, 300_000)), 0o644) },
	} {
		resp, err := f.do("GET", "/a.bin", nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(resp.Body, make([]byte, 500)); err != nil {
			t.Fatal(err)
		}
		if err := change(); err != nil {
			t.Fatal(err)
		}
		_, err = io.ReadAll(resp.Body)
		wantKind(t, what, err, KindResponseIncomplete)
		resp.Body.Close()
		if err := os.WriteFile(name, []byte(pattern(0, 300_000)), 0o644); err != nil {
			t.Fatal(err)
		}
		touch(time.Now().Add(-time.Minute)) // the next change is in another tick of its clock
	}
	touch(time.Now().Add(time.Minute)) // however long the next line takes
	resp, _ := f.fetch("GET", "/a.bin")
	if tag := resp.Header.Get("Etag"); !strings.HasPrefix(tag, "W/") {
		t.Errorf("written just now: %s", tag)
	}
	// Another directory in its place is served at once.
	if err := os.Rename(dir, dir+".old"); err != nil {
		t.Fatal(err)
	}
	_, err := f.do("GET", "/a.bin", nil)
	wantKind(t, "no directory", err, KindInternal)
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	resp, _ = f.fetch("GET", "/a.bin")
	want(t, "another directory", resp.StatusCode, 404)
	want(t, "active", f.stats().Active.Load(), 0)
}

func TestDirectoryMustBeThere(t *testing.T) {
	_, err := New(map[string]Config{"o": {Directory: filepath.Join(t.TempDir(), "none")}}, nil)
	if err == nil || !strings.Contains(err.Error(), "origin o: directory: ") {
		t.Errorf("got %v", err)
	}
	var problems []string
	Config{Directory: "x", URL: "http://y", Index: "a/b", Protocol: "h2", CacheControl: "a\nb"}.Validate(func(path, _ string) { problems = append(problems, path) })
	want(t, "problems", strings.Join(problems, " "), "index cache_control url protocol")
}
