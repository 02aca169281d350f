package main

import (
	"os"
	"strings"
	"testing"
	"time"
)

func TestParseStat(t *testing.T) {
	got, err := parseStat("42 (a b) c) S 1 42 42 0 -1 4194560 1 2 3 4 150 25 7 8 20 0 1 0 100 1 1")
	if want := 1750 * time.Millisecond; err != nil || got != want {
		t.Errorf("%v, %v, want %v", got, err, want)
	}
	for _, bad := range []string{"", "1 (x) S 1 2", "1 (x) S 1 42 42 0 -1 4194560 1 2 3 4 x 25 7 8"} {
		if got, err := parseStat(bad); err == nil {
			t.Errorf("%q: %v without an error", bad, got)
		}
	}
	if used, err := cpuOf(os.Getpid()); err != nil || used < 0 {
		t.Errorf("this process: %v, %v", used, err)
	}
}

func TestParseLoads(t *testing.T) {
	if n, err := parseWrk("Running 1s test\n  12345 requests in 1.00s, 12.3MB read\nRequests/sec: 1\n"); err != nil || n != 12345 {
		t.Errorf("wrk: %d, %v", n, err)
	}
	for _, bad := range []string{
		"  5 requests in 1.00s\n  Socket errors: connect 0, read 1, write 0, timeout 0\n",
		"  5 requests in 1.00s\n  Non-2xx or 3xx responses: 5\n",
		"nothing",
	} {
		if n, err := parseWrk(bad); err == nil {
			t.Errorf("wrk %q: %d without an error", bad, n)
		}
	}
	good := "requests: 640 total, 640 started, 640 done, 640 succeeded, 0 failed, 0 errored, 0 timeout\nstatus codes: 640 2xx, 0 3xx, 0 4xx, 0 5xx\n"
	if n, err := parseH2load(good); err != nil || n != 640 {
		t.Errorf("h2load: %d, %v", n, err)
	}
	for _, change := range [][2]string{{"0 failed", "1 failed"}, {"0 5xx", "3 5xx"}} {
		if n, err := parseH2load(strings.Replace(good, change[0], change[1], 1)); err == nil {
			t.Errorf("h2load with %s: %d without an error", change[1], n)
		}
	}
}

func TestMedian(t *testing.T) {
	for _, tt := range []struct {
		in   []float64
		want float64
	}{{[]float64{3}, 3}, {[]float64{9, 1, 5}, 5}, {[]float64{4, 1, 2, 9}, 3}} {
		if got := median(tt.in); got != tt.want {
			t.Errorf("median(%v) = %v, want %v", tt.in, got, tt.want)
		}
	}
}

// The page in docs and its plots are what the committed results make.
func TestPage(t *testing.T) {
	all, err := loadResults("results")
	if err != nil || len(all) == 0 {
		t.Fatal(len(all), err)
	}
	same := func(file, want string) {
		got, err := os.ReadFile("../docs/" + file)
		if err != nil || string(got) != want {
			t.Errorf("docs/%s is not what bench/results make (%v): run go run ./bench -assemble", file, err)
		}
	}
	same("performance.md", page(all))
	for _, r := range all {
		if len(r.Bars) > 0 {
			same(r.plotFile(), r.plot())
		}
	}
}
