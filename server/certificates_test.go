package server

import (
	"crypto/tls"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"
)

// waitFor looks until a condition holds.
func waitFor(t *testing.T, what string, holds func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for late := time.After(patience); !holds(); {
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("in vain: %s", what)
		}
	}
}

// replace moves the content of one pair of files to where another is.
func replace(t *testing.T, at, by Certificate) {
	t.Helper()
	for from, to := range map[string]string{by.Cert: at.Cert, by.Key: at.Key} {
		if err := os.Rename(from, to); err != nil {
			t.Fatal(err)
		}
	}
}

func TestChangedCertificateIsReadAgain(t *testing.T) {
	config := Config{HTTPS: []string{"127.0.0.1:0"}}
	old, other := writeCertificate(t, "old", false, "a.test"), writeCertificate(t, "other", false, "b.test")
	config.TLS.Certificates = []Certificate{old, other}
	e := start(t, setup{config: config})
	ask := func(name string) string { return shown(t, e.https, &tls.Config{ServerName: name}) }
	if got := ask("a.test"); got != "old" {
		t.Fatalf("shown %q", got)
	}

	// Half a change: a chain whose key is another's stays unread.
	renewed := writeCertificate(t, "new", false, "a.test", "c.test")
	key, err := os.ReadFile(renewed.Key)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(renewed.Cert, old.Cert); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the failure is counted", func() bool { return e.Stats().TLS.ReloadsFailed.Load() == 1 })
	if got := ask("a.test"); got != "old" {
		t.Errorf("with half a pair in its place the client was shown %q", got)
	}
	if err := os.WriteFile(old.Key, key, 0o600); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the new one is shown", func() bool { return ask("a.test") == "new" })
	if got := ask("c.test"); got != "new" {
		t.Errorf("a name that came with the new one: shown %q", got)
	}
	if got := ask("b.test"); got != "other" {
		t.Errorf("the other: shown %q", got)
	}
	if n := e.Stats().TLS.Reloaded.Load(); n != 1 {
		t.Errorf("%d reloads counted", n)
	}
}

// TestLookRestsOnce: what changed at the last look is not read before it is
// found the same at the next.
func TestLookRestsOnce(t *testing.T) {
	files := writeCertificate(t, "old", false, "a.test")
	config := Config{HTTPS: []string{"127.0.0.1:0"}, TLS: TLS{Certificates: []Certificate{files}}}
	o := setup{config: config}
	s, err := New(config, o.fill(t), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	seen := map[Certificate]string{}
	name := func() string { return s.live.Load().certificates.pairs[0].certificate.Leaf.Subject.CommonName }
	s.lookAtCertificates(seen)
	replace(t, files, writeCertificate(t, "second", false, "a.test"))
	s.lookAtCertificates(seen)
	replace(t, files, writeCertificate(t, "third", false, "a.test"))
	s.lookAtCertificates(seen)
	if got := name(); got != "old" {
		t.Errorf("%q was read while files changed", got)
	}
	s.lookAtCertificates(seen)
	if got := name(); got != "third" {
		t.Errorf("%q is in force", got)
	}
	if len(seen) != 0 {
		t.Errorf("%d are remembered", len(seen))
	}
}

func TestUnknownNames(t *testing.T) {
	first, second := writeCertificate(t, "first", false, "a.test"), writeCertificate(t, "second", false, "*.b.test")
	local := writeCertificate(t, "local", false, "127.0.0.1")
	for _, test := range []struct {
		unknown, name, want string // "" wanted: refused
	}{
		{"", "x.test", "first"},
		{"first", "x.test", "first"},
		{"x.b.test", "x.test", "second"},
		{"x.b.test", "a.test", "first"},
		{"refuse", "a.test", "first"},
		{"refuse", "x.test", ""},
		{"refuse", "b.test", ""},
		{"refuse", "x.y.b.test", ""},
		{"refuse", "", "local"}, // by the address that it came to
	} {
		config := Config{HTTPS: []string{"127.0.0.1:0"}, TLS: TLS{Unknown: test.unknown, Certificates: []Certificate{first, second, local}}}
		e := start(t, setup{config: config})
		c, err := tls.Dial("tcp", e.https, &tls.Config{ServerName: test.name, InsecureSkipVerify: true})
		switch {
		case err != nil && (test.want != "" || !strings.HasSuffix(err.Error(), "tls: unrecognized name")):
			t.Errorf("%+v: %v", test, err)
		case err == nil && c.ConnectionState().PeerCertificates[0].Subject.CommonName != test.want:
			t.Errorf("%+v: shown %s", test, c.ConnectionState().PeerCertificates[0].Subject)
		}
		if err == nil {
			_ = c.Close()
		}
		unknown := uint64(1)
		if test.name == "a.test" || test.name == "" {
			unknown = 0
		}
		if n := e.Stats().TLS.UnknownNames.Load(); n != unknown {
			t.Errorf("%+v: %d unknown names counted", test, n)
		}
		e.shutdown()
	}

	config := Config{HTTPS: []string{"127.0.0.1:0"}, TLS: TLS{Unknown: "c.test", Certificates: []Certificate{first}}}
	o := setup{config: config}
	if _, err := New(config, o.fill(t), slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), `"c.test"`) {
		t.Errorf("an unknown name for the unknown: %v", err)
	}
}

// TestExpiredStandsBack: of two for a name the one that is still good is shown.
func TestExpiredStandsBack(t *testing.T) {
	files := []Certificate{writeCertificateUntil(t, "expired", time.Now().Add(-time.Minute), "a.test"), writeCertificate(t, "good", false, "a.test")}
	e := start(t, setup{config: Config{HTTPS: []string{"127.0.0.1:0"}, TLS: TLS{Certificates: files}}})
	if got := shown(t, e.https, &tls.Config{ServerName: "a.test"}); got != "good" {
		t.Errorf("shown %q", got)
	}
	waitFor(t, "the log tells of both", func() bool {
		log := e.log.String()
		return strings.Contains(log, "certificate has expired") && strings.Contains(log, "certificate ends soon")
	})
}

func TestCertificatesAreTold(t *testing.T) {
	soon, late := time.Now().Add(time.Hour).Truncate(time.Second), time.Now().Add(48*time.Hour).Truncate(time.Second)
	files := []Certificate{
		writeCertificateUntil(t, "x", late, "a.test"), writeCertificateUntil(t, "y", soon, "A.test", "b.test"),
		writeCertificate(t, "z", true, "a.test"),
	}
	e := start(t, setup{config: Config{HTTPS: []string{"127.0.0.1:0"}, TLS: TLS{Certificates: files}}})
	got := e.Certificates()
	if len(got) != 2 || got[0].Name != "a.test" || got[0].Key != "ecdsa" || !got[0].NotAfter.Equal(soon) || got[1].Key != "rsa" {
		t.Errorf("told of %+v", got)
	}
}
