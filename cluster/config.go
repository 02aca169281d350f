package cluster

import (
	"cmp"
)

// Config says which cluster this node is part of, and how.
type Config struct {
	// Listen is the address, UDP and TCP, on which other nodes reach this one, such
	// as ":7946". Without it the node is alone.
	Listen string `yaml:"listen"`
	// Advertise is the address, IP or IP:port, that others are told. Default: that
	// of listen, or where that is unspecified the one from which the seeds are reached.
	Advertise string `yaml:"advertise"`
	// Seeds are nodes through which this one joins: IP:port, a name with or without a
	// port of which all addresses are tried and looked up again, such as a headless
	// service of Kubernetes. Port 7946 where there is none.
	Seeds []string `yaml:"seeds"`
	// Secrets of the cluster, each at least 16 bytes. The first encrypts, all decrypt.
	Secrets []string `yaml:"secrets"`
	// SecretFile is a file of secrets, one a line, in place of secrets. It is read
	// again by each reload.
	SecretFile string `yaml:"secret_file"`
	// Label is the name of the cluster: nodes with another do not hear each other.
	// Default edge.
	Label string `yaml:"label"`
	// Preset is lan, wan or local: how patient membership is. Default lan.
	Preset string `yaml:"preset"`
	// Site is where the node is, such as fra.
	Site string `yaml:"site"`
	// Place of the node on the globe, in degrees.
	Place *Place `yaml:"place"`
	// Public are addresses, IPs, on which clients reach the node. Default: those of
	// its listeners that are not unspecified.
	Public []string `yaml:"public"`
	// Weight is the node's share of clients against others of its site, 0 to 1000.
	// Default 100.
	Weight *int `yaml:"weight"`

	// The rest is filled in by main.

	Name    string    `yaml:"-"` // of this node, unique
	Version string    `yaml:"-"` // of the program
	Dir     string    `yaml:"-"` // for what is kept over restarts
	Speaks  []Address `yaml:"-"` // what clients may connect to
}

const (
	weightDefault = 100
	labelDefault  = "edge"
)

// WithDefaults returns the configuration with what was left out filled in.
func (c Config) WithDefaults() Config {
	c.Label = cmp.Or(c.Label, labelDefault)
	return c
}

func (c Config) place() Place {
	if c.Place == nil {
		return Place{}
	}
	return Place{Lat: c.Place.Lat, Lon: c.Place.Lon, Known: true}
}

func (c Config) weight() int {
	if c.Weight == nil {
		return weightDefault
	}
	return *c.Weight
}
