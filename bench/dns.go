package main

// DNS: answers that depend on the client's network, beside gdnsd and a server that
// does the same with miekg/dns as its documentation says. dnsperf asks.

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/maxmind/mmdbwriter"
	"github.com/maxmind/mmdbwriter/mmdbtype"
	"github.com/miekg/dns"
	"golang.org/x/sync/errgroup"
)

const (
	dnsName     = "www.bench.test."
	dnsNetworks = 1_000_000 // of the large map
	dnsPlaces   = 300_000   // of the city database
	dnsLoadText = "dnsperf, 100 queries outstanding, each with EDNS and the client's /24. Answers are one address of six in three sites, by the network."
)

// dnsRows are by how many networks ask in turn.
func dnsRows() []row {
	return []row{
		{name: "1,000 networks", connections: 1000},
		{name: "500,000 networks", connections: 500_000},
	}
}

// measureDNS is the topic dns: three servers side by side.
func measureDNS(ctx context.Context, s *stage, t *topic) (*result, error) {
	edge, err := s.startEdgeDNS(ctx, "edge-dns", "")
	if err != nil {
		return nil, err
	}
	gdnsd, err := s.startGdnsd(ctx)
	if err != nil {
		return nil, err
	}
	plain, err := s.startPlainDNS(ctx)
	if err != nil {
		return nil, err
	}
	return s.measureDNSOf(ctx, t, edge, plain, gdnsd)
}

// measureDNSMap is the topic dns-map: the edge with large sources of places beside
// itself without.
func measureDNSMap(ctx context.Context, s *stage, t *topic) (*result, error) {
	places, err := s.makePlaces()
	if err != nil {
		return nil, err
	}
	large, err := s.startEdgeDNS(ctx, "edge-dns-map", places)
	if err != nil {
		return nil, err
	}
	small, err := s.startEdgeDNS(ctx, "edge-dns-small", "")
	if err != nil {
		return nil, err
	}
	large.name, small.name = "with both", "without"
	return s.measureDNSOf(ctx, t, large, small)
}

func (s *stage) measureDNSOf(ctx context.Context, t *topic, sides ...*server) (*result, error) {
	measured := *t
	measured.instead, measured.sides, measured.rows = nil, sides, dnsRows()
	measured.prepare, measured.load = prepareDNS, loadDNS
	r, err := s.measure(ctx, &measured)
	if err != nil {
		return nil, err
	}
	r.Versions = map[string]string{"edge": s.versions["edge"]}
	for name, command := range map[string][]string{"gdnsd": {"/usr/sbin/gdnsd", "-h"}, "dnsperf": {"dnsperf", "-h"}} {
		out, _ := exec.Command(command[0], command[1:]...).CombinedOutput() // it ends with an error
		if version := dnsVersion.FindSubmatch(out); version != nil {
			r.Versions[name] = name + " " + string(version[1])
		}
	}
	return r, nil
}

var dnsVersion = regexp.MustCompile(`(?i)version (\d+\.\d+\.\d+)`)

// startEdgeDNS runs an edge that does nothing else.
func (s *stage) startEdgeDNS(ctx context.Context, name, more string) (*server, error) {
	address, err := freeAddress()
	if err != nil {
		return nil, err
	}
	config := strings.NewReplacer("{dir}", s.dir, "{name}", name, "{address}", address).Replace(edgeDNSConfig)
	for i := range 6 {
		config += fmt.Sprintf("    - {name: n%d, site: s%d, place: \"%d,%d\", addresses: [198.51.100.%d]}\n", i, i/2, 50-40*(i/2), -80+90*(i/2), i+1)
	}
	file := filepath.Join(s.dir, name+".yaml")
	if err := os.WriteFile(file, []byte(config+more), 0o600); err != nil {
		return nil, err
	}
	p, err := s.run(ctx, name, answersDNS(address), s.edge, "dns", "--config", file)
	return &server{p, "edge", "", "", address}, err
}

const edgeDNSConfig = `data: {dir}/{name}
admin: {listen: "off"}
dns:
  listen: ["{address}"]
  response_limits: {off: true}
  probe: {kind: "off"}
  zones:
    - name: bench.test
      name_servers: [ns1.bench.test]
      records: ["ns1 300 A 127.0.0.1"]
      dynamic: [{name: www, answers: 1}]
  nodes:
`

