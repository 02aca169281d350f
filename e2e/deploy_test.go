package e2e

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// ran runs a command, which must succeed, and returns all that it said.
func ran(t *testing.T, name string, args ...string) string {
	t.Helper()
	stdout, stderr, code := run(t, name, args...)
	if code != 0 {
		t.Fatalf("%s %s: exit code %d\n%s%s", name, strings.Join(args, " "), code, stdout, stderr)
	}
	return stdout + stderr
}

// readText returns what a file of the project says.
func readText(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestSystemdUnits(t *testing.T) {
	need(t, "systemd-analyze")
	dir := t.TempDir()
	units, _ := filepath.Glob("../deploy/systemd/*.s[eo]*")
	if len(units) < 3 {
		t.Fatalf("units: %v", units)
	}
	args := []string{"verify"}
	for _, unit := range units {
		to := filepath.Join(dir, filepath.Base(unit))
		writeFile(t, to, strings.ReplaceAll(readText(t, unit), "/usr/local/bin/edge", filepath.Join(bin, "edge")))
		args = append(args, to)
	}
	if said := ran(t, "systemd-analyze", args...); said != "" {
		t.Errorf("systemd-analyze has something to say:\n%s", said)
	}
	hardened(t, filepath.Join(dir, "edge.service"))
}

// hardened asks systemd what a service may do: little besides serving.
func hardened(t *testing.T, unit string) {
	t.Helper()
	// 1.9 of 10, where a service without any hardening has 9.6.
	ran(t, "systemd-analyze", "security", "--offline=true", "--threshold=20", "--no-pager", unit)
	out, err := exec.Command("systemd-analyze", "security", "--offline=true", "--json=short", unit).Output()
	var checks []struct {
		Set  bool
		Name string
	}
	if err = errors.Join(err, json.Unmarshal(out, &checks)); err != nil {
		t.Fatal(err)
	}
	set, unset := map[string]bool{}, map[string]bool{}
	for _, c := range checks {
		name, _, _ := strings.Cut(c.Name, "=")
		set[name], unset[name] = set[name] || c.Set, unset[name] || !c.Set
	}
	for _, name := range strings.Fields(`NoNewPrivileges ProtectSystem ProtectHome PrivateTmp PrivateDevices ProtectClock ProtectHostname
		ProtectKernelLogs ProtectKernelModules ProtectKernelTunables ProtectControlGroups ProtectProc RestrictNamespaces RestrictRealtime
		RestrictSUIDSGID LockPersonality MemoryDenyWriteExecute RemoveIPC SystemCallArchitectures User`) {
		if !set[name] || unset[name] {
			t.Errorf("%s is not set, or not in full", name)
		}
	}
}

// systemd hands over what the socket units name, under the names that they give.
func TestSocketUnits(t *testing.T) {
	need(t, "systemd-socket-activate")
	name := func(unit string) string {
		m := regexp.MustCompile(`(?m)^FileDescriptorName=(.*)$`).FindStringSubmatch(readText(t, "../deploy/systemd/"+unit))
		if m == nil {
			t.Fatalf("%s names no descriptor", unit)
		}
		return m[1]
	}
	o := startOrigin(t)
	n := newNode(t)
	file := filepath.Join(t.TempDir(), "edge.yaml")
	writeFile(t, file, n.fill(`data: "{data}"
server: {http: ["fd:`+name("edge-http.socket")+`"], access_log: {format: "off"}}
admin: {listen: "{admin}"}
origins: {web: {url: "`+o.url+`"}}
hosts: [{names: ["*"], origin: web}]
`))
	start(t, "systemd-socket-activate", "--listen", n.http, "--fdname", name("edge-http.socket"),
		filepath.Join(bin, "edge"), "serve", "--config", file)
	// The first connection starts it, and waits until it serves.
	eventually(t, "the node answers on the socket", func() bool {
		out, err := exec.Command("curl", "-s", "-m", "10", "-o", os.DevNull, "-w", "%{http_code}", "http://"+n.http+"/").Output()
		return err == nil && string(out) == "200"
	})
}

func TestPrometheusRules(t *testing.T) {
	need(t, "promtool")
	dir := "../deploy/prometheus/"
	ran(t, "promtool", "check", "rules", dir+"rules.yaml", dir+"alerts.yaml")
	ran(t, "promtool", "check", "config", "--syntax-only", dir+"prometheus.yaml")
	ran(t, "promtool", "test", "rules", dir+"tests.yaml")
	alerts := regexp.MustCompile(`(?m)- alert: (\w+)`)
	guide, tests := readText(t, "../docs/troubleshooting.md"), readText(t, dir+"tests.yaml")
	for _, m := range alerts.FindAllStringSubmatch(readText(t, dir+"alerts.yaml"), -1) {
		if !strings.Contains(guide, m[1]) {
			t.Errorf("docs/troubleshooting.md says nothing about %s", m[1])
		}
		if !strings.Contains(tests, "alertname: "+m[1]) {
			t.Errorf("tests.yaml does not test %s", m[1])
		}
	}
	for _, m := range regexp.MustCompile(`(?m)- record: (\S+)`).FindAllStringSubmatch(readText(t, dir+"rules.yaml"), -1) {
		if !strings.Contains(tests, m[1]) {
			t.Errorf("tests.yaml does not test %s", m[1])
		}
	}
}

// What rules and dashboards ask for is what a node exports: docs/metrics.md, which
// is held to that.
func TestMonitoringAsksForWhatThereIs(t *testing.T) {
	exported := map[string]bool{}
	for _, m := range regexp.MustCompile("(?m)^\\| `(edge_[a-z0-9_]+)` \\| (\\w+) ").FindAllStringSubmatch(readText(t, "../docs/metrics.md"), -1) {
		exported[m[1]] = true
		if m[2] == "histogram" {
			exported[m[1]+"_bucket"], exported[m[1]+"_sum"], exported[m[1]+"_count"] = true, true, true
		}
	}
	for _, file := range []string{"prometheus/rules.yaml", "prometheus/alerts.yaml", "prometheus/tests.yaml", "grafana/edge.json"} {
		text := readText(t, "../deploy/"+file)
		names := regexp.MustCompile(`\bedge_[a-z0-9_]+`).FindAllString(text, -1)
		if len(names) < 6 {
			t.Errorf("%s names %d metrics", file, len(names))
		}
		for _, name := range names {
			if !exported[name] {
				t.Errorf("%s asks for %s, which no node exports", file, name)
			}
		}
	}
}

// The dashboard's expressions are ones that Prometheus can read.
func TestDashboardQueries(t *testing.T) {
	need(t, "promtool")
	var dashboard struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
	}
	if err := json.Unmarshal([]byte(readText(t, "../deploy/grafana/edge.json")), &dashboard); err != nil {
		t.Fatal(err)
	}
	rules := "groups:\n  - name: dashboard\n    rules:\n"
	n := 0
	for _, p := range dashboard.Panels {
		for _, q := range p.Targets {
			n++
			expr, _ := json.Marshal(strings.ReplaceAll(q.Expr, "$instance", ".*")) // JSON is YAML
			rules += "      - {record: \"q\", expr: " + string(expr) + ", labels: {n: \"" + strings.Repeat("i", n) + "\"}}\n"
		}
	}
	if n < 20 {
		t.Fatalf("%d queries", n)
	}
	file := filepath.Join(t.TempDir(), "rules.yaml")
	writeFile(t, file, rules)
	ran(t, "promtool", "check", "rules", file)
}
