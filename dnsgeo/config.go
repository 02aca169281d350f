package dnsgeo

import (
	"cmp"
	"context"
	"slices"
	"time"
)

// Config is the responder: zones, where clients are, and when nodes are in the answers.
type Config struct {
	// Listen lists addresses for DNS on UDP and TCP: host:port, such as ":53". A
	// change wants a restart.
	Listen []string `yaml:"listen"`
	// Zones that are answered for.
	Zones []Zone `yaml:"zones"`
	// Places says where clients are.
	Places Places `yaml:"places"`
	// Leave says when a node leaves the answers although it serves.
	Leave Leave `yaml:"leave"`
	// Static are nodes that are probed, where there is no cluster to know of them.
	Static []StaticNode `yaml:"nodes"`
	// Probe says how those are probed.
	Probe Probe `yaml:"probe"`
	// Limits of connections and answers.
	Limits Limits `yaml:"limits"`
	// ResponseLimits bound what is sent to addresses that may be forged.
	ResponseLimits ResponseLimits `yaml:"response_limits"`
	// Cookies prove addresses (RFC 7873).
	Cookies Cookies `yaml:"cookies"`
	// QueryLog says which queries are logged.
	QueryLog QueryLog `yaml:"query_log"`

	// Nodes returns the nodes as they are now. Not part of the file: main's.
	Nodes func() []Node `yaml:"-"`
	// Check asks an address of a static node whether it is well. Main's; without it
	// none is probed.
	Check func(ctx context.Context, probe Probe, address string) error `yaml:"-"`
	// Secrets that all responders share, the one in force first: cookies are derived
	// from them. Main's too; without any, one is drawn.
	Secrets [][]byte `yaml:"-"`
}

// Zone is one zone.
type Zone struct {
	// Name of the zone, such as cdn.example.com.
	Name string `yaml:"name"`
	// File is a standard zone file (RFC 1035 5) with records of the zone. It may not
	// include others ($INCLUDE).
	File string `yaml:"file"`
	// Records are more of them, each a line as in a zone file: "www 300 IN A 192.0.2.1".
	Records []string `yaml:"records"`
	// NameServers are the names of the zone's servers, where no NS record names them.
	NameServers []string `yaml:"name_servers"`
	// Contact in the SOA record. Default hostmaster at the zone.
	Contact string `yaml:"contact"`
	// TTL of records that state none. Default 1h.
	TTL time.Duration `yaml:"ttl"`
	// NegativeTTL bounds how long it is remembered that something is not there
	// (RFC 2308). Default 1m.
	NegativeTTL time.Duration `yaml:"negative_ttl"`
	// ClientSubnet false ignores what resolvers tell of their clients' networks
	// (EDNS client subnet): answers are by the resolver's address. Default true.
	ClientSubnet *bool `yaml:"client_subnet"`
	// DNSSEC says how the zone is signed.
	DNSSEC DNSSEC `yaml:"dnssec"`
	// Dynamic names whose A, AAAA, HTTPS and SVCB are those of nodes.
	Dynamic []Dynamic `yaml:"dynamic"`
}

// Dynamic is a name that stands for nodes.
type Dynamic struct {
	// Name below the zone: www, "@" for the zone itself, "*" for all that is not there.
	Name string `yaml:"name"`
	// TTL of its answers. Default 20s.
	TTL time.Duration `yaml:"ttl"`
	// Answers is how many nodes an answer names at most. Default 2.
	Answers int `yaml:"answers"`
	// AnswerSites is from how many sites they may be: the nearest, and the next
	// where it has too few. Clients use all of them alike. Default 1.
	AnswerSites int `yaml:"answer_sites"`
	// Sites whose nodes the name stands for. Default: all.
	Sites []string `yaml:"sites"`
	// WhenDown says what is answered while no node can be: all (nodes but those
	// that operators took out), last (those that were good last), nodata, or
	// fallback. Default all.
	WhenDown string `yaml:"when_down"`
	// Fallback are the addresses of when_down: fallback.
	Fallback []string `yaml:"fallback"`
	// HTTPS false leaves out records of type HTTPS and SVCB. Default true.
	HTTPS *bool `yaml:"https"`
}

// Places says where clients are. What comes first in this struct wins.
type Places struct {
	// Map is a file of lines "CIDR site" or "CIDR latitude,longitude".
	Map string `yaml:"map"`
	// Databases are files in MaxMind's format: city, country, ASN. They are read
	// again when they change.
	Databases []string `yaml:"databases"`
	// Builtin false leaves out the table of countries that edge brings. Default true.
	Builtin *bool `yaml:"builtin"`
	// Countries, by code (ISO 3166-1), whose clients go to these sites first.
	Countries map[string][]string `yaml:"countries"`
	// Continents likewise, by code: AF, AN, AS, EU, NA, OC, SA.
	Continents map[string][]string `yaml:"continents"`
	// ASNs likewise, by number.
	ASNs map[string][]string `yaml:"asns"`
}

// Leave says when a node leaves the answers although it serves.
type Leave struct {
	// Lag behind with purges. Default 10s.
	Lag time.Duration `yaml:"lag"`
	// Cold false keeps nodes that lost what they had stored. Default true.
	Cold *bool `yaml:"cold"`
	// Load in percent of capacity at which a node sheds clients, gradually, first to
	// the others of its site and then to the next site. Default 85.
	Load int `yaml:"load"`
	// Return is the load in percent below which they come back. Default 65.
	Return int `yaml:"return"`
}

