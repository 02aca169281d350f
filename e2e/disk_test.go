package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
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
	n := startOnDisk(t, o, filepath.Join(disk, "cache"))
	ask := asker(t, n)
	for i := range 60 {
		ask(i)
	}
	i := 100
	eventually(t, "a metric says that the disk is full", func() bool { // what is asked for is written a while later
		ask(i)
		i++
		return metric(t, n, `edge_store_disk_errors_total\{[^}]*operation="write"\}`) > 0
	})
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	usedAgain(t, n, ask)
}

// startOnDisk starts a node with little memory and a disk tier in dir.
func startOnDisk(t *testing.T, o *sampleOrigin, dir string) *node {
	t.Helper()
	t.Setenv("E2E_ORIGIN", o.url)
	t.Setenv("E2E_DISK", dir)
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
	return n
}

// asker returns what asks twice for the object of a number, so that the disk
// tier wants it, and judges both answers.
func asker(t *testing.T, n *node) func(i int) {
	c := newClient(t, n, "h1")
	const size = 500_000
	return func(i int) {
		t.Helper()
		target := respond("size", fmt.Sprint(size), "header", "Cache-Control: max-age=600", "full", fmt.Sprint(i))
		for range 2 {
			checkPattern(t, target, c.get(t, target), size)
		}
	}
}

// diskState says whether the node's only directory is in a state.
func diskState(t *testing.T, n *node, state string) bool {
	t.Helper()
	return metric(t, n, `edge_store_disk_state\{[^}]*state="`+state+`"\}`) == 1
}

// usedAgain waits until the disk tier takes objects. Between writes that failed it waits
// up to half a minute, the longer the more of them there were.
func usedAgain(t *testing.T, n *node, ask func(i int)) {
	t.Helper()
	stored, i := metric(t, n, `edge_store_disk_stored_total\{[^}]*\}`), 1000
	within(t, 3*patience, "the disk is used again", func() bool {
		ask(i)
		i++
		return metric(t, n, `edge_store_disk_stored_total\{[^}]*\}`) > stored+5 && diskState(t, n, "serving")
	})
}

// A device is an ext4 file system in a file, which can be made to fail.
type device struct{ image, dir string }

