package e2e

import (
	"context"
	"debug/elf"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// docker is a daemon to ask, this test's own where none runs.
type docker struct{ env []string }

// startDocker finds a daemon or starts one, with all that it keeps in a directory
// of the test.
func startDocker(t *testing.T) *docker {
	t.Helper()
	for _, program := range []string{"docker", "dockerd", "docker-compose", "busybox", "iptables"} {
		need(t, program)
	}
	if os.Getuid() != 0 {
		t.Skip("SKIPPED: images: dockerd wants root")
	}
	if exec.Command("docker", "info").Run() == nil {
		return &docker{os.Environ()}
	}
	dir := t.TempDir()
	socket := "unix://" + filepath.Join(dir, "docker.sock")
	daemon := start(t, "dockerd", "--data-root", filepath.Join(dir, "data"), "--exec-root", filepath.Join(dir, "exec"),
		"--pidfile", filepath.Join(dir, "pid"), "--host", socket)
	t.Cleanup(func() { // killed, it would leave what it has mounted
		daemon.signal(t, syscall.SIGTERM)
		daemon.wait(t)
	})
	d := &docker{append(os.Environ(), "DOCKER_HOST="+socket)}
	eventually(t, "dockerd answers", func() bool { return d.command("docker", "info").Run() == nil })
	return d
}

func (d *docker) command(program string, args ...string) *exec.Cmd {
	cmd := exec.Command(program, args...)
	cmd.Env = d.env
	return cmd
}

// run runs a client, which must succeed.
func (d *docker) run(t *testing.T, program string, args ...string) string {
	t.Helper()
	out, err := d.command(program, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", program, strings.Join(args, " "), err, tail(string(out), 40))
	}
	return strings.TrimSpace(string(out))
}

const builderImage = "edge-builder:e2e"

// build builds a target of the Dockerfile.
func (d *docker) build(t *testing.T, kit bool, name, target string, args ...string) {
	t.Helper()
	client := "docker"
	if kit && d.command("docker", "buildx", "version").Run() != nil {
		client = "/usr/bin/docker" // Debian's has BuildKit without a plugin
	}
	cmd := d.command(client, append(append([]string{"build", "--build-arg", "GO_IMAGE=" + builderImage, "--target", target, "-t", name}, args...), "..")...)
	cmd.Env = append(cmd.Env, "DOCKER_BUILDKIT="+strconv.Itoa(map[bool]int{false: 0, true: 1}[kit]))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build %s (BuildKit %v): %v\n%s", name, kit, err, tail(string(out), 40))
	}
}

// The Dockerfile builds as it stands, with both builders and for both
// architectures, and its images are what docs/install.md says.
func TestContainers(t *testing.T) {
	full(t)
	d := startDocker(t)
	standin := d.command("../tools/standin.sh", builderImage)
	standin.Dir = "."
	if out, err := standin.CombinedOutput(); err != nil {
		t.Fatalf("standin.sh: %v\n%s", err, out)
	}
	t.Run("images", d.testImages)
	t.Run("install", d.testDockerCommands)
	t.Run("compose", d.testCompose)
}

func (d *docker) testImages(t *testing.T) {
	d.build(t, false, "edge-origin", "origin")
	d.build(t, false, "edge", "edge")
	d.build(t, true, "edge:arm64", "edge", "--build-arg", "TARGETARCH=arm64")
	var images []struct {
		Size   int64
		Config struct {
			User        string
			Healthcheck struct{ Test []string }
		}
	}
	if err := json.Unmarshal([]byte(d.run(t, "docker", "image", "inspect", "edge")), &images); err != nil {
		t.Fatal(err)
	}
	if got := images[0]; got.Size > 40<<20 || got.Config.User != "65532:65532" || len(got.Config.Healthcheck.Test) != 3 {
		t.Errorf("the image: %+v", got)
	}
	dir := t.TempDir()
	for name, machine := range map[string]elf.Machine{"edge": elf.EM_X86_64, "edge:arm64": elf.EM_AARCH64} {
		id := d.run(t, "docker", "create", name)
		to := filepath.Join(dir, name)
		d.run(t, "docker", "cp", id+":/edge", to)
		d.run(t, "docker", "rm", id)
		f, err := elf.Open(to)
		if err != nil {
			t.Fatal(err)
		}
		if f.Machine != machine {
			t.Errorf("%s holds a program for %s", name, f.Machine)
		}
		if libraries, _ := f.ImportedLibraries(); len(libraries) > 0 {
			t.Errorf("%s is not static: %v", name, libraries)
		}
		_ = f.Close()
	}
}

