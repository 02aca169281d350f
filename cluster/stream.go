package cluster

// One stream to one peer. Its reader is the goroutine that serves it, its writer
// another one; a queue of bounded bytes is between the writer and those who send.
// Silence of 2 seconds ends it, and so does a write that does not get on.

import (
	"bufio"
	"crypto/tls"
	"errors"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

const (
	heartbeatInterval = 500 * time.Millisecond
	silenceMax        = 2 * time.Second
	writeTimeout      = 5 * time.Second // for a write of at most 64 KiB
	handshakeTimeout  = 5 * time.Second
	queueBytesMax     = 4 << 20
	queueFramesMax    = 8192
	writeBufferBytes  = 64 << 10
)

// stream is one.
type stream struct {
	peer   string
	boot   atomic.Uint64 // of the peer, from its heartbeats
	conn   *tls.Conn
	byUs   bool       // we have dialled it
	signer *authority // of the peer's certificate
	stats  *Stats

	heard   atomic.Int64 // when something came last, Unix nanoseconds
	proven  chan struct{}
	proving sync.Once

	mu     sync.Mutex
	queue  [][]byte
	bytes  int
	closed bool
	wake   chan struct{}
	done   chan struct{} // closed with it
	beat   atomic.Pointer[[]byte]
}

func newStream(conn *tls.Conn, peer string, signer *authority, byUs bool, stats *Stats) *stream {
	return &stream{
		peer: peer, conn: conn, byUs: byUs, signer: signer, stats: stats,
		wake: make(chan struct{}, 1), done: make(chan struct{}), proven: make(chan struct{}),
	}
}

// guarded is the connection under TLS: a read waits no longer than silence may
// last, and a write no longer than it may.
type guarded struct {
	net.Conn
	stats *Stats
	armed atomic.Bool  // once the handshake is done, which has its own deadline
	heard atomic.Int64 // Unix nanoseconds
}

// Read reads.
func (g *guarded) Read(b []byte) (int, error) {
	if g.armed.Load() {
		g.SetReadDeadline(time.Now().Add(silenceMax))
	}
	n, err := g.Conn.Read(b)
	if n > 0 {
		g.heard.Store(time.Now().UnixNano())
		g.stats.BytesReceived.Add(uint64(n))
	}
	return n, err
}

// Write writes.
func (g *guarded) Write(b []byte) (int, error) {
	if g.armed.Load() {
		g.SetWriteDeadline(time.Now().Add(writeTimeout))
	}
	n, err := g.Conn.Write(b)
	g.stats.BytesSent.Add(uint64(n))
	return n, err
}

// send queues an encoded frame.
func (s *stream) send(frame []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return ErrNoStream
	}
	if s.bytes+len(frame) > queueBytesMax || len(s.queue) >= queueFramesMax {
		s.stats.FramesDropped.Add(1)
		return ErrFull
	}
	s.queue = append(s.queue, frame)
	s.bytes += len(frame)
	s.poke()
	return nil
}

func (s *stream) poke() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// say has the writer send a heartbeat, before all that is queued.
func (s *stream) say(heartbeat []byte) {
	s.beat.Store(&heartbeat)
	s.poke()
}

// close ends it; what is queued is lost.
func (s *stream) close() {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return
	}
	s.closed = true
	s.stats.FramesDropped.Add(uint64(len(s.queue)))
	s.queue, s.bytes = nil, 0
	close(s.done)
	s.mu.Unlock()
	s.conn.NetConn().Close() // not TLS's Close, which may wait for a write
}

// up says whether the peer has been heard from since the handshake.
func (s *stream) up() bool {
	select {
	case <-s.proven:
		return true
	default:
		return false
	}
}

// next takes what is queued, up to a buffer full.
func (s *stream) next() [][]byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	n, size := 0, 0
	for n < len(s.queue) && (n == 0 || size+len(s.queue[n]) <= writeBufferBytes) {
		size += len(s.queue[n])
		n++
	}
	taken := s.queue[:n:n]
	s.queue = s.queue[n:]
	s.bytes -= size
	if len(s.queue) == 0 {
		s.queue = nil // the array goes with what is sent
	}
	return taken
}

// write sends heartbeats, and once the peer has shown that it takes us, frames.
func (s *stream) write() {
	defer s.close()
	w := bufio.NewWriterSize(s.conn, writeBufferBytes)
	proven := s.proven
	frames := 0
	for {
		if beat := s.beat.Swap(nil); beat != nil {
			b := append([]byte(nil), *beat...)
			stampHeartbeat(b, time.Now())
			w.Write(appendFrame(nil, 0, kindHeartbeat, b))
			frames++
		}
		var taken [][]byte
		if s.up() {
			proven = nil
			taken = s.next()
		}
		for _, f := range taken {
			w.Write(f) // an error stays with w
		}
		frames += len(taken)
		if len(taken) > 0 {
			continue
		}
		if err := w.Flush(); err != nil {
			return
		}
		s.stats.FramesSent.Add(uint64(frames))
		frames = 0
		select {
		case <-s.wake:
		case <-proven:
		case <-s.done:
			return
		}
	}
}

// read hands frames on until the stream ends, and says why it did.
func (s *stream) read(guard *guarded, take func(frame) error) error {
	defer s.close()
	r := bufio.NewReaderSize(s.conn, 16<<10)
	for {
		f, err := readFrame(r)
		if err != nil {
			if errors.Is(err, os.ErrDeadlineExceeded) {
				s.stats.StreamsSilent.Add(1)
			}
			return err
		}
		s.heard.Store(guard.heard.Load())
		s.stats.FramesReceived.Add(1)
		if err := take(f); err != nil {
			return err
		}
		s.proving.Do(func() { close(s.proven) })
	}
}
