package cache

// fill.go is one fetch for the store and those who follow it.
//
// Life: begin (registered under its key, so that others may join) -> the header
// is judged, ready is closed -> the body grows, followers read what is there ->
// complete or broken. The fill's own goroutine writes; followers read at their
// own pace from the store's Writer, then from what it committed. A fill goes on
// when its first client leaves, and a slow one holds up nobody: only when the
// store takes no more (overflow) does the fetch wait for its readers, within
// tailMax bytes.
//
// Locks: Cache.mu before fill.mu; neither is held during I/O of others than the
// store's ReadAt.

import (
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"

	"edgecdn/cache/store"
)

type verdict int

const (
	verdictFollow verdict = iota + 1 // the body can be read from the fill
	verdictLive                      // not storable: the first client gets it, the others ask again
	verdictFailed                    // no response
	verdictAgain                     // nothing to read here: what is stored now answers
)

const (
	// tailMax bounds what a fill holds of a body that the store would not take.
	tailMax = 1 << 20
	// abandonMax is the most that a fill still fetches when nobody reads it.
	abandonMax = 64 << 20
	// earlyMax bounds the 1xx responses relayed for one request.
	earlyMax = 8
)

var (
	errAbandoned = errors.New("cache: nobody is left to read the response")
	errBroken    = errors.New("cache: the response broke off")
)

type earlyResponse struct {
	status int
	fields []Field
}

type fill struct {
	cache   *Cache
	request *Request // a copy that outlives the client's
	found   found    // what was known when it began; owns found.stored
	joined  string   // key that others join by; "" if nobody may
	variant string   // secondary key and its marker, once the header is known and varies
	varies  *response
	slice   *slice   // what is fetched is a part of a body (slices.go)
	keys    []string // in Cache.fills, guarded by Cache.mu
	ctx     context.Context
	cancel  context.CancelFunc
	order   uint64     // of the last purge when the fetch began; changes before ready alone, under Cache.mu
	named   store.Meta // hashes of what is known from the start of what a purge can name
	// overtaken: a fetch for the same has begun since, because of a purge. What this
	// one brings must not take the place of what that one does.
	overtaken atomic.Bool
	ofKnown   bool // it fetches a slice of a manifest that is known

	ready chan struct{} // closed when what follows is set
	verdict
	resp      *response
	length    int64 // of the body; -1 while unknown
	fwdStatus int
	detail    string
	proxy     string   // Proxy-Status of an answer by another origin
	announced bool     // trailers were announced
	kept      bool     // the body was stored before, it is not fetched
	fetched   *fetched // with verdictLive
	sliceKey  string   // of the slice that the body is
	storing   bool
	err       error

	mu       sync.RWMutex
	moved    chan struct{} // closed and replaced whenever something below changes
	early    []earlyResponse
	live     *http.Response
	gone     bool // the first client left before ready
	written  int64
	done     bool
	broken   error
	trailers []Field
	writer   store.Writer
	stored   *store.Stored // after Commit, or from the start if nothing is fetched
	readers  map[*follower]int64
	tail     []byte // bytes from tailAt on, once the store takes no more
	tailAt   int64
	overflow bool
}

// follower is one reader of a fill.
type follower struct {
	fill *fill
	off  int64
}

// signal wakes everybody who waits for the fill; called with mu held.
func (f *fill) signal() {
	close(f.moved)
	f.moved = make(chan struct{})
}

// await returns when the header has been judged, relaying early responses.
func (f *fill) await(ctx context.Context, early func(earlyResponse)) error {
	sent := 0
	for {
		f.mu.RLock()
		hints, moved := f.early[sent:], f.moved
		f.mu.RUnlock()
		for _, e := range hints {
			early(e)
		}
		sent += len(hints)
		select {
		case <-f.ready:
			return nil
		case <-moved:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (f *fill) addEarly(status int, fields []Field) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.early) < earlyMax {
		f.early = append(f.early, earlyResponse{status, slices.Clone(fields)})
		f.signal()
	}
}

// follow adds a reader; leave must be called. It may be called before ready, so
// that the fill knows that somebody waits.
func (f *fill) follow() *follower {
	r := &follower{fill: f}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.readers[r] = 0
	return r
}

// leave ends a follower. The last one gives back what the fill held for them.
func (r *follower) leave() {
	f := r.fill
	f.mu.Lock()
	delete(f.readers, r)
	f.signal()
	unwanted := len(f.readers) == 0 && !f.done && (f.overflow || f.storing && !f.worthFinishing())
	if len(f.readers) == 0 && f.done {
		f.letGo()
	}
	f.mu.Unlock()
	if unwanted {
		f.giveUp()
	}
}

// giveUp breaks the fetch off, unless somebody joined it meanwhile; nobody can any
// more.
func (f *fill) giveUp() {
	c := f.cache
	c.mu.Lock()
	defer c.mu.Unlock()
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.readers) == 0 {
		c.unlist(f)
		f.cancel()
	}
}

func (f *fill) worthFinishing() bool {
	return f.length >= 0 && f.length-f.written <= abandonMax || f.length < 0 && f.written <= abandonMax
}

