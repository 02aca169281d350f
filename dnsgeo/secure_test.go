package dnsgeo

import (
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// signedZone is a zone with one of everything, and its keys.
func signedZone(t testing.TB) (Config, *Key) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "keys")
	key, err := AddKey(path, "example.com", signTime)
	if err != nil {
		t.Fatal(err)
	}
	return Config{Zones: []Zone{{
		Name: "example.com", NameServers: []string{"ns1.example.com"}, DNSSEC: DNSSEC{Keys: path},
		Records: []string{
			"ns1 300 A 192.0.2.53", "ns1 300 AAAA 2001:db8::53",
			`txt 300 TXT "some text"`, "deep.below 300 A 192.0.2.9",
			"alias 300 CNAME www", "alias2 300 CNAME alias", "away 300 CNAME www.example.net.", "nowhere 300 CNAME nope",
			`*.wild 300 TXT "wild"`, "*.wild 300 A 192.0.2.66", "*.aliases 300 CNAME www",
			"sub 300 NS ns.sub", "ns.sub 300 A 192.0.2.77",
			"safe 300 NS ns.example.net.", "safe 300 DS 12345 13 2 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
		},
		Dynamic: []Dynamic{{Name: "www"}, {Name: "@"}, {Name: "*.cdn"}},
	}}}, key
}

// twoNodes have IPv4 both, IPv6 one.
func twoNodes() *[]Node {
	return &[]Node{
		{Name: "a", Site: "x", Addresses: []netip.Addr{netip.MustParseAddr("198.51.100.1"), netip.MustParseAddr("2001:db8:1::1")}, HTTPS: true, H2: true, H3: true},
		{Name: "b", Site: "x", Addresses: []netip.Addr{netip.MustParseAddr("198.51.100.2")}, HTTPS: true, H2: true},
	}
}

func secured(name string, qtype uint16, co bool) *dns.Msg {
	m := question(name, qtype)
	m.SetEdns0(1232, true)
	m.IsEdns0().SetCo(co)
	return m
}

// verified checks that all sets of an answer are signed, but those of delegations,
// and returns them: "owner type", and what each NSEC record says.
func verified(t *testing.T, key *Key, rrs []dns.RR) []string {
	t.Helper()
	type id struct {
		name  string
		rtype uint16
	}
	sets, signatures := map[id][]dns.RR{}, map[id]*dns.RRSIG{}
	var order []id
	for _, rr := range rrs {
		rr = dns.Copy(rr)
		h := rr.Header()
		h.Name = dns.CanonicalName(h.Name)
		if sig, ok := rr.(*dns.RRSIG); ok {
			signatures[id{h.Name, sig.TypeCovered}] = sig
			continue
		}
		at := id{h.Name, h.Rrtype}
		if sets[at] == nil {
			order = append(order, at)
		}
		sets[at] = append(sets[at], rr)
	}
	var all []string
	for _, at := range order {
		text := at.name + " " + dns.TypeToString[at.rtype]
		sig := signatures[at]
		switch {
		case sig == nil && at.rtype == dns.TypeNS && at.name != "example.com.":
		case sig == nil:
			text += " UNSIGNED"
		default:
			if err := sig.Verify(key.public, sets[at]); err != nil {
				t.Errorf("%v: %v", sig, err)
			}
		}
		if nsec, ok := sets[at][0].(*dns.NSEC); ok {
			if nsec.NextDomain != `\000.`+at.name {
				t.Errorf("%v", nsec)
			}
			_, types, _ := strings.Cut(nsec.String(), nsec.NextDomain)
			text += types
		}
		all = append(all, text)
	}
	return all
}

