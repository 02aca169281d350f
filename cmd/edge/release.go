package main

import (
	"io"
	"os"
)

// releaseCmd lifts a fence.
type releaseCmd struct {
	nodeFlags `embed:""`
}

// Help is shown below the flags.
func (c *releaseCmd) Help() string {
	return `A node that starts, comes back or finds that it has missed purges serves nothing that it stored before until it has compared with the others (edge status says why). This lifts that fence on the node that is asked. What it is known to have missed is made good: everything on it is purged. Where nothing is known to be missed what is stored is served again, and with it what was purged without this node's knowledge.

Examples:

  edge nodes release
  edge nodes release --data /var/lib/edge`
}

// Run releases.
func (c *releaseCmd) Run() error { return c.run(os.Stdout) }

func (c *releaseCmd) run(stdout io.Writer) error {
	return c.steer(stdout, "release", "released: the node serves what it has")
}
