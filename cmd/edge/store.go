package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"syscall"
	"text/tabwriter"
	"time"

	"edgecdn/cache/store"
	"edgecdn/internal/unit"
)

// storeCmd looks into the disk tier of a node that is stopped.
type storeCmd struct {
	Ls     storeLsCmd     `cmd:"" help:"List the objects in the disk tier of a stopped node."`
	Stat   storeStatCmd   `cmd:"" help:"Count what the disk tier of a stopped node holds."`
	Verify storeVerifyCmd `cmd:"" help:"Read all of the disk tier of a stopped node and tell what is damaged."`
}

// Help is shown below the flags.
func (storeCmd) Help() string {
	return `Nothing is changed. A directory in use is refused.

Examples:

  edge store stat --data /var/lib/edge
  edge store ls --data /var/lib/edge
  edge store verify --data /var/lib/edge`
}

// storeFlags say which directories are meant.
type storeFlags struct {
	Directory []string `arg:"" optional:"" placeholder:"DIRECTORY" help:"Directories of the disk tier, the paths under store.disk in edge.yaml. Default: cache in the data directory."`
	Data      string   `default:"./data" placeholder:"DIR" help:"Data directory of the node."`
}

func (f storeFlags) directories() []string {
	if len(f.Directory) > 0 {
		return f.Directory
	}
	return []string{filepath.Join(findData(f.Data), "cache")}
}

// storeLsCmd lists objects.
type storeLsCmd struct {
	storeFlags `embed:""`
	JSON       bool `name:"json" help:"Print a JSON object for each line."`
}

// Help is shown below the flags.
func (c *storeLsCmd) Help() string {
	return `One line for each object, the oldest record first: bytes of the body, when it was stored, how long it stays fresh (negative: stale for so long), and its cache key.

Examples:

  edge store ls --data /var/lib/edge
  edge store ls --json /mnt/disk1 /mnt/disk2 | head`
}

// Run lists.
func (c *storeLsCmd) Run() error { return c.run(os.Stdout) }

func (c *storeLsCmd) run(stdout io.Writer) error {
	w := bufio.NewWriter(stdout)
	now := time.Now()
	for _, dir := range c.directories() {
		var wrong error
		err := store.List(dir, func(l store.Listed) bool {
			wrong = c.line(w, l, now)
			return wrong == nil
		})
		if err := errors.Join(err, wrong); err != nil {
			return err
		}
	}
	return w.Flush()
}

func (c *storeLsCmd) line(w io.Writer, l store.Listed, now time.Time) error {
	stored := time.Unix(0, l.Meta.Stored)
	fresh := time.Unix(0, l.Meta.FreshUntil).Sub(now).Round(time.Second)
	if c.JSON {
		return json.NewEncoder(w).Encode(struct {
			Key          string    `json:"key"`
			Bytes        int64     `json:"bytes"`
			Stored       time.Time `json:"stored"`
			FreshSeconds int64     `json:"fresh_seconds"`
		}{l.Key, l.Meta.Length, stored.UTC(), int64(fresh.Seconds())})
	}
	key := l.Key
	if quoted := strconv.Quote(key); quoted != `"`+key+`"` {
		key = quoted // keys hold what clients sent; a terminal must not obey it
	}
	_, err := fmt.Fprintf(w, "%12d  %s  %10s  %s\n", l.Meta.Length, stored.UTC().Format(time.RFC3339), fresh, key)
	return err
}

// storeStatCmd counts.
type storeStatCmd struct {
	storeFlags `embed:""`
}

// Help is shown below the flags.
func (c *storeStatCmd) Help() string {
	return `Example:

  edge store stat --data /var/lib/edge`
}

// Run counts.
func (c *storeStatCmd) Run() error { return c.run(os.Stdout) }

func (c *storeStatCmd) run(stdout io.Writer) error {
	w := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', 0)
	for _, dir := range c.directories() {
		i, err := store.Inspect(dir)
		if err != nil {
			return err
		}
		fmt.Fprintf(w, "directory\t%s (format %d)\n", i.Path, i.FormatVersion)
		fmt.Fprintf(w, "objects\t%d, and %d slices of large ones\n", i.Objects, i.Slices)
		fmt.Fprintf(w, "bytes\t%s in %d segment files, %s of them in use\n", rounded(i.Bytes), i.Segments, rounded(i.LiveBytes))
		fmt.Fprintf(w, "unsealed\t%d segments, %s torn at their ends\n", i.Unsealed, unit.Bytes(i.TornBytes))
		fmt.Fprintf(w, "damaged\t%d segments\n", i.BadSegments)
	}
	return w.Flush()
}

// storeVerifyCmd reads everything.
type storeVerifyCmd struct {
	storeFlags `embed:""`
}

// Help is shown below the flags.
func (c *storeVerifyCmd) Help() string {
	return `Checks every record against its checksum, changes nothing, and fails with exit code 1 where something is damaged, in the end. Progress goes to standard error: a line that changes on a terminal, else a line for each tenth. A running node checks what it reads as well and forgets what is damaged: nothing has to be mended by hand.

Example:

  edge store verify --data /var/lib/edge`
}

// Run verifies.
func (c *storeVerifyCmd) Run() error { return c.run(os.Stdout, os.Stderr) }

func (c *storeVerifyCmd) run(stdout, stderr io.Writer) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	damages := 0
	for _, dir := range c.directories() {
		progress := verifyProgress{w: stderr, terminal: isTerminal(stderr), dir: dir}
		err := store.Verify(ctx, dir, progress.tell, func(d store.Damage) {
			damages++
			fmt.Fprintf(stdout, "%s/%s at %d: %v", dir, d.Segment, d.Offset, d.Err)
			if d.Key != "" {
				fmt.Fprintf(stdout, ": %q", d.Key)
			}
			fmt.Fprintln(stdout)
		})
		progress.end()
		if err != nil {
			return err
		}
		fmt.Fprintf(stdout, "%s: %s read\n", dir, rounded(progress.done))
	}
	if damages > 0 {
		return fmt.Errorf("store verify: %d records or segments are damaged", damages)
	}
	return nil
}

// verifyProgress tells how far a directory has been read.
type verifyProgress struct {
	w        io.Writer
	terminal bool
	dir      string
	done     int64
	tenths   int64 // told
}

func (p *verifyProgress) tell(done, total int64) {
	p.done = done
	if p.terminal {
		fmt.Fprintf(p.w, "\r%s: %s of %s", p.dir, rounded(done), rounded(total))
		return
	}
	if total == 0 || done == total {
		return // the result follows
	}
	if tenths := done * 10 / total; tenths > p.tenths {
		p.tenths = tenths
		fmt.Fprintf(p.w, "%s: %s of %s\n", p.dir, rounded(done), rounded(total))
	}
}

func (p *verifyProgress) end() {
	if p.terminal {
		fmt.Fprintln(p.w)
	}
}
