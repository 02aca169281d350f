package e2e

// Signed answers of a real node as validators see them: delv, and unbound as a
// resolver in front, which tells networks of its clients.

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// startSigned starts a responder alone with a signed zone, on IPv4 and IPv6, and
// returns the DS record of its key.
func startSigned(t *testing.T) (n *node, ds string) {
	t.Helper()
	keys := filepath.Join(t.TempDir(), "keys")
	made := edge(t, "dns", "key", "new", "cdn.example", "--file", keys)
	ds = regexp.MustCompile(`(?m)cdn\.example\.\s.*\sDS\s.*$`).FindString(made)
	if ds == "" {
		t.Fatalf("edge dns key new prints no DS record:\n%s", made)
	}
	n = startDNSWith(t, strings.Replace(digConfig, "      name_servers:", fmt.Sprintf("      dnssec: {keys: %q}\n      name_servers:", keys), 1))
	return n, ds
}

// sbin finds programs of the system's administrators too.
func sbin(t *testing.T, program string) string {
	t.Helper()
	if _, err := os.Stat("/usr/sbin/" + program); err == nil {
		return "/usr/sbin/" + program
	}
	need(t, program)
	return program
}

func TestDelvValidatesANode(t *testing.T) {
	need(t, "delv")
	n, ds := startSigned(t)
	fields := strings.Fields(ds) // name, perhaps a TTL, IN DS tag algorithm digest-type digest
	tail := fields[len(fields)-4:]
	anchor := filepath.Join(t.TempDir(), "anchor")
	writeFile(t, anchor, fmt.Sprintf("trust-anchors { cdn.example. static-ds %s %s %s %q; };\n", tail[0], tail[1], tail[2], tail[3]))
	for _, at := range []string{n.http, n.https} { // one run over IPv6
		host, port, _ := net.SplitHostPort(at)
		for _, c := range []struct{ name, qtype, want string }{
			{"www.cdn.example", "A", "192.0.2.1"},
			{"wWw.cDn.eXample", "AAAA", "2001:db8:1::1"},
			{"www.cdn.example", "HTTPS", "alpn"},
			{"alias.cdn.example", "A", "192.0.2.1"},
			{"big.cdn.example", "TXT", "eeee"}, // fetched by TCP
			{"none.cdn.example", "A", "negative response, fully validated"},
			{"www.cdn.example", "TXT", "negative response, fully validated"},
		} {
			out, stderr, _ := run(t, "delv", "-a", anchor, "+root=cdn.example", "@"+host, "-p", port, c.name, c.qtype)
			if all := out + stderr; !strings.Contains(all, c.want) || !strings.Contains(all, "fully validated") && !strings.Contains(all, "ncache nxrrset\n; fully validated") {
				t.Errorf("%s %s at %s: no %q, or not validated:\n%s", c.name, c.qtype, at, c.want, all)
			}
		}
	}
}

// startUnbound runs unbound in front of a node's DNS, over IPv6.
func startUnbound(t *testing.T, n *node, ds string) (at string) {
	t.Helper()
	unbound := sbin(t, "unbound")
	at = address(t)
	dir := t.TempDir()
	file := filepath.Join(dir, "unbound.conf")
	writeFile(t, file, fmt.Sprintf(`server:
  interface: %s
  directory: %q
  chroot: ""
  username: ""
  pidfile: ""
  use-syslog: no
  do-daemonize: no
  do-not-query-localhost: no
  module-config: "subnetcache validator iterator"
  client-subnet-zone: "cdn.example"
  max-client-subnet-ipv4: 32
  use-caps-for-id: yes
  aggressive-nsec: yes
  qname-minimisation: yes
  trust-anchor: %q
stub-zone:
  name: "cdn.example"
  stub-addr: %s
remote-control:
  control-enable: no
`, strings.Replace(at, ":", "@", 1), dir, strings.Join(strings.Fields(ds), " "), strings.Replace(strings.TrimPrefix(n.https, "["), "]:", "@", 1)))
	start(t, unbound, "-d", "-c", file)
	return at
}

func TestUnboundValidatesANode(t *testing.T) {
	n, ds := startSigned(t)
	resolver := startUnbound(t, n, ds)
	ask := func(name string, qtype uint16, client string) (*dns.Msg, error) {
		m := new(dns.Msg)
		m.SetQuestion(name, qtype)
		m.SetEdns0(1232, true)
		if client != "" {
			m.IsEdns0().Option = append(m.IsEdns0().Option, &dns.EDNS0_SUBNET{Code: dns.EDNS0SUBNET, Family: 1, SourceNetmask: 24, Address: net.ParseIP(client).To4()})
		}
		c := dns.Client{Timeout: 5 * time.Second}
		out, _, err := c.Exchange(m, resolver)
		if err == nil && out.Truncated {
			c.Net = "tcp"
			out, _, err = c.Exchange(m, resolver)
		}
		return out, err
	}
	eventually(t, "unbound answers", func() bool { _, err := ask("cdn.example.", dns.TypeSOA, ""); return err == nil })
	for range 2 { // the second time from its cache
		for _, c := range []struct {
			name, client, want string
			qtype              uint16
		}{
			{"www.cdn.example.", "", "192.0.2.1", dns.TypeA},
			{"www.cdn.example.", "198.51.100.0", "203.0.113.1", dns.TypeA},
			{"www.cdn.example.", "192.0.2.0", "192.0.2.1", dns.TypeA},
			{"www.cdn.example.", "198.51.100.0", "alpn=\"h2\"", dns.TypeHTTPS},
			{"alias.cdn.example.", "198.51.100.0", "203.0.113.1", dns.TypeA},
			{"big.cdn.example.", "", "eeee", dns.TypeTXT},
			{"none.cdn.example.", "", "SOA", dns.TypeA},
			{"www.cdn.example.", "", "SOA", dns.TypeMX},
		} {
			out, err := ask(c.name, c.qtype, c.client)
			if err != nil {
				t.Errorf("%s for %q: %v", c.name, c.client, err)
			} else if text := out.String(); !out.AuthenticatedData || !strings.Contains(text, c.want) || out.Rcode == dns.RcodeServerFailure {
				t.Errorf("%s for %q: no %s, or not validated:\n%s", c.name, c.client, c.want, text)
			}
		}
	}
	metrics := n.metrics(t)
	for _, name := range []string{"edge_dns_client_subnet_total", "edge_dns_truncated_total", "edge_dns_connections_total"} {
		if !regexp.MustCompile(`(?m)^` + name + ` [1-9]`).MatchString(metrics) {
			t.Errorf("unbound made nothing of what is counted in %s", name)
		}
	}
}
