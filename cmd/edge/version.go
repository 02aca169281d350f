package main

import (
	"fmt"
	"io"
	"os"
	"runtime"
)

// versionCmd prints what was built.
type versionCmd struct{}

// Help is shown below the flags.
func (versionCmd) Help() string {
	return `Example:

  edge version`
}

// Run prints the version.
func (c versionCmd) Run() error { return c.run(os.Stdout) }

func (versionCmd) run(stdout io.Writer) error {
	_, err := fmt.Fprintf(stdout, "edge %s (%s, %s/%s)\n", version, runtime.Version(), runtime.GOOS, runtime.GOARCH)
	return err
}
