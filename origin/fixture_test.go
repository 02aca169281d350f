package origin

import (
	"bufio"
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"edgecdn/cmd/origin/script"
	"edgecdn/pool"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fixture is a Transport with one origin, "o".
type fixture struct {
	*Transport
	t *testing.T
}

// open returns a Transport whose origin "o" has this configuration.
// Unless it says something of them it tries once and has no breaker, so that tests see
// each failure as it is.
func open(t *testing.T, cfg Config) *fixture {
	t.Helper()
	if reflect.DeepEqual(cfg.Retries, Retries{}) {
		cfg.Retries.Off = true
	}
	if cfg.Pool.Breaker == (pool.Breaker{}) {
		cfg.Pool.Breaker.Off = true
	}
	transport, err := New(map[string]Config{"o": cfg}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(transport.Close)
	return &fixture{transport, t}
}

// scripted starts a scripted origin, over TLS with HTTP/2 where proto is "h2",
// and returns the configuration that reaches it.
func scripted(t *testing.T, proto string) (*script.Script, Config) {
	t.Helper()
	s := script.New()
	server := httptest.NewUnstartedServer(s)
	server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	cfg := Config{}
	if proto == "h2" {
		server.EnableHTTP2 = true
		server.StartTLS()
		cfg.CA = authority(t, server)
	} else {
		server.Start()
	}
	cfg.URL = server.URL
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})
	return s, cfg
}

// authority writes the certificate of a server as a CA file.
func authority(t *testing.T, server *httptest.Server) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "ca.pem")
	block := &pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}
	if err := os.WriteFile(name, pem.EncodeToMemory(block), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// both runs a test against a scripted origin over HTTP/1.1 and over HTTP/2.
func both(t *testing.T, test func(t *testing.T, s *script.Script, cfg Config)) {
	for _, proto := range []string{"h1", "h2"} {
		t.Run(proto, func(t *testing.T) {
			s, cfg := scripted(t, proto)
			test(t, s, cfg)
		})
	}
}

// raw starts an origin that hands each connection, numbered from 0, to serve.
// It is closed after serve.
func raw(t *testing.T, serve func(n int, conn net.Conn, r *bufio.Reader)) Config {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var (
		work  sync.WaitGroup
		mu    sync.Mutex
		conns []net.Conn
	)
	work.Go(func() {
		for n := 0; ; n++ {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			conns = append(conns, conn)
			mu.Unlock()
			work.Go(func() {
				defer conn.Close()
				serve(n, conn, bufio.NewReader(conn))
			})
		}
	})
	t.Cleanup(func() {
		listener.Close()
		mu.Lock()
		for _, conn := range conns {
			conn.Close()
		}
		mu.Unlock()
		work.Wait()
	})
	return Config{URL: "http://" + listener.Addr().String()}
}

// answers is an origin that reads a request, writes text and closes.
func answers(t *testing.T, text string) Config {
	return raw(t, func(_ int, conn net.Conn, r *bufio.Reader) {
		if request, err := http.ReadRequest(r); err == nil {
			io.Copy(io.Discard, request.Body)
			io.WriteString(conn, text)
		}
	})
}

// silent is an origin that takes everything and says nothing.
func silent(t *testing.T) Config {
	return raw(t, func(_ int, _ net.Conn, r *bufio.Reader) { io.Copy(io.Discard, r) })
}

func (f *fixture) request(ctx context.Context, method, target string, body io.Reader) *http.Request {
	f.t.Helper()
	r, err := http.NewRequestWithContext(WithTarget(ctx, "o", target), method, "http://client.example/", body)
	if err != nil {
		f.t.Fatal(err)
	}
	return r
}

func (f *fixture) do(method, target string, body io.Reader) (*http.Response, error) {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(f.t.Context(), 30*time.Second)
	f.t.Cleanup(cancel)
	resp, err := f.RoundTrip(f.request(ctx, method, target, body))
	if err == nil {
		f.t.Cleanup(func() { resp.Body.Close() })
	}
	return resp, err
}

// get wants a response whose body ends well, and closes it.
func (f *fixture) get(target string) (*http.Response, string) {
	f.t.Helper()
	resp, err := f.do(http.MethodGet, target, nil)
	if err != nil {
		f.t.Fatalf("GET %s: %v", target, err)
	}
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		f.t.Fatalf("GET %s: body: %v", target, err)
	}
	resp.Body.Close()
	return resp, string(text)
}

func (f *fixture) echo(target string) (e script.Echo) {
	f.t.Helper()
	_, text := f.get(target)
	if err := json.Unmarshal([]byte(text), &e); err != nil {
		f.t.Fatalf("%v in %q", err, text)
	}
	return e
}

func (f *fixture) stats() *Stats {
	for name, stats := range f.Stats() {
		if name == "o" {
			return stats
		}
	}
	f.t.Fatal("no statistics")
	return nil
}

// eventually waits for a condition that others bring about.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for limit := time.Now().Add(10 * time.Second); !ok(); <-tick.C {
		if time.Now().After(limit) {
			t.Fatal("never happened: ", what)
		}
	}
}

// nobody is an address where nobody listens. The port of a listener that was closed
// would not do: it may be somebody else's next.
const nobody = "127.0.0.1:1"

// receive waits for what others send.
func receive[T any](t *testing.T, what string, from <-chan T) (got T) {
	t.Helper()
	select {
	case got = <-from:
	case <-time.After(10 * time.Second):
		t.Fatal("never happened: ", what)
	}
	return got
}

// pause lets d pass where the passing is what is tested.
func pause(d time.Duration) { <-time.After(d) }

// wantKind wants an *Error of a kind.
func wantKind(t *testing.T, what string, err error, kind Kind) {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) || e.Kind != kind {
		t.Errorf("%s: got %v, want %s", what, err, kind)
	}
}

func want[T comparable](t *testing.T, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}
