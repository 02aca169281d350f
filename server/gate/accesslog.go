package gate

// accesslog.go keeps one line for each request. Requests append to a buffer and
// go on; a writer owned by Run empties it. When the writer is behind by a whole
// buffer, lines are dropped and counted: a slow disk or a stuck pipe must never
// slow a response.

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"
)

const (
	// logBufferBytes waits to be written at most; another such buffer may be on its way.
	logBufferBytes = 1 << 20
	// logFlushEvery bounds how long a line waits.
	logFlushEvery = 200 * time.Millisecond
	// logStopGrace is how long the last lines may take when the node stops.
	logStopGrace = 3 * time.Second
)

type accessLog struct {
	format func(dst []byte, r *record) []byte // nil: off
	path   string
	file   *os.File // the writer's
	stats  *Stats
	log    *slog.Logger

	mu      sync.Mutex
	pending []byte // whole lines
	spare   []byte // the buffer that is not pending
	wake    chan struct{}
	again   chan struct{} // a reopen is wanted
}

func newAccessLog(config AccessLog, stats *Stats, log *slog.Logger) (*accessLog, error) {
	l := &accessLog{path: config.Path, stats: stats, log: log, wake: make(chan struct{}, 1), again: make(chan struct{}, 1)}
	switch config.Format {
	case "off":
		return l, nil
	case "combined":
		l.format = appendCombined
	default:
		l.format = appendJSON
	}
	return l, l.open()
}

func (l *accessLog) open() error {
	if l.path == "" {
		l.file = os.Stdout
		return nil
	}
	// Requests name people and secrets: nobody but the owner and group reads them.
	f, err := os.OpenFile(l.path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o640)
	if err != nil {
		return fmt.Errorf("server: access_log.path: %w", err)
	}
	l.file = f
	return nil
}

// write appends the line of a finished exchange. It never blocks on I/O.
func (l *accessLog) write(x *Exchange, took time.Duration) {
	if l.format == nil {
		return
	}
	x.entry = x.record(took)
	x.line = l.format(x.line[:0], &x.entry)
	l.mu.Lock()
	if len(l.pending)+len(x.line) > logBufferBytes {
		l.mu.Unlock()
		l.stats.LogDropped.Add(1)
		return
	}
	l.pending = append(l.pending, x.line...)
	half := len(l.pending) > logBufferBytes/2
	l.mu.Unlock()
	if half {
		select {
		case l.wake <- struct{}{}:
		default:
		}
	}
}

func (l *accessLog) reopen() {
	select {
	case l.again <- struct{}{}:
	default: // one is on its way
	}
}

// run writes until ctx is done, then what is left.
func (l *accessLog) run(ctx context.Context) {
	if l.format == nil {
		return
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		l.loop(ctx)
	}()
	<-ctx.Done()
	select {
	case <-done:
	case <-time.After(logStopGrace):
		// Nothing can interrupt a write to a stuck pipe but the end of the process.
		l.log.Error("access log is stuck, its last lines are lost", "path", l.path)
	}
}

func (l *accessLog) loop(ctx context.Context) {
	ticker := time.NewTicker(logFlushEvery)
	defer ticker.Stop()
	failing := false
	for {
		select {
		case <-ctx.Done():
			l.flush(&failing)
			if l.file != os.Stdout {
				_ = l.file.Close() // every write was checked
			}
			return
		case <-l.again:
			l.flush(&failing)
			l.swapFile()
		case <-l.wake:
			l.flush(&failing)
		case <-ticker.C:
			l.flush(&failing)
		}
	}
}

// flush writes what is pending. A failure is logged once until it is over.
func (l *accessLog) flush(failing *bool) {
	l.mu.Lock()
	full := l.pending
	l.pending, l.spare = l.spare[:0], nil
	l.mu.Unlock()
	if len(full) > 0 {
		n, err := l.file.Write(full)
		if err != nil {
			l.stats.LogErrors.Add(uint64(bytes.Count(full[n:], []byte{'\n'})))
			if !*failing {
				l.log.Error("cannot write the access log", "path", l.path, "error", err)
			}
		}
		*failing = err != nil
	}
	l.mu.Lock()
	l.spare = full[:0]
	l.mu.Unlock()
}

func (l *accessLog) swapFile() {
	if l.path == "" {
		return
	}
	old := l.file
	if err := l.open(); err != nil {
		l.log.Error("cannot reopen the access log, going on with the old file", "path", l.path, "error", err)
		return
	}
	_ = old.Close() // every write was checked
}
