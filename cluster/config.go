package cluster

import (
	"cmp"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
)

// Config says which cluster this node is part of, and how.
type Config struct {
	// Listen is the address, UDP and TCP, on which other nodes reach this one, such
	// as ":7946". Without it the node is alone. A change wants a restart.
	Listen string `yaml:"listen"`
	// Advertise is the address, IP or IP:port, that others are told. Default: that
	// of listen, or where that is unspecified the one from which the first seed is
	// reached. A change wants a restart.
	Advertise string `yaml:"advertise"`
	// Seeds are nodes through which this one joins: an IP or a name, with or without
	// a port (7946). All addresses of a name are tried, and looked up again each
	// time, so that it may be a headless service of Kubernetes.
	Seeds []string `yaml:"seeds"`
	// Secrets of the cluster, each at least 16 bytes. The first encrypts, all decrypt.
	Secrets []string `yaml:"secrets"`
	// SecretFile is a file of secrets, one a line, which come after those of secrets.
	// Each reload reads it again.
	SecretFile string `yaml:"secret_file"`
	// Label is the cluster's name: nodes with another are not let in. Default edge. A
	// change wants a restart.
	Label string `yaml:"label"`
	// Preset is how patient membership is: lan, wan where nodes are far apart, or
	// local for trials on one machine. Default lan. A change wants a restart.
	Preset string `yaml:"preset"`
	// Site is where the node is, such as fra: a point of presence.
	Site string `yaml:"site"`
	// Place of the node on the globe, in degrees.
	Place *Place `yaml:"place"`
	// Public are the IP addresses on which clients reach the node. Default: those
	// that its listeners name, or the advertised one where they name none.
	Public []string `yaml:"public"`
	// Weight is the node's share of clients among those of its site, 0 to 1000.
	// Default 100.
	Weight *int `yaml:"weight"`

	// The rest is filled in by main.

	// Name of this node, unique in the cluster.
	Name string `yaml:"-"`
	// Version of the program.
	Version string `yaml:"-"`
	// Dir for what is kept over restarts.
	Dir string `yaml:"-"`
	// Speaks are the listeners for clients. An unspecified IP stands for all public ones.
	Speaks []Address `yaml:"-"`
}

const (
	weightDefault  = 100
	weightMax      = 1000
	labelDefault   = "edge"
	presetDefault  = "lan"
	portDefault    = 7946
	secretBytesMin = 16
	secretBytesMax = 1 << 10
	secretsMax     = 4
	seedsMax       = 64
	nameBytesMax   = 64
	siteBytesMax   = 32
	addressesMax   = 8
)

// On says whether the node is part of a cluster.
func (c Config) On() bool { return c.Listen != "" }

// WithDefaults returns the configuration with what was left out filled in.
func (c Config) WithDefaults() Config {
	if !c.On() {
		return c
	}
	c.Label = cmp.Or(c.Label, labelDefault)
	c.Preset = cmp.Or(c.Preset, presetDefault)
	if c.Weight == nil {
		weight := weightDefault
		c.Weight = &weight
	}
	return c
}

