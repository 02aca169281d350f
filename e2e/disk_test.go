package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"
)

// smallDisk mounts a file system of so many MiB in memory.
func smallDisk(t *testing.T, mebibytes int) string {
	t.Helper()
	dir := t.TempDir()
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", fmt.Sprintf("size=%dm", mebibytes), "tmpfs", dir).CombinedOutput(); err != nil {
		t.Skipf("SKIPPED: no file system of its own can be mounted (it takes root): %s", out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", "-l", dir).CombinedOutput(); err != nil {
			t.Errorf("umount: %s", out)
		}
	})
	return dir
}

// metric returns the value of the first series that matches.
func metric(t *testing.T, n *node, series string) float64 {
	t.Helper()
	m := regexp.MustCompile(`(?m)^` + series + ` ([0-9.e+]+)$`).FindStringSubmatch(n.metrics(t))
	if m == nil {
		t.Fatal("no metric ", series)
	}
	v, err := strconv.ParseFloat(m[1], 64)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// A disk with no room left passes requests through, says so, and is used again
// when there is room.
func TestFullDisk(t *testing.T) {
	o := startOrigin(t)
	disk := smallDisk(t, 24)
	ballast := filepath.Join(disk, "ballast")
	if err := os.WriteFile(ballast, make([]byte, 20<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("E2E_ORIGIN", o.url)
	t.Setenv("E2E_DISK", filepath.Join(disk, "cache"))
	n, _ := startConfigured(t, `
server: {http: ["{http}"], https: ["{https}"]}
admin: {listen: "{admin}"}
data: "{data}"
store:
  memory: {bytes: 16MiB}
  disk: [{path: "${E2E_DISK}", bytes: 64MiB}]
origins: {o: {url: "${E2E_ORIGIN}"}}
hosts: [{names: ["*"], origin: o}]
`)
	c := newClient(t, n, "h1")
	const size = 500_000
	ask := func(i int) {
		target := respond("size", fmt.Sprint(size), "header", "Cache-Control: max-age=600", "full", fmt.Sprint(i))
		for range 2 {
			checkPattern(t, target, c.get(t, target), size)
		}
	}
	for i := range 60 {
		ask(i)
	}
	if n := metric(t, n, `edge_store_disk_errors_total\{[^}]*operation="write"\}`); n == 0 {
		t.Error("the disk was full and no metric says so")
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	stored, i := metric(t, n, `edge_store_disk_stored_total\{[^}]*\}`), 100
	eventually(t, "the disk is used again", func() bool {
		ask(i)
		i++
		return metric(t, n, `edge_store_disk_stored_total\{[^}]*\}`) > stored+5 &&
			metric(t, n, `edge_store_disk_state\{[^}]*state="serving"\}`) == 1
	})
}
