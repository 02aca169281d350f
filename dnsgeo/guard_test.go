package dnsgeo

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"
)

// Over UDP who is not proven gets no more than a dozen bytes for each that it
// sends, whatever it asks, on both paths.
func TestAmplificationBounded(t *testing.T) {
	two := newTwoWays(t, func(c *Config) {
		c.ResponseLimits = ResponseLimits{Answers: limitRateMax, Empty: limitRateMax, Errors: limitRateMax}
		c.Zones[0].Records = append(c.Zones[0].Records, `big 300 TXT "`+strings.Repeat("x", 250)+`" "`+strings.Repeat("y", 250)+`" "`+strings.Repeat("z", 250)+`"`)
	})
	from := netip.MustParseAddrPort("192.0.2.1:5353")
	truncated := 0
	for _, name := range []string{"www", "alias2", "nope", "txt", "big", "below", "x.wild", "x.cdn", "x.aliases", "sub", "x.safe", "nowhere", "@"} {
		for _, qtype := range []uint16{dns.TypeA, dns.TypeAAAA, dns.TypeHTTPS, dns.TypeTXT, dns.TypeDNSKEY, dns.TypeANY, dns.TypeNS, dns.TypeSOA, dns.TypeDS,
			dns.TypeNSEC, dns.TypeRRSIG, dns.TypeAXFR, dns.TypeIXFR, dns.TypeNXNAME} {
			for _, opt := range []bool{false, true} {
				full := "example.com."
				if name != "@" {
					full = name + "." + full
				}
				m := question(full, qtype)
				if opt {
					m.SetEdns0(4096, true)
				}
				raw, err := m.Pack()
				if err != nil {
					t.Fatal(err)
				}
				answer := two.check(t, raw, from)
				if len(answer) == 0 || len(answer) > defaultFactor*len(raw) {
					t.Errorf("%s %s: %d bytes out for %d in", full, dns.TypeToString[qtype], len(answer), len(raw))
				}
				out := new(dns.Msg)
				if err := out.Unpack(answer); err != nil {
					t.Fatal(err)
				}
				if out.Truncated {
					truncated++
					if len(answer) > len(raw)+11 {
						t.Errorf("%s: truncated to %d bytes for %d", full, len(answer), len(raw))
					}
					if whole := ask(t, two.slow, m, "192.0.2.1", tcp); whole.Truncated || len(whole.Answer) == 0 {
						t.Errorf("over TCP: %v", whole)
					}
				}
				if (qtype == dns.TypeAXFR || qtype == dns.TypeIXFR) && out.Rcode != dns.RcodeRefused {
					t.Errorf("a transfer is answered: %v", out)
				}
			}
		}
	}
	if truncated == 0 {
		t.Error("nothing was too large")
	}
}

func cookieOf(t *testing.T, m *dns.Msg) string {
	t.Helper()
	if opt := m.IsEdns0(); opt != nil {
		for _, o := range opt.Option {
			if c, ok := o.(*dns.EDNS0_COOKIE); ok {
				return c.Cookie
			}
		}
	}
	return ""
}

func withCookie(m *dns.Msg, cookie string) *dns.Msg {
	m.SetEdns0(1232, false)
	m.IsEdns0().Option = []dns.EDNS0{&dns.EDNS0_COOKIE{Code: dns.EDNS0COOKIE, Cookie: cookie}}
	return m
}

func TestCookiesSpareLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // credit comes back with time
		cfg, _ := signedZone(t)
		cfg.Secrets = [][]byte{[]byte("of the cluster")}
		cfg.ResponseLimits = ResponseLimits{Answers: 5, Slip: 1}
		r := responder(t, cfg, twoNodes())
		first := ask(t, r, withCookie(question("www.example.com.", dns.TypeA), "0102030405060708"), "192.0.2.1", udp)
		cookie := cookieOf(t, first)
		if len(cookie) != 2*cookieBytes || len(first.Answer) == 0 {
			t.Fatalf("%v", first)
		}
		count := func(r *Responder, from, cookie string) (whole int) {
			t.Helper()
			for range 100 {
				if out := ask(t, r, withCookie(question("www.example.com.", dns.TypeA), cookie), from, udp); len(out.Answer) > 0 {
					whole++
				} else if !out.Truncated || out.Rcode != dns.RcodeSuccess {
					t.Fatalf("%v", out)
				}
			}
			return whole
		}
		if n := count(r, "192.0.2.1", cookie[:16]); n > 20 {
			t.Errorf("without a cookie %d of 100", n)
		}
		if n := count(r, "192.0.2.1", cookie); n != 100 {
			t.Errorf("with a cookie %d of 100", n)
		}
		if n := count(r, "192.0.2.99", cookie); n > 20 {
			t.Errorf("with another's cookie %d of 100", n)
		}
		if n := int(r.Stats().Limits.Slipped.Load()); n < 160 {
			t.Errorf("%d counted", n)
		}
		// A reload forgets neither; another responder of the cluster knows the cookie.
		if err := r.Apply(cfg); err != nil {
			t.Fatal(err)
		}
		if n := count(r, "192.0.2.1", cookie[:16]); n > 5 {
			t.Errorf("after a reload without a cookie %d of 100", n)
		}
		other := responder(t, cfg, twoNodes())
		if n := count(other, "192.0.2.1", cookie); n != 100 {
			t.Errorf("at another responder %d of 100", n)
		}
		// TCP proves addresses by itself.
		for range 100 {
			if out := ask(t, r, question("www.example.com.", dns.TypeA), "192.0.2.1", tcp); len(out.Answer) == 0 {
				t.Fatalf("%v", out)
			}
		}
	})
}

