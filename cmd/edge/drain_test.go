package main

import (
	"bytes"
	"net/http"
	"strings"
	"testing"
)

func TestDrainAndUndrain(t *testing.T) {
	n, data := startNode(t, func(http.ResponseWriter, *http.Request) {})
	flags := nodeFlags{Data: data}
	closes := func() bool {
		addresses, _ := n.server.Addresses()
		resp, err := http.Get("http://" + addresses[0] + "/")
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		return resp.Close
	}
	defer http.DefaultClient.CloseIdleConnections()
	if closes() {
		t.Fatal("clients are sent away by a node that serves")
	}
	var out bytes.Buffer
	if err := (&drainCmd{flags}).run(&out); err != nil || !strings.Contains(out.String(), "draining") {
		t.Fatalf("%v, %q", err, out.String())
	}
	status := &statusCmd{nodeFlags: flags}
	out.Reset()
	if err := status.run(&out); err == nil || !strings.Contains(err.Error(), "edge undrain") || !strings.Contains(out.String(), "draining") {
		t.Errorf("status: %v, %s", err, out.String())
	}
	for told := false; !told; {
		told = closes()
	}
	if err := (&undrainCmd{flags}).run(&out); err != nil {
		t.Fatal(err)
	}
	if err := status.run(&out); err != nil {
		t.Errorf("status: %v", err)
	}
	for told := true; told; {
		told = closes()
	}
	n.state.enter(draining)
	if err := (&undrainCmd{flags}).run(&out); err == nil || !strings.Contains(err.Error(), "the node is draining") {
		t.Errorf("undrain while the node stops: %v", err)
	}
}
