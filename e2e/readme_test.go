package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// The commands and configurations in README.md do what it says, typed as they
// stand; only addresses and the data directory are this test's own.
func TestReadme(t *testing.T) {
	need(t, "curl")
	text, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	o := startOrigin(t)
	n := newNode(t)
	dir := t.TempDir()
	if err := os.Symlink(bin, filepath.Join(dir, "bin")); err != nil {
		t.Fatal(err)
	}
	n.data = filepath.Join(dir, "data")
	own := strings.NewReplacer("127.0.0.1:9000", o.address, "127.0.0.1:8080", n.http, "127.0.0.1:8443", n.https, "127.0.0.1:8081", n.admin)

	outputs := map[string][]string{} // by command as written
	serves, configs := 0, 0
	for _, block := range regexp.MustCompile("(?ms)^```(sh|yaml)\n(.*?)^```$").FindAllStringSubmatch(string(text), -1) {
		if block[1] == "yaml" && !strings.Contains(block[2], "hosts:") {
			continue // a part of one: config holds it to what there is
		}
		if block[1] == "yaml" {
			configs++
			writeFile(t, filepath.Join(dir, "edge.yaml"), own.Replace(block[2])+"admin: {listen: \""+n.admin+"\"}\n")
			continue
		}
		for line := range strings.Lines(block[2]) {
			line, _, _ := strings.Cut(strings.TrimSpace(line), " #")
			switch {
			case line == "" || strings.HasPrefix(line, "make "): // TestNewcomer runs make
			case strings.HasPrefix(line, "bin/edge serve "):
				serves++
				if n.process != nil {
					n.kill()
				}
				n.args = strings.Fields(own.Replace(strings.TrimPrefix(line, "bin/edge ")))
				if !strings.Contains(line, "--config") {
					n.args = append(n.args, "--admin", n.admin)
				}
				n.dir = dir
				n.start(t)
			default:
				cmd := exec.Command("sh", "-c", own.Replace(line))
				cmd.Dir = dir
				out, err := cmd.CombinedOutput()
				if err != nil {
					t.Errorf("%s: %v\n%s", line, err, out)
				}
				outputs[line] = append(outputs[line], string(out))
			}
		}
	}
	if serves < 2 || configs < 1 {
		t.Errorf("README.md shows %d ways to serve and %d configurations", serves, configs)
	}
	missThenHit := false
	for line, outs := range outputs {
		if strings.HasPrefix(line, "curl ") && len(outs) == 2 {
			missThenHit = regexp.MustCompile("(?i)cache-status: "+miss).MatchString(outs[0]) && regexp.MustCompile("(?i)cache-status: "+hit).MatchString(outs[1])
			if !missThenHit {
				t.Errorf("%s, twice, shows no miss and hit: %q", line, outs)
			}
		}
		if strings.Contains(line, "--http3") && !strings.Contains(outs[0], "HTTP/3.0") {
			t.Errorf("%s shows no HTTP/3:\n%s", line, outs[0])
		}
	}
	if !missThenHit {
		t.Error("README.md shows no miss followed by a hit")
	}
}
