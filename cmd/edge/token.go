package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"edgecdn/admin"
)

// tokenCmd looks after the tokens of the admin listener.
type tokenCmd struct {
	New    tokenNewCmd    `cmd:"" help:"Make a token, and print the lines for edge.yaml that let it in."`
	List   tokenListCmd   `cmd:"" help:"Show the tokens of a node."`
	Revoke tokenRevokeCmd `cmd:"" help:"Shut a token out of a node, at once and for good."`
}

// Help is shown below the flags.
func (c *tokenCmd) Help() string {
	return `Tokens are made for edge.yaml, which knows them by their hash. A token does what its scopes name and nothing else.

Examples:

  edge token new prometheus --scope read
  edge token list
  edge token revoke cms`
}

// tokenNewCmd makes a token and says how to let it in.
type tokenNewCmd struct {
	Name    string        `arg:"" help:"Name of the token in edge.yaml, in logs and in receipts: who holds it."`
	Scope   []string      `required:"" placeholder:"SCOPE" help:"What it may do: purge, purge:all, read, config, drain or dns; may be given more than once."`
	Host    []string      `placeholder:"HOST" help:"Limit the scope purge to this host, or to those under *.example.com; may be given more than once."`
	Expires time.Duration `placeholder:"TIME" help:"Refuse it after this long, such as 720h. Default: never."`
}

// Help is shown below the flags.
func (c *tokenNewCmd) Help() string {
	return `Prints a new token of 256 random bits and, for edge.yaml, its hash and what it may do. The lines are the same on all nodes and are no secret; the token is shown this once and kept nowhere. A node lets it in when it has read the file again, which it does by itself.

Examples:

  edge token new prometheus --scope read
  edge token new cms --scope purge --host www.example.com --host '*.img.example.com'
  edge token new deploy --scope purge --scope purge:all --scope read --expires 720h`
}

// Run prints a token.
func (c *tokenNewCmd) Run() error { return c.run(os.Stdout, time.Now()) }

func (c *tokenNewCmd) run(stdout io.Writer, now time.Time) error {
	token, hash := admin.NewToken()
	add := admin.Token{Name: c.Name, SHA256: hash, Scopes: c.Scope, Hosts: c.Host}
	if c.Expires < 0 {
		return codedError{errors.New("token new: --expires is in the past"), exitUsage}
	}
	if c.Expires > 0 {
		add.Expires = now.Add(c.Expires).UTC().Format(time.RFC3339)
	}
	var problems []error
	admin.Config{Tokens: []admin.Token{add}}.Validate(func(path, problem string) {
		problems = append(problems, fmt.Errorf("token new: %s: %s", strings.TrimPrefix(path, "tokens[0]."), problem))
	})
	if len(problems) > 0 {
		return codedError{errors.Join(problems...), exitUsage}
	}
	var lines strings.Builder
	fmt.Fprintf(&lines, "    - name: %q\n      sha256: %s\n      scopes: [%s]\n", add.Name, hash, quoted(add.Scopes))
	if len(add.Hosts) > 0 {
		fmt.Fprintf(&lines, "      hosts: [%s]\n", quoted(add.Hosts))
	}
	if add.Expires != "" {
		fmt.Fprintf(&lines, "      expires: %q\n", add.Expires)
	}
	_, err := fmt.Fprintf(stdout, "token: %s\n\nFor edge.yaml:\n\nadmin:\n  tokens:\n%s\nUse it with --token, or in EDGE_TOKEN.\n", token, &lines)
	return err
}

// quoted writes items of a YAML list.
func quoted(items []string) string {
	all := make([]string, len(items))
	for i, item := range items {
		all[i] = fmt.Sprintf("%q", item)
	}
	return strings.Join(all, ", ")
}

// tokenListCmd shows the tokens of a node.
type tokenListCmd struct {
	nodeFlags `embed:""`
	JSON      bool `name:"json" help:"Print the whole answer as JSON."`
}

// Help is shown below the flags.
func (c *tokenListCmd) Help() string {
	return `Shows what each token may do, whether it is let in, and when it was last used since the node started. Wants a token with the scope config, as the one in the data directory has.

Examples:

  edge token list
  EDGE_TOKEN=... edge token list --admin 10.0.0.7:8081 --json`
}

// Run prints the tokens.
func (c *tokenListCmd) Run() error { return c.run(os.Stdout) }

func (c *tokenListCmd) run(stdout io.Writer) error {
	var list admin.TokenList
	if err := c.askOrPrint(http.MethodGet, "/v1/tokens", &list, c.JSON, stdout); err != nil {
		return fmt.Errorf("token list: %w", err)
	}
	if c.JSON {
		return nil
	}
	w := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "NAME\tSTATE\tSCOPES\tHOSTS\tEXPIRES\tLAST USED\tFROM")
	for _, t := range list.Tokens {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", t.Name, t.State, strings.Join(t.Scopes, " "),
			cmp.Or(strings.Join(t.Hosts, " "), "all"), instant(t.Expires, "never"), instant(t.LastUsed, "-"), t.Source)
	}
	return w.Flush()
}

func instant(at *time.Time, otherwise string) string {
	if at == nil {
		return otherwise
	}
	return at.Local().Format(time.DateTime)
}

// tokenRevokeCmd shuts a token out.
type tokenRevokeCmd struct {
	Name      string `arg:"" help:"Name of the token."`
	nodeFlags `embed:""`
}

// Help is shown below the flags.
func (c *tokenRevokeCmd) Help() string {
	return `The node remembers the hash of the token under its data directory and lets it in no more, whatever edge.yaml says. Each node has to be asked. A new token may have the same name. To get back in after the last token is revoked, put another into edge.yaml; where none is configured, remove admin.token from the data directory and restart.

Examples:

  edge token revoke cms
  EDGE_TOKEN=... edge token revoke cms --admin 10.0.0.7:8081`
}

// Run revokes.
func (c *tokenRevokeCmd) Run() error { return c.run(os.Stdout) }

func (c *tokenRevokeCmd) run(stdout io.Writer) error {
	var t admin.TokenStatus
	if err := c.ask(http.MethodDelete, "/v1/tokens/"+url.PathEscape(c.Name), &t); err != nil {
		return fmt.Errorf("token revoke: %w", err)
	}
	_, err := fmt.Fprintf(stdout, "%s is revoked\n", t.Name)
	return err
}
