package admin

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
)

// FuzzDecodePurge: what is let in is of one kind, within the bounds, in canonical
// form, and means the same when it is sent again; the rest is refused by one of
// two kinds of errors.
func FuzzDecodePurge(f *testing.F) {
	for _, seed := range []string{
		`{"urls":["https://www.example.com/a%2Fb?x","http://[::1]:8080"],"mode":"soft"}`,
		`{"prefixes":["www.example.com/static/"],"dry_run":true}`,
		`{"hosts":["a.example:8443","[::1]"],"reason":"x"}`,
		`{"groups":{"host":"a.example","names":["one","two"]}}`,
		`{"all":true}`, `{"all":true,"all":true}`, `{"urls":null}`, `{"groups":{}}`, `{"urls":[{}]}`, `[]`, `{"urls":["\ud800"]}`, `{"a":[[[[]]]]}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		p, err := decodePurge(raw)
		if err != nil {
			var fields FieldErrors
			if !errors.As(err, &fields) && !errors.Is(err, errSyntax) {
				t.Fatalf("%T: %v", err, err)
			}
			if len(fields) > fieldErrorsMax+1 {
				t.Fatalf("%d errors", len(fields))
			}
			for _, e := range fields {
				if e.Detail == "" || len(e.Field)+len(e.Detail) > 500 {
					t.Fatalf("error %+v", e)
				}
			}
			return
		}
		if !json.Valid(raw) {
			t.Fatal("let in what is not JSON")
		}
		if err := contract.validate("/components/schemas/Purge", raw); err != nil {
			t.Fatalf("let in what the document refuses: %v", err)
		}
		if (len(p.Targets) == 0) != (p.Kind == PurgeAll) || len(p.Targets) > PurgeURLsMax || (p.Host != "") != (p.Kind == PurgeGroup) {
			t.Fatalf("made %+v", p.PurgeRequest)
		}
		sorted := slices.Sorted(slices.Values(p.Targets))
		if len(slices.Compact(sorted)) != len(p.Targets) {
			t.Fatalf("a target twice in %q", p.Targets)
		}
		again, err := decodePurge(encodePurge(t, p))
		if err != nil || again.Fingerprint != p.Fingerprint || !slices.Equal(again.hosts, p.hosts) {
			t.Fatalf("again: %v\n%+v\n%+v", err, p, again)
		}
		for i, host := range p.hosts {
			if host != strings.ToLower(host) || strings.ContainsAny(host, "/?#@ \\,") || host == "" {
				t.Fatalf("host %q", host)
			}
			if p.Kind != PurgeGroup && !strings.HasPrefix(strings.TrimPrefix(strings.TrimPrefix(p.Targets[i], "http://"), "https://"), host) {
				t.Fatalf("target %q was judged as of %q", p.Targets[i], host)
			}
		}
	})
}

// encodePurge writes a purge as a client would.
func encodePurge(t *testing.T, p *purgeBody) []byte {
	mode := "hard"
	if p.Soft {
		mode = "soft"
	}
	fields := map[string]any{"mode": mode, "reason": p.Reason, "dry_run": p.dryRun}
	switch p.Kind {
	case PurgeURL:
		fields["urls"] = p.Targets
	case PurgePrefix:
		fields["prefixes"] = p.Targets
	case PurgeHost:
		fields["hosts"] = p.Targets
	case PurgeGroup:
		fields["groups"] = map[string]any{"host": p.Host, "names": p.Targets}
	case PurgeAll:
		fields["all"] = true
	}
	b, err := json.Marshal(fields)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func BenchmarkDecodePurge(b *testing.B) {
	urls := make([]string, PurgeURLsMax)
	for i := range urls {
		urls[i] = "https://www.example.com/some/path/to/an/asset-" + strings.Repeat("x", i%50) + ".jpg"
	}
	raw, err := json.Marshal(map[string]any{"urls": urls})
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(raw)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := decodePurge(raw); err != nil {
			b.Fatal(err)
		}
	}
}