func TestSecuredAnswers(t *testing.T) {
	cfg, key := signedZone(t)
	cfg.ResponseLimits.Amplification = 100
	r := responder(t, cfg, twoNodes())
	const soa = "example.com. SOA"
	for _, tt := range []struct {
		name   string
		qtype  uint16
		co     bool
		rcode  int
		answer []string
		ns     []string
	}{
		{"www.example.com.", dns.TypeA, false, 0, []string{"www.example.com. A"}, nil},
		{"wWw.eXample.com.", dns.TypeHTTPS, false, 0, []string{"www.example.com. HTTPS"}, nil},
		{"example.com.", dns.TypeA, false, 0, []string{"example.com. A"}, nil},
		{"example.com.", dns.TypeSOA, false, 0, []string{soa}, nil},
		{"example.com.", dns.TypeNS, false, 0, []string{"example.com. NS"}, nil},
		{"example.com.", dns.TypeDNSKEY, false, 0, []string{"example.com. DNSKEY"}, nil},
		{"example.com.", dns.TypeCDS, false, 0, []string{"example.com. CDS"}, nil},
		{"example.com.", dns.TypeCDNSKEY, false, 0, []string{"example.com. CDNSKEY"}, nil},
		{"example.com.", dns.TypeDS, false, 0, nil, []string{soa, "example.com. NSEC A NS SOA AAAA RRSIG NSEC DNSKEY CDS CDNSKEY SVCB HTTPS"}},
		{"alias2.example.com.", dns.TypeA, false, 0, []string{"alias2.example.com. CNAME", "alias.example.com. CNAME", "www.example.com. A"}, nil},
		{"away.example.com.", dns.TypeA, false, 0, []string{"away.example.com. CNAME"}, nil},
		{"nowhere.example.com.", dns.TypeA, true, dns.RcodeNameError, []string{"nowhere.example.com. CNAME"}, []string{soa, "nope.example.com. NSEC RRSIG NSEC NXNAME"}},
		{"nope.example.com.", dns.TypeA, false, 0, nil, []string{soa, "nope.example.com. NSEC RRSIG NSEC NXNAME"}},
		{"nOpe.example.com.", dns.TypeA, true, dns.RcodeNameError, nil, []string{soa, "nope.example.com. NSEC RRSIG NSEC NXNAME"}},
		{"below.example.com.", dns.TypeA, true, 0, nil, []string{soa, "below.example.com. NSEC RRSIG NSEC"}},
		{"txt.example.com.", dns.TypeA, true, 0, nil, []string{soa, "txt.example.com. NSEC TXT RRSIG NSEC"}},
		{"www.example.com.", dns.TypeTXT, true, 0, nil, []string{soa, "www.example.com. NSEC A AAAA RRSIG NSEC SVCB HTTPS"}},
		{"x.wild.example.com.", dns.TypeTXT, false, 0, []string{"x.wild.example.com. TXT"}, nil},
		{"x.y.wild.example.com.", dns.TypeTXT, false, 0, []string{"x.y.wild.example.com. TXT"}, nil},
		{"x.wild.example.com.", dns.TypeMX, false, 0, nil, []string{soa, "x.wild.example.com. NSEC A TXT RRSIG NSEC"}},
		{"x.cdn.example.com.", dns.TypeA, false, 0, []string{"x.cdn.example.com. A"}, nil},
		{"x.aliases.example.com.", dns.TypeA, false, 0, []string{"x.aliases.example.com. CNAME", "www.example.com. A"}, nil},
		{"*.wild.example.com.", dns.TypeTXT, false, 0, []string{"*.wild.example.com. TXT"}, nil},
		{"sub.example.com.", dns.TypeA, false, 0, nil, []string{"sub.example.com. NS", "sub.example.com. NSEC NS RRSIG NSEC"}},
		{"x.sub.example.com.", dns.TypeA, false, 0, nil, []string{"sub.example.com. NS", "sub.example.com. NSEC NS RRSIG NSEC"}},
		{"sub.example.com.", dns.TypeDS, false, 0, nil, []string{soa, "sub.example.com. NSEC NS RRSIG NSEC"}},
		{"x.safe.example.com.", dns.TypeA, false, 0, nil, []string{"safe.example.com. NS", "safe.example.com. DS"}},
		{"safe.example.com.", dns.TypeDS, false, 0, []string{"safe.example.com. DS"}, nil},
		{"txt.example.com.", dns.TypeNSEC, false, 0, []string{"txt.example.com. NSEC TXT RRSIG NSEC"}, nil},
		{"txt.example.com.", dns.TypeANY, false, 0, []string{"txt.example.com. HINFO"}, nil},
		{"txt.example.com.", dns.TypeNXNAME, false, dns.RcodeFormatError, nil, nil},
	} {
		t.Run(tt.name+" "+dns.TypeToString[tt.qtype], func(t *testing.T) {
			out := ask(t, r, secured(tt.name, tt.qtype, tt.co), "192.0.2.200", udp)
			if out.Rcode != tt.rcode || out.Truncated {
				t.Errorf("%v", out)
			}
			if got := verified(t, key, out.Answer); !slices.Equal(got, tt.answer) {
				t.Errorf("answer %q, want %q", got, tt.answer)
			}
			if got := verified(t, key, out.Ns); !slices.Equal(got, tt.ns) {
				t.Errorf("authority %q, want %q", got, tt.ns)
			}
			if opt := out.IsEdns0(); opt == nil || !opt.Do() {
				t.Error("DO is not answered")
			}
			// Who does not ask for proofs gets none, and NXDOMAIN.
			plain := question(tt.name, tt.qtype)
			out = ask(t, r, plain, "192.0.2.200", udp)
			for _, rr := range slices.Concat(out.Answer, out.Ns) {
				if h := rr.Header(); (h.Rrtype == dns.TypeRRSIG || h.Rrtype == dns.TypeNSEC) && h.Rrtype != tt.qtype {
					t.Errorf("not asked for: %v", rr)
				}
			}
			if strings.Contains(strings.Join(tt.ns, " "), "NXNAME") != (out.Rcode == dns.RcodeNameError) {
				t.Errorf("without DO: %v", out)
			}
		})
	}
	out := ask(t, r, secured("txt.example.com.", dns.TypeRRSIG, false), "192.0.2.200", udp)
	if len(out.Answer) != 1 || out.Answer[0].(*dns.RRSIG).TypeCovered != dns.TypeNSEC {
		t.Errorf("%v", out)
	}
}

