package wiretest

// unhurried.go judges only what was done while nothing stood still.

import (
	"testing"
	"time"
)

const (
	// look is how often a goroutine that watches wants to run.
	look = 2 * time.Millisecond
	// part of a bound for which it may not have, for a failure to count.
	part = 8
	// tries is how often a bound is doubled.
	tries = 6
)

// Unhurried has attempt show that something comes in time, where the bound is a
// timeout that it configures. Should the machine stand still for a good part of the
// bound, a failure tells nothing: then it is tried again with twice the bound.
func Unhurried(t testing.TB, bound time.Duration, attempt func(bound time.Duration) error) {
	t.Helper()
	for try := 1; ; try++ {
		stop := watch()
		err := attempt(bound)
		stood := stop()
		switch {
		case err == nil:
			return
		case stood < bound/part || try == tries:
			t.Fatalf("with a bound of %v, while nothing stood still for longer than %v: %v", bound, stood, err)
		}
		t.Logf("with a bound of %v: %v, but the machine stood still for %v: again", bound, err, stood)
		bound *= 2
	}
}

// watch returns what ends it and says how long it could not run at the longest.
func watch() (stop func() time.Duration) {
	end, longest := make(chan struct{}), make(chan time.Duration)
	go func() {
		tick := time.NewTicker(look)
		defer tick.Stop()
		var most time.Duration
		for last := time.Now(); ; {
			select {
			case <-tick.C:
			case <-end:
				longest <- max(most, time.Since(last))
				return
			}
			now := time.Now()
			most, last = max(most, now.Sub(last)), now
		}
	}()
	return func() time.Duration {
		close(end)
		return <-longest
	}
}
