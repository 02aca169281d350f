package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"text/tabwriter"
	"time"

	"edgecdn/dnsgeo"
)

// dnsKeyCmd looks after the file with a zone's keys.
type dnsKeyCmd struct {
	New    dnsKeyNewCmd    `cmd:"" help:"Make a key of a zone, and print the DS record for its parent."`
	List   dnsKeyListCmd   `cmd:"" help:"Show the keys in a file."`
	Use    dnsKeyUseCmd    `cmd:"" help:"Have another key of the file sign."`
	Remove dnsKeyRemoveCmd `cmd:"" help:"Take a key that does not sign out of the file."`
}

// Help is shown below the flags.
func (c *dnsKeyCmd) Help() string {
	return `A zone under dns.zones is signed with the keys of the file that its dnssec.keys names: all of them are published, one signs. The file is the same at all responders; they read it again with their configuration (edge reload).

To replace a key without a moment in which answers are refused: new; wait for an hour; give the parent both DS records; wait for as long as the parent's DS is remembered; use; wait for the zone's longest TTL; remove; take the old DS from the parent.

Examples:

  edge dns key new cdn.example.com --file cdn.example.com.keys
  edge dns key list cdn.example.com --file cdn.example.com.keys
  edge dns key use cdn.example.com 12345 --file cdn.example.com.keys
  edge dns key remove cdn.example.com 54321 --file cdn.example.com.keys`
}

// dnsKeyFile is what all of them take.
type dnsKeyFile struct {
	Zone string `arg:"" help:"The zone, such as cdn.example.com."`
	File string `required:"" placeholder:"FILE" help:"The file with its keys."`
}

type dnsKeyNewCmd struct {
	dnsKeyFile
}

// Help is shown below the flags.
func (c *dnsKeyNewCmd) Help() string {
	return `The key is of ECDSA P-256 (algorithm 13). The first in a file signs; another is published beside it until "edge dns key use" says otherwise. The file is readable by its owner alone: whoever has it can sign anything in the zone.`
}

// Run makes a key.
func (c *dnsKeyNewCmd) Run() error {
	key, err := dnsgeo.AddKey(c.File, c.Zone, time.Now())
	if err != nil {
		return err
	}
	fmt.Println(key.DS())
	return nil
}

type dnsKeyListCmd struct {
	dnsKeyFile
}

// Run prints the keys.
func (c *dnsKeyListCmd) Run() error { return c.run(os.Stdout) }

func (c *dnsKeyListCmd) run(stdout io.Writer) error {
	keys, err := dnsgeo.ReadKeys(c.File, c.Zone)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: make it with edge dns key new", err)
	}
	if err != nil {
		return err
	}
	w := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "TAG\tSIGNS\tCREATED\tDS")
	for _, k := range keys {
		signs := "no"
		if k.Signs {
			signs = "yes"
		}
		fmt.Fprintf(w, "%d\t%s\t%s\t%s\n", k.Tag(), signs, k.Created.UTC().Format(time.DateOnly), k.DS())
	}
	return w.Flush()
}

type dnsKeyUseCmd struct {
	Zone string `arg:"" help:"The zone."`
	Tag  uint16 `arg:"" help:"Tag of the key that is to sign."`
	File string `required:"" placeholder:"FILE" help:"The file with its keys."`
}

// Run has a key sign.
func (c *dnsKeyUseCmd) Run() error { return dnsgeo.SignWith(c.File, c.Zone, c.Tag) }

type dnsKeyRemoveCmd struct {
	Zone string `arg:"" help:"The zone."`
	Tag  uint16 `arg:"" help:"Tag of the key to remove."`
	File string `required:"" placeholder:"FILE" help:"The file with its keys."`
}

// Run removes a key.
func (c *dnsKeyRemoveCmd) Run() error { return dnsgeo.RemoveKey(c.File, c.Zone, c.Tag) }
