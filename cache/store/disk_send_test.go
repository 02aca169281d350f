package store

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"testing"
	"time"
)

// tcpPair returns two ends of a bare TCP connection.
func tcpPair(t testing.TB) (client, server *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	s, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close(); s.Close() })
	return c.(*net.TCPConn), s.(*net.TCPConn)
}

// TestDiskSendTo sends many objects of one segment at once, each to a
// connection of its own, in parts, while the segments are read otherwise too.
func TestDiskSendTo(t *testing.T) {
	r := startDisk(t, configsOf(64<<20, t.TempDir()), smallTuning(osFS{}))
	defer r.stop(t)
	sizes := []int{1, 512, 70_000, 131_072, 400_000, 1_000_000}
	for i, n := range sizes {
		mustPut(t, r.Disk, keyOf(r.Disk, i), uint64(i+1)<<32, n)
	}
	waitUntil(t, "all is written", r.idle)
	var wg sync.WaitGroup
	for i, n := range sizes {
		for range 4 {
			wg.Go(func() {
				client, server := tcpPair(t)
				want := testBody(uint64(i+1)<<32, n)
				s, err := r.Open(keyOf(r.Disk, i))
				if err != nil {
					t.Error(err)
					return
				}
				defer s.Close()
				done := make(chan struct{})
				defer func() { <-done }()
				wg.Go(func() {
					defer close(done)
					off := int64(n) / 3
					for _, part := range []struct{ off, n int64 }{{off, int64(n) - off}, {0, off}, {0, 0}} {
						if sent, err := s.SendTo(server, part.off, part.n); err != nil || sent != part.n {
							t.Errorf("sent %d of %d bytes: %v", sent, part.n, err)
						}
					}
					if err := server.CloseWrite(); err != nil {
						t.Error(err)
					}
				})
				if tag, err := r.read(keyOf(r.Disk, i)); err != nil || tag>>32 != uint64(i+1) {
					t.Errorf("object %d: %v", tag, err)
				}
				got, err := io.ReadAll(client)
				if err != nil || !bytes.Equal(got, append(append([]byte{}, want[n/3:]...), want[:n/3]...)) {
					t.Errorf("object %d: %d of %d bytes came, or others: %v", i, len(got), n, err)
				}
			})
		}
	}
	wg.Wait()
	s, err := r.Open(keyOf(r.Disk, 5))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	client, server := tcpPair(t)
	before := r.Stats().Directories[0].BytesRead
	if n, err := s.SendTo(server, 10, 20); n != 20 || err != nil {
		t.Errorf("sent %d of 20 bytes: %v", n, err)
	}
	if n := r.Stats().Directories[0].BytesRead - before; n != 20 {
		t.Errorf("read %d bytes to send 20 that were verified before", n)
	}
	if _, err := io.ReadFull(client, make([]byte, 20)); err != nil {
		t.Error(err)
	}
	if n, err := s.SendTo(server, 10, 1_000_000); n != 0 || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("sending past the end: %d, %v", n, err)
	}
}

// TestDiskSendVerified: what is damaged is found before the first send, and
// what is only in memory yet is left to ReadAt.
func TestDiskSendVerified(t *testing.T) {
	tune := smallTuning(osFS{})
	tune.flushEvery = time.Hour
	dir := t.TempDir()
	r := startDisk(t, configsOf(64<<20, dir), tune)
	defer r.stop(t)
	const n = 100_000
	mustPut(t, r.Disk, keyOf(r.Disk, 1), 1<<32, n)
	_, server := tcpPair(t)
	s, err := r.Open(keyOf(r.Disk, 1))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if sent, err := s.SendTo(server, 0, n); sent != 0 || !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("sending what is not in the file: %d, %v", sent, err)
	}
	r.sealOpen(t)
	sealed := r.volumes[0].order[0]
	waitUntil(t, "the segment is written", func() bool { return sealed.written.Load() > n })
	damageBody(t, dir, 1<<32)
	if sent, err := s.SendTo(server, 0, n); sent != 0 || !errors.Is(err, ErrNotFound) {
		t.Errorf("sending what is damaged: %d, %v", sent, err)
	}
	wantNone(t, r.Disk, keyOf(r.Disk, 1))
}

