package admin

import (
	"encoding/json"
	"testing"
	"time"
)

func TestOrigins(t *testing.T) {
	n := &node{}
	s, token, _ := newTestServer(t, n)
	until := time.Now().Add(time.Second)
	for _, origins := range [][]Origin{nil, {{Name: "shop", Policy: "maglev", Concurrency: 3, Resolved: &until, DNSError: "x", Endpoints: []Endpoint{
		{Address: "a:1", Weight: 2, Health: "down", ProbeError: "refused", Since: until, Breaker: "half-open", OpenUntil: &until, Share: 0.5, LatencyMS: 1.5},
		{Address: "b:1", Health: "unprobed", Since: until, Breaker: "closed", Share: 1},
	}}, {Name: "none", Policy: "ewma", Endpoints: []Endpoint{}}}} {
		n.origins = origins
		w := s.answer(ask{path: "/v1/origins", authorization: "Bearer " + token})
		var got Origins
		if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil || w.Code != 200 || len(got.Origins) != len(origins) {
			t.Errorf("%d: %s, %v", w.Code, w.Body, err)
		}
	}
}
