package dnsgeo

// Databases in MaxMind's format: city, country, ASN.

import (
	"fmt"
	"net/netip"
	"os"
	"sync/atomic"

	"github.com/oschwald/maxminddb-golang/v2"
)

const databaseBytesMax = 1 << 30

// database is one file, read whole: a mapped file that somebody cuts short
// would end the program.
type database struct {
	reader *maxminddb.Reader
	// recent are records that were decoded, by their offset. Two lookups that race
	// for an entry write the same.
	recent [1 << 13]atomic.Pointer[decoded]
}

// decoded is a record of a database.
type decoded struct {
	offset uintptr
	place  Place
}

// record is what we read of one.
type record struct {
	Country struct {
		ISOCode string `maxminddb:"iso_code"`
	} `maxminddb:"country"`
	Registered struct {
		ISOCode string `maxminddb:"iso_code"`
	} `maxminddb:"registered_country"`
	Continent struct {
		Code string `maxminddb:"code"`
	} `maxminddb:"continent"`
	Location struct {
		Latitude  *float64 `maxminddb:"latitude"`
		Longitude *float64 `maxminddb:"longitude"`
	} `maxminddb:"location"`
	ASN uint32 `maxminddb:"autonomous_system_number"`
}

func openDatabase(path string) (*database, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Size() > databaseBytesMax {
		return nil, fmt.Errorf("is larger than %d MiB", databaseBytesMax>>20)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	reader, err := maxminddb.OpenBytes(data)
	if err != nil {
		return nil, fmt.Errorf("is no database in MaxMind's format, or not whole: %w", err)
	}
	return &database{reader: reader}, nil
}

// Locate returns what the database says of an address. What is broken in it is
// as what is not there.
func (d *database) Locate(addr netip.Addr) (Place, netip.Prefix) {
	if addr.Is6() && d.reader.Metadata.IPVersion == 4 {
		return Place{}, netip.PrefixFrom(addr, 0)
	}
	found := d.reader.Lookup(addr)
	if found.Err() != nil {
		return Place{}, netip.PrefixFrom(addr, 0)
	}
	network := found.Prefix()
	if network.Addr().Is4() != addr.Is4() {
		network = netip.PrefixFrom(addr, 0)
	}
	if !found.Found() {
		return Place{}, network
	}
	slot := &d.recent[uint64(found.Offset())*0x9e3779b97f4a7c15>>51]
	if have := slot.Load(); have != nil && have.offset == found.Offset() {
		return have.place, network
	}
	var r record
	if found.Decode(&r) != nil {
		return Place{}, network
	}
	fresh := &decoded{found.Offset(), r.place()}
	slot.Store(fresh)
	return fresh.place, network
}

func (r *record) place() Place {
	p := Place{Country: r.Country.ISOCode, Continent: r.Continent.Code, ASN: r.ASN, Source: "database"}
	if p.Country == "" {
		p.Country = r.Registered.ISOCode
	}
	// What comes from a file may be anything: labels and distances are not.
	if !isCode(p.Country) {
		p.Country = ""
	}
	if !isCode(p.Continent) {
		p.Continent = ""
	}
	if lat, lon := r.Location.Latitude, r.Location.Longitude; lat != nil && lon != nil &&
		*lat >= -90 && *lat <= 90 && *lon >= -180 && *lon <= 180 {
		p.Point, p.HasPoint = Point{*lat, *lon}, true
	}
	return p
}
