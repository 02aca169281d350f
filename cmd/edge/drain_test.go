package main

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"edgecdn/cluster"
	"edgecdn/config"
)

// Whoever tells at the same time, the other nodes hear last what is true.
func TestLastPhaseToldIsTrue(t *testing.T) {
	r := &reloadable{t: t, file: filepath.Join(t.TempDir(), "edge.yaml")}
	r.write(fmt.Sprintf(`
node: a
data: %s
server: {http: ["127.0.0.1:0"], access_log: {format: off}}
admin: {listen: "127.0.0.1:0"}
cluster: {listen: "127.0.0.1:0", preset: local, secret_file: "%s"}
origins: {web: {url: "http://127.0.0.1:1"}}
hosts: [{names: ["*"], origin: web}]
`, t.TempDir(), filepath.Join(filepath.Dir(r.file), "secret")))
	if err := os.WriteFile(filepath.Join(filepath.Dir(r.file), "secret"), []byte("the secret of this test\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, err := config.Load(r.file)
	if err != nil {
		t.Fatal(err)
	}
	n := startServing(t, cfg, r.file)
	for range 2000 {
		var both sync.WaitGroup
		for _, on := range []bool{true, false} {
			both.Go(func() {
				if err := n.drain(on); err != nil {
					t.Error(err)
				}
			})
			both.Go(n.tellPhase) // as the spread of purges does
		}
		both.Wait()
		want := cluster.Serving
		if n.state.drained.Load() {
			want = cluster.Draining
		}
		if got := n.cluster.Self().Phase; got != want {
			t.Fatalf("told %v, is %v", got, want)
		}
	}
}

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
