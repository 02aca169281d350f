package h1

import (
	"context"
	"testing"
	"testing/synctest"
)

func TestRequestsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, end := newRequestsContext(t.Context())
		calls := 0
		stop := func() { calls++ }
		if !c.Watch(stop) || c.Watch(stop) {
			t.Error("it watches for one at a time")
		}
		if !c.Unwatch() || !c.Watch(stop) {
			t.Error("and then for another")
		}
		end()
		synctest.Wait()
		if calls != 1 || c.Unwatch() || c.Watch(stop) {
			t.Errorf("called %d times, or watches on", calls)
		}
		c, end = newRequestsContext(t.Context())
		if !c.Watch(stop) || !c.Unwatch() {
			t.Error("it does not watch")
		}
		end()
		synctest.Wait()
		if calls != 1 {
			t.Error("called though it was taken back")
		}
		if context.Cause(c) != context.Canceled {
			t.Error(context.Cause(c))
		}
	})
}