func newDevice(t *testing.T) device {
	t.Helper()
	need(t, "mkfs.ext4")
	d := device{filepath.Join(t.TempDir(), "image"), t.TempDir()}
	if err := os.WriteFile(d.image, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(d.image, 160<<20); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("mkfs.ext4", "-q", d.image).CombinedOutput(); err != nil {
		t.Skipf("SKIPPED: mkfs.ext4: %s", out)
	}
	if out, err := d.mount(); err != nil {
		t.Skipf("SKIPPED: no loop device can be mounted (it takes root, and a kernel with loop devices and ext4): %s", out)
	}
	t.Cleanup(func() {
		for exec.Command("umount", "-l", d.dir).Run() == nil {
		}
	})
	return d
}

// mount takes a loop device of its own each time: the kernel would hand out the
// file system that failed again while someone has files of it open.
func (d device) mount() ([]byte, error) {
	loop, err := exec.Command("losetup", "-f", "--show", d.image).CombinedOutput()
	if err != nil {
		return loop, err
	}
	name := strings.TrimSpace(string(loop))
	out, err := exec.Command("mount", "-o", "errors=remount-ro", name, d.dir).CombinedOutput()
	// It is freed when nobody uses it any more.
	if detached, detachErr := exec.Command("losetup", "-d", name).CombinedOutput(); err == nil && detachErr != nil {
		return detached, detachErr
	}
	return out, err
}

// remount replaces the file system that failed, as its operator would.
func (d device) remount(t *testing.T) {
	t.Helper()
	if out, err := exec.Command("umount", "-l", d.dir).CombinedOutput(); err != nil {
		t.Fatalf("umount: %s", out)
	}
	if out, err := d.mount(); err != nil {
		t.Fatalf("mount: %s", out)
	}
}

// fail lets every read and write of the file system fail with EIO.
func (d device) fail(t *testing.T) {
	t.Helper()
	const shutdown, noFlush = 0x8004587d, 2 // EXT4_IOC_SHUTDOWN, EXT4_GOING_FLAGS_NOLOGFLUSH
	f, err := os.Open(d.dir)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := unix.IoctlSetPointerInt(int(f.Fd()), shutdown, noFlush); err != nil {
		t.Skipf("SKIPPED: this kernel shuts no ext4 down: %v", err)
	}
}

// protect makes the file system read-only at once, as the kernel does when it
// finds it damaged: no remount waits for files that are open for writing.
func (d device) protect(t *testing.T) {
	t.Helper()
	out, err := exec.Command("findmnt", "-no", "SOURCE", d.dir).Output()
	if err != nil {
		t.Skip("SKIPPED: findmnt: ", err)
	}
	trigger := filepath.Join("/sys/fs/ext4", filepath.Base(strings.TrimSpace(string(out))), "trigger_fs_error")
	if err := os.WriteFile(trigger, []byte("a test\n"), 0); err != nil {
		t.Skip("SKIPPED: this kernel has no way to make ext4 fail: ", err)
	}
}

// While a disk fails, for real, every answer is right; the failure is told of,
// and the disk is used again when it works again.
func TestFailingDisk(t *testing.T) {
	for name, fail := range map[string]func(device, *testing.T){"EIO": device.fail, "EROFS": device.protect} {
		t.Run(name, func(t *testing.T) {
			d := newDevice(t)
			o := startOrigin(t)
			n := startOnDisk(t, o, filepath.Join(d.dir, "cache"))
			ask := asker(t, n)
			const known = 60 // 30 MB, twice what memory holds
			for i := range known {
				ask(i)
			}
			eventually(t, "objects are on disk", func() bool {
				if diskObjects(t, n) >= known*9/10 {
					return true
				}
				for i := range known { // memory may have dropped some before they were written
					ask(i)
				}
				return false
			})
			unix.Sync() // the directory must be there when the file system is mounted again
			fail(d, t)
			i := 100
			eventually(t, "the failure shows", func() bool {
				ask(i)
				i++
				return diskState(t, n, "broken")
			})
			for i := range known {
				ask(i)
			}
			if metric(t, n, `edge_store_disk_errors_total\{[^}]*operation="write"\}`) == 0 {
				t.Error("writes fail and no metric says so")
			}
			if n.ready() != 200 {
				t.Error("the node is not ready because its disk fails")
			}
			n.says(t, "directory is broken")
			found := false
			for _, tier := range n.status(t).Store {
				found = found || tier.State == "broken" && tier.Error != ""
			}
			if !found {
				t.Errorf("status says %+v", n.status(t).Store)
			}
			d.remount(t)
			usedAgain(t, n, ask)
			for i := range known {
				ask(i)
			}
		})
	}
}

// A directory that is read-only at the start is passed by, and used as soon as
// it can be written.
func TestReadOnlyAtStart(t *testing.T) {
	disk := smallDisk(t, 100)
	remount := func(how string) {
		t.Helper()
		if out, err := exec.Command("mount", "-o", "remount,"+how, disk).CombinedOutput(); err != nil {
			t.Skipf("SKIPPED: mount -o remount,%s: %s", how, out)
		}
	}
	remount("ro")
	o := startOrigin(t)
	n := startOnDisk(t, o, filepath.Join(disk, "cache"))
	ask := asker(t, n)
	for i := range 60 {
		ask(i)
	}
	if !diskState(t, n, "broken") || metric(t, n, `edge_store_disk_errors_total\{[^}]*operation="open"\}`) == 0 {
		t.Error("no metric says that the directory cannot be opened")
	}
	n.says(t, "directory is out of use until it can be opened")
	remount("rw")
	usedAgain(t, n, ask)
}
