package main

// PURGE on public listeners: answered by the operators' side, and by nobody else.

import (
	"net/http"

	"edgecdn/cache"
)

// methodPurge is let in where a route says so.
const methodPurge = "PURGE"

// bare says for what the handler needs no header but the cache's.
func bare(r *cache.Request) bool { return r.Method != methodPurge }

// keepPurges lets all but PURGE through to next: no origin ever sees one.
func (n *node) keepPurges(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != methodPurge {
			next.ServeHTTP(w, r)
			return
		}
		req := cache.FromContext(r.Context())
		if req.EarlyData {
			// Whoever recorded it could send it again (RFC 8470 5.2).
			http.Error(w, "425 Too Early: send it again after the handshake", http.StatusTooEarly)
			return
		}
		n.admin.PurgeOnPublicListener(w, r, req.Scheme+"://"+req.Host+req.Target)
	})
}
