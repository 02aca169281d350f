package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"edgecdn/admin"
	"edgecdn/internal/unit"
)

// statusCmd shows what a node says of itself.
type statusCmd struct {
	nodeFlags `embed:""`
	JSON      bool `name:"json" help:"Print the whole answer as JSON."`
}

// Help is shown below the flags.
func (c *statusCmd) Help() string {
	return `Fails where no node answers or the node does not want traffic, so that it can serve as a health check.

Examples:

  edge status
  edge status --data /var/lib/edge
  EDGE_TOKEN=... edge status --admin 10.0.0.7:8081 --json`
}

// Run prints the status.
func (c *statusCmd) Run() error { return c.run(os.Stdout) }

func (c *statusCmd) run(stdout io.Writer) error {
	var raw json.RawMessage
	if err := c.ask(http.MethodGet, "/v1/status", &raw); err != nil {
		return fmt.Errorf("status: %w", err)
	}
	var st admin.Status
	if err := json.Unmarshal(raw, &st); err != nil {
		return fmt.Errorf("status: %w", err)
	}
	if c.JSON {
		fmt.Fprintf(stdout, "%s\n", raw)
	} else {
		printStatus(stdout, &st)
	}
	if len(st.NotReady) > 0 {
		return errors.New("the node does not want traffic: " + strings.Join(st.NotReady, "; "))
	}
	return nil
}

func printStatus(stdout io.Writer, st *admin.Status) {
	w := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', 0)
	defer w.Flush()
	row := func(name, value string) { fmt.Fprintf(w, "%s\t%s\n", name, value) }
	row("phase", st.Phase)
	if st.Fence != nil {
		row("", "nothing stored before "+st.Fence.Since.Local().Format(time.DateTime)+" is served: "+st.Fence.Why)
	}
	row("version", st.Version)
	row("up", (time.Duration(st.UptimeSeconds) * time.Second).String())
	for _, l := range st.Listeners {
		row(l.Protocol, l.Address)
	}
	for _, t := range st.Store {
		value := fmt.Sprintf("%d objects, %s of %s", t.Objects, rounded(t.Bytes), unit.Bytes(t.BytesMax))
		if t.Path != "" {
			value += ", " + t.Path
		}
		if t.Error != "" {
			value += ", " + strings.ToUpper(t.State) + ": " + t.Error
		}
		row(t.Name, value)
	}
	if c := st.Cluster; c != nil {
		value := fmt.Sprintf("%s at %s, %d of %d nodes alive", c.Phase, c.Address, c.Alive, c.Members)
		if len(c.Silent) > 0 {
			value += ", SILENT: " + strings.Join(c.Silent, ", ")
		}
		row("cluster", value)
	}
	file := st.Config.File
	if file == "" {
		file = "flags alone"
	}
	row("config", fmt.Sprintf("%s, loaded %s, %d reloads, %d refused", file, st.Config.Loaded.Local().Format(time.DateTime), st.Config.Reloads, st.Config.Failures))
	if st.Config.LastError != "" {
		row("", "the last reload was refused: "+strings.ReplaceAll(st.Config.LastError, "\n", "\n\t"))
	}
}

// rounded writes bytes for people, three digits or so.
func rounded(n int64) string {
	f := float64(n)
	for _, unit := range []string{"B", "KiB", "MiB", "GiB"} {
		if f < 1000 {
			if unit == "B" {
				return fmt.Sprintf("%.0f %s", f, unit)
			}
			return fmt.Sprintf("%.1f %s", f, unit)
		}
		f /= 1024
	}
	return fmt.Sprintf("%.1f TiB", f)
}
