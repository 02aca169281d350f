package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"edgecdn/config"
)

// What init writes is a configuration that edge takes, for each shape, with secrets
// that are nobody else's to read.
func TestInit(t *testing.T) {
	for shape, files := range map[string][]string{
		"single":     {"admin.token", "edge.yaml"},
		"cluster":    {"admin.token", "cluster.secret", "edge.yaml"},
		"kubernetes": {"admin.token", "cluster.secret", "edge.yaml", "kustomization.yaml"},
	} {
		t.Run(shape, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "new")
			c := &initCmd{Shape: shape, Dir: dir, Origin: "https://origin.example.com", Host: []string{"www.example.com"}, Site: "fra", Seed: []string{"192.0.2.10"}, Data: "/var/lib/edge", Base: "../base"}
			var out bytes.Buffer
			if err := c.run(&out); err != nil {
				t.Fatal(err)
			}
			var there []string
			entries, err := os.ReadDir(dir)
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range entries {
				there = append(there, e.Name())
				if info, _ := e.Info(); strings.Contains("admin.token cluster.secret", e.Name()) && info.Mode().Perm() != 0o600 {
					t.Errorf("%s has mode %v", e.Name(), info.Mode())
				}
			}
			if strings.Join(there, " ") != strings.Join(files, " ") {
				t.Errorf("wrote %v, want %v", there, files)
			}
			text, err := os.ReadFile(filepath.Join(dir, "edge.yaml"))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := config.Parse("edge.yaml", text, func(name string) (string, bool) { return "worker-1", !strings.HasSuffix(name, "_FILE") }); err != nil {
				t.Error(err)
			}
			if strings.Contains(string(text), "<no value>") {
				t.Errorf("something is missing:\n%s", text)
			}
		})
	}
}

func TestInitOverwritesNothing(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "admin.token"), []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := &initCmd{Shape: "single", Dir: dir, Origin: "http://127.0.0.1:9000", Data: dir}
	if err := c.run(&bytes.Buffer{}); err == nil || !strings.Contains(err.Error(), "nothing was written") {
		t.Errorf("%v", err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Errorf("%v, %v", entries, err)
	}
	c.Dir, c.Origin = filepath.Join(dir, "other"), "no URL"
	if err := c.run(&bytes.Buffer{}); err == nil || !strings.Contains(err.Error(), "origins.web.url") {
		t.Errorf("an origin that is none: %v", err)
	}
}
