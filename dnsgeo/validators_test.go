package dnsgeo

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// running serves a configuration on loopback and returns its address.
func running(t *testing.T, cfg Config, nodes *[]Node) (*Responder, string) {
	t.Helper()
	cfg.Listen = []string{"127.0.0.1:0"}
	r := responder(t, cfg, nodes)
	if err := r.Listen(); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return r, r.Addresses()[0]
}

// program skips a test for which a program is missing.
func program(t *testing.T, name string) string {
	t.Helper()
	for _, dir := range []string{"", "/usr/sbin/"} {
		if path, err := exec.LookPath(dir + name); err == nil {
			return path
		}
	}
	t.Skipf("SKIPPED: no %s", name)
	return ""
}

// asked is what the validators are asked, and what they are to say of it.
var asked = []struct {
	name    string
	qtype   uint16
	has     string // in the answer
	nothing bool
}{
	{name: "www.example.com.", qtype: dns.TypeA, has: "198.51.100."},
	{name: "www.example.com.", qtype: dns.TypeAAAA, has: "2001:db8:1::1"},
	{name: "www.example.com.", qtype: dns.TypeHTTPS, has: "alpn"},
	{name: "example.com.", qtype: dns.TypeA, has: "198.51.100."},
	{name: "example.com.", qtype: dns.TypeSOA, has: "hostmaster"},
	{name: "example.com.", qtype: dns.TypeDNSKEY, has: "257 3 13"},
	{name: "example.com.", qtype: dns.TypeCDS, has: "13 2"},
	{name: "alias2.example.com.", qtype: dns.TypeA, has: "198.51.100."},
	{name: "x.wild.example.com.", qtype: dns.TypeTXT, has: "wild"},
	{name: "a.b.wild.example.com.", qtype: dns.TypeTXT, has: "wild"},
	{name: "x.cdn.example.com.", qtype: dns.TypeA, has: "198.51.100."},
	{name: "x.aliases.example.com.", qtype: dns.TypeA, has: "198.51.100."},
	{name: "safe.example.com.", qtype: dns.TypeDS, has: "12345 13 2"},
	{name: "sub.example.com.", qtype: dns.TypeDS, nothing: true},
	{name: "www.example.com.", qtype: dns.TypeTXT, nothing: true},
	{name: "x.wild.example.com.", qtype: dns.TypeMX, nothing: true},
	{name: "below.example.com.", qtype: dns.TypeA, nothing: true},
	{name: "nope.example.com.", qtype: dns.TypeA, nothing: true},
	{name: "deep.nope.example.com.", qtype: dns.TypeHTTPS, nothing: true},
	{name: "nowhere.example.com.", qtype: dns.TypeA, nothing: true},
	{name: `odd\.\000name.example.com.`, qtype: dns.TypeA, nothing: true},
	{name: strings.Repeat(strings.Repeat("a", 63)+".", 3) + strings.Repeat("b", 49) + ".example.com.", qtype: dns.TypeA, nothing: true},
}

// delv validates what the server says by itself.
func TestDelvValidates(t *testing.T) {
	t.Parallel()
	delv := program(t, "delv")
	cfg, key := signedZone(t)
	_, address := running(t, cfg, twoNodes())
	_, port, _ := net.SplitHostPort(address)
	anchor := filepath.Join(t.TempDir(), "anchor")
	text := fmt.Sprintf("trust-anchors { example.com. static-key 257 3 13 %q; };\n", key.public.PublicKey)
	if err := os.WriteFile(anchor, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range asked {
		out, err := exec.CommandContext(t.Context(), delv, "-a", anchor, "+root=example.com", "@127.0.0.1", "-p", port, tt.name, dns.TypeToString[tt.qtype]).CombinedOutput()
		switch {
		case tt.nothing && !bytes.Contains(out, []byte("negative response, fully validated")) && !bytes.Contains(out, []byte("ncache nxrrset\n; fully validated")),
			!tt.nothing && (err != nil || !bytes.Contains(out, []byte("fully validated")) || !bytes.Contains(out, []byte(tt.has))),
			bytes.Contains(out, []byte("unsigned")):
			t.Errorf("%s %s: %v\n%s", tt.name, dns.TypeToString[tt.qtype], err, out)
		}
	}
}

// nextPort counts up below the ephemeral ports, so that nobody is given a port between
// its choice and its use.
var nextPort atomic.Int64

// freeAddress returns a loopback address with a port that is free for TCP and UDP.
func freeAddress(t *testing.T) string {
	t.Helper()
	for range 2000 {
		at := fmt.Sprint("127.0.0.1:", 10_000+(int64(os.Getpid())*16+nextPort.Add(1))%2000)
		udp, err := net.ListenPacket("udp", at)
		if err != nil {
			continue
		}
		tcp, err := net.Listen("tcp", at)
		udp.Close()
		if err == nil {
			tcp.Close()
			return at
		}
	}
	t.Fatal("no free port")
	return ""
}

// startUnbound runs a validating resolver in front of a server, and returns its
// address. It varies the case of names (0x20).
func startUnbound(t *testing.T, server string, anchor string) string {
	t.Helper()
	unbound := program(t, "unbound")
	dir := t.TempDir()
	at := freeAddress(t)
	config := fmt.Sprintf(`server:
  interface: %s
  directory: %q
  chroot: ""
  username: ""
  pidfile: ""
  use-syslog: no
  do-daemonize: no
  do-not-query-localhost: no
  module-config: "validator iterator"
  use-caps-for-id: yes
  aggressive-nsec: yes
  qname-minimisation: yes
  trust-anchor: %q
stub-zone:
  name: "example.com"
  stub-addr: %s
remote-control:
  control-enable: no
`, strings.Replace(at, ":", "@", 1), dir, strings.ReplaceAll(anchor, "\t", " "), strings.Replace(server, ":", "@", 1))
	file := filepath.Join(dir, "unbound.conf")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	run := exec.CommandContext(ctx, unbound, "-d", "-c", file)
	var log bytes.Buffer
	run.Stderr = &log
	if err := run.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stop()
		_ = run.Wait() // it was killed
		if t.Failed() {
			t.Logf("unbound:\n%s", log.String())
		}
	})
	return at
}