// StaticNode is a node that no cluster tells of.
type StaticNode struct {
	// Name of the node.
	Name string `yaml:"name"`
	// Site that it is at.
	Site string `yaml:"site"`
	// Place of the site: "latitude,longitude" in degrees, such as "50.1,8.7".
	Place string `yaml:"place"`
	// Addresses that clients reach it at.
	Addresses []string `yaml:"addresses"`
	// Port of HTTPS. Default 443.
	Port int `yaml:"port"`
	// Speaks lists h2 and h3 as far as it does. Default h2 and h3.
	Speaks []string `yaml:"speaks"`
	// Weight against the others of its site. Default 100.
	Weight int `yaml:"weight"`
	// Out takes it out of the answers.
	Out bool `yaml:"out"`
}

// Probe says how static nodes are probed.
type Probe struct {
	// Kind is tcp, http, https, or off. Default tcp.
	Kind string `yaml:"kind"`
	// Port that is probed. Default: the node's.
	Port int `yaml:"port"`
	// Path that is asked for with http and https. Default /.
	Path string `yaml:"path"`
	// Host that is asked for, in the TLS handshake too. Default: the address.
	Host string `yaml:"host"`
	// Interval of probes. Default 1s.
	Interval time.Duration `yaml:"interval"`
	// Timeout of one. Default 1s.
	Timeout time.Duration `yaml:"timeout"`
	// Fail is after how many failures in a row a node leaves. Default 2.
	Fail int `yaml:"fail"`
	// Pass is after how many successes in a row it returns. Default 2.
	Pass int `yaml:"pass"`
}

// Limits of connections and answers.
type Limits struct {
	// UDPBytes is the largest answer over UDP; what is larger is fetched by TCP.
	// Default 1232.
	UDPBytes int `yaml:"udp_bytes"`
	// Connections of TCP at once. Default 1024.
	Connections int `yaml:"connections"`
	// ConnectionsPerAddress of TCP at once. Default 32.
	ConnectionsPerAddress int `yaml:"connections_per_address"`
	// Queries on one connection. Default 1000.
	Queries int `yaml:"queries"`
	// IdleTimeout of a connection. Default 10s.
	IdleTimeout time.Duration `yaml:"idle_timeout"`
	// Sockets that share the port of UDP. Default: one for each processor, at most
	// 4. A change wants a restart.
	Sockets int `yaml:"sockets"`
}

// QueryLog says which queries are logged.
type QueryLog struct {
	// Every so many a query is logged; 0 is none. Default 0.
	Every int `yaml:"every"`
}

const (
	zonesMax    = 1000
	recordsMax  = 100_000 // of a zone
	fileMax     = 16 << 20
	nodesMax    = 2000
	udpBytesMin = 512
	udpBytesMax = 4096
)

// WithDefaults returns the configuration with what was left out filled in.
func (c Config) WithDefaults() Config {
	on := true
	c.Places.Builtin = cmp.Or(c.Places.Builtin, &on)
	c.Leave.Cold = cmp.Or(c.Leave.Cold, &on)
	c.Zones = slices.Clone(c.Zones)
	for i := range c.Zones {
		z := &c.Zones[i]
		z.TTL = cmp.Or(z.TTL, time.Hour)
		z.NegativeTTL = cmp.Or(z.NegativeTTL, time.Minute)
		z.ClientSubnet = cmp.Or(z.ClientSubnet, &on)
		z.Dynamic = slices.Clone(z.Dynamic)
		for j := range z.Dynamic {
			d := &z.Dynamic[j]
			d.TTL = cmp.Or(d.TTL, 20*time.Second)
			d.Answers = cmp.Or(d.Answers, 2)
			d.AnswerSites = cmp.Or(d.AnswerSites, 1)
			d.WhenDown = cmp.Or(d.WhenDown, "all")
			d.HTTPS = cmp.Or(d.HTTPS, &on)
		}
	}
	c.Leave.Lag = cmp.Or(c.Leave.Lag, 10*time.Second)
	c.Leave.Load = cmp.Or(c.Leave.Load, 85)
	c.Leave.Return = cmp.Or(c.Leave.Return, 65)
	c.Static = slices.Clone(c.Static)
	for i := range c.Static {
		n := &c.Static[i]
		n.Port = cmp.Or(n.Port, 443)
		n.Weight = cmp.Or(n.Weight, 100)
		if n.Speaks == nil {
			n.Speaks = []string{"h2", "h3"}
		}
	}
	c.Probe = c.Probe.withDefaults()
	c.Limits = c.Limits.withDefaults()
	c.ResponseLimits = c.ResponseLimits.withDefaults()
	return c
}

func (p Probe) withDefaults() Probe {
	p.Kind = cmp.Or(p.Kind, "tcp")
	p.Path = cmp.Or(p.Path, "/")
	p.Interval = cmp.Or(p.Interval, time.Second)
	p.Timeout = cmp.Or(p.Timeout, time.Second)
	p.Fail = cmp.Or(p.Fail, 2)
	p.Pass = cmp.Or(p.Pass, 2)
	return p
}

func (l Limits) withDefaults() Limits {
	l.UDPBytes = cmp.Or(l.UDPBytes, 1232)
	l.Connections = cmp.Or(l.Connections, 1024)
	l.ConnectionsPerAddress = cmp.Or(l.ConnectionsPerAddress, 32)
	l.Queries = cmp.Or(l.Queries, 1000)
	l.IdleTimeout = cmp.Or(l.IdleTimeout, 10*time.Second)
	return l
}