// testDockerCommands types what docs/install.md says of containers.
func (d *docker) testDockerCommands(t *testing.T) {
	m := readManual(t)
	from := regexp.MustCompile(`(?m)^ARG GO_IMAGE=(\S+)$`).FindStringSubmatch(readText(t, "../Dockerfile"))
	if from == nil {
		t.Fatal("the Dockerfile names no builder")
	}
	if d.command("docker", "image", "inspect", from[1]).Run() != nil {
		d.run(t, "docker", "tag", builderImage, from[1])
		t.Cleanup(func() { d.run(t, "docker", "rmi", from[1]) })
	}
	commands := strings.Replace(m.take(t, "install.md", "docker build"), "docker run ", "docker run -d --name edge-install ", 1)
	t.Cleanup(func() { d.run(t, "docker", "rm", "-f", "edge-install") })
	cmd := d.command("sh", "-ec", commands)
	cmd.Dir, cmd.Env = "..", append(cmd.Env, "DOCKER_BUILDKIT=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s\n%v\n%s", commands, err, tail(string(out), 40))
	}
	eventually(t, "the node in the container serves", func() bool {
		out, err := d.command("docker", "exec", "edge-install", "/edge", "status").CombinedOutput()
		return err == nil && strings.Contains(string(out), "serving")
	})
	// The origin that the document names is not to be had here.
	resp, err := http.Get("http://127.0.0.1:8080/")
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusBadGateway || resp.Header.Get("Proxy-Status") == "" {
		t.Errorf("%s, Proxy-Status %q", resp.Status, resp.Header.Get("Proxy-Status"))
	}
}

// Two builds of the same source in different places give the same bytes.
func TestReproducible(t *testing.T) {
	full(t)
	var sums []string
	for range 2 {
		sums = append(sums, strings.Fields(ran(t, "sha256sum", tarball(t)))[0])
	}
	if sums[0] != sums[1] {
		t.Errorf("two builds differ: %v", sums)
	}
}

// tarball makes one of what is committed, in a place of its own.
func tarball(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	ran(t, "sh", "-c", "cd .. && git ls-files -z | tar --null --no-recursion -T - -c | tar -C "+dir+" -x")
	cmd := exec.Command("tools/dist.sh", "go", "test")
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "ARCHES=amd64")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("dist.sh: %v\n%s", err, out)
	}
	return filepath.Join(dir, "dist/edge-test-linux-amd64.tar.gz")
}

// compose is a running deploy/compose.
type compose struct {
	*docker
	t *testing.T
}

func (c *compose) run(args ...string) string {
	c.t.Helper()
	return c.docker.run(c.t, "docker-compose", append([]string{"-p", "edgee2e", "-f", "../deploy/compose/compose.yaml"}, args...)...)
}

func (c *compose) container(service string) string { return c.run("ps", "-q", service) }

var composeNodes = map[string]string{"fra": "172.30.250.11", "iad": "172.30.250.12", "sin": "172.30.250.13"}

// One network of pretended clients for each site, as in places.txt.
var composeClients = map[string]string{"fra": "192.0.2.0/24", "iad": "198.51.100.0/24", "sin": "203.0.113.0/24"}

const composeToken = "edge-demonstration-on-loopback-only"

// resolve asks a node's DNS on behalf of clients of a site.
func (c *compose) resolve(server, site string) string {
	out, _ := exec.Command("dig", "+short", "+time=1", "+tries=2", "-p", "5353", "@"+composeNodes[server], "+subnet="+composeClients[site], "www.cdn.example", "A").Output()
	return strings.TrimSpace(string(out))
}

// get fetches a path from an address and returns the status, and what the node
// there says of its cache.
func (c *compose) get(address, path string) (int, string) {
	client := http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get("http://" + address + ":8080" + path)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode, resp.Header.Get("Cache-Status")
}

