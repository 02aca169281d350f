package main

import (
	"fmt"
	"io"
	"os"

	"edgecdn/admin"
)

// tokenCmd makes a token and says how to let it in.
type tokenCmd struct {
	Name string `default:"ops" help:"Name of the token in edge.yaml and in logs: who holds it."`
}

// Help is shown below the flags.
func (c *tokenCmd) Help() string {
	return `Prints a new token of 256 random bits and, for edge.yaml, its hash. The hash is the same on all nodes and is no secret; the token is shown this once and kept nowhere.

Examples:

  edge token
  edge token --name prometheus`
}

// Run prints a token.
func (c *tokenCmd) Run() error { return c.run(os.Stdout) }

func (c *tokenCmd) run(stdout io.Writer) error {
	token, hash := admin.NewToken()
	_, err := fmt.Fprintf(stdout, `token: %s

For edge.yaml:

admin:
  tokens:
    - name: %q
      sha256: %s

Use it with --token, or in EDGE_TOKEN.
`, token, c.Name, hash)
	return err
}
