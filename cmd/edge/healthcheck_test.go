package main

import (
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestHealthcheck(t *testing.T) {
	n, data := startNode(t, func(http.ResponseWriter, *http.Request) {})
	check := func(ready bool) error {
		return (&healthcheckCmd{Data: data, Ready: ready, Timeout: 10 * time.Second}).run()
	}
	for _, ready := range []bool{false, true} {
		if err := check(ready); err != nil {
			t.Errorf("a node that serves, ready %v: %v", ready, err)
		}
	}
	n.state.drained.Store(true)
	if err := check(false); err != nil {
		t.Errorf("a node that drains is well: %v", err)
	}
	if err := check(true); err == nil || !strings.Contains(err.Error(), "503") || !strings.Contains(err.Error(), "edge undrain") {
		t.Errorf("a node that drains wants no traffic: %v", err)
	}
	n.state.drained.Store(false)
	if err := (&healthcheckCmd{Data: t.TempDir(), Timeout: time.Second}).run(); err == nil || !strings.Contains(err.Error(), "no node runs") {
		t.Errorf("no node: %v", err)
	}
	if err := (&healthcheckCmd{Admin: "127.0.0.1:1", Timeout: time.Second}).run(); err == nil || !strings.Contains(err.Error(), "no node answers") {
		t.Errorf("nobody listens: %v", err)
	}
}
