package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"edgecdn/admin"
)

// nodesCmd shows the cluster and what operators say of it.
type nodesCmd struct {
	List    nodesListCmd `cmd:"" default:"withargs" help:"Show the nodes that a node knows."`
	Out     nodesOutCmd  `cmd:"" help:"Take a node or a site out of what clients are told, on all nodes."`
	In      nodesInCmd   `cmd:"" help:"Take that back."`
	Gone    nodesGoneCmd `cmd:"" help:"Declare a dead node gone: nobody waits for it any more."`
	Release releaseCmd   `cmd:"" help:"Lift the fence of a node whose peers do not come back."`
}

// nodesListCmd lists them.
type nodesListCmd struct {
	nodeFlags `embed:""`
	JSON      bool `name:"json" help:"Print the whole answer as JSON."`
}

// Help is shown below the flags.
func (c *nodesListCmd) Help() string {
	return `Each node has its own view; this is that of the node that is asked. A status of suspect means that gossip still believes in the node, but its stream has been silent for 2 seconds.

Examples:

  edge nodes
  edge nodes --json
  edge nodes out edge-fra-1
  edge nodes out fra
  edge nodes in fra
  edge nodes gone edge-fra-2`
}

// Run lists.
func (c *nodesListCmd) Run() error { return c.run(os.Stdout) }

func (c *nodesListCmd) run(stdout io.Writer) error {
	var raw json.RawMessage
	if err := c.ask(http.MethodGet, "/v1/nodes", &raw); err != nil {
		return fmt.Errorf("nodes: %w", err)
	}
	if c.JSON {
		_, err := fmt.Fprintf(stdout, "%s\n", raw)
		return err
	}
	var list admin.NodeList
	if err := json.Unmarshal(raw, &list); err != nil {
		return fmt.Errorf("nodes: %w", err)
	}
	if !list.Clustered {
		_, err := fmt.Fprintln(stdout, "the node is alone: see cluster in its configuration")
		return err
	}
	w := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "NODE\tSITE\tSTATUS\tPHASE\tSINCE\tADDRESS\tVERSION\tNOTES")
	for _, n := range list.Nodes {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", n.Name, dash(n.Site), n.Status, n.Phase,
			time.Since(n.Since).Round(time.Second), n.Address, dash(n.Version), strings.Join(nodeNotes(&n), ", "))
	}
	return w.Flush()
}

func nodeNotes(n *admin.Node) (notes []string) {
	for _, x := range []struct {
		is   bool
		text string
	}{
		{n.Self, "this node"}, {n.Out, "out"}, {n.Gone, "gone"}, {n.Cold, "cold"},
		{n.Status == "alive" && !n.Stream, "no stream"},
		{n.SkewSeconds > 5 || n.SkewSeconds < -5, fmt.Sprintf("its clock is off by %.0f s", n.SkewSeconds)},
		{len(n.FailedProbes) > 0, "does not reach its own " + strings.Join(n.FailedProbes, " and ")},
	} {
		if x.is {
			notes = append(notes, x.text)
		}
	}
	return notes
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// nodesOutCmd takes a node or a site out.
type nodesOutCmd struct {
	nodesChange `embed:""`
}

// Run takes it out.
func (c *nodesOutCmd) Run() error { return c.run("out", os.Stdout) }

// nodesInCmd takes it back in.
type nodesInCmd struct {
	nodesChange `embed:""`
}

// Run takes it in.
func (c *nodesInCmd) Run() error { return c.run("in", os.Stdout) }

// nodesGoneCmd declares a node gone.
type nodesGoneCmd struct {
	nodesChange `embed:""`
}

// Run declares it.
func (c *nodesGoneCmd) Run() error { return c.run("gone", os.Stdout) }

// nodesChange is what an operator says of a node or a site.
type nodesChange struct {
	nodeFlags `embed:""`
	Target    string `arg:"" help:"Name of the node or, for out and in, of the site."`
}

func (c *nodesChange) run(action string, stdout io.Writer) error {
	if err := c.change(action, c.Target); err != nil {
		return err
	}
	_, err := fmt.Fprintf(stdout, "%s is %s, on all nodes\n", c.Target, action)
	return err
}

func (f nodeFlags) change(action, target string) error {
	body, err := json.Marshal(admin.NodeChange{Action: action, Target: target})
	if err != nil {
		return err
	}
	got, err := f.send(nodeRequest{method: http.MethodPost, path: "/v1/nodes", body: body, timeout: answerTimeout})
	if err == nil && got.status != http.StatusOK {
		err = got.problem()
	}
	if err != nil {
		return fmt.Errorf("nodes %s: %w", action, err)
	}
	return nil
}
