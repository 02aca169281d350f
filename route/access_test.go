package route

import (
	"slices"
	"testing"
	"time"
)

func TestValidateAccess(t *testing.T) {
	for _, test := range []struct {
		name   string
		access Access
		want   []string
	}{
		{"nothing", Access{}, nil},
		{"good", Access{Allow: []string{"192.0.2.1", "10.0.0.0/8", "::1", "2001:db8::/32"}, Rates: []Rate{{Requests: 1}, {Key: "prefix", Requests: 5, Per: time.Hour, Burst: 1}}}, nil},
		{"networks", Access{Allow: []string{"a.test"}, Deny: []string{"192.0.2.1/24", "::ffff:192.0.2.1", "fe80::1%eth0", "192.0.2.0/33"}},
			[]string{"a.allow[0]", "a.deny[0]", "a.deny[1]", "a.deny[2]", "a.deny[3]"}},
		{"nobody", Access{Allow: []string{}}, []string{"a.allow"}},
		{"rates", Access{Rates: []Rate{{}, {Key: "cookie", Requests: 1}, {Requests: 1, Burst: -1}, {Requests: 1, Per: time.Nanosecond}}},
			[]string{"a.rates[0].requests", "a.rates[1].key", "a.rates[2].burst", "a.rates[3].per"}},
		{"many", Access{Rates: slices.Repeat([]Rate{{Requests: 1}}, 9)}, []string{"a.rates"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			var got []string
			validateAccess("a", &test.access, func(path, problem string) {
				if got = append(got, path); problem == "" {
					t.Error("no problem is named")
				}
			})
			if !slices.Equal(got, test.want) {
				t.Errorf("%q, want %q", got, test.want)
			}
		})
	}
}
