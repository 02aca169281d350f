package main

// The cluster as operators see it, and what they say of it.

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"edgecdn/admin"
	"edgecdn/cluster"
)

// nodes is the cluster as operators see it.
func (n *node) nodes() admin.NodeList {
	list := admin.NodeList{Nodes: []admin.Node{}}
	if n.state.now() == starting || n.cluster == nil {
		return list
	}
	list.Clustered = true
	for _, m := range n.cluster.Members() {
		list.Nodes = append(list.Nodes, describeNode(&m))
	}
	for _, f := range n.cluster.Facts().All(cluster.KindOut) {
		list.Out = append(list.Out, admin.NodeFact{Key: f.Key, By: string(f.Value), Node: f.Node, Time: f.Time})
	}
	for _, f := range n.cluster.Facts().All(cluster.KindGone) {
		list.Gone = append(list.Gone, admin.NodeFact{Key: f.Key, By: string(f.Value), Node: f.Node, Time: f.Time})
	}
	return list
}

func describeNode(m *cluster.Member) admin.Node {
	a := admin.Node{
		Name: m.Name, Site: m.Site, Self: m.Self, Status: m.Status.String(), Phase: m.Phase.String(), Since: m.Since.UTC(),
		Address: m.Address.String(), Version: m.Version, Boot: m.Boot, Weight: m.Weight, Stream: m.Stream || m.Self,
		Gone: m.Gone, Out: m.Out, Load: m.Report.Load, Capacity: m.Report.Capacity, Cold: m.Report.Cold,
		SkewSeconds: m.Skew.Seconds(), Public: []string{},
	}
	if !m.Heard.IsZero() {
		heard := m.Heard.UTC()
		a.Heard = &heard
	}
	if m.Place.Known {
		a.Place = &admin.NodePlace{Lat: m.Place.Lat, Lon: m.Place.Lon}
	}
	for _, p := range m.Public {
		for _, speaks := range []struct {
			scheme string
			port   uint16
		}{{"http", p.HTTP}, {"https", p.HTTPS}, {"h3", p.H3}} {
			if speaks.port != 0 {
				a.Public = append(a.Public, speaks.scheme+"://"+netip.AddrPortFrom(p.IP, speaks.port).String())
			}
		}
	}
	for _, p := range m.Report.Probes {
		if !p.OK {
			a.FailedProbes = append(a.FailedProbes, p.Name)
		}
	}
	return a
}

// changeNodes does what an operator says of a node or a site.
func (n *node) changeNodes(change admin.NodeChange) error {
	if n.state.now() == starting || n.cluster == nil {
		return errors.New("this node is in no cluster: see cluster in its configuration")
	}
	facts := n.cluster.Facts()
	switch change.Action {
	case "out", "in":
		key, err := n.outKey(change.Target)
		if err != nil {
			return err
		}
		if change.Action == "in" {
			return facts.Delete(cluster.KindOut, key)
		}
		return facts.Set(cluster.KindOut, key, []byte(change.By), time.Time{})
	case "gone":
		for _, m := range n.cluster.Members() {
			if m.Name == change.Target && (m.Self || m.Status == cluster.Alive) {
				return fmt.Errorf("%s lives: stop it before it is declared gone", m.Name)
			}
			if m.Name == change.Target {
				return facts.Set(cluster.KindGone, m.Name, []byte(change.By), time.Time{})
			}
		}
		return fmt.Errorf("no node is named %q: edge nodes shows all", change.Target)
	}
	return fmt.Errorf("%q is no action: write out, in or gone", change.Action)
}

// outKey is for a node of that name, or else a site.
func (n *node) outKey(target string) (string, error) {
	site := false
	for _, m := range n.cluster.Members() {
		if m.Name == target {
			return cluster.OutNode(target), nil
		}
		site = site || m.Site == target
	}
	if !site {
		return "", fmt.Errorf("no node and no site is named %q: edge nodes shows all", target)
	}
	return cluster.OutSite(target), nil
}

// tokenRevoked tells the cluster of a token that was revoked here.
func (n *node) tokenRevoked(hash, name string) error {
	if n.state.now() == starting || n.cluster == nil {
		return nil
	}
	return n.cluster.Facts().Set(cluster.KindRevoked, hash, []byte(name), time.Time{})
}

// clusterStatus is for edge status.
func (n *node) clusterStatus() *admin.ClusterStatus {
	if n.cluster == nil {
		return nil
	}
	st := &admin.ClusterStatus{Phase: n.cluster.Self().Phase.String(), Address: n.cluster.Address().String()}
	for _, m := range n.cluster.Members() {
		st.Members++
		switch {
		case m.Gone:
			st.Gone++
		case m.Status == cluster.Alive:
			st.Alive++
		case m.Status == cluster.Left:
			st.Left++
		default:
			st.Silent = append(st.Silent, m.Name)
		}
	}
	return st
}
