package dnsgeo

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

var signTime = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func keyFor(t testing.TB, zone string) *Key {
	t.Helper()
	key, err := NewKey(zone, signTime)
	if err != nil {
		t.Fatal(err)
	}
	key.Signs = true
	return key
}

func records(t testing.TB, lines ...string) []dns.RR {
	t.Helper()
	var all []dns.RR
	for _, line := range lines {
		rr, err := dns.NewRR(line)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, rr)
	}
	return all
}

func TestKeyFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys")
	first, err := AddKey(path, "Example.com", signTime)
	if err != nil {
		t.Fatal(err)
	}
	if info, _ := os.Stat(path); info.Mode().Perm() != 0o600 {
		t.Errorf("the file has mode %v", info.Mode())
	}
	second, err := AddKey(path, "example.com.", signTime.Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	signing := func() (tags []uint16) {
		t.Helper()
		keys, err := ReadKeys(path, "EXAMPLE.com")
		if err != nil {
			t.Fatal(err)
		}
		for _, k := range keys {
			if k.Signs {
				tags = append(tags, k.Tag())
			}
		}
		return tags
	}
	if got := signing(); !slices.Equal(got, []uint16{first.Tag()}) {
		t.Errorf("%v sign, want the first, %d", got, first.Tag())
	}
	if err := RemoveKey(path, "example.com", first.Tag()); err == nil || !strings.Contains(err.Error(), "signs") {
		t.Errorf("the signing key was removed: %v", err)
	}
	if err := SignWith(path, "example.com", second.Tag()); err != nil {
		t.Fatal(err)
	}
	if got := signing(); !slices.Equal(got, []uint16{second.Tag()}) {
		t.Errorf("%v sign, want the second, %d", got, second.Tag())
	}
	if err := RemoveKey(path, "example.com", first.Tag()); err != nil {
		t.Fatal(err)
	}
	keys, err := ReadKeys(path, "example.com")
	if err != nil || len(keys) != 1 || keys[0].DS() != second.DS() || !keys[0].Created.Equal(second.Created) {
		t.Errorf("what is left: %v, %v", keys, err)
	}
	if err := SignWith(path, "example.com", first.Tag()); err == nil {
		t.Error("a key that is gone signs")
	}
	if !strings.Contains(first.DS(), " 13 2 ") || !strings.Contains(first.DNSKEY(), "257 3 13") {
		t.Errorf("%s\n%s", first.DS(), first.DNSKEY())
	}
}

func TestKeyFileRefused(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "keys")
	if _, err := AddKey(path, "example.com", signTime); err != nil {
		t.Fatal(err)
	}
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ name, text, want string }{
		{"of another zone", strings.Replace(string(good), "example.com.", "example.org.", 1), "is of the zone example.org."},
		{"none signs", strings.Replace(string(good), "Signs: yes", "Signs: no", 1), "0 of 1 keys sign"},
		{"unclear", strings.Replace(string(good), "Signs: yes", "Signs: maybe", 1), `says "maybe"`},
		{"twice", string(good) + string(good), "two keys have the tag"},
		{"no date", strings.Replace(string(good), "Created: 2026", "Created: yesterday", 1), "Created"},
		{"empty", "", "0 of 0 keys sign"},
		{"garbage", "hello", "no PEM block"},
		{"garbage behind", string(good) + "hello", "no PEM block"},
		{"cut", string(good[:len(good)/2]), "no PEM block"},
		{"too large", strings.Repeat(" ", keyFileBytesMax+1), "is no file of keys"},
	} {
		if err := os.WriteFile(path, []byte(tt.text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := ReadKeys(path, "example.com"); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
	}
	if err := errors.Join(os.WriteFile(path, good, 0o600), os.Chmod(path, 0o640)); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadKeys(path, "example.com"); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("a file that others may read: %v", err)
	}
	if _, err := ReadKeys(filepath.Join(dir, "none"), "example.com"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a file that is not there: %v", err)
	}
}

func verify(t *testing.T, s *signer, rr *dns.RRSIG, set []dns.RR) {
	t.Helper()
	var canonical []dns.RR
	for _, rr := range set {
		c := dns.Copy(rr)
		c.Header().Name = dns.CanonicalName(c.Header().Name)
		canonical = append(canonical, c)
	}
	if rr.Hdr.Ttl != set[0].Header().Ttl {
		t.Errorf("%s: not with the TTL of the set", rr)
	}
	if err := rr.Verify(s.active.public, canonical); err != nil {
		t.Errorf("%s: %v", rr, err)
	}
}

