package dnsgeo

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// everything is a zone with a bit of everything.
func everything() Config {
	return Config{Zones: []Zone{
		{
			Name: "cdn.example", NameServers: []string{"ns1.cdn.example", "ns2.example.net"}, Contact: "ops.example.net",
			Records: []string{
				"ns1 A 192.0.2.53", "ns1 AAAA 2001:db8::53",
				"www A 192.0.2.1", "www A 192.0.2.2", "www 60 A 192.0.2.2",
				"alias CNAME www", "alias2 CNAME alias", "out CNAME www.example.net.", "loop CNAME pool", "pool CNAME loop",
				"dangling CNAME nothing", "toapex CNAME @", "*.wild CNAME www",
				"sub NS ns.sub", "sub NS ns.other", "sub NS far.example.net.", "ns.sub A 192.0.2.54", "ns.sub AAAA 2001:db8::54",
				"ns.other A 192.0.2.55", "sub DS 12345 13 2 49FD46E6C4B45C55D4AC69CBD3CD34AC1AFE51DE7F7A6A8A0F9FA9B2B5C4D6E1",
				"a.b.c TXT deep", `txt TXT "one" "two"`, "@ MX 10 mail", "@ TYPE65400 \\# 2 beef", "c0 A 192.0.2.9",
			},
		},
		{Name: "below.cdn.example", NameServers: []string{"ns1.example.net"}},
	}}
}

func shown(sections ...[]dns.RR) string {
	var all []string
	for _, section := range sections {
		for _, rr := range section {
			if rr.Header().Rrtype != dns.TypeOPT {
				all = append(all, strings.ReplaceAll(rr.String(), "\t", " "))
			}
		}
	}
	return strings.Join(all, "\n")
}

const (
	soaOfCDN = "cdn.example. 60 IN SOA ns1.cdn.example. ops.example.net. 1 7200 1800 1209600 60"
	referral = `sub.cdn.example. 3600 IN NS ns.sub.cdn.example.
sub.cdn.example. 3600 IN NS ns.other.cdn.example.
sub.cdn.example. 3600 IN NS far.example.net.
ns.sub.cdn.example. 3600 IN A 192.0.2.54
ns.sub.cdn.example. 3600 IN AAAA 2001:db8::54
ns.other.cdn.example. 3600 IN A 192.0.2.55`
)