// api asks a node's admin listener.
func (c *compose) api(method, node, path, body string, answer any) int {
	c.t.Helper()
	req, err := http.NewRequest(method, "http://"+composeNodes[node]+":8081"+path, strings.NewReader(body))
	if err != nil {
		c.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+composeToken)
	req.Header.Set("Content-Type", "application/json")
	client := http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		return 0
	}
	defer resp.Body.Close()
	if answer != nil {
		if err := json.NewDecoder(resp.Body).Decode(answer); err != nil {
			c.t.Fatalf("%s %s of %s: %v", method, path, node, err)
		}
	}
	return resp.StatusCode
}

func (d *docker) testCompose(t *testing.T) {
	need(t, "dig")
	c := &compose{d, t}
	d.env = append(d.env, "GO_IMAGE="+builderImage, "DOCKER_BUILDKIT=0")
	t.Cleanup(func() {
		if t.Failed() {
			for node := range composeNodes {
				t.Logf("%s said:\n%s", node, tail(c.run("logs", "--no-color", "--tail=30", node), 30))
			}
		}
		c.run("down", "-v", "-t", "5")
	})
	c.run("up", "-d", "--build")
	for node := range composeNodes {
		eventually(t, node+" is healthy", func() bool {
			return d.run(t, "docker", "inspect", "-f", "{{.State.Health.Status}}", c.container(node)) == "healthy"
		})
	}
	t.Run("readme", func(t *testing.T) { (&compose{d, t}).testReadme() })
	t.Run("steering", func(t *testing.T) { (&compose{d, t}).testSteering() })
	t.Run("purge", func(t *testing.T) { (&compose{d, t}).testPurge() })
	t.Run("kill", func(t *testing.T) { (&compose{d, t}).testKill() })
	t.Run("partition", func(t *testing.T) { (&compose{d, t}).testPartition() })
	t.Run("rolling restart", func(t *testing.T) { (&compose{d, t}).testRollingRestart() })
	t.Run("down", func(t *testing.T) { (&compose{d, t}).testDown() })
}

// settle waits until all nodes answer each site's clients with that site's node.
func (c *compose) settle() {
	c.t.Helper()
	for server := range composeNodes {
		for site, address := range composeNodes {
			within(c.t, 2*patience, server+" sends clients of "+site+" there", func() bool { return c.resolve(server, site) == address })
		}
	}
}

// testReadme types what README.md says, as it stands and in its order, but for what
// Compose v2 is called and can beyond v1.
func (c *compose) testReadme() {
	c.settle()
	v1 := strings.NewReplacer("docker compose ", "docker-compose ", " --wait", "", " exec ", " exec -T ")
	var said [][2]string // what was typed, and what it said
	for _, fence := range regexp.MustCompile("(?ms)^```sh\n(.*?)^```$").FindAllStringSubmatch(readText(c.t, "../deploy/compose/README.md"), -1) {
		for line := range strings.Lines(fence[1]) {
			line = strings.TrimSpace(line)
			if killed := len(said) > 0 && strings.HasSuffix(said[len(said)-1][0], " kill sin"); killed {
				c.moved("fra", "sin")
			}
			said = append(said, [2]string{line, c.typed(v1.Replace(line))})
			if strings.Contains(line, " up -d ") {
				c.settle() // what --wait is for
			}
		}
	}
	c.settle()
	want := []struct{ line, says string }{
		{`^docker compose .* up -d --build --wait$`, ``},
		{`^curl `, `200 OK(?s:.*)Cache-Status: fra;`},
		{`^curl `, `"node": "fra"(?s:.*)"node": "iad"(?s:.*)"node": "sin"`},
		{`^dig .*192\.0\.2\.0/24`, `^` + composeNodes["fra"] + `\n$`},
		{`^dig .*203\.0\.113\.0/24`, `^` + composeNodes["sin"] + `\n$`},
		{`^docker compose .* kill sin$`, ``},
		{`^dig .*203\.0\.113\.0/24`, `^(` + composeNodes["fra"] + `|` + composeNodes["iad"] + `)\n$`},
		{`^docker compose .* start sin$`, ``},
		{`^docker compose .* exec fra /edge nodes$`, `(?m)^fra(?s:.*)^iad(?s:.*)^sin`},
	}
	if len(said) != len(want) {
		c.t.Fatalf("README.md has %d commands, and %d are known here: %q", len(said), len(want), said)
	}
	for i, w := range want {
		if !regexp.MustCompile(w.line).MatchString(said[i][0]) || !regexp.MustCompile(w.says).MatchString(said[i][1]) {
			c.t.Errorf("%s says\n%s\nwant %s", said[i][0], said[i][1], w.says)
		}
	}
}

