package origin

// transport.go is the door: it finds the upstream that a request names and swaps
// upstreams on reload. The lock is held by Apply and Close only; requests read
// the table through an atomic pointer.

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptrace"
	"os"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"

	"edgecdn/pool"
)

// Transport sends requests to configured origins. Safe for concurrent use.
type Transport struct {
	log       *slog.Logger
	upstreams atomic.Pointer[map[string]*upstream]
	changed   chan struct{} // wakes Run

	mu     sync.Mutex // of Apply and Close
	closed bool
}

// New returns a Transport for origins by name. It reads files but opens no
// connection. log may be nil.
func New(origins map[string]Config, log *slog.Logger) (*Transport, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	t := &Transport{log: log, changed: make(chan struct{}, 1)}
	t.upstreams.Store(&map[string]*upstream{})
	if err := t.Apply(origins); err != nil {
		return nil, err
	}
	return t, nil
}

// Apply replaces the origins. One whose configuration and files are unchanged
// keeps its connections; requests under way on others end as they began, and
// their connections close after them. Statistics stay with the name. After an
// error nothing has changed; the error names every origin at fault.
func (t *Transport) Apply(origins map[string]Config) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return errors.New("origin: the transport is closed")
	}
	old := *t.upstreams.Load()
	next := make(map[string]*upstream, len(origins))
	var problems []error
	for _, name := range slices.Sorted(maps.Keys(origins)) {
		up, err := renew(old[name], origins[name], t.log.With("origin", name))
		if err != nil {
			problems = append(problems, fmt.Errorf("origin %s: %w", name, err))
			continue
		}
		next[name] = up
		if up != old[name] && up.cfg.Insecure {
			t.log.Warn("origin: any certificate is accepted, so that others on the way can read and change what is sent", "origin", name)
		}
	}
	if len(problems) > 0 {
		return errors.Join(problems...)
	}
	for name, up := range next {
		if up == old[name] || up.files != nil {
			continue
		}
		up.budget.apply(up.cfg.Retries.Budget, up.cfg.Retries.BudgetMin)
		if err := up.pool.Apply(up.poolConfig()); err != nil {
			return fmt.Errorf("origin %s: %w", name, err) // not after Validate
		}
	}
	t.upstreams.Store(&next)
	for name, up := range old {
		if next[name] == nil || next[name] != up && (up.links == nil || next[name].links != up.links) {
			up.retire()
		}
	}
	t.wake()
	return nil
}

// renew returns old if cfg changes nothing, else a new upstream with old's
// statistics, pool and, if they are made in the same way, connections. It changes
// nothing that is in use.
func renew(old *upstream, cfg Config, log *slog.Logger) (*upstream, error) {
	var problems []error
	cfg.Validate(func(path, problem string) {
		problems = append(problems, fmt.Errorf("%s: %s", path, problem))
	})
	if len(problems) > 0 {
		return nil, errors.Join(problems...)
	}
	pem, err := readPEM(&cfg)
	if err != nil {
		return nil, err
	}
	cfg = cfg.WithDefaults()
	stats := &Stats{}
	if old != nil {
		if reflect.DeepEqual(old.cfg, cfg) && old.pem.equal(&pem) {
			return old, nil
		}
		stats = old.stats
	}
	up, err := newUpstream(cfg, pem, stats)
	if err != nil || up.files != nil {
		return up, err
	}
	if old != nil && old.files == nil {
		if up.pool, up.budget, up.delays = old.pool, old.budget, old.delays; old.cfg.sameLink(cfg) && old.pem.equal(&pem) {
			up.links = old.links
		}
		return up, nil
	}
	up.budget, up.delays = new(budget), new(delays)
	up.pool, err = pool.New(up.poolConfig(), log)
	return up, err
}

// pemFiles are the contents of the files that a configuration names.
type pemFiles struct{ authorities, certificate, key []byte }

func (f *pemFiles) equal(other *pemFiles) bool {
	return bytes.Equal(f.authorities, other.authorities) && bytes.Equal(f.certificate, other.certificate) && bytes.Equal(f.key, other.key)
}

func readPEM(cfg *Config) (f pemFiles, err error) {
	for _, file := range []struct {
		key, name string
		content   *[]byte
	}{{"ca", cfg.CA, &f.authorities}, {"certificate", cfg.Certificate, &f.certificate}, {"key", cfg.Key, &f.key}} {
		if file.name == "" {
			continue
		}
		if *file.content, err = os.ReadFile(file.name); err != nil {
			return f, fmt.Errorf("%s: %w", file.key, err)
		}
	}
	return f, nil
}

// Close takes all origins away and closes idle connections. Requests under way
// end with their contexts; later ones fail.
func (t *Transport) Close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = true
	for _, up := range *t.upstreams.Swap(&map[string]*upstream{}) {
		up.retire()
	}
	t.wake()
}

