package dnsgeo

// The sockets: which there are, and the life of what reads them.

import (
	"context"
	"errors"
	"fmt"
	"net"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
)

// sockets are the open ones.
type sockets struct {
	udp []*datagrams
	tcp []*net.TCPListener
}

// refreshInterval is how often the nodes are looked at. A killed node is to be
// out of the answers within 3 s, of which its peers need most to notice.
const refreshInterval = 200 * time.Millisecond

// Listen opens the sockets.
func (r *Responder) Listen() error {
	for _, address := range r.cfg.Listen {
		if err := r.listen(address); err != nil {
			r.Close()
			return fmt.Errorf("dns: listen on %s: %w", address, err)
		}
	}
	return nil
}

// portTries is how many ports are tried where any will do: one that is free for TCP need
// not be for UDP.
const portTries = 10

// listen opens UDP and TCP on one address; where the port is 0, on the same.
func (r *Responder) listen(address string) error {
	n := r.cfg.Limits.Sockets
	if n == 0 {
		n = min(runtime.GOMAXPROCS(0), 4)
	}
	for try := 1; ; try++ {
		opened, err := openSockets(address, n)
		if err == nil {
			r.sockets.tcp, r.sockets.udp = append(r.sockets.tcp, opened.tcp...), append(r.sockets.udp, opened.udp...)
			return nil
		}
		opened.close()
		if _, port, _ := net.SplitHostPort(address); port != "0" || opened.tcp == nil || try == portTries {
			return err
		}
	}
}

// openSockets opens one socket of TCP and n of UDP, over which the system spreads
// clients. With an error it returns what it has opened until then.
func openSockets(address string, n int) (s sockets, err error) {
	t, err := net.Listen("tcp", address)
	if err != nil {
		return s, err
	}
	s.tcp = append(s.tcp, t.(*net.TCPListener))
	if host, port, err := net.SplitHostPort(address); err == nil && port == "0" {
		_, port, _ = net.SplitHostPort(t.Addr().String())
		address = net.JoinHostPort(host, port)
	}
	for range n {
		u, err := listenDatagrams(context.Background(), address)
		if err != nil {
			return s, err
		}
		s.udp = append(s.udp, u)
	}
	return s, nil
}

// Addresses are those of the UDP sockets; TCP has the same.
func (r *Responder) Addresses() []string {
	var all []string
	for _, u := range r.sockets.udp {
		all = append(all, u.conn.LocalAddr().String())
	}
	return slices.Compact(all)
}

// Close closes the sockets of a responder that does not run.
func (r *Responder) Close() {
	r.sockets.close()
	r.sockets = sockets{}
}

func (s *sockets) close() {
	for _, u := range s.udp {
		u.conn.Close()
	}
	for _, t := range s.tcp {
		t.Close()
	}
}

// Run serves until ctx ends and everything is gone.
func (r *Responder) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	// The first round of probes comes before the first answer.
	r.mu.Lock()
	p := r.prober
	r.mu.Unlock()
	p.round(ctx)
	r.refresh(time.Now())
	group.Go(func() error { return r.follow(ctx) })
	group.Go(func() error { return r.followHealth(ctx) })
	group.Go(func() error { return r.writeLog(ctx) })
	group.Go(func() error { return r.followPlaces(ctx) })
	for _, u := range r.sockets.udp {
		group.Go(func() error { return r.serveUDP(ctx, u) })
	}
	for _, t := range r.sockets.tcp {
		group.Go(func() error { return r.serveTCP(ctx, t) })
	}
	return group.Wait()
}

// follow keeps the fleet up to date.
func (r *Responder) follow(ctx context.Context) error {
	tick := time.NewTicker(refreshInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-tick.C:
			r.refresh(now)
		}
	}
}

func closed(err error) bool {
	return errors.Is(err, net.ErrClosed) || strings.Contains(err.Error(), "use of closed")
}