// Validate reports everything that cannot work, each by its path in this struct.
// It opens no file.
func (c Config) Validate(report func(path, problem string)) {
	if !c.On() {
		if len(c.Seeds)+len(c.Secrets) > 0 || c.SecretFile+c.Advertise+c.Site+c.Label != "" || c.Place != nil {
			report("listen", `is missing: say where other nodes reach this one, such as listen: ":7946", or leave cluster out`)
		}
		return
	}
	if _, _, err := splitAddress(c.Listen); err != nil {
		report("listen", fmt.Sprintf(`%q is no address: write host:port with an IP or nothing as host, such as ":7946"`, c.Listen))
	}
	if c.Advertise != "" {
		if a, err := parseEndpoint(c.Advertise, portDefault); err != nil || a.Addr().IsUnspecified() {
			report("advertise", fmt.Sprintf("%q is no address that others could use: write an IP, with a port where it is not that of listen", c.Advertise))
		}
	}
	c.validateSecrets(report)
	if len(c.Seeds) > seedsMax {
		report("seeds", fmt.Sprintf("%d seeds are too many: at most %d; a DNS name may have many addresses", len(c.Seeds), seedsMax))
	}
	for i, seed := range c.Seeds {
		if _, _, err := splitSeed(seed); err != nil {
			report(fmt.Sprintf("seeds[%d]", i), fmt.Sprintf("%q is no seed: write an IP or a name, with a port where it is not %d", seed, portDefault))
		}
	}
	if !isName(c.Label, nameBytesMax) {
		report("label", fmt.Sprintf(`%q is no label: use up to %d letters, digits, ".", "-" and "_", a letter first`, c.Label, nameBytesMax))
	}
	if !slices.Contains([]string{"lan", "wan", "local"}, c.Preset) {
		report("preset", fmt.Sprintf("%q is no preset: write lan, wan or local", c.Preset))
	}
	if c.Site != "" && !isName(c.Site, siteBytesMax) {
		report("site", fmt.Sprintf(`%q is no site: use up to %d letters, digits, ".", "-" and "_", a letter first`, c.Site, siteBytesMax))
	}
	if p := c.Place; p != nil && !(p.Lat >= -90 && p.Lat <= 90 && p.Lon >= -180 && p.Lon <= 180) {
		report("place", fmt.Sprintf("%v, %v is not on the globe: lat is -90 to 90, lon -180 to 180", p.Lat, p.Lon))
	}
	if w := *c.Weight; w < 0 || w > weightMax {
		report("weight", fmt.Sprintf("%d is out of bounds: choose from 0 to %d", w, weightMax))
	}
	if len(c.Public) > addressesMax {
		report("public", fmt.Sprintf("%d addresses are too many: at most %d", len(c.Public), addressesMax))
	}
	for i, p := range c.Public {
		if a, err := netip.ParseAddr(p); err != nil || a.IsUnspecified() || a.Zone() != "" {
			report(fmt.Sprintf("public[%d]", i), fmt.Sprintf("%q is no IP address that clients could use", p))
		}
	}
}

func (c Config) validateSecrets(report func(path, problem string)) {
	switch {
	case len(c.Secrets) == 0 && c.SecretFile == "":
		report("secrets", "is missing: without a secret anybody could join; make one with openssl rand -base64 32 and give it to all nodes, by secret_file or as ${EDGE_CLUSTER_SECRET}")
	case len(c.Secrets) > secretsMax:
		report("secrets", fmt.Sprintf("%d secrets are too many: at most %d; old ones go once all nodes have the new one", len(c.Secrets), secretsMax))
	}
	for i, s := range c.Secrets {
		if problem := secretProblem(s); problem != "" {
			report(fmt.Sprintf("secrets[%d]", i), problem)
		}
		if slices.Index(c.Secrets, s) < i {
			report(fmt.Sprintf("secrets[%d]", i), "is there twice")
		}
	}
}

func secretProblem(s string) string {
	if len(s) < secretBytesMin || len(s) > secretBytesMax {
		return fmt.Sprintf("has %d bytes: use %d to %d, such as openssl rand -base64 32 makes", len(s), secretBytesMin, secretBytesMax)
	}
	return ""
}

