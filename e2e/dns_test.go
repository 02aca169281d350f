package e2e

// DNS as resolvers and clients see it: with dig and kdig, and with three sites on
// a network of their own, whose clients resolve and fetch from the nearest.

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
)

const digConfig = `
data: {data}
admin: {listen: "{admin}"}
dns:
  listen: ["{http}", "{https}"]
  zones:
    - name: cdn.example
      name_servers: [ns1.example.net]
      records:
        - "big TXT %s"
        - "big TXT %s"
        - "big TXT %s"
        - "big TXT %s"
        - "big TXT %s"
        - "alias CNAME www"
      dynamic: [{name: www}]
  places: {map: %s}
  probe: {kind: "off"}
  nodes:
    - {name: fra-1, site: fra, place: "50.0,8.6", addresses: [192.0.2.1, "2001:db8:1::1"]}
    - {name: nrt-1, site: nrt, place: "35.8,140.4", addresses: [203.0.113.1, "2001:db8:2::1"], speaks: [h2]}
`

// startDNS starts a responder alone, on IPv4 and IPv6.
func startDNS(t *testing.T) *node { return startDNSWith(t, digConfig) }

func startDNSWith(t *testing.T, config string) *node {
	t.Helper()
	n := newNode(t)
	n.https = free(t, "[::1]")[0]
	l, err := net.Listen("tcp", n.https)
	if err != nil {
		t.Skip("SKIPPED: no IPv6 here: ", err)
	}
	l.Close()
	dir := t.TempDir()
	places := filepath.Join(dir, "networks.map")
	writeFile(t, places, "198.51.100.0/24 nrt\n0.0.0.0/0 fra\n::/0 fra\n2001:db8:f::/48 nrt\n")
	file := filepath.Join(dir, "edge.yaml")
	text := func(c string) any { return strings.Repeat(c, 250) }
	writeFile(t, file, n.fill(fmt.Sprintf(config, text("a"), text("b"), text("c"), text("d"), text("e"), places)))
	n.args = []string{"dns", "--config", file}
	n.start(t)
	return n
}

