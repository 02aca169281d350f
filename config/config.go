// Package config reads edge.yaml: strictly, with every problem told at once by
// file, line and key, and what to do about it. What the keys mean is each room's
// affair; its Config struct is a section here.
//
// The walk of a file: decode.go (YAML nodes to structs, expanding the
// environment, noting the line of each key) -> the defaults of each room ->
// Validate -> a Config. reload.go does the same while the node runs, and
// watch.go says when.
package config

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"edgecdn/admin"
	"edgecdn/cache/store"
	"edgecdn/cluster"
	"edgecdn/dnsgeo"
	"edgecdn/origin"
	"edgecdn/route"
	"edgecdn/server"
)

// Config is a whole configuration. Load, Parse and TryOut return it valid and
// with its defaults filled in. It must not be changed afterwards.
type Config struct {
	// Node is this node's name in Via and Cache-Status. Default edge. A change
	// wants a restart.
	Node string `yaml:"node"`
	// Data is the directory for what the node keeps: the disk tier where
	// store.disk is left out, a development certificate, the admin token.
	// Default ./data. A change wants a restart.
	Data string `yaml:"data"`
	// Server says where clients are served, and the limits they are held to.
	Server server.Config `yaml:"server"`
	// Admin is the operators' side: health, metrics, reload.
	Admin admin.Config `yaml:"admin"`
	// Cluster says with which other nodes this one works together, and where it is.
	// Without cluster.listen it is alone.
	Cluster cluster.Config `yaml:"cluster"`
	// Log is the log of events. Requests have their own: server.access_log.
	Log Log `yaml:"log"`
	// Store sizes the tiers of the cache. Sizes may change with a reload;
	// directories come and go with a restart only.
	Store store.Config `yaml:"store"`
	// Origins by the name that hosts and routes use for them.
	Origins map[string]origin.Config `yaml:"origins"`
	// Hosts are the web properties that are served. At least one.
	Hosts []route.Host `yaml:"hosts"`
	// DNS answers for zones with the nodes nearest to each client. Left out: no DNS.
	DNS *dnsgeo.Config `yaml:"dns"`

	dnsAlone bool // see LoadDNS

	name    string          // of the file, in errors
	hash    string          // of its content
	lines   map[string]int  // of its keys
	secrets map[string]bool // paths of values to mask
	unnamed bool            // node was left out
}

// Log says what the node tells about itself, on standard error.
type Log struct {
	// Level is debug, info, warn or error: what is less severe is left out.
	// Default info.
	Level string `yaml:"level"`
	// Format is text or json. Default: text at a terminal, else json. A change
	// wants a restart.
	Format string `yaml:"format"`
}

const (
	nodeDefault   = "edge"
	dataDefault   = "./data"
	levelDefault  = "info"
	originsMax    = 1000
	nameBytesMax  = 64
	fileBytesMax  = 4 << 20
	tryOutOrigin  = "default"
	listenerNone  = "off"
	httpDefault   = "127.0.0.1:8080"
	httpsDefault  = "127.0.0.1:8443"
	diskDirectory = "cache" // below the data directory

	clusterDirectory = "cluster"
)

// Load reads and parses the file at path with the process's environment.
func Load(path string) (*Config, error) {
	data, err := read(path)
	if err != nil {
		return nil, err
	}
	return Parse(path, data, os.LookupEnv)
}

// LoadDNS reads the file at path for a node that answers DNS and nothing else:
// sections of other rooms are decoded, but need not be there nor make sense.
func LoadDNS(path string) (*Config, error) {
	data, err := read(path)
	if err != nil {
		return nil, err
	}
	return parse(path, data, os.LookupEnv, true)
}

