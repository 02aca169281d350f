package gate

import (
	"encoding/json"
	"flag"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
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

func BenchmarkAccessLog(b *testing.B) {
	l, err := newAccessLog(AccessLog{Path: filepath.Join(b.TempDir(), "access.log")}, new(Stats), slog.New(slog.DiscardHandler))
	if err != nil {
		b.Fatal(err)
	}
	r := logRecords()[0]
	x := new(Exchange)
	x.Request.Host, x.Request.Target, x.Request.Method, x.Request.Proto = r.host, r.target, r.method, cache.HTTP1
	b.ReportAllocs()
	for b.Loop() {
		l.write(x, r.took)
		l.pending = l.pending[:0]
	}
	_ = l.file.Close()
}
