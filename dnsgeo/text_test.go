package dnsgeo

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

func TestTexts(t *testing.T) {
	cfg, key := signedZone(t)
	cfg.Zones[0].Records = append(cfg.Zones[0].Records, `_both 300 TXT "stays"`, "_both 300 A 192.0.2.3", "_alias 300 CNAME www")
	cfg.ResponseLimits.Off = true
	r := responder(t, cfg, twoNodes())
	f := newFast(r)
	soon := time.Now().Add(time.Hour)
	texts := func(name string) []string {
		t.Helper()
		out := ask(t, r, secured(name, dns.TypeTXT, true), "192.0.2.1", udp)
		verified(t, key, slices.Concat(out.Answer, out.Ns))
		raw, err := secured(name, dns.TypeTXT, true).Pack()
		if err != nil {
			t.Fatal(err)
		}
		for range 2 { // the fast path sees it too
			fast := new(dns.Msg)
			if err := fast.Unpack(f.respond(nil, raw, netip.MustParseAddrPort("192.0.2.1:5353"), time.Now())); err != nil || len(fast.Answer) != len(out.Answer) || fast.Rcode != out.Rcode {
				t.Errorf("%v, %v, want %v", err, fast, out)
			}
		}
		if len(out.Answer) == 0 {
			return []string{dns.RcodeToString[out.Rcode]}
		}
		var all []string
		for _, rr := range out.Answer {
			if txt, ok := rr.(*dns.TXT); ok {
				all = append(all, txt.Txt[0])
			}
		}
		return all
	}
	const name = "_acme-challenge.new.example.com."
	if got := texts(name); got[0] != "NXDOMAIN" {
		t.Errorf("before: %q", got)
	}
	if err := r.PutText(Text{Name: "_Acme-Challenge.New.example.com", Values: []string{"one", `t"wo\`}, Expires: soon}); err != nil {
		t.Fatal(err)
	}
	if got := texts(name); !slices.Equal(got, []string{"one", `t\"wo\\`}) {
		t.Errorf("%q", got)
	}
	if got := texts("new.example.com."); got[0] != "NOERROR" {
		t.Errorf("the name above: %q", got)
	}
	// Below a wildcard, whose names go on being there.
	if err := r.PutText(Text{Name: "_acme-challenge.x.cdn.example.com", Values: []string{"wild"}, Expires: soon}); err != nil {
		t.Fatal(err)
	}
	if got := texts("_acme-challenge.x.cdn.example.com."); !slices.Equal(got, []string{"wild"}) {
		t.Errorf("%q", got)
	}
	if out := ask(t, r, question("x.cdn.example.com.", dns.TypeA), "192.0.2.1", udp); len(out.Answer) == 0 {
		t.Errorf("a name below a wildcard is gone: %v", out)
	}
	// Beside records of the zone.
	if err := r.PutText(Text{Name: "_both.example.com", Values: []string{"more"}, Expires: soon}); err != nil {
		t.Fatal(err)
	}
	if got := texts("_both.example.com."); !slices.Equal(got, []string{"stays", "more"}) {
		t.Errorf("%q", got)
	}
	if out := ask(t, r, question("_both.example.com.", dns.TypeA), "192.0.2.1", udp); len(out.Answer) != 1 {
		t.Errorf("%v", out)
	}
	// They outlive reloads, changes of nodes and of keys.
	if err := r.Apply(cfg); err != nil {
		t.Fatal(err)
	}
	if got := texts(name); len(got) != 2 || len(r.Texts()) != 3 {
		t.Errorf("after a reload: %q", got)
	}
	if !r.DeleteText(name) || r.DeleteText(name) {
		t.Error("deleted twice or not at all")
	}
	if got := texts(name); got[0] != "NXDOMAIN" {
		t.Errorf("after it was deleted: %q", got)
	}
	r.expireTexts(soon.Add(-time.Second))
	if len(r.Texts()) != 2 {
		t.Errorf("%v", r.Texts())
	}
	r.expireTexts(soon)
	if len(r.Texts()) != 0 {
		t.Errorf("not expired: %v", r.Texts())
	}
	if got := texts("_both.example.com."); !slices.Equal(got, []string{"stays"}) {
		t.Errorf("%q", got)
	}
}

func TestTextsRefused(t *testing.T) {
	cfg, _ := signedZone(t)
	cfg.Zones[0].Records = append(cfg.Zones[0].Records, "_alias 300 CNAME www")
	r := responder(t, cfg, twoNodes())
	good := Text{Name: "_x.example.com", Values: []string{"v"}, Expires: time.Now().Add(time.Hour)}
	for _, tt := range []struct {
		name   string
		change func(*Text)
		want   string
	}{
		{"no underscore", func(x *Text) { x.Name = "www.example.com" }, "begin with an underscore"},
		{"no name", func(x *Text) { x.Name = "_" + strings.Repeat("a", 64) + ".example.com" }, "no name for TXT"},
		{"another zone", func(x *Text) { x.Name = "_x.example.org" }, "in none of the zones"},
		{"an alias", func(x *Text) { x.Name = "_alias.example.com" }, "an alias or delegated"},
		{"delegated", func(x *Text) { x.Name = "_x.sub.example.com" }, "an alias or delegated"},
		{"no values", func(x *Text) { x.Values = nil }, "0 values"},
		{"many values", func(x *Text) { x.Values = make([]string, 17) }, "17 values"},
		{"a long value", func(x *Text) { x.Values = []string{strings.Repeat("x", 256)} }, "is no value"},
		{"a line break", func(x *Text) { x.Values = []string{"a\nb"} }, "is no value"},
		{"in the past", func(x *Text) { x.Expires = time.Now() }, "30 days"},
		{"for ever", func(x *Text) { x.Expires = time.Now().Add(31 * 24 * time.Hour) }, "30 days"},
	} {
		text := good
		tt.change(&text)
		if err := r.PutText(text); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
	}
	r.texts = map[string]Text{}
	for n := range textsMax {
		r.texts[fmt.Sprintf("_x%d.example.com.", n)] = good
	}
	if err := r.PutText(good); !errors.Is(err, ErrTextsFull) {
		t.Errorf("%v", err)
	}
	replaced := good
	replaced.Name = "_x1.example.com"
	if err := r.PutText(replaced); err != nil {
		t.Errorf("one that is there cannot be replaced: %v", err)
	}
}
