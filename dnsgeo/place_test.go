package dnsgeo

import (
	"bytes"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/maxmind/mmdbwriter"
	"github.com/maxmind/mmdbwriter/mmdbtype"
)

// writeDatabase makes a database in MaxMind's format.
func writeDatabase(t testing.TB, path, kind string, records map[string]mmdbtype.Map) {
	t.Helper()
	tree, err := mmdbwriter.New(mmdbwriter.Options{DatabaseType: kind, IncludeReservedNetworks: true})
	if err != nil {
		t.Fatal(err)
	}
	for cidr, record := range records {
		_, network, err := net.ParseCIDR(cidr)
		if err != nil {
			t.Fatal(err)
		}
		if err := tree.Insert(network, record); err != nil {
			t.Fatal(err)
		}
	}
	var b bytes.Buffer
	if _, err := tree.WriteTo(&b); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
}

func city(country, continent string, lat, lon float64) mmdbtype.Map {
	return mmdbtype.Map{
		"country":   mmdbtype.Map{"iso_code": mmdbtype.String(country)},
		"continent": mmdbtype.Map{"code": mmdbtype.String(continent)},
		"location":  mmdbtype.Map{"latitude": mmdbtype.Float64(lat), "longitude": mmdbtype.Float64(lon)},
	}
}

func TestPlaces(t *testing.T) {
	dir := t.TempDir()
	cities, asns, table := filepath.Join(dir, "city.mmdb"), filepath.Join(dir, "asn.mmdb"), filepath.Join(dir, "map")
	writeDatabase(t, cities, "Test-City", map[string]mmdbtype.Map{
		"192.0.2.0/25":    city("FR", "EU", 48.9, 2.4),
		"2001:db8:1::/48": city("JP", "AS", 35.7, 139.7),
		"198.51.100.0/24": {"country": mmdbtype.Map{"iso_code": mmdbtype.String("BR")}}, // no location
		"203.0.113.0/24":  city("<script>", "??", 1000, 0),
	})
	writeDatabase(t, asns, "Test-ASN", map[string]mmdbtype.Map{
		"192.0.2.0/26": {"autonomous_system_number": mmdbtype.Uint32(64500)},
	})
	if err := os.WriteFile(table, []byte("192.0.2.128/28 fra\n192.0.2.240/28 1.5,2.5\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	p, err := newPlaces(&Places{
		Map: table, Databases: []string{cities, asns},
		ASNs: map[string][]string{"64500": {"par", "fra"}}, Countries: map[string][]string{"BR": {"gru"}}, Continents: map[string][]string{"AS": {"nrt"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		addr string
		want Place
		bits int
	}{
		{"192.0.2.129", Place{Site: "fra", Source: "map", Prefer: []string{"fra"}, PreferBy: "its network"}, 28},
		{"192.0.2.241", Place{Point: Point{1.5, 2.5}, HasPoint: true, Source: "map"}, 28},
		{"192.0.2.1", Place{Country: "FR", Continent: "EU", ASN: 64500, Point: Point{48.9, 2.4}, HasPoint: true, Source: "database",
			Prefer: []string{"par", "fra"}, PreferBy: "its autonomous system"}, 26},
		{"192.0.2.65", Place{Country: "FR", Continent: "EU", Point: Point{48.9, 2.4}, HasPoint: true, Source: "database"}, 26},
		{"2001:db8:1::9", Place{Country: "JP", Continent: "AS", Point: Point{35.7, 139.7}, HasPoint: true, Source: "database",
			Prefer: []string{"nrt"}, PreferBy: "its continent"}, 48},
		{"198.51.100.7", Place{Country: "BR", Continent: "SA", Point: countries["BR"].at, HasPoint: true, Source: "database",
			Prefer: []string{"gru"}, PreferBy: "its country"}, 24},
		{"8.8.8.8", Place{Country: "US", Continent: "NA", Point: countries["US"].at, HasPoint: true, Source: "builtin"}, 24},
	} {
		got, network := p.locate(netip.MustParseAddr(c.addr))
		if diff := cmp.Diff(c.want, got); diff != "" || network.Bits() != c.bits {
			t.Errorf("%s: /%d, want /%d; (-want +got)\n%s", c.addr, network.Bits(), c.bits, diff)
		}
	}
	if got, _ := p.locate(netip.MustParseAddr("203.0.113.1")); got.Country == "<script>" || got.Continent == "??" {
		t.Errorf("what a database says is believed whatever it is: %+v", got)
	}
}

func TestBuiltinKnowsTheEnds(t *testing.T) {
	for _, text := range []string{"0.0.0.0", "255.255.255.255", "::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "2606:4700::1"} {
		addr := netip.MustParseAddr(text)
		place, network := builtin{}.Locate(addr)
		t.Logf("%s: %s %v", text, place.Country, network)
		// How large the network is that a country is known for it does not say.
		if want := map[bool]int{true: 24, false: 56}[addr.Is4()]; network.Bits() != want || !network.Contains(addr) {
			t.Errorf("%s is placed with %v, want a /%d", text, network, want)
		}
	}
	for code, c := range countries {
		if c.continent == "" || c.at == (Point{}) {
			t.Errorf("%s has no continent or no centre", code)
		}
	}
}

// A database that is broken anywhere is refused or answers nothing.
func FuzzDatabase(f *testing.F) {
	path := filepath.Join(f.TempDir(), "seed.mmdb")
	writeDatabase(f, path, "Test-City", map[string]mmdbtype.Map{"192.0.2.0/24": city("FR", "EU", 48.9, 2.4)})
	data, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data, 0, byte(0))
	f.Add(data, 40, byte(0xff))
	f.Fuzz(func(t *testing.T, data []byte, at int, with byte) {
		if len(data) > 0 && at >= 0 {
			data = bytes.Clone(data)
			data[at%len(data)] ^= with
		}
		path := filepath.Join(t.TempDir(), "fuzzed.mmdb")
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		d, err := openDatabase(path)
		if err != nil {
			return
		}
		d.Locate(netip.MustParseAddr("192.0.2.1"))
		d.Locate(netip.MustParseAddr("2001:db8::1"))
	})
}

func TestPlacesAreReadAgain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "city.mmdb")
	writeDatabase(t, path, "Test-City", map[string]mmdbtype.Map{"192.0.2.0/24": city("FR", "EU", 48.9, 2.4)})
	r := responder(t, Config{Places: Places{Databases: []string{path}}}, nil)
	country := func() string {
		place, _ := r.snap.Load().zones.places.locate(netip.MustParseAddr("192.0.2.1"))
		return place.Country
	}
	if err := os.WriteFile(path, []byte("half of a database"), 0o600); err != nil {
		t.Fatal(err)
	}
	failed := r.reread(nil)
	if r.reread(failed); country() != "FR" || r.stats.RereadFailures.Load() != 1 {
		t.Errorf("a broken file was used or tried again as it was: %s, %d failures", country(), r.stats.RereadFailures.Load())
	}
	writeDatabase(t, path, "Test-City", map[string]mmdbtype.Map{"192.0.2.0/24": city("CL", "SA", -33.4, -70.7)})
	if failed = r.reread(failed); failed != nil || country() != "CL" {
		t.Errorf("the new file was not taken: %v %s", failed, country())
	}
}
