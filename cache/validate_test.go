package cache

import "testing"

func TestMatchAny(t *testing.T) {
	for _, tt := range []struct {
		list, tag          string
		wantWeak, wantLoud bool // weak and strong comparison
	}{
		{`"1"`, `"1"`, true, true},
		{`W/"1"`, `"1"`, true, false},
		{`"1"`, `W/"1"`, true, false},
		{`"0", "1"`, `"1"`, true, true},
		{`"0","1"`, `"1"`, true, true},
		{`"a,b"`, `"b"`, false, false},
		{`*`, `"1"`, true, true},
		{` * `, ``, true, true},
		{``, `"1"`, false, false},
		{`1`, `"1"`, false, false},
		{`1, "1"`, `"1"`, true, true},
		{`"1`, `"1"`, false, false},
		{`"1"`, ``, false, false},
		{`,,"1"`, `"1"`, true, true},
	} {
		if got := matchAny(tt.list, tt.tag, false); got != tt.wantWeak {
			t.Errorf("weak %s in %s: %v", tt.tag, tt.list, got)
		}
		if got := matchAny(tt.list, tt.tag, true); got != tt.wantLoud {
			t.Errorf("strong %s in %s: %v", tt.tag, tt.list, got)
		}
	}
}

func FuzzMatchAny(f *testing.F) {
	f.Add(`"0", W/"1"`, `"1"`)
	f.Fuzz(func(t *testing.T, list, tag string) {
		if matchAny(list, tag, true) && !matchAny(list, tag, false) {
			t.Errorf("%q in %q: strong without weak", tag, list)
		}
	})
}

func TestParseRange(t *testing.T) {
	for _, tt := range []struct {
		value  string
		size   int64
		off, n int64
		want   rangeVerdict
	}{
		{"bytes=0-0", 10, 0, 1, rangeOne},
		{"bytes=0-", 10, 0, 10, rangeOne},
		{"BYTES=9-", 10, 9, 1, rangeOne},
		{"bytes=-1", 10, 9, 1, rangeOne},
		{"bytes=-99", 10, 0, 10, rangeOne},
		{"bytes=0-99999999999999999999", 10, 0, 10, rangeOne},
		{"bytes=99999999999999999999-", 10, 0, 0, rangeUnsatisfiable},
		{"bytes=10-", 10, 0, 0, rangeUnsatisfiable},
		{"bytes=-0", 10, 0, 0, rangeUnsatisfiable},
		{"bytes=0-", 0, 0, 0, rangeUnsatisfiable},
		{"bytes=-1", 0, 0, 0, rangeUnsatisfiable},
		{"bytes=2-1", 10, 0, 0, rangeNone},
		{"bytes=+1-2", 10, 0, 0, rangeNone},
		{"bytes=1-2,4-5", 10, 0, 0, rangeNone},
		{"bytes=", 10, 0, 0, rangeNone},
		{"bytes=-", 10, 0, 0, rangeNone},
		{"bytes", 10, 0, 0, rangeNone},
		{"items=0-1", 10, 0, 0, rangeNone},
		{"bytes=a-b", 10, 0, 0, rangeNone},
	} {
		off, n, got := parseRange(tt.value, tt.size)
		if off != tt.off || n != tt.n || got != tt.want {
			t.Errorf("%s of %d: %d+%d %v", tt.value, tt.size, off, n, got)
		}
	}
}

func FuzzParseRange(f *testing.F) {
	f.Add("bytes=0-1", int64(10))
	f.Fuzz(func(t *testing.T, value string, size int64) {
		size &= 1<<62 - 1
		if off, n, v := parseRange(value, size); v == rangeOne && (off < 0 || n <= 0 || off+n > size) {
			t.Errorf("%q of %d: %d+%d", value, size, off, n)
		}
	})
}

func TestAppendStatus(t *testing.T) {
	for _, tt := range []struct {
		in   Outcome
		want string
	}{
		{Outcome{}, "edge"},
		{Outcome{Hit: true, HasTTL: true, TTL: 30}, "edge; hit; ttl=30"},
		{Outcome{Hit: true, HasTTL: true, TTL: -3}, "edge; hit; ttl=-3"},
		{Outcome{Fwd: FwdStale, FwdStatus: 304, HasTTL: true, TTL: 60, Stored: true, Collapsed: true}, "edge; fwd=stale; fwd-status=304; ttl=60; stored; collapsed"},
		{Outcome{Fwd: FwdURIMiss, Detail: "private"}, "edge; fwd=uri-miss; detail=private"},
	} {
		if got := string(tt.in.AppendStatus(nil, "edge")); got != tt.want {
			t.Errorf("got %s, want %s", got, tt.want)
		}
	}
}