func TestDNSWithDigAndKdig(t *testing.T) {
	need(t, "dig")
	need(t, "kdig")
	n := startDNS(t)
	for _, c := range []struct {
		what    string
		program string
		args    string
		want    []string
	}{
		{"the nearest", "dig", "www.cdn.example A", []string{"status: NOERROR", "flags: qr aa", "20\tIN\tA\t192.0.2.1", "udp: 1232"}},
		{"a client elsewhere", "dig", "+subnet=198.51.100.0/24 www.cdn.example A", []string{"20\tIN\tA\t203.0.113.1", "CLIENT-SUBNET: 198.51.100.0/24/24"}},
		{"a client of IPv6", "dig", "+subnet=2001:db8:f:42::/56 www.cdn.example AAAA", []string{"2001:db8:2::1", "CLIENT-SUBNET: 2001:db8:f::/56/48"}},
		{"nobody's network", "dig", "+subnet=0 www.cdn.example A", []string{"192.0.2.1", "CLIENT-SUBNET: 0.0.0.0/0/0"}},
		{"an alias", "dig", "alias.cdn.example A", []string{"CNAME\twww.cdn.example.", "192.0.2.1"}},
		{"HTTPS", "dig", "www.cdn.example HTTPS", []string{`1 . alpn="h3,h2" ipv4hint=192.0.2.1 ipv6hint=2001:db8:1::1`}},
		{"HTTPS where h3 is not spoken", "kdig", "+subnet=198.51.100.0/24 www.cdn.example HTTPS", []string{`alpn=h2 ipv4hint=203.0.113.1`}},
		{"the case of the question", "dig", "wWw.CdN.eXample A", []string{";wWw.CdN.eXample.", "wWw.CdN.eXample.\t20\tIN\tA"}},
		{"truncated", "dig", "+ignore big.cdn.example TXT", []string{"flags: qr aa tc", "ANSWER: 0"}},
		{"fetched by TCP then", "dig", "big.cdn.example TXT", []string{"Truncated, retrying in TCP mode", "ANSWER: 5", "(TCP)"}},
		{"fetched by TCP by kdig", "kdig", "+bufsize=512 big.cdn.example TXT", []string{"ANSWER: 5", "(TCP)"}},
		{"queries on one connection", "kdig", "+tcp +keepopen www.cdn.example A www.cdn.example AAAA", []string{"192.0.2.1", "2001:db8:1::1"}},
		{"nothing there", "kdig", "none.cdn.example A", []string{"NXDOMAIN", "SOA"}},
		{"ANY", "dig", "+notcp www.cdn.example ANY", []string{`HINFO	"RFC8482" ""`}},
		{"a transfer", "dig", "cdn.example AXFR", []string{"Transfer failed"}},
		{"somebody else's", "dig", "example.net A", []string{"REFUSED"}},
		{"another version of EDNS", "dig", "+edns=7 +noednsnegotiation www.cdn.example A", []string{"BADVERS"}},
	} {
		for _, at := range []string{n.http, n.https} {
			if at == n.https && c.what != "the nearest" && c.what != "a client of IPv6" && c.what != "fetched by TCP then" {
				continue // one run over IPv6
			}
			host, port, _ := net.SplitHostPort(at)
			args := append([]string{"@" + host, "-p", port, "+tries=2", "+time=5"}, strings.Fields(c.args)...)
			if c.program == "kdig" {
				args = slices.DeleteFunc(args, func(a string) bool { return a == "+tries=2" })
			}
			out, stderr, _ := run(t, c.program, args...)
			for _, want := range c.want {
				if !strings.Contains(out+stderr, want) {
					t.Errorf("%s at %s: %s %s: no %q in\n%s%s", c.what, at, c.program, c.args, want, out, stderr)
				}
			}
		}
	}
	if out := edge(t, "locate", "--data", n.data, "198.51.100.9"); !strings.Contains(out, "203.0.113.1") || !strings.Contains(out, "node nrt-1: number 1 of the answer") {
		t.Errorf("edge locate says\n%s", out)
	}
	if metrics := n.metrics(t); !strings.Contains(metrics, `edge_dns_site_answers_total{site="nrt"}`) {
		t.Error("answers are not counted by site")
	}
}

// places are three sites, and what is at each: an edge at .10, clients at .100.
type places struct {
	lan     *localNet
	edges   [3]*process
	boxes   [3]*machine
	clients [3]*machine
	dirs    [3]string
}

var siteNames = [3]string{"fra", "iad", "nrt"}

const siteConfig = `
node: %[1]s-1
data: %[2]s
server: {http: ["10.%[3]d.0.10:80"], limits: {handlers: 40}}
admin: {listen: "10.%[3]d.0.10:8081", public: true}
origins: {web: {url: "http://10.9.0.1:9000"}}
hosts: [{names: ["*"], origin: web}]
dns:
  listen: ["10.%[3]d.0.10:53"]
  zones:
    - name: cdn.example
      name_servers: [ns1.cdn.example]
      dynamic: [{name: www, ttl: 1s, answers: 2, answer_sites: 2}]
  places: {map: %[4]s}
`

// siteProbes has each responder probe the nodes, siteCluster has the cluster tell of them.
const (
	siteProbes = `
  probe: {kind: http, port: 8081, path: /readyz, interval: 200ms, timeout: 1s}
  nodes:
    - {name: fra-1, site: fra, place: "50.0,8.6", addresses: [10.1.0.10]}
    - {name: iad-1, site: iad, place: "38.9,-77.5", addresses: [10.2.0.10]}
    - {name: nrt-1, site: nrt, place: "35.8,140.4", addresses: [10.3.0.10]}
`
	siteCluster = `
  leave: {cold: false}
cluster:
  listen: "10.%[1]d.0.10:7946"
  seeds: [10.1.0.10, 10.2.0.10, 10.3.0.10]
  secrets: [a secret of sixteen bytes and more]
  preset: local
  site: %[2]s
  place: {lat: %[3]s, lon: %[4]s}
  public: [10.%[1]d.0.10]
`
)

