package server

import (
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"edgecdn/cache"
)

var update = flag.Bool("update", false, "rewrite golden files")

func logRecords() []record {
	at := time.Date(2026, 11, 22, 10, 30, 0, 123456789, time.UTC)
	client := netip.MustParseAddrPort("192.0.2.7:4711")
	return []record{{
		time: at, client: client, method: "GET", scheme: "https", host: "www.example.com", target: "/a?b=c", version: "HTTP/2.0",
		status: 200, bytes: 1234, took: 1234567 * time.Nanosecond, firstByte: 200 * time.Microsecond,
		outcome: &cache.Outcome{Hit: true, HasTTL: true, TTL: 59, Tier: "memory"},
		route:   "www.example.com", pattern: "/*", agent: "Mozilla/5.0", referer: "https://example.com/",
	}, {
		time: at, client: client, method: "GET", scheme: "http", host: "a.test", target: "/", version: "HTTP/1.1",
		status: 502, took: time.Minute, outcome: &cache.Outcome{Fwd: cache.FwdStale, FwdStatus: 503, Stored: true, Collapsed: true, HasTTL: true, TTL: -3, Detail: "late"},
		route: "a.test", pattern: "/x", aborted: true,
	}, { // what clients choose cannot break a line, nor a terminal
		time: at, client: netip.MustParseAddrPort("[2001:db8::1]:1"), method: "G\"ET", scheme: "http", host: "a\nb", target: "/\"\\\r\n\x00\x1b[31m\x7f\xff\u2028\u009bä",
		version: "HTTP/1.0", status: 400, outcome: &cache.Outcome{}, agent: "\" - - [forged]\n", referer: "\\",
	}, {
		time: at, method: "GET", scheme: "http", host: strings.Repeat("h", 3), target: "/" + strings.Repeat("x", 2*valueBytesMax),
		version: "HTTP/3.0", status: 431, outcome: &cache.Outcome{},
	}}
}

