package main

import (
	"bufio"
	"cmp"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"edgecdn/admin"
)

// purgeCmd has a node forget what is stored.
type purgeCmd struct {
	Targets []string      `arg:"" optional:"" name:"target" help:"URLs, or what the flags say; - reads them from standard input, one a line."`
	Prefix  bool          `xor:"kind" help:"Targets are prefixes, host and path without scheme, such as www.example.com/static."`
	Host    bool          `xor:"kind" help:"Targets are hosts."`
	Group   string        `xor:"kind" placeholder:"HOST" help:"Targets are groups of this host (Cache-Groups, Surrogate-Key, Cache-Tag)."`
	All     bool          `xor:"kind" help:"Everything that is stored; no targets."`
	Soft    bool          `help:"Leave it stale: it is validated when it is next wanted, and serves while the origin fails."`
	Wait    bool          `help:"Return when the purge is applied on every live node."`
	Timeout time.Duration `default:"30s" help:"With --wait: fail after this long, at most 1m. The purge goes on."`
	DryRun  bool          `help:"Purge nothing; count what would be."`
	Reason  string        `placeholder:"TEXT" help:"Why, for those who read receipts and the audit log."`
	JSON    bool          `name:"json" help:"Print each receipt as a line of JSON."`

	nodeFlags `embed:""`
}

const (
	purgeBatchBytesMax = 2 << 20 // well within what a node reads
	purgeLineMax       = 64 << 10
	purgeTries         = 8
	purgeWaitMax       = time.Minute
	retryMax           = 10 * time.Second
)

// Help is shown below the flags.
func (c *purgeCmd) Help() string {
	return `Returns when the purge is in the node's log, synced, and in force there: nothing that was stored before is served again. Many targets make several purges, of up to 10,000 URLs or 256 of anything else. There are no regular expressions; use prefixes, or groups that your origin names.

Examples:

  edge purge https://www.example.com/logo.svg http://www.example.com/logo.svg
  edge purge --prefix www.example.com/static --soft
  edge purge --group www.example.com article-7 front-page --reason "typo in the title"
  edge purge --host www.example.com --dry-run
  edge purge --all --wait
  generate-urls | edge purge - --json`
}

// Run purges.
func (c *purgeCmd) Run() error {
	var progress io.Writer = io.Discard
	if isTerminal(os.Stderr) {
		progress = os.Stderr
	}
	return c.run(os.Stdin, os.Stdout, progress)
}

func (c *purgeCmd) run(stdin io.Reader, stdout, progress io.Writer) error {
	if err := c.check(); err != nil {
		return codedError{fmt.Errorf("purge: %w", err), exitUsage}
	}
	out := &receipts{json: c.JSON, wait: c.Wait, stdout: stdout, progress: progress}
	err := c.eachBatch(stdin, func(batch []string) error { return c.purge(batch, out) })
	if printed := out.close(); err == nil {
		err = printed
	}
	if err != nil && out.targets > 0 {
		return fmt.Errorf("purge: after %d that were purged: %w", out.targets, err)
	}
	if err != nil {
		return fmt.Errorf("purge: %w", err)
	}
	return nil
}

func (c *purgeCmd) check() error {
	switch {
	case c.All && len(c.Targets) > 0:
		return errors.New("--all takes no targets")
	case !c.All && len(c.Targets) == 0:
		return errors.New("name what to purge: URLs, - for those on standard input, or --all")
	case c.Timeout <= 0 || c.Timeout > purgeWaitMax:
		return fmt.Errorf("--timeout %v: choose more than 0 and at most %v", c.Timeout, purgeWaitMax)
	}
	return nil
}

// batchMax is how many targets one purge takes.
func (c *purgeCmd) batchMax() int {
	switch {
	case c.Prefix:
		return admin.PurgePrefixesMax
	case c.Host:
		return admin.PurgeHostsMax
	case c.Group != "":
		return admin.PurgeGroupsMax
	}
	return admin.PurgeURLsMax
}

