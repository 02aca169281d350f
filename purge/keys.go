package purge

// keys.go remembers idempotency keys: whoever asks twice with one key, because
// the first answer was lost, gets the purge that the first request made.

import (
	"crypto/sha256"
	"time"
)

// keys is guarded by Log.mu.
type keys struct {
	uses  map[[16]byte]*use
	order []keyed // oldest first; bounds count and age
}

// use is what a key was used for: a purge on its way, or one in the log.
type use struct {
	print   [16]byte
	pending *pending // nil once it is in the log
	id      ID
	time    int64 // milliseconds since 1970
}

type keyed struct {
	key  [16]byte
	time int64 // milliseconds since 1970
}

// keyOf hashes an idempotency key; those of different actors differ.
func keyOf(actor, key string) (sum [16]byte) {
	if key == "" {
		return sum
	}
	h := sha256.New()
	h.Write(appendText(appendText(nil, actor), key))
	copy(sum[:], h.Sum(nil))
	return sum
}

// add notes a use. Where there are too many keys the oldest goes.
func (k *keys) add(key [16]byte, u *use, now time.Time, t *tuning, stats *Stats) {
	if k.uses == nil {
		k.uses = map[[16]byte]*use{}
	}
	k.expire(now, t)
	if len(k.order) >= t.keys {
		stats.KeysDropped.Add(1)
		k.shift()
	}
	u.time = now.UnixMilli()
	k.uses[key] = u
	k.order = append(k.order, keyed{key, u.time})
}

func (k *keys) expire(now time.Time, t *tuning) {
	least := now.Add(-t.keyAge).UnixMilli()
	for len(k.order) > 0 && k.order[0].time < least {
		k.shift()
	}
}

func (k *keys) shift() {
	// One that failed and was used again is there twice.
	if oldest := k.order[0]; k.uses[oldest.key] != nil && k.uses[oldest.key].time == oldest.time {
		delete(k.uses, oldest.key)
	}
	k.order = k.order[1:]
	if len(k.order) == 0 {
		k.order = nil
	}
}

// settle ends the way of a purge: its key names it from here on, or nothing,
// where it did not get into the log, so that it can be asked for again.
func (k *keys) settle(p *pending) {
	u := k.uses[p.entry.Key]
	if u == nil || u.pending != p {
		return
	}
	if p.err == nil {
		u.pending, u.id = nil, p.entry.ID
		return
	}
	delete(k.uses, p.entry.Key)
}
