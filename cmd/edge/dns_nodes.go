package main

// Members of the cluster as DNS sees them, and how nodes without one are probed.

import (
	"context"
	"crypto/tls"
	"net/http"
	"strings"
	"time"

	"edgecdn/cluster"
	"edgecdn/dnsgeo"
	"edgecdn/pool"
)

// checkNode is dnsgeo.Config.Check: the probes of endpoints. A redirect is as good an
// answer as a page, and whose certificate it is does not matter: what is looked for is
// a node that answers, not one to trust.
func checkNode(ctx context.Context, p dnsgeo.Probe, address string) error {
	probe := pool.Probe{HTTP: p.Kind != "tcp", Host: p.Host, Path: p.Path, Timeout: p.Timeout}
	if p.Kind == "https" {
		probe.TLS = &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12}
	}
	for status := http.StatusOK; status < http.StatusBadRequest; status++ {
		probe.Statuses = append(probe.Statuses, status)
	}
	return probe.Check(ctx, address)
}

// members are the cluster's as they are now; none without one.
func (n *node) members() []dnsgeo.Node {
	if n.cluster == nil {
		return nil
	}
	return dnsNodes(n.cluster.Members(), n.spread.Lags())
}

// dnsNodes turns the members into what answers are made of; lags is for how long some
// of them have missed a purge.
func dnsNodes(members []cluster.Member, lags map[string]time.Duration) []dnsgeo.Node {
	nodes := make([]dnsgeo.Node, 0, len(members))
	for i := range members {
		if members[i].Status != cluster.Left {
			is := dnsNode(&members[i])
			is.Lag = lags[is.Name]
			nodes = append(nodes, is)
		}
	}
	return nodes
}

func dnsNode(m *cluster.Member) dnsgeo.Node {
	n := dnsgeo.Node{Name: m.Name, Site: m.Site, Weight: m.Weight, Away: awayOf(m), Cold: !m.ReportAt.IsZero() && m.Report.Cold}
	if m.Place.Known {
		n.Place = &dnsgeo.Point{Latitude: m.Place.Lat, Longitude: m.Place.Lon}
	}
	h3 := true
	for _, a := range m.Public {
		if !a.IP.IsValid() || a.IP.IsUnspecified() {
			continue
		}
		n.Addresses = append(n.Addresses, a.IP)
		if a.HTTPS != 0 && n.Port == 0 {
			n.Port = int(a.HTTPS)
		}
		n.HTTPS = n.HTTPS || a.HTTPS != 0
		// One record speaks of all addresses, and of one port.
		h3 = h3 && a.H3 != 0 && a.H3 == a.HTTPS
	}
	if len(n.Addresses) == 0 && n.Away == "" {
		n.Away = "has no address for clients: name one in its cluster.public"
	}
	n.H2 = n.HTTPS
	n.H3 = n.HTTPS && h3
	for _, p := range m.Report.Probes {
		if !p.OK && strings.HasPrefix(p.Name, "h3 ") {
			n.H3 = false
		}
	}
	if m.Report.Capacity > 0 {
		n.Load = int(100 * m.Report.Load / m.Report.Capacity)
	}
	return n
}

// awayOf says what keeps a member out of the answers. One of whom nothing has been
// heard for 2 s is suspect: clients are better off elsewhere until that is settled.
func awayOf(m *cluster.Member) string {
	switch {
	case m.Out || m.Gone:
		return dnsgeo.AwayOut
	case m.Weight == 0:
		return dnsgeo.AwayOut + " (weight 0)"
	case m.Status == cluster.Dead || m.Status == cluster.Suspect:
		return dnsgeo.AwayDead
	case m.Phase == cluster.Draining:
		return dnsgeo.AwayDraining
	case m.Phase == cluster.Fenced:
		return dnsgeo.AwayFenced
	case m.Phase != cluster.Serving:
		return dnsgeo.AwayJoining
	}
	failed, looked := 0, 0
	for _, p := range m.Report.Probes {
		if strings.HasPrefix(p.Name, "h3 ") { // clients do without it
			continue
		}
		if looked++; !p.OK {
			failed++
		}
	}
	if failed > 0 && failed == looked {
		return dnsgeo.AwayUnhealthy + ": its listeners fail its own probes"
	}
	return ""
}