// ours is for records that the zone has.
func ours(string, uint16) bool { return false }

func TestSign(t *testing.T) {
	s := newSigner("example.com", []*Key{keyFor(t, "example.com")}, 0, newSignatures())
	set := records(t, "wWw.Example.com. 20 IN A 192.0.2.1", "www.example.com. 20 IN A 192.0.2.2")
	first, err := s.sign(set, false, signTime)
	if err != nil {
		t.Fatal(err)
	}
	verify(t, s, first, set)
	if life := time.Unix(int64(first.Expiration), 0).Sub(signTime); life > defaultValidity || life < defaultValidity*7/8 {
		t.Errorf("valid for %v", life)
	}
	if slack := signTime.Sub(time.Unix(int64(first.Inception), 0)); slack != time.Hour {
		t.Errorf("valid since %v before", slack)
	}
	slices.Reverse(set)
	if again, _ := s.sign(set, false, signTime.Add(31*time.Hour)); again != first {
		t.Error("the same set in another order and case was signed again before half of its life")
	}
	if again, _ := s.sign(set, false, signTime.Add(36*time.Hour)); again == first {
		t.Error("not renewed at half of its life")
	}
	for _, other := range [][]dns.RR{
		records(t, "www.example.com. 21 IN A 192.0.2.1", "www.example.com. 21 IN A 192.0.2.2"),
		records(t, "www.example.com. 20 IN A 192.0.2.1"),
		records(t, "ww2.example.com. 20 IN A 192.0.2.1", "ww2.example.com. 20 IN A 192.0.2.2"),
	} {
		rr, err := s.sign(other, false, signTime)
		if err != nil || rr == first {
			t.Errorf("%v: %v, %v", other, rr, err)
			continue
		}
		verify(t, s, rr, other)
	}
	// Another key, other signatures, although all share what is kept.
	next := newSigner("example.com", []*Key{keyFor(t, "example.com")}, 0, s.kept)
	rr, err := next.sign(set, false, signTime)
	if err != nil || rr == first {
		t.Fatalf("%v, %v", rr, err)
	}
	verify(t, next, rr, set)
	wild := records(t, "*.example.com. 20 IN A 192.0.2.1")
	if rr, err = s.sign(wild, false, signTime); err != nil || rr.Labels != 2 {
		t.Errorf("a wildcard: %v, %v", rr, err)
	}
}

func TestApexSets(t *testing.T) {
	active, next := keyFor(t, "example.com"), keyFor(t, "example.com")
	next.Signs = false
	s := newSigner("example.com", []*Key{next, active}, 0, newSignatures())
	for _, qtype := range []uint16{dns.TypeDNSKEY, dns.TypeCDS, dns.TypeCDNSKEY} {
		set := s.apexSet(qtype)
		if len(set) != 2 || set[0].Header().Rrtype != qtype || set[0].Header().Name != "example.com." {
			t.Errorf("%v", set)
			continue
		}
		rr, err := s.sign(set, false, signTime)
		if err != nil || rr.KeyTag != active.Tag() {
			t.Errorf("%v, %v", rr, err)
			continue
		}
		verify(t, s, rr, set)
	}
	if set := s.apexSet(dns.TypeA); set != nil {
		t.Errorf("%v", set)
	}
}

func TestSignSets(t *testing.T) {
	s := newSigner("example.com", []*Key{keyFor(t, "example.com")}, 0, newSignatures())
	in := records(t, "www.example.com. 60 IN CNAME cdn.example.com.", "CDN.example.com. 20 IN A 192.0.2.1", "cdn.example.com. 20 IN A 192.0.2.2",
		"sub.example.com. 60 IN NS ns.sub.example.com.", "elsewhere.org. 60 IN A 192.0.2.3")
	out, err := s.signSets(in, ours, func(owner string, rrtype uint16) bool { return owner == "sub.example.com." && rrtype == dns.TypeNS }, signTime)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, rr := range out {
		name := rr.Header().Name
		if sig, ok := rr.(*dns.RRSIG); ok {
			name += " " + dns.TypeToString[sig.TypeCovered]
		}
		got = append(got, name)
	}
	want := []string{"www.example.com.", "www.example.com. CNAME", "CDN.example.com.", "cdn.example.com.", "CDN.example.com. A", "sub.example.com.", "elsewhere.org."}
	if !slices.Equal(got, want) {
		t.Errorf("%q\nwant %q", got, want)
	}
}