// Run looks up and probes endpoints until ctx ends, and returns when all that it
// started is gone. Origins whose endpoints are configured and not probed work without.
func (t *Transport) Run(ctx context.Context) error {
	var work sync.WaitGroup
	defer work.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	running := map[*pool.Pool]context.CancelFunc{}
	for {
		wanted := map[*pool.Pool]bool{}
		for _, up := range *t.upstreams.Load() {
			if up.pool == nil {
				continue
			}
			wanted[up.pool] = true
			if running[up.pool] == nil {
				ctx, stop := context.WithCancel(ctx)
				running[up.pool] = stop
				work.Go(func() { _ = up.pool.Run(ctx) }) // it returns when told to, with nil
			}
		}
		for p, stop := range running {
			if !wanted[p] {
				stop()
				delete(running, p)
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-t.changed:
		}
	}
}

func (t *Transport) wake() {
	select {
	case t.changed <- struct{}{}:
	default:
	}
}

// Pools yields the pool of each configured origin that has one, by name.
func (t *Transport) Pools() iter.Seq2[string, *pool.Pool] {
	return func(yield func(string, *pool.Pool) bool) {
		upstreams := *t.upstreams.Load()
		for _, name := range slices.Sorted(maps.Keys(upstreams)) {
			if p := upstreams[name].pool; p != nil && !yield(name, p) {
				return
			}
		}
	}
}

// Stats yields the statistics of each configured origin, by name.
func (t *Transport) Stats() iter.Seq2[string, *Stats] {
	return func(yield func(string, *Stats) bool) {
		upstreams := *t.upstreams.Load()
		for _, name := range slices.Sorted(maps.Keys(upstreams)) {
			if !yield(name, upstreams[name].stats) {
				return
			}
		}
	}
}

// RoundTrip sends a request to the origin and for the target that WithTarget put
// into its context, with the request's Host unless the origin has its own.
//
// Errors are *Error, or context.Canceled when the caller ended the request. They
// may also come from the response's Body: only io.EOF says that it is whole, and
// not even that if Delimited says so. The Body must be closed, and ends with the
// request's context; after status 101 it is an io.ReadWriteCloser, the upgraded
// connection, which ends when it is closed and not before. A client trace in the
// context is called as net/http does, for 1xx responses too, of which there may
// be 16.
//
// A request is sent again, to another endpoint where there is one, as long as it may
// be (call.go), and the caller sees the last try. It may also be sent twice to one
// endpoint, which Stats counts as Repeated: when a connection that had been used
// before turns out closed before a byte of the answer, the request has no body, and it
// is idempotent; and over HTTP/2 when the origin says that
// it did not process it.
func (t *Transport) RoundTrip(r *http.Request) (*http.Response, error) {
	to, ok := r.Context().Value(destinationKey{}).(destination)
	if !ok {
		closeBody(r)
		return nil, errorf(KindInternal, "the request's context names no origin")
	}
	up, err := t.upstream(r, to.origin)
	if err != nil {
		return nil, err
	}
	if up.files != nil {
		return up.files.roundTrip(r, to.target)
	}
	resp, fields, err := up.roundTrip(message{Request: r, target: to.target, fields: listOf(r.Header), trace: httptrace.ContextClientTrace(r.Context())}, nil)
	if err != nil {
		return nil, err
	}
	if resp.Header == nil {
		resp.Header = mapOf(fields)
	}
	return resp, nil
}

// Forward is RoundTrip for those who have the fields of a header as a list, names in
// lower case, and want no maps of them: r.Header and what the context says of the
// target are not looked at, and the fields of the response are in the list alone,
// which is the caller's. keyed says that a request with an Idempotency-Key is
// idempotent whatever its method. early takes the fields of 1xx responses, but those are its
// own during the call only.
//
// room, which may be nil, keeps what a request is made of for the next one: whoever
// passes it again says that nothing of the response before is looked at any more,
// neither its fields nor its body. It holds something only once that response is over, to
// the end of its body, and nobody here knows r, fields or early any longer.
func (t *Transport) Forward(r *http.Request, origin, target string, fields []Field, keyed bool, early func(status int, fields []Field), room *any) (*http.Response, []Field, error) {
	up, err := t.upstream(r, origin)
	if err != nil {
		return nil, nil, err
	}
	var resp *http.Response
	if up.files != nil {
		out := r.WithContext(r.Context())
		out.Header = mapOf(fields)
		resp, err = up.files.roundTrip(out, target)
	} else {
		resp, fields, err = up.roundTrip(message{Request: r, target: target, fields: fields, keyed: keyed, early: early}, room)
	}
	if err != nil {
		return nil, nil, err
	}
	if resp.Header != nil {
		fields, resp.Header = lowered(resp.Header), nil
	}
	return resp, fields, nil
}

// upstream returns the origin of that name. Where there is none r's body is closed.
func (t *Transport) upstream(r *http.Request, name string) (*upstream, error) {
	up := (*t.upstreams.Load())[name]
	if up == nil {
		closeBody(r)
		return nil, errorf(KindNotFound, "no origin is configured under the name %q", name)
	}
	return up, nil
}

// Delimited says that a response's body ends where its connection does: nobody
// can tell a whole one from a part, so that it must not be stored (RFC 9112 8).
func Delimited(r *http.Response) bool {
	return r.ProtoMajor == 1 && r.ContentLength < 0 && len(r.TransferEncoding) == 0 &&
		r.StatusCode != http.StatusSwitchingProtocols && r.Body != http.NoBody
}

func closeBody(r *http.Request) {
	if r.Body != nil {
		_ = r.Body.Close() // the error that is returned says more
	}
}

func canceled(ctx context.Context) bool { return errors.Is(ctx.Err(), context.Canceled) }
