package cluster

// Time in TestFactsSpread is that of a synctest bubble.

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	flags "flag"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

var update = flags.Bool("update", false, "rewrite golden files")

func exampleMeta() meta {
	return meta{
		phase: Serving, boot: 7, weight: 100, streamPort: 7946, place: Place{Lat: 50.11, Lon: -8.68, Known: true}, site: "fra", version: "v1.2.3",
		public: []Address{
			{IP: netip.MustParseAddr("192.0.2.1"), HTTP: 80, HTTPS: 443, H3: 443},
			{IP: netip.MustParseAddr("2001:db8::1"), HTTPS: 443},
		},
	}
}

func exampleHeartbeat() heartbeat {
	return heartbeat{
		sent: time.Unix(1700000000, 5), boot: 7, phase: Fenced, facts: 0xfeed,
		report: Report{Load: 1.5, Capacity: 10, Cold: true, Probes: []Probe{{"https 192.0.2.1:443", true}, {"http", false}}, Position: []byte("position")},
	}
}

func exampleFact() *Fact {
	return &Fact{Kind: KindTXT, Key: "_acme-challenge.example.com", Value: []byte("token"), Time: time.Unix(1700000000, 0), Node: "a", Expires: time.Unix(1700003600, 0)}
}

var comparers = cmp.Options{cmp.AllowUnexported(meta{}, heartbeat{}, Fact{}), cmpopts.EquateComparable(netip.Addr{}), cmpopts.EquateEmpty()}

