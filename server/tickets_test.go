package server

import (
	"context"
	"crypto/tls"
	"io"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
)

// TestPostQuantumKeyExchange: who offers the hybrid with ML-KEM gets it, others theirs.
func TestPostQuantumKeyExchange(t *testing.T) {
	e := start(t, setup{})
	for _, test := range []struct {
		offered []tls.CurveID
		want    tls.CurveID
	}{
		{nil, tls.X25519MLKEM768}, // Go's own
		{[]tls.CurveID{tls.X25519, tls.X25519MLKEM768}, tls.X25519MLKEM768},
		{[]tls.CurveID{tls.X25519}, tls.X25519},
	} {
		config := e.tls("h2")
		config.CurvePreferences = test.offered
		c, err := tls.Dial("tcp", e.https, config)
		if err != nil {
			t.Fatal(err)
		}
		if got := c.ConnectionState().CurveID; got != test.want {
			t.Errorf("TCP, offered %v: agreed on %v", test.offered, got)
		}
		_ = c.Close()

		config = e.tls("h3")
		config.CurvePreferences = test.offered
		q, err := quic.DialAddr(t.Context(), e.https, config, nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := q.ConnectionState().TLS.CurveID; got != test.want {
			t.Errorf("QUIC, offered %v: agreed on %v", test.offered, got)
		}
		_ = q.CloseWithError(0, "")
	}
}

// TestOldSuites: nothing without forward secrecy and an AEAD is agreed on.
func TestOldSuites(t *testing.T) {
	config := Config{HTTPS: []string{"127.0.0.1:0"}, TLS: TLS{Certificates: []Certificate{writeCertificate(t, "rsa", true, "a.test")}}}
	e := start(t, setup{config: config})
	for _, suite := range tls.InsecureCipherSuites() {
		client := &tls.Config{ServerName: "a.test", InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{suite.ID}}
		if c, err := tls.Dial("tcp", e.https, client); err == nil {
			_ = c.Close()
			t.Errorf("%s was agreed on", suite.Name)
		}
	}
}

// oneSession is a client's cache of one session.
type oneSession struct {
	mu      sync.Mutex
	session *tls.ClientSessionState
	put     chan struct{}
}

func (o *oneSession) Get(string) (*tls.ClientSessionState, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.session, o.session != nil
}

func (o *oneSession) Put(_ string, s *tls.ClientSessionState) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.session == nil && s != nil {
		o.session = s
		close(o.put)
	}
}

// resumes shakes hands twice, calling between in the meantime, and reports
// whether the second was a resumption.
func resumes(t *testing.T, e *edge, overQUIC bool, between func()) bool {
	t.Helper()
	once := func(cache *oneSession) bool {
		config := e.tls("h2")
		config.ClientSessionCache = cache
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		if overQUIC {
			config.NextProtos = []string{"h3"}
			c, err := quic.DialAddr(ctx, e.https, config, nil)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = c.CloseWithError(0, "") }()
			<-c.HandshakeComplete()
			select {
			case <-cache.put:
			case <-ctx.Done():
				t.Fatal("no ticket came")
			}
			return c.ConnectionState().TLS.DidResume
		}
		c, err := (&tls.Dialer{Config: config}).DialContext(ctx, "tcp", e.https)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := io.WriteString(c, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00"); err != nil {
			t.Fatal(err)
		}
		_ = c.SetReadDeadline(time.Now().Add(patience))
		if _, err := c.Read(make([]byte, 64)); err != nil { // SETTINGS, and the ticket before them
			t.Fatal(err)
		}
		return c.(*tls.Conn).ConnectionState().DidResume
	}
	cache := &oneSession{put: make(chan struct{})}
	if once(cache) {
		t.Fatal("the first handshake was a resumption")
	}
	between()
	return once(cache)
}

func TestTicketKeysRotate(t *testing.T) {
	for _, test := range []struct {
		name string
		quic bool
	}{{"TCP", false}, {"QUIC", true}} {
		t.Run(test.name, func(t *testing.T) {
			e := start(t, setup{})
			rotate := func(n int) func() {
				return func() {
					for range n {
						e.rotateTickets()
					}
				}
			}
			if !resumes(t, e, test.quic, func() {}) {
				t.Error("no resumption")
			}
			if !resumes(t, e, test.quic, rotate(ticketKeys-1)) {
				t.Error("a ticket of the oldest key that is kept was refused")
			}
			if resumes(t, e, test.quic, rotate(ticketKeys)) {
				t.Error("a ticket of a forgotten key was taken")
			}
			if !resumes(t, e, test.quic, func() {
				if err := e.Apply(e.live.Load().config); err != nil {
					t.Fatal(err)
				}
			}) {
				t.Error("a reload forgot the keys")
			}
			e.SetTicketKeys([][32]byte{{1}})
			if !resumes(t, e, test.quic, rotate(ticketKeys)) {
				t.Error("keys from outside were rotated away")
			}
			if resumes(t, e, test.quic, func() { e.SetTicketKeys([][32]byte{{2}, {3}}) }) {
				t.Error("keys from outside do not hold")
			}
			if !resumes(t, e, test.quic, func() { e.SetTicketKeys([][32]byte{{4}, {2}}) }) {
				t.Error("the second key from outside does not open")
			}
		})
	}
}

// TestTicketsWithOpenSSL: a client that is not Go's resumes, in both versions.
func TestTicketsWithOpenSSL(t *testing.T) {
	program, err := exec.LookPath("openssl")
	if err != nil {
		t.Skip("no openssl")
	}
	e := start(t, setup{})
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	out, err := exec.CommandContext(ctx, program, "s_client", "-connect", e.https, "-servername", "edge.test", "-tls1_2", "-reconnect").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if fresh, reused := strings.Count(string(out), "\nNew, TLSv1.2"), strings.Count(string(out), "\nReused, TLSv1.2"); fresh != 1 || reused != 5 {
		t.Errorf("%d handshakes in full, %d resumed\n%s", fresh, reused, out)
	}
	waitFor(t, "resumptions are counted", func() bool { return e.Stats().TLS.Resumed.Load() == 5 })
}
