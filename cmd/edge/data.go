package main

// The data directory belongs to one node at a time.

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// lockFile is held for as long as a node runs on its data directory. The kernel
// lets go of it when the process ends, however it ends.
const lockFile = "edge.lock"

type dataDir struct {
	dir  string
	lock *os.File
}

// claim makes the directory if need be and takes it.
func claim(dir string) (*dataDir, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	lock, err := os.OpenFile(filepath.Join(dir, lockFile), os.O_CREATE|os.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = lock.Close() // nothing was written
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("data directory %s: another edge runs on it: stop that one, or give this one a directory of its own (data in the file, or --data)", dir)
		}
		return nil, fmt.Errorf("data directory %s: lock: %w", dir, err)
	}
	d := &dataDir{dir, lock}
	d.withdraw() // of one that was killed
	return d, nil
}

// publish writes where operators are answered, for the commands that ask a node.
func (d *dataDir) publish(admin string) error {
	if admin == "" {
		return nil
	}
	temporary := filepath.Join(d.dir, addrFile+".new")
	if err := os.WriteFile(temporary, []byte(reachable(admin)+"\n"), 0o644); err != nil {
		return fmt.Errorf("data directory: %w", err)
	}
	if err := os.Rename(temporary, filepath.Join(d.dir, addrFile)); err != nil {
		return fmt.Errorf("data directory: %w", err)
	}
	return nil
}

func (d *dataDir) withdraw() { _ = os.Remove(filepath.Join(d.dir, addrFile)) } // not there is as good

// release gives the directory back.
func (d *dataDir) release() {
	d.withdraw()
	_ = d.lock.Close() // which unlocks it
}

// reachable turns the address of a listener on all addresses into one to dial.
func reachable(addr string) string {
	at, err := netip.ParseAddrPort(addr)
	if err != nil || !at.Addr().IsUnspecified() {
		return addr
	}
	_, port, _ := net.SplitHostPort(addr) // parsed above
	return net.JoinHostPort("127.0.0.1", port)
}
