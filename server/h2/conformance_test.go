package h2

import (
	"io"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestConformance runs h2spec, whole and strict.
func TestConformance(t *testing.T) {
	if testing.Short() {
		t.Skip("h2spec waits in real time")
	}
	program := filepath.Join(t.TempDir(), "h2spec")
	build := exec.Command("go", "build", "-modfile=tools/go.mod", "-o", program, "github.com/summerwind/h2spec/cmd/h2spec")
	build.Dir = filepath.Join("..", "..")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	e := start(t, setup{handler: func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.Copy(io.Discard, r.Body); err == nil { // what is wrong with a request shows at its end
			_, _ = io.WriteString(w, "content")
		}
	}})
	run := func(name, address string, more ...string) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			host, port, err := net.SplitHostPort(address)
			if err != nil {
				t.Fatal(err)
			}
			arguments := append([]string{"--strict", "--host", host, "--port", port, "--timeout", "2"}, more...)
			out, err := exec.Command(program, arguments...).CombinedOutput()
			if err != nil || !strings.Contains(string(out), "146 tests, 146 passed, 0 skipped, 0 failed") {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
	run("clear", e.http)
	run("TLS", e.https, "--tls", "--insecure")
}
