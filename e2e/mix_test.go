package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
	"testing"

	"edgecdn/cmd/origin/script"
)

// What passes through belongs to who asked: records of requests are used again, and
// nothing of one is ever seen in another, whatever protocol they came over.
func TestPassingRequestsDoNotMix(t *testing.T) {
	n := startEdge(t, startOrigin(t))
	var work sync.WaitGroup
	for _, protocol := range append(protocols, "h1s") {
		c := newClient(t, n, protocol)
		for k := range 6 {
			work.Go(func() {
				for i := range 60 {
					id := fmt.Sprintf("%s-%d-%d", protocol, k, i)
					method := []string{"GET", "GET", "HEAD", "OPTIONS"}[i%4]
					req := c.request(t, method, "/_origin/echo?"+id, nil)
					req.Header.Set("X-Id", id)
					req.Header.Set("Cookie", "id="+id)
					a, err := c.try(req)
					if err != nil || a.StatusCode != 200 {
						t.Errorf("%s: %v, %v", id, err, a.Response)
						continue
					}
					if method == "HEAD" {
						continue
					}
					var echo script.Echo
					if err := json.Unmarshal([]byte(a.body), &echo); err != nil {
						t.Errorf("%s: %v in %q", id, err, a.body)
						continue
					}
					seen := http.Header(echo.Header)
					if echo.Method != method || echo.Target != "/_origin/echo?"+id || seen.Get("X-Id") != id || seen.Get("Cookie") != "id="+id || len(seen.Values("X-Id")) != 1 {
						t.Errorf("%s: the origin saw %+v", id, echo)
					}
				}
			})
		}
	}
	work.Wait()
}
