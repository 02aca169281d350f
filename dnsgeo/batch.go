package dnsgeo

// batch.go reads and writes many datagrams in one system call, on a socket of its
// own (SO_REUSEPORT gives each its share). golang.org/x/net does the same, but
// allocates an address for each datagram.

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	batchSize      = 32
	batchBytesMax  = 4096 // of a datagram, in and out
	batchBuffer    = 4 << 20
	controlBytes   = 64 // room for one in6_pktinfo
	sockaddrBytes6 = 28
)

// mmsghdr is struct mmsghdr of the kernel.
type mmsghdr struct {
	hdr unix.Msghdr
	n   uint32
	_   [4]byte
}

// datagrams is one socket with room for a batch each way. It belongs to one
// goroutine.
type datagrams struct {
	conn   *net.UDPConn
	raw    syscall.RawConn
	is4    bool // a socket of IPv4, not one that has IPv4 in IPv6
	in     [batchSize]datagram
	out    [batchSize]datagram
	inHdr  [batchSize]mmsghdr
	outHdr [batchSize]mmsghdr

	// Arguments and results of the calls, which run inside of raw's.
	n, first, outs int
	err            error
	waits          bool // receive does, where there is nothing
	receive, send  func(fd uintptr) bool
}

type datagram struct {
	iov     unix.Iovec
	name    [sockaddrBytes6]byte
	control [controlBytes]byte
	data    [batchBytesMax]byte
}

// listenDatagrams opens a socket that shares its port with others of ours.
func listenDatagrams(ctx context.Context, address string) (*datagrams, error) {
	config := net.ListenConfig{Control: func(network, bound string, c syscall.RawConn) error {
		at, err := netip.ParseAddrPort(bound)
		everywhere := err != nil || at.Addr().IsUnspecified()
		var failed error
		err = c.Control(func(fd uintptr) { failed = prepareSocket(int(fd), network, everywhere) })
		return errors.Join(err, failed)
	}}
	conn, err := config.ListenPacket(ctx, "udp", address)
	if err != nil {
		return nil, err
	}
	d := &datagrams{conn: conn.(*net.UDPConn)}
	if d.raw, err = d.conn.SyscallConn(); err == nil {
		err = d.setUp()
	}
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("prepare a socket for UDP: %w", err)
	}
	return d, nil
}

// prepareSocket sets options. A socket of all addresses is told which of them a
// datagram came to; one of a single address has no need of that.
func prepareSocket(fd int, network string, everywhere bool) error {
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1); err != nil {
		return os.NewSyscallError("setsockopt SO_REUSEPORT", err)
	}
	// As much as the system lets us have: queries are lost where it is less.
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, batchBuffer)
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, batchBuffer)
	// What a path takes is not learned from messages that anybody can forge
	// (RFC 9715 3.1); our answers are small.
	if network == "udp4" {
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_OMIT)
		if !everywhere {
			return nil
		}
		return os.NewSyscallError("setsockopt IP_PKTINFO", unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_PKTINFO, 1))
	}
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_OMIT)
	if !everywhere {
		return nil
	}
	return os.NewSyscallError("setsockopt IPV6_RECVPKTINFO", unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1))
}

func (d *datagrams) setUp() error {
	var failed error
	err := d.raw.Control(func(fd uintptr) {
		family, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_DOMAIN)
		d.is4, failed = family == unix.AF_INET, err
	})
	if err := errors.Join(err, failed); err != nil {
		return err
	}
	for i := range batchSize {
		for _, side := range []struct {
			hdr *mmsghdr
			at  *datagram
		}{{&d.inHdr[i], &d.in[i]}, {&d.outHdr[i], &d.out[i]}} {
			side.at.iov.Base = &side.at.data[0]
			side.hdr.hdr.Iov, side.hdr.hdr.Iovlen = &side.at.iov, 1
			side.hdr.hdr.Name = &side.at.name[0]
			side.hdr.hdr.Control = &side.at.control[0]
		}
	}
	d.receive = func(fd uintptr) bool {
		d.call(unix.SYS_RECVMMSG, fd, &d.inHdr[0], batchSize)
		return d.err != unix.EAGAIN || !d.waits
	}
	d.send = func(fd uintptr) bool {
		d.call(unix.SYS_SENDMMSG, fd, &d.outHdr[d.first], d.outs-d.first)
		return true // what does not fit is lost, as it would be on the way
	}
	return nil
}

func (d *datagrams) call(number, fd uintptr, hdrs *mmsghdr, n int) {
	for {
		did, _, errno := unix.Syscall6(number, fd, uintptr(unsafe.Pointer(hdrs)), uintptr(n), unix.MSG_DONTWAIT, 0, 0)
		if d.n, d.err = int(did), nil; errno == 0 {
			return
		}
		if d.n, d.err = 0, errno; errno != unix.EINTR {
			return
		}
	}
}

