package admin

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// node is what a test changes of the node that the server shows.
type node struct {
	notReady  []string
	configErr error
	reloadErr error
	drainErr  error
	reloads   int
	samples   []Sample
	origins   []Origin
	purges    *purgesFake // nil: still starting
	nodes     NodeList
	changes   []NodeChange
	changeErr error
	told      []string // hashes of revoked tokens that others were told of
	toldErr   error
	texts     *textsFake // nil: no DNS
}

func (n *node) sources(data string) Sources {
	return Sources{
		Data:     data,
		NotReady: func() []string { return n.notReady },
		Status: func() Status {
			return Status{Version: "test", Phase: "serving", Started: time.Now().Add(-time.Minute), Config: ConfigStatus{File: "edge.yaml", Reloads: uint64(n.reloads)}}
		},
		Origins: func() []Origin { return n.origins },
		Config:  func() (any, error) { return map[string]any{"origins": map[string]any{}}, n.configErr },
		Reload:  func(context.Context) error { n.reloads++; return n.reloadErr },
		Locate: func(client, _ string) (any, error) {
			if client == "" {
				return nil, errors.New("no address")
			}
			return map[string]any{
				"address": client, "place": map[string]any{"point": map[string]any{"Latitude": 0, "Longitude": 0}, "has_point": false},
				"network": "192.0.2.0/24", "name": "www.example.", "scope": 24, "ttl": 20, "addresses": []string{}, "records": []string{},
				"down": false, "reasons": []any{map[string]any{"subject": "policy", "text": "none"}},
			}, nil
		},
		Texts: func() Texts {
			if n.texts == nil {
				return nil
			}
			return n.texts
		},
		Drain: func(drain bool) error {
			if n.drainErr != nil {
				return n.drainErr
			}
			n.notReady = nil
			if drain {
				n.notReady = []string{"drained"}
			}
			return nil
		},
		Release: func() error { return n.drainErr },
		Nodes:   func() NodeList { return n.nodes },
		Change:  func(c NodeChange) error { n.changes = append(n.changes, c); return n.changeErr },
		Revoked: func(hash, _ string) error { n.told = append(n.told, hash); return n.toldErr },
		Samples: func(emit func(Sample)) {
			for _, s := range n.samples {
				emit(s)
			}
		},
		Purges: func() Purges {
			if n.purges == nil {
				return nil
			}
			return n.purges
		},
	}
}

// purgesFake remembers what was asked for.
type purgesFake struct {
	mu       sync.Mutex
	err      error
	made     []PurgeRequest
	receipts []Receipt // the oldest first
	byKey    map[string]int
	watchers []chan Receipt
	applied  chan struct{} // Wait waits for it where it is set
}

func (f *purgesFake) Purge(_ context.Context, p PurgeRequest) (Receipt, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err != nil {
		return Receipt{}, f.err
	}
	if at, ok := f.byKey[p.Actor+"/"+p.Key]; ok && p.Key != "" {
		if f.made[at].Fingerprint != p.Fingerprint {
			return Receipt{}, fmt.Errorf("fake: %w", ErrKeyReused)
		}
		return f.receipts[at], nil
	}
	at := time.Now().UTC()
	receipt := receiptOf(p)
	receipt.ID, receipt.Entry = fmt.Sprintf("p%06d", len(f.made)+1), &PurgeEntry{"log-1", uint64(len(f.made) + 1), 1}
	receipt.Nodes = []PurgeNode{{Node: "edge-1", State: PurgeApplied, At: &at}}
	if f.byKey == nil {
		f.byKey = map[string]int{}
	}
	f.byKey[p.Actor+"/"+p.Key] = len(f.made)
	f.made, f.receipts = append(f.made, p), append(f.receipts, receipt)
	for _, w := range f.watchers {
		w <- receipt
	}
	return receipt, nil
}

func receiptOf(p PurgeRequest) Receipt {
	mode := "hard"
	if p.Soft {
		mode = "soft"
	}
	return Receipt{
		Time: time.Now().UTC(), Actor: p.Actor, Reason: p.Reason, Kind: p.Kind, Mode: mode, Host: p.Host, State: PurgeApplied,
		Targets: p.Targets[:min(len(p.Targets), PurgeTargetsShown)], TargetsTotal: len(p.Targets), Counts: PurgeCounts{Memory: 1, Disk: 2}, Nodes: []PurgeNode{},
	}
}

func (f *purgesFake) DryRun(_ context.Context, p PurgeRequest) (Receipt, error) {
	receipt := receiptOf(p)
	receipt.DryRun, receipt.State = true, PurgePending
	return receipt, f.err
}

