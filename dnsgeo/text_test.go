package dnsgeo

import (
	"fmt"
	"maps"
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
	all := map[string]Text{} // what is told, by value
	put := func(name string, values ...string) {
		t.Helper()
		for _, v := range values {
			one := Text{Name: name, Value: v, Expires: soon}
			if err := r.CheckText(&one, time.Now()); err != nil {
				t.Fatal(err)
			}
			all[v] = one
		}
		r.SetTexts(slices.Collect(maps.Values(all)))
	}
	const name = "_acme-challenge.new.example.com."
	if got := texts(name); got[0] != "NXDOMAIN" {
		t.Errorf("before: %q", got)
	}
	put("_Acme-Challenge.New.example.com", `t"wo\`, "one")
	if got := texts(name); !slices.Equal(got, []string{"one", `t\"wo\\`}) {
		t.Errorf("%q", got)
	}
	if got := texts("new.example.com."); got[0] != "NOERROR" {
		t.Errorf("the name above: %q", got)
	}
	// Below a wildcard, whose names go on being there.
	put("_acme-challenge.x.cdn.example.com", "wild")
	if got := texts("_acme-challenge.x.cdn.example.com."); !slices.Equal(got, []string{"wild"}) {
		t.Errorf("%q", got)
	}
	if out := ask(t, r, question("x.cdn.example.com.", dns.TypeA), "192.0.2.1", udp); len(out.Answer) == 0 {
		t.Errorf("a name below a wildcard is gone: %v", out)
	}
	// Beside records of the zone.
	put("_both.example.com", "more")
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
	if got := texts(name); len(got) != 2 || len(r.texts) != 4 {
		t.Errorf("after a reload: %q", got)
	}
	delete(all, "one")
	delete(all, `t"wo\`)
	put("_both.example.com", "more")
	if got := texts(name); got[0] != "NXDOMAIN" {
		t.Errorf("after it was deleted: %q", got)
	}
	r.expireTexts(soon.Add(-time.Second))
	if len(r.texts) != 2 {
		t.Errorf("%v", r.texts)
	}
	r.expireTexts(soon)
	if len(r.texts) != 0 {
		t.Errorf("not expired: %v", r.texts)
	}
	if got := texts("_both.example.com."); !slices.Equal(got, []string{"stays"}) {
		t.Errorf("%q", got)
	}
}

func TestTextsRefused(t *testing.T) {
	cfg, _ := signedZone(t)
	cfg.Zones[0].Records = append(cfg.Zones[0].Records, "_alias 300 CNAME www")
	r := responder(t, cfg, twoNodes())
	good := Text{Name: "_x.example.com", Value: "v", Expires: time.Now().Add(time.Hour)}
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
		{"a long name", func(x *Text) { x.Name = "_" + strings.Repeat("a.", 110) + "example.com" }, "is longer"},
		{"no value", func(x *Text) { x.Value = "" }, "is no value"},
		{"a long value", func(x *Text) { x.Value = strings.Repeat("x", 256) }, "is no value"},
		{"a line break", func(x *Text) { x.Value = "a\nb" }, "is no value"},
		{"in the past", func(x *Text) { x.Expires = time.Now() }, "30 days"},
		{"for ever", func(x *Text) { x.Expires = time.Now().Add(31 * 24 * time.Hour) }, "30 days"},
	} {
		text := good
		tt.change(&text)
		if err := r.CheckText(&text, time.Now()); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
	}
	// What other nodes tell is bounded, for a name and for all, and counted.
	told := []Text{{Name: "_x", Value: "no name of ours", Expires: good.Expires}, {Name: "www.example.com", Value: "v", Expires: good.Expires}, good, good}
	for n := range TextValuesMax {
		told = append(told, Text{Name: "_x.example.com", Value: fmt.Sprint(n), Expires: good.Expires})
	}
	r.SetTexts(told)
	if got := r.stats.TextsRefused.Load(); got != 2 || len(r.texts) != TextValuesMax+1 {
		t.Errorf("%d refused, %d kept", got, len(r.texts))
	}
	out := ask(t, r, question("_x.example.com.", dns.TypeTXT), "192.0.2.1", tcp)
	if len(out.Answer) != TextValuesMax {
		t.Errorf("%d records of one name", len(out.Answer))
	}
	told = told[:0]
	for n := range TextsMax + 5 {
		told = append(told, Text{Name: fmt.Sprintf("_x%d.example.com", n), Value: "v", Expires: good.Expires})
	}
	r.SetTexts(told)
	if got := r.stats.TextsRefused.Load(); got != 7 || len(r.texts) != TextsMax {
		t.Errorf("%d refused, %d kept", got, len(r.texts))
	}
	// One for a name that is an alias here, whatever another node makes of it.
	r.SetTexts([]Text{{Name: "_alias.example.com", Value: "v", Expires: good.Expires}})
	if out := ask(t, r, question("_alias.example.com.", dns.TypeTXT), "192.0.2.1", udp); len(out.Answer) == 0 || out.Answer[0].Header().Rrtype != dns.TypeCNAME {
		t.Errorf("%v", out)
	}
}
