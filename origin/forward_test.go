package origin

import (
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"edgecdn/cmd/origin/script"
)

// Fields go as a list and come back as one, over either protocol; nothing is taken from
// the http.Request's own header, and nothing added to what is sent.
func TestForwardTakesAndGivesLists(t *testing.T) {
	both(t, func(t *testing.T, _ *script.Script, cfg Config) {
		f := open(t, cfg)
		r, err := http.NewRequestWithContext(t.Context(), "GET", "http://client.example/not/this", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("X-Map", "not looked at")
		sent := []Field{{"x-one", "1"}, {"x-two", "a"}, {"x-two", "b"}}
		resp, fields, err := f.Forward(r, "o", "/_origin/echo?q", sent, false, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		var e script.Echo
		if err := json.NewDecoder(resp.Body).Decode(&e); err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		seen := http.Header(e.Header)
		want(t, "target", e.Target, "/_origin/echo?q")
		want(t, "Host", e.Host, "client.example")
		want(t, "X-One", seen.Get("X-One"), "1")
		want(t, "X-Two", strings.Join(seen.Values("X-Two"), "|"), "a|b")
		want(t, "fields", len(seen), 2)
		want(t, "map of the response", resp.Header == nil, true)
		if !slices.Contains(fields, Field{"cache-control", "no-store"}) {
			t.Errorf("fields of the response: %q", fields)
		}

		var hints []Field
		resp, fields, err = f.Forward(r, "o", "/_origin/respond?early=Link:</a.css>&header=X-A:1&header=X-A:2&trailer=X-End:z", nil, false, func(status int, fields []Field) {
			want(t, "status of the hint", status, 103)
			hints = append(hints, fields...)
		}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, resp.Body); err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if !slices.Contains(hints, Field{"link", "</a.css>"}) {
			t.Errorf("hints: %q", hints)
		}
		var a []string
		for _, field := range fields {
			if field.Name == "x-a" {
				a = append(a, field.Value)
			}
		}
		want(t, "X-A", strings.Join(a, "|"), "1|2")
		want(t, "trailer", resp.Trailer.Get("X-End"), "z")
	})
}
