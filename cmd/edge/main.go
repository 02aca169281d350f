// Command edge is one node of a content delivery network, and the tools to look
// after it. This file is the picture of a node: which rooms there are and who
// knows whom. serve.go runs it, apply.go changes it, metrics.go
// counts it; each other command is a file of its own.
package main

import (
	"log/slog"
	"os"
	"path/filepath"
	"sync/atomic"

	"edgecdn/access"
	"edgecdn/admin"
	"edgecdn/cache"
	"edgecdn/cache/store"
	"edgecdn/cluster"
	"edgecdn/config"
	"edgecdn/dnsgeo"
	"edgecdn/origin"
	"edgecdn/purge"
	"edgecdn/route"
	"edgecdn/server"
	"edgecdn/server/gate"
)

// version is set by the linker.
var version = "dev"

func main() { os.Exit(run(os.Args[1:])) }

// node is every room of a running edge.
//
//	clients --> server --> route, access
//	              |
//	              +------> cache --> store (memory, disk)
//	                       ^ |
//	                       | +-----> origin --> the origins
//	operators --> admin    purge, its log <-> cluster <-> other nodes
//	              |
//	              +------> all of them, through plain structs
type node struct {
	log      *slog.Logger
	level    *slog.LevelVar
	state    state
	reloader *config.Reloader
	admin    *admin.Server

	// Set while the node starts, not to be used before it serves.
	purges   *purge.Log
	spread   *purge.Spread
	cluster  *cluster.Cluster // nil without
	probes   selfProbes
	warmth   warmth
	keyRules *keyRules
	store    *store.Tiered
	table    atomic.Pointer[route.Table] // replaced whole by a reload
	origin   *origin.Transport
	cache    *cache.Cache
	access   *access.Access
	server   *server.Server
	dns      *dnsgeo.Responder // nil without
	texts    texts
}

// openAdmin makes the operators' side, which answers before all else.
func (n *node) openAdmin(cfg *config.Config) (err error) {
	n.admin, err = admin.New(cfg.Admin, admin.Sources{
		Data:     cfg.Data,
		NotReady: n.notReady,
		Status:   n.status,
		Origins:  n.origins,
		Config:   n.config,
		Reload:   n.reload, Drain: n.drain, Release: n.release,
		Samples: n.samples,
		Purges:  n.operatorPurges,
		Locate:  n.locate, Texts: n.operatorTexts,
		Nodes: n.nodes, Change: n.changeNodes, Revoked: n.tokenRevoked,
	}, n.log)
	if err != nil {
		return err
	}
	return n.admin.Listen()
}

// open makes the other rooms, from the back to the front, and opens the
// listeners. Nothing is served yet.
func (n *node) open(cfg *config.Config) (err error) {
	if n.purges, err = purge.Open(purge.Config{Dir: filepath.Join(cfg.Data, "purge"), Node: cfg.Node}, n.log); err != nil {
		return err
	}
	keep := cfg.Store
	keep.Prepare, keep.PrepareOnDisk = cache.Preparer(server.Encoders()), cache.Preparer(server.FileEncoders())
	if n.store, err = store.Open(keep, n.log); err != nil {
		return err
	}
	table, err := route.NewTable(cfg.Hosts)
	if err != nil {
		return err
	}
	n.table.Store(table)
	if n.origin, err = origin.New(cfg.Origins, n.log); err != nil {
		return err
	}
	n.cache = cache.New(cache.Config{
		Name:     cfg.Node,
		Store:    n.store,
		Origin:   n.origin,
		Direct:   origin.WithTarget,
		Unframed: origin.Delimited,
		Match:    n.match,
		Log:      n.log,
	})
	if err := n.remember(cfg); err != nil {
		return err
	}
	n.access = access.New()
	n.server, err = server.New(cfg.Server, server.Seam{
		Seam:     gate.Seam{Match: n.match, Judge: n.access.Judge, Lookup: n.cache.Lookup, Handler: n.keepPurges(n.cache), Bare: bare},
		ClientCA: func(name string) string { return n.table.Load().ClientCA(name) },
		Draining: func() { n.state.enter(draining); n.tellPhase() },
		Proofs:   &n.texts,
	}, n.log)
	if err != nil {
		return err
	}
	if err := n.openDNS(cfg); err != nil {
		return err
	}
	return n.server.Listen()
}

// match finds the route in the table in force.
func (n *node) match(host, target string) (*route.Route, error) {
	return n.table.Load().Match(host, target)
}