// makePlaces writes a map and a database, and returns the lines that name them.
func (s *stage) makePlaces() (string, error) {
	table, database := filepath.Join(s.dir, "networks.map"), filepath.Join(s.dir, "city.mmdb")
	f, err := os.Create(table)
	if err != nil {
		return "", err
	}
	defer f.Close()
	w := bufio.NewWriter(f)
	for i := range dnsNetworks { // behind the networks that ask, and between them
		fmt.Fprintf(w, "%v s%d\n", netip.PrefixFrom(dnsNetwork(2*i), 24), i%3)
	}
	if err := w.Flush(); err != nil {
		return "", err
	}
	tree, err := mmdbwriter.New(mmdbwriter.Options{DatabaseType: "GeoLite2-City", IncludeReservedNetworks: true})
	if err != nil {
		return "", err
	}
	for i := range dnsPlaces {
		_, network, err := net.ParseCIDR(netip.PrefixFrom(dnsNetwork(2*i+1), 24).String())
		if err != nil {
			return "", err
		}
		if err := tree.Insert(network, mmdbtype.Map{
			"country":   mmdbtype.Map{"iso_code": mmdbtype.String("DE")},
			"continent": mmdbtype.Map{"code": mmdbtype.String("EU")},
			"location":  mmdbtype.Map{"latitude": mmdbtype.Float64(i%120 - 60), "longitude": mmdbtype.Float64(i%300 - 150)},
		}); err != nil {
			return "", err
		}
	}
	d, err := os.Create(database)
	if err != nil {
		return "", err
	}
	defer d.Close()
	if _, err := tree.WriteTo(d); err != nil {
		return "", err
	}
	return fmt.Sprintf("  places: {map: %q, databases: [%q]}\n", table, database), nil
}

// dnsNetwork is the n-th /24 of those that ask.
func dnsNetwork(n int) netip.Addr {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], 0x14000000+uint32(n)<<8)
	return netip.AddrFrom4(b)
}

// startGdnsd runs gdnsd with a map of networks by longest prefix.
func (s *stage) startGdnsd(ctx context.Context) (*server, error) {
	program, err := exec.LookPath("/usr/sbin/gdnsd")
	if err != nil {
		return nil, fmt.Errorf("gdnsd is not installed (make bench installs it where it may): %w", err)
	}
	address, err := freeAddress()
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(s.dir, "gdnsd")
	var nets, dcs strings.Builder
	for i := range 1024 {
		fmt.Fprintf(&nets, "        %v/16 => s%d\n", netip.AddrFrom4([4]byte{byte(20 + i>>8), byte(i)}), i%3)
	}
	for i := range 3 {
		fmt.Fprintf(&dcs, "        s%d => 198.51.100.%d\n", i, i+1)
	}
	files := map[string]string{
		"config":           strings.NewReplacer("{address}", address, "{dir}", dir, "{nets}", nets.String(), "{dcs}", dcs.String(), "{threads}", strconv.Itoa(runtime.GOMAXPROCS(0))).Replace(gdnsdConfig),
		"zones/bench.test": "@ SOA ns1 hostmaster 1 7200 1800 1209600 300\n@ NS ns1\nns1 A 127.0.0.1\nwww 20 DYNA geoip!www\n",
	}
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return nil, err
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			return nil, err
		}
	}
	p, err := s.run(ctx, "gdnsd-log", answersDNS(address), program, "-c", dir, "start")
	return &server{p, "gdnsd", "", "", address}, err
}

const gdnsdConfig = `options => {
  listen => {address}
  run_dir => {dir}/run
  state_dir => {dir}/state
  udp_threads => {threads}
  edns_client_subnet => true
}
plugins => {
  geoip => {
    maps => { m => {
      datacenters => [s0, s1, s2]
      nets => {
{nets}      }
    } }
    resources => { www => { map => m, dcmap => {
{dcs}    } } }
  }
}
`

// startPlainDNS runs the server below in a process of its own.
func (s *stage) startPlainDNS(ctx context.Context) (*server, error) {
	address, err := freeAddress()
	if err != nil {
		return nil, err
	}
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	p, err := s.run(ctx, "plain-dns", answersDNS(address), program, "-reference-dns", address)
	return &server{p, "miekg/dns", "", "", address}, err
}