// eachBatch splits the targets so that each part is one purge.
func (c *purgeCmd) eachBatch(stdin io.Reader, purge func([]string) error) error {
	if c.All {
		return purge(nil)
	}
	var batch []string
	size := 0
	flush := func() error {
		full := batch
		batch, size = nil, 0
		if len(full) == 0 {
			return nil
		}
		return purge(full)
	}
	add := func(target string) error {
		if len(batch) == c.batchMax() || size+len(target) > purgeBatchBytesMax {
			if err := flush(); err != nil {
				return err
			}
		}
		batch, size = append(batch, target), size+len(target)
		return nil
	}
	for _, target := range c.Targets {
		if target != "-" {
			if err := add(target); err != nil {
				return err
			}
			continue
		}
		lines := bufio.NewScanner(stdin)
		lines.Buffer(nil, purgeLineMax)
		for lines.Scan() {
			if line := strings.TrimSpace(lines.Text()); line != "" {
				if err := add(line); err != nil {
					return err
				}
			}
		}
		if err := lines.Err(); err != nil {
			return fmt.Errorf("standard input: %w", err)
		}
	}
	return flush()
}

// body is the JSON of one purge.
func (c *purgeCmd) body(batch []string) ([]byte, error) {
	fields := map[string]any{}
	switch {
	case c.All:
		fields["all"] = true
	case c.Prefix:
		fields["prefixes"] = batch
	case c.Host:
		fields["hosts"] = batch
	case c.Group != "":
		fields["groups"] = map[string]any{"host": c.Group, "names": batch}
	default:
		fields["urls"] = batch
	}
	if c.Soft {
		fields["mode"] = "soft"
	}
	if c.DryRun {
		fields["dry_run"] = true
	}
	if c.Reason != "" {
		fields["reason"] = c.Reason
	}
	return json.Marshal(fields)
}

// purge makes one purge of a batch. Its key lets it be sent again where the node
// was busy, and be made once.
func (c *purgeCmd) purge(batch []string, out *receipts) error {
	body, err := c.body(batch)
	if err != nil {
		return err
	}
	q := nodeRequest{method: http.MethodPost, path: "/v1/purges", body: body, key: rand.Text(), timeout: answerTimeout}
	if c.Wait {
		q.path += "?wait=all&timeout=" + c.Timeout.String()
		q.timeout += c.Timeout
	}
	got, err := c.sendPatiently(q)
	if err != nil {
		return err
	}
	receipt, err := c.receipt(got, batch)
	if err != nil {
		return err
	}
	if err := out.add(receipt, len(batch)); err != nil {
		return err
	}
	if c.Wait && got.status == http.StatusAccepted {
		return fmt.Errorf("not applied on every node within %v%s: it goes on, the receipt says how far it is", c.Timeout, lagging(receipt))
	}
	return nil
}

// inForce says whether a node in that state serves nothing of what is purged.
func inForce(state string) bool {
	return state == admin.PurgeApplied || state == admin.PurgeSwept || state == admin.PurgeFenced
}

// lagging names the nodes that a purge is not in force on.
func lagging(receipt json.RawMessage) string {
	var r admin.Receipt
	if json.Unmarshal(receipt, &r) != nil {
		return ""
	}
	var names []string
	for _, n := range r.Nodes {
		if !inForce(n.State) && n.State != admin.PurgeGone {
			names = append(names, n.Node+" is "+n.State)
		}
	}
	if len(names) == 0 {
		return ""
	}
	return " (" + strings.Join(names, ", ") + ")"
}

// receipt returns what the answer holds, or asks for it.
func (c *purgeCmd) receipt(got *nodeAnswer, batch []string) (receipt json.RawMessage, err error) {
	switch got.status {
	case http.StatusOK:
		err = got.decode(&receipt)
		return receipt, err
	case http.StatusAccepted:
	default:
		return nil, c.refused(got, batch)
	}
	var made struct{ ID string }
	if err := got.decode(&made); err != nil {
		return nil, err
	}
	if err := c.ask(http.MethodGet, "/v1/purges/"+url.PathEscape(made.ID), &receipt); err != nil {
		return nil, fmt.Errorf("the purge %s is made, but its receipt cannot be had: %w", made.ID, err)
	}
	return receipt, nil
}

