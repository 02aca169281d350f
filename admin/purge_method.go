package admin

// The method PURGE, as caches before us have it: one URL, at once.

import (
	"fmt"
	"net/http"
	"strings"
)

// Fields of PURGE.
const (
	// softField is "1" for a soft purge.
	softField = "Soft-Purge"
	// schemeField names the scheme where the target of PURGE is a path.
	schemeField = "Purge-Scheme"
)

// purgeMethod answers PURGE on the admin listener. What is purged is named by the
// request target in absolute form (RFC 9112 3.2.2), or by Purge-Scheme, Host and
// path: this listener serves none of the hosts, so that a path says too little.
func (s *Server) purgeMethod(w http.ResponseWriter, r *http.Request) {
	c := credentialOf(r)
	if !s.authorize(w, r, c, ScopePurge) {
		return
	}
	target := r.RequestURI
	if strings.HasPrefix(target, "/") {
		scheme := r.Header.Get(schemeField)
		if scheme != "http" && scheme != "https" {
			s.refusePurge(w, r, "purge url "+target, http.StatusBadRequest, "say which URL is meant: PURGE https://www.example.com/path, or the path with "+schemeField+": https and the Host", nil)
			return
		}
		target = scheme + "://" + r.Host + target
	}
	s.purgeURL(w, r, target)
}

// PurgeOnPublicListener answers a request with the method PURGE that came in on a
// public listener, on a route that allows it: target is the URL as the cache
// knows it. It wants the same tokens as the admin listener. The request goes no
// further, whatever it is.
func (s *Server) PurgeOnPublicListener(w http.ResponseWriter, r *http.Request, target string) {
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	c := s.authenticate(w, r, &s.purgers)
	if c == nil {
		return
	}
	r = r.WithContext(withCredential(r.Context(), c))
	if s.authorize(w, r, c, ScopePurge) {
		s.purgeURL(w, r, target)
	}
}

// purgeURL purges one URL and answers with the receipt.
func (s *Server) purgeURL(w http.ResponseWriter, r *http.Request, raw string) {
	purges := s.purges(w)
	if purges == nil {
		return
	}
	c := credentialOf(r)
	p := &purgeBody{PurgeRequest: PurgeRequest{Kind: PurgeURL, Reason: methodPurge, Actor: c.name}, kinds: []string{"url"}}
	soft := r.Header.Get(softField)
	p.Soft = soft == "1"
	target, host, problem := canonicalURL(raw)
	p.Targets, p.hosts = []string{target}, []string{host}
	if problem == "" && soft != "" && soft != "0" && !p.Soft {
		problem = softField + " is 1 for a soft purge, 0 or left out for a hard one"
	}
	if problem != "" {
		s.refusePurge(w, r, fmt.Sprintf("purge url %s", raw), http.StatusBadRequest, problem, nil)
		return
	}
	var ok bool
	if p.Key, ok = idempotencyKey(w, r); !ok || !s.allowed(w, r, c, p) {
		return
	}
	p.Fingerprint = p.fingerprint()
	receipt, err := purges.Purge(r.Context(), p.PurgeRequest)
	if err != nil {
		s.failPurge(w, r, p, err)
		return
	}
	s.stats.PurgesAccepted.Add(1)
	s.audit.note(c, r, p.what(), http.StatusOK, "purge "+receipt.ID)
	writeJSON(w, http.StatusOK, receipt)
}
