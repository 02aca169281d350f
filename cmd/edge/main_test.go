package main

import (
	"errors"
	"fmt"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"go.uber.org/goleak"

	"edgecdn/cmd/origin/script"
)

// The test binary is the program as well when a script calls it edge.
func TestMain(m *testing.M) {
	testscript.Main(leakChecked{m}, map[string]func(){"edge": main})
}

// leakChecked fails where goroutines are left after the tests.
type leakChecked struct{ *testing.M }

func (m leakChecked) Run() int {
	code := m.M.Run()
	if err := goleak.Find(); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	return code
}

// Scripts use the program as people do. Beside the usual commands they have
// those below; $ORIGIN is a scripted origin of their own.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: filepath.Join("testdata", "script"),
		Setup: func(env *testscript.Env) error {
			for _, name := range []string{"EDGE_ADMIN", "EDGE_TOKEN", "EDGE_DATA", "GOMEMLIMIT"} {
				env.Setenv(name, "")
			}
			origin := httptest.NewServer(script.New())
			env.Defer(origin.Close)
			env.Setenv("ORIGIN", origin.URL)
			return os.Mkdir(filepath.Join(env.WorkDir, "data"), 0o755)
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"until": until, "exitcode": exitCode, "signal": signalAll, "listeners": listeners, "damage": damage,
		},
		RequireUniqueNames: true,
	})
}

// until PATTERN COMMAND [ARG...] runs a command again and again until what it
// writes matches.
func until(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: until PATTERN COMMAND [ARG...]")
	}
	pattern, err := regexp.Compile("(?m)" + args[0])
	ts.Check(err)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for late := time.After(30 * time.Second); ; {
		_ = ts.Exec(args[1], args[2:]...) // what it writes counts
		if pattern.MatchString(ts.ReadFile("stdout") + ts.ReadFile("stderr")) {
			return
		}
		select {
		case <-tick.C:
		case <-late:
			ts.Fatalf("not within 30 seconds: %s", args[0])
		}
	}
}

// exitcode CODE COMMAND [ARG...] runs a command that must end with this code.
func exitCode(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exitcode CODE COMMAND [ARG...]")
	}
	code := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		exit, ok := errors.AsType[*exec.ExitError](err)
		if !ok {
			ts.Fatalf("%v", err)
		}
		code = exit.ExitCode()
	}
	if strconv.Itoa(code) != args[0] {
		ts.Fatalf("exit code %d, want %s\n%s", code, args[0], ts.ReadFile("stderr"))
	}
}

// signal NAME sends a signal to every background edge serve.
func signalAll(ts *testscript.TestScript, neg bool, args []string) {
	signals := map[string]syscall.Signal{"HUP": syscall.SIGHUP, "TERM": syscall.SIGTERM, "INT": syscall.SIGINT}
	if neg || len(args) != 1 || signals[args[0]] == 0 {
		ts.Fatalf("usage: signal HUP|TERM|INT")
	}
	for _, cmd := range ts.BackgroundCmds() {
		if strings.Contains(strings.Join(cmd.Args, " "), " serve ") {
			ts.Check(cmd.Process.Signal(signals[args[0]]))
		}
	}
}

// listeners DATA waits until the node of a data directory is ready and sets
// $HTTP, $HTTPS and $ADMIN to its addresses and $TOKEN to its token.
func listeners(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: listeners DATA")
	}
	until(ts, false, []string{"phase +serving", "edge", "status", "--data", args[0]})
	for line := range strings.Lines(ts.ReadFile("stdout")) {
		if f := strings.Fields(line); len(f) == 2 {
			ts.Setenv(strings.ToUpper(f[0]), f[1])
		}
	}
	ts.Setenv("TOKEN", strings.TrimSpace(ts.ReadFile(filepath.Join(args[0], "admin.token"))))
}

// damage GLOB TEXT changes the first byte of each occurrence of TEXT in the files.
func damage(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: damage GLOB TEXT")
	}
	files, err := filepath.Glob(ts.MkAbs(args[0]))
	ts.Check(err)
	found := 0
	for _, file := range files {
		content, err := os.ReadFile(file)
		ts.Check(err)
		found += strings.Count(string(content), args[1])
		ts.Check(os.WriteFile(file, []byte(strings.ReplaceAll(string(content), args[1], string(args[1][0]^0x20)+args[1][1:])), 0o600))
	}
	if found == 0 {
		ts.Fatalf("no %q in %v", args[1], files)
	}
}
