// Package store keeps bytes under keys in two tiers, memory and disk. It knows
// no HTTP: what a header means, when a response is fresh and who may see it is
// the cache's affair; the store holds the encoded header, the body and a few
// numbers that it needs to find, charge and forget them.
//
// A life: Create gives a Writer; bytes are written and may be read back at once
// by those who follow the fill; Commit makes the object visible under its key
// and Abort leaves no trace. Open gives a Stored, a counted reference: its bytes
// stay readable until Close, whatever is removed, evicted or replaced meanwhile.
//
// Nothing here blocks on a slow reader, and a store that cannot keep something
// says so (ErrFull, ErrTooLarge, ErrBroken) instead of failing the request.
package store

import (
	"errors"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"syscall"
)

// What the store's calls may answer; test with errors.Is.
var (
	ErrNotFound = errors.New("store: not found")
	ErrFull     = errors.New("store: no room")          // over budget now; may pass
	ErrTooLarge = errors.New("store: object too large") // will never fit
	ErrBroken   = errors.New("store: out of use")       // the device failed
	ErrClosed   = errors.New("store: closed")
	ErrLength   = errors.New("store: body length differs from its meta")
)

// A Key finds a stored object. Hash is made by a Hasher from Text and finds the
// slot; Text is the whole cache key and proves that the slot holds the right
// object, so that a colliding hash is a miss and never another's object.
// Text may point into a caller's buffer: the store copies what it keeps.
type Key struct {
	Hash Hash
	Text string
}

// Hash is a seeded 128-bit hash. The seed is the store's own and secret, so that
// nobody can choose URLs that collide.
type Hash struct{ Hi, Lo uint64 }

// Meta is what the store knows of an object beside its body.
type Meta struct {
	// Order is the node's purge counter at the start of the fetch: a purge with
	// a higher number forgets the object, whatever the clocks say.
	Order uint64
	// Length of the body in bytes, -1 in Create while it is unknown. Commit
	// checks it against what was written.
	Length int64
	// Header is the cache's encoding of status, fields and what it needs to
	// judge them. Opaque here. At most HeaderMax bytes.
	Header []byte
	// Instants in Unix nanoseconds. Stored: when the response was received (or
	// last freshened). FreshUntil: fresh before this instant. KeepUntil: of no
	// use from here on, not even stale or to be validated; such objects are
	// evicted before others. 0 is no end.
	Stored, FreshUntil, KeepUntil int64
	// URL, Host and Groups are hashes (Hasher.Sum) of what a purge can name.
	URL, Host uint64
	Groups    []uint64
	// Prints are for SetPrints to fill in, and not kept on disk: what is looked at of URL,
	// Host and Groups first. Lookups ask memory for them before they know Value.
	Prints [PrintsMax]uint32
}

// PrintsMax makes a line of the processor's cache of Prints and another word, and of a
// record in memory three.
const PrintsMax = 14

// BodyMax bounds a body in the memory tier; larger ones live on disk only.
const BodyMax = 1 << 20

// HeaderMax bounds Meta.Header.
const HeaderMax = 128 << 10

// Store is the seam between the cache and what keeps its bytes. All methods may
// be called from many goroutines at once.
type Store interface {
	// Open returns a reference to the object under key, from whichever tier has
	// it, or ErrNotFound. It may read from disk. The caller must Close it.
	Open(Key) (*Stored, error)
	// Create starts a new object that will replace what key names. Several may
	// be open for one key; the last Commit wins.
	Create(Key, Meta) (Writer, error)
	// Freshen replaces the object's Meta and keeps its body (RFC 9111 4.3.4).
	// Length in the given Meta is ignored. ErrNotFound when it has gone.
	Freshen(Key, Meta) error
	// Remove forgets the object. Removing what is not there is not an error.
	Remove(Key) error
}

