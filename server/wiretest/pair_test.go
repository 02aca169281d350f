package wiretest

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

func TestPair(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s := Pair()
		sent := bytes.Repeat([]byte("0123456789"), room/5) // twice what it holds
		written := make(chan error, 1)
		go func() {
			_, err := c.Write(sent)
			written <- errors.Join(err, c.CloseWrite())
		}()
		if got, err := io.ReadAll(s); err != nil || !bytes.Equal(got, sent) {
			t.Errorf("%d bytes of %d, %v", len(got), len(sent), err)
		}
		if err := <-written; err != nil {
			t.Error(err)
		}
		begun := time.Now()
		_ = c.SetReadDeadline(begun.Add(time.Minute))
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(begun) != time.Minute {
			t.Errorf("reading ended with %v after %v", err, time.Since(begun))
		}
		_ = s.SetWriteDeadline(begun.Add(time.Hour))
		if n, err := s.Write(sent); n != room || !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(begun) != time.Hour {
			t.Errorf("writing ended with %d, %v after %v", n, err, time.Since(begun))
		}
		_ = c.Close()
		_ = s.SetDeadline(time.Time{})
		if _, err := s.Write([]byte("x")); !errors.Is(err, syscall.EPIPE) {
			t.Errorf("writing to nobody: %v", err)
		}
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
			t.Errorf("reading what was closed: %v", err)
		}
		if _, err := s.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("reading at the end: %v", err)
		}
	})
}

func TestUnhurried(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tries := 0
		Unhurried(t, time.Second, func(bound time.Duration) error {
			if tries++; bound != time.Second {
				t.Errorf("tried with a bound of %v", bound)
			}
			time.Sleep(bound)
			return nil
		})
		if tries != 1 {
			t.Errorf("tried %d times", tries)
		}
	})
}
