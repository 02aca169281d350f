package admin

// Tokens over the REST API: which there are, and no more of one.

import (
	"encoding/hex"
	"fmt"
	"net/http"
	"time"
)

// TokenStatus is a token as operators see it: not the token, nor its hash.
type TokenStatus struct {
	Name   string   `json:"name"`
	Scopes []string `json:"scopes"`
	// Hosts that purges are limited to; none: all.
	Hosts []string `json:"hosts"`
	// Source is config, or file for the one under the data directory.
	Source string `json:"source"`
	// State is active, expired or revoked.
	State   string     `json:"state"`
	Expires *time.Time `json:"expires,omitempty"`
	Revoked *time.Time `json:"revoked,omitempty"`
	// LastUsed since the node started.
	LastUsed *time.Time `json:"last_used,omitempty"`
}

// TokenList is what GET /v1/tokens answers.
type TokenList struct {
	Tokens []TokenStatus `json:"tokens"`
}

func (s *Server) tokenStatus(c *credential) TokenStatus {
	st := TokenStatus{Name: c.name, Scopes: []string{}, Hosts: append([]string{}, c.hosts...), Source: "config", State: "active"}
	for _, scope := range c.scopes {
		st.Scopes = append(st.Scopes, string(scope))
	}
	if c.made {
		st.Source = "file"
	}
	if !c.expires.IsZero() {
		st.Expires = &c.expires
	}
	if c.expired(time.Now()) {
		st.State = "expired"
	}
	if at, is := s.revoked.at(c.hash); is {
		st.State, st.Revoked = "revoked", &at
	}
	if at := c.use.lastUsed(); !at.IsZero() {
		st.LastUsed = &at
	}
	return st
}

func (s *Server) listTokens(w http.ResponseWriter, _ *http.Request) {
	list := TokenList{Tokens: []TokenStatus{}}
	for _, c := range s.live.Load().credentials {
		list.Tokens = append(list.Tokens, s.tokenStatus(c))
	}
	writeJSON(w, http.StatusOK, list)
}

// revokeToken shuts a token out at once and for good: its hash is remembered
// under the data directory.
func (s *Server) revokeToken(w http.ResponseWriter, r *http.Request) {
	by, name := credentialOf(r), r.PathValue("name")
	for _, c := range s.live.Load().credentials {
		if c.name != name {
			continue
		}
		if err := s.revoked.add(c.hash, c.name, by.name, time.Now()); err != nil {
			s.log.Error("admin: revoke a token", "token", name, "err", err)
			s.audit.note(by, r, "revoke the token "+name, http.StatusInternalServerError, err.Error())
			writeProblem(w, http.StatusInternalServerError, err.Error())
			return
		}
		if err := s.src.Revoked(hex.EncodeToString(c.hash[:]), c.name); err != nil {
			s.log.Error("admin: tell other nodes of a revoked token", "token", name, "err", err)
			s.audit.note(by, r, "revoke the token "+name, http.StatusInternalServerError, err.Error())
			writeProblem(w, http.StatusInternalServerError, "the token is revoked here, but other nodes may not know: "+err.Error())
			return
		}
		s.audit.note(by, r, "revoke the token "+name, http.StatusOK, "revoked, sha256 "+hex.EncodeToString(c.hash[:8]))
		writeJSON(w, http.StatusOK, s.tokenStatus(c))
		return
	}
	detail := fmt.Sprintf("no token is named %.80q: `edge token list` shows all", name)
	s.audit.note(by, r, fmt.Sprintf("revoke the token %.80q", name), http.StatusNotFound, "no such token")
	writeProblem(w, http.StatusNotFound, detail)
}
