package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// healthcheckCmd asks a node how it is, for those who restart what is not well.
type healthcheckCmd struct {
	Admin   string        `env:"EDGE_ADMIN" placeholder:"HOST:PORT" help:"Admin listener of the node. Default: the one that a node wrote into its data directory."`
	Data    string        `env:"EDGE_DATA" default:"./data" placeholder:"DIR" help:"Data directory of a node on this machine."`
	Ready   bool          `help:"Also fail where the node wants no traffic, since it starts, drains or stops."`
	Timeout time.Duration `default:"3s" placeholder:"TIME" help:"Give up after this long."`
}

// Help is shown below the flags.
func (c *healthcheckCmd) Help() string {
	return `Succeeds where the node answers on its admin listener. It needs no token and prints nothing where all is well, so that it serves in a container without a shell: HEALTHCHECK in a Dockerfile, exec probes in Kubernetes.

A node that drains is well: whoever restarted it would cut what it still serves. Ask with --ready whether it wants traffic.

Examples:

  edge healthcheck --data /var/lib/edge
  edge healthcheck --ready --admin 127.0.0.1:8081`
}

// Run asks.
func (c *healthcheckCmd) Run() error { return c.run() }

func (c *healthcheckCmd) run() error {
	base, err := nodeFlags{Admin: c.Admin, Data: c.Data}.base()
	if err != nil {
		return fmt.Errorf("healthcheck: %w", err)
	}
	path := "/healthz"
	if c.Ready {
		path = "/readyz"
	}
	ctx, cancel := context.WithTimeout(context.Background(), c.Timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, base+path, nil)
	if err != nil {
		return fmt.Errorf("healthcheck: %w", err)
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		return fmt.Errorf("healthcheck: no node answers at %s: %w", base, errors.Unwrap(err))
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusOK {
		return nil
	}
	var why struct{ Reasons []string }
	_ = json.NewDecoder(io.LimitReader(resp.Body, answerBytesMax)).Decode(&why) // the status says enough
	return fmt.Errorf("healthcheck: %s%s answers %d: %s", base, path, resp.StatusCode, strings.Join(why.Reasons, ", "))
}
