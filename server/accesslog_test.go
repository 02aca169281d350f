package server

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"edgecdn/cache"
)

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
		logged(t, path, n+1) // a line is written when the handler is done, which may be after the answer
		client.do(t, r)
		logged(t, path, n+2)
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
		return e.Stats().Gate.LogDropped.Load() > 0
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
