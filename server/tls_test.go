package server

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// writeCertificate makes a self-signed pair in dir and returns its files.
func writeCertificate(t *testing.T, name string, useRSA bool, names ...string) Certificate {
	t.Helper()
	return writePair(t, name, useRSA, time.Now().Add(time.Hour), names)
}

func writeCertificateUntil(t *testing.T, name string, until time.Time, names ...string) Certificate {
	t.Helper()
	return writePair(t, name, false, until, names)
}

func writePair(t *testing.T, name string, useRSA bool, until time.Time, names []string) Certificate {
	t.Helper()
	var key any
	var public any
	if useRSA {
		k, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			t.Fatal(err)
		}
		key, public = k, &k.PublicKey
	} else {
		k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		key, public = k, &k.PublicKey
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: until,
	}
	for _, name := range names {
		if address := net.ParseIP(name); address != nil {
			template.IPAddresses = append(template.IPAddresses, address)
		} else {
			template.DNSNames = append(template.DNSNames, name)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, public, key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	c := Certificate{Cert: filepath.Join(dir, name+".pem"), Key: filepath.Join(dir, name+".key")}
	for path, block := range map[string]*pem.Block{c.Cert: {Type: "CERTIFICATE", Bytes: der}, c.Key: {Type: "PRIVATE KEY", Bytes: keyDER}} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

// shown returns the common name of the certificate that a client is shown.
func shown(t *testing.T, address string, config *tls.Config) string {
	t.Helper()
	config.InsecureSkipVerify = true
	c, err := tls.Dial("tcp", address, config)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	return c.ConnectionState().PeerCertificates[0].Subject.CommonName
}

func TestCertificatesAreChosenByName(t *testing.T) {
	config := Config{HTTPS: []string{"127.0.0.1:0"}}
	config.TLS.Certificates = []Certificate{
		writeCertificate(t, "first", false, "first.test"),
		writeCertificate(t, "wild", false, "*.a.test"),
		writeCertificate(t, "exact", false, "www.a.test"),
		writeCertificate(t, "both-ecdsa", false, "both.test"),
		writeCertificate(t, "both-rsa", true, "both.test"),
	}
	e := start(t, setup{config: config})
	rsaOnly := &tls.Config{MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256}}
	for _, test := range []struct {
		name   string
		client *tls.Config
		want   string
	}{
		{"first.test", nil, "first"},
		{"www.a.test", nil, "exact"},
		{"WWW.A.TEST", nil, "exact"},
		{"other.a.test", nil, "wild"},
		{"deep.other.a.test", nil, "first"},
		{"a.test", nil, "first"},
		{"unknown.test", nil, "first"},
		{"", nil, "first"},
		{"both.test", nil, "both-ecdsa"},
		{"both.test", rsaOnly, "both-rsa"},
	} {
		client := &tls.Config{}
		if test.client != nil {
			client = test.client.Clone()
		}
		client.ServerName = test.name
		if got := shown(t, e.https, client); got != test.want {
			t.Errorf("%q was shown %q, want %q", test.name, got, test.want)
		}
	}

	config.TLS.Certificates = []Certificate{writeCertificate(t, "renewed", false, "first.test")}
	config.Data = e.config.Data
	config.AccessLog = e.config.AccessLog
	if err := e.Apply(config); err != nil {
		t.Fatal(err)
	}
	if got := shown(t, e.https, &tls.Config{ServerName: "first.test"}); got != "renewed" {
		t.Errorf("after Apply the client was shown %q", got)
	}
	config.TLS.Certificates = []Certificate{{Cert: "missing.pem", Key: "missing.key"}}
	if err := e.Apply(config); err == nil || !strings.Contains(err.Error(), "tls.certificates[0]") {
		t.Errorf("Apply with a missing file: %v", err)
	}
	if got := shown(t, e.https, &tls.Config{ServerName: "first.test"}); got != "renewed" {
		t.Errorf("after a failed Apply the client was shown %q", got)
	}
}

func TestTLSVersionsAndALPN(t *testing.T) {
	e := start(t, setup{})
	old := e.tls("h2")
	old.MinVersion, old.MaxVersion = tls.VersionTLS10, tls.VersionTLS11
	if c, err := tls.Dial("tcp", e.https, old); err == nil {
		_ = c.Close()
		t.Error("TLS 1.1 was accepted")
	}
	for _, test := range []struct {
		offered []string
		version uint16
		want    string
	}{
		{[]string{"http/1.1", "h2"}, tls.VersionTLS13, "h2"},
		{[]string{"http/1.1"}, tls.VersionTLS12, "http/1.1"},
		{nil, tls.VersionTLS13, ""},
	} {
		config := e.tls(test.offered...)
		config.MaxVersion = test.version
		c, err := tls.Dial("tcp", e.https, config)
		if err != nil {
			t.Fatal(err)
		}
		if got := c.ConnectionState(); got.NegotiatedProtocol != test.want || got.Version != test.version {
			t.Errorf("offered %v: %q, version %x", test.offered, got.NegotiatedProtocol, got.Version)
		}
		_ = c.Close()
	}
}

func TestDevelopmentCertificate(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "tls")
	now := time.Now()
	first, made, err := developmentCertificate(dir, now)
	if err != nil || !made {
		t.Fatal(made, err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 4 {
		t.Fatalf("%d files, %v", len(entries), err)
	}
	for _, entry := range entries {
		info, err := entry.Info()
		if err != nil {
			t.Fatal(err)
		}
		want := fs.FileMode(0o644)
		if strings.HasSuffix(entry.Name(), ".key") {
			want = 0o600
		}
		if info.Mode() != want {
			t.Errorf("%s has mode %v, want %v", entry.Name(), info.Mode(), want)
		}
	}
	ca, err := os.ReadFile(filepath.Join(dir, "development-ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	for _, name := range []string{"localhost", "127.0.0.1", "[::1]", "edge.test", "www.edge.test"} {
		if _, err := first.Leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: name}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := first.Leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: "example.com"}); err == nil {
		t.Error("good for example.com too")
	}

	again, made, err := developmentCertificate(dir, now)
	if err != nil || made || !again.Leaf.Equal(first.Leaf) {
		t.Errorf("made anew at the next start: %v, %v", made, err)
	}
	renewed, made, err := developmentCertificate(dir, now.Add(developmentLife-renewBefore+time.Minute))
	if err != nil || !made || renewed.Leaf.Equal(first.Leaf) {
		t.Errorf("not renewed near its end: %v, %v", made, err)
	}
	if same, err := os.ReadFile(filepath.Join(dir, "development-ca.pem")); err != nil || string(same) != string(ca) {
		t.Error("the authority that people trust was replaced with the leaf")
	}
	if err := os.WriteFile(filepath.Join(dir, "development.key"), []byte("broken"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, made, err := developmentCertificate(dir, now); err != nil || !made {
		t.Errorf("a broken key: made %v, %v", made, err)
	}
	later, _, err := developmentCertificate(dir, now.Add(authorityLife))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := later.Leaf.Verify(x509.VerifyOptions{Roots: roots, CurrentTime: now.Add(authorityLife)}); err == nil {
		t.Error("an authority at its end still signs")
	}
}

// TestDevelopmentAuthorityIsBound: its key can forge nothing but loopback.
func TestDevelopmentAuthorityIsBound(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "tls")
	if _, _, err := developmentCertificate(dir, time.Now()); err != nil {
		t.Fatal(err)
	}
	ca, err := loadPair(filepath.Join(dir, "development-ca.pem"), filepath.Join(dir, "development-ca.key"), time.Now())
	if err != nil || ca == nil {
		t.Fatal(ca, err)
	}
	forged := developmentTemplate(time.Now())
	forged.DNSNames, forged.IPAddresses = []string{"example.com"}, []net.IP{net.IPv4(192, 0, 2, 1)}
	pair, err := makePair(filepath.Join(dir, "f.pem"), filepath.Join(dir, "f.key"), forged, ca)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(ca.Leaf)
	if _, err := pair.Leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: "example.com"}); err == nil {
		t.Error("a forged certificate for example.com verifies")
	}
}

