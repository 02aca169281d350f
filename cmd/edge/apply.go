package main

// How a changed configuration reaches the rooms: all are asked, then all take it.

import (
	"context"
	"errors"
	"os"

	"edgecdn/config"
	"edgecdn/route"
)

// check tells whether every room would take the configuration.
func (n *node) check(next *config.Config) error {
	if n.state.now() == starting {
		return errors.New("the node is still starting: try again when it serves")
	}
	if n.server == nil { // DNS alone
		return n.admin.Check(next.Admin)
	}
	_, err := route.NewTable(next.Hosts)
	if n.cluster != nil {
		err = errors.Join(err, n.cluster.Check(clusterConfig(next)))
	}
	return errors.Join(err, n.store.Check(next.Store), n.server.Check(next.Server), n.admin.Check(next.Admin))
}

// apply has every room take it. Connections and requests under way are not
// touched: they keep the routes and origins that they began with. Origins come
// first, because only they can still refuse (a CA file that went away), and before
// them what purges must know of the new rules, whether they come into force or not.
func (n *node) apply(next *config.Config) error {
	if err := n.applyDNS(next); err != nil {
		return err
	}
	if n.server == nil { // DNS alone
		return errors.Join(n.admin.Apply(next.Admin), setLevel(n.level, next.Log.Level))
	}
	table, err := route.NewTable(next.Hosts)
	if err != nil {
		return err
	}
	if err := n.keyRules.remember(next.Hosts, n.cache); err != nil {
		return err
	}
	if err := n.origin.Apply(next.Origins); err != nil {
		return err
	}
	if err := n.server.Apply(next.Server); err != nil {
		return err
	}
	if err := n.store.Apply(next.Store); err != nil {
		return err
	}
	if err := n.admin.Apply(next.Admin); err != nil {
		return err
	}
	if n.cluster != nil {
		if err := n.cluster.Apply(clusterConfig(next)); err != nil {
			return err
		}
	}
	if err := setLevel(n.level, next.Log.Level); err != nil {
		return err
	}
	n.table.Store(table)
	return nil
}

// reload reads the configuration again because somebody asked for it.
func (n *node) reload(context.Context) error {
	err := n.reloader.Reload()
	status := n.reloader.Status()
	if err != nil {
		n.log.Error("configuration refused: the one before stays in force", "file", status.File, "err", err)
		return err
	}
	n.log.Info("configuration reloaded", "file", status.File, "hash", status.Hash)
	return nil
}

// followConfig reloads when the file changes.
func (n *node) followConfig(ctx context.Context) error {
	if err := n.reloader.Run(ctx, n.log); err != nil {
		n.log.Warn("changes of the configuration file are not seen; reload with SIGHUP or edge reload", "err", err)
	}
	<-ctx.Done()
	return nil
}

// followHangups reloads on SIGHUP, and opens the access log anew for those who
// have moved it away.
func (n *node) followHangups(ctx context.Context, hangups <-chan os.Signal) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-hangups:
			n.server.Reopen()
			if n.reloader.Status().File == "" {
				n.log.Info("nothing to reload: the node runs on flags alone")
				continue
			}
			_ = n.reload(ctx) // logged
		}
	}
}