func TestKeysRefused(t *testing.T) {
	cfg, _ := signedZone(t)
	cfg.Zones[0].Records = append(cfg.Zones[0].Records, "@ 300 CDS 0 0 0 00")
	if _, err := New(cfg, nil); err == nil || !strings.Contains(err.Error(), "CDS records of its own") {
		t.Errorf("%v", err)
	}
	cfg, _ = signedZone(t)
	cfg.Zones[0].DNSSEC.Keys += ".none"
	if _, err := New(cfg, nil); err == nil || !strings.Contains(err.Error(), "keys of example.com.") {
		t.Errorf("%v", err)
	}
}

// A reload with another key in the file signs with it, and publishes both.
func TestKeysRollOver(t *testing.T) {
	cfg, first := signedZone(t)
	path := cfg.Zones[0].DNSSEC.Keys
	r := responder(t, cfg, twoNodes())
	second, err := AddKey(path, "example.com", signTime)
	if err != nil {
		t.Fatal(err)
	}
	step := func(name string, keys int, signs *Key) {
		t.Helper()
		if err := r.Apply(cfg); err != nil {
			t.Fatal(err)
		}
		out := ask(t, r, secured("example.com.", dns.TypeDNSKEY, false), "192.0.2.1", tcp)
		if len(out.Answer) != keys+1 {
			t.Errorf("%s: %v", name, out)
		}
		verified(t, signs, out.Answer)
		verified(t, signs, ask(t, r, secured("www.example.com.", dns.TypeA, false), "192.0.2.1", tcp).Answer)
	}
	step("published", 2, first)
	if err := SignWith(path, "example.com", second.Tag()); err != nil {
		t.Fatal(err)
	}
	step("signs", 2, second)
	if err := RemoveKey(path, "example.com", first.Tag()); err != nil {
		t.Fatal(err)
	}
	step("alone", 1, second)
}

// A file that changed is read again by itself; one that cannot be used changes
// nothing.
func TestKeysReadAgain(t *testing.T) {
	cfg, first := signedZone(t)
	path := cfg.Zones[0].DNSSEC.Keys
	r := responder(t, cfg, twoNodes())
	published := func(signs *Key) int {
		t.Helper()
		out := ask(t, r, secured("example.com.", dns.TypeDNSKEY, false), "192.0.2.1", tcp)
		verified(t, signs, out.Answer)
		verified(t, signs, ask(t, r, secured("www.example.com.", dns.TypeA, false), "192.0.2.1", tcp).Answer)
		return len(out.Answer) - 1
	}
	if failed := r.rekey(nil); len(failed) > 0 || published(first) != 1 {
		t.Errorf("nothing changed: %v", failed)
	}
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("no keys"), 0o600); err != nil {
		t.Fatal(err)
	}
	failed := r.rekey(nil)
	if failed = r.rekey(failed); len(failed) != 1 || r.stats.RereadFailures.Load() != 1 || published(first) != 1 {
		t.Errorf("a file that cannot be used: %v, counted %d", failed, r.stats.RereadFailures.Load())
	}
	if err := os.WriteFile(path, good, 0o600); err != nil {
		t.Fatal(err)
	}
	second, err := AddKey(path, "example.com", signTime)
	if err == nil {
		err = SignWith(path, "example.com", second.Tag())
	}
	if err != nil {
		t.Fatal(err)
	}
	if failed = r.rekey(failed); len(failed) > 0 || published(second) != 2 {
		t.Errorf("a second key: %v", failed)
	}
}
