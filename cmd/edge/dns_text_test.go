package main

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"edgecdn/admin"
	"edgecdn/cluster"
	"edgecdn/dnsgeo"
)

// Records of a responder alone: PUT replaces those of a name, proofs stand beside
// each other, and there is a bound of both.
func TestTextsAlone(t *testing.T) {
	responder, err := dnsgeo.New(dnsgeo.Config{Zones: []dnsgeo.Zone{{Name: "cdn.example", NameServers: []string{"ns.cdn.example"}}}}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	n := &node{dns: responder}
	n.openTexts()
	until := time.Now().Add(time.Hour).UTC()
	put := func(name string, values ...string) error {
		return n.texts.Put(admin.TextRecord{Name: name, Values: values, Expires: until})
	}
	want := func(what string, records ...string) {
		t.Helper()
		var got []string
		for _, r := range n.texts.All() {
			got = append(got, r.Name+" "+fmt.Sprint(len(r.Values)))
		}
		if diff := cmp.Diff(records, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", what, diff)
		}
	}
	for _, err := range []error{put("_a.cdn.example", "1", "2"), put("_A.cdn.example.", "2", "3", "4"), put("_b.cdn.example", "1")} {
		if err != nil {
			t.Fatal(err)
		}
	}
	want("replaced", "_a.cdn.example. 3", "_b.cdn.example. 1")
	for _, value := range []string{"x", "y"} {
		if err := n.texts.Present(t.Context(), "_b.cdn.example.", value); err != nil {
			t.Fatal(err)
		}
	}
	if err := n.texts.CleanUp("_b.cdn.example.", "x"); err != nil {
		t.Fatal(err)
	}
	want("proofs stand beside others", "_a.cdn.example. 3", "_b.cdn.example. 2")
	for _, c := range []struct {
		err  error
		want string
	}{
		{put("_a.cdn.example"), "no values"},
		{put("_a.cdn.example", make([]string, dnsgeo.TextValuesMax+1)...), "no value"},
		{put("_a.example.org", "1"), "none of the zones"},
		{n.texts.Present(t.Context(), "www.cdn.example", "1"), "underscore"},
	} {
		if c.err == nil || !strings.Contains(c.err.Error(), c.want) {
			t.Errorf("%v, want %s", c.err, c.want)
		}
	}
	for i := range dnsgeo.TextValuesMax + 1 {
		err = n.texts.Present(t.Context(), "_c.cdn.example", fmt.Sprint(i))
	}
	if err == nil || !strings.Contains(err.Error(), "too many") {
		t.Errorf("the 65th of a name: %v", err)
	}
	var more []dnsgeo.Text
	for i := len(n.texts.list()); i < dnsgeo.TextsMax; i++ {
		more = append(more, dnsgeo.Text{Name: fmt.Sprintf("_%d.cdn.example.", i), Value: "v", Expires: until})
	}
	if err := n.texts.change(more, nil); err != nil {
		t.Fatal(err)
	}
	err = put("_d.cdn.example", "v")
	if err == nil || !strings.Contains(err.Error(), "delete some") || len(n.texts.list()) != dnsgeo.TextsMax {
		t.Errorf("with %d records: %v", len(n.texts.list()), err)
	}
	if there, err := n.texts.Delete("_a.cdn.example"); !there || err != nil {
		t.Error(there, err)
	}
	if there, err := n.texts.Delete("_a.cdn.example"); there || err != nil {
		t.Error("deleted twice", err)
	}
	if err := put("_a.cdn.example", "again"); err != nil {
		t.Error("no room after a delete:", err)
	}
}

// The authority is told when all who live have a proof; who cannot be reached is not
// waited for.
func TestLacking(t *testing.T) {
	made := time.Now()
	before, after := made.Add(-time.Second), made.Add(time.Second)
	members := []cluster.Member{
		{Name: "self", Self: true, Status: cluster.Alive},
		{Name: "has", Status: cluster.Alive, Agreed: after},
		{Name: "had others", Status: cluster.Alive, Agreed: before},
		{Name: "new", Status: cluster.Alive},
		{Name: "silent", Status: cluster.Suspect, Agreed: before},
		{Name: "dead", Status: cluster.Dead},
		{Name: "left", Status: cluster.Left},
		{Name: "gone", Status: cluster.Alive, Gone: true},
	}
	if diff := cmp.Diff([]string{"had others", "new"}, lacking(members, made)); diff != "" {
		t.Error(diff)
	}
}