func resolve(t *testing.T, server, name string, qtype uint16) *dns.Msg {
	t.Helper()
	m := new(dns.Msg)
	m.SetQuestion(name, qtype)
	m.SetEdns0(1232, true)
	var out *dns.Msg
	var err error
	for end := time.Now().Add(time.Minute); time.Now().Before(end); {
		c := dns.Client{Timeout: 2 * time.Second}
		if out, _, err = c.ExchangeContext(t.Context(), m, server); err == nil {
			if out.Truncated {
				c.Net = "tcp"
				if out, _, err = c.ExchangeContext(t.Context(), m, server); err != nil {
					continue
				}
			}
			return out
		}
		<-time.After(50 * time.Millisecond) // it may not listen yet
	}
	t.Fatalf("%s %s: %v", name, dns.TypeToString[qtype], err)
	return nil
}

// unbound resolves and validates in front of it, over UDP and TCP, and remembers.
func TestUnboundValidates(t *testing.T) {
	t.Parallel()
	cfg, key := signedZone(t)
	_, address := running(t, cfg, twoNodes())
	resolver := startUnbound(t, address, key.DNSKEY())
	for range 2 { // the second time from its cache
		for _, tt := range asked {
			out := resolve(t, resolver, tt.name, tt.qtype)
			text := out.String()
			if !out.AuthenticatedData || !tt.nothing && !strings.Contains(text, tt.has) ||
				out.Rcode != dns.RcodeSuccess && out.Rcode != dns.RcodeNameError || tt.nothing && strings.Contains(text, "\tA\t1") {
				t.Errorf("%s %s: %v", tt.name, dns.TypeToString[tt.qtype], out)
			}
		}
	}
}

// A resolver with another key as its anchor refuses all of it.
func TestUnboundRefuses(t *testing.T) {
	t.Parallel()
	cfg, _ := signedZone(t)
	_, address := running(t, cfg, twoNodes())
	resolver := startUnbound(t, address, keyFor(t, "example.com").DNSKEY())
	if out := resolve(t, resolver, "www.example.com.", dns.TypeA); out.Rcode != dns.RcodeServerFailure {
		t.Errorf("%v", out)
	}
}

// A rollover, step by step, under a resolver whose anchor follows it at the moment
// at which a parent's DS would: no answer is refused.
func TestUnboundFollowsRollover(t *testing.T) {
	t.Parallel()
	cfg, first := signedZone(t)
	path := cfg.Zones[0].DNSSEC.Keys
	r, address := running(t, cfg, twoNodes())
	second, err := AddKey(path, "example.com", signTime)
	if err != nil {
		t.Fatal(err)
	}
	check := func(step string, anchor *Key) {
		t.Helper()
		if err := r.Apply(cfg); err != nil {
			t.Fatal(err)
		}
		resolver := startUnbound(t, address, anchor.DNSKEY())
		if out := resolve(t, resolver, "www.example.com.", dns.TypeA); !out.AuthenticatedData || len(out.Answer) == 0 {
			t.Errorf("%s: %v", step, out)
		}
	}
	check("both are published, the first signs", first)
	if err := SignWith(path, "example.com", second.Tag()); err != nil {
		t.Fatal(err)
	}
	check("the second signs", second)
	if err := RemoveKey(path, "example.com", first.Tag()); err != nil {
		t.Fatal(err)
	}
	check("the first is gone", second)
}
