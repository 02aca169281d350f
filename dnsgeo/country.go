package dnsgeo

// The table of countries that edge brings: by address from iploc, centres from
// Natural Earth.

import (
	_ "embed"
	"net/netip"
	"strconv"
	"strings"

	"github.com/phuslu/iploc"
)

//go:embed centroids.csv
var centroids string

// country is what is known of one.
type country struct {
	at        Point
	continent string
}

// countries by code.
var countries = countryTable()

// continentMembers lists the countries of each continent. A country on two is
// where most of its people are.
var continentMembers = map[string]string{
	"AF": "AO BF BI BJ BW CD CF CG CI CM CV DJ DZ EG EH ER ET GA GH GM GN GQ GW KE KM LR LS LY MA MG ML MR MU MW MZ NA NE NG RE RW SC SD SH SL SN SO SS ST SZ TD TG TN TZ UG YT ZA ZM ZW",
	"AN": "AQ BV GS HM TF",
	"AS": "AE AF AM AZ BD BH BN BT CC CN CX CY GE HK ID IL IN IO IQ IR JO JP KG KH KP KR KW KZ LA LB LK MM MN MO MV MY NP OM PH PK PS QA SA SG SY TH TJ TL TM TR TW UZ VN YE",
	"EU": "AD AL AT AX BA BE BG BY CH CZ DE DK EE ES FI FO FR GB GG GI GR HR HU IE IM IS IT JE LI LT LU LV MC MD ME MK MT NL NO PL PT RO RS RU SE SI SJ SK SM UA VA XK",
	"NA": "AG AI AW BB BL BM BQ BS BZ CA CR CU CW DM DO GD GL GP GT HN HT JM KN KY LC MF MQ MS MX NI PA PM PR SV SX TC TT US VC VG VI",
	"OC": "AS AU CK FJ FM GU KI MH MP NC NF NR NU NZ PF PG PN PW SB TK TO TV UM VU WF WS",
	"SA": "AR BO BR CL CO EC FK GF GY PE PY SR UY VE",
}

func countryTable() map[string]country {
	table := make(map[string]country)
	for continent, members := range continentMembers {
		for _, code := range strings.Fields(members) {
			table[code] = country{continent: continent}
		}
	}
	for line := range strings.Lines(centroids) {
		fields := strings.SplitN(line, ",", 4)
		if len(fields) != 4 || strings.HasPrefix(line, "#") {
			continue
		}
		lat, err1 := strconv.ParseFloat(fields[1], 64)
		lon, err2 := strconv.ParseFloat(fields[2], 64)
		if err1 != nil || err2 != nil { // the heading
			continue
		}
		table[fields[0]] = country{Point{lat, lon}, table[fields[0]].continent}
	}
	return table
}

// builtin locates by iploc, which knows the country alone, and not how large the
// network is that it knows it for: it counts as what spreading uses.
type builtin struct{}

// Locate returns the country of an address, at its centre.
func (builtin) Locate(addr netip.Addr) (Place, netip.Prefix) {
	network := netip.PrefixFrom(addr, spreadV6)
	if addr.Is4() {
		network = netip.PrefixFrom(addr, spreadV4)
	}
	code := iploc.IPCountry(addr)
	if c, ok := countries[code]; ok {
		return Place{Country: code, Continent: c.continent, Point: c.at, HasPoint: true, Source: "builtin"}, network
	}
	return Place{}, network
}