// servePlainDNS answers by a hash of the client's network until ctx is done.
func servePlainDNS(ctx context.Context, address string) error {
	group, ctx := errgroup.WithContext(ctx)
	for range runtime.GOMAXPROCS(0) {
		server := &dns.Server{Addr: address, Net: "udp", ReusePort: true, UDPSize: 1232, Handler: dns.HandlerFunc(plainAnswer)}
		group.Go(server.ListenAndServe)
		context.AfterFunc(ctx, func() { _ = server.Shutdown() })
	}
	return group.Wait()
}

func plainAnswer(w dns.ResponseWriter, q *dns.Msg) {
	m := new(dns.Msg).SetReply(q)
	m.Authoritative = true
	h := fnv.New32a()
	if opt := q.IsEdns0(); opt != nil {
		m.SetEdns0(1232, opt.Do())
		for _, o := range opt.Option {
			if told, ok := o.(*dns.EDNS0_SUBNET); ok {
				h.Write(told.Address)
				scoped := *told
				scoped.SourceScope = 24
				m.IsEdns0().Option = append(m.IsEdns0().Option, &scoped)
			}
		}
	}
	m.Answer = append(m.Answer, &dns.A{
		Hdr: dns.RR_Header{Name: q.Question[0].Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 20},
		A:   net.IPv4(198, 51, 100, byte(1+h.Sum32()%6)),
	})
	m.Compress = true
	_ = w.WriteMsg(m)
}

// answersDNS asks once.
func answersDNS(address string) func() error {
	return func() error {
		m := new(dns.Msg)
		m.SetQuestion(dnsName, dns.TypeA)
		c := dns.Client{Timeout: time.Second}
		out, _, err := c.Exchange(m, address)
		if err == nil && len(out.Answer) != 1 {
			err = fmt.Errorf("%s", out)
		}
		return err
	}
}

// dnsQueries is the file of a row's queries, as dnsperf -B reads them.
func (s *stage) dnsQueries(what *row) (string, error) {
	path := filepath.Join(s.dir, fmt.Sprintf("queries-%d", what.connections))
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	f, err := os.Create(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	w := bufio.NewWriter(f)
	for i := range what.connections {
		// Not in order: what is near each other in a table is not asked for in turn.
		client := dnsNetwork(i * 7919 % what.connections)
		m := new(dns.Msg)
		m.SetQuestion(dnsName, dns.TypeA)
		m.SetEdns0(1232, false)
		m.IsEdns0().Option = []dns.EDNS0{&dns.EDNS0_SUBNET{Code: dns.EDNS0SUBNET, Family: 1, SourceNetmask: 24, Address: client.AsSlice()}}
		raw, err := m.Pack()
		if err != nil {
			return "", err
		}
		_, _ = w.Write(binary.BigEndian.AppendUint16(nil, uint16(len(raw)))) // Flush tells
		_, _ = w.Write(raw)
	}
	return path, w.Flush()
}

func prepareDNS(ctx context.Context, s *stage, to *server, what *row) error {
	_, err := loadDNS(ctx, s, to, what, 500*time.Millisecond)
	return err
}

var dnsCompleted = regexp.MustCompile(`Queries completed:\s+(\d+)`)

// loadDNS is dnsperf over UDP.
func loadDNS(ctx context.Context, s *stage, to *server, what *row, d time.Duration) (int64, error) {
	queries, err := s.dnsQueries(what)
	if err != nil {
		return 0, err
	}
	host, port, _ := net.SplitHostPort(to.udp)
	seconds := strconv.Itoa(max(1, int(d.Seconds()+0.5)))
	out, err := exec.CommandContext(ctx, "dnsperf", "-s", host, "-p", port, "-B", "-d", queries, "-l", seconds, "-c", "16", "-q", "100", "-t", "2").CombinedOutput()
	if err != nil {
		return 0, fmt.Errorf("dnsperf: %w\n%s", err, out)
	}
	if !strings.Contains(string(out), "Response codes:       NOERROR") {
		return 0, fmt.Errorf("dnsperf: %s", out)
	}
	return firstNumber("dnsperf", dnsCompleted, string(out))
}
