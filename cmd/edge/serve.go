package main

// The life of a node, from flags to the last goroutine.
//
//	starting: the data directory is ours, operators are answered, rooms are made
//	serving:  listeners are open and /readyz says 200
//	draining: on SIGTERM or SIGINT; /readyz says 503, requests in flight finish
//
// A second signal ends the program at once, as a crash would: what is on disk
// bears that.

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"edgecdn/admin"
	"edgecdn/config"
)

// serveCmd runs a node.
type serveCmd struct {
	Config string `placeholder:"FILE" help:"Serve what this file says (edge.yaml)."`
	Origin string `placeholder:"URL" help:"Without a file: serve every host from this origin, or from a directory such as ./public."`
	HTTP   string `name:"http" placeholder:"HOST:PORT" help:"With --origin: listen here for HTTP/1.1 in the clear; off for nowhere. Default 127.0.0.1:8080."`
	HTTPS  string `name:"https" placeholder:"HOST:PORT" help:"With --origin: listen here for HTTP/1.1 and HTTP/2 on TCP and HTTP/3 on UDP; off for nowhere. Default 127.0.0.1:8443."`
	Admin  string `placeholder:"HOST:PORT" help:"With --origin: listen here for operators; off for nowhere. Default 127.0.0.1:8081."`
	Data   string `placeholder:"DIR" help:"With --origin: keep the cache, the admin token and a development certificate here. Default ./data."`
}

// Help is shown below the flags.
func (c *serveCmd) Help() string {
	return `Logs go to standard error, a line for each request to standard output. SIGTERM and SIGINT let requests in flight finish, a second one does not; SIGHUP reads the configuration again.

Examples:

  edge serve --origin http://127.0.0.1:9000
  edge serve --origin ./public
  edge serve --origin https://www.example.com --http 127.0.0.1:8000 --https off
  edge serve --config edge.yaml`
}

// Run serves until a signal says otherwise.
func (c *serveCmd) Run() error {
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	defer signal.Stop(hangups)
	// The first signal asks for a drain, and gives the next its usual effect back.
	signals, restore := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer restore()
	ctx, drain := context.WithCancel(context.Background())
	defer drain()
	defer context.AfterFunc(signals, func() { restore(); drain() })()

	cfg, err := c.load()
	if err != nil {
		return err
	}
	n := &node{level: new(slog.LevelVar)}
	n.log = newLog(os.Stderr, cfg.Log.Format, n.level)
	return n.serve(ctx, cfg, c.Config, hangups)
}

// load returns the configuration that the flags name.
func (c *serveCmd) load() (*config.Config, error) {
	usage := func(text string) error { return codedError{errors.New("serve: " + text), exitUsage} }
	switch {
	case c.Config == "" && c.Origin == "":
		return nil, usage(`nothing to serve: name an origin to try it out, or a configuration:

  edge serve --origin http://127.0.0.1:9000
  edge serve --config edge.yaml
`)
	case c.Config == "":
		cfg, err := config.TryOut(c.Origin, c.HTTP, c.HTTPS, c.Admin, c.Data)
		return cfg, refused(err)
	case c.Origin != "":
		return nil, usage("--origin and --config exclude each other: origins are in the file, under origins")
	case c.HTTP != "" || c.HTTPS != "" || c.Admin != "":
		return nil, usage("with --config the addresses are in the file: server.http, server.https, admin.listen")
	}
	cfg, err := config.Load(c.Config)
	if err != nil {
		return nil, refused(err)
	}
	if c.Data != "" && filepath.Clean(c.Data) != filepath.Clean(cfg.Data) {
		return nil, usage(fmt.Sprintf("the data directory is set in the file: %s says data: %s and --data %s", c.Config, cfg.Data, c.Data))
	}
	return cfg, nil
}

// refused gives what is wrong with a configuration its exit code.
func refused(err error) error {
	if err == nil {
		return nil
	}
	if problems, ok := errors.AsType[*config.Error](err); ok {
		err = fmt.Errorf("the configuration is refused:\n%w", problems)
	}
	return codedError{err, exitConfig}
}

