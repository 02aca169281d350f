package dnsgeo

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"
)

// countedAnswers is all that is counted of answers.
func countedAnswers(s *Stats) map[string]uint64 {
	all := map[string]uint64{}
	for _, z := range s.Zones() {
		for qtype := range z.Answers {
			for rcode := range z.Answers[qtype] {
				if n := z.Answers[qtype][rcode].Load(); n > 0 {
					all[fmt.Sprintf("zone %q %s %s", z.Name, TypeLabel(qtype), RcodeLabel(rcode))] = n
				}
			}
		}
	}
	for _, site := range s.Sites() {
		if n := site.Answers.Load(); n > 0 {
			all["site "+site.Name] = n
		}
	}
	s.Countries(func(code string, n uint64) { all[fmt.Sprintf("country %q", code)] = n })
	return all
}

// Answers are counted by zone, type, rcode, site and country, the same on both paths;
// what strangers make up is not told apart.
func TestStats(t *testing.T) {
	nodes := threeSites()
	cfg := everything()
	cfg.Zones[0].Dynamic = []Dynamic{{Name: "geo"}}
	cfg.ResponseLimits.Off = true
	r := responder(t, cfg, &nodes)
	f := newFast(r)
	send := func(times int, name string, qtype uint16, network string) {
		for range times {
			m := question(name, qtype)
			if network != "" {
				withSubnet(m, network)
			}
			f.send(t, m, "192.0.2.1")
		}
	}
	send(5, "geo.cdn.example.", dns.TypeA, "133.1.0.0/16") // Japan
	send(4, "geo.cdn.example.", dns.TypeAAAA, "10.0.0.0/8")
	send(3, "www.cdn.example.", dns.TypeA, "")
	for i := range 300 {
		send(1, fmt.Sprintf("x%d.cdn.example.", i), uint16(1000+i), "")
		send(1, fmt.Sprintf("x%d.example.org.", i), dns.TypeA, "")
	}
	got := countedAnswers(&r.stats)
	sites := got["site fra"] + got["site iad"] + got["site nrt"]
	for _, site := range []string{"site fra", "site iad", "site nrt"} {
		delete(got, site) // whoever has the networks of which the place is not known
	}
	want := map[string]uint64{
		`zone "cdn.example." A NOERROR`: 8, `zone "cdn.example." AAAA NOERROR`: 4, `zone "cdn.example." other NXDOMAIN`: 300,
		`zone "" A REFUSED`: 300, `country "JP"`: 5, `country ""`: 4,
	}
	if diff := cmp.Diff(want, got); diff != "" || sites != 9 {
		t.Errorf("%d of sites; -want +got:\n%s", sites, diff)
	}
	if n := r.stats.Subnets.Load(); n != 9 {
		t.Errorf("%d queries told a network", n)
	}
	// All nodes down is counted too.
	for i := range nodes {
		nodes[i].Away = AwayDead
	}
	r.refresh(time.Now())
	send(2, "geo.cdn.example.", dns.TypeA, "")
	if n := r.stats.Down.Load(); n != 2 {
		t.Errorf("%d answers without a node that is well", n)
	}
}

// Names of sites and zones that come and go have a bound.
func TestStatsBounded(t *testing.T) {
	var s Stats
	for i := range statsMax + 500 {
		s.site(fmt.Sprint(i)).Answers.Add(1)
	}
	if n := len(s.Sites()); n != statsMax+1 || s.site("one more").Name != "other" || s.site("7").Name != "7" {
		t.Errorf("%d sites are told apart", n)
	}
}
