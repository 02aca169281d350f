package main

// What a node says of itself to its operators.

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"edgecdn/admin"
)

// phase of a node; it only goes forward.
type phase int32

const (
	starting phase = iota
	serving
	draining
)

func (p phase) String() string { return [...]string{"starting", "serving", "draining"}[p] }

type state struct {
	started time.Time // set once, before anybody asks
	phase   atomic.Int32
	drained atomic.Bool // by an operator, who can take it back

	asks    sync.Mutex // one drain or its end at a time: all who hear of it hear it in one order
	telling sync.Mutex // what is told last is what was seen last
}

// enter goes to a phase; the rooms that were made before can be used by all who see it.
func (s *state) enter(p phase) { s.phase.Store(int32(p)) }

func (s *state) now() phase { return phase(s.phase.Load()) }

// phaseName is the phase as operators see it.
func (s *state) phaseName() string {
	if p := s.now(); p != serving || !s.drained.Load() {
		return p.String()
	}
	return draining.String()
}

func (n *node) notReady() []string {
	if p := n.state.now(); p != serving {
		return []string{p.String()}
	}
	if n.state.drained.Load() {
		return []string{"drained: edge undrain takes it back"}
	}
	return nil
}

// drain sends clients elsewhere, or takes that back.
func (n *node) drain(on bool) error {
	if p := n.state.now(); p != serving {
		return fmt.Errorf("the node is %s", p)
	}
	if n.server == nil {
		return errors.New("this node answers DNS alone: it has no clients to send elsewhere")
	}
	n.state.asks.Lock()
	defer n.state.asks.Unlock()
	n.state.drained.Store(on)
	n.tellPhase()
	if on {
		n.server.Leave()
	} else {
		n.server.Return()
	}
	n.log.Info("drain asked for by an operator", "drained", on)
	return nil
}

func (n *node) config() (any, error) { return n.reloader.Current().Masked() }

func (n *node) status() admin.Status {
	phase := n.state.now()
	st := admin.Status{Version: version, Started: n.state.started, Phase: n.state.phaseName(), Config: n.configStatus()}
	if phase == starting {
		return st // the rooms are being made
	}
	for _, addr := range n.dnsAddresses() {
		st.Listeners = append(st.Listeners, admin.Listener{Protocol: "dns", Address: addr})
	}
	if n.server == nil { // DNS alone
		st.Listeners = append(st.Listeners, admin.Listener{Protocol: "admin", Address: n.admin.Addr()})
		return st
	}
	if st.Fence = n.fence(); st.Fence != nil && st.Phase == serving.String() {
		st.Phase = "fenced"
	}
	http, https := n.server.Addresses()
	for _, addr := range http {
		st.Listeners = append(st.Listeners, admin.Listener{Protocol: "http", Address: addr})
	}
	for _, addr := range https {
		st.Listeners = append(st.Listeners, admin.Listener{Protocol: "https", Address: addr})
		if *n.reloader.Current().Server.HTTP3 {
			st.Listeners = append(st.Listeners, admin.Listener{Protocol: "http3", Address: addr})
		}
	}
	st.Listeners = append(st.Listeners, admin.Listener{Protocol: "admin", Address: n.admin.Addr()})
	st.Store = n.tiers()
	st.Cluster = n.clusterStatus()
	return st
}

func (n *node) configStatus() admin.ConfigStatus {
	s := n.reloader.Status()
	st := admin.ConfigStatus{File: s.File, Hash: s.Hash, Loaded: s.Loaded, Reloads: s.Reloads, Failures: s.Failures, LastError: s.LastError}
	if s.LastError != "" {
		st.LastErrorAt = &s.LastErrorAt
	}
	return st
}

func (n *node) tiers() []admin.Tier {
	s := n.store.Stats()
	tiers := []admin.Tier{{Name: "memory", Objects: s.Memory.Objects, Bytes: s.Memory.Used, BytesMax: s.Memory.Budget}}
	for _, d := range s.Disk.Directories {
		tiers = append(tiers, admin.Tier{Name: "disk", Path: d.Path, Objects: int64(d.Objects), Bytes: d.BytesUsed, BytesMax: d.BytesMax, State: d.State, Error: d.Error})
	}
	return tiers
}

func (n *node) storeMemory() storeMemory {
	s := n.store.Stats()
	m := storeMemory{budget: s.Memory.Budget, outside: s.Memory.Bodies, disk: s.Disk.FilterBytes + s.Disk.BufferedBytes}
	for _, d := range s.Disk.Directories {
		m.disk += d.IndexBytes
	}
	return m
}