// secrets returns them from where they are kept, the one that encrypts first.
func (c Config) secrets() ([]string, error) {
	secrets := slices.Clone(c.Secrets)
	if c.SecretFile == "" {
		return secrets, nil
	}
	info, err := os.Stat(c.SecretFile)
	if err == nil && info.Size() > secretsMax*2*secretBytesMax {
		err = fmt.Errorf("%d bytes are too many", info.Size())
	}
	var text []byte
	if err == nil {
		text, err = os.ReadFile(c.SecretFile)
	}
	if err != nil {
		return nil, fmt.Errorf("cluster.secret_file: %w", err)
	}
	for line := range strings.Lines(string(text)) {
		if line = strings.TrimSpace(line); line != "" && !slices.Contains(secrets, line) {
			secrets = append(secrets, line)
		}
	}
	for i, s := range secrets {
		if problem := secretProblem(s); problem != "" {
			return nil, fmt.Errorf("cluster.secret_file: %s: secret %d %s", c.SecretFile, i+1, problem)
		}
	}
	if len(secrets) == 0 || len(secrets) > secretsMax {
		return nil, fmt.Errorf("cluster.secret_file: %s makes %d secrets: write 1 to %d, one a line, the one that encrypts first", c.SecretFile, len(secrets), secretsMax)
	}
	return secrets, nil
}

func (c Config) place() Place {
	if c.Place == nil {
		return Place{}
	}
	return Place{Lat: c.Place.Lat, Lon: c.Place.Lon, Known: true}
}

// speaks returns the public addresses, at most addressesMax.
func (c Config) speaks(advertised netip.Addr) []Address {
	public := []netip.Addr{advertised}
	if len(c.Public) > 0 {
		public = public[:0]
		for _, p := range c.Public {
			if a, err := netip.ParseAddr(p); err == nil {
				public = append(public, a.Unmap())
			}
		}
	}
	var all []Address
	add := func(a Address) {
		for i := range all {
			if all[i].IP == a.IP {
				all[i].HTTP, all[i].HTTPS, all[i].H3 = cmp.Or(all[i].HTTP, a.HTTP), cmp.Or(all[i].HTTPS, a.HTTPS), cmp.Or(all[i].H3, a.H3)
				return
			}
		}
		if len(all) < addressesMax {
			all = append(all, a)
		}
	}
	for _, a := range c.Speaks {
		if len(c.Public) == 0 && !a.IP.IsUnspecified() {
			add(a)
			continue
		}
		for _, ip := range public {
			add(Address{IP: ip, HTTP: a.HTTP, HTTPS: a.HTTPS, H3: a.H3})
		}
	}
	return all
}

// splitAddress reads a listen address; the zero Addr is unspecified.
func splitAddress(s string) (netip.Addr, uint16, error) {
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		return netip.Addr{}, 0, err
	}
	p, err := strconv.ParseUint(port, 10, 16)
	if err != nil || host == "" {
		return netip.Addr{}, uint16(p), err
	}
	a, err := netip.ParseAddr(host)
	return a.Unmap(), uint16(p), err
}

// parseEndpoint reads IP or IP:port.
func parseEndpoint(s string, port uint16) (netip.AddrPort, error) {
	if a, err := netip.ParseAddr(s); err == nil {
		return netip.AddrPortFrom(a.Unmap(), port), nil
	}
	a, err := netip.ParseAddrPort(s)
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()), err
}

// splitSeed reads a seed, which is an IP or a name, with or without a port.
func splitSeed(s string) (host string, port uint16, err error) {
	if a, err := parseEndpoint(s, portDefault); err == nil {
		return a.Addr().String(), a.Port(), nil
	}
	host, port = s, portDefault
	if h, p, ok := strings.Cut(s, ":"); ok {
		n, err := strconv.ParseUint(p, 10, 16)
		if err != nil || n == 0 {
			return "", 0, fmt.Errorf("cluster: port %q", p)
		}
		host, port = h, uint16(n)
	}
	if host == "" || len(host) > 253 || strings.ContainsAny(host, "/@ \\?#\t\r\n[]") {
		return "", 0, fmt.Errorf("cluster: host %q", host)
	}
	return host, port, nil
}

// isName accepts what config accepts as the name of a node.
func isName(s string, bytesMax int) bool {
	for i := range len(s) {
		c := s[i]
		letter := c|0x20 >= 'a' && c|0x20 <= 'z'
		if !letter && (i == 0 || (c < '0' || c > '9') && c != '.' && c != '-' && c != '_') {
			return false
		}
	}
	return s != "" && len(s) <= bytesMax
}
