package admin

// What a token may do: scopes, and hosts for purges. What is not named is denied.

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"time"
)

// Scope is a kind of thing that a token may do.
type Scope string

// The scopes; see Token.Scopes.
const (
	ScopePurge    Scope = "purge"
	ScopePurgeAll Scope = "purge:all"
	ScopeRead     Scope = "read"
	ScopeConfig   Scope = "config"
	ScopeDrain    Scope = "drain"
	ScopeDNS      Scope = "dns"
)

var allScopes = []Scope{ScopePurge, ScopePurgeAll, ScopeRead, ScopeConfig, ScopeDrain, ScopeDNS}

func scopeNames() string { return joinScopes(allScopes, ", ") }

func joinScopes(scopes []Scope, by string) string {
	names := make([]string, len(scopes))
	for i, s := range scopes {
		names[i] = string(s)
	}
	return strings.Join(names, by)
}

// A credential is a token that is let in, by its hash. It is not changed after
// it was made, but for its use.
type credential struct {
	name    string
	hash    [sha256.Size]byte
	scopes  []Scope
	hosts   []string // none: all
	expires time.Time
	made    bool // under the data directory, not configured
	use     *use
}

// newCredential makes one of a token that is valid.
func newCredential(t Token) (*credential, error) {
	c := &credential{name: t.Name, hosts: t.Hosts, use: new(use)}
	if n, err := hex.Decode(c.hash[:], []byte(t.SHA256)); err != nil || n != len(c.hash) {
		return nil, fmt.Errorf("admin: token %q: sha256 is not 64 hexadecimal digits", t.Name)
	}
	for _, s := range t.Scopes {
		c.scopes = append(c.scopes, Scope(s))
	}
	if t.Expires != "" {
		at, err := time.Parse(time.RFC3339, t.Expires)
		if err != nil {
			return nil, fmt.Errorf("admin: token %q: expires: %w", t.Name, err)
		}
		c.expires = at
	}
	return c, nil
}

// expired says whether the token has had its time.
func (c *credential) expired(now time.Time) bool {
	return !c.expires.IsZero() && !now.Before(c.expires)
}

// may says whether the token has one of the scopes.
func (c *credential) may(anyOf []Scope) bool {
	return slices.ContainsFunc(c.scopes, func(s Scope) bool { return slices.Contains(anyOf, s) })
}

// mayPurge says whether host, canonical, is within the limit of the token.
func (c *credential) mayPurge(host string) bool {
	if !slices.Contains(c.scopes, ScopePurge) {
		return false
	}
	if len(c.hosts) == 0 {
		return true
	}
	name := host
	if bare, _, err := net.SplitHostPort(host); err == nil {
		name = bare
		if strings.Contains(bare, ":") {
			name = "[" + bare + "]"
		}
	}
	return slices.ContainsFunc(c.hosts, func(pattern string) bool {
		if suffix, ok := strings.CutPrefix(pattern, "*"); ok { // "*.example.com": ".example.com"
			return len(name) > len(suffix) && strings.HasSuffix(name, suffix)
		}
		return name == pattern
	})
}

const (
	// What one token may ask for: useBurst at once, then one every useEvery. A
	// purge costs one, and one more for each useTargets targets.
	useBurst   = 500
	useEvery   = 10 * time.Millisecond
	useTargets = 100
)

// use is how much a token has been used: a leaky bucket in one instant, as for
// failures, and when it was last.
type use struct {
	mu   sync.Mutex
	paid time.Time
	last time.Time
}

// take asks for cost units. It returns how long to wait where they are not to be
// had, and takes nothing then.
func (u *use) take(cost int, now time.Time) (wait time.Duration) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.last = now
	at := u.paid
	if at.Before(now) {
		at = now
	}
	at = at.Add(time.Duration(cost) * useEvery)
	if debt := at.Sub(now) - useBurst*useEvery; debt > 0 {
		return debt
	}
	u.paid = at
	return 0
}

func (u *use) lastUsed() time.Time {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.last
}
