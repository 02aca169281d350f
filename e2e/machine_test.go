package e2e

// machine_test.go gives tests a Debian machine of its own: this one's files under an
// overlay that goes with the test, and systemd as its first process. What is installed
// or enabled there leaves no trace here.

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// bootScript makes the machine's files and becomes its first process. No unit of this
// machine is started but what systemd needs itself.
const bootScript = `set -e
mount --make-rprivate /
mount -t tmpfs tmpfs "$1"
mkdir "$1/upper" "$1/work" "$1/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" "$1/root"
cd "$1/root"
mount -t proc proc proc
mount -t sysfs sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs tmpfs run
mount -t tmpfs tmpfs tmp
echo edge >etc/hostname
mount --rbind /dev dev
rm -rf etc/systemd/system/*.wants etc/edge var/lib/edge usr/local/bin/edge
mkdir before
pivot_root . before
umount -l /before
exec /usr/lib/systemd/systemd --unit=basic.target --log-target=null --show-status=0
`

// booted is a machine that runs.
type booted struct {
	*machine
	process int // the number of its first process here
}

// boot starts systemd on a machine of a network.
func boot(t *testing.T, m *machine) *booted {
	t.Helper()
	need(t, "unshare")
	need(t, "systemctl")
	if _, err := os.Stat("/usr/lib/systemd/systemd"); err != nil {
		t.Skip("SKIPPED: systemd is not installed; make setup installs it where it may")
	}
	p := m.start(t, "env", "container=other", "unshare", "--mount", "--uts", "--ipc", "--pid", "--cgroup", "--fork", "--kill-child",
		"sh", "-c", bootScript, "boot", t.TempDir())
	b := &booted{machine: m}
	eventually(t, "systemd runs on the machine", func() bool {
		if !p.running() {
			t.Skipf("SKIPPED: no machine can be booted here: %s", tail(p.output.String(), 3))
		}
		children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", p.cmd.Process.Pid))
		if err != nil {
			return false
		}
		if _, err := fmt.Sscan(string(children), &b.process); err != nil {
			return false
		}
		out, _ := b.command("", "systemctl is-system-running").CombinedOutput()
		said := strings.TrimSpace(string(out))
		return said == "running" || said == "degraded"
	})
	return b
}

// command is one that a shell runs on the machine, in a directory of it. It stops at
// the first command that fails.
func (b *booted) command(dir, script string) *exec.Cmd {
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	cmd := exec.CommandContext(ctx, "nsenter", "-t", fmt.Sprint(b.process), "-a", "--wd="+b.path(dir), "bash", "-euo", "pipefail", "-c", script)
	cmd.WaitDelay = time.Second
	cmd.Cancel = func() error { defer cancel(); return cmd.Process.Kill() }
	cmd.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LANG=C.UTF-8"}
	return cmd
}

// path is that of one of the machine's files, seen from here.
func (b *booted) path(name string) string {
	return filepath.Join(fmt.Sprintf("/proc/%d/root", b.process), name)
}
