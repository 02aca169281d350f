package h3

import (
	"crypto/tls"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/quic-go/quic-go"

	"edgecdn/cache"
)

// relay passes datagrams on between one client and a server, and holds back the
// server's until release, so that no handshake completes before.
type relay struct {
	front, back *net.UDPConn
	mu          sync.Mutex
	client      *net.UDPAddr
	held        [][]byte
	holding     bool
	done        sync.WaitGroup
}

func newRelay(t *testing.T, server *net.UDPAddr) *relay {
	t.Helper()
	front, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	back, err := net.DialUDP("udp", nil, server)
	if err != nil {
		t.Fatal(err)
	}
	r := &relay{front: front, back: back, holding: true}
	r.done.Go(func() {
		for buf := make([]byte, 2048); ; {
			n, from, err := front.ReadFromUDP(buf)
			if err != nil {
				return
			}
			r.mu.Lock()
			r.client = from
			r.mu.Unlock()
			_, _ = back.Write(buf[:n])
		}
	})
	r.done.Go(func() {
		for {
			buf := make([]byte, 2048)
			n, err := back.Read(buf)
			if err != nil {
				return
			}
			r.mu.Lock()
			if r.holding {
				r.held = append(r.held, buf[:n])
			} else {
				_, _ = front.WriteToUDP(buf[:n], r.client)
			}
			r.mu.Unlock()
		}
	})
	t.Cleanup(func() {
		_ = front.Close()
		_ = back.Close()
		r.done.Wait()
	})
	return r
}

func (r *relay) release() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.holding = false
	for _, b := range r.held {
		_, _ = r.front.WriteToUDP(b, r.client)
	}
}

// tickets keeps sessions and says when it has got one.
type tickets struct {
	tls.ClientSessionCache
	got chan struct{}
}

func newTickets() *tickets {
	return &tickets{tls.NewLRUClientSessionCache(1), make(chan struct{}, 100)}
}

func (c *tickets) Put(key string, s *tls.ClientSessionState) {
	c.ClientSessionCache.Put(key, s)
	c.got <- struct{}{}
}

// TestEarlyData has hits of safe methods answered in 0-RTT and all else refused
// until the handshake is complete (RFC 8470 5.1).
func TestEarlyData(t *testing.T) {
	var handled atomic.Int64
	e := start(t, setup{early: true, handler: func(w http.ResponseWriter, r *http.Request) { handled.Add(1) }})
	config := e.tls()
	sessions := newTickets()
	config.ClientSessionCache = sessions
	first, err := quic.DialAddr(t.Context(), e.address.String(), config, nil)
	if err != nil {
		t.Fatal(err)
	}
	newTalk(t, first).ask(headersFrame(getFields("/1000")...)).response()
	wait(t, sessions.got)
	_ = first.CloseWithError(codeNoError, "")

	r := newRelay(t, e.address)
	q, err := quic.DialAddrEarly(t.Context(), r.front.LocalAddr().String(), config, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = q.CloseWithError(codeNoError, "") }()
	c := newTalk(t, q)
	hit := c.ask(headersFrame(getFields("/1000")...))
	miss := c.ask(headersFrame(getFields("/h/")...))
	unsafe := c.ask(headersFrame(fieldsOf("POST", "/h/")...))
	eventually(t, "two requests refused", func() bool { return e.gate.Stats().Early.Load() == 2 })
	r.release()
	if resp := hit.response(); !strings.HasPrefix(resp.header["cache-status"], "edge; hit") || len(resp.body) != 1000 {
		t.Errorf("%+v", resp.header)
	}
	for _, s := range []*stream{miss, unsafe} {
		if resp := s.response(); resp.status() != "425" {
			t.Errorf("%+v", resp)
		}
	}
	if !q.ConnectionState().Used0RTT || handled.Load() != 0 {
		t.Errorf("0-RTT used: %v, handled %d", q.ConnectionState().Used0RTT, handled.Load())
	}
	c.wantAlive()
	if resp := c.ask(headersFrame(getFields("/h/", cache.Field{Name: "early-data", Value: "1"})...)).response(); resp.status() != "425" {
		t.Errorf("early at a proxy before us: %+v", resp)
	}
}

// TestNoEarlyData has 0-RTT refused where it is not configured.
func TestNoEarlyData(t *testing.T) {
	e := start(t, setup{})
	config := e.tls()
	sessions := newTickets()
	config.ClientSessionCache = sessions
	for i := range 2 {
		q, err := quic.DialAddrEarly(t.Context(), e.address.String(), config, nil)
		if err != nil {
			t.Fatal(err)
		}
		newTalk(t, q).wantAlive()
		if state := q.ConnectionState(); state.Used0RTT || i == 1 && !state.TLS.DidResume {
			t.Errorf("connection %d: 0-RTT %v, resumed %v", i, state.Used0RTT, state.TLS.DidResume)
		}
		if i == 0 {
			wait(t, sessions.got)
		}
		_ = q.CloseWithError(codeNoError, "")
	}
}
