package e2e

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
)

// quicClient is a client for HTTP/3 whose connections a test can get at.
type quicClient struct {
	*client
	mu    sync.Mutex
	conns []*quic.Conn
}

// newQUICClient reaches a node at an address, which may be a relay's.
func newQUICClient(t *testing.T, n *node, address string, tlsConfig *tls.Config) *quicClient {
	t.Helper()
	tlsConfig.ServerName = "edge.test"
	to, err := net.ResolveUDPAddr("udp", address)
	if err != nil {
		t.Fatal(err)
	}
	q := &quicClient{}
	transport := &http3.Transport{
		TLSClientConfig: tlsConfig, DisableCompression: true,
		QUICConfig: &quic.Config{KeepAlivePeriod: 100 * time.Millisecond},
		Dial: func(ctx context.Context, _ string, tlsConfig *tls.Config, config *quic.Config) (*quic.Conn, error) {
			c, err := newQUICTransport(t).DialEarly(ctx, to, tlsConfig, config)
			if err == nil {
				q.mu.Lock()
				q.conns = append(q.conns, c)
				q.mu.Unlock()
			}
			return c, err
		},
	}
	t.Cleanup(func() { transport.Close() })
	q.client = &client{name: "h3", base: "https://edge.test", Client: &http.Client{Transport: transport, Timeout: patience}}
	return q
}

func (q *quicClient) conn(t *testing.T) *quic.Conn {
	t.Helper()
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.conns) != 1 {
		t.Fatalf("%d connections, want one", len(q.conns))
	}
	return q.conns[0]
}

// A client keeps its download, and its upload, while its port changes: because
// it moves by itself, or because a router on the way does.
func TestNewPort(t *testing.T) {
	n := startEdge(t, startOrigin(t))
	router := newRelay(t, n.https)
	const size = 3_000_000
	for _, tt := range []struct {
		name    string
		address string
		moves   int // in a download
		move    func(t *testing.T, c *quic.Conn)
	}{
		{"the client moves", n.https, 3, migrate},
		{"a router moves", router.address(), 3, func(t *testing.T, _ *quic.Conn) { router.rebind(t) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			q := newQUICClient(t, n, tt.address, trust(t, n))
			resp, err := q.Do(q.request(t, "GET", respond("size", fmt.Sprint(size), "chunks", "20", "chunk_delay", "20ms", "header", "Cache-Control:no-store"), nil))
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			hash := sha256.New()
			for i := range tt.moves {
				if _, err := io.CopyN(hash, resp.Body, size/4); err != nil {
					t.Fatalf("after %d moves: %v", i, err)
				}
				tt.move(t, q.conn(t))
			}
			if _, err := io.Copy(hash, resp.Body); err != nil || hex.EncodeToString(hash.Sum(nil)) != patternSum(size) {
				t.Errorf("not the origin's bytes: %v", err)
			}
			q = newQUICClient(t, n, tt.address, trust(t, n))
			half := make(chan struct{})
			body := &stallingPattern{size: size, every: size / 2, rest: 100 * time.Millisecond}
			req := q.request(t, "POST", "/_origin/upload", io.NopCloser(readerFunc(func(p []byte) (int, error) {
				if body.off == size/2 {
					close(half)
				}
				return body.Read(p)
			})))
			moved := make(chan struct{})
			go func() {
				defer close(moved)
				<-half
				tt.move(t, q.conn(t))
			}()
			a := q.do(t, req)
			<-moved
			sent := make([]byte, size)
			(&stallingPattern{size: size}).Read(sent)
			wantUpload(t, "upload", a.body, sent)
		})
	}
}

// newQUICTransport returns a transport on a socket of its own. Its connections
// have identifiers, without which they could not move.
func newQUICTransport(t *testing.T) *quic.Transport {
	udp, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		panic(err) // not in the test's goroutine
	}
	transport := &quic.Transport{Conn: udp}
	t.Cleanup(func() {
		transport.Close()
		udp.Close()
	})
	return transport
}

// migrate moves a connection to a new socket of its own.
func migrate(t *testing.T, c *quic.Conn) {
	path, err := c.AddPath(newQUICTransport(t))
	if err != nil {
		t.Error(err)
		return
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := path.Probe(ctx); err != nil {
		t.Errorf("probe: %v", err)
		return
	}
	if err := path.Switch(); err != nil {
		t.Errorf("switch: %v", err)
	}
}

// Early data is refused unless it is configured; then it is answered from memory
// before the handshake is done, and all else with 425 (RFC 8470 5.2).
func TestEarlyData(t *testing.T) {
	for _, early := range []bool{false, true} {
		t.Run(fmt.Sprintf("early_data %t", early), func(t *testing.T) {
			o := startOrigin(t)
			n, _ := startConfigured(t, earlyConfig(o, early))
			config := trust(t, n)
			tickets := &countingCache{ClientSessionCache: tls.NewLRUClientSessionCache(10), got: make(chan struct{}, 10)}
			config.ClientSessionCache = tickets
			stored, unknown := respond("body", "stored", "header", "Cache-Control:max-age=600"), respond("body", "unknown")
			first := newQUICClient(t, n, n.https, config)
			first.get(t, stored).want(t, 200, miss)
			select {
			case <-tickets.got:
			case <-time.After(patience):
				t.Fatal("no session ticket")
			}

			r := newRelay(t, n.https)
			if early {
				r.hold()
			}
			q := newQUICClient(t, n, r.address(), config)
			answers := make(chan answer, 2)
			for _, target := range []string{stored, unknown} {
				req := q.request(t, http3.MethodGet0RTT, target, nil)
				go func() {
					a, err := q.try(req)
					if err != nil {
						t.Errorf("%s: %v", target, err)
					}
					answers <- a
				}()
			}
			if early {
				eventually(t, "a hit and a refusal before the handshake is done", func() bool {
					return count(t, n, "edge_requests_total", `outcome="hit"`) == 1 && count(t, n, "edge_responses_total", `status="4xx"`) == 1
				})
				r.release()
			}
			got := map[int]string{}
			for range 2 {
				if a := <-answers; a.Response != nil {
					got[a.StatusCode] += a.body
				}
			}
			state := q.conn(t).ConnectionState()
			if state.Used0RTT != early || !state.TLS.DidResume {
				t.Errorf("early data used: %t, resumed: %t", state.Used0RTT, state.TLS.DidResume)
			}
			if early && got[200] != "stored" || !early && len(got[200]) != len("storedunknown") {
				t.Errorf("answers: %v", got)
			}
			if _, refused := got[425]; refused != early {
				t.Errorf("answers: %v", got)
			}
			if a := q.get(t, unknown); a.StatusCode != 200 {
				t.Errorf("afterwards: %s", a.Status)
			}
		})
	}
}

// countingCache tells when a session ticket has come.
type countingCache struct {
	tls.ClientSessionCache
	got chan struct{}
}

func (c *countingCache) Put(key string, s *tls.ClientSessionState) {
	c.ClientSessionCache.Put(key, s)
	if s != nil {
		select {
		case c.got <- struct{}{}:
		default:
		}
	}
}
