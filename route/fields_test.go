package route

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// What frames a message or belongs to one connection is nobody's to change.
func TestFieldsThatNoRuleTouches(t *testing.T) {
	for name := range bothFieldsKept {
		for what, f := range map[string]Fields{
			"set":    {Set: map[string]string{name: "x"}},
			"add":    {Add: map[string]string{strings.ToUpper(name): "x"}},
			"remove": {Remove: []string{name}},
		} {
			host := Host{Names: []string{"*"}, Policy: Policy{Origin: "o", Request: f, Response: f}}
			problems := 0
			ValidateHosts([]Host{host}, nil, func(path, problem string) {
				problems++
				if !strings.Contains(problem, "cannot be changed") {
					t.Errorf("%s %s: %s: %s", what, name, path, problem)
				}
			})
			if problems != 2 {
				t.Errorf("%s %s: %d problems, want one for requests and one for responses", what, name, problems)
			}
		}
	}
}

func TestAddedFields(t *testing.T) {
	host := Host{Names: []string{"*"}, Policy: Policy{Origin: "web",
		Response: Fields{Add: map[string]string{"Link": "</a>", "X-A": "host"}, Set: map[string]string{"X-B": "host"}, Remove: []string{"X-C"}}}}
	host.Routes = []Path{{Path: "/own", Policy: Policy{Response: Fields{Add: map[string]string{"X-a": "path", "X-B": "path", "X-C": "path"}}}}}
	r, err := newTable(t, host).Match("h", "/own")
	if err != nil {
		t.Fatal(err)
	}
	want := Fields{Add: map[string]string{"link": "</a>", "x-a": "path", "x-b": "path", "x-c": "path"}}
	if diff := cmp.Diff(want, r.Response); diff != "" {
		t.Error(diff)
	}
	problems := 0
	host.Response.Add = map[string]string{"X": "a\r\nY: b", "x": "c", "a b": "d"}
	ValidateHosts([]Host{host}, nil, func(string, string) { problems++ })
	if problems != 3 {
		t.Errorf("%d problems, want 3: of a value, of a name that is there twice, of one that is none", problems)
	}
}
