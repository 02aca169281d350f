package dnsgeo

// Maps and databases of places are replaced while the responder runs, usually by
// a timer of the operator's: they are read again when they have changed.

import (
	"context"
	"slices"
	"time"
)

// rereadInterval is how often it is looked whether files changed.
const rereadInterval = 2 * time.Second

// followPlaces reads files of places and keys again. It has a goroutine of its own: a
// large database takes its time, which health must not wait for.
func (r *Responder) followPlaces(ctx context.Context) error {
	tick := time.NewTicker(rereadInterval)
	defer tick.Stop()
	var failed []stamp
	var failedKeys map[string]stamp
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			failed = r.reread(failed)
			failedKeys = r.rekey(failedKeys)
			r.expireTexts(time.Now())
		}
	}
}

// reread replaces the places if their files changed and can be read. It returns
// the stamps of files that could not, which are not tried again as they are.
func (r *Responder) reread(failed []stamp) []stamp {
	old := r.snap.Load().zones.places
	if !old.changed() {
		return failed
	}
	var now []stamp
	for _, s := range old.stamps {
		now = append(now, stampOf(s.path))
	}
	if slices.Equal(now, failed) {
		return failed
	}
	next, err := newPlaces(&old.cfg)
	if err != nil {
		r.stats.RereadFailures.Add(1)
		r.log.Error("places are kept as they were: a file of them changed and cannot be used", "err", err)
		return now
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.snap.Load()
	if s.zones.places != old { // a reload of the configuration came first
		return nil
	}
	z := *s.zones
	z.places = next
	r.snap.Store(&snapshot{zones: &z, fleet: s.fleet, texts: s.texts})
	r.stats.Rereads.Add(1)
	r.log.Info("places were read again")
	return nil
}
