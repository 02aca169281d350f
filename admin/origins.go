package admin

// The origins: which endpoints there are, and what is known of them.

import (
	"net/http"
	"time"
)

// Origin is one configured origin.
type Origin struct {
	Name        string     `json:"name"`
	Policy      string     `json:"policy"`
	Active      int        `json:"active"`
	Waiting     int        `json:"waiting"`
	Concurrency int        `json:"concurrency"`
	Retries     uint64     `json:"retries"`
	Hedges      uint64     `json:"hedges"`
	Resolved    *time.Time `json:"resolved,omitempty"`
	DNSError    string     `json:"dns_error,omitempty"`
	Endpoints   []Endpoint `json:"endpoints"`
}

// Endpoint is one of an origin's addresses.
type Endpoint struct {
	Address    string     `json:"address"`
	Weight     int        `json:"weight"`
	Priority   int        `json:"priority"`
	Discovered bool       `json:"discovered"`
	Health     string     `json:"health"`
	ProbeError string     `json:"probe_error,omitempty"`
	Since      time.Time  `json:"since"`
	Breaker    string     `json:"breaker"`
	OpenUntil  *time.Time `json:"open_until,omitempty"`
	Share      float64    `json:"share"`
	Active     int        `json:"active"`
	Requests   uint64     `json:"requests"`
	Failures   uint64     `json:"failures"`
	LatencyMS  float64    `json:"latency_ms"`
}

// Origins is the answer to GET /v1/origins.
type Origins struct {
	Origins []Origin `json:"origins"`
}

func (s *Server) origins(w http.ResponseWriter, _ *http.Request) {
	list := s.src.Origins()
	if list == nil {
		list = []Origin{}
	}
	writeJSON(w, http.StatusOK, Origins{list})
}
