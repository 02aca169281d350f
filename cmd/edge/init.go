package main

// What a new installation begins with.

import (
	"bytes"
	"crypto/rand"
	"embed"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"text/template"

	"edgecdn/admin"
	"edgecdn/config"
)

//go:embed shapes
var shapes embed.FS

// initCmd writes the files of a new installation.
type initCmd struct {
	Shape  string   `enum:"single,cluster,kubernetes" default:"single" help:"What it is for: ${enum}."`
	Dir    string   `default:"." placeholder:"DIR" help:"Write the files here."`
	Origin string   `default:"http://127.0.0.1:9000" placeholder:"URL" help:"Where content comes from."`
	Host   []string `placeholder:"NAME" help:"Names that are served; may be given more than once. Default: all."`
	Node   string   `placeholder:"NAME" help:"Name of the node. Default: that of this machine."`
	Site   string   `default:"home" placeholder:"NAME" help:"Where the node is, such as fra."`
	Seed   []string `placeholder:"HOST" help:"Another node, by which this one joins; may be given more than once."`
	Data   string   `default:"/var/lib/edge" placeholder:"DIR" help:"Data directory of the node."`
	Base   string   `default:"../base" placeholder:"DIR" help:"For kubernetes: deploy/kubernetes/base, as seen from --dir."`
}

// Help is shown below the flags.
func (c *initCmd) Help() string {
	return `Writes a commented edge.yaml and admin.token, a token that may do everything; for a cluster also cluster.secret, which every node must have, and for kubernetes a kustomization over deploy/kubernetes/base. What is there already is never overwritten: then nothing is written.

Examples:

  edge init --origin https://origin.example.com --host www.example.com
  edge init --shape cluster --node fra1 --site fra --seed 192.0.2.10 --dir /etc/edge
  edge init --shape kubernetes --dir deploy/kubernetes/mine --base ../base`
}

// shape is what the templates are filled with.
type shape struct {
	Node, Data, HTTP, HTTPS, Origin, Hosts string
	TokenHash, TokenFile                   string
	Cluster                                bool
	ClusterListen, Seeds, SecretFile, Site string
	Base                                   string
}

// A newFile is one that init writes.
type newFile struct {
	name, text string
	mode       fs.FileMode
}

// Run writes.
func (c *initCmd) Run() error { return c.run(os.Stdout) }

func (c *initCmd) run(stdout io.Writer) error {
	files, err := c.files()
	if err != nil {
		return fmt.Errorf("init: %w", err)
	}
	if err := os.MkdirAll(c.Dir, 0o755); err != nil {
		return fmt.Errorf("init: %w", err)
	}
	for _, f := range files {
		if _, err := os.Lstat(filepath.Join(c.Dir, f.name)); err == nil {
			return fmt.Errorf("init: %s is there already, and nothing was written: choose another --dir, or move it away", filepath.Join(c.Dir, f.name))
		}
	}
	for _, f := range files {
		if err := writeNew(filepath.Join(c.Dir, f.name), f.text, f.mode); err != nil {
			return fmt.Errorf("init: %w", err)
		}
		fmt.Fprintln(stdout, "wrote", filepath.Join(c.Dir, f.name))
	}
	_, err = fmt.Fprint(stdout, c.next())
	return err
}

// files makes what is to be written, and has the configuration checked.
func (c *initCmd) files() ([]newFile, error) {
	token, hash := admin.NewToken()
	s, err := c.shape(hash)
	if err != nil {
		return nil, err
	}
	text, err := fill("shapes/edge.yaml", s)
	if err != nil {
		return nil, err
	}
	// What only the node's environment has is looked up there, later.
	env := func(name string) (string, bool) { return "node", !strings.HasSuffix(name, "_FILE") }
	if _, err := config.Parse("edge.yaml", []byte(text), env); err != nil {
		return nil, refused(err)
	}
	files := []newFile{{"edge.yaml", text, 0o644}, {"admin.token", token + "\n", 0o600}}
	if s.Cluster {
		var secret [32]byte
		_, _ = rand.Read(secret[:]) // never fails
		files = append(files, newFile{"cluster.secret", base64.StdEncoding.EncodeToString(secret[:]) + "\n", 0o600})
	}
	if c.Shape == "kubernetes" {
		text, err := fill("shapes/kustomization.yaml", s)
		if err != nil {
			return nil, err
		}
		files = append(files, newFile{"kustomization.yaml", text, 0o644})
	}
	return files, nil
}

func (c *initCmd) shape(tokenHash string) (*shape, error) {
	dir, err := filepath.Abs(c.Dir)
	if err != nil {
		return nil, err
	}
	node := c.Node
	if node == "" {
		name, err := os.Hostname()
		if err != nil {
			return nil, fmt.Errorf("this machine has no name: give the node one with --node: %w", err)
		}
		node, _, _ = strings.Cut(name, ".")
	}
	hosts := c.Host
	if len(hosts) == 0 {
		hosts = []string{"*"}
	}
	s := &shape{
		Node: node, Data: c.Data, HTTP: ":80", HTTPS: ":443", Origin: c.Origin, Hosts: quoted(hosts),
		TokenHash: tokenHash, TokenFile: filepath.Join(dir, "admin.token"),
		Cluster: c.Shape != "single", ClusterListen: ":7946", Seeds: quoted(c.Seed), SecretFile: filepath.Join(dir, "cluster.secret"), Site: c.Site,
		Base: c.Base,
	}
	if c.Shape == "kubernetes" {
		// What the manifests in deploy/kubernetes mount and set.
		s.Node, s.Data, s.Site = "${EDGE_NODE}", "/data", "${EDGE_SITE:-"+c.Site+"}"
		s.TokenFile, s.SecretFile = "the secret edge, key admin.token", "/etc/edge-secret/cluster.secret"
		if len(c.Seed) == 0 {
			s.Seeds = quoted([]string{"edge-gossip"})
		}
	}
	return s, nil
}

// fill fills a template in.
func fill(name string, s *shape) (string, error) {
	t, err := template.ParseFS(shapes, name)
	if err != nil {
		return "", err
	}
	var b bytes.Buffer
	if err := t.Execute(&b, s); err != nil {
		return "", err
	}
	return b.String(), nil
}

// writeNew writes a file that is not there yet.
func writeNew(path, text string, mode fs.FileMode) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}

// next says what to do with what was written.
func (c *initCmd) next() string {
	at := func(name string) string { return filepath.Join(c.Dir, name) }
	switch c.Shape {
	case "cluster":
		return fmt.Sprintf(`
Copy cluster.secret to every node, give each an edge.yaml of its own (node, site, seeds), then:

  edge check --config %s
  edge serve --config %s
`, at("edge.yaml"), at("edge.yaml"))
	case "kubernetes":
		return fmt.Sprintf("\nNext:\n\n  kubectl apply -k %s\n", c.Dir)
	}
	return fmt.Sprintf("\nNext:\n\n  edge check --config %s\n  edge serve --config %s\n", at("edge.yaml"), at("edge.yaml"))
}