// typed runs a line in the project's directory.
func (c *compose) typed(line string) string {
	c.t.Helper()
	cmd := c.command("sh", "-c", line)
	cmd.Dir, cmd.Env = "..", append(cmd.Env, "COMPOSE_PROJECT_NAME=edgee2e")
	out, err := cmd.CombinedOutput()
	if err != nil {
		c.t.Errorf("%s: %v\n%s", line, err, tail(string(out), 40))
	}
	return string(out)
}

// testDown ends it as README.md says.
func (c *compose) testDown() {
	line := regexp.MustCompile("`(docker compose \\S+ \\S+ down)`").FindStringSubmatch(readText(c.t, "../deploy/compose/README.md"))
	if line == nil {
		c.t.Fatal("README.md does not say how to end it")
	}
	c.typed(strings.Replace(line[1], "docker compose", "docker-compose", 1))
	if left := c.run("ps", "-q"); left != "" {
		c.t.Errorf("still there: %s", left)
	}
}

// moved waits until a node's DNS sends clients of a site elsewhere.
func (c *compose) moved(server, site string) {
	c.t.Helper()
	within(c.t, 15*time.Second, "the DNS of "+server+" sends clients of "+site+" elsewhere", func() bool {
		a := c.resolve(server, site)
		return a != "" && a != composeNodes[site]
	})
}

func (c *compose) testSteering() {
	c.settle()
	for site := range composeNodes {
		if status, says := c.get(c.resolve("fra", site), "/"); status != 200 || !strings.HasPrefix(says, site+";") {
			c.t.Errorf("clients of %s got %d from %q", site, status, says)
		}
	}
}

// cached has all nodes store a path.
func (c *compose) cached(path string) {
	c.t.Helper()
	for node, address := range composeNodes {
		eventually(c.t, node+" has stored "+path, func() bool {
			_, says := c.get(address, path)
			return strings.Contains(says, "; hit")
		})
	}
}

// fences returns how often a node was fenced since its start, -1 where it does not say.
func (c *compose) fences(node string) int {
	req, err := http.NewRequest("GET", "http://"+composeNodes[node]+":8081/metrics", nil)
	if err != nil {
		c.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+composeToken)
	client := http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		return -1
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(resp.Body)
	m := regexp.MustCompile(`(?m)^edge_purge_fences_total (\d+)$`).FindSubmatch(text)
	if m == nil {
		return -1
	}
	n, _ := strconv.Atoi(string(m[1]))
	return n
}

// alone tells whether a node takes all others for dead. It is asked from inside, so
// that it need not be on the network.
func (c *compose) alone(node string) bool {
	out, err := c.command("docker", "exec", c.container(node), "/edge", "nodes", "--json").Output()
	var all struct {
		Nodes []struct {
			Self   bool
			Status string
		}
	}
	if err != nil || json.Unmarshal(out, &all) != nil {
		return false
	}
	dead := 0
	for _, n := range all.Nodes {
		if !n.Self && n.Status == "dead" {
			dead++
		}
	}
	return dead == len(composeNodes)-1
}

type receipt struct {
	ID    string
	State string
	Nodes []struct{ Node, State string }
}

