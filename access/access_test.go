package access_test

import (
	"net/netip"
	"testing"

	"edgecdn/access"
	"edgecdn/route"
)

func TestJudge(t *testing.T) {
	open := tableRoute(t, route.Policy{})
	a := access.New()
	readOnly := tableRoute(t, route.Policy{Methods: []string{"GET", "HEAD"}})
	yes := true
	purging := tableRoute(t, route.Policy{Methods: []string{"GET"}, Purge: &yes})
	const all = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"
	tests := []struct {
		name   string
		route  *route.Route
		method string
		action access.Action
		status int
		allow  string
	}{
		{"GET", open, "GET", access.Allow, 0, ""},
		{"unknown methods reach the origin", open, "PROPFIND", access.Allow, 0, ""},
		{"PURGE never reaches it", open, "PURGE", access.Deny, 405, all},
		{"PURGE that is let in", purging, "PURGE", access.Allow, 0, ""},
		{"lower case is another method", readOnly, "get", access.Deny, 405, "GET, HEAD"},
		{"CONNECT without a route", nil, "CONNECT", access.Deny, 501, ""},
		{"CONNECT with a route", open, "CONNECT", access.Deny, 501, ""},
		{"TRACE", open, "TRACE", access.Deny, 405, all},
		{"method that is configured", readOnly, "HEAD", access.Allow, 0, ""},
		{"method that is not", readOnly, "POST", access.Deny, 405, "GET, HEAD"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			v := a.Judge(test.route, test.method, netip.Addr{})
			if v.Action != test.action || v.Status != test.status || v.Allow != test.allow {
				t.Errorf("Judge(%s) = %+v, want action %d, status %d, Allow %q", test.method, v, test.action, test.status, test.allow)
			}
			if v.Action == access.Deny && v.Reason == "" {
				t.Error("a denial without a reason")
			}
		})
	}
}

func TestJudgeAllowsWithoutAllocating(t *testing.T) {
	r := tableRoute(t, route.Policy{})
	a := access.New()
	client := netip.MustParseAddr("192.0.2.1")
	if n := testing.AllocsPerRun(100, func() { a.Judge(r, "GET", client) }); n != 0 {
		t.Errorf("%v allocations, want none", n)
	}
}

func tableRoute(t *testing.T, policy route.Policy) *route.Route {
	t.Helper()
	policy.Origin = "o"
	table, err := route.NewTable([]route.Host{{Names: []string{"*"}, Policy: policy}})
	if err != nil {
		t.Fatal(err)
	}
	r, err := table.Match("example.com", "/")
	if err != nil {
		t.Fatal(err)
	}
	return r
}
