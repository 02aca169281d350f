package h3

// meter.go cuts clients that take or send too slowly: limits.stall_timeout and
// limits.min_rate.

import (
	"errors"
	"os"
	"sync"
	"time"

	"edgecdn/server/gate"
)

// meter measures one direction of a stream, over the time spent waiting for the
// client: silence of others does not count.
type meter struct {
	waited time.Duration
	bytes  int64

	mu    sync.Mutex
	stall time.Time // when the wait under way ends; guarded by mu
	user  time.Time // the handler's deadline; guarded by mu
}

// transfer reads into or writes from p until least bytes are done. It fails with
// os.ErrDeadlineExceeded where the client is too slow or the handler's deadline
// has passed.
func (m *meter) transfer(p []byte, limits *gate.Limits, do func([]byte) (int, error), set func(time.Time) error, least int) (n int, err error) {
	for {
		if m.waited >= limits.StallTimeout {
			if m.bytes < int64(limits.MinRate)*m.waited.Milliseconds()/1000 {
				return n, os.ErrDeadlineExceeded
			}
			m.waited, m.bytes = 0, 0
		}
		start := time.Now()
		m.arm(start.Add(limits.StallTimeout-m.waited), set)
		did, err := do(p[n:])
		m.waited += time.Since(start)
		m.bytes += int64(did)
		n += did
		switch {
		case err == nil && n >= least:
			return n, nil
		case err == nil:
		case !errors.Is(err, os.ErrDeadlineExceeded) || m.passed():
			return n, err
		case n >= least:
			return n, nil
		case m.bytes == 0:
			return n, err
		}
	}
}

// arm puts the end of a wait in force, or the handler's deadline where that is
// sooner.
func (m *meter) arm(stall time.Time, set func(time.Time) error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.stall = stall
	if !m.user.IsZero() && m.user.Before(stall) {
		stall = m.user
	}
	_ = set(stall) // nil always
}

func (m *meter) setUser(t time.Time, set func(time.Time) error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.user = t
	if t.IsZero() || !m.stall.IsZero() && m.stall.Before(t) {
		t = m.stall
	}
	return set(t)
}

// passed reports whether the handler's deadline has.
func (m *meter) passed() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return !m.user.IsZero() && !time.Now().Before(m.user)
}
