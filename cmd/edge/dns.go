package main

// DNS: one listener more of `edge serve`, or all that runs with `edge dns`.

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"edgecdn/config"
	"edgecdn/dnsgeo"
)

// dnsCmd is what has to do with DNS alone.
type dnsCmd struct {
	Serve dnsServeCmd `cmd:"" default:"withargs" help:"Answer DNS and nothing else."`
	Key   dnsKeyCmd   `cmd:"" help:"Make and replace the keys that a zone is signed with."`
	TXT   dnsTXTCmd   `cmd:"" name:"txt" help:"Make TXT records of a while, and take them away."`
}

// dnsServeCmd runs a responder without a cache.
type dnsServeCmd struct {
	Config string `required:"" placeholder:"FILE" help:"Answer what the section dns of this file says (edge.yaml)."`
}

// Help is shown below the flags.
func (c *dnsServeCmd) Help() string {
	return `Of the file the sections dns, admin, log, node and data count; what else is there is not looked at. The nodes that clients are sent to are listed under dns.nodes, and probed.

SIGHUP, and a change of the file, read configuration and zones again.

Example:

  edge dns --config edge.yaml`
}

// Run answers until a signal says otherwise.
func (c *dnsServeCmd) Run() error {
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	defer signal.Stop(hangups)
	ctx, restore := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer restore()
	cfg, err := config.LoadDNS(c.Config)
	if err != nil {
		return refused(err)
	}
	n := &node{level: new(slog.LevelVar)}
	n.log = newLog(os.Stderr, cfg.Log.Format, n.level)
	return n.serveDNS(ctx, cfg, c.Config, hangups)
}

// serveDNS runs the responder and the operators' side until ctx ends.
func (n *node) serveDNS(ctx context.Context, cfg *config.Config, file string, hangups <-chan os.Signal) error {
	if err := setLevel(n.level, cfg.Log.Level); err != nil {
		return err
	}
	data, err := claim(cfg.Data)
	if err != nil {
		return err
	}
	defer data.release()
	n.state.started = time.Now()
	n.reloader = config.NewReloader(file, cfg, n.check, n.apply)
	if err := n.openAdmin(cfg); err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return n.admin.Run(ctx) })
	if err = n.openDNS(cfg); err == nil {
		if err := data.publish(n.admin.Addr()); err != nil {
			n.log.Warn("commands do not find this node by its data directory: give them --admin", "err", err)
		}
		group.Go(func() error { return n.dns.Run(ctx) })
		group.Go(func() error { return n.followConfig(ctx) })
		group.Go(func() error { return n.followHangups(ctx, hangups) })
		n.state.enter(serving)
		n.log.Info("answering", "version", version, "dns", n.dns.Addresses(), "admin", n.admin.Addr())
	} else {
		group.Go(func() error { return err }) // ends the rest
	}
	return group.Wait()
}

// dnsConfig is the section dns, with the cluster's secrets for cookies that all its
// responders know.
func dnsConfig(cfg *config.Config) dnsgeo.Config {
	c := *cfg.DNS
	for _, secret := range cfg.Cluster.Secrets {
		c.Secrets = append(c.Secrets, []byte(secret))
	}
	if c.Cookies.SecretFile == "" && !c.Cookies.Off {
		c.Cookies.SecretFile = cfg.Cluster.SecretFile
	}
	return c
}

// openDNS makes the responder and opens its sockets, where there is one.
func (n *node) openDNS(cfg *config.Config) error {
	n.openTexts()
	if cfg.DNS == nil || len(cfg.DNS.Listen) == 0 {
		return nil
	}
	dns := dnsConfig(cfg)
	dns.Nodes, dns.Check = n.members, checkNode
	responder, err := dnsgeo.New(dns, n.log)
	if err != nil {
		return err
	}
	if err := responder.Listen(); err != nil {
		if errors.Is(err, syscall.EADDRINUSE) {
			return errors.Join(err, errors.New("dns: another server has the address, often a resolver of this machine on port 53: stop it, or name single addresses under dns.listen"))
		}
		return err
	}
	n.dns = responder
	return nil
}

// applyDNS hands a changed configuration on. A responder comes and goes with a
// restart only, since its listeners do.
func (n *node) applyDNS(next *config.Config) error {
	if n.dns == nil || next.DNS == nil {
		return nil
	}
	return n.dns.Apply(dnsConfig(next))
}

// runDNS answers until ctx ends.
func (n *node) runDNS(ctx context.Context) error {
	if n.dns == nil {
		return nil
	}
	n.meetOthers(ctx)
	return n.dns.Run(ctx)
}

// locate asks the responder of this node.
func (n *node) locate(client, name string) (any, error) {
	if n.state.now() == starting || n.dns == nil {
		return nil, errors.New("this node answers no DNS: configure zones and addresses under dns")
	}
	return n.dns.Locate(client, name)
}

// dnsAddresses lists what the responder listens on.
func (n *node) dnsAddresses() []string {
	if n.dns == nil {
		return nil
	}
	all := n.dns.Addresses()
	slices.SortFunc(all, strings.Compare)
	return slices.Compact(all)
}
