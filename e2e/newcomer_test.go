package e2e

import (
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
)

// What a newcomer does: clone, `make`, `make run`, look, Ctrl-C.
func TestNewcomer(t *testing.T) {
	need(t, "git")
	need(t, "make")
	need(t, "curl")
	clone := filepath.Join(t.TempDir(), "edge")
	if out, err := exec.Command("git", "clone", "-q", "--no-hardlinks", "..", clone).CombinedOutput(); err != nil {
		t.Skipf("SKIPPED: not in a git work tree: %v\n%s", err, out)
	}
	help, err := exec.Command("make", "-C", clone).CombinedOutput()
	for _, target := range []string{"build", "run", "test", "test-full", "soak", "bench", "fuzz", "clean"} {
		if err != nil || !regexp.MustCompile(`(?m)^ +make `+target+` +\S`).Match(help) {
			t.Errorf("make alone does not name %s: %v\n%s", target, err, help)
		}
	}

	n := newNode(t)
	origin := address(t)
	settings := []string{"ORIGIN=" + origin, "HTTP=" + n.http, "HTTPS=" + n.https, "ADMIN=" + n.admin, "DATA=" + n.data}
	demo := startGroup(t, append([]string{"make", "-C", clone, "run"}, settings...)...)
	within(t, 4*patience, "make run has built and is running", func() bool {
		if !demo.running() {
			t.Fatalf("make run ended: %v\n%s", demo.err, demo.output)
		}
		return strings.Contains(demo.output.String(), "Ctrl-C stops everything")
	})
	for _, want := range []string{
		`1\. 200 OK[^\n]*\n[^\n]*\n   Cache-Status: ` + miss + `\n`,
		`2\. 200 OK[^\n]*\n[^\n]*\n   Cache-Status: ` + hit + `\n`,
		regexp.QuoteMeta("http://" + n.http + "/"),
	} {
		if !regexp.MustCompile(want).MatchString(demo.output.String()) {
			t.Errorf("make run does not show %q:\n%s", want, demo.output)
		}
	}
	// The lines to try do what they promise, whatever was written into them.
	for _, line := range regexp.MustCompile(`(?m)^  ((?:curl|bin/edge) .*)\n +\[(.*)\]$`).FindAllStringSubmatch(demo.output.String(), -1) {
		cmd := exec.Command("sh", "-c", line[1])
		cmd.Dir = clone
		out, err := cmd.CombinedOutput()
		promised := regexp.QuoteMeta(strings.Split(line[2], ",")[0])
		promised = strings.NewReplacer(`\.\.\.`, `.*`).Replace(promised)
		if err != nil || !regexp.MustCompile(`(?i)cache-status: `+promised).Match(out) {
			t.Errorf("%s\npromises %s; %v:\n%.1500s", line[1], line[2], err, out)
		}
	}

	// A second one on the same ports says what is wrong.
	second, err := exec.Command("make", append([]string{"-C", clone, "run"}, settings...)...).CombinedOutput()
	if err == nil || !strings.Contains(string(second), "already listens on "+origin) {
		t.Errorf("a second make run: %v\n%s", err, second)
	}

	// Ctrl-C goes to the whole foreground group.
	if err := syscall.Kill(-demo.cmd.Process.Pid, syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	demo.wait(t)
	eventually(t, "nothing of make run is left", func() bool {
		return syscall.Kill(-demo.cmd.Process.Pid, 0) == syscall.ESRCH
	})
}

// startGroup starts a program at the head of a process group, as a shell does.
func startGroup(t *testing.T, args ...string) *process {
	t.Helper()
	p := &process{cmd: exec.Command(args[0], args[1:]...), output: &output{}, exited: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = p.output, p.output
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.exited)
	}()
	t.Cleanup(func() {
		syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
		<-p.exited
	})
	return p
}
