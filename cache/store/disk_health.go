package store

import (
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// health decides whether a directory is used. A write that fails is tried
// again with the same bytes at the same place, less and less often; meanwhile:
//
//	full     (ENOSPC, EDQUOT) nothing new is taken, reads go on
//	broken   (anything else, brokenAfter times in a row, or a read-only file
//	         system at once) the same, and other directories take its share
//	blind    (blindAfter failed reads in a row) not even read, for a while
//
// One good write, or read, ends it.
type health struct {
	log        *slog.Logger
	retryEvery time.Duration

	mu           sync.Mutex
	condition    condition
	writeErrors  int          // in a row
	readErrors   atomic.Int64 // in a row; changed under mu
	blindUntil   time.Time
	blindFor     time.Duration
	lastWriteErr error
}

type condition uint8

const (
	serving condition = iota
	full
	broken
)

func (c condition) String() string { return [...]string{"serving", "full", "broken"}[c] }

const (
	brokenAfter  = 3
	abandonAfter = 5 // failed writes in a row that one segment is given
	blindAfter   = 8
	blindMin     = time.Second
	blindMax     = 30 * time.Second
	// retryDoublings: the waits between failed writes grow to 128 times the
	// first one, half a minute.
	retryDoublings = 7
)

// writable returns nil, ErrFull or ErrBroken.
func (h *health) writable() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.condition == full:
		return ErrFull
	case h.condition == broken, h.blindLocked():
		return ErrBroken
	}
	return nil
}

func (h *health) get() (condition, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.condition, h.lastWriteErr
}

// wroteWell ends a time of failed writes.
func (h *health) wroteWell() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.condition != serving {
		h.log.Info("disk: directory takes writes again", "after", h.lastWriteErr)
	}
	h.condition, h.writeErrors, h.lastWriteErr = serving, 0, nil
}

// writeFailed notes a failed write and says how long to wait before the next
// try, and whether the segment should be given up.
func (h *health) writeFailed(err error) (wait time.Duration, abandon bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	was := h.condition
	h.lastWriteErr = err
	h.writeErrors++
	switch {
	case isNoSpace(err):
		h.condition = full
	case h.writeErrors >= brokenAfter, errors.Is(err, syscall.EROFS):
		h.condition = broken
	}
	if h.condition != was {
		h.log.Warn("disk: directory is "+h.condition.String()+": new objects stay out of it until it recovers", "err", err)
	}
	wait = h.retryEvery
	if h.condition != full {
		wait = h.retryEvery << min(h.writeErrors-1, retryDoublings)
	}
	return wait, h.condition == broken && h.writeErrors >= abandonAfter
}

// keepOut notes why a directory could not be opened. It says whether that is
// another reason than before.
func (h *health) keepOut(err error) (news bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	news = h.lastWriteErr == nil || h.lastWriteErr.Error() != err.Error()
	h.condition, h.lastWriteErr = broken, err
	return news
}

func isNoSpace(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

// readable reports whether the directory may be read: while it is blind, one
// read in each period finds out whether that is over.
func (h *health) readable() bool {
	if h.readErrors.Load() < blindAfter {
		return true
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.blindLocked() {
		return false
	}
	h.blindUntil = time.Now().Add(h.blindFor)
	return true
}

func (h *health) blindLocked() bool {
	return h.readErrors.Load() >= blindAfter && time.Now().Before(h.blindUntil)
}

func (h *health) readWell() {
	if h.readErrors.Load() == 0 {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.readErrors.Load() >= blindAfter {
		h.log.Info("disk: directory can be read again")
	}
	h.readErrors.Store(0)
	h.blindFor = 0
}

func (h *health) readFailed(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.readErrors.Add(1)
	if h.readErrors.Load() < blindAfter {
		return
	}
	if h.readErrors.Load() == blindAfter {
		h.log.Warn("disk: directory cannot be read and is out of use until it recovers", "err", err)
	}
	h.blindFor = min(max(2*h.blindFor, blindMin), blindMax)
	h.blindUntil = time.Now().Add(h.blindFor)
}

// isDeviceError tells a device that fails from a mistake of the operator. What
// file systems say of blocks that they find damaged is among it, and that a
// directory may not be read: both may be mended while the node runs.
func isDeviceError(err error) bool {
	for _, e := range [...]error{
		syscall.EIO, syscall.EROFS, syscall.ENXIO, syscall.ENODEV, syscall.ESTALE, syscall.ENOTCONN, syscall.ETIMEDOUT,
		syscall.EUCLEAN, syscall.EBADMSG, syscall.EREMOTEIO, syscall.ENODATA, syscall.ENOMEDIUM,
		syscall.EACCES, syscall.EPERM,
	} {
		if errors.Is(err, e) {
			return true
		}
	}
	return isNoSpace(err)
}