func TestCookiesDrawn(t *testing.T) {
	cfg, _ := signedZone(t)
	r := responder(t, cfg, twoNodes())
	m := withCookie(question("www.example.com.", dns.TypeA), "0102030405060708")
	cookie := cookieOf(t, ask(t, r, m, "192.0.2.1", udp))
	if err := r.Apply(cfg); err != nil {
		t.Fatal(err)
	}
	// A good one comes back as it is.
	if again := cookieOf(t, ask(t, r, withCookie(question("www.example.com.", dns.TypeA), cookie), "192.0.2.1", udp)); again != cookie {
		t.Errorf("%s after a reload, was %s", again, cookie)
	}
}

// Responders without a cluster share a file, and roll it over.
func TestCookiesOfAFile(t *testing.T) {
	cfg, _ := signedZone(t)
	cfg.Cookies.SecretFile = filepath.Join(t.TempDir(), "secret")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(cfg.Cookies.SecretFile, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	const first, second = "0123456789abcdef", "fedcba9876543210"
	write(first + "\n")
	a, b := responder(t, cfg, twoNodes()), responder(t, cfg, twoNodes())
	cookie := cookieOf(t, ask(t, a, withCookie(question("www.example.com.", dns.TypeA), "0102030405060708"), "192.0.2.1", udp))
	again := func() string {
		return cookieOf(t, ask(t, b, withCookie(question("www.example.com.", dns.TypeA), cookie), "192.0.2.1", udp))
	}
	if again() != cookie {
		t.Error("another responder does not know the cookie")
	}
	write(second + "\n\n" + first + "\n")
	if err := b.Apply(cfg); err != nil {
		t.Fatal(err)
	}
	if renewed := again(); renewed == cookie || renewed == "" {
		t.Errorf("under the next secret the cookie is %q", renewed)
	}
	for _, bad := range []string{"", "short", strings.Repeat(first+"\n", secretsMax+1)} {
		write(bad)
		if err := b.Apply(cfg); err == nil || !strings.Contains(err.Error(), "openssl rand -hex 32") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestCookiesRequired(t *testing.T) {
	cfg, _ := signedZone(t)
	cfg.Cookies.Required = true
	r := responder(t, cfg, twoNodes())
	out := ask(t, r, question("www.example.com.", dns.TypeA), "192.0.2.1", udp)
	if !out.Truncated || len(out.Answer) > 0 || out.Rcode != dns.RcodeSuccess {
		t.Errorf("without a cookie: %v", out)
	}
	out = ask(t, r, withCookie(question("www.example.com.", dns.TypeA), "0102030405060708"), "192.0.2.1", udp)
	if out.Rcode != dns.RcodeBadCookie || len(out.Answer) > 0 {
		t.Errorf("with the client's part: %v", out)
	}
	out = ask(t, r, withCookie(question("www.example.com.", dns.TypeA), cookieOf(t, out)), "192.0.2.1", udp)
	if out.Rcode != dns.RcodeSuccess || len(out.Answer) == 0 {
		t.Errorf("with a cookie: %v", out)
	}
	if out = ask(t, r, question("www.example.com.", dns.TypeA), "192.0.2.1", tcp); len(out.Answer) == 0 {
		t.Errorf("over TCP: %v", out)
	}
	for _, cookie := range []string{"", "01", "01020304050607", "010203040506070809", strings.Repeat("01", 41)} {
		if out = ask(t, r, withCookie(question("www.example.com.", dns.TypeA), cookie), "192.0.2.1", udp); out.Rcode != dns.RcodeFormatError {
			t.Errorf("with %q: %v", cookie, out)
		}
	}
}

// A flood of names that do not exist counts as one, whatever they are, and leaves
// those that do alone.
func TestRandomNamesCountAsOne(t *testing.T) {
	cfg, _ := signedZone(t)
	cfg.ResponseLimits = ResponseLimits{Empty: 10, Slip: 100}
	r := responder(t, cfg, twoNodes())
	f, now := newFast(r), signTime
	send := func(name string) []byte {
		raw, err := question(name, dns.TypeA).Pack()
		if err != nil {
			t.Fatal(err)
		}
		return f.respond(nil, raw, netip.MustParseAddrPort("192.0.2.1:5353"), now)
	}
	answered := 0
	for i := range 1000 {
		now = now.Add(time.Millisecond)
		if len(send(strings.Repeat("a", 1+i%60)+".example.com.")) > 0 {
			answered++
		}
		if len(send("www.example.com.")) == 0 && i < 500 {
			t.Fatalf("a name that exists is not answered at %d", i)
		}
	}
	if answered > 45 {
		t.Errorf("%d of 1000 answered", answered)
	}
}

func TestGuardConfig(t *testing.T) {
	for _, tt := range []struct {
		name string
		cfg  Config
		want string
	}{
		{"rate", Config{ResponseLimits: ResponseLimits{Answers: -1}}, "response_limits.answers -1 is not between"},
		{"slip", Config{ResponseLimits: ResponseLimits{Slip: 101}}, "response_limits.slip 101 is not between"},
		{"prefix", Config{ResponseLimits: ResponseLimits{Exempt: []string{"10.0.0.1/33"}}}, `response_limits.exempt[0] "10.0.0.1/33" is no network`},
		{"cookies", Config{Cookies: Cookies{Off: true, Required: true}}, "cookies.required cannot be while cookies are off"},
		{"secret", Config{Cookies: Cookies{Off: true, SecretFile: "x"}}, "cookies.secret_file has no effect"},
		{"validity", Config{Zones: []Zone{{Name: "a.b", DNSSEC: DNSSEC{Keys: "k", Validity: time.Minute}}}}, "zones[0].dnssec.validity 1m0s is out of bounds"},
		{"keys", Config{Zones: []Zone{{Name: "a.b", DNSSEC: DNSSEC{Validity: time.Hour}}}}, "zones[0].dnssec.keys is missing"},
	} {
		var problems []string
		tt.cfg.Validate(func(path, problem string) { problems = append(problems, path+" "+problem) })
		if !strings.Contains(strings.Join(problems, "\n"), tt.want) {
			t.Errorf("%s: %q, want %q", tt.name, problems, tt.want)
		}
	}
}

// Signatures for names that are made up have a rate of their own, whoever asks.
func TestProofsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // credit comes back with time
		cfg, key := signedZone(t)
		cfg.ResponseLimits.Proofs = 10
		r := responder(t, cfg, twoNodes())
		proven, cut := 0, 0
		for i := range 200 {
			name := fmt.Sprintf("n%d.example.com.", i)
			if i%2 == 1 {
				name = fmt.Sprintf("n%d.cdn.example.com.", i)
			}
			out := ask(t, r, secured(name, dns.TypeA, true), fmt.Sprintf("10.0.%d.1", i), udp)
			if !out.Truncated {
				proven++
				verified(t, key, slices.Concat(out.Answer, out.Ns))
				continue
			}
			cut++
			if len(out.Answer)+len(out.Ns) > 0 || out.Rcode != dns.RcodeSuccess {
				t.Fatalf("%v", out)
			}
		}
		if proven < 20 || proven > 100 || uint64(cut) != r.Stats().Limits.Unproven.Load() {
			t.Errorf("%d of 200 were signed, %d sent to TCP", proven, cut)
		}
		if out := ask(t, r, secured("n.example.com.", dns.TypeA, true), "10.0.0.1", tcp); out.Rcode != dns.RcodeNameError {
			t.Errorf("over TCP: %v", out)
		}
		// Names that are there, and who wants no proofs, are not concerned.
		if out := ask(t, r, secured("www.example.com.", dns.TypeTXT, true), "10.0.0.1", udp); out.Truncated {
			t.Errorf("%v", out)
		}
		if out := ask(t, r, question("n.example.com.", dns.TypeA), "10.0.0.1", udp); out.Rcode != dns.RcodeNameError {
			t.Errorf("%v", out)
		}
	})
}