func (f *purgesFake) Receipt(id string) (Receipt, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	i := slices.IndexFunc(f.receipts, func(r Receipt) bool { return r.ID == id })
	if i < 0 {
		return Receipt{}, false
	}
	return f.receipts[i], true
}

func (f *purgesFake) List(before string, limit int) (page []Receipt, next string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, r := range slices.Backward(f.receipts) {
		if before != "" && r.ID >= before {
			continue
		}
		if len(page) == limit {
			return page, page[limit-1].ID
		}
		page = append(page, r)
	}
	return page, ""
}

func (f *purgesFake) Watch(context.Context) <-chan Receipt {
	f.mu.Lock()
	defer f.mu.Unlock()
	w := make(chan Receipt, 64)
	f.watchers = append(f.watchers, w)
	return w
}

// hangUp ends all watches, as for watchers that do not keep up.
func (f *purgesFake) hangUp() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, w := range f.watchers {
		close(w)
	}
	f.watchers = nil
}

func (f *purgesFake) Counts(_ context.Context, id string) (Receipt, bool) {
	receipt, ok := f.Receipt(id)
	nodes := append([]PurgeNode{}, receipt.Nodes...)
	for i := range nodes {
		nodes[i].Counts = &PurgeCounts{Memory: 7}
	}
	receipt.Nodes = nodes
	return receipt, ok
}

func (f *purgesFake) Wait(ctx context.Context, id string) (Receipt, error) {
	receipt, ok := f.Receipt(id)
	if !ok {
		return Receipt{}, ErrPurgeUnknown
	}
	if f.applied == nil {
		return receipt, nil
	}
	select {
	case <-f.applied:
		return receipt, nil
	case <-ctx.Done():
		return receipt, ctx.Err()
	}
}

// last returns the request that was made last.
func (f *purgesFake) last(t *testing.T) PurgeRequest {
	t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.made) == 0 {
		t.Fatal("nothing was purged")
	}
	return f.made[len(f.made)-1]
}

// newTestServer returns a server that lets token in, which may do everything, and
// what it logs.
func newTestServer(t *testing.T, n *node) (s *Server, token string, logged *bytes.Buffer) {
	t.Helper()
	token, hash := NewToken()
	logged = new(bytes.Buffer)
	all := Token{Name: "ops", SHA256: hash}
	for _, scope := range allScopes {
		all.Scopes = append(all.Scopes, string(scope))
	}
	cfg := Config{Listen: "127.0.0.1:0", Hosts: []string{"edge1.example.net"}, Tokens: []Token{all}}
	s, err := New(cfg, n.sources(t.TempDir()), slog.New(slog.NewTextHandler(logged, nil)))
	if err != nil {
		t.Fatal(err)
	}
	return s, token, logged
}

// addToken lets one more token in, as a reload does.
func addToken(t *testing.T, s *Server, add Token) (token string) {
	t.Helper()
	token, add.SHA256 = NewToken()
	s.cfg.Tokens = append(slices.Clone(s.cfg.Tokens), add)
	if err := s.Apply(s.cfg); err != nil {
		t.Fatal(err)
	}
	return token
}

type ask struct {
	method, path, host, authorization, client string

	body   string
	header []string // name, value, ...
	gone   bool     // the client leaves at once
}

// request is the ask as it comes in.
func (a ask) request() *http.Request {
	if a.method == "" {
		a.method = http.MethodGet
	}
	var body io.Reader
	if a.body != "" {
		body = strings.NewReader(a.body)
	}
	r := httptest.NewRequest(a.method, a.path, body)
	if !strings.Contains(a.path, "://") {
		r.Host = "127.0.0.1:8081"
	}
	if a.host != "" {
		r.Host = a.host
	}
	r.RemoteAddr = "192.0.2.1:1234"
	if a.client != "" {
		r.RemoteAddr = a.client
	}
	if a.authorization != "" {
		r.Header.Set("Authorization", a.authorization)
	}
	if a.body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i+1 < len(a.header); i += 2 {
		r.Header.Set(a.header[i], a.header[i+1])
	}
	if a.gone {
		ctx, leave := context.WithCancel(r.Context())
		leave()
		r = r.WithContext(ctx)
	}
	return r
}

// answer has the handler answer, and holds both to the OpenAPI document.
func (s *Server) answer(a ask) *httptest.ResponseRecorder {
	r := a.request()
	w := s.serve(r)
	contract.check(r, a.body, w)
	return w
}

func (s *Server) serve(r *http.Request) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	s.http.Handler.ServeHTTP(w, r)
	return w
}

var errFake = errors.New("fake: broken")
