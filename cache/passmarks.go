package cache

import "time"

const (
	passMarkSlots = 1 << 14
	// passMarkTime is how long an uncacheable answer keeps its URL's requests
	// from waiting for each other.
	passMarkTime = time.Minute
	// passMarkErrorTime is the same after a server's error, which says nothing of
	// what comes when the origin has recovered.
	passMarkErrorTime = time.Second
)

// passMarks remembers keys whose last answer could not be stored (hit-for-miss),
// so that their requests do not queue up behind one another for nothing. A fixed
// table: two keys in one slot forget each other, which costs a wait and no more.
// The zero value is ready; the Cache's mutex guards it.
type passMarks struct {
	slots []passMark
}

type passMark struct {
	lo    uint64
	until int64
}

func (m *passMarks) set(lo uint64, until time.Time) {
	if m.slots == nil {
		m.slots = make([]passMark, passMarkSlots)
	}
	m.slots[lo%passMarkSlots] = passMark{lo, until.UnixNano()}
}

func (m *passMarks) has(lo uint64, now time.Time) bool {
	if m.slots == nil {
		return false
	}
	s := m.slots[lo%passMarkSlots]
	return s.lo == lo && now.UnixNano() < s.until
}
