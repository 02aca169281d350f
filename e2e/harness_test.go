package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
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

	"edgecdn/cmd/origin/script"
)

// bin is where TestMain puts the programs.
var bin string

func TestMain(m *testing.M) {
	os.Exit(testMain(m))
}

func testMain(m *testing.M) int {
	dir, err := os.MkdirTemp("", "edge-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		return 1
	}
	defer os.RemoveAll(dir)
	bin = dir
	for _, name := range []string{"edge", "origin"} {
		if out, err := build(name, filepath.Join(dir, name)); err != nil {
			fmt.Fprintf(os.Stderr, "e2e: build %s: %v\n%s", name, err, out)
			return 1
		}
	}
	return m.Run()
}

// build compiles a program as `make build` does, or with more flags.
func build(name, to string, flags ...string) ([]byte, error) {
	args := append(append([]string{"build", "-trimpath"}, flags...), "-o", to, "./cmd/"+name)
	cmd := exec.Command("go", args...)
	cmd.Dir = ".."
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	for _, flag := range flags {
		if flag == "-race" {
			cmd.Env = append(os.Environ(), "CGO_ENABLED=1")
		}
	}
	return cmd.CombinedOutput()
}

// need skips the test where a program is missing.
func need(t *testing.T, program string) {
	t.Helper()
	if _, err := exec.LookPath(program); err != nil {
		t.Skipf("SKIPPED: %s is not installed; make setup installs it where it may", program)
	}
}

// full skips the test outside make test-full.
func full(t *testing.T) {
	t.Helper()
	if os.Getenv("EDGE_FULL") == "" {
		t.Skip("slow: runs with EDGE_FULL=1, as in make test-full")
	}
}

const patience = 30 * time.Second // for what should take moments

// eventually waits until ok says true.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	within(t, patience, what, ok)
}

// within waits so long until ok says true.
func within(t *testing.T, d time.Duration, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(d)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("not within %v: %s", d, what)
		}
	}
}

// nextPort counts up below the ephemeral ports, so that no outgoing connection
// of anybody takes a port between its choice and its use.
var nextPort atomic.Int64

// address returns a loopback address with a port that is free for TCP and UDP.
func address(t *testing.T) string {
	t.Helper()
	for range 2000 {
		port := 12000 + (int64(os.Getpid())*50+nextPort.Add(1))%20000
		address := "127.0.0.1:" + strconv.FormatInt(port, 10)
		tcp, err := net.Listen("tcp", address)
		if err != nil {
			continue
		}
		udp, err := net.ListenPacket("udp", address)
		tcp.Close()
		if err != nil {
			continue
		}
		udp.Close()
		return address
	}
	t.Fatal("no free port")
	return ""
}

// process is a running program.
type process struct {
	cmd    *exec.Cmd
	output *output
	exited chan struct{} // closed when it has ended
	err    error         // of Wait, once exited is closed
}

// output keeps the end of what a program says, and how a crash begins, which is
// followed by all goroutines.
type output struct {
	mu    sync.Mutex
	text  []byte
	crash []byte
}

const outputMax, crashMax = 1 << 20, 16 << 10

// crashing is how the runtime begins to tell of its end.
var crashing = regexp.MustCompile(`(?m)^(fatal error: |panic: |unexpected fault address |runtime: |SIG[A-Z]+: )`)

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.crash) > 0 {
		o.crash = append(o.crash, p[:min(len(p), crashMax-len(o.crash))]...)
	} else if at := crashing.FindIndex(p); at != nil {
		o.crash = append(o.crash, p[at[0]:min(len(p), at[0]+crashMax)]...)
	}
	o.text = append(o.text, p...)
	if len(o.text) > outputMax {
		o.text = append([]byte(nil), o.text[len(o.text)-outputMax/2:]...)
	}
	return len(p), nil
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return string(o.text)
}

// start starts a program, which is killed at the end of the test; what it said
// is logged when the test failed.
func start(t *testing.T, program string, args ...string) *process {
	t.Helper()
	return startIn(t, "", program, args...)
}

// startIn starts it in a directory.
func startIn(t *testing.T, dir, program string, args ...string) *process {
	t.Helper()
	return startWith(t, dir, nil, program, args...)
}

// startWith hands open files over, from descriptor 3 on.
func startWith(t *testing.T, dir string, files []*os.File, program string, args ...string) *process {
	t.Helper()
	p := &process{cmd: exec.Command(program, args...), output: &output{}, exited: make(chan struct{})}
	p.cmd.Dir, p.cmd.ExtraFiles = dir, files
	p.cmd.Stdout, p.cmd.Stderr = p.output, p.output
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.exited)
	}()
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			p.output.mu.Lock()
			crash := string(p.output.crash)
			p.output.mu.Unlock()
			t.Logf("%s %s said:\n%s\n%s", filepath.Base(program), strings.Join(args, " "), crash, tail(p.output.String(), 60))
		}
	})
	return p
}

