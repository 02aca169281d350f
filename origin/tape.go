package origin

// tape.go lets a request's body be sent more than once: what was read of it is kept,
// up to a bound. Beyond the bound it can be sent on, but not again.

import (
	"errors"
	"io"
	"sync"
	"sync/atomic"
)

type tape struct {
	source io.ReadCloser
	max    int

	mu    sync.Mutex // held while the source is read
	kept  []byte
	total int64 // bytes read from the source
	over  bool  // more than is kept
	err   error // of the source, io.EOF too

	ends     sync.Mutex
	open     int // takes that are not closed
	finished bool
	closed   bool
}

var (
	errTape = errors.New("the body cannot be read twice")
	errTake = errors.New("the body belongs to another try")
)

// take returns the body from its beginning.
func (t *tape) take() io.ReadCloser {
	t.ends.Lock()
	defer t.ends.Unlock()
	t.open++
	return &take{t: t}
}

// replayable says whether another take would have the whole body. It waits for a
// read of the source that is under way, as the next take would.
func (t *tape) replayable() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return !t.over && (t.err == nil || t.err == io.EOF)
}

// finish says that there will be no other take. The source is closed with the last.
func (t *tape) finish() {
	t.ends.Lock()
	t.finished = true
	t.ends.Unlock()
	t.close(0)
}

func (t *tape) close(takes int) {
	t.ends.Lock()
	t.open -= takes
	last := t.finished && t.open == 0 && !t.closed
	t.closed = t.closed || last
	t.ends.Unlock()
	if last {
		_ = t.source.Close() // nothing more is wanted of it
	}
}

type take struct {
	t    *tape
	at   int64
	done atomic.Bool
}

func (k *take) Read(p []byte) (int, error) {
	t := k.t
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case k.done.Load():
		return 0, errTake
	case k.at < t.total && t.over:
		return 0, errTape
	case k.at < t.total:
		n := copy(p, t.kept[k.at:])
		k.at += int64(n)
		return n, nil
	case t.err != nil:
		return 0, t.err
	}
	n, err := t.source.Read(p)
	t.total += int64(n)
	k.at = t.total
	t.err = err
	if !t.over {
		if t.over = t.total > int64(t.max); t.over {
			t.kept = nil
		} else {
			t.kept = append(t.kept, p[:n]...)
		}
	}
	return n, err
}

// Close ends this take; the others, and the body, have theirs.
func (k *take) Close() error {
	if !k.done.Swap(true) {
		k.t.close(1)
	}
	return nil
}