// read waits for datagrams and returns how many there are.
func (d *datagrams) read() (int, error) {
	d.waits = true
	return d.take()
}

// look returns how many datagrams there are now.
func (d *datagrams) look() (int, error) {
	d.waits = false
	n, err := d.take()
	if err == error(unix.EAGAIN) {
		return 0, nil
	}
	return n, err
}

func (d *datagrams) take() (int, error) {
	for i := range batchSize {
		h := &d.inHdr[i].hdr
		h.Namelen, h.Controllen, h.Flags = sockaddrBytes6, controlBytes, 0
		d.in[i].iov.Len = batchBytesMax
	}
	d.outs = 0
	if err := d.raw.Read(d.receive); err != nil {
		return 0, err
	}
	return d.n, d.err
}

// query returns the i-th of the datagrams that were read, and whom it is from.
// nil is one that was too long for us.
func (d *datagrams) query(i int) ([]byte, netip.AddrPort) {
	if d.inHdr[i].hdr.Flags&unix.MSG_TRUNC != 0 {
		return nil, netip.AddrPort{}
	}
	from := &d.in[i].name
	port := binary.BigEndian.Uint16(from[2:4])
	addr := netip.AddrFrom4([4]byte(from[4:8]))
	if !d.is4 {
		addr = netip.AddrFrom16([16]byte(from[8:24])).Unmap()
	}
	return d.in[i].data[:d.inHdr[i].n], netip.AddrPortFrom(addr, port)
}

// room is where the next answer is appended to.
func (d *datagrams) room() []byte { return d.out[d.outs].data[:0] }

// answer has an answer to the i-th query go out with the next write. It is where
// room said, unless it outgrew that.
func (d *datagrams) answer(i int, answer []byte) {
	h := &d.inHdr[i].hdr
	d.reply(&d.in[i].name, h.Namelen, d.in[i].control[:controlOf(h)], answer)
}

// controlOf is how much of a datagram's control messages can be relied on.
func controlOf(h *unix.Msghdr) int {
	if h.Flags&unix.MSG_CTRUNC != 0 {
		return 0
	}
	return int(h.Controllen)
}

// reply has an answer go out to who sent a datagram with these control messages.
func (d *datagrams) reply(name *[sockaddrBytes6]byte, nameBytes uint32, control, answer []byte) {
	if len(answer) == 0 || len(answer) > batchBytesMax {
		return
	}
	to := &d.out[d.outs]
	if &answer[0] != &to.data[0] {
		copy(to.data[:], answer)
	}
	to.iov.Len = uint64(len(answer))
	h := &d.outHdr[d.outs].hdr
	to.name, h.Namelen = *name, nameBytes
	h.Controllen = uint64(sourceOf(to.control[:], control))
	d.outs++
}

// sourceOf writes the control message that has a datagram leave from the address
// that another came to, and returns its length; 0 leaves it to the system.
func sourceOf(dst, received []byte) int {
	for len(received) >= unix.SizeofCmsghdr {
		h := (*unix.Cmsghdr)(unsafe.Pointer(&received[0]))
		n := int(h.Len)
		if n < unix.SizeofCmsghdr || n > len(received) {
			return 0
		}
		data := received[unix.SizeofCmsghdr:n]
		switch {
		case h.Level == unix.IPPROTO_IP && h.Type == unix.IP_PKTINFO && len(data) >= unix.SizeofInet4Pktinfo:
			space := unix.CmsgSpace(unix.SizeofInet4Pktinfo)
			clear(dst[:space])
			copy(dst, received[:n])
			clear(dst[unix.SizeofCmsghdr:][:4]) // the interface is for the routes to say
			return space
		case h.Level == unix.IPPROTO_IPV6 && h.Type == unix.IPV6_PKTINFO && len(data) >= unix.SizeofInet6Pktinfo:
			space := unix.CmsgSpace(unix.SizeofInet6Pktinfo)
			clear(dst[:space])
			copy(dst, received[:n])
			if data[0] != 0xfe || data[1]&0xc0 != 0x80 { // link-local addresses are of an interface
				clear(dst[unix.SizeofCmsghdr+16:][:4])
			}
			return space
		}
		aligned := (n + unix.SizeofPtr - 1) &^ (unix.SizeofPtr - 1)
		if aligned >= len(received) {
			return 0
		}
		received = received[aligned:]
	}
	return 0
}

// write sends the answers. One that cannot be sent is left out: its client asks
// again. It returns how many those are.
func (d *datagrams) write() (lost int) {
	d.first = 0
	for d.first < d.outs {
		if err := d.raw.Write(d.send); err != nil { // closed
			return lost + d.outs - d.first
		}
		if d.err != nil { // of the first that is left
			d.n = 1
			lost++
		}
		d.first += max(d.n, 1)
	}
	d.outs = 0
	return lost
}
