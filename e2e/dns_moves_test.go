package e2e

// Answers that move for what a node is, not whether it is there: fenced, overloaded,
// out of reach over UDP.

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"
)

// tmpfs mounts one of a megabyte; it skips the test where it may not.
func tmpfs(t *testing.T, dir string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("edge-test", dir, "tmpfs", 0, "size=1m"); err != nil {
		t.Skipf("SKIPPED: nothing can be mounted here: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
}

// A node that is reached and cannot take purges in is fenced, since it knows that it
// misses some: it leaves the answers of all responders, and comes back.
func TestDNSFenced(t *testing.T) {
	var log string
	p := startPlacesWith(t, true, func(site int, data string) {
		if site == 2 {
			log = filepath.Join(data, "purge")
			tmpfs(t, log)
		}
	})
	const fra, iad, nrt = "10.1.0.10", "10.2.0.10", "10.3.0.10"
	home := [3]string{fra, iad, nrt}
	p.expect(t, "each client is sent to its site, by every responder", home)
	stop := p.keepFetching(t)
	full := filepath.Join(log, "full")
	f, err := os.Create(full)
	if err != nil {
		t.Fatal(err)
	}
	for block := make([]byte, 4096); err == nil; {
		_, err = f.Write(block)
	}
	if f.Close(); !errors.Is(err, unix.ENOSPC) {
		t.Fatal(err)
	}
	for i := range 64 { // the room that is left in a page of its log is not enough for these
		p.command(t, 0, "purge", fmt.Sprintf("http://www.cdn.example/%d/%s", i, strings.Repeat("x", 1000)))
		if strings.Contains(p.command(t, 0, "nodes"), "fenced") {
			break
		}
	}
	p.expect(t, "clients of a fenced site are sent to the next", [3]string{fra, iad, fra})
	if err := os.Remove(full); err != nil {
		t.Fatal(err)
	}
	p.expect(t, "they come home when it has caught up", home)
	stop()
}

// overload is how many requests are more than 85 % of the 40 that a site can bear.
const overload = 37

// firsts returns to which site a responder sends networks of fra's, by address.
func (p *places) firsts(t *testing.T, site int) (all []string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	dial := func() *dns.Conn {
		c, err := p.clients[0].dial(ctx, "udp", fmt.Sprintf("10.%d.0.10:53", site+1))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return &dns.Conn{Conn: c}
	}
	conn := dial()
	for i := 0; i < 100; {
		m := new(dns.Msg)
		m.SetQuestion("www.cdn.example.", dns.TypeA)
		m.SetEdns0(1232, false)
		m.IsEdns0().Option = append(m.IsEdns0().Option, &dns.EDNS0_SUBNET{Code: dns.EDNS0SUBNET, Family: 1, SourceNetmask: 24, Address: net.IPv4(10, 1, byte(i), 0)})
		_ = conn.SetDeadline(time.Now().Add(time.Second))
		if err := conn.WriteMsg(m); err != nil {
			t.Fatal(err)
		}
		answer, err := conn.ReadMsg()
		if err != nil || answer.Id != m.Id || len(answer.Answer) == 0 {
			if ctx.Err() != nil {
				t.Fatalf("%v %v", answer, err)
			}
			conn = dial() // an answer that comes late must not be taken for the next one
			continue
		}
		all = append(all, answer.Answer[0].(*dns.A).A.String())
		i++
	}
	return all
}

// A node that has more work than it can bear passes a part of its clients on, the
// same in the answers of all responders, and keeps the others.
func TestDNSOverloaded(t *testing.T) {
	p := startPlaces(t, true)
	const fra, iad, nrt = "10.1.0.10", "10.2.0.10", "10.3.0.10"
	p.expect(t, "each client is sent to its site, by every responder", [3]string{fra, iad, nrt})
	if slices.Contains(p.firsts(t, 0), iad) {
		t.Fatal("clients are passed on before there is a reason")
	}
	stop := p.keepFetching(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	transport := &http.Transport{DialContext: p.clients[0].dial}
	defer transport.CloseIdleConnections()
	ended := make(chan struct{})
	for i := range overload {
		go func() {
			req, _ := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://%s/_origin/hang?for=50s&n=%d", fra, i), nil)
			if resp, err := transport.RoundTrip(req); err == nil {
				_, _ = io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
			}
			ended <- struct{}{}
		}()
	}
	var seen [3][]string
	within(t, 2*patience, "all responders pass the same part on", func() bool {
		for site := range siteNames {
			seen[site] = p.firsts(t, site)
		}
		return slices.Contains(seen[0], iad) && slices.Equal(seen[0], seen[1]) && slices.Equal(seen[1], seen[2])
	})
	stays := 0
	for _, to := range seen[0] {
		if to == fra {
			stays++
		}
	}
	if stays < 30 {
		t.Errorf("only %d of 100 networks stay", stays)
	}
	stop()
	cancel()
	for range overload {
		<-ended
	}
}

// A node whose UDP is blocked on the way to itself takes HTTP/3 out of the HTTPS
// records, and back in when it is reached again.
func TestDNSWithoutUDP(t *testing.T) {
	need(t, "iptables")
	box := newLAN(t).machine(t, "10.1.0.10/8")
	dir := t.TempDir()
	file := filepath.Join(dir, "edge.yaml")
	writeFile(t, file, fmt.Sprintf(`
node: fra-1
data: %s
server: {http: ["10.1.0.10:80"], https: ["10.1.0.10:443"]}
admin: {listen: "10.1.0.10:8081", public: true}
origins: {web: {url: "http://10.1.0.10:9000"}}
hosts: [{names: ["*"], origin: web}]
cluster: {listen: "10.1.0.10:7946", secrets: [a secret of sixteen bytes and more], preset: local, site: fra, public: [10.1.0.10]}
dns:
  listen: ["10.1.0.10:53"]
  zones: [{name: cdn.example, name_servers: [ns1.cdn.example], dynamic: [{name: www}]}]
`, filepath.Join(dir, "data")))
	box.start(t, filepath.Join(bin, "edge"), "serve", "--config", file)
	alpn := func() string {
		c, err := box.dial(t.Context(), "udp", "10.1.0.10:53")
		if err != nil {
			return err.Error()
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(time.Second))
		m := new(dns.Msg)
		m.SetQuestion("www.cdn.example.", dns.TypeHTTPS)
		conn := &dns.Conn{Conn: c}
		if err := conn.WriteMsg(m); err != nil {
			return err.Error()
		}
		answer, err := conn.ReadMsg()
		if err != nil || len(answer.Answer) == 0 {
			return fmt.Sprint("nothing: ", err)
		}
		for _, value := range answer.Answer[0].(*dns.HTTPS).Value {
			if value.Key() == dns.SVCB_ALPN {
				return value.String()
			}
		}
		return "none"
	}
	firewall := func(what string) {
		ip(t, "netns", "exec", box.name, "iptables", what, "INPUT", "-p", "udp", "--dport", "443", "-j", "DROP")
	}
	eventually(t, "h3 is told of", func() bool { return alpn() == "h3,h2" })
	firewall("-A")
	eventually(t, "h3 is withdrawn", func() bool { return alpn() == "h2" })
	firewall("-D")
	eventually(t, "h3 is back", func() bool { return alpn() == "h3,h2" })
}

// A responder that has just started has heard of the others before it answers: it does
// not send everybody to itself for a moment, which resolvers would remember.
func TestDNSWarm(t *testing.T) {
	p := startPlaces(t, true)
	p.expect(t, "each client is sent to its site, by every responder", [3]string{"10.1.0.10", "10.2.0.10", "10.3.0.10"})
	p.edges[0].kill()
	p.start(t, 0)
	var first []string
	eventually(t, "the responder answers again", func() (ok bool) {
		found, err := p.resolve(t, 2, 0, dns.TypeA)
		first = found
		return err == nil
	})
	// On a machine that stands still for seconds it answers all the same, and says so.
	if (len(first) == 0 || first[0] != "10.3.0.10") && !strings.Contains(p.edges[0].output.String(), "not all other nodes have been heard of") {
		t.Errorf("the first answer to a client of nrt is %v", first)
	}
}