func (c *compose) testPurge() {
	c.cached("/")
	var r receipt
	if status := c.api("POST", "iad", "/v1/purges?wait=all&timeout=10s", `{"urls": ["http://`+composeNodes["fra"]+`:8080/", "http://`+composeNodes["iad"]+`:8080/", "http://`+composeNodes["sin"]+`:8080/"]}`, &r); status != 200 {
		c.t.Fatalf("the purge: %d %+v", status, r)
	}
	if len(r.Nodes) != 3 {
		c.t.Errorf("the receipt is of %+v", r.Nodes)
	}
	for _, n := range r.Nodes {
		if n.State != "applied" && n.State != "swept" {
			c.t.Errorf("%s is %s", n.Node, n.State)
		}
	}
	for node, address := range composeNodes {
		if _, says := c.get(address, "/"); strings.Contains(says, "; hit") {
			c.t.Errorf("%s has not forgotten: %s", node, says)
		}
	}
}

func (c *compose) testKill() {
	c.run("kill", "sin")
	for _, server := range []string{"fra", "iad"} {
		c.moved(server, "sin")
	}
	if status, says := c.get(c.resolve("iad", "sin"), "/"); status != 200 {
		c.t.Errorf("and there they get %d %s", status, says)
	}
	c.run("start", "sin")
	eventually(c.t, "sin was fenced until it had compared with the others", func() bool { return c.fences("sin") > 0 })
	c.settle()
}

// A node that is cut off is left out by the others, and is fenced when it is back,
// until it has forgotten what was purged meanwhile.
func (c *compose) testPartition() {
	c.cached("/robots.txt")
	before := c.fences("sin")
	id := c.container("sin")
	c.docker.run(c.t, "docker", "network", "disconnect", "edgee2e_cdn", id)
	c.moved("fra", "sin")
	var r receipt
	if status := c.api("POST", "fra", "/v1/purges", `{"all": true}`, &r); status/100 != 2 {
		c.t.Fatalf("the purge: %d", status)
	}
	within(c.t, 15*time.Second, "the receipt lists sin as unreachable", func() bool {
		c.api("GET", "fra", "/v1/purges/"+r.ID, "", &r)
		for _, n := range r.Nodes {
			if n.Node == "sin" {
				return n.State == "unreachable"
			}
		}
		return false
	})
	// By then nobody gossips of the purge any more: sin learns that it has missed one
	// before it learns which.
	within(c.t, 2*patience, "sin takes the others for dead", func() bool { return c.alone("sin") })
	c.docker.run(c.t, "docker", "network", "connect", "--ip", composeNodes["sin"], "edgee2e_cdn", id)
	within(c.t, 2*patience, "sin is fenced when it is back", func() bool { return c.fences("sin") > before })
	if status, says := c.get(composeNodes["sin"], "/robots.txt"); status != 200 || strings.Contains(says, "; hit") {
		c.t.Errorf("sin answers %d with what was purged while it was away: %s", status, says)
	}
	eventually(c.t, "the receipt is complete", func() bool {
		c.api("GET", "fra", "/v1/purges/"+r.ID, "", &r)
		for _, n := range r.Nodes {
			if n.State != "applied" && n.State != "swept" {
				return false
			}
		}
		return len(r.Nodes) == 3
	})
	c.settle()
}

// Under load, with clients that try the next address, no request is lost.
func (c *compose) testRollingRestart() {
	ctx, stop := context.WithCancel(context.Background())
	var sent, lost atomic.Int64
	var clients sync.WaitGroup
	for site := range composeNodes {
		clients.Go(func() {
			for ctx.Err() == nil {
				sent.Add(1)
				if !c.tryAll(site) {
					lost.Add(1)
				}
			}
		})
	}
	for node := range composeNodes {
		c.run("restart", "-t", "30", node)
		eventually(c.t, node+" is healthy", func() bool {
			return c.docker.run(c.t, "docker", "inspect", "-f", "{{.State.Health.Status}}", c.container(node)) == "healthy"
		})
		c.settle()
	}
	stop()
	clients.Wait()
	if lost.Load() > 0 || sent.Load() < 100 {
		c.t.Errorf("%d requests of %d were lost", lost.Load(), sent.Load())
	}
}

// tryAll asks the nearest node and then the others, as clients with several
// addresses do.
func (c *compose) tryAll(site string) bool {
	addresses := []string{composeNodes[site]}
	for other, address := range composeNodes {
		if other != site {
			addresses = append(addresses, address)
		}
	}
	for _, address := range addresses {
		if status, _ := c.get(address, "/"); status == 200 {
			return true
		}
	}
	return false
}
