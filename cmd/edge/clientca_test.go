package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"testing"

	"edgecdn/config"
	"edgecdn/server"
)

// client_ca of a host in the file reaches handshakes and requests, and a reload
// changes both.
func TestClientCAOfAHost(t *testing.T) {
	origin := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	t.Cleanup(origin.Close)
	data := t.TempDir()
	text := func(clientCA string) string {
		return fmt.Sprintf(`
data: %s
server: {https: ["127.0.0.1:0"], access_log: {format: off}}
admin: {listen: "127.0.0.1:0"}
origins: {web: {url: "%s"}}
hosts:
  - {names: [edge.test], origin: web}
  - {names: [staff.edge.test], origin: web%s}
`, data, origin.URL, clientCA)
	}
	r := &reloadable{t: t, file: filepath.Join(t.TempDir(), "edge.yaml")}
	r.write(text(""))
	cfg, err := config.Load(r.file)
	if err != nil {
		t.Fatal(err)
	}
	r.node = startServing(t, cfg, r.file)
	_, https := r.server.Addresses()
	ask := func(connectTo, host string) int {
		tr := &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{ServerName: connectTo, InsecureSkipVerify: true},
			DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, network, https[0])
			}}
		resp, err := (&http.Client{Transport: tr}).Get("https://" + host + "/")
		if err != nil {
			return 0
		}
		resp.Body.Close()
		return resp.StatusCode
	}
	if got := ask("staff.edge.test", "staff.edge.test"); got != 200 {
		t.Errorf("without client_ca: %d", got)
	}
	// Any authority will do: nobody shows a certificate of it.
	r.write(text(", client_ca: " + server.DevelopmentCA(data)))
	if err := r.reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		connectTo, host string
		want            int
	}{{"staff.edge.test", "staff.edge.test", 0}, {"edge.test", "staff.edge.test", 421}, {"edge.test", "edge.test", 200}} {
		if got := ask(test.connectTo, test.host); got != test.want {
			t.Errorf("%s over a connection to %s: %d, want %d", test.host, test.connectTo, got, test.want)
		}
	}
	r.write(text(", client_ca: missing.pem"))
	if err := r.reload(t.Context()); err == nil {
		t.Error("a file that is not there was taken")
	}
	if got := ask("edge.test", "staff.edge.test"); got != 421 {
		t.Errorf("after a reload that failed: %d", got)
	}
	r.write(text(""))
	if err := r.reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := ask("edge.test", "staff.edge.test"); got != 200 {
		t.Errorf("taken out again: %d", got)
	}
}
