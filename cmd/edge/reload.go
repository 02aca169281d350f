package main

import (
	"fmt"
	"io"
	"net/http"
	"os"

	"edgecdn/admin"
)

// reloadCmd has a node read its configuration again.
type reloadCmd struct {
	nodeFlags `embed:""`
}

// Help is shown below the flags.
func (c *reloadCmd) Help() string {
	return `Returns when the new configuration is in force, or says everything that is wrong with it; the old one stays in force then. Connections are not touched. The same happens by itself when the file changes, and on SIGHUP.

Examples:

  edge reload
  edge reload --data /var/lib/edge`
}

// Run reloads.
func (c *reloadCmd) Run() error { return c.run(os.Stdout) }

func (c *reloadCmd) run(stdout io.Writer) error {
	var st admin.ConfigStatus
	if err := c.ask(http.MethodPost, "/v1/reload", &st); err != nil {
		return fmt.Errorf("reload: %w", err)
	}
	_, err := fmt.Fprintf(stdout, "%s is in force\n", st.File)
	return err
}
