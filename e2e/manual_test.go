package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// manual holds what docs/ tells a reader to type.
type manual struct {
	blocks []*block
	b      *booted
}

// block is commands that a document shows together.
type block struct {
	doc, text string
	typed     bool
}

// shellWords are what a line of a document begins with where it is to be typed.
var shellWords = regexp.MustCompile(`^(\$ |(edge|curl|openssl|chmod|chown|dig|tar|install|docker|kubectl|systemctl|generate-urls) )`)

// readManual finds the commands in docs/: fences of sh, and what is indented.
func readManual(t *testing.T) *manual {
	t.Helper()
	files, err := filepath.Glob("../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	m := &manual{}
	for _, file := range files {
		var text strings.Builder
		fence, blank := "", true
		end := func(isShell bool) {
			if text.Len() > 0 && isShell {
				m.blocks = append(m.blocks, &block{doc: filepath.Base(file), text: text.String()})
			}
			text.Reset()
		}
		for line := range strings.Lines(readText(t, file)) {
			indented := strings.HasPrefix(line, "    ")
			switch {
			case fence == "" && strings.HasPrefix(line, "```"):
				fence = strings.TrimSpace(line)
			case strings.HasPrefix(line, "```"):
				if fence != "```sh" && shellWords.MatchString(text.String()) {
					t.Errorf("%s: commands in a block that is not of sh: %s", file, text.String())
				}
				end(fence == "```sh")
				fence = ""
			case fence != "":
				text.WriteString(line)
			case indented && (blank || text.Len() > 0):
				text.WriteString(line[4:])
			default:
				end(shellWords.MatchString(text.String()))
			}
			blank = strings.TrimSpace(line) == ""
		}
		end(shellWords.MatchString(text.String()))
	}
	return m
}

// typed runs the block of a document that has these words, in a directory of the
// machine, and returns what it says. Names that stand for something are replaced.
func (m *manual) typed(t *testing.T, doc, words, dir string, replace ...string) string {
	t.Helper()
	text := m.take(t, doc, words)
	if strings.HasPrefix(text, "$ ") {
		var commands strings.Builder
		for line := range strings.Lines(text) {
			if command, ok := strings.CutPrefix(line, "$ "); ok {
				commands.WriteString(command)
			}
		}
		text = commands.String()
	}
	return m.says(t, dir, strings.NewReplacer(replace...).Replace(text))
}

// take returns such a block, which is then taken for done.
func (m *manual) take(t *testing.T, doc, words string) string {
	t.Helper()
	var found *block
	for _, b := range m.blocks {
		if b.doc == doc && strings.Contains(b.text, words) {
			if found != nil {
				t.Fatalf("%s: two blocks have %q", doc, words)
			}
			found = b
		}
	}
	if found == nil {
		t.Fatalf("%s: no block has %q", doc, words)
	}
	found.typed = true
	return found.text
}

// says runs commands on the machine, which must succeed.
func (m *manual) says(t *testing.T, dir, script string) string {
	t.Helper()
	out, err := m.b.command(dir, script).CombinedOutput()
	if err != nil {
		t.Fatalf("%s\n%v\n%s", script, err, tail(string(out), 40))
	}
	return string(out)
}

// file writes one of the machine's files, or with >> before its name appends.
func (m *manual) file(t *testing.T, name, text string) {
	t.Helper()
	name, appended := strings.CutPrefix(name, ">>")
	if appended {
		text = readText(t, m.b.path(name)) + text
	}
	if err := os.MkdirAll(filepath.Dir(m.b.path(name)), 0o755); err != nil {
		t.Fatal(err)
	}
	writeFile(t, m.b.path(name), text)
}

// yaml returns the block of yaml in a document that has these words.
func yamlOf(t *testing.T, doc, words string) string {
	t.Helper()
	for _, part := range strings.Split(readText(t, "../docs/"+doc), "\n\n") {
		if text, fenced := strings.CutPrefix(part, "```yaml\n"); fenced && strings.Contains(part, words) {
			return strings.TrimSuffix(text, "```")
		}
		if strings.HasPrefix(part, "    ") && strings.Contains(part, words) {
			return strings.ReplaceAll("\n"+part, "\n    ", "\n") + "\n"
		}
	}
	t.Fatalf("%s has no yaml with %q", doc, words)
	return ""
}

func wantAll(t *testing.T, said string, want ...string) {
	t.Helper()
	for _, w := range want {
		if !regexp.MustCompile(w).MatchString(said) {
			t.Errorf("no %q in:\n%s", w, said)
		}
	}
}

// TestManual types what docs/ says, in the order in which a reader comes to it, on a
// machine that has only the tarball. What is not typed here, or elsewhere as it says, is
// an error: documents show no command that nobody has tried.
func TestManual(t *testing.T) {
	full(t)
	need(t, "openssl")
	m := readManual(t)
	lan := newLAN(t)
	m.b = boot(t, lan.machine(t, "10.0.0.5/8"))
	m.furnish(t, lan.machine(t, "10.0.0.9/8"))
	for _, part := range []struct {
		name string
		run  func(*testing.T)
	}{
		{"install", m.install}, {"serve", m.serve}, {"purge", m.purge}, {"tokens", m.tokens}, {"cluster", func(t *testing.T) { m.cluster(t, lan) }},
		{"dns", m.dns}, {"operating", m.operating}, {"upgrade", m.upgrade}, {"sockets", m.sockets}, {"kubernetes", m.kubernetes},
	} {
		if !t.Run(part.name, part.run) {
			t.Log(m.says(t, "/", "journalctl --no-pager -n 30 -u edge -u dns -u home || true"))
			return
		}
	}
	m.take(t, "install.md", "docker build") // testDockerCommands types it
	for _, b := range m.blocks {
		if !b.typed {
			t.Errorf("%s: nobody has tried\n%s", b.doc, b.text)
		}
	}
}

// operator is where the machine's operator works.
const operator = "/srv/op"

// furnish gives the machine what its operator has: the tarball, an origin, names, and
// certificates that its system trusts.
func (m *manual) furnish(t *testing.T, origin *machine) {
	t.Helper()
	dir := t.TempDir()
	m.file(t, "/srv/op/edge-test-linux-amd64.tar.gz", readText(t, tarball(t)))
	m.file(t, ">>/etc/hosts", "127.0.0.1 www.example.com\n10.0.0.9 origin.example.com\n")
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	ran(t, "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", "/CN=test",
		"-addext", "subjectAltName=DNS:origin.example.com,DNS:www.example.com", "-keyout", key, "-out", cert)
	m.file(t, ">>/etc/ssl/certs/ca-certificates.crt", readText(t, cert))
	m.file(t, operator+"/cert.pem", readText(t, cert))
	m.file(t, operator+"/key.pem", readText(t, key))
	origin.start(t, filepath.Join(bin, "origin"), "--listen", "10.0.0.9:443", "--cert", cert, "--key", key)
	m.file(t, "/usr/local/bin/generate-urls", "#!/bin/sh\nprintf 'https://www.example.com/%d\\n' 1 2 3\n")
	m.says(t, "/", "chmod 755 /usr/local/bin/generate-urls")
}

func (m *manual) install(t *testing.T) {
	m.typed(t, "install.md", "tar -xzf", operator, "VERSION", "test")
	m.typed(t, "install.md", "systemctl enable --now edge", operator, "VERSION", "test")
	wantAll(t, m.says(t, "/", "systemctl is-active edge; edge status"), "^active", "serving")
	wantAll(t, m.typed(t, "install.md", "edge get --repeat 2", "/"), "(?s)miss.*hit")
}

// serve gives the node certificates in the way that the commented lines of edge init
// show, and content of its own.
func (m *manual) serve(t *testing.T) {
	text := readText(t, m.b.path("/etc/edge/edge.yaml"))
	for _, line := range []string{"tls:\n", "  certificates:\n", "    - cert: /etc/edge/www.example.com.pem\n", "      key: /etc/edge/www.example.com.key\n"} {
		if !strings.Contains(text, "  #: "+line) {
			t.Fatalf("edge init shows no %q", line)
		}
		text = strings.Replace(text, "  #: "+line, "  "+line, 1)
	}
	text += `    routes:
      - {path: /app.css, origin: files}
      - {path: /logo.svg, purge: true}
`
	text = strings.Replace(text, "\norigins:\n", "\norigins:\n  files: {directory: /srv/www, cache_control: max-age=3600}\n", 1)
	m.file(t, "/srv/www/app.css", "body { margin: 0 }")
	m.says(t, operator, `install -m 600 -o edge key.pem /etc/edge/www.example.com.key
cp cert.pem /etc/edge/www.example.com.pem`)
	m.file(t, "/etc/edge/edge.yaml", text)
	m.says(t, "/", "systemctl reload edge")
	wantAll(t, m.typed(t, "production.md", "edge check", "/"), "serving", "(?s)miss.*hit")
	said := m.typed(t, "caching.md", "app.css", operator)
	for line := range strings.Lines(said) {
		t.Log(strings.TrimSpace(line))
	}
	wantAll(t, said, `(?m)^cache-status: edge; fwd=uri-miss; ttl=3600; stored\r?$`, `(?m)^cache-status: edge; hit; ttl=3[56]\d\d\r?$`)
	m.says(t, "/", "test -s /srv/op/app.css")
}

// home is where a reader has a data directory called data, as from edge serve --origin.
const home = operator + "/home"

func (m *manual) purge(t *testing.T) {
	m.says(t, "/", "mkdir -p "+home+"/data && cp /etc/edge/admin.token "+home+"/data/")
	wantAll(t, m.typed(t, "metrics.md", "/metrics", home), "edge_requests_total")
	wantAll(t, m.typed(t, "purge.md", `"urls"`, home), `"id"`)
	wantAll(t, m.typed(t, "purge.md", `"groups"`, home), `"id"`, `"soft"`)
	wantAll(t, m.typed(t, "purge.md", `"dry_run"`, home), `"kind": "prefix"`)
	wantAll(t, m.typed(t, "purge.md", "limit=10", home), "new logo")
	export := "export EDGE_TOKEN=$(cat /etc/edge/admin.token)\n"
	wantAll(t, m.says(t, "/", export+m.take(t, "admin-api.md", "7d1f")), `"id"`)
	wantAll(t, m.says(t, "/", export+m.take(t, "admin-api.md", "--request-target")), `(?s)"id".*"id"`)
	wantAll(t, m.says(t, "/", export+m.take(t, "admin-api.md", "PURGE -H \"Authorization: Bearer $EDGE_TOKEN\" https")), `"id"`)
	m.typed(t, "admin-api.md", "generate-urls", "/")
}

func (m *manual) tokens(t *testing.T) {
	said := m.says(t, "/", "edge token new cms --scope purge --host www.example.com --expires 720h")
	_, lines, _ := strings.Cut(said, "  tokens:\n")
	lines, _, _ = strings.Cut(lines, "\n\n")
	text := readText(t, m.b.path("/etc/edge/edge.yaml"))
	m.file(t, "/etc/edge/edge.yaml", strings.Replace(text, "  tokens:\n", "  tokens:\n"+lines+"\n", 1))
	m.says(t, "/", "edge reload")
	wantAll(t, m.typed(t, "admin-api.md", "edge token list", "/"), "cms +.*purge")
	wantAll(t, m.says(t, "/", "edge token list"), "cms.*revoked")
}

func (m *manual) cluster(t *testing.T, lan *localNet) {
	m.typed(t, "cluster.md", "openssl rand", "/")
	text := yamlOf(t, "cluster.md", "node: edge-fra-1")
	config := readText(t, m.b.path("/etc/edge/edge.yaml"))
	config = regexp.MustCompile(`(?m)^node: .*$`).ReplaceAllString(config, "")
	m.file(t, "/etc/edge/edge.yaml", config+text)
	secret := filepath.Join(t.TempDir(), "secret")
	writeFile(t, secret, readText(t, m.b.path("/etc/edge/cluster.secrets")))
	m.says(t, "/", "systemctl restart edge")
	others := map[string]*process{}
	for name, address := range map[string]string{"edge-fra-2": "10.0.0.6", "edge-iad-1": "10.0.1.6"} {
		dir := t.TempDir()
		file := filepath.Join(dir, "edge.yaml")
		text := strings.NewReplacer("edge-fra-1", name, "site: fra", "site: "+strings.Split(name, "-")[1],
			"/etc/edge/cluster.secrets", secret).Replace(text)
		writeFile(t, file, text+fmt.Sprintf(`data: %s/data
server: {http: ["%s:80"]}
admin: {listen: 127.0.0.1:8081}
origins: {web: {url: "https://origin.example.com"}}
hosts: [{names: ["*"], origin: web}]
`, dir, address))
		others[name] = lan.machine(t, address+"/8").start(t, filepath.Join(bin, "edge"), "serve", "--config", file)
	}
	eventually(t, "three nodes see each other", func() bool {
		out, _ := m.b.command("/", "edge nodes").CombinedOutput()
		return strings.Count(string(out), "alive") == 3
	})
	others["edge-fra-2"].kill()
	eventually(t, "one is missed", func() bool {
		out, _ := m.b.command("/", "edge nodes").CombinedOutput()
		return regexp.MustCompile(`(?m)^edge-fra-2.*(suspect|dead)`).Match(out)
	})
	m.typed(t, "cluster.md", "edge nodes out", "/")
	wantAll(t, m.says(t, "/", "edge nodes"), `edge-fra-1.*out`, `edge-fra-2.*gone`)
	others["edge-iad-1"].kill()
	m.says(t, "/", "systemctl restart edge")
	if out, err := m.b.command("/", "edge status").CombinedOutput(); !strings.Contains(string(out), "fenced") {
		t.Errorf("alone after a restart: %v\n%s", err, out)
	}
	m.typed(t, "cluster.md", "edge nodes release", "/")
	eventually(t, "the node serves when it is released", func() bool { return strings.Contains(m.says(t, "/", "edge status"), "serving") })
}

func (m *manual) dns(t *testing.T) {
	m.typed(t, "dnssec.md", "edge dns key new", "/")
	m.typed(t, "dnssec.md", "openssl rand", "/")
	m.file(t, operator+"/dns/edge.yaml", "data: /srv/op/dns/data\n"+yamlOf(t, "dns.md", "for edge dns"))
	m.says(t, operator+"/dns", "systemctl stop edge; systemd-run --unit=dns --working-directory=/srv/op/dns edge dns --config edge.yaml")
	eventually(t, "the responder answers", func() bool {
		return m.b.command("/", "dig @127.0.0.1 +time=1 +tries=1 cdn.example.com SOA | grep -q NOERROR").Run() == nil
	})
	wantAll(t, m.typed(t, "dns.md", "dig @127.0.0.1", operator+"/dns"), `www\.cdn\.example\.com\.\s+\d+\s+IN\s+A\s`, `IN\s+HTTPS\s+1`, "fra-1")
	wantAll(t, m.typed(t, "dnssec.md", "edge dns txt put", operator+"/dns"), `gfj9XqRg85nM`)
	m.says(t, "/", "systemctl stop dns")
}

func (m *manual) operating(t *testing.T) {
	m.says(t, "/", "systemctl stop edge")
	m.says(t, home, "cp /etc/edge/edge.yaml . && sed -i -e 's,^data: .*,data: data,' -e 's,/var/lib/edge/cache,data/cache,' edge.yaml")
	m.says(t, home, "systemd-run --unit=home --working-directory="+home+" "+strings.TrimSpace(m.take(t, "operating.md", "edge serve --config")))
	eventually(t, "the node serves", func() bool { return m.b.command(home, "edge status").Run() == nil })
	m.says(t, home, "edge get --repeat 3 http://www.example.com/; systemctl stop home")
	wantAll(t, m.typed(t, "operating.md", "edge store verify", home), "data")
}

func (m *manual) upgrade(t *testing.T) {
	m.says(t, "/", "systemctl start edge")
	eventually(t, "the node serves", func() bool { return m.b.command("/", "edge status").Run() == nil })
	before := m.says(t, "/", "systemctl show -P MainPID edge")
	m.typed(t, "upgrade.md", "systemctl restart edge", "/")
	if after := m.says(t, "/", "systemctl show -P MainPID edge"); after == before {
		t.Error("it is the same process")
	}
}

// sockets lets systemd hold the ports, as docs/install.md says.
func (m *manual) sockets(t *testing.T) {
	line := regexp.MustCompile("(?s)`server: \\{(http: .*?),\\s+(https: .*?)\\}`").FindStringSubmatch(readText(t, "../docs/install.md"))
	if line == nil {
		t.Fatal("docs/install.md does not say how")
	}
	m.says(t, "/", "systemctl stop edge; cp /srv/op/edge-test/deploy/systemd/*.socket /etc/systemd/system/")
	text := readText(t, m.b.path("/etc/edge/edge.yaml"))
	text = regexp.MustCompile(`(?m)^  http: .*\n`).ReplaceAllString(text, "  "+line[1]+"\n")
	text = regexp.MustCompile(`(?m)^  https: .*\n`).ReplaceAllString(text, "  "+line[2]+"\n")
	m.file(t, "/etc/edge/edge.yaml", text)
	m.says(t, "/", "systemctl daemon-reload; systemctl enable --now edge-http.socket edge-https.socket; systemctl start edge")
	wantAll(t, m.says(t, "/", "edge get --repeat 2 https://www.example.com/"), "hit")
	// While it is restarted clients wait.
	m.says(t, "/", "systemctl restart --no-block edge; for i in $(seq 20); do curl -sf -m 20 -o /dev/null http://www.example.com/ || exit 1; done")
}

// kubernetes writes an overlay and renders it by the kustomize that kubectl has; what it
// holds is decoded by deploy/test. There is no cluster to apply it to.
func (m *manual) kubernetes(t *testing.T) {
	commands := strings.Split(strings.TrimSpace(m.take(t, "install.md", "kubectl apply")), "\n")
	m.says(t, "/srv/op/edge-test", commands[0])
	overlay, ok := strings.CutPrefix(commands[len(commands)-1], "kubectl apply -k ")
	if !ok {
		t.Fatalf("the last command is %s", commands[len(commands)-1])
	}
	need(t, "kubectl")
	wantAll(t, m.says(t, "/srv/op/edge-test", commands[1]+" --dry-run=client"), "namespace/edge created")
	wantAll(t, m.says(t, "/srv/op/edge-test", "kubectl kustomize "+overlay), "kind: DaemonSet", "namespace: edge", `edge: "true"`, "https://origin.example.com")
}