// A flood of names that do not exist leaves the signatures of those that do, and
// no more than is written.
func TestSignaturesBounded(t *testing.T) {
	c := newSignatures()
	own := signatureID{1}
	kept := signature{new(dns.RRSIG), signTime.Add(time.Hour)}
	c.keep(own, false, kept)
	for i := range 3 * signaturesPassingKept {
		c.keep(signatureID{byte(i), byte(i >> 8), byte(i >> 16), 1}, true, kept)
	}
	if n := len(c.passing.young) + len(c.passing.old); n > signaturesPassingKept || n < signaturesPassingKept/2 {
		t.Errorf("%d are kept", n)
	}
	if c.find(own, false, signTime) == nil || c.find(own, true, signTime) != nil {
		t.Error("the signature of a set of ours is gone")
	}
	for i := range signaturesKept { // what is used moves on with the generations
		c.keep(signatureID{byte(i), byte(i >> 8), byte(i >> 16), 2}, false, kept)
		if c.find(own, false, signTime) == nil {
			t.Fatalf("forgotten after %d others", i)
		}
	}
}

func TestDenial(t *testing.T) {
	const name = "Nope.example.com."
	for _, tt := range []struct {
		name  string
		types []uint16
		want  string
	}{
		{"nonexistent", nil, name + "\t60\tIN\tNSEC\t\\000.nope.example.com. RRSIG NSEC NXNAME"},
		{"without types", []uint16{}, name + "\t60\tIN\tNSEC\t\\000.nope.example.com. RRSIG NSEC"},
		{"with types", []uint16{dns.TypeTXT, dns.TypeA, dns.TypeHTTPS}, name + "\t60\tIN\tNSEC\t\\000.nope.example.com. A TXT RRSIG NSEC HTTPS"},
		{"with its own type", []uint16{dns.TypeNSEC, dns.TypeA}, name + "\t60\tIN\tNSEC\t\\000.nope.example.com. A RRSIG NSEC"},
	} {
		if got := denial(name, tt.types, 60).String(); got != tt.want {
			t.Errorf("%s:\n%q, want\n%q", tt.name, got, tt.want)
		}
	}
}

func TestSuccessor(t *testing.T) {
	l63 := strings.Repeat("a", 63)
	long := func(first string) string { // 255 bytes with one of 61
		return first + "." + l63 + "." + l63 + "." + l63 + "."
	}
	ff := strings.Repeat(`\255`, 61)
	for _, tt := range []struct{ name, in, want string }{
		{"the root", ".", `\000.`},
		{"short", "a.b.", `\000.a.b.`},
		{"253 bytes", long(strings.Repeat("a", 59)), `\000.` + long(strings.Repeat("a", 59))},
		{"254 bytes", long(strings.Repeat("a", 60)), long(strings.Repeat("a", 59) + "b")},
		{"255 bytes", long(strings.Repeat("a", 61)), long(strings.Repeat("a", 60) + "b")},
		{"capitals are left out", long(strings.Repeat("a", 60) + "@"), long(strings.Repeat("a", 60) + `\091`)},
		{"last bytes are the largest", long(strings.Repeat("a", 59) + `\255\255`), long(strings.Repeat("a", 58) + "b")},
		{"all bytes are the largest", long(ff), strings.Repeat("a", 62) + "b." + l63 + "." + l63 + "."},
		{"escaped", long(strings.Repeat("a", 60) + `\.`), long(strings.Repeat("a", 60) + `\047`)},
	} {
		got := successor(tt.in)
		if got != tt.want {
			t.Errorf("%s: successor of\n%s is\n%s, want\n%s", tt.name, tt.in, got, tt.want)
		}
		if _, ok := dns.IsDomainName(got); !ok || wireBytes(got) > nameBytesMax {
			t.Errorf("%s: %d bytes", tt.name, wireBytes(got))
		}
	}
}

func BenchmarkSign(b *testing.B) {
	s := newSigner("example.com", []*Key{keyFor(b, "example.com")}, 0, newSignatures())
	i := 0
	for b.Loop() {
		i++
		if _, err := s.sign([]dns.RR{denial(fmt.Sprintf("n%d.example.com.", i), nil, 60)}, true, signTime); err != nil {
			b.Fatal(err)
		}
	}
}
