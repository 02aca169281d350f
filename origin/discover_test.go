package origin

import (
	"context"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"

	"edgecdn/pool"
)

// Endpoints change their addresses, and DNS says so: requests follow, and a body under
// way ends as it began.
func TestAddressesChange(t *testing.T) {
	one, two := serve(t), serve(t)
	s, slow := scripted(t, "h1")
	_ = s
	var port atomic.Pointer[string]
	say := func(address string) { _, p, _ := net.SplitHostPort(address); port.Store(&p) }
	say(slow.URL[len("http://"):])
	packets, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &dns.Server{PacketConn: packets, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, r *dns.Msg) {
		m := new(dns.Msg)
		m.SetReply(r)
		line := fmt.Sprintf("_http._tcp.shop.test. 0 SRV 0 1 %s host.shop.test.", *port.Load())
		if r.Question[0].Qtype == dns.TypeA {
			line = "host.shop.test. 0 A 127.0.0.1"
		}
		if rr, err := dns.NewRR(line); err == nil && r.Question[0].Qtype == rr.Header().Rrtype {
			m.Answer = append(m.Answer, rr)
		}
		_ = w.WriteMsg(m)
	})}
	var work sync.WaitGroup
	started := make(chan struct{})
	server.NotifyStartedFunc = func() { close(started) }
	work.Go(func() { _ = server.ActivateAndServe() })
	<-started
	f := open(t, Config{URL: "http://shop.test", Pool: pool.Config{Discover: pool.Discover{
		Name: "_http._tcp.shop.test", Type: "srv", Resolvers: []string{packets.LocalAddr().String()}, TTLMin: 100 * time.Millisecond,
	}}})
	ctx, cancel := context.WithCancel(t.Context())
	work.Go(func() { _ = f.Run(ctx) })
	t.Cleanup(func() { cancel(); _ = server.Shutdown(); work.Wait() })

	under, err := f.do("GET", "/_origin/respond?size=30&chunks=3&chunk_delay=300ms", nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range []*backend{one, two, one} {
		say(b.address)
		eventually(t, "it goes to the new address", func() bool {
			before := b.hits.Load()
			f.get("/_origin/respond") // not the sample site, which takes seconds to make
			return b.hits.Load() > before
		})
		want(t, "endpoints", len(f.state().Endpoints), 1)
	}
	if status, body := finish(t, under, nil); status != 200 || len(body) != 30 {
		t.Errorf("body under way: %d, %d bytes", status, len(body))
	}
	f.idle()
	eventually(t, "connections to what is gone are closed", func() bool { return f.stats().ConnectionsOpen.Load() <= 1 })
}
