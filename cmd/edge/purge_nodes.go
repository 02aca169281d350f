package main

// purge_nodes.go shows whoever waits how far each node is.

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"text/tabwriter"

	"edgecdn/admin"
)

// purgeStates are what a receipt says of a node, from the best for whoever waits.
var purgeStates = []string{admin.PurgeSwept, admin.PurgeApplied, admin.PurgeFenced, admin.PurgeGone, admin.PurgePending, admin.PurgeUnreachable}

// purgeNodes is how far each node is with all purges of a command: its worst state, and
// when it came to its last.
type purgeNodes map[string]admin.PurgeNode

func (all *purgeNodes) add(nodes []admin.PurgeNode) {
	if *all == nil {
		*all = purgeNodes{}
	}
	for _, n := range nodes {
		was, ok := (*all)[n.Node]
		if ok && slices.Index(purgeStates, was.State) > slices.Index(purgeStates, n.State) {
			n.State = was.State
		}
		if ok && was.At != nil && (n.At == nil || was.At.After(*n.At)) {
			n.At = was.At
		}
		(*all)[n.Node] = n
	}
}

func (all purgeNodes) print(w io.Writer) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "\nNODE\tSTATE\tSINCE, BY ITS CLOCK")
	for _, name := range slices.Sorted(maps.Keys(all)) {
		n, at := all[name], "-"
		if n.At != nil && n.State != admin.PurgePending && n.State != admin.PurgeUnreachable {
			at = n.At.UTC().Format("2006-01-02 15:04:05.000 MST")
		}
		fmt.Fprintf(table, "%s\t%s\t%s\n", name, n.State, at)
	}
	return table.Flush()
}
