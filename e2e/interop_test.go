package e2e

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"edgecdn/cmd/origin/script"
)

// Clients that others have written, in the ways in which people use them.

// wantUpload fails unless the text holds the origin's receipt for these bytes.
func wantUpload(t *testing.T, name, text string, sent []byte) script.Upload {
	t.Helper()
	var got script.Upload
	from, to := strings.Index(text, "{\n"), strings.LastIndex(text, "}")
	if from < 0 || to < from {
		t.Errorf("%s: no receipt in %q", name, tail(text, 5))
		return got
	}
	sum := sha256.Sum256(sent)
	err := json.Unmarshal([]byte(text[from:to+1]), &got)
	if err != nil || got.Length != int64(len(sent)) || got.SHA256 != hex.EncodeToString(sum[:]) {
		t.Errorf("%s: the origin got %d bytes of %d, and not the same: %v", name, got.Length, len(sent), err)
	}
	return got
}

// bodyFile writes a generated body to a file.
func bodyFile(t *testing.T, size int) (path string, body []byte) {
	t.Helper()
	body = make([]byte, size)
	script.Pattern(body, 0)
	path = filepath.Join(t.TempDir(), "body")
	writeFile(t, path, string(body))
	return path, body
}

func TestCurl(t *testing.T) {
	need(t, "curl")
	n := startEdge(t, startOrigin(t))
	file, body := bodyFile(t, 1_500_000)
	for _, tt := range []struct {
		name, base string
		args       []string
	}{
		{"h1", "http://" + n.http, nil},
		{"h1s", "https://" + n.https, []string{"--http1.1"}},
		{"h2", "https://" + n.https, []string{"--http2"}},
	} {
		curl := func(args ...string) string {
			t.Helper()
			stdout, stderr, code := run(t, "curl", append(append([]string{"-sS", "--max-time", "30", "--cacert", n.ca()}, tt.args...), args...)...)
			if code != 0 {
				t.Fatalf("%s: curl %v: exit code %d: %s", tt.name, args, code, stderr)
			}
			return stdout
		}
		url := tt.base + "/video/1MB.bin?" + tt.name
		for range 2 { // a miss, a hit
			if got := curl(url); got != string(body[:1_000_000]) {
				t.Errorf("%s: %d bytes, not the origin's", tt.name, len(got))
			}
		}
		if got := curl("-r", "500000-599999", url); got != string(body[500_000:600_000]) {
			t.Errorf("%s: a range of %d bytes, not the origin's", tt.name, len(got))
		}
		if head := curl("-I", url); !strings.Contains(strings.ToLower(head), "content-length: 1000000\r\n") {
			t.Errorf("%s: HEAD: %q", tt.name, head)
		}
		// Both wait for 100 (Continue) over HTTP/1.1, the second has no length.
		wantUpload(t, tt.name+", POST", curl("-H", "Expect: 100-continue", "--data-binary", "@"+file, tt.base+"/_origin/upload"), body)
		wantUpload(t, tt.name+", PUT", curl("-H", "Expect: 100-continue", "-H", "Transfer-Encoding: chunked", "-T", file, tt.base+"/_origin/upload"), body)
	}
}

func TestNghttp(t *testing.T) {
	need(t, "nghttp")
	n := startEdge(t, startOrigin(t))
	file, body := bodyFile(t, 700_000)
	nghttp := func(args ...string) string {
		t.Helper()
		stdout, stderr, code := run(t, "nghttp", append([]string{"--no-verify-peer", "--timeout=30"}, args...)...)
		if code != 0 {
			t.Fatalf("nghttp %v: exit code %d: %s", args, code, stderr)
		}
		return stdout
	}
	base := "https://" + n.https
	for name, args := range map[string][]string{
		"as it is":                  nil,
		"small windows":             {"--window-bits=10", "--connection-window-bits=10"},
		"no table of fields":        {"--header-table-size=0"},
		"a table that shrinks":      {"--header-table-size=8192", "--header-table-size=0", "--header-table-size=100"},
		"padding":                   {"--padding=200"},
		"headers with CONTINUATION": {"--continuation"},
		"priorities of RFC 9218":    {"--no-rfc7540-pri"},
	} {
		for range 2 { // a miss, a hit
			if got := nghttp(append(args, base+"/video/200kB.bin")...); got != string(body[:200_000]) {
				t.Errorf("%s: %d bytes, not the origin's", name, len(got))
			}
		}
		sent := append([]string{"--data=" + file, "--trailer=x-sum: abc", "--no-content-length", "--expect-continue"}, args...)
		got := wantUpload(t, name, nghttp(append(sent, base+"/_origin/upload")...), body)
		if len(got.Trailer["X-Sum"]) != 1 {
			t.Errorf("%s: the origin saw the trailers %v", name, got.Trailer)
		}
	}
	// HTTP/1.1 has no trailers beside a content-length: the origin gets chunks.
	got := wantUpload(t, "with content-length", nghttp("--data="+file, "--trailer=x-sum: abc", base+"/_origin/upload"), body)
	if len(got.Trailer["X-Sum"]) != 1 {
		t.Errorf("with content-length: the origin saw the trailers %v", got.Trailer)
	}
	verbose := nghttp("-v", "--null-out", base+respond("early", "Link:</a>", "trailer", "X-End:yes", "size", "1000"))
	for _, want := range []string{":status: 103", ":status: 200", "x-end: yes"} {
		if !strings.Contains(verbose, want) {
			t.Errorf("nghttp saw no %s:\n%s", want, verbose)
		}
	}
	// Thirty at once, of a page with all that belongs to it.
	stats := nghttp("--null-out", "--stat", "--get-assets", "--multiply=30", base+"/")
	if got := len(regexp.MustCompile(`(?m) 200 +\d\S* /`).FindAllString(stats, -1)); got < 60 {
		t.Errorf("%d answers of 200:\n%s", got, tail(stats, 20))
	}
}

