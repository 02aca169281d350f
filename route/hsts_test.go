package route

import (
	"strings"
	"testing"
	"time"
)

func TestHSTS(t *testing.T) {
	const year = 365 * 24 * time.Hour
	for _, test := range []struct {
		in      HSTS
		want    string
		problem string
	}{
		{HSTS{}, "", ""},
		{HSTS{MaxAge: time.Hour}, "max-age=3600", ""},
		{HSTS{MaxAge: year, Subdomains: true, Preload: true}, "max-age=31536000; includeSubDomains; preload", ""},
		{HSTS{Subdomains: true}, "", ".hsts.max_age: is missing"},
		{HSTS{MaxAge: -1}, "", ".hsts.max_age: -1ns is out of range"},
		{HSTS{MaxAge: time.Millisecond}, "", ".hsts.max_age: 1ms is out of range"},
		{HSTS{MaxAge: time.Hour, Subdomains: true, Preload: true}, "", ".hsts.preload: wants"},
		{HSTS{MaxAge: year, Preload: true}, "", ".hsts.preload: wants"},
	} {
		table, err := NewTable([]Host{{Names: []string{"*"}, HSTS: test.in, Policy: Policy{Origin: "o"}}})
		if test.problem != "" {
			if err == nil || !strings.Contains(err.Error(), test.problem) {
				t.Errorf("%+v: %v", test.in, err)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if r, err := table.Match("a.test", "/"); err != nil || r.HSTS != test.want {
			t.Errorf("%+v: %q, %v", test.in, r.HSTS, err)
		}
	}
}

func TestClientCAOfNames(t *testing.T) {
	table, err := NewTable([]Host{
		{Names: []string{"staff.test", "*.staff.test"}, ClientCA: "ca.pem", Policy: Policy{Origin: "o"}, Routes: []Path{{Path: "/x/*", Policy: Policy{Origin: "p"}}}},
		{Names: []string{"*"}, Policy: Policy{Origin: "o"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"staff.test": "ca.pem", "a.b.staff.test": "ca.pem", "staff.test.": "ca.pem", "": "", "x.test": "", "b\x00d": ""} {
		if got := table.ClientCA(name); got != want {
			t.Errorf("%q: %q", name, got)
		}
	}
	// The host's own and each of its paths.
	for _, target := range []string{"/", "/x/y", "*"} {
		if r, err := table.Match("staff.test", target); err != nil || r.ClientCA != "ca.pem" {
			t.Errorf("%s: %+v, %v", target, r, err)
		}
	}
}