// TestDiskSendDeadline: a receiver that takes nothing holds the sender no
// longer than the connection's deadline.
func TestDiskSendDeadline(t *testing.T) {
	r := startDisk(t, configsOf(64<<20, t.TempDir()), smallTuning(osFS{}))
	defer r.stop(t)
	const n = 3 << 20
	mustPut(t, r.Disk, keyOf(r.Disk, 1), 1<<32, n)
	waitUntil(t, "all is written", r.idle)
	s, err := r.Open(keyOf(r.Disk, 1))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	client, server := tcpPair(t)
	if err := errors.Join(client.SetReadBuffer(64<<10), server.SetWriteBuffer(64<<10)); err != nil {
		t.Fatal(err)
	}
	type result struct {
		sent int64
		err  error
	}
	done := make(chan result, 1)
	go func() {
		sent, err := s.SendTo(server, 0, n)
		done <- result{sent, err}
	}()
	if _, err := io.ReadFull(client, make([]byte, 1)); err != nil { // it has begun
		t.Error(err)
	}
	if err := server.SetWriteDeadline(time.Now().Add(50 * time.Millisecond)); err != nil {
		t.Error(err)
	}
	select {
	case got := <-done:
		if got.sent == 0 || got.sent == n || !errors.Is(got.err, os.ErrDeadlineExceeded) {
			t.Errorf("sent %d of %d bytes: %v", got.sent, n, got.err)
		}
	case <-time.After(30 * time.Second):
		t.Error("it is held though the deadline has passed")
		server.Close()
		<-done
	}
}

// What is sent to a slow client is right to its end, though it is removed and
// its segment reclaimed in the middle.
func TestDiskSendRemoved(t *testing.T) {
	dir := t.TempDir()
	r := startDisk(t, configsOf(16<<20, dir), smallTuning(osFS{}))
	defer r.stop(t)
	const n = 400_000
	mustPut(t, r.Disk, keyOf(r.Disk, 1), 1<<32, n)
	waitUntil(t, "all is written", r.idle)
	s, err := r.Open(keyOf(r.Disk, 1))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	client, server := tcpPair(t)
	if err := errors.Join(client.SetReadBuffer(16<<10), server.SetWriteBuffer(16<<10)); err != nil {
		t.Fatal(err)
	}
	sent := make(chan error, 1)
	go func() {
		k, err := s.SendTo(server, 0, n)
		if err == nil && k != n {
			err = io.ErrShortWrite
		}
		sent <- errors.Join(err, server.CloseWrite())
	}()
	got := make([]byte, n)
	if _, err := io.ReadFull(client, got[:1000]); err != nil {
		t.Fatal(err)
	}
	if err := r.Remove(keyOf(r.Disk, 1)); err != nil {
		t.Fatal(err)
	}
	fillUntilReclaimed(t, r.Disk, 1000, 20)
	wantNone(t, r.Disk, keyOf(r.Disk, 1))
	if _, err := io.ReadFull(client, got[1000:]); err != nil {
		t.Fatal(err)
	}
	if err := <-sent; err != nil || !bytes.Equal(got, testBody(1<<32, n)) {
		t.Errorf("other bytes came, or %v", err)
	}
}

// Errors of the disk can be told from those of the connection, and the bytes
// that were sent before are counted.
func TestDiskSendErrors(t *testing.T) {
	dir := t.TempDir()
	r := startDisk(t, configsOf(64<<20, dir), smallTuning(osFS{}))
	defer r.stop(t)
	const n = 100_000
	for i := range 2 {
		mustPut(t, r.Disk, keyOf(r.Disk, i), uint64(i+1)<<32, n)
	}
	waitUntil(t, "all is written", r.idle)
	open := func(i int) *Stored {
		s, err := r.Open(keyOf(r.Disk, i))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(s.Close)
		return s
	}
	first, second := open(0), open(1)
	client, server := tcpPair(t)
	if _, err := first.SendTo(server, 0, 10); err != nil { // verified from here on
		t.Fatal(err)
	}
	if err := errors.Join(client.SetLinger(0), client.Close()); err != nil {
		t.Fatal(err)
	}
	waitUntil(t, "the connection is reset", func() bool {
		_, err := second.SendTo(server, 0, 1000)
		if errors.Is(err, ErrNotFound) || errors.Is(err, ErrBroken) {
			t.Fatalf("a connection that was reset: %v", err)
		}
		return err != nil
	})
	_, server = tcpPair(t)
	path := segmentFiles(t, dir)[0]
	off := first.src.(*diskBody).pieces[0].off
	if err := os.Truncate(path, off+5000); err != nil {
		t.Fatal(err)
	}
	if sent, err := first.SendTo(server, 0, n); sent != 5000 || !errors.Is(err, ErrNotFound) {
		t.Errorf("sent %d of the 5000 bytes that are left: %v", sent, err)
	}
	wantNone(t, r.Disk, keyOf(r.Disk, 0))
}
