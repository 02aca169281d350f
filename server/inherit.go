package server

// inherit.go takes sockets that were opened by others: systemd's socket
// activation (LISTEN_PID, LISTEN_FDS, LISTEN_FDNAMES), and unix sockets' files that
// a process of before has left behind.

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	// firstFD is where sockets of an activation begin.
	firstFD = 3
	// fdsMax bounds how many there may be.
	fdsMax = 1000
	// fdUnnamed is what sockets without a name are called.
	fdUnnamed = "unknown"
)

// inherited are the file descriptors of an activation, by name.
type inherited map[string][]int

// inherit reads the environment of an activation; there is nothing where it is
// another process's.
func inherit(env func(string) string) (inherited, error) {
	if env("LISTEN_FDS") == "" || env("LISTEN_PID") != strconv.Itoa(os.Getpid()) {
		return nil, nil
	}
	n, err := strconv.Atoi(env("LISTEN_FDS"))
	if err != nil || n < 0 || n > fdsMax {
		return nil, fmt.Errorf("server: LISTEN_FDS=%q is no number of sockets", env("LISTEN_FDS"))
	}
	var names []string
	if text := env("LISTEN_FDNAMES"); text != "" {
		if names = strings.Split(text, ":"); len(names) != n {
			return nil, fmt.Errorf("server: LISTEN_FDNAMES has %d names for %d sockets", len(names), n)
		}
	}
	all := inherited{}
	for i := range n {
		name := fdUnnamed
		if names != nil {
			name = names[i]
		}
		all[name] = append(all[name], firstFD+i)
	}
	return all, nil
}

// take makes listeners of the sockets of a name, and nobody else can any more.
func (all inherited) take(key, name string) (s sockets, err error) {
	fds := all[name]
	if len(fds) == 0 {
		return s, fmt.Errorf("server: %s: no socket called %q was handed over: set FileDescriptorName=%s in the socket unit, and start the node by it", key, name, name)
	}
	delete(all, name)
	for _, fd := range fds {
		if err := s.add(fd, name); err != nil {
			return s, errors.Join(fmt.Errorf("server: %s: socket %q: %w", key, name, err), s.close())
		}
	}
	return s, nil
}

// warn says which sockets nobody has taken, and closes them: clients that connect are
// refused then, or wait for as long as somebody else keeps the socket open.
func (all inherited) warn(log *slog.Logger) {
	for _, name := range slices.Sorted(maps.Keys(all)) {
		for _, fd := range all[name] {
			log.Warn("a socket was handed over that no address names, nobody serves its clients: write fd:"+name+
				" into server.http or server.https, or give it in its unit the FileDescriptorName of an address, or take it out there",
				"name", name, "fd", fd, "address", addressOfFD(fd))
			_ = unix.Close(fd) // nothing can be done about it
		}
	}
	clear(all)
}

// addressOfFD is where a socket listens, "" where it is none.
func addressOfFD(fd int) string {
	address, err := unix.Getsockname(fd)
	if err != nil {
		return ""
	}
	switch a := address.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(a.Addr), uint16(a.Port)).String()
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(a.Addr), uint16(a.Port)).String()
	case *unix.SockaddrUnix:
		return unixScheme + a.Name
	}
	return ""
}

func (s *sockets) add(fd int, name string) error {
	kind, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE)
	if err != nil {
		return os.NewSyscallError("getsockopt", err)
	}
	file := os.NewFile(uintptr(fd), name)
	defer file.Close() // net has copies
	if kind == unix.SOCK_DGRAM {
		packets, err := net.FilePacketConn(file)
		if err != nil {
			return err
		}
		udp, ok := packets.(*net.UDPConn)
		if !ok {
			return errors.Join(errors.New("datagrams, but not UDP"), packets.Close())
		}
		s.datagrams = append(s.datagrams, udp)
		return nil
	}
	ln, err := net.FileListener(file)
	if err != nil {
		return err
	}
	s.streams = append(s.streams, ln)
	return nil
}

// listenUnix opens a unix socket with the mode that says who may connect. A file
// of a process that is no more is replaced, and nothing else.
func listenUnix(key, path string, mode os.FileMode) (net.Listener, error) {
	ln, err := net.Listen("unix", path)
	if errors.Is(err, syscall.EADDRINUSE) && abandoned(path) {
		if err := os.Remove(path); err != nil {
			return nil, fmt.Errorf("server: %s: remove a socket that nobody listens on: %w", key, err)
		}
		ln, err = net.Listen("unix", path)
	}
	if err != nil {
		return nil, bindError(key, path, "unix socket", err)
	}
	if err := os.Chmod(path, mode); err != nil {
		return nil, errors.Join(fmt.Errorf("server: %s: %w", key, err), ln.Close())
	}
	return ln, nil
}

// abandoned says whether a file is a socket on which nobody listens.
func abandoned(path string) bool {
	info, err := os.Lstat(path)
	if err != nil || info.Mode().Type() != os.ModeSocket {
		return false
	}
	c, err := net.Dial("unix", path)
	if err == nil {
		_ = c.Close()
	}
	return errors.Is(err, syscall.ECONNREFUSED)
}
