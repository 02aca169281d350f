package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestDataDirectoryHasOneOwner(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new", "data")
	first, err := claim(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := first.publish("[::]:8081"); err != nil {
		t.Fatal(err)
	}
	if _, err := claim(dir); err == nil || !strings.Contains(err.Error(), dir) || !strings.Contains(err.Error(), "another edge") {
		t.Errorf("a second owner: %v", err)
	}
	addr := filepath.Join(dir, addrFile)
	if b, err := os.ReadFile(addr); err != nil || string(b) != "127.0.0.1:8081\n" {
		t.Errorf("address %q, %v", b, err)
	}
	first.release()
	if _, err := os.Stat(addr); err == nil {
		t.Error("the address outlives the node")
	}
	// What a killed node leaves behind is cleared away before the next is ready.
	if err := os.WriteFile(addr, []byte("127.0.0.1:1\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	second, err := claim(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer second.release()
	if _, err := os.Stat(addr); err == nil {
		t.Error("an old address is taken for the new one's")
	}
}

func TestReachable(t *testing.T) {
	for addr, want := range map[string]string{
		"127.0.0.1:80": "127.0.0.1:80", "[::1]:80": "[::1]:80", "10.0.0.1:80": "10.0.0.1:80",
		"0.0.0.0:80": "127.0.0.1:80", "[::]:80": "127.0.0.1:80",
	} {
		if got := reachable(addr); got != want {
			t.Errorf("%s: %s, want %s", addr, got, want)
		}
	}
}
