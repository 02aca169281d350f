package e2e

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"edgecdn/admin"
	"edgecdn/cmd/origin/script"
)

const configText = `# A site with everything under one host.
server:
  http: ["{http}"]
  https: ["{https}"]
admin:
  listen: "{admin}"
data: "{data}"
store:
  memory: {bytes: 64MiB}
  disk:
    - path: "{data}/cache"
      bytes: 1GiB
origins:
  site:
    url: ${E2E_ORIGIN}
hosts:
  - names: [www.example.test, "*.shop.example.test"]
    origin: site
    response: {set: {X-Version: "1"}}
    redirects:
      - {path: /old/*, to: "https://{host}/new/{rest}", status: 301}
    routes:
      - path: /_origin/echo
        cache: {bypass: true}
      - path: /_origin/respond
        cache:
          key: {query: {deny: [utm_*]}}
`

func TestConfigFile(t *testing.T) {
	o := startOrigin(t)
	t.Setenv("E2E_ORIGIN", o.url)
	n, file := startConfigured(t, configText)

	effective := edge(t, "check", "--config", file)
	for _, want := range []string{n.http, o.url, "X-Version", "64MiB"} {
		if !strings.Contains(effective, want) {
			t.Errorf("edge check does not show %s:\n%s", want, effective)
		}
	}
	c := newClient(t, n, "h1")
	get := func(host, target string) answer {
		req := c.request(t, "GET", target, nil)
		req.Host = host
		return c.do(t, req)
	}
	target := respond("body", "x", "header", "Cache-Control:max-age=60")
	a := get("www.example.test", target)
	a.want(t, 200, miss)
	if a.Header.Get("X-Version") != "1" {
		t.Errorf("X-Version %q", a.Header.Get("X-Version"))
	}
	get("www.example.test", target+"&utm_source=mail").want(t, 200, hit)
	get("a.shop.example.test", target).want(t, 200, miss)
	get("www.example.test", "/_origin/echo").want(t, 200, "edge; fwd=bypass")
	get("elsewhere.test", target).want(t, 421, "")
	moved := get("www.example.test", "/old/a%2Fb?c=d")
	moved.want(t, 301, "")
	if got := moved.Header.Get("Location"); !strings.HasPrefix(got, "https://www.example.test/new/a%2Fb") {
		t.Errorf("Location %q", got)
	}
}

// Everything wrong with a file is told at once, and nothing starts.
func TestConfigRefused(t *testing.T) {
	file := filepath.Join(t.TempDir(), "edge.yaml")
	writeFile(t, file, `server:
  http: ["127.0.0.1:0"]
  colour: red
store:
  memory: {bytes: lots}
origins:
  site: {url: "ftp://127.0.0.1"}
hosts:
  - names: [www.example.test]
    origin: nowhere
`)
	for _, command := range []string{"check", "serve"} {
		stdout, stderr, code := run(t, filepath.Join(bin, "edge"), command, "--config", file)
		if code != 3 {
			t.Errorf("edge %s: exit code %d, want 3", command, code)
		}
		for _, want := range []string{"edge.yaml:3", "edge.yaml:5", "edge.yaml:7", "edge.yaml:10", "colour", "lots", "nowhere"} {
			if !strings.Contains(stdout+stderr, want) {
				t.Errorf("edge %s does not say %s:\n%s%s", command, want, stdout, stderr)
			}
		}
	}
}

// A reload changes what is served and touches no connection; a bad file changes
// nothing and is told of.
func TestReload(t *testing.T) {
	o := startOrigin(t)
	t.Setenv("E2E_ORIGIN", o.url)
	n, file := startConfigured(t, configText)

	// A download in the middle of its body on each protocol, and an idle
	// connection that was used once.
	want := make([]byte, 1_000_000)
	script.Pattern(want, 0)
	var bodies []io.ReadCloser
	for _, protocol := range protocols {
		c := newClient(t, n, protocol)
		req := c.request(t, "GET", respond("size", "1MB", "chunks", "10", "chunk_delay", "300ms", "for", protocol, "header", "Cache-Control:no-store"), nil)
		req.Host = "www.example.test"
		resp, err := c.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		bodies = append(bodies, resp.Body)
	}
	idle, err := net.Dial("tcp", n.http)
	if err != nil {
		t.Fatal(err)
	}
	defer idle.Close()
	idle.SetDeadline(time.Now().Add(2 * patience))
	answers := bufio.NewReader(idle)
	version := func() string {
		t.Helper()
		fmt.Fprint(idle, "GET /_origin/respond HTTP/1.1\r\nHost: www.example.test\r\n\r\n")
		resp, err := http.ReadResponse(answers, nil)
		if err != nil {
			t.Fatalf("the connection did not live through the reload: %v", err)
		}
		io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		return resp.Header.Get("X-Version")
	}
	if got := version(); got != "1" {
		t.Fatalf("X-Version %q before any reload", got)
	}

	// By a change of the file, written anew as editors do.
	rewrite := func(old, changed string) {
		t.Helper()
		text := strings.Replace(n.fill(configText), old, changed, 1)
		writeFile(t, file+".new", text)
		if err := os.Rename(file+".new", file); err != nil {
			t.Fatal(err)
		}
	}
	rewrite(`X-Version: "1"`, `X-Version: "2"`)
	eventually(t, "the changed file is in force", func() bool { return version() == "2" })

	// A bad file keeps the old one and says why.
	rewrite("origin: site\n    response", "origin: nowhere\n    response")
	eventually(t, "the bad file is told of", func() bool { return strings.Contains(n.status(t).Config.LastError, "nowhere") })
	if got := version(); got != "2" {
		t.Errorf("X-Version %q after a bad file", got)
	}
	if out, stderr, code := run(t, filepath.Join(bin, "edge"), "reload", "--data", n.data); code == 0 || !strings.Contains(out+stderr, "nowhere") {
		t.Errorf("edge reload of a bad file: exit code %d\n%s%s", code, out, stderr)
	}

	// By SIGHUP, and by the command.
	rewrite(`X-Version: "1"`, `X-Version: "3"`)
	eventually(t, "the good file is in force", func() bool { return version() == "3" })
	reloads := n.status(t).Config.Reloads
	n.signal(t, syscall.SIGHUP)
	eventually(t, "SIGHUP reloads", func() bool { return n.status(t).Config.Reloads > reloads })
	if out := edge(t, "reload", "--data", n.data); !strings.Contains(out, "in force") {
		t.Errorf("edge reload says %q", out)
	}
	for i, body := range bodies {
		got, err := io.ReadAll(body)
		if err != nil || string(got) != string(want) {
			t.Errorf("%s: download cut by a reload after %d bytes: %v", protocols[i], len(got), err)
		}
	}
}

// status asks the node as an operator does.
func (n *node) status(t *testing.T) admin.Status {
	t.Helper()
	var status admin.Status
	out := edge(t, "status", "--json", "--data", n.data)
	if err := json.Unmarshal([]byte(out), &status); err != nil {
		t.Fatalf("%v in %s", err, out)
	}
	return status
}