func TestAccessLogLines(t *testing.T) {
	for name, format := range map[string]func([]byte, *record) []byte{"json": appendJSON, "combined": appendCombined} {
		t.Run(name, func(t *testing.T) {
			var got []byte
			for _, r := range logRecords() {
				line := format(nil, &r)
				if strings.Count(string(line), "\n") != 1 || line[len(line)-1] != '\n' {
					t.Errorf("not one line: %q", line)
				}
				if name == "json" && !json.Valid(line) {
					t.Errorf("not JSON: %q", line)
				}
				got = append(got, line...)
			}
			golden := filepath.Join("testdata", "access."+name+".golden")
			if *update {
				if err := os.WriteFile(golden, got, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), string(got)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// FuzzAccessLog: whatever a client sends, a line stays a line.
func FuzzAccessLog(f *testing.F) {
	f.Add("/\"\n", "agent\\\"")
	f.Add("\xff\u2028", "")
	f.Fuzz(func(t *testing.T, target, agent string) {
		r := record{target: target, agent: agent, outcome: &cache.Outcome{}}
		line := appendJSON(nil, &r)
		var read struct {
			Target string `json:"target"`
		}
		if err := json.Unmarshal(line, &read); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		for _, line := range [][]byte{line, appendCombined(nil, &r)} {
			for i, c := range string(line) {
				if (c < ' ' || 0x7f <= c && c < 0xa0) && i != len(line)-1 {
					t.Fatalf("a control in %q", line)
				}
			}
		}
	})
}

// logged waits for so many lines in a file and returns them.
func logged(t *testing.T, path string, n int) (lines []map[string]any) {
	t.Helper()
	eventually(t, fmt.Sprint(n, " lines in the log"), func() bool {
		data, err := os.ReadFile(path)
		if err != nil {
			return false
		}
		lines = nil
		for line := range strings.Lines(string(data)) {
			var m map[string]any
			if json.Unmarshal([]byte(line), &m) != nil {
				return false
			}
			lines = append(lines, m)
		}
		return len(lines) >= n
	})
	return lines
}

func TestRequestsAreLogged(t *testing.T) {
	path := filepath.Join(t.TempDir(), "access.log")
	c := realCache(t, pageOrigin)
	e := start(t, setup{config: Config{AccessLog: AccessLog{Path: path}}, lookup: c.Lookup, handler: func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/abort" {
			_, _ = io.WriteString(w, "half")
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		}
		c.ServeHTTP(w, r)
	}})
	n := 0
	for _, client := range e.clients() {
		r := client.request(t, "GET", "/page?"+client.name[1:2], nil)
		r.Header.Set("User-Agent", "tester")
		r.Header.Set("Referer", "https://from.test/")
		client.do(t, r)
		client.do(t, r)
		if resp, err := client.Get(client.base + "/abort"); err == nil {
			_, _ = io.Copy(io.Discard, resp.Body)
			_ = resp.Body.Close()
		}
		n += 3
		lines := logged(t, path, n)[n-3:]
		for i, want := range []map[string]any{
			{"outcome": "uri-miss", "status": 200.0, "bytes": float64(len(page))},
			{"outcome": "hit", "status": 200.0, "bytes": float64(len(page)), "tier": "memory"},
			{"outcome": "none", "status": 200.0, "bytes": 4.0, "aborted": true, "target": "/abort"},
		} {
			if i < 2 {
				want["target"], want["user_agent"], want["referer"] = r.URL.RequestURI(), "tester", "https://from.test/"
			}
			want["client"], want["method"], want["route"] = "127.0.0.1", "GET", "*"
			want["protocol"] = map[cache.Proto]string{cache.HTTP1: "HTTP/1.1", cache.HTTP2: "HTTP/2.0", cache.HTTP3: "HTTP/3.0"}[client.proto]
			want["host"] = r.URL.Host
			for key, value := range want {
				if lines[i][key] != value {
					t.Errorf("%s, line %d: %s is %v, want %v", client.name, i, key, lines[i][key], value)
				}
			}
		}
	}
}

func TestAccessLogIsReopened(t *testing.T) {
	path := filepath.Join(t.TempDir(), "access.log")
	e := start(t, setup{config: Config{AccessLog: AccessLog{Path: path}}})
	c := e.h1()
	c.get(t, "/before")
	logged(t, path, 1)
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	e.Reopen()
	eventually(t, "a new file", func() bool { _, err := os.Stat(path); return err == nil })
	c.get(t, "/after")
	if lines := logged(t, path, 1); lines[0]["target"] != "/after" {
		t.Errorf("the new file has %v", lines)
	}
	if lines := logged(t, path+".1", 1); len(lines) != 1 || lines[0]["target"] != "/before" {
		t.Errorf("the old file has %v", lines)
	}
}

// TestAccessLogNeverBlocks: with nobody reading the pipe, requests are served,
// what does not fit is dropped and counted, and the server still stops.
func TestAccessLogNeverBlocks(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Skip("no named pipes here:", err)
	}
	reader, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	e := start(t, setup{config: Config{AccessLog: AccessLog{Path: path}}, handler: func(http.ResponseWriter, *http.Request) {}})
	c := e.h1()
	long := "/" + strings.Repeat("x", 4000)
	eventually(t, "lines dropped", func() bool {
		for range 50 {
			c.get(t, long)
		}
		return e.Stats().LogDropped.Load() > 0
	})
	if err := e.shutdown(); err != nil {
		t.Error(err)
	}
	_ = reader.Close() // lets the stuck write go
}

func TestAccessLogThatCannotBeOpened(t *testing.T) {
	path := filepath.Join(t.TempDir(), "missing", "access.log")
	_, err := newServer(t, setup{config: Config{AccessLog: AccessLog{Path: path}}})
	if err == nil || !strings.Contains(err.Error(), "access_log.path") {
		t.Errorf("New: %v", err)
	}
}

func BenchmarkAccessLog(b *testing.B) {
	l, err := newAccessLog(AccessLog{Path: filepath.Join(b.TempDir(), "access.log")}, new(Stats), slog.New(slog.DiscardHandler))
	if err != nil {
		b.Fatal(err)
	}
	r := logRecords()[0]
	x := &exchange{r: &http.Request{ProtoMajor: 1, ProtoMinor: 1}}
	x.req.Host, x.req.Target, x.req.Method, x.req.Proto = r.host, r.target, r.method, cache.HTTP1
	b.ReportAllocs()
	for b.Loop() {
		l.write(x, r.took)
		l.pending = l.pending[:0]
	}
	_ = l.file.Close()
}