func TestBothTransportsShowTheSameCertificate(t *testing.T) {
	e := start(t, setup{})
	var serials []string
	for _, c := range []*client{e.h2(), e.h3()} {
		resp, _ := c.get(t, "/")
		serials = append(serials, resp.TLS.PeerCertificates[0].SerialNumber.String())
	}
	if len(slices.Compact(serials)) != 1 {
		t.Errorf("certificates %v", serials)
	}
}

func TestResetKeyIsKeptForEachListener(t *testing.T) {
	data := t.TempDir()
	first, err := resetKey(data, "127.0.0.1:1")
	if err != nil {
		t.Fatal(err)
	}
	again, err := resetKey(data, "127.0.0.1:1")
	if err != nil || *again != *first {
		t.Errorf("the key changed with a restart: %v", err)
	}
	if other, err := resetKey(data, "127.0.0.1:2"); err != nil || *other == *first {
		t.Errorf("two sockets share a key: %v", err)
	}
	if other, err := resetKey(t.TempDir(), "127.0.0.1:1"); err != nil || *other == *first {
		t.Errorf("two nodes share a key: %v", err)
	}
	info, err := os.Stat(filepath.Join(data, "tls", "quic-reset.key"))
	if err != nil || info.Mode() != 0o600 {
		t.Error(info.Mode(), err)
	}
}
