package main

import (
	"io"
	"os"

	"edgecdn/config"
)

// checkCmd validates a configuration.
type checkCmd struct {
	Config string `default:"edge.yaml" placeholder:"FILE" help:"Configuration to validate. Default edge.yaml."`
	Schema bool   `help:"Print the JSON schema of edge.yaml instead, for editors."`
}

// Help is shown below the flags.
func (c *checkCmd) Help() string {
	return `Prints the effective configuration: what was left out filled in, what came from the environment or from files expanded, secrets masked. Everything that is wrong is told at once, by file and line; the exit code is 3 then.

Nothing is opened but the file itself: whether addresses are free and certificates fit shows at the start.

Examples:

  edge check --config edge.yaml
  edge check --schema > edge.schema.json`
}

// Run validates.
func (c *checkCmd) Run() error { return c.run(os.Stdout) }

func (c *checkCmd) run(stdout io.Writer) error {
	if c.Schema {
		_, err := stdout.Write(config.Schema())
		return err
	}
	cfg, err := config.Load(c.Config)
	if err != nil {
		return refused(err)
	}
	effective, err := cfg.Effective()
	if err != nil {
		return err
	}
	_, err = stdout.Write(effective)
	return err
}
