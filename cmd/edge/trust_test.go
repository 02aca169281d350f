package main

import (
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"edgecdn/server"
)

func TestTrust(t *testing.T) {
	n, data := startNode(t, func(http.ResponseWriter, *http.Request) {})
	var out strings.Builder
	cmd := trustCmd{Data: data}
	if err := cmd.run(&out, time.Now()); err != nil {
		t.Fatal(err)
	}
	first, _, _ := strings.Cut(out.String(), "\n")
	file, ok := strings.CutPrefix(first, "The development authority is ")
	if !ok || file != server.DevelopmentCA(data) {
		t.Fatalf("the first line is %q", first)
	}
	// What it names is what clients must trust.
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(content)
	_, https := n.server.Addresses()
	c, err := tls.Dial("tcp", https[0], &tls.Config{RootCAs: roots, ServerName: "localhost"})
	if err != nil {
		t.Fatal(err)
	}
	_ = c.Close()
	for _, want := range []string{"good for  localhost, edge.test, loopback addresses", "sudo trust anchor --store " + file, "curl --cacert " + file} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("it does not say %q:\n%s", want, &out)
		}
	}
	if strings.Contains(out.String(), "past") {
		t.Error("it is not past")
	}
	out.Reset()
	if err := cmd.run(&out, time.Now().AddDate(2, 0, 0)); err != nil || !strings.Contains(out.String(), "past") {
		t.Errorf("in two years: %v\n%s", err, &out)
	}

	empty := trustCmd{Data: t.TempDir()}
	if err := empty.run(&out, time.Now()); err == nil || !strings.Contains(err.Error(), "first start") {
		t.Errorf("without one: %v", err)
	}
	if err := os.MkdirAll(filepath.Join(empty.Data, "tls"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(server.DevelopmentCA(empty.Data), []byte("broken"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := empty.run(&out, time.Now()); err == nil || !strings.Contains(err.Error(), "remove it") {
		t.Errorf("a broken one: %v", err)
	}
	if got := shellQuoted("/a b/it's"); got != `'/a b/it'\''s'` {
		t.Errorf("quoted %s", got)
	}
}
