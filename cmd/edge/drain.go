package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
)

// drainCmd sends the clients of a node elsewhere.
type drainCmd struct {
	nodeFlags `embed:""`
}

// Help is shown below the flags.
func (c *drainCmd) Help() string {
	return `Readiness goes off at once. After server.limits.drain_delay connections are told to go, each in the way of its protocol; requests under way finish. The node goes on serving those who come, until edge undrain or its stop.

Examples:

  edge drain
  edge drain --data /var/lib/edge`
}

// Run drains.
func (c *drainCmd) Run() error { return c.run(os.Stdout) }

func (c *drainCmd) run(stdout io.Writer) error {
	return c.steer(stdout, "drain", "draining: clients are told to go elsewhere")
}

// undrainCmd takes a drain back.
type undrainCmd struct {
	nodeFlags `embed:""`
}

// Help is shown below the flags.
func (c *undrainCmd) Help() string {
	return `The node is ready again. Connections that have been told to go still do.

Examples:

  edge undrain
  edge undrain --data /var/lib/edge`
}

// Run undrains.
func (c *undrainCmd) Run() error { return c.run(os.Stdout) }

func (c *undrainCmd) run(stdout io.Writer) error {
	return c.steer(stdout, "undrain", "the node takes clients again")
}

// steer asks for a change of the node's part in traffic.
func (f nodeFlags) steer(stdout io.Writer, what, done string) error {
	var answer struct{ Ready bool }
	if err := f.ask(http.MethodPost, "/v1/"+what, &answer); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	_, err := fmt.Fprintln(stdout, done)
	return err
}
