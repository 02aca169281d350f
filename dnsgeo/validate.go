package dnsgeo

import (
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// Validate reports everything that cannot work, each by its path in this struct.
// It opens no file.
func (c *Config) Validate(report func(path, problem string)) {
	for i, address := range c.Listen {
		if problem := listenProblem(address); problem != "" {
			report(fmt.Sprintf("listen[%d]", i), problem)
		}
	}
	if len(c.Listen) > 0 && len(c.Zones) == 0 {
		report("zones", "is missing: name at least one zone to answer for")
	}
	if len(c.Zones) > zonesMax {
		report("zones", fmt.Sprintf("%d zones are too many: at most %d", len(c.Zones), zonesMax))
	}
	seen := map[string]bool{}
	for i := range c.Zones {
		path := fmt.Sprintf("zones[%d]", i)
		z := &c.Zones[i]
		if apex := canonical(z.Name); seen[apex] {
			report(path+".name", fmt.Sprintf("%q is there twice: keep one of them", z.Name))
		} else {
			seen[apex] = true
		}
		z.validate(func(at, problem string) { report(path+"."+at, problem) })
	}
	c.validateNodes(report)
	c.Places.validate(func(at, problem string) { report("places."+at, problem) })
	c.Probe.validate(func(at, problem string) { report("probe."+at, problem) })
	between(report, "leave.load", c.Leave.Load, 1, 100)
	between(report, "leave.return", c.Leave.Return, 1, 100)
	if c.Leave.Return >= c.Leave.Load && c.Leave.Load != 0 {
		report("leave.return", fmt.Sprintf("%d is not below leave.load, %d: clients would come and go in turns", c.Leave.Return, c.Leave.Load))
	}
	spell(report, "leave.lag", c.Leave.Lag, time.Hour)
	l := c.Limits
	between(report, "limits.udp_bytes", l.UDPBytes, udpBytesMin, udpBytesMax)
	between(report, "limits.connections", l.Connections, 1, 1<<20)
	between(report, "limits.connections_per_address", l.ConnectionsPerAddress, 1, 1<<20)
	between(report, "limits.queries", l.Queries, 1, 1<<30)
	between(report, "limits.sockets", l.Sockets, 0, 64)
	spell(report, "limits.idle_timeout", l.IdleTimeout, time.Hour)
	c.ResponseLimits.validate(func(at, problem string) { report("response_limits."+at, problem) })
	c.Cookies.validate(func(at, problem string) { report("cookies."+at, problem) })
	between(report, "query_log.every", c.QueryLog.Every, 0, 1<<30)
}

func between(report func(path, problem string), path string, n, low, high int) {
	if n != 0 && (n < low || n > high) || n == 0 && low < 0 {
		report(path, fmt.Sprintf("%d is out of bounds: choose from %d to %d", n, low, high))
	}
}

func spell(report func(path, problem string), path string, d, high time.Duration) {
	if d != 0 && (d < 10*time.Millisecond || d > high) {
		report(path, fmt.Sprintf("%v is out of bounds: choose from 10ms to %v", d, high))
	}
}

func listenProblem(address string) string {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return fmt.Sprintf("%q is no address: write host:port, such as :53 or 127.0.0.1:5300", address)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || strconv.FormatUint(n, 10) != port {
		return fmt.Sprintf("%q is no port: write a number from 0 to 65535", port)
	}
	if host != "" && host != "localhost" {
		if _, err := netip.ParseAddr(host); err != nil {
			return fmt.Sprintf("%q is no address of this machine: write an IP address, localhost, or nothing for all", host)
		}
	}
	return ""
}

func (z *Zone) validate(report func(path, problem string)) {
	if z.Name == "" {
		report("name", "is missing: write the zone, such as cdn.example.com")
	} else if !isDomain(z.Name) {
		report("name", fmt.Sprintf("%q is no domain name", z.Name))
	}
	for i, name := range z.NameServers {
		if !isDomain(name) {
			report(fmt.Sprintf("name_servers[%d]", i), fmt.Sprintf("%q is no domain name", name))
		}
	}
	if z.Contact != "" && !isDomain(z.Contact) {
		report("contact", fmt.Sprintf(`%q is no mailbox of an SOA record: write hostmaster.example.com for hostmaster@example.com`, z.Contact))
	}
	z.DNSSEC.validate(func(at, problem string) { report("dnssec."+at, problem) })
	ttl(report, "ttl", z.TTL)
	ttl(report, "negative_ttl", z.NegativeTTL)
	if len(z.Records) > recordsMax {
		report("records", fmt.Sprintf("%d are too many: at most %d", len(z.Records), recordsMax))
	}
	if isDomain(z.Name) && len(z.Records) <= recordsMax {
		for i, line := range z.Records {
			if _, err := parseLine(z, line); err != nil {
				report(fmt.Sprintf("records[%d]", i), err.Error())
			}
		}
	}
	seen := map[string]bool{}
	for i := range z.Dynamic {
		d, path := &z.Dynamic[i], fmt.Sprintf("dynamic[%d]", i)
		if seen[strings.ToLower(d.Name)] {
			report(path+".name", fmt.Sprintf("%q is there twice: keep one of them", d.Name))
		}
		seen[strings.ToLower(d.Name)] = true
		d.validate(func(at, problem string) { report(path+"."+at, problem) })
	}
}

func (d *Dynamic) validate(report func(path, problem string)) {
	switch {
	case d.Name == "":
		report("name", `is missing: write a name below the zone, or "@" for the zone itself`)
	case d.Name != "@" && !isDomain(d.Name):
		report("name", fmt.Sprintf("%q is no domain name", d.Name))
	case strings.HasSuffix(d.Name, "."):
		report("name", fmt.Sprintf("%q ends in a dot: write it below the zone, without", d.Name))
	}
	ttl(report, "ttl", d.TTL)
	between(report, "answers", d.Answers, 1, 16)
	between(report, "answer_sites", d.AnswerSites, 1, 16)
	switch d.WhenDown {
	case "", "all", "last", "nodata":
		if len(d.Fallback) > 0 {
			report("fallback", "has no effect: write when_down: fallback")
		}
	case "fallback":
		if len(d.Fallback) == 0 {
			report("fallback", "is missing: name the addresses that are answered when no node is left")
		}
	default:
		report("when_down", fmt.Sprintf("%q is no policy: write all, last, nodata or fallback", d.WhenDown))
	}
	if len(d.Fallback) > 16 {
		report("fallback", "is more than 16 addresses")
	}
	for i, text := range d.Fallback {
		if _, err := netip.ParseAddr(text); err != nil {
			report(fmt.Sprintf("fallback[%d]", i), fmt.Sprintf("%q is no IP address", text))
		}
	}
}

func ttl(report func(path, problem string), path string, d time.Duration) {
	if d != 0 && (d < time.Second || d > 7*24*time.Hour || d%time.Second != 0) {
		report(path, fmt.Sprintf("%v is no TTL: choose whole seconds from 1s to 168h", d))
	}
}

func (c *Config) validateNodes(report func(path, problem string)) {
	if len(c.Static) > nodesMax {
		report("nodes", fmt.Sprintf("%d are too many: at most %d", len(c.Static), nodesMax))
	}
	seen := map[string]bool{}
	for i := range c.Static {
		n, path := &c.Static[i], fmt.Sprintf("nodes[%d].", i)
		if n.Name == "" || n.Site == "" {
			report(path+"name", "name and site are both needed")
		}
		if seen[n.Name] {
			report(path+"name", fmt.Sprintf("%q is there twice: names tell nodes apart", n.Name))
		}
		seen[n.Name] = true
		if _, err := ParsePoint(n.Place); err != nil {
			report(path+"place", err.Error())
		}
		if len(n.Addresses) == 0 {
			report(path+"addresses", "is missing: name the addresses that clients reach it at")
		}
		for j, text := range n.Addresses {
			if a, err := netip.ParseAddr(text); err != nil || a.Zone() != "" {
				report(fmt.Sprintf("%saddresses[%d]", path, j), fmt.Sprintf("%q is no IP address", text))
			}
		}
		between(report, path+"port", n.Port, 1, 65535)
		between(report, path+"weight", n.Weight, 1, 10000)
		for j, p := range n.Speaks {
			if p != "h2" && p != "h3" {
				report(fmt.Sprintf("%sspeaks[%d]", path, j), fmt.Sprintf("%q is neither h2 nor h3", p))
			}
		}
	}
}

func (p *Places) validate(report func(path, problem string)) {
	for _, table := range []struct {
		key string
		of  map[string][]string
		ok  func(string) bool
		say string
	}{
		{"countries", p.Countries, isCode, "is no code of a country: write two letters, such as DE"},
		{"continents", p.Continents, func(s string) bool { return slices.Contains(continentCodes, s) }, "is no continent: write AF, AN, AS, EU, NA, OC or SA"},
		{"asns", p.ASNs, func(s string) bool { n, err := strconv.ParseUint(s, 10, 32); return err == nil && n > 0 }, "is no number of an autonomous system: write one such as 64500"},
	} {
		for _, key := range slices.Sorted(maps.Keys(table.of)) {
			if !table.ok(key) {
				report(table.key+"."+key, fmt.Sprintf("%q %s", key, table.say))
			}
		}
	}
	if len(p.Databases) > 8 {
		report("databases", "are more than 8")
	}
}

func (p *Probe) validate(report func(path, problem string)) {
	if !slices.Contains([]string{"", "tcp", "http", "https", "off"}, p.Kind) {
		report("kind", fmt.Sprintf("%q is no kind of probe: write tcp, http, https or off", p.Kind))
	}
	between(report, "port", p.Port, 0, 65535)
	if p.Path != "" && (p.Path[0] != '/' || strings.ContainsAny(p.Path, " \r\n")) {
		report("path", fmt.Sprintf("%q is no path: begin with /", p.Path))
	}
	spell(report, "interval", p.Interval, time.Hour)
	spell(report, "timeout", p.Timeout, time.Minute)
	between(report, "fail", p.Fail, 1, 100)
	between(report, "pass", p.Pass, 1, 100)
}

var continentCodes = []string{"AF", "AN", "AS", "EU", "NA", "OC", "SA"}

func isCode(s string) bool {
	return len(s) == 2 && s[0] >= 'A' && s[0] <= 'Z' && s[1] >= 'A' && s[1] <= 'Z'
}

// isDomain accepts what packs into a name of at most 255 bytes, not the root.
func isDomain(s string) bool {
	if s == "" || s == "." || strings.ContainsAny(s, " \t\r\n\"();\\@") {
		return false
	}
	_, ok := dns.IsDomainName(s)
	return ok
}

// canonical is a name as it is compared: with its last dot, in lower case.
func canonical(name string) string { return dns.CanonicalName(name) }
