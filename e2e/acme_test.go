package e2e

// Certificates by TXT records of our own DNS, from an authority that runs here.

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

const proofsFile = `node: {name}
data: "{data}"
server:
  http: ["{http}"]
  https: ["{https}"]
  tls: {unknown: refuse, acme: {names: ["*.cdn.example", cdn.example], challenge: dns, ca: "{ca}", ca_root: "{root}"}}
admin: {listen: "{admin}"}
cluster: {listen: "{listen}", advertise: "{listen}", preset: local, seeds: ["{seed}"], secrets: [the secret of all nodes]}
origins: {o: {url: "http://127.0.0.1:1"}}
hosts: [{names: ["*"], origin: o}]
dns:
  listen: ["{dns}"]
  response_limits: {off: true}
  zones: [{name: cdn.example, name_servers: [ns1.cdn.example], dynamic: [{name: www}]}]
`

// startAuthority runs pebble, an ACME authority for tests, which asks a DNS server of ours.
func startAuthority(t *testing.T, asks string) (directory, root string) {
	t.Helper()
	dir := t.TempDir()
	build := exec.Command("go", "build", "-modfile=tools/go.mod", "-o", dir+"/", "github.com/letsencrypt/pebble/v2/cmd/pebble")
	build.Dir = ".."
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	listen := address(t)
	cert, key := selfSigned(t, dir)
	config, err := json.Marshal(map[string]any{"pebble": map[string]any{
		"listenAddress": listen, "certificate": cert, "privateKey": key, "httpPort": 1, "tlsPort": 1,
		"keyAlgorithm": "ecdsa", "retryAfter": map[string]int{"authz": 1, "order": 1},
		"profiles": map[string]any{"default": map[string]any{"description": "usual", "validityPeriod": 777600}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "pebble.json")
	writeFile(t, file, string(config))
	t.Setenv("PEBBLE_VA_NOSLEEP", "1")
	t.Setenv("PEBBLE_WFE_NONCEREJECT", "0")
	start(t, filepath.Join(dir, "pebble"), "-config", file, "-dnsserver", asks, "-strict")
	eventually(t, "the authority listens", func() bool {
		c, err := net.Dial("tcp", listen)
		if err != nil {
			return false
		}
		_ = c.Close()
		return true
	})
	return "https://" + listen + "/dir", cert
}

// texts are the TXT records that a responder has for a name.
func texts(t *testing.T, at, name string) (all []string) {
	t.Helper()
	m := new(dns.Msg)
	m.SetQuestion(name, dns.TypeTXT)
	answer, err := dns.Exchange(m, at)
	if err != nil {
		t.Logf("%s: %v", at, err)
		return nil
	}
	for _, rr := range answer.Answer {
		all = append(all, strings.Join(rr.(*dns.TXT).Txt, ""))
	}
	return all
}

// Two nodes of a cluster have certificates for a wildcard and for the name above it,
// both proven by the TXT record of one name, without a third party: the authority
// asks the responder of the first alone. Records of operators reach all responders
// as well, stay over a restart, and go.
func TestProofsByOurDNS(t *testing.T) {
	full(t)
	listen, answers := free(t, "127.0.0.1", "127.0.0.1"), free(t, "127.0.0.1", "127.0.0.1")
	directory, root := startAuthority(t, answers[0])
	var nodes []*node
	for i := range 2 {
		n := newNode(t)
		text := strings.NewReplacer("{name}", string(rune('a'+i)), "{listen}", listen[i], "{seed}", listen[0], "{dns}", answers[i], "{ca}", directory, "{root}", root).Replace(proofsFile)
		file := filepath.Join(n.data, "edge.yaml")
		writeFile(t, file, n.fill(text))
		n.args = []string{"serve", "--config", file}
		n.start(t)
		nodes = append(nodes, n)
	}
	shown := func(n *node, name string) []string {
		conn, err := tls.Dial("tcp", n.https, &tls.Config{ServerName: name, InsecureSkipVerify: true})
		if err != nil {
			return nil
		}
		defer conn.Close()
		return conn.ConnectionState().PeerCertificates[0].DNSNames
	}
	for i, n := range nodes {
		within(t, 4*patience, "certificates of both names", func() bool {
			return slices.Contains(shown(n, "any.cdn.example"), "*.cdn.example") && slices.Contains(shown(n, "cdn.example"), "cdn.example")
		})
		if shown(n, "a.b.cdn.example") != nil {
			t.Errorf("node %d shows a certificate for what is below the wildcard's names", i)
		}
	}
	const challenge, own = "_acme-challenge.cdn.example.", "_own.cdn.example."
	eventually(t, "proofs are taken away again", func() bool { return len(texts(t, answers[0], challenge))+len(texts(t, answers[1], challenge)) == 0 })

	edge(t, "dns", "txt", "put", own, "one", "two", "--data", nodes[1].data)
	want := []string{"one", "two"}
	everywhere := func(want []string) func() bool {
		return func() bool {
			return slices.Equal(texts(t, answers[0], own), want) && slices.Equal(texts(t, answers[1], own), want)
		}
	}
	eventually(t, "all responders have the records", everywhere(want))
	nodes[0].signal(t, os.Interrupt)
	nodes[0].wait(t)
	nodes[0].start(t)
	eventually(t, "they are there after a restart", everywhere(want))
	edge(t, "dns", "txt", "put", own, "two", "--data", nodes[0].data)
	eventually(t, "one is gone everywhere", everywhere([]string{"two"}))
	if out := edge(t, "dns", "txt", "--data", nodes[1].data); !strings.Contains(out, own) || !strings.Contains(out, `["two"]`) {
		t.Errorf("edge dns txt:\n%s", out)
	}
	edge(t, "dns", "txt", "delete", own, "--data", nodes[1].data)
	eventually(t, "all are gone", everywhere(nil))
}

// selfSigned writes a certificate of loopback and its key.
func selfSigned(t *testing.T, dir string) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"}, NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	cert, key = filepath.Join(dir, "authority.pem"), filepath.Join(dir, "authority.key")
	writeFile(t, cert, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	writeFile(t, key, string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})))
	return cert, key
}