// letGo releases the body; called with mu held when done and nobody reads.
func (f *fill) letGo() {
	if f.stored != nil {
		f.stored.Close()
		f.stored = nil
	}
	if f.writer != nil {
		f.writer.Abort()
		f.writer = nil
	}
}

// read reads the body at the follower's position, waiting for bytes that have
// not arrived. io.EOF after the last byte of a complete body.
func (r *follower) read(ctx context.Context, p []byte) (int, error) {
	for {
		n, moved, err := r.fill.tryRead(p, r.off)
		if n > 0 || err != nil {
			r.advance(int64(n))
			return n, err
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
}

// reader returns the body from the follower's position on.
func (r *follower) reader(ctx context.Context) io.Reader {
	return readerFunc(func(p []byte) (int, error) { return r.read(ctx, p) })
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// advance moves the follower; in overflow the fetch may be waiting for that.
func (r *follower) advance(n int64) {
	r.off += n
	r.fill.mu.Lock()
	defer r.fill.mu.Unlock()
	r.fill.readers[r] = r.off
	if r.fill.overflow {
		r.fill.signal()
	}
}

// tryRead reads what is there at off; nothing and no error: wait for moved.
func (f *fill) tryRead(p []byte, off int64) (n int, moved chan struct{}, err error) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	n, err = f.readAt(p, off)
	return n, f.moved, err
}

// readAt returns what is there at off, 0 and nil where nothing is yet. Called
// with mu held for reading.
func (f *fill) readAt(p []byte, off int64) (int, error) {
	have := f.written - off
	if f.storing && !f.done && f.written == f.length {
		have-- // the last byte waits for the commit: who has the whole body finds it stored
	}
	if have <= 0 {
		switch {
		case f.broken != nil:
			return 0, f.broken
		case f.done:
			return 0, io.EOF
		}
		return 0, nil
	}
	p = p[:min(int64(len(p)), have)]
	if f.overflow && off >= f.tailAt {
		return copy(p, f.tail[off-f.tailAt:]), nil
	}
	if f.overflow {
		p = p[:min(int64(len(p)), f.tailAt-off)]
	}
	var from io.ReaderAt = f.writer
	if f.stored != nil {
		from = f.stored
	}
	n, err := from.ReadAt(p, off)
	if n == len(p) {
		err = nil
	}
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// add appends bytes to the body. An error means that fetching on is pointless.
func (f *fill) add(p []byte) error {
	if !f.overflow {
		if _, err := f.writer.Write(p); err == nil {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.written += int64(len(p))
			f.signal()
			return nil
		}
		f.cache.stats.StoreErrors.Add(1)
		f.spill()
	}
	return f.addTail(p)
}

// spill stops storing: what comes from now on is held only until it is read.
func (f *fill) spill() {
	f.cache.forget(f)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.overflow, f.tailAt, f.storing = true, f.written, false
}

func (f *fill) addTail(p []byte) error {
	for {
		f.mu.Lock()
		f.trimTail()
		if len(f.readers) == 0 {
			f.mu.Unlock()
			return errAbandoned
		}
		if len(f.tail)+len(p) <= tailMax {
			f.tail = append(f.tail, p...)
			f.written += int64(len(p))
			f.signal()
			f.mu.Unlock()
			return nil
		}
		moved := f.moved
		f.mu.Unlock()
		select {
		case <-moved:
		case <-f.ctx.Done():
			return f.ctx.Err()
		}
	}
}

// trimTail drops what every follower has read; called with mu held.
func (f *fill) trimTail() {
	low := f.written
	for _, off := range f.readers {
		low = min(low, off)
	}
	if n := low - f.tailAt; n > 0 {
		f.tail = append(f.tail[:0], f.tail[n:]...)
		f.tailAt = low
	}
}

// finish ends the body: complete when broken is nil. Whoever joins does so before,
// and is counted, or not at all: the body is let go with its last reader.
func (f *fill) finish(stored *store.Stored, broken error) {
	f.cache.forget(f)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.done, f.broken = true, broken
	if stored != nil {
		f.stored, f.writer = stored, nil
	}
	f.signal()
	if len(f.readers) == 0 {
		f.letGo()
	}
}

// progress says how much of the body is there and whether the store takes it.
func (f *fill) progress() (written int64, done, storing bool) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.written, f.done, f.storing
}

// endTrailers returns the trailers of a complete body.
func (f *fill) endTrailers() []Field {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.trailers
}

// offer hands a response that cannot be stored to the first client, or closes it
// when that client has gone.
func (f *fill) offer(resp *http.Response) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.gone {
		_ = resp.Body.Close() // nobody wants the body, so nobody wants its error
		f.cancel()
		return
	}
	f.live = resp
}

// take returns the response that was offered, once.
func (f *fill) take() *http.Response {
	f.mu.Lock()
	defer f.mu.Unlock()
	resp := f.live
	f.live = nil
	return resp
}

// abandon is the first client leaving before the header was judged.
func (f *fill) abandon() {
	f.mu.Lock()
	f.gone = true
	f.mu.Unlock()
	if resp := f.take(); resp != nil {
		_ = resp.Body.Close()
		f.cancel()
	}
}
