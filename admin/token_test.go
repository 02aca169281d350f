package admin

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestNewToken(t *testing.T) {
	token, hash := NewToken()
	sum := sha256.Sum256([]byte(token))
	if len(token) != 43 || hash != hex.EncodeToString(sum[:]) {
		t.Errorf("token of %d characters, hash %s", len(token), hash)
	}
	if again, _ := NewToken(); again == token {
		t.Error("the same token twice")
	}
}

func TestTokenIsMadeOnceAndOnlyWhereNoneIsConfigured(t *testing.T) {
	data := filepath.Join(t.TempDir(), "new", "data")
	path := filepath.Join(data, TokenFile)
	var logged bytes.Buffer
	log := slog.New(slog.NewTextHandler(&logged, nil))

	_, hash := NewToken()
	if _, err := New(Config{Tokens: []Token{{Name: "ops", SHA256: hash, Scopes: []string{"read"}}}}, (&node{}).sources(data), log); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err == nil {
		t.Fatal("made although one is configured")
	}
	s, err := New(Config{}, (&node{}).sources(data), log)
	if err != nil {
		t.Fatal(err)
	}
	token, err := ReadToken(path)
	if err != nil {
		t.Fatal(err)
	}
	if info, _ := os.Stat(path); info.Mode().Perm() != 0o600 {
		t.Errorf("mode %o", info.Mode().Perm())
	}
	if !strings.Contains(logged.String(), path) || strings.Contains(logged.String(), token) {
		t.Errorf("the log must say where and not what: %s", &logged)
	}
	logged.Reset()
	again, err := New(Config{}, (&node{}).sources(data), log)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []*Server{s, again} {
		if w := s.answer(ask{path: "/v1/status", authorization: "Bearer " + token}); w.Code != 200 {
			t.Errorf("status %d", w.Code)
		}
	}
	if logged.Len() > 0 {
		t.Errorf("said again: %s", &logged)
	}
	if entries, _ := os.ReadDir(data); len(entries) != 1 {
		t.Errorf("left behind: %v", entries)
	}
}

func TestTokenFileThatIsNoSecretIsRefused(t *testing.T) {
	good, _ := NewToken()
	for name, f := range map[string]struct {
		content string
		mode    os.FileMode
	}{
		"read by others": {good, 0o644},
		"empty":          {"", 0o600},
		"short":          {"secret\n", 0o600},
	} {
		t.Run(name, func(t *testing.T) {
			data := t.TempDir()
			path := filepath.Join(data, TokenFile)
			if err := os.WriteFile(path, []byte(f.content), f.mode); err != nil {
				t.Fatal(err)
			}
			_, err := New(Config{}, (&node{}).sources(data), slog.New(slog.DiscardHandler))
			if err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "remove it") {
				t.Errorf("error %v", err)
			}
		})
	}
}

func TestFailuresAreForgivenAndBounded(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	var f failures
	client := netip.MustParseAddr("2001:db8:1:2::1")
	neighbour := netip.MustParseAddr("2001:db8:1:2:ffff::9") // same /64
	for range failuresBurst {
		if f.blocked(client, now) > 0 {
			t.Fatal("blocked too early")
		}
		f.add(client, now)
	}
	if wait := f.blocked(neighbour, now); wait != failuresEvery {
		t.Errorf("a neighbour in the same network waits %v, want %v", wait, failuresEvery)
	}
	if wait := f.blocked(client, now.Add(failuresEvery)); wait != 0 {
		t.Errorf("still blocked for %v", wait)
	}

	// A flood from many addresses: the table stays bounded, those who find no
	// place share one, and time makes room again.
	addr := netip.MustParseAddr("192.0.0.0")
	full := 0
	for range failuresMax + 100 {
		if addr = addr.Next(); f.add(addr, now) {
			full++
		}
	}
	if len(f.forgiven) > failuresMax+1 || full == 0 {
		t.Errorf("%d addresses kept, %d shared", len(f.forgiven), full)
	}
	if f.blocked(addr.Next(), now) == 0 {
		t.Error("an address without a place of its own is not held to the common one")
	}
	if f.add(addr, now.Add(time.Hour)) || len(f.forgiven) != 1 {
		t.Errorf("%d addresses kept after an hour", len(f.forgiven))
	}
}

func TestClientAddressesMappedIntoIPv6AreOne(t *testing.T) {
	if group(netip.MustParseAddr("::ffff:192.0.2.1")) != group(netip.MustParseAddr("192.0.2.1")) {
		t.Error("told apart")
	}
	if group(netip.MustParseAddr("fe80::1%eth0")) != group(netip.MustParseAddr("fe80::2%eth1")) {
		t.Error("zones told apart")
	}
}

func FuzzHostname(f *testing.F) {
	for _, s := range []string{"localhost:80", "[::1]:8081", "[::1", "a b", "x@y", "EXAMPLE.", ":80", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, host string) {
		name := hostname(host)
		if strings.ContainsAny(name, "/@ []") {
			t.Errorf("%q gives %q", host, name)
		}
		if name != strings.ToLower(name) {
			t.Errorf("%q gives %q, not in lower case", host, name)
		}
	})
}
