package dnsgeo

// Where clients are: the operator's map first, then databases, then the table
// of countries that edge brings.

import "net/netip"

// Place is where a client is, as far as it is known.
type Place struct {
	Country   string // ISO 3166-1 alpha-2
	Continent string // AF, AN, AS, EU, NA, OC, SA
	ASN       uint32
	Point     Point
	HasPoint  bool
	Site      string // that the operator's map names for it
	Source    string // "map", "database", "builtin", or "" where nothing knows
	// Prefer are the sites that operators prefer for the place, best first, and
	// PreferBy what for: "country DE".
	Prefer   []string
	PreferBy string
}

// places is every source, compiled.
type places struct {
	cfg *Places
}

func newPlaces(cfg *Places) (*places, error) {
	return &places{cfg: cfg}, nil
}

// locate returns the place of an address, and the network that it is so for.
func (p *places) locate(addr netip.Addr) (Place, netip.Prefix) {
	return Place{}, netip.PrefixFrom(addr, 0)
}