// What version 1 looks like on the wire and on the disk, which later ones must read.
func TestGoldenVersion1(t *testing.T) {
	for name, encoded := range map[string][]byte{
		"meta": exampleMeta().encode(), "heartbeat": exampleHeartbeat().encode(), "fact": exampleFact().encode(nil),
		"frame": appendFrame(nil, flagBroadcast, 20, []byte("payload")), "gossip": encodeGossip(20, "a", []byte("payload")),
	} {
		file := filepath.Join("testdata", name+".v1")
		if *update {
			if err := os.WriteFile(file, []byte(hex.EncodeToString(encoded)+"\n"), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if got := hex.EncodeToString(encoded) + "\n"; got != string(want) {
			t.Errorf("%s is\n%swant\n%s", name, got, want)
		}
	}
	m, err := decodeMeta(exampleMeta().encode())
	if diff := cmp.Diff(exampleMeta(), m, comparers); diff != "" || err != nil {
		t.Error(err, diff)
	}
	h, err := decodeHeartbeat(exampleHeartbeat().encode())
	if diff := cmp.Diff(exampleHeartbeat(), h, comparers); diff != "" || err != nil {
		t.Error(err, diff)
	}
	r := reader{b: exampleFact().encode(nil)}
	f := decodeFact(&r)
	if diff := cmp.Diff(exampleFact(), f, comparers); diff != "" || r.err != nil {
		t.Error(r.err, diff)
	}
}

// Nothing that a configuration allows comes near the 512 bytes at which memberlist panics.
func TestLargestMeta(t *testing.T) {
	m := exampleMeta()
	m.site, m.version = strings.Repeat("s", 1000), strings.Repeat("v", 1000)
	for range 100 {
		m.public = append(m.public, m.public[1])
	}
	if n := len(m.encode()); n > metaBytesMax {
		t.Errorf("%d bytes", n)
	}
}

func TestLaterVersions(t *testing.T) {
	b := exampleMeta().encode()
	b[0] = 2 // which readers of version 1 may read
	if _, err := decodeMeta(append(b, "more"...)); err != nil {
		t.Errorf("a later version that is readable: %v", err)
	}
	b[1] = 2
	if _, err := decodeMeta(b); err == nil || !strings.Contains(err.Error(), "update this node") {
		t.Errorf("a later version that is not: %v", err)
	}
	g := encodeGossip(20, "a", nil)
	g[0] = 2
	if _, _, _, err := decodeGossip(g); err == nil {
		t.Error("gossip of a later version was read")
	}
}

func TestFrameIsBounded(t *testing.T) {
	for _, test := range []struct {
		name string
		in   []byte
	}{
		{"empty", []byte{0, 0, 0, 0, 0, 0}}, {"short", []byte{0, 0, 0, 1, 0, 0}}, {"huge", []byte{255, 255, 255, 255, 0, 20}},
		{"one too long", appendFrame(nil, 0, 20, make([]byte, MessageBytesMax+1))}, {"cut", appendFrame(nil, 0, 20, []byte("x"))[:6]},
	} {
		if f, err := readFrame(bytes.NewReader(test.in)); err == nil {
			t.Errorf("%s: %d bytes read", test.name, len(f.payload))
		}
	}
}

func FuzzMeta(f *testing.F) {
	f.Add(exampleMeta().encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := decodeMeta(b)
		if err != nil {
			return
		}
		again, err := decodeMeta(m.encode())
		if diff := cmp.Diff(m, again, comparers, cmpopts.EquateApprox(0, 1e-6)); diff != "" || err != nil {
			t.Error(err, diff)
		}
	})
}

func FuzzFrame(f *testing.F) {
	f.Add(appendFrame(nil, 0, kindHeartbeat, exampleHeartbeat().encode()))
	f.Add(appendFrame(nil, 0, kindFacts, exampleFact().encode(nil)))
	f.Fuzz(func(t *testing.T, b []byte) {
		fr, err := readFrame(bytes.NewReader(b))
		if err != nil {
			return
		}
		if h, err := decodeHeartbeat(fr.payload); err == nil {
			if _, err := decodeHeartbeat(h.encode()); err != nil {
				t.Error(err)
			}
		}
		_, _, _, _ = decodeGossip(fr.payload)
	})
}

func FuzzFacts(f *testing.F) {
	f.Add(exampleFact().encode(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		facts := newFacts("a", "", new(Stats))
		_, _ = facts.merge(b)
		var sum uint64
		var size int
		for _, fact := range facts.all {
			sum += fact.sum()
			size += fact.size()
			r := reader{b: fact.encode(nil)}
			if again := decodeFact(&r); r.err != nil || again.compare(fact) != 0 {
				t.Error(r.err, again, fact)
			}
		}
		if sum != facts.digest || size != facts.bytes {
			t.Errorf("digest %x, want %x; %d bytes, want %d", facts.digest, sum, facts.bytes, size)
		}
	})
}

// The later of two facts wins on all nodes, whatever the order in which they come,
// and a local one always wins over what it replaces.
func TestFactsConverge(t *testing.T) {
	a, b := newFacts("a", "", new(Stats)), newFacts("b", "", new(Stats))
	ahead := &Fact{Kind: KindOut, Key: "site/fra", Value: []byte("x"), Node: "c", Time: time.Now().Add(time.Hour)}
	for _, f := range []*Facts{a, b} {
		if isNew, err := f.merge(ahead.encode(nil)); !isNew || err != nil {
			t.Fatal(isNew, err)
		}
	}
	if err := a.Delete(KindOut, "site/fra"); err != nil { // its clock is an hour behind c's
		t.Fatal(err)
	}
	for _, part := range a.parts() {
		if _, err := b.merge(part); err != nil {
			t.Fatal(err)
		}
	}
	if isNew, _ := b.merge(ahead.encode(nil)); isNew {
		t.Error("an old fact came back")
	}
	if len(b.All(KindOut)) != 0 || a.sum() != b.sum() {
		t.Errorf("b has %v", b.All(KindOut))
	}
	if a.differs("b", b.sum(), time.Now()) {
		t.Error("two that are the same differ")
	}
	// What is taken back before it expires leaves a tombstone until then, no longer.
	if err := a.Set(KindTXT, "k", []byte("v"), time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	if err := a.Delete(KindTXT, "k"); err != nil || len(a.all) != 2 || len(a.All(KindTXT)) != 0 {
		t.Errorf("%v, %d facts", err, len(a.all))
	}
	if a.expire(time.Now().Add(2 * time.Minute)); len(a.all) != 1 {
		t.Errorf("%d facts after the tombstone's time", len(a.all))
	}
	far := &Fact{Kind: KindOut, Key: "x", Node: "c", Time: time.Now().Add(48 * time.Hour)}
	if isNew, _ := a.merge(far.encode(nil)); isNew || a.stats.FactsRefused.Load() != 1 {
		t.Error("a fact from the day after tomorrow was taken")
	}
}

func TestFactsAreBounded(t *testing.T) {
	f := newFacts("a", "", new(Stats))
	var err error
	n := 0
	for ; err == nil && n < 2*FactsMax; n++ {
		err = f.Set(KindTXT, strings.Repeat("k", 200)+string(rune('a'+n%26))+time.Duration(n).String(), make([]byte, FactValueBytesMax), time.Time{})
	}
	if !errors.Is(err, ErrFacts) || f.bytes > FactsBytesMax {
		t.Errorf("%d facts of %d bytes: %v", n, f.bytes, err)
	}
	if err := f.Set(KindTXT, strings.Repeat("k", 256), nil, time.Time{}); err == nil {
		t.Error("a key of 256 bytes was taken")
	}
	if err := f.Set(KindTXT, "k", make([]byte, FactValueBytesMax+1), time.Time{}); err == nil {
		t.Error("a long value was taken")
	}
}

func TestFactsAreKept(t *testing.T) {
	path := filepath.Join(t.TempDir(), factsFile)
	f := newFacts("a", path, new(Stats))
	if err := f.Set(KindRevoked, "hash", []byte("cms"), time.Time{}); err != nil {
		t.Fatal(err)
	}
	again := newFacts("a", path, new(Stats))
	if err := again.load(); err != nil {
		t.Fatal(err)
	}
	if all := again.All(KindRevoked); len(all) != 1 || string(all[0].Value) != "cms" {
		t.Errorf("%v", all)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b[len(factsMagic)+3] ^= 1
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := newFacts("a", path, new(Stats)).load(); err == nil || !strings.Contains(err.Error(), "checksum") {
		t.Errorf("a damaged file: %v", err)
	}
}

// Facts reach nodes that come later, and expire everywhere.
func TestFactsSpread(t *testing.T) {
	bubble(t, func(t *testing.T) {
		e := newEther()
		var seen []int
		a, b := begin(t, e, settings(t, 1), Hooks{}, nil), begin(t, e, settings(t, 2), Hooks{}, func(c *Cluster) {
			c.Facts().Watch(KindOut, func(all []Fact) { seen = append(seen, len(all)) })
		})
		soon(t, 20*time.Second, "linked", func() bool { return linked(a, b) })
		if err := a.Facts().Set(KindOut, OutSite("fra"), nil, time.Time{}); err != nil {
			t.Fatal(err)
		}
		if err := a.Facts().Set(KindTXT, "x", []byte("y"), time.Now().Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
		said := time.Now()
		soon(t, time.Second, "b knows", func() bool { return b.member("a").Out && b.member("b").Out })
		soon(t, 2*time.Second, "a knows that b does", func() bool { return a.member("b").Agreed.After(said) })
		c := begin(t, e, settings(t, 3), Hooks{}, nil)
		soon(t, 20*time.Second, "c knows", func() bool { return c.member("a").Out && len(c.Facts().All(KindTXT)) == 1 })
		time.Sleep(2 * time.Minute)
		for _, n := range []*tester{a, b, c} {
			if len(n.Facts().All(KindTXT)) != 0 || n.Facts().sum() != a.Facts().sum() {
				t.Errorf("%s has %v", n.Self().Name, n.Facts().All(KindTXT))
			}
		}
		if len(seen) != 2 || seen[0] != 0 || seen[1] != 1 {
			t.Errorf("the watch was told %v", seen)
		}
		stopAll(a, b, c)
	})
}

// A certificate counts for its own name, its own cluster and its own secret only.
func TestTrust(t *testing.T) {
	peer, err := newTrust("edge", "a", []string{secretA})
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name, label string
		secrets     []string
		ok          bool
	}{
		{"same", "edge", []string{secretA}, true}, {"rotating", "edge", []string{secretB, secretA}, true},
		{"secret", "edge", []string{secretB}, false}, {"label", "other", []string{secretA}, false},
	} {
		ours, err := newTrust(test.label, "b", test.secrets)
		if err != nil {
			t.Fatal(err)
		}
		name, by, err := ours.verify(stateOf(t, peer))
		if (err == nil) != test.ok || test.ok && (name != "a" || !ours.trusts(by)) {
			t.Errorf("%s: %q, %v", test.name, name, err)
		}
	}
}

func stateOf(t *testing.T, peer *trust) tls.ConnectionState {
	t.Helper()
	own, err := peer.certificate()
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(own.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	return tls.ConnectionState{NegotiatedProtocol: protocol, PeerCertificates: []*x509.Certificate{leaf}}
}