// Each kind of answer of RFC 1034 4.3.2 and what came after it.
func TestAnswers(t *testing.T) {
	r := responder(t, everything(), nil)
	for _, c := range []struct {
		name  string
		qtype uint16
		rcode int
		aa    bool
		want  string
	}{
		// One set, one TTL, no record twice.
		{"www.cdn.example.", dns.TypeA, 0, true, "www.cdn.example. 60 IN A 192.0.2.1\nwww.cdn.example. 60 IN A 192.0.2.2"},
		{"WWW.CDN.example.", dns.TypeA, 0, true, "WWW.CDN.example. 60 IN A 192.0.2.1\nWWW.CDN.example. 60 IN A 192.0.2.2"},
		{"www.cdn.example.", dns.TypeAAAA, 0, true, soaOfCDN},
		{"nothing.cdn.example.", dns.TypeA, 3, true, soaOfCDN},
		{"cdn.example.", dns.TypeSOA, 0, true, "cdn.example. 3600 IN SOA ns1.cdn.example. ops.example.net. 1 7200 1800 1209600 60"},
		{"cdn.example.", dns.TypeNS, 0, true, "cdn.example. 3600 IN NS ns1.cdn.example.\ncdn.example. 3600 IN NS ns2.example.net."},
		{"cdn.example.", 65400, 0, true, "cdn.example. 3600 CLASS1 TYPE65400 \\# 2 beef"},
		{"cdn.example.", 65401, 0, true, soaOfCDN},
		{"b.c.cdn.example.", dns.TypeTXT, 0, true, soaOfCDN}, // an empty non-terminal
		{"x.b.c.cdn.example.", dns.TypeTXT, 3, true, soaOfCDN},
		// Aliases.
		{"alias2.cdn.example.", dns.TypeA, 0, true, "alias2.cdn.example. 3600 IN CNAME alias.cdn.example.\nalias.cdn.example. 3600 IN CNAME www.cdn.example.\n" +
			"www.cdn.example. 60 IN A 192.0.2.1\nwww.cdn.example. 60 IN A 192.0.2.2"},
		{"alias2.cdn.example.", dns.TypeCNAME, 0, true, "alias2.cdn.example. 3600 IN CNAME alias.cdn.example."},
		{"alias.cdn.example.", dns.TypeMX, 0, true, "alias.cdn.example. 3600 IN CNAME www.cdn.example.\n" + soaOfCDN},
		{"dangling.cdn.example.", dns.TypeA, 3, true, "dangling.cdn.example. 3600 IN CNAME nothing.cdn.example.\n" + soaOfCDN}, // RFC 6604
		{"out.cdn.example.", dns.TypeA, 0, true, "out.cdn.example. 3600 IN CNAME www.example.net."},
		{"toapex.cdn.example.", dns.TypeMX, 0, true, "toapex.cdn.example. 3600 IN CNAME cdn.example.\ncdn.example. 3600 IN MX 10 mail.cdn.example."},
		{"x.y.wild.cdn.example.", dns.TypeA, 0, true, "x.y.wild.cdn.example. 3600 IN CNAME www.cdn.example.\n" +
			"www.cdn.example. 60 IN A 192.0.2.1\nwww.cdn.example. 60 IN A 192.0.2.2"},
		// Delegations: the parent has DS, the child the rest.
		{"sub.cdn.example.", dns.TypeA, 0, false, referral},
		{"x.sub.cdn.example.", dns.TypeMX, 0, false, referral},
		{"ns.sub.cdn.example.", dns.TypeA, 0, false, referral}, // glue is no answer
		{"sub.cdn.example.", dns.TypeNS, 0, false, referral},
		{"x.sub.cdn.example.", dns.TypeDS, 0, false, referral},
		{"sub.cdn.example.", dns.TypeDS, 0, true, "sub.cdn.example. 3600 IN DS 12345 13 2 49FD46E6C4B45C55D4AC69CBD3CD34AC1AFE51DE7F7A6A8A0F9FA9B2B5C4D6E1"},
		{"cdn.example.", dns.TypeDS, 0, true, soaOfCDN},
		{"below.cdn.example.", dns.TypeDS, 3, true, soaOfCDN}, // of the parent, which we have
		{"x.below.cdn.example.", dns.TypeA, 3, true, "below.cdn.example. 60 IN SOA ns1.example.net. hostmaster.below.cdn.example. 1 7200 1800 1209600 60"},
		// ANY is minimal (RFC 8482).
		{"www.cdn.example.", dns.TypeANY, 0, true, `www.cdn.example. 3600 IN HINFO "RFC8482" ""`},
		{"alias.cdn.example.", dns.TypeANY, 0, true, "alias.cdn.example. 3600 IN CNAME www.cdn.example."},
		{"nothing.cdn.example.", dns.TypeANY, 3, true, soaOfCDN},
		// Not ours, or not for anybody.
		{"example.net.", dns.TypeA, 5, false, ""},
		{".", dns.TypeNS, 5, false, ""},
		{"cdn.example.", dns.TypeAXFR, 5, false, ""},
		{"cdn.example.", dns.TypeIXFR, 5, false, ""},
	} {
		for _, via := range []transport{udp, tcp} {
			m := ask(t, r, question(c.name, c.qtype), "192.0.2.53", via)
			if got := shown(m.Answer, m.Ns, m.Extra); got != c.want || m.Rcode != c.rcode || m.Authoritative != c.aa || m.RecursionAvailable || m.Truncated {
				t.Errorf("%s %s over %v: %s aa=%v\n%s\nwant %s aa=%v\n%s", c.name, dns.Type(c.qtype), via,
					dns.RcodeToString[m.Rcode], m.Authoritative, got, dns.RcodeToString[c.rcode], c.aa, c.want)
			}
		}
	}
	// A loop ends.
	if m := ask(t, r, question("loop.cdn.example.", dns.TypeA), "192.0.2.53", udp); m.Rcode != 0 || len(m.Answer) > aliasesMax+1 {
		t.Errorf("a loop: %v", m)
	}
}

// What is asked in other ways than with a plain question.
func TestOtherQueries(t *testing.T) {
	r := responder(t, everything(), nil)
	for name, c := range map[string]struct {
		edit  func(*dns.Msg)
		rcode int
		check func(*dns.Msg) bool
	}{
		"NOTIFY":       {func(m *dns.Msg) { m.Opcode = dns.OpcodeNotify }, dns.RcodeRefused, nil},
		"UPDATE":       {func(m *dns.Msg) { m.Opcode = dns.OpcodeUpdate }, dns.RcodeRefused, nil},
		"STATUS":       {func(m *dns.Msg) { m.Opcode = dns.OpcodeStatus }, dns.RcodeNotImplemented, nil},
		"class CH":     {func(m *dns.Msg) { m.Question[0].Qclass = dns.ClassCHAOS }, dns.RcodeRefused, nil},
		"class 65280":  {func(m *dns.Msg) { m.Question[0].Qclass = 65280 }, dns.RcodeRefused, nil},
		"two question": {func(m *dns.Msg) { m.Question = append(m.Question, m.Question[0]) }, dns.RcodeFormatError, nil},
		"no question":  {func(m *dns.Msg) { m.Question = nil }, dns.RcodeFormatError, nil},
		"EDNS": {func(m *dns.Msg) { m.SetEdns0(4096, true) }, 0, func(m *dns.Msg) bool {
			o := m.IsEdns0()
			return o != nil && o.UDPSize() == 1232 && o.Do() && o.Version() == 0
		}},
		"BADVERS": {func(m *dns.Msg) { m.SetEdns0(4096, false); m.IsEdns0().SetVersion(1) }, dns.RcodeBadVers, func(m *dns.Msg) bool {
			return m.IsEdns0() != nil && m.IsEdns0().Version() == 0 && len(m.Answer) == 0
		}},
		"two OPT": {func(m *dns.Msg) { m.SetEdns0(4096, false); m.Extra = append(m.Extra, m.Extra[0]) }, dns.RcodeFormatError, nil},
		"RD":      {func(m *dns.Msg) { m.RecursionDesired = true }, 0, func(m *dns.Msg) bool { return m.RecursionDesired && !m.RecursionAvailable }},
		"no EDNS": {func(*dns.Msg) {}, 0, func(m *dns.Msg) bool { return m.IsEdns0() == nil }},
		"unknown EDNS": {func(m *dns.Msg) {
			m.SetEdns0(4096, false)
			m.IsEdns0().Option = []dns.EDNS0{&dns.EDNS0_LOCAL{Code: 65001, Data: []byte{1}}}
		}, 0, func(m *dns.Msg) bool { return len(m.IsEdns0().Option) == 0 }},
	} {
		m := question("www.cdn.example.", dns.TypeA)
		c.edit(m)
		got := ask(t, r, m, "192.0.2.53", udp)
		if got.Rcode != c.rcode || got.Id != m.Id || !got.Response || got.Opcode != m.Opcode || c.check != nil && !c.check(got) {
			t.Errorf("%s: %v", name, got)
		}
	}
	// Silence: to answers, and to what is too short.
	for _, raw := range [][]byte{{}, {1, 2, 3}, {0, 1, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0}} {
		if got := r.respond(nil, raw, addrPort("192.0.2.1"), udp); len(got) != 0 {
			t.Errorf("%x is answered with %x", raw, got)
		}
	}
}