// read returns the file's content, bounded.
func read(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("config: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, fileBytesMax+1))
	if err != nil {
		return nil, fmt.Errorf("config: %w", err)
	}
	return data, nil
}

// Parse reads the configuration in data; name stands for it in errors, which are
// of type *Error. env looks variables up, as os.LookupEnv does.
func Parse(name string, data []byte, env func(name string) (string, bool)) (*Config, error) {
	return parse(name, data, env, false)
}

func parse(name string, data []byte, env func(name string) (string, bool), dnsAlone bool) (*Config, error) {
	d := newDecoder(name, env)
	c := &Config{name: name, lines: d.lines, secrets: d.secrets, dnsAlone: dnsAlone}
	d.document(data, c)
	if d.fatal {
		return nil, d.err()
	}
	c.fillDefaults()
	c.validate(d.report)
	if err := d.err(); err != nil {
		return nil, err
	}
	sum := sha256.Sum256(data)
	c.hash = hex.EncodeToString(sum[:])
	return c, nil
}

// TryOut returns the configuration behind `edge serve --origin URL`: one host
// for all names, served from one origin, which may be a directory, too. Addresses that are "" get a default on
// loopback; "off" leaves a listener out.
func TryOut(originURL, http, https, adminListen, data string) (*Config, error) {
	listen := func(address, otherwise string) []string {
		if address == listenerNone {
			return nil
		}
		return []string{cmp.Or(address, otherwise)}
	}
	c := &Config{
		Data:    data,
		Server:  server.Config{HTTP: listen(http, httpDefault), HTTPS: listen(https, httpsDefault)},
		Admin:   admin.Config{Listen: adminListen},
		Origins: map[string]origin.Config{tryOutOrigin: tryOutOriginAt(originURL)},
		Hosts:   []route.Host{{Names: []string{"*"}, Policy: route.Policy{Origin: tryOutOrigin}}},
	}
	d := newDecoder("flags", nil)
	c.fillDefaults()
	c.validate(d.report)
	if err := d.err(); err != nil {
		return nil, err
	}
	effective, err := c.Effective()
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(effective)
	c.hash = hex.EncodeToString(sum[:])
	return c, nil
}

// tryOutOriginAt takes what begins like a path for a directory.
func tryOutOriginAt(where string) origin.Config {
	if where == "." || where == ".." || strings.HasPrefix(where, "/") || strings.HasPrefix(where, "./") || strings.HasPrefix(where, "../") {
		return origin.Config{Directory: where}
	}
	return origin.Config{URL: where}
}

// Hash identifies what the configuration was read from: nodes of a cluster with
// one file have one hash.
func (c *Config) Hash() string { return c.hash }

func (c *Config) fillDefaults() {
	c.unnamed = c.Node == ""
	c.Node = cmp.Or(c.Node, nodeDefault)
	c.Data = cmp.Or(c.Data, dataDefault)
	c.Log.Level = cmp.Or(c.Log.Level, levelDefault)
	c.Server = c.Server.WithDefaults()
	c.Server.Data = c.Data
	c.Admin = c.Admin.WithDefaults()
	c.Cluster = c.Cluster.WithDefaults()
	c.Cluster.Name, c.Cluster.Dir = c.Node, filepath.Join(c.Data, clusterDirectory)
	if c.Store.Disk == nil {
		c.Store.Disk = []store.DiskConfig{{Path: filepath.Join(c.Data, diskDirectory)}}
	}
	c.Store = c.Store.WithDefaults()
	for name, o := range c.Origins {
		c.Origins[name] = o.WithDefaults()
	}
	if c.DNS != nil {
		dns := c.DNS.WithDefaults()
		c.DNS = &dns
	}
	for i := range c.Hosts {
		c.Hosts[i] = c.Hosts[i].WithDefaults()
		if file := c.Hosts[i].ClientCA; file != "" {
			c.Server.ClientCAs = append(c.Server.ClientCAs, file)
		}
	}
}

// validate collects what every room has to say.
func (c *Config) validate(report func(path, problem string)) {
	under := func(section string) func(path, problem string) {
		return func(path, problem string) { report(join(section, path), problem) }
	}
	c.validateNames(report)
	if c.dnsAlone {
		if c.DNS == nil || len(c.DNS.Listen) == 0 {
			report("dns.listen", `is missing: give addresses for DNS, such as [":53"]`)
		}
		if c.DNS != nil {
			c.DNS.Validate(under("dns"))
		}
		c.Admin.Validate(under("admin"))
		return
	}
	c.validateOwn(report)
	c.Server.Validate(under("server"))
	c.Admin.Validate(under("admin"))
	c.Cluster.Validate(under("cluster"))
	c.Store.Validate(under("store"))
	for _, name := range slices.Sorted(maps.Keys(c.Origins)) {
		c.Origins[name].Validate(under(join("origins", name)))
	}
	if c.DNS != nil {
		c.DNS.Validate(under("dns"))
	}
	route.ValidateHosts(c.Hosts, c.originProblem, under("hosts"))
}

func (c *Config) originProblem(name string) string {
	if _, ok := c.Origins[name]; ok {
		return ""
	}
	if near := nearest(name, slices.Collect(maps.Keys(c.Origins))); near != "" {
		return fmt.Sprintf("there is no origin %q: did you mean %q?", name, near)
	}
	return fmt.Sprintf("there is no origin %q: add it under origins", name)
}

func (c *Config) validateNames(report func(path, problem string)) {
	if !isName(c.Node) {
		report("node", fmt.Sprintf(`%q cannot be written in Via and Cache-Status: use up to %d letters, digits, ".", "-" and "_", a letter first`, c.Node, nameBytesMax))
	}
	if c.Cluster.On() && c.unnamed {
		report("cluster", "wants a name: in a cluster each node has a name of its own, such as node: edge-fra-1")
	}
	if !slices.Contains([]string{"debug", "info", "warn", "error"}, c.Log.Level) {
		report("log.level", fmt.Sprintf("%q is no level: write debug, info, warn or error", c.Log.Level))
	}
	if !slices.Contains([]string{"", "text", "json"}, c.Log.Format) {
		report("log.format", fmt.Sprintf("%q is no format: write text or json", c.Log.Format))
	}
}

func (c *Config) validateOwn(report func(path, problem string)) {
	if len(c.Server.HTTP)+len(c.Server.HTTPS) == 0 {
		report("server", `listens nowhere: give addresses under http or https, such as http: [":80"]`)
	}
	for i := range c.Hosts {
		if c.Hosts[i].ClientCA != "" && len(c.Server.HTTPS) == 0 {
			report(fmt.Sprintf("hosts[%d].client_ca", i), "asks for certificates where nothing listens for TLS: give addresses under server.https")
		}
	}
	for i, name := range c.Server.TLS.ACME.Names {
		byDNS := c.Server.TLS.ACME.Challenge != "" || strings.HasPrefix(name, "*.")
		if byDNS && !c.Cluster.On() && (c.DNS == nil || len(c.DNS.Listen) == 0) {
			report(fmt.Sprintf("server.tls.acme.names[%d]", i), fmt.Sprintf("%q is proven by DNS, and neither this node nor a cluster answers any: see dns", name))
		}
	}
	if len(c.Hosts) == 0 {
		report("hosts", `is missing: name at least one host, such as {names: ["*"], origin: web}`)
	}
	if len(c.Origins) > originsMax {
		report("origins", fmt.Sprintf("%d origins are too many: at most %d", len(c.Origins), originsMax))
	}
	for _, name := range slices.Sorted(maps.Keys(c.Origins)) {
		if !isName(name) {
			report(join("origins", name), fmt.Sprintf(`%q is no name of an origin: use up to %d letters, digits, ".", "-" and "_", a letter first`, name, nameBytesMax))
		}
	}
}

// isName accepts what is a pseudonym in Via (RFC 9110 7.6.3), a token in
// Cache-Status (RFC 9651 3.3.4), and a metric label that reads well.
func isName(s string) bool {
	for i := range len(s) {
		c := s[i]
		letter := c|0x20 >= 'a' && c|0x20 <= 'z'
		if !letter && (i == 0 || (c < '0' || c > '9') && c != '.' && c != '-' && c != '_') {
			return false
		}
	}
	return s != "" && len(s) <= nameBytesMax
}
