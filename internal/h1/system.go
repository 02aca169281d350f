package h1

// system.go has the system calls of engine and client. They do not wait, as sockets here
// never block: so they are made without telling the scheduler, which else would take
// the processor away from a call that copies for 20 µs, and wake others for it.

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ReadNow reads from a socket that does not block. read(2) would go through what files need.
func ReadNow(fd int, b []byte) (int, error) {
	n, _, errno := unix.RawSyscall6(unix.SYS_RECVFROM, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), 0, 0, 0)
	return result(n, errno)
}

// SendNow writes to a socket that does not block.
func SendNow(fd int, b []byte) (int, error) {
	n, _, errno := unix.RawSyscall6(unix.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), unix.MSG_NOSIGNAL, 0, 0)
	return result(n, errno)
}

// WritevNow writes what two vectors point at to a socket that does not block.
func WritevNow(fd int, vectors *[2]unix.Iovec) (int, error) {
	n, _, errno := unix.RawSyscall(unix.SYS_WRITEV, uintptr(fd), uintptr(unsafe.Pointer(vectors)), 2)
	return result(n, errno)
}

// PeekNow looks at what a socket that does not block would read, and leaves it there.
func PeekNow(fd int, b []byte) (int, error) {
	n, _, errno := unix.RawSyscall6(unix.SYS_RECVFROM, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), unix.MSG_PEEK|unix.MSG_DONTWAIT, 0, 0)
	return result(n, errno)
}

func result(n uintptr, errno syscall.Errno) (int, error) {
	if errno != 0 {
		return -1, errno
	}
	return int(n), nil
}
