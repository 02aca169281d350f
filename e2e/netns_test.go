package e2e

// netns_test.go gives tests machines with addresses of their own: network
// namespaces on one switch. A program that is started in one is that machine's; so
// is a connection that is dialled, or a listener that is opened, by in.
//
//	lan := newLAN(t)
//	a, b := lan.machine(t, "10.1.0.1/8", "2001:db8:1::1/32"), lan.machine(t, "10.2.0.1/8")
//	a.start(t, program, args...)          as start, on that machine
//	a.in(t, func() { ... })               runs a function there
//	a.dial(ctx, "tcp", "10.2.0.1:80")     fits http.Transport.DialContext
//	b.unplug(t); b.plug(t)                takes the cable out, and puts it back
//
// It takes root; elsewhere the test is skipped, and says so.

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// nextNamespace numbers namespaces of this process.
var nextNamespace atomic.Int64

// localNet is a switch.
type localNet struct{ name string }

// machine is a network namespace that is plugged into a network.
type machine struct {
	lan         *localNet
	name, cable string
}

// newLAN makes a switch without machines.
func newLAN(t *testing.T) *localNet {
	t.Helper()
	need(t, "ip")
	n := &localNet{namespace(t)}
	ip(t, "-n", n.name, "link", "add", "switch", "type", "bridge", "stp_state", "0", "forward_delay", "0")
	ip(t, "-n", n.name, "link", "set", "switch", "up")
	return n
}

// namespace makes one that goes with the test; it skips the test where none can be
// made.
func namespace(t *testing.T) string {
	t.Helper()
	name := fmt.Sprintf("edge-%d-%d", os.Getpid(), nextNamespace.Add(1))
	if out, err := exec.Command("ip", "netns", "add", name).CombinedOutput(); err != nil {
		t.Skipf("SKIPPED: no network namespaces here (root makes them): %s", strings.TrimSpace(string(out)))
	}
	t.Cleanup(func() { ip(t, "netns", "del", name) })
	ip(t, "-n", name, "link", "set", "lo", "up")
	return name
}

func ip(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		t.Fatalf("ip %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// machine adds one with these addresses, each with the length of the network that
// it reaches: 10.1.0.1/8.
func (n *localNet) machine(t *testing.T, addresses ...string) *machine {
	t.Helper()
	m := &machine{lan: n, name: namespace(t), cable: fmt.Sprintf("m%d", nextNamespace.Add(1))}
	ip(t, "-n", n.name, "link", "add", m.cable, "type", "veth", "peer", "name", "eth0", "netns", m.name)
	ip(t, "-n", n.name, "link", "set", m.cable, "master", "switch", "up")
	ip(t, "-n", m.name, "link", "set", "eth0", "up")
	for _, address := range addresses {
		m.address(t, address)
	}
	return m
}

// address adds one more.
func (m *machine) address(t *testing.T, address string) {
	t.Helper()
	args := []string{"-n", m.name, "address", "add", address, "dev", "eth0"}
	if strings.Contains(address, ":") {
		args = append(args, "nodad") // it is used at once
	}
	ip(t, args...)
}

// unplug cuts the machine off without anybody being told: its addresses and
// connections stay, and all frames are lost.
func (m *machine) unplug(t *testing.T) {
	t.Helper()
	ip(t, "-n", m.lan.name, "link", "set", m.cable, "nomaster")
}

// plug undoes unplug.
func (m *machine) plug(t *testing.T) {
	t.Helper()
	ip(t, "-n", m.lan.name, "link", "set", m.cable, "master", "switch")
}

// start starts a program on the machine, as start does.
func (m *machine) start(t *testing.T, program string, args ...string) *process {
	t.Helper()
	return start(t, "ip", append([]string{"netns", "exec", m.name, program}, args...)...)
}

// in runs f on the machine: sockets that it opens, not those of goroutines that it
// starts, are the machine's for as long as they live.
func (m *machine) in(t *testing.T, f func()) {
	t.Helper()
	if err := m.enter(f); err != nil {
		t.Fatal(err)
	}
}

func (m *machine) enter(f func()) error {
	there, err := os.Open(filepath.Join("/run/netns", m.name))
	if err != nil {
		return err
	}
	defer there.Close()
	runtime.LockOSThread()
	here, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return err
	}
	defer here.Close()
	if err := unix.Setns(int(there.Fd()), unix.CLONE_NEWNET); err != nil {
		return err
	}
	f()
	// The thread must come home and live on: programs that it has started would be
	// killed with it (start sets Pdeathsig).
	if err := unix.Setns(int(here.Fd()), unix.CLONE_NEWNET); err != nil {
		return err // still locked: nobody else gets the thread
	}
	runtime.UnlockOSThread()
	return nil
}

// dial connects from the machine.
func (m *machine) dial(ctx context.Context, network, address string) (c net.Conn, err error) {
	if failed := m.enter(func() { c, err = new(net.Dialer).DialContext(ctx, network, address) }); failed != nil {
		return nil, failed
	}
	return c, err
}

// TestLAN: machines reach each other while they are plugged in.
func TestLAN(t *testing.T) {
	lan := newLAN(t)
	a, b := lan.machine(t, "10.1.0.1/8", "2001:db8:1::1/32"), lan.machine(t, "10.2.0.1/8", "2001:db8:2::1/32")
	for _, address := range []string{"10.1.0.1:7", "[2001:db8:1::1]:7"} {
		var ln net.Listener
		a.in(t, func() {
			var err error
			if ln, err = net.Listen("tcp", address); err != nil {
				t.Error(err)
			}
		})
		if t.Failed() {
			return
		}
		defer ln.Close()
		reached := func(d time.Duration) bool {
			ctx, cancel := context.WithTimeout(t.Context(), d)
			defer cancel()
			c, err := b.dial(ctx, "tcp", address)
			if err == nil {
				_ = c.Close()
			}
			return err == nil
		}
		if !reached(patience) {
			t.Errorf("%s is not reached", address)
		}
		b.unplug(t)
		if reached(200 * time.Millisecond) {
			t.Errorf("%s is reached without a cable", address)
		}
		b.plug(t)
		if !reached(patience) {
			t.Errorf("%s is not reached again", address)
		}
	}
}
