package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/alecthomas/kong"
)

// cli is every command, in the order that help shows them.
type cli struct {
	Serve       serveCmd       `cmd:"" help:"Run a node."`
	Init        initCmd        `cmd:"" help:"Write the files that a new installation begins with."`
	Check       checkCmd       `cmd:"" help:"Validate a configuration and print what it comes to."`
	Status      statusCmd      `cmd:"" help:"Show how a node is doing."`
	Origins     originsCmd     `cmd:"" help:"Show origins, their endpoints, what probes say, and breakers."`
	Reload      reloadCmd      `cmd:"" help:"Have a node read its configuration again."`
	Drain       drainCmd       `cmd:"" help:"Have a node send its clients elsewhere."`
	Undrain     undrainCmd     `cmd:"" help:"Take a drain back."`
	Nodes       nodesCmd       `cmd:"" help:"Show the nodes of the cluster, and say things of them."`
	Purge       purgeCmd       `cmd:"" help:"Have a node forget what is stored."`
	Healthcheck healthcheckCmd `cmd:"" help:"Succeed where a node is well, for whoever restarts it."`
	DNS         dnsCmd         `cmd:"" name:"dns" help:"Answer DNS for zones, with the nodes nearest to each client."`
	Locate      locateCmd      `cmd:"" help:"Tell which nodes a client is given by DNS, and why."`
	Get         getCmd         `cmd:"" help:"Fetch a URL and explain what the caches on the way did."`
	Store       storeCmd       `cmd:"" help:"Look into the disk tier of a stopped node."`
	Token       tokenCmd       `cmd:"" help:"Make, list and revoke tokens of the admin listener."`
	Trust       trustCmd       `cmd:"" help:"Say how to trust the development certificate of a node."`
	Version     versionCmd     `cmd:"" help:"Print the version."`
}

// Exit codes, documented in the help of edge.
const (
	exitFailed = 1
	exitUsage  = 2
	exitConfig = 3
)

const description = `Serves static assets from a cache near those who want them.

Try it:

  edge serve --origin http://127.0.0.1:9000
  edge get --repeat 2 http://127.0.0.1:8080/
  edge status

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 the configuration is refused.`

// run parses the arguments, runs the command that they name and returns the exit code.
func run(args []string) int {
	parser := kong.Must(&cli{}, kong.Name("edge"), kong.Description(description),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, NoAppDescFormat: true}))
	if len(args) == 0 {
		args = []string{"--help"}
	}
	ctx, err := parser.Parse(args)
	if err != nil {
		fmt.Fprintf(os.Stderr, "edge: %v\nSee edge --help, or edge COMMAND --help.\n", err)
		return exitUsage
	}
	err = ctx.Run()
	if err == nil {
		return 0
	}
	fmt.Fprintf(os.Stderr, "edge: %v\n", err)
	if coded, ok := errors.AsType[codedError](err); ok {
		return coded.code
	}
	return exitFailed
}

// codedError is an error that ends the program with a code of its own.
type codedError struct {
	error
	code int
}

func (e codedError) Unwrap() error { return e.error }
