package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"strings"
	"text/tabwriter"

	"edgecdn/config"
	"edgecdn/dnsgeo"
)

// locateCmd tells which nodes a client is given, and why.
type locateCmd struct {
	nodeFlags `embed:""`
	Address   string `arg:"" placeholder:"ADDR" help:"Address or network of a client, such as 192.0.2.1 or 192.0.2.0/24."`
	Name      string `placeholder:"NAME" help:"Name that is asked for. Default: the first that stands for nodes."`
	Config    string `placeholder:"FILE" help:"Ask no node, but this file: its nodes are taken to be healthy."`
	JSON      bool   `name:"json" help:"Print the whole answer as JSON."`
}

// Help is shown below the flags.
func (c *locateCmd) Help() string {
	return `Asks a running node, which knows how nodes are doing, or a file.

Examples:

  edge locate 192.0.2.1
  edge locate 2001:db8::/48 --name www.cdn.example.com
  edge locate 192.0.2.1 --config edge.yaml`
}

// Run prints the location.
func (c *locateCmd) Run() error { return c.run(os.Stdout) }

func (c *locateCmd) run(stdout io.Writer) error {
	var raw json.RawMessage
	var err error
	if c.Config != "" {
		raw, err = locateInFile(c.Config, c.Address, c.Name)
	} else {
		query := url.Values{"address": {c.Address}}
		if c.Name != "" {
			query.Set("name", c.Name)
		}
		err = c.ask(http.MethodGet, "/v1/locate?"+query.Encode(), &raw)
	}
	if err != nil {
		return fmt.Errorf("locate: %w", err)
	}
	if c.JSON {
		fmt.Fprintf(stdout, "%s\n", raw)
		return nil
	}
	var l dnsgeo.Location
	if err := json.Unmarshal(raw, &l); err != nil {
		return fmt.Errorf("locate: %w", err)
	}
	printLocation(stdout, &l)
	return nil
}

// locateInFile answers from a configuration alone.
func locateInFile(file, address, name string) (json.RawMessage, error) {
	cfg, err := config.LoadDNS(file)
	if err != nil {
		return nil, refused(err)
	}
	if cfg.DNS == nil {
		return nil, errors.New(file + " has no section dns")
	}
	r, err := dnsgeo.New(*cfg.DNS, slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, err
	}
	l, err := r.Locate(address, name)
	if err != nil {
		return nil, err
	}
	return json.Marshal(l)
}

func printLocation(stdout io.Writer, l *dnsgeo.Location) {
	w := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', 0)
	defer w.Flush()
	row := func(name, value string) { fmt.Fprintf(w, "%s\t%s\n", name, value) }
	row("client", l.Address)
	row("place", placeText(&l.Place)+", which holds for "+l.Network)
	row("name", l.Name)
	row("scope", fmt.Sprintf("/%d", l.Scope))
	for i, r := range l.Records {
		what := ""
		if i == 0 {
			what = "answer"
		}
		row(what, strings.ReplaceAll(r, "\t", " "))
	}
	if len(l.Records) == 0 {
		row("answer", "nothing: NODATA")
	}
	for i, r := range l.Reasons {
		what := ""
		if i == 0 {
			what = "because"
		}
		row(what, r.Subject+": "+r.Text)
	}
}

func placeText(p *dnsgeo.Place) string {
	var parts []string
	if p.Site != "" {
		parts = append(parts, "site "+p.Site)
	}
	if p.Country != "" {
		parts = append(parts, p.Country)
	}
	if p.Continent != "" {
		parts = append(parts, p.Continent)
	}
	if p.ASN != 0 {
		parts = append(parts, fmt.Sprintf("AS%d", p.ASN))
	}
	if p.HasPoint {
		parts = append(parts, fmt.Sprintf("%.2f,%.2f", p.Point.Latitude, p.Point.Longitude))
	}
	if len(parts) == 0 {
		return "not known"
	}
	return strings.Join(parts, " ") + " (" + p.Source + ")"
}