func TestH2load(t *testing.T) {
	need(t, "h2load")
	n := startEdge(t, startOrigin(t))
	file, _ := bodyFile(t, 20_000)
	for _, tt := range []struct {
		name     string
		requests int
		args     []string
	}{
		{"h2, hits", 4000, []string{"-c10", "-m30", "https://" + n.https + "/video/1kB.bin"}},
		{"h2, small windows", 300, []string{"-c5", "-m20", "-w10", "-W12", "https://" + n.https + "/video/50kB.bin"}},
		{"h2, misses", 400, []string{"-c5", "-m20", "https://" + n.https + respond("size", "3000", "header", "Cache-Control:no-store")}},
		{"h2, uploads", 200, []string{"-c5", "-m10", "-d" + file, "https://" + n.https + "/_origin/upload"}},
		{"h1, pipelined", 4000, []string{"--h1", "-c10", "-m10", "http://" + n.http + "/video/1kB.bin"}},
		{"h1 over TLS", 1000, []string{"--h1", "-c10", "https://" + n.https + "/video/1kB.bin"}},
	} {
		stdout, stderr, code := run(t, "h2load", append([]string{"-n" + strconv.Itoa(tt.requests)}, tt.args...)...)
		if want := "status codes: " + strconv.Itoa(tt.requests) + " 2xx"; code != 0 || !strings.Contains(stdout, want) || !strings.Contains(stdout, " 0 failed") {
			t.Errorf("%s: exit code %d, want %s\n%s%s", tt.name, code, want, stdout, stderr)
		}
	}
}

// gtlsclient speaks QUIC and HTTP/3 by ngtcp2 and nghttp3. It returns what the
// client said and what it downloaded.
func gtlsclient(t *testing.T, n *node, target string, args ...string) (said, body string) {
	t.Helper()
	host, port, err := net.SplitHostPort(n.https)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	args = append(args, "--download="+dir, "--no-quic-dump", "--no-http-dump", "--exit-on-all-streams-close", "--timeout=20s", host, port, "https://"+n.https+target)
	stdout, stderr, code := run(t, "gtlsclient", args...)
	if code != 0 {
		t.Fatalf("gtlsclient %v: exit code %d\n%s", args, code, tail(stdout+stderr, 20))
	}
	files, err := os.ReadDir(dir)
	if err != nil || len(files) != 1 {
		t.Fatalf("gtlsclient %v: %d files, %v\n%s", args, len(files), err, tail(stdout+stderr, 20))
	}
	text, err := os.ReadFile(filepath.Join(dir, files[0].Name()))
	if err != nil {
		t.Fatal(err)
	}
	return stdout + stderr, string(text)
}

func TestNgtcp2(t *testing.T) {
	need(t, "gtlsclient")
	n, _ := startConfigured(t, earlyConfig(startOrigin(t), true))
	file, body := bodyFile(t, 600_000)
	for _, tt := range []struct {
		name   string
		target string
		args   []string
	}{
		{"miss", "/video/600kB.bin", nil},
		{"hit", "/video/600kB.bin", nil},
		{"with loss", "/video/600kB.bin", []string{"--tx-loss=0.02", "--rx-loss=0.02"}},
		{"another port on the way", respond("size", "600000", "chunks", "10", "chunk_delay", "40ms"), []string{"--change-local-addr=100ms"}},
	} {
		if said, got := gtlsclient(t, n, tt.target, append(tt.args, "--quiet")...); got != string(body) {
			t.Errorf("%s: %d bytes, not the origin's\n%s", tt.name, len(got), tail(said, 10))
		}
	}
	// Keys may change three PTOs after the handshake (RFC 9001 6.1). The client gives up
	// where that is not over: on a slow machine it takes longer.
	for wait := 300; ; wait *= 2 {
		target := respond("size", "600000", "chunks", "10", "chunk_delay", fmt.Sprint(wait/5, "ms"))
		said, got := gtlsclient(t, n, target, fmt.Sprint("--key-update=", wait, "ms"), "--quiet")
		if got == string(body) {
			break
		}
		if wait > 5000 || !strings.Contains(said, "initiate_key_update: ERR_INVALID_STATE") {
			t.Errorf("new keys on the way: %d bytes, not the origin's\n%s", len(got), tail(said, 10))
			break
		}
	}
	_, receipt := gtlsclient(t, n, "/_origin/upload", "--http-method=POST", "--data="+file, "--quiet")
	wantUpload(t, "POST", receipt, body)

	// What was kept of a first connection makes early data of the second.
	dir := t.TempDir()
	keep := []string{"--session-file=" + filepath.Join(dir, "session"), "--tp-file=" + filepath.Join(dir, "parameters")}
	gtlsclient(t, n, "/video/20kB.bin", keep...)
	said, got := gtlsclient(t, n, "/video/20kB.bin", keep...)
	if got != string(body[:20_000]) || !strings.Contains(said, "0RTT") || strings.Contains(said, "rejected") {
		t.Errorf("resumed: %d bytes, early data sent: %t\n%s", len(got), strings.Contains(said, "0RTT"), tail(said, 10))
	}
}

func earlyConfig(o *sampleOrigin, early bool) string {
	return `server: {http: ["{http}"], https: ["{https}"], early_data: ` + strconv.FormatBool(early) + `}
admin: {listen: "{admin}"}
data: "{data}"
origins: {site: {url: "` + o.url + `"}}
hosts: [{names: ["*"], origin: site}]
`
}