func startPlaces(t *testing.T, clustered bool) *places { return startPlacesWith(t, clustered, nil) }

// startPlacesWith has the data directory of each site prepared before it starts.
func startPlacesWith(t *testing.T, clustered bool, prepare func(site int, data string)) *places {
	t.Helper()
	p := &places{lan: newLAN(t)}
	origin := p.lan.machine(t, "10.9.0.1/8")
	origin.start(t, filepath.Join(bin, "origin"), "--listen", "10.9.0.1:9000")
	dir := t.TempDir()
	networks := filepath.Join(dir, "networks.map")
	writeFile(t, networks, "10.1.0.0/16 fra\n10.2.0.0/16 iad\n10.3.0.0/16 nrt\n")
	for i, site := range siteNames {
		p.boxes[i] = p.lan.machine(t, fmt.Sprintf("10.%d.0.10/8", i+1))
		p.clients[i] = p.lan.machine(t, fmt.Sprintf("10.%d.0.100/8", i+1))
		p.dirs[i] = t.TempDir()
		text := fmt.Sprintf(siteConfig, site, filepath.Join(p.dirs[i], "data"), i+1, networks)
		if at := [3][2]string{{"50.0", "8.6"}, {"38.9", "-77.5"}, {"35.8", "140.4"}}[i]; clustered {
			text += fmt.Sprintf(siteCluster, i+1, site, at[0], at[1])
		} else {
			text += siteProbes
		}
		writeFile(t, filepath.Join(p.dirs[i], "edge.yaml"), text)
		if prepare != nil {
			prepare(i, filepath.Join(p.dirs[i], "data"))
		}
		p.start(t, i)
	}
	return p
}

func (p *places) start(t *testing.T, i int) {
	t.Helper()
	p.edges[i] = p.boxes[i].start(t, filepath.Join(bin, "edge"), "serve", "--config", filepath.Join(p.dirs[i], "edge.yaml"))
}

// resolve asks the responder of a site as a client of another; an error for none.
func (p *places) resolve(t *testing.T, client, site int, qtype uint16) ([]string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	c, err := p.clients[client].dial(ctx, "udp", fmt.Sprintf("10.%d.0.10:53", site+1))
	if err != nil {
		return nil, err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(time.Second))
	conn := &dns.Conn{Conn: c}
	m := new(dns.Msg)
	m.SetQuestion("www.cdn.example.", qtype)
	if err := conn.WriteMsg(m); err != nil {
		return nil, err
	}
	answer, err := conn.ReadMsg()
	if err != nil {
		return nil, err
	}
	var all []string
	for _, rr := range answer.Answer {
		if a, ok := rr.(*dns.A); ok {
			all = append(all, a.A.String())
		}
	}
	return all, nil
}

// fetch gets a page as a browser does: the first responder that answers, then one
// address after the other. It returns the address that answered.
func (p *places) fetch(t *testing.T, client int) (string, error) {
	t.Helper()
	var addresses []string
	for site := range siteNames {
		if found, err := p.resolve(t, client, (client+site)%len(siteNames), dns.TypeA); err == nil && len(found) > 0 {
			addresses = found
			break
		}
	}
	failed := errors.New("no addresses")
	for _, address := range addresses {
		transport := &http.Transport{DialContext: p.clients[client].dial, DisableKeepAlives: true}
		h := http.Client{Transport: transport, Timeout: 2 * time.Second}
		resp, err := h.Get("http://" + address + "/")
		if err != nil {
			failed = errors.Join(failed, err)
			continue
		}
		_, err = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		if err == nil && resp.StatusCode == 200 {
			return address, nil
		}
		failed = errors.Join(failed, err, errors.New(resp.Status))
	}
	return "", failed
}

