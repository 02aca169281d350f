package main

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"edgecdn/admin"
)

// adminNode runs an admin listener as a node does and returns its data directory.
type adminNode struct {
	data     string
	notReady []string
	reload   error
	purges   *purgesFake
}

func startAdmin(t *testing.T) *adminNode {
	t.Helper()
	n := &adminNode{data: t.TempDir(), purges: &purgesFake{}}
	s, err := admin.New(admin.Config{Listen: "127.0.0.1:0"}, admin.Sources{
		Data:     n.data,
		NotReady: func() []string { return n.notReady },
		Status: func() admin.Status {
			at := time.Now()
			return admin.Status{
				Version: "v1", Phase: "serving", Started: at.Add(-time.Hour),
				Listeners: []admin.Listener{{Protocol: "http", Address: "127.0.0.1:1234"}},
				Store:     []admin.Tier{{Name: "memory", Objects: 3, Bytes: 5 << 20, BytesMax: 256 << 20}, {Name: "disk", Path: "data/cache", BytesMax: 1 << 30, State: "full", Error: "no space left on device"}},
				Config:    admin.ConfigStatus{File: "edge.yaml", Loaded: at, Failures: 1, LastError: "edge.yaml:3: no such origin\nedge.yaml:9: no such key", LastErrorAt: &at},
			}
		},
		Config:  func() (any, error) { return nil, nil },
		Reload:  func(context.Context) error { return n.reload },
		Samples: func(func(admin.Sample)) {},
		Purges:  func() admin.Purges { return n.purges },
	}, slog.New(slog.DiscardHandler))
	if err == nil {
		err = s.Listen()
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(n.data, addrFile), []byte(s.Addr()+"\n"), 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ran := make(chan error, 1)
	go func() { ran <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ran; err != nil {
			t.Error(err)
		}
	})
	return n
}

func TestStatus(t *testing.T) {
	n := startAdmin(t)
	var out strings.Builder
	c := statusCmd{nodeFlags: nodeFlags{Data: n.data}}
	if err := c.run(&out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"phase    serving\n", "up       1h0m0s\n", "http     127.0.0.1:1234\n", "memory   3 objects, 5.0 MiB of 256MiB\n", "disk     0 objects, 0 B of 1GiB, data/cache, FULL: no space left on device\n", "edge.yaml, loaded ", "refused: edge.yaml:3: no such origin\n         edge.yaml:9: no such key\n"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in:\n%s", want, &out)
		}
	}
	out.Reset()
	c.JSON = true
	n.notReady = []string{"draining"}
	if err := c.run(&out); err == nil || !strings.Contains(err.Error(), "draining") || !strings.Contains(out.String(), `"phase": "serving"`) {
		t.Errorf("a node that drains: %v\n%s", err, &out)
	}
}

func TestReload(t *testing.T) {
	n := startAdmin(t)
	var out strings.Builder
	c := reloadCmd{nodeFlags{Data: n.data}}
	if err := c.run(&out); err != nil || out.String() != "edge.yaml is in force\n" {
		t.Errorf("%v, %q", err, &out)
	}
	n.reload = errors.New("edge.yaml:3: no such origin")
	if err := c.run(&out); err == nil || err.Error() != "reload: edge.yaml:3: no such origin" {
		t.Errorf("a bad file: %v", err)
	}
}

func TestNodeIsFound(t *testing.T) {
	n := startAdmin(t)
	addr, err := os.ReadFile(filepath.Join(n.data, addrFile))
	if err != nil {
		t.Fatal(err)
	}
	token, err := admin.ReadToken(filepath.Join(n.data, admin.TokenFile))
	if err != nil {
		t.Fatal(err)
	}
	at, empty := strings.TrimSpace(string(addr)), t.TempDir()
	stale := t.TempDir()
	if err := os.WriteFile(filepath.Join(stale, addrFile), []byte("127.0.0.1:1\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name  string
		flags nodeFlags
		want  string // part of the error
	}{
		{"data directory alone", nodeFlags{Data: n.data}, ""},
		{"flags alone", nodeFlags{Admin: at, Token: token, Data: empty}, ""},
		{"a URL", nodeFlags{Admin: "http://" + at + "/", Token: token, Data: empty}, ""},
		{"address by flag, token from the data directory", nodeFlags{Admin: at, Data: n.data}, ""},
		{"flag before data directory", nodeFlags{Admin: at, Token: token, Data: stale}, ""},
		{"nothing there", nodeFlags{Data: empty}, "--admin or EDGE_ADMIN"},
		{"no token", nodeFlags{Admin: at, Data: empty}, "--token or EDGE_TOKEN"},
		{"wrong token", nodeFlags{Data: n.data, Token: "wrong"}, "token is not known"},
		{"no node", nodeFlags{Data: stale, Token: token}, "no node answers at http://127.0.0.1:1"},
		{"no address", nodeFlags{Data: empty, Admin: "http://", Token: token}, "write HOST:PORT"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var st admin.Status
			err := tt.flags.ask("GET", "/v1/status", &st)
			switch {
			case tt.want == "" && (err != nil || st.Version != "v1"):
				t.Errorf("%v, %+v", err, st)
			case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
				t.Errorf("error %v, want one with %q", err, tt.want)
			case err != nil && strings.Contains(err.Error(), token):
				t.Errorf("the error shows the token: %v", err)
			}
		})
	}
}