// sendPatiently waits where the node says that it has no time now.
func (c *purgeCmd) sendPatiently(q nodeRequest) (*nodeAnswer, error) {
	for try := 1; ; try++ {
		got, err := c.send(q)
		if err != nil || try == purgeTries || got.status != http.StatusTooManyRequests && got.status != http.StatusServiceUnavailable {
			return got, err
		}
		seconds, err := strconv.Atoi(got.header.Get("Retry-After"))
		wait := time.Duration(seconds) * time.Second
		if err != nil || wait <= 0 || wait > retryMax {
			return got, nil
		}
		<-time.After(wait)
	}
}

// refused says what is wrong with which target.
func (c *purgeCmd) refused(got *nodeAnswer, batch []string) error {
	var problem struct{ Errors []admin.FieldError }
	if json.Unmarshal(got.body, &problem) != nil || len(problem.Errors) == 0 {
		return got.problem()
	}
	all := []error{got.problem()}
	for _, e := range problem.Errors {
		name := e.Field
		if _, index, ok := strings.Cut(strings.TrimSuffix(name, "]"), "["); ok {
			if i, err := strconv.Atoi(index); err == nil && i >= 0 && i < len(batch) {
				name = batch[i]
			}
		}
		all = append(all, fmt.Errorf("  %s: %s", cmp.Or(name, "the purge"), e.Detail))
	}
	err := errors.Join(all...)
	if got.status == http.StatusUnprocessableEntity {
		return codedError{err, exitUsage}
	}
	return err
}

// receipts prints what became of each purge.
type receipts struct {
	json, wait       bool
	stdout, progress io.Writer
	table            *tabwriter.Writer
	purges, targets  int
	nodes            purgeNodes // where wait is set
}

func (o *receipts) add(raw json.RawMessage, targets int) error {
	var r admin.Receipt
	if err := json.Unmarshal(raw, &r); err != nil {
		return fmt.Errorf("the node's receipt cannot be read: %w", err)
	}
	o.purges++
	o.targets += targets
	if o.purges > 1 || targets > 1 {
		fmt.Fprintf(o.progress, "\r%d targets in %d purges", o.targets, o.purges)
	}
	if o.json {
		line, err := json.Marshal(raw) // compacted
		if err == nil {
			_, err = fmt.Fprintf(o.stdout, "%s\n", line)
		}
		return err
	}
	if o.table == nil {
		o.table = tabwriter.NewWriter(o.stdout, 0, 0, 2, ' ', 0)
		fmt.Fprintln(o.table, "PURGE\tKIND\tMODE\tTARGETS\tSTATE\tMEMORY\tDISK\tNODES")
	}
	state, memory, disk := r.State, "counting", "counting"
	if r.Counts.MemoryCounted {
		memory, disk = strconv.FormatInt(r.Counts.Memory, 10), "about "+strconv.FormatInt(r.Counts.Disk, 10)
	}
	if r.DryRun {
		state = "dry run"
	}
	if r.Counts.Counted {
		disk = strconv.FormatInt(r.Counts.Disk, 10)
	}
	applied := 0
	for _, n := range r.Nodes {
		if inForce(n.State) {
			applied++
		}
	}
	if o.wait {
		o.nodes.add(r.Nodes)
	}
	_, err := fmt.Fprintf(o.table, "%s\t%s\t%s\t%d\t%s\t%s\t%s\t%d of %d\n", cmp.Or(r.ID, "-"), r.Kind, r.Mode, r.TargetsTotal, state, memory, disk, applied, len(r.Nodes))
	return err
}

func (o *receipts) close() error {
	if o.purges > 1 || o.targets > 1 {
		fmt.Fprint(o.progress, "\r\x1b[K")
	}
	if o.table == nil {
		return nil
	}
	if err := o.table.Flush(); err != nil || len(o.nodes) == 0 {
		return err
	}
	return o.nodes.print(o.stdout)
}
