package main

// TXT records of a while from the command line.

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"text/tabwriter"
	"time"

	"edgecdn/admin"
)

// dnsTXTCmd is about the TXT records that operators make.
type dnsTXTCmd struct {
	List   dnsTXTListCmd   `cmd:"" default:"withargs" help:"Show them."`
	Put    dnsTXTPutCmd    `cmd:"" help:"Replace the TXT records of a name, on all nodes."`
	Delete dnsTXTDeleteCmd `cmd:"" help:"Take the TXT records of a name away, on all nodes."`
}

// dnsTXTListCmd lists them.
type dnsTXTListCmd struct {
	nodeFlags `embed:""`
	JSON      bool `name:"json" help:"Print the whole answer as JSON."`
}

// Help is shown below the flags.
func (c *dnsTXTListCmd) Help() string {
	return `Names begin with an underscore and are in a zone that is answered for.

Examples:

  edge dns txt
  edge dns txt put _acme-challenge.cdn.example.com gfj9XqRg85nM --for 1h
  edge dns txt delete _acme-challenge.cdn.example.com`
}

// Run lists.
func (c *dnsTXTListCmd) Run() error { return c.run(os.Stdout) }

func (c *dnsTXTListCmd) run(stdout io.Writer) error {
	var list admin.TextList
	err := c.askOrPrint(http.MethodGet, "/v1/dns/txt", &list, c.JSON, stdout)
	if err != nil {
		return fmt.Errorf("dns txt: %w", err)
	}
	if c.JSON {
		return nil
	}
	w := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "NAME\tUNTIL\tVALUES")
	for _, r := range list.Records {
		fmt.Fprintf(w, "%s\t%s\t%q\n", r.Name, r.Expires.Format(time.RFC3339), r.Values)
	}
	return w.Flush()
}

// dnsTXTPutCmd replaces those of a name.
type dnsTXTPutCmd struct {
	nodeFlags `embed:""`
	For       time.Duration `default:"24h" placeholder:"DURATION" help:"How long they are there, 30 days at most."`
	Name      string        `arg:"" help:"Name, such as _acme-challenge.cdn.example.com."`
	Values    []string      `arg:"" help:"Values; each is a record."`
}

// Run replaces them.
func (c *dnsTXTPutCmd) Run() error { return c.run(os.Stdout) }

func (c *dnsTXTPutCmd) run(stdout io.Writer) error {
	body, err := json.Marshal(map[string]any{"values": c.Values, "lifetime": c.For.String()})
	if err == nil {
		err = c.changeText(http.MethodPut, c.Name, body)
	}
	if err != nil {
		return fmt.Errorf("dns txt put: %w", err)
	}
	_, err = fmt.Fprintf(stdout, "%s has %d TXT records for %v\n", c.Name, len(c.Values), c.For)
	return err
}

// dnsTXTDeleteCmd takes those of a name away.
type dnsTXTDeleteCmd struct {
	nodeFlags `embed:""`
	Name      string `arg:"" help:"Name, such as _acme-challenge.cdn.example.com."`
}

// Run takes them away.
func (c *dnsTXTDeleteCmd) Run() error {
	if err := c.changeText(http.MethodDelete, c.Name, nil); err != nil {
		return fmt.Errorf("dns txt delete: %w", err)
	}
	return nil
}

func (f nodeFlags) changeText(method, name string, body []byte) error {
	got, err := f.send(nodeRequest{method: method, path: "/v1/dns/txt/" + url.PathEscape(name), body: body, timeout: answerTimeout})
	if err == nil && got.status != http.StatusOK {
		err = got.problem()
	}
	return err
}