func TestZonesThatAreRefused(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "zone")
	for _, c := range []struct{ records, file, want string }{
		{records: "www A 192.0.2.1|www CNAME other", want: "alias (CNAME) and more"},
		{records: "www CNAME a|www CNAME b", want: "alias (CNAME) and more"},
		{records: "www.example.net. A 192.0.2.1", want: "not in the zone"},
		{records: "www CH A 192.0.2.1", want: "class CH"},
		{records: "d DNAME example.net.", want: "DNAME"},
		{records: "@ NSEC a A", want: "made while answering"},
		{records: "d DS 1 13 2 49FD46E6C4B45C55D4AC69CBD3CD34AC1AFE51DE7F7A6A8A0F9FA9B2B5C4D6E1", want: "no NS records that delegate"},
		{records: "@ SOA a b 1 2 3 4 5|@ SOA c d 1 2 3 4 5", want: "one SOA record"},
		{records: "geo A 192.0.2.1", want: "those of nodes"},
		{records: "geo NS ns1", want: "stands for nodes"},
		{file: "$INCLUDE /etc/passwd\n", want: "INCLUDE"},
		{file: "$GENERATE 1-65535 a$ A 192.0.2.1\n$GENERATE 1-65535 b$ A 192.0.2.1\n", want: "more than 100000 records"},
		{file: "www IN A nowhere\n", want: "line: 1"},
	} {
		z := Zone{Name: "cdn.example", NameServers: []string{"ns.example.net"}, Dynamic: []Dynamic{{Name: "geo"}}}
		if c.records != "" {
			z.Records = strings.Split(c.records, "|")
		}
		if c.file != "" {
			if err := os.WriteFile(file, []byte(c.file), 0o600); err != nil {
				t.Fatal(err)
			}
			z.File = file
		}
		cfg := Config{Zones: []Zone{z}}.WithDefaults()
		if _, err := compile(&cfg); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s%s: %v, want %q", c.records, c.file, err, c.want)
		}
	}
	cfg := Config{Zones: []Zone{{Name: "cdn.example"}}}.WithDefaults()
	if _, err := compile(&cfg); err == nil || !strings.Contains(err.Error(), "no NS record") {
		t.Errorf("a zone without servers: %v", err)
	}
}

// A file and lines together make the zone.
func TestZoneFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "zone")
	text := `$ORIGIN cdn.example.
$TTL 2h
@	IN SOA ns1 ops 7 7200 1800 1209600 30
	IN NS ns1
ns1	IN A 192.0.2.53
www 5m	A 192.0.2.1
	TXT ( "in two"
	      "lines" ) ; and a remark
`
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	r := responder(t, Config{Zones: []Zone{{Name: "cdn.example", File: file, Records: []string{"more AAAA 2001:db8::1"}, Dynamic: []Dynamic{{Name: "@", WhenDown: "nodata"}}}}}, nil)
	for name, want := range map[string]string{
		"www.cdn.example. TXT":   `www.cdn.example. 7200 IN TXT "in two" "lines"`,
		"more.cdn.example. AAAA": "more.cdn.example. 3600 IN AAAA 2001:db8::1",
		"cdn.example. A":         "cdn.example. 30 IN SOA ns1.cdn.example. ops.cdn.example. 7 7200 1800 1209600 30",
	} {
		name, qtype, _ := strings.Cut(name, " ")
		if got := ask(t, r, question(name, dns.StringToType[qtype]), "192.0.2.1", udp); shown(got.Answer, got.Ns) != want {
			t.Errorf("%s %s:\n%s\nwant\n%s", name, qtype, shown(got.Answer, got.Ns), want)
		}
	}
}
