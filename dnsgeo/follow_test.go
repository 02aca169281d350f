package dnsgeo

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"
)

// A node that is said to be dead is in no answer half a second later. The cluster says so
// within two and a half (cluster: TestNodesKnowEachOther): together they keep what
// docs/dns.md says, three seconds.
func TestDeadNodesLeaveAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nodes := *twoNodes()
		var dead atomic.Bool
		r := responder(t, Config{Zones: []Zone{{Name: "example.com", NameServers: []string{"ns.example.net"}, Dynamic: []Dynamic{{Name: "www", Answers: 2}}}}}, nil)
		r.cfg.Nodes = func() []Node {
			now := []Node{nodes[0], nodes[1]}
			if dead.Load() {
				now[1].Away = AwayDead
			}
			return now
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- r.follow(ctx) }()
		answers := func() int { return len(ask(t, r, question("www.example.com.", dns.TypeA), "192.0.2.1", udp).Answer) }
		time.Sleep(refreshInterval + time.Millisecond)
		synctest.Wait()
		if n := answers(); n != 2 {
			t.Fatalf("%d addresses of two nodes", n)
		}
		dead.Store(true)
		time.Sleep(500 * time.Millisecond)
		synctest.Wait()
		if n := answers(); n != 1 {
			t.Errorf("%d addresses of one node that lives", n)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
