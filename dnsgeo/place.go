package dnsgeo

// Where clients are: the operator's map first, then databases, then the table
// of countries that edge brings.

import (
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"time"
)

// Place is where a client is, as far as it is known.
type Place struct {
	Country   string `json:"country,omitempty"`   // ISO 3166-1 alpha-2
	Continent string `json:"continent,omitempty"` // AF, AN, AS, EU, NA, OC, SA
	ASN       uint32 `json:"asn,omitempty"`
	Point     Point  `json:"point"`
	HasPoint  bool   `json:"has_point"`
	Site      string `json:"site,omitempty"`   // that the operator's map names for it
	Source    string `json:"source,omitempty"` // map, database, builtin, or "" where nothing knows
	// Prefer are the sites that operators prefer for the place, best first, and
	// PreferBy what for: "country DE".
	Prefer   []string `json:"prefer,omitempty"`
	PreferBy string   `json:"prefer_by,omitempty"`
}

// Locator is a source of places: an address in, the place and the network that
// it is so for out. A place without Source is not known there.
type Locator interface {
	Locate(addr netip.Addr) (Place, netip.Prefix)
}

// places is every source, compiled.
type places struct {
	cfg       Places
	table     *cidrMap // nil without
	databases []*database
	builtin   bool
	continent map[string][]string
	country   map[string][]string
	asn       map[uint32][]string
	stamps    []stamp // of the files that it was read from
}

// stamp tells whether a file has changed.
type stamp struct {
	path string
	time time.Time
	size int64
}

func stampOf(path string) stamp {
	info, err := os.Stat(path)
	if err != nil {
		return stamp{path: path}
	}
	return stamp{path, info.ModTime(), info.Size()}
}

func newPlaces(cfg *Places) (*places, error) {
	p := &places{cfg: *cfg, country: cfg.Countries, continent: cfg.Continents, builtin: cfg.Builtin == nil || *cfg.Builtin}
	for number, sites := range cfg.ASNs {
		n, err := strconv.ParseUint(number, 10, 32)
		if err != nil {
			return nil, fmt.Errorf("places: %q is no number of an autonomous system", number)
		}
		if p.asn == nil {
			p.asn = make(map[uint32][]string)
		}
		p.asn[uint32(n)] = sites
	}
	if cfg.Map != "" {
		p.stamps = append(p.stamps, stampOf(cfg.Map))
		f, err := os.Open(cfg.Map)
		if err != nil {
			return nil, fmt.Errorf("places: map: %w", err)
		}
		defer f.Close()
		if p.table, err = readCIDRMap(f); err != nil {
			return nil, fmt.Errorf("places: map %s: %w", cfg.Map, err)
		}
	}
	for _, path := range cfg.Databases {
		p.stamps = append(p.stamps, stampOf(path))
		d, err := openDatabase(path)
		if err != nil {
			return nil, fmt.Errorf("places: database %s: %w", path, err)
		}
		p.databases = append(p.databases, d)
	}
	if p.builtin {
		builtin{}.Locate(netip.IPv6Unspecified()) // unpacks its table now, not at the first query
	}
	return p, nil
}

// changed reports whether a file is another than the one that was read.
func (p *places) changed() bool {
	for _, s := range p.stamps {
		if now := stampOf(s.path); !now.time.Equal(s.time) || now.size != s.size {
			return true
		}
	}
	return false
}

// locate returns the place of an address, and the network that it is so for:
// the longest that any of the sources that were asked needs.
func (p *places) locate(addr netip.Addr) (Place, netip.Prefix) {
	bits := 0
	var place Place
	if p.table != nil {
		found, network := p.table.Locate(addr)
		bits = network.Bits()
		if found.Source != "" {
			return found, network
		}
	}
	for _, d := range p.databases {
		found, network := d.Locate(addr)
		bits = max(bits, network.Bits())
		place.add(&found)
	}
	if p.builtin && !place.HasPoint && place.Country == "" {
		found, network := builtin{}.Locate(addr)
		bits = max(bits, network.Bits())
		place.add(&found)
	}
	if !place.HasPoint && place.Country != "" {
		if c, ok := countries[place.Country]; ok {
			place.Point, place.HasPoint = c.at, true
		}
	}
	if place.Continent == "" && place.Country != "" {
		place.Continent = countries[place.Country].continent
	}
	p.prefer(&place)
	return place, netip.PrefixFrom(addr, min(bits, addr.BitLen()))
}

// add takes what was not known before.
func (p *Place) add(more *Place) {
	if more.Source == "" {
		return
	}
	if p.Source == "" {
		p.Source = more.Source
	}
	if p.Country == "" {
		p.Country = more.Country
	}
	if p.Continent == "" {
		p.Continent = more.Continent
	}
	if p.ASN == 0 {
		p.ASN = more.ASN
	}
	if !p.HasPoint {
		p.Point, p.HasPoint = more.Point, more.HasPoint
	}
}

// prefer notes the sites that operators prefer, by what says most.
func (p *places) prefer(place *Place) {
	if sites := p.asn[place.ASN]; sites != nil && place.ASN != 0 {
		place.Prefer, place.PreferBy = sites, "its autonomous system"
	} else if sites := p.country[place.Country]; sites != nil {
		place.Prefer, place.PreferBy = sites, "its country"
	} else if sites := p.continent[place.Continent]; sites != nil {
		place.Prefer, place.PreferBy = sites, "its continent"
	}
}