// Writer receives one body. Write, Commit and Abort belong to one goroutine;
// ReadAt may be called by others at the same time, for bytes that a Write has
// returned for, until Commit succeeds or Abort is called.
type Writer interface {
	io.Writer
	io.ReaderAt
	// Commit makes the object visible with this Meta (its Length must match what
	// was written) and returns a reference to it, which the caller must Close.
	// After an error nothing is stored; ReadAt goes on answering until Abort.
	Commit(Meta) (*Stored, error)
	// Abort drops what was written. Abort after Commit does nothing, so that it
	// can be deferred.
	Abort()
}

// The tiers, as Stored.Tier names them.
const (
	tierMemory = "memory"
	tierDisk   = "disk"
)

// A source is where the body of a Stored comes from.
type source interface {
	io.ReaderAt
	// bytes returns the whole body if it is in memory, else nil.
	bytes() []byte
	// sendTo writes body[off:off+n] to a bare TCP connection without a copy in
	// user space, or returns errors.ErrUnsupported before the first byte. It waits
	// for the connection where told to, else it ends where that takes no more.
	sendTo(conn syscall.RawConn, off, n int64, wait bool) (int64, error)
	// release gives the reference back; the last one frees the bytes.
	release()
}

// Stored is a counted reference to a stored object. It is immutable: freshening
// or replacing the object does not change the references that exist.
type Stored struct {
	meta  *Meta
	value any
	seen  *atomic.Uint64
	print uint32 // the first of meta's Prints, so that they are asked for with value
	tier  string
	src   source
}

// Meta returns the object's meta; the caller must not change it.
func (s *Stored) Meta() *Meta { return s.meta }

// Value returns what Config.Prepare made of the Meta.
func (s *Stored) Value() any { return s.value }

// Seen is a word that is 0 at first, for the caller to note what it knows of this Meta
// and Value: those that freshening puts in their place have another. In memory it is
// where a lookup writes anyway.
func (s *Stored) Seen() *atomic.Uint64 { return s.seen }

// InMemory says whether it is an object of the memory tier.
func (s *Stored) InMemory() bool { return s.tier == tierMemory }

// Tier names the tier that answered: "memory" or "disk".
func (s *Stored) Tier() string { return s.tier }

// Bytes returns the whole body without a copy when it is in memory, else nil
// (an empty body is a non-nil empty slice). Valid until Close.
func (s *Stored) Bytes() []byte { return s.src.bytes() }

// ReadAt reads from the body. Bytes from disk are verified by checksum before
// they are returned; a mismatch is an error and removes the object.
func (s *Stored) ReadAt(p []byte, off int64) (int, error) { return s.src.ReadAt(p, off) }

// SendTo writes n bytes of the body from off to a bare TCP connection by
// sendfile where that is safe: bytes that were verified since the start. It
// returns errors.ErrUnsupported with 0 bytes where it is not; the caller then
// copies with ReadAt.
//
// It waits for a slow client up to the connection's write deadline, which is of
// the whole call: to let a client live as long as it goes on reading, send in
// parts and move the deadline between them. The count is that of bytes that the
// connection has taken, all of them right, also where an error comes with it. An
// error that is ErrNotFound or ErrBroken is the disk's, and ReadAt from there on
// would meet it too; any other is the connection's. What is removed, evicted or
// replaced meanwhile is sent to its end. Nothing else may write to the
// connection during the call.
func (s *Stored) SendTo(conn *net.TCPConn, off, n int64) (int64, error) {
	out, err := conn.SyscallConn()
	if err != nil {
		return 0, fmt.Errorf("store: send: %w", err)
	}
	return s.src.sendTo(out, off, n, true)
}

// SendNow is SendTo that ends where the connection takes no more for now.
func (s *Stored) SendNow(conn syscall.RawConn, off, n int64) (int64, error) {
	return s.src.sendTo(conn, off, n, false)
}

// Close gives the reference back. The body must not be touched afterwards.
func (s *Stored) Close() {
	if s.src != nil {
		s.src.release()
		s.src = nil
	}
}