// serve runs the node until ctx ends and everything is gone.
func (n *node) serve(ctx context.Context, cfg *config.Config, file string, hangups <-chan os.Signal) (err error) {
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

	// What others need during a drain runs until it is over; what fails ends the rest.
	background, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	group, background := errgroup.WithContext(background)
	group.Go(func() error { return n.admin.Run(background) })

	err = n.open(cfg)
	if err == nil {
		if err := data.publish(n.admin.Addr()); err != nil { // a full disk: no reason not to serve
			n.log.Warn("commands do not find this node by its data directory: give them --admin", "err", err)
		}
		group.Go(func() error { return n.store.Run(background) })
		group.Go(func() error { return n.cache.Run(background) })
		group.Go(func() error { return n.origin.Run(background) })
		group.Go(func() error { return n.purges.Run(background) })
		group.Go(func() error { return n.spread.Run(background) })
		group.Go(func() error { return n.runCluster(background) })
		group.Go(func() error { return n.runDNS(background) })
		group.Go(func() error { return n.probeSelf(background) })
		group.Go(func() error { return n.forgetKeyRules(background) })
		group.Go(func() error { return followBudget(background, n.storeMemory) })
		group.Go(func() error { return giveBack(background) })
		group.Go(func() error { return n.followConfig(background) })
		group.Go(func() error { return n.followHangups(background, hangups) })
		n.state.enter(serving)
		n.tellPhase()
		n.announce(cfg)
		serving, cancel := context.WithCancel(ctx)
		defer context.AfterFunc(background, cancel)()
		err = n.server.Run(serving)
		n.cache.Close() // fills that nobody waits for any more
	}
	stop()
	return errors.Join(err, group.Wait(), n.close())
}

// close gives back what open took, all of it or, where it failed, what it got.
func (n *node) close() error {
	if n.dns != nil {
		n.dns.Close()
	}
	if n.origin != nil {
		n.origin.Close()
	}
	var errs []error
	if n.cluster != nil {
		errs = append(errs, n.cluster.Close())
	}
	if n.store != nil {
		if err := n.store.Close(); err != nil {
			errs = append(errs, fmt.Errorf("close the store: %w", err))
		}
	}
	if n.purges != nil {
		errs = append(errs, n.purges.Close())
	}
	return errors.Join(errs...)
}

// announce says where the node is to be found.
func (n *node) announce(cfg *config.Config) {
	http, https := n.server.Addresses()
	attrs := []any{"version", version, "http", http, "https", https, "data", cfg.Data}
	if addr := n.admin.Addr(); addr != "" {
		attrs = append(attrs, "admin", addr)
		if len(cfg.Admin.Tokens) == 0 {
			attrs = append(attrs, "token_file", filepath.Join(cfg.Data, admin.TokenFile))
		}
	}
	n.log.Info("serving", attrs...)
	if err := notify("READY=1"); err != nil {
		n.log.Warn("the service manager was not told that the node serves", "err", err)
	}
	if isTerminal(os.Stderr) {
		fmt.Fprint(os.Stderr, hints(cfg.Data, http, https, n.admin.Addr() != ""))
	}
}

// hints says what to try with a node that has just started.
func hints(data string, http, https []string, admin bool) string {
	var b strings.Builder
	b.WriteString("\nTry:\n\n")
	for _, addr := range http {
		if strings.HasPrefix(addr, "unix:") {
			continue
		}
		fmt.Fprintf(&b, "  edge get --repeat 2 http://%s/\n", reachable(addr))
	}
	for _, addr := range https {
		if strings.HasPrefix(addr, "unix:") {
			continue
		}
		fmt.Fprintf(&b, "  edge get --repeat 2 --http3 --data %s https://%s/\n", data, reachable(addr))
	}
	if admin {
		fmt.Fprintf(&b, "  edge status --data %s\n", data)
	}
	b.WriteString("\nCtrl-C stops.\n\n")
	return b.String()
}
