package route

import (
	"encoding/json"
	"testing"
)

// What is remembered of rules makes the same keys as the rules themselves.
func TestKeyRules(t *testing.T) {
	with := func(k Key) Policy { return Policy{Origin: "o", Cache: Cache{Key: k}} }
	hosts := []Host{
		{Names: []string{"a.test", "*.a.test"}, Policy: with(Key{Host: new(false), Query: Query{Deny: []string{"utm_*"}}}), Routes: []Path{
			{Path: "/none/*", Policy: with(Key{Query: Query{Allow: &[]string{}}})},
			{Path: "/all/*", Policy: with(Key{Host: new(true), Query: Query{Deny: []string{}}})},
			{Path: "/plain"},
		}},
		{Names: []string{"b.test"}, Policy: with(Key{}), Routes: []Path{{Path: "/x/*", Policy: Policy{Origin: "p"}}}},
		{Names: []string{"*"}, Policy: with(Key{Query: Query{Sort: new(true)}})},
	}
	table, err := NewTable(hosts)
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(KeyRulesOf(hosts))
	if err != nil {
		t.Fatal(err)
	}
	var read KeyRules
	if err := json.Unmarshal(text, &read); err != nil {
		t.Fatal(err)
	}
	again, err := read.Table()
	if err != nil {
		t.Fatal(err)
	}
	for _, host := range []string{"a.test", "www.a.test", "b.test", "c.test"} {
		for _, path := range []string{"/", "/none/x", "/all/x", "/plain", "/x/y"} {
			query := "b=2&utm_a=1&a=1"
			want, err := table.Match(host, path+"?"+query)
			if err != nil {
				t.Fatal(err)
			}
			got, err := again.Match(host, path+"?"+query)
			if err != nil {
				t.Fatal(err)
			}
			if got.Host != want.Host || *got.Key.Host != *want.Key.Host || string(got.AppendQuery(nil, query)) != string(want.AppendQuery(nil, query)) {
				t.Errorf("%s%s: %s %v %s, want %s %v %s", host, path, got.Host, *got.Key.Host, got.AppendQuery(nil, query),
					want.Host, *want.Key.Host, want.AppendQuery(nil, query))
			}
		}
	}
	if rules := KeyRulesOf(hosts[1:2]); rules != nil {
		t.Errorf("hosts without rules have %+v", rules)
	}
}