// expect waits until all responders that live send the clients of each site to
// these first addresses, and returns how long that took.
func (p *places) expect(t *testing.T, what string, want [3]string) time.Duration {
	t.Helper()
	began := time.Now()
	var got [3][3]string
	eventually(t, what, func() bool {
		ok := true
		for client := range siteNames {
			for site := range siteNames {
				if !p.edges[site].running() {
					continue
				}
				found, err := p.resolve(t, client, site, dns.TypeA)
				if err != nil || len(found) == 0 {
					got[client][site], ok = fmt.Sprint(err), false
					continue
				}
				got[client][site] = found[0]
				ok = ok && found[0] == want[client]
			}
		}
		return ok
	})
	return time.Since(began)
}

func TestDNSSites(t *testing.T) {
	for name, clustered := range map[string]bool{"probes": false, "cluster": true} {
		t.Run(name, func(t *testing.T) { testSites(t, clustered) })
	}
}

func testSites(t *testing.T, clustered bool) {
	p := startPlaces(t, clustered)
	const fra, iad, nrt = "10.1.0.10", "10.2.0.10", "10.3.0.10"
	home := [3]string{fra, iad, nrt}
	p.expect(t, "each client is sent to its site, by every responder", home)
	for client, want := range home {
		if got, err := p.fetch(t, client); err != nil || got != want {
			t.Errorf("a client of %s fetches from %s: %v", siteNames[client], got, err)
		}
	}
	stop := p.keepFetching(t)
	p.edges[0].kill()
	if took := p.expect(t, "clients of a killed site are sent to the next", [3]string{iad, iad, nrt}); took > 3*time.Second {
		t.Logf("answers moved after %v", took) // of which the machine may need most: it is no assertion
	}
	p.start(t, 0)
	p.expect(t, "they come home", home)
	if clustered {
		p.command(t, 0, "nodes", "out", "iad")
		p.expect(t, "clients of a site that an operator took out are sent to the next", [3]string{fra, fra, nrt})
		p.command(t, 2, "nodes", "in", "iad")
		p.expect(t, "they come home when it is back in", home)
	}
	p.command(t, 2, "drain")
	p.expect(t, "clients of a site that drains are sent to the next", [3]string{fra, iad, fra})
	p.command(t, 2, "undrain")
	p.expect(t, "they come home after a drain", home)
	p.boxes[1].unplug(t)
	eventually(t, "clients of a site that is cut off are sent to the next", func() bool {
		found, err := p.resolve(t, 0, 0, dns.TypeA)
		return err == nil && len(found) == 2 && !slices.Contains(found, iad)
	})
	p.boxes[1].plug(t)
	p.expect(t, "all is as it was", home)
	stop()
}

// keepFetching has clients of all sites fetch until it is told to stop: none of them
// is to fail.
func (p *places) keepFetching(t *testing.T) (stop func()) {
	ending, done := make(chan struct{}), make(chan int, 1)
	end := sync.OnceFunc(func() { close(ending) })
	t.Cleanup(func() { // of a test that has failed meanwhile
		end()
		<-done
	})
	go func() {
		defer close(done)
		fetches := 0
		for ; ; fetches++ {
			select {
			case <-ending:
				done <- fetches
				return
			default:
			}
			if _, err := p.fetch(t, fetches%len(siteNames)); err != nil {
				t.Errorf("fetch %d failed: %v", fetches, err)
			}
		}
	}()
	return func() {
		end()
		if n := <-done; n < 10 {
			t.Errorf("only %d fetches", n)
		}
	}
}

// command runs edge at a site.
func (p *places) command(t *testing.T, i int, words ...string) string {
	t.Helper()
	args := append([]string{"netns", "exec", p.boxes[i].name, filepath.Join(bin, "edge")}, words...)
	args = append(args, "--admin", fmt.Sprintf("10.%d.0.10:8081", i+1), "--data", filepath.Join(p.dirs[i], "data"))
	out, stderr, code := run(t, "ip", args...)
	if code != 0 {
		t.Fatalf("edge %s: %s%s", strings.Join(words, " "), out, stderr)
	}
	return out
}
