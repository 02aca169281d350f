package gate

// stream.go is what an engine must be able to do for a request that goes to the
// handler. Everything that net/http's ResponseWriters have in common (buffers,
// lengths, trailers, aborts) is done once, above it, in response.go.

import (
	"bufio"
	"io"
	"net"
	"time"

	"edgecdn/cache"
)

// Stream is the engine's side of one exchange on the general path. Read and
// SetReadDeadline may be called by one goroutine while another calls the rest,
// until Exchange.Serve returns; Read may even be called later, by a transport
// that sends the request on, and then fails with http.ErrBodyReadAfterClose.
// After the first failed write all writes fail.
type Stream interface {
	// Read reads the request's body. It waits limits.stall_timeout for the next
	// byte, and then fails with os.ErrDeadlineExceeded; io.EOF is only said where
	// the body is complete. The first Read sends 100 (Continue) to clients that
	// wait for it, unless Head was called before.
	Read(p []byte) (int, error)
	// Trailers returns the request's trailer fields once Read has said io.EOF.
	Trailers() []cache.Field

	// Inform sends an informational response at once (status 100 to 199, not 101).
	Inform(status int, fields []cache.Field) error
	// Head takes the final header, once, before any Write. Names are in lower
	// case; the fields say nothing of framing: the engine writes content-length
	// and the rest by what h says. It need not go out before the first Flush,
	// before bytes that do not fit a buffer, or End. The fields and their strings
	// are valid during the call only.
	Head(status int, fields []cache.Field, h Framing) error
	// Write sends bytes of the body. It keeps nothing of p. It waits for the
	// client, and fails with os.ErrDeadlineExceeded when that takes nothing for
	// limits.stall_timeout.
	Write(p []byte) (int, error)
	// Flush sends what is held back.
	Flush() error
	// End completes the message and sends it, with trailers if there are any.
	End(trailers []cache.Field) error
	// Abort breaks the message off so that the client sees it: it resets the
	// stream, or the connection. It is called at most once, and not after End.
	Abort()

	// SetReadDeadline and SetWriteDeadline are for http.ResponseController; they
	// hold beside the stall timeout. The zero time is none.
	SetReadDeadline(t time.Time) error
	SetWriteDeadline(t time.Time) error
}

// Framing is how the body of a response is delimited; see Stream.Head.
type Framing struct {
	// Length of the body, -1 where it is unknown. It is sent as Content-Length.
	Length int64
	// Bodyless: neither body nor trailers follow, whatever Length says (HEAD, 204,
	// 304); End comes next.
	Bodyless bool
	// Trailers: some may come with End.
	Trailers bool
	// Close asks HTTP/1.1 to end the connection after this response.
	Close bool
}

// Hijacker is a Stream whose connection can be taken over (HTTP/1.1). The reader
// holds what has been read ahead. The engine closes the connection when the
// exchange ends.
type Hijacker interface {
	Hijack() (net.Conn, *bufio.ReadWriter, error)
}

// Copier is a Stream that can have the kernel copy to its connection. Both are
// called after Head with a known length, with everything before it flushed.
type Copier interface {
	// ReadFrom copies r to its end, by sendfile or splice where the system can.
	io.ReaderFrom
	// Direct calls send with the bare connection, for as many bytes as send says
	// it wrote; errors.ErrUnsupported where there is none (TLS).
	Direct(send func(*net.TCPConn) (int64, error)) (int64, error)
}

// Corker is what the connection below TLS may be. Of what is written between Cork
// and Uncork it keeps a copy, which Uncork sends; so all records of one write of
// an engine leave in one system call, which is a fifth of what a large response
// costs. Others may write meanwhile.
type Corker interface {
	Cork()
	Uncork() error
}