func tail(text string, lines int) string {
	all := strings.Split(strings.TrimRight(text, "\n"), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// kill ends the program at once and waits until it is gone.
func (p *process) kill() {
	p.cmd.Process.Kill()
	<-p.exited
}

func (p *process) signal(t *testing.T, s os.Signal) {
	t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
}

// wait waits for the program's end and returns its exit code.
func (p *process) wait(t *testing.T) int {
	t.Helper()
	select {
	case <-p.exited:
	case <-time.After(2 * patience):
		t.Fatalf("still running after %v", 2*patience)
	}
	return p.cmd.ProcessState.ExitCode()
}

// says waits until the program has said all of this: what it has written by now need
// not have reached us.
func (p *process) says(t *testing.T, want ...string) {
	t.Helper()
	for _, w := range want {
		eventually(t, "the program says "+w, func() bool { return strings.Contains(p.output.String(), w) })
	}
}

func (p *process) running() bool {
	select {
	case <-p.exited:
		return false
	default:
		return true
	}
}

// sampleOrigin is a running cmd/origin.
type sampleOrigin struct {
	*process
	address string
	url     string
}

func startOrigin(t *testing.T) *sampleOrigin {
	t.Helper()
	o := &sampleOrigin{address: address(t)}
	o.url = "http://" + o.address
	o.start(t)
	return o
}

func (o *sampleOrigin) start(t *testing.T) {
	t.Helper()
	o.process = start(t, filepath.Join(bin, "origin"), "--listen", o.address)
	eventually(t, "origin answers", func() bool {
		if !o.running() {
			t.Fatal("origin ended")
		}
		resp, err := http.Get(o.url + "/_origin/stats")
		if err != nil {
			return false
		}
		resp.Body.Close()
		return resp.StatusCode == 200
	})
}

// requests returns how many requests the origin saw for a path.
func (o *sampleOrigin) requests(t *testing.T, path string) int64 {
	t.Helper()
	resp, err := http.Get(o.url + "/_origin/stats")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var stats script.Stats
	if err := json.NewDecoder(resp.Body).Decode(&stats); err != nil {
		t.Fatal(err)
	}
	return stats.Paths[path]
}

// node is a running edge.
type node struct {
	*process
	program            string
	args               []string
	files              []*os.File // handed over
	http, https, admin string     // addresses
	data, dir          string
}

// startEdge starts an edge by flags alone, over this origin.
func startEdge(t *testing.T, o *sampleOrigin, more ...string) *node {
	t.Helper()
	n := newNode(t)
	n.args = append([]string{"serve", "--origin", o.url, "--http", n.http, "--https", n.https, "--admin", n.admin, "--data", n.data}, more...)
	n.start(t)
	return n
}

// startConfigured starts an edge with a configuration file, in which {http},
// {https}, {admin} and {data} are replaced. It returns the file's path too.
func startConfigured(t *testing.T, text string) (*node, string) {
	t.Helper()
	n := newNode(t)
	file := filepath.Join(t.TempDir(), "edge.yaml")
	writeFile(t, file, n.fill(text))
	n.args = []string{"serve", "--config", file, "--data", n.data}
	n.start(t)
	return n, file
}

func newNode(t *testing.T) *node {
	t.Helper()
	return &node{program: filepath.Join(bin, "edge"), http: address(t), https: address(t), admin: address(t), data: t.TempDir()}
}

func (n *node) fill(text string) string {
	return strings.NewReplacer("{http}", n.http, "{https}", n.https, "{admin}", n.admin, "{data}", n.data).Replace(text)
}

func writeFile(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// start starts the node, or starts it again, and waits until it is ready.
func (n *node) start(t *testing.T) {
	t.Helper()
	n.process = startWith(t, n.dir, n.files, n.program, n.args...)
	eventually(t, "edge is ready", func() bool {
		if !n.running() {
			t.Fatalf("edge ended: %v\n%s", n.err, tail(n.output.String(), 20))
		}
		return n.ready() == 200
	})
}

// ready returns the status of /readyz, 0 without an answer.
func (n *node) ready() int {
	resp, err := http.Get("http://" + n.admin + "/readyz")
	if err != nil {
		return 0
	}
	resp.Body.Close()
	return resp.StatusCode
}

func (n *node) ca() string { return filepath.Join(n.data, "tls", "development-ca.pem") }

// metrics returns the metrics page.
func (n *node) metrics(t *testing.T) string {
	t.Helper()
	token, err := os.ReadFile(filepath.Join(n.data, "admin.token"))
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequest("GET", "http://"+n.admin+"/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != 200 {
		t.Fatalf("metrics: %s, %v", resp.Status, err)
	}
	return string(text)
}

// run runs a program to its end and returns what it said.
func run(t *testing.T, program string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return out.String(), errs.String(), exit.ExitCode()
	}
	if err != nil {
		t.Fatalf("%s: %v", program, err)
	}
	return out.String(), errs.String(), 0
}

// edge runs a command of bin/edge that must succeed.
func edge(t *testing.T, args ...string) string {
	t.Helper()
	stdout, stderr, code := run(t, filepath.Join(bin, "edge"), args...)
	if code != 0 {
		t.Fatalf("edge %s: exit code %d\n%s%s", strings.Join(args, " "), code, stdout, stderr)
	}
	return stdout
}
