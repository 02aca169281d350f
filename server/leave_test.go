package server

// leave_test.go: a node sends its clients elsewhere and goes on serving.

import (
	"io"
	"net/http"
	"testing"
	"time"

	"edgecdn/server/wiretest"
)

// accepted counts the connections of a protocol.
func (e *edge) accepted(c *client) uint64 {
	return e.Stats().Gate.ConnectionsAccepted[c.proto-1].Load()
}

func TestLeaveAndReturn(t *testing.T) {
	e := start(t, setup{})
	e.each(t, func(t *testing.T, c *client) {
		ask := func() *http.Response {
			resp, err := c.Get(c.base + "/")
			if err != nil {
				t.Fatal(err)
			}
			_, _ = io.Copy(io.Discard, resp.Body) // what counts is how it was sent
			_ = resp.Body.Close()
			if resp.StatusCode != http.StatusOK {
				t.Fatal(resp.Status)
			}
			return resp
		}
		// settles asks until no further connection is needed for some requests.
		settles := func() {
			t.Helper()
			eventually(t, "one connection is kept", func() bool {
				ask()
				before := e.accepted(c)
				for range 10 {
					ask()
				}
				return e.accepted(c) == before
			})
		}
		settles()
		e.Leave()
		e.Leave()
		defer e.Return()
		if e.IsDraining() {
			t.Error("the node stops")
		}
		before := e.accepted(c)
		closing := false
		eventually(t, "clients are sent away, again and again, and served", func() bool {
			closing = ask().Close || closing
			return e.accepted(c) >= before+3
		})
		if closing != (c.proto == 1) {
			t.Errorf("Connection: close: %v", closing)
		}
		e.Return()
		settles()
		if ask().Close {
			t.Error("Connection: close after Return")
		}
	})
}

func TestLeaveTellsAfterTheDelay(t *testing.T) {
	e := start(t, setup{config: Config{Limits: Limits{DrainDelay: time.Hour}}})
	c := e.h1()
	e.Leave()
	if resp, _ := c.get(t, "/"); resp.Close {
		t.Error("told before the delay")
	}
	e.Return()
	e.tell() // a timer that fires as it is stopped
	if resp, _ := c.get(t, "/"); resp.Close {
		t.Error("told after Return")
	}
	e.Leave()
	e.mu.Lock()
	e.left = time.Now().Add(-2 * time.Hour)
	e.mu.Unlock()
	if err := e.shutdown(); err != nil { // waits no other hour
		t.Error(err)
	}
}

// TestStopServesThroughTheDelay: whoever has not noticed yet that the node goes is
// served.
func TestStopServesThroughTheDelay(t *testing.T) {
	wiretest.Unhurried(t, 3*time.Second, func(delay time.Duration) error {
		e := start(t, setup{config: Config{Limits: Limits{DrainDelay: delay}}})
		begun := time.Now()
		e.stop()
		eventually(t, "readiness is off", e.IsDraining)
		for _, c := range e.clients() {
			if _, err := c.ask(c.request(t, "GET", "/", nil)); err != nil {
				return err
			}
		}
		if err := e.shutdown(); err != nil {
			t.Error(err)
		}
		if took := time.Since(begun); took < delay {
			t.Errorf("stopped after %v", took)
		}
		return nil
	})
}
