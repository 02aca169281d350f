package script

import (
	"encoding/json"
	"maps"
	"net/http"
	"sync"
)

// countersMax bounds the names that are told apart; further ones share overflow.
const countersMax = 10_000

// counters counts events by name.
type counters struct {
	mu       sync.Mutex
	byName   map[string]int64
	overflow int64
	sum      int64
}

// add counts one event and returns how many there were under this name.
func (c *counters) add(name string) int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sum++
	n, ok := c.byName[name]
	if !ok && len(c.byName) >= countersMax {
		c.overflow++
		return c.overflow
	}
	if c.byName == nil {
		c.byName = make(map[string]int64)
	}
	c.byName[name] = n + 1
	return n + 1
}

func (c *counters) get(name string) int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.byName[name]
}

func (c *counters) total() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.sum
}

func (c *counters) reset() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.byName, c.overflow, c.sum = nil, 0, 0
}

func (c *counters) snapshot() (byName map[string]int64, overflow, sum int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.byName), c.overflow, c.sum
}

// Stats is what GET /_origin/stats answers with.
type Stats struct {
	Total    int64            `json:"total"`    // requests seen
	Paths    map[string]int64 `json:"paths"`    // by path as sent, without query
	Overflow int64            `json:"overflow"` // for paths beyond the first 10,000
	Active   int64            `json:"active"`   // being answered now
	Peak     int64            `json:"peak"`     // most that were answered at once
}

// stats shows the counters; POST and DELETE set them to zero first.
func (s *Script) stats(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodPost || r.Method == http.MethodDelete {
		s.Reset()
	}
	stats := Stats{Active: s.active.Load(), Peak: s.peak.Load()}
	stats.Paths, stats.Overflow, stats.Total = s.requests.snapshot()
	w.Header().Set("Cache-Control", "no-store")
	writeJSON(w, stats)
}

func writeJSON(w http.ResponseWriter, v any) {
	text, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Write(append(text, '\n'))
}
