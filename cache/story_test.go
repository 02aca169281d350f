package cache

// Stories: one file in testdata/stories for each rule or bug, run against the
// real handler and store in a synctest bubble, so that an hour costs nothing.
//
// The archive's comment is the script, its files are the origin's answers
// (status line, fields, blank line, body) and, as route.yaml, the route's rules.
// Script lines:
//
//	origin NAME [PATH]      answers (for PATH, or for all) come from file NAME; "down": no answer
//	METHOD TARGET           a request (get, head, post, put, delete, options, purge);
//	                        indented lines below are its fields
//	rules FILE              the route's rules are those of a file from here on, as after a reload
//	authority NAME          requests from here on go to it
//	want KEY VALUE          of the last response: status, body, aborted, a field name,
//	                        or decoded: the body without its content coding
//	lacks NAME              the last response has no such field
//	requests N              the origin has seen so many requests since last asked
//	saw NAME VALUE          the origin's last request had this field, or as :method this method
//	unseen NAME             ... and not this one
//	seen-like NAME PATTERN  the origin's last request had this field, * for any text
//	sleep DURATION
//	purge [soft] KIND [NAME]  of the host that requests go to; for host: NAME
//	sweep                   until all purges are swept
//	fence, unfence          what was stored before is not used, or used again
//	restart, crash          with what is on disk; crash: with what had been written

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/textproto"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.yaml.in/yaml/v4"
	"golang.org/x/tools/txtar"

	"edgecdn/cache/store"
	"edgecdn/route"
)

func TestStories(t *testing.T) {
	files, err := filepath.Glob("testdata/stories/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("no stories", err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		name := strings.TrimSuffix(filepath.Base(file), ".txt") + sectionOf(data)
		for _, tiers := range []string{"memory", "tiered"} {
			t.Run(name+"/"+tiers, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { runStory(t, txtar.Parse(data), tiers == "tiered") })
			})
		}
	}
}

// sectionOf returns what a story's first line says that it is about, for its name:
// ":RFC9111-4.2.3,5.1"; nothing where the rule is our own.
func sectionOf(story []byte) string {
	first, _, _ := strings.Cut(string(story), "\n")
	found := regexp.MustCompile(`RFC (\d+)((?: [\d.]*\d)(?:, [\d.]*\d)*)?`).FindStringSubmatch(first)
	if found == nil {
		return ""
	}
	return ":RFC" + found[1] + strings.Replace(strings.ReplaceAll(found[2], ", ", ","), " ", "-", 1)
}

// bed is a cache over a scripted origin and a real store.
type bed struct {
	dir    string // of the disk tier
	t      *testing.T
	cache  *Cache
	table  *route.Table
	origin *scriptedOrigin
	last   *recorder
	// authority of requests; a.test where empty.
	authority string
	close     func()
	log       purgeLog
	// rules are all that were in force.
	rules []matchFunc
	// wrap makes what stands between the cache and its store.
	wrap []func(Keeper) Keeper
}

func newBed(t *testing.T, host route.Host, disk bool, wrap ...func(Keeper) Keeper) *bed {
	t.Helper()
	cfg := store.DiskConfig{}
	if disk {
		cfg = store.DiskConfig{Path: t.TempDir(), Bytes: 64 << 20}
	}
	return newBedOn(t, host, cfg, wrap...)
}

// newBedOn is newBed with this disk tier, none where its path is empty.
func newBedOn(t *testing.T, host route.Host, disk store.DiskConfig, wrap ...func(Keeper) Keeper) *bed {
	t.Helper()
	b := &bed{dir: disk.Path, t: t, wrap: wrap, origin: &scriptedOrigin{answers: map[string]answerFunc{}}}
	if err := b.apply(host); err != nil {
		t.Fatal(err)
	}
	b.open(disk)
	t.Cleanup(func() { b.close() })
	return b
}

// apply puts rules in force, as a reload does.
func (b *bed) apply(host route.Host) error {
	host.Names, host.Origin = []string{"*"}, "o"
	table, err := route.NewTable([]route.Host{host})
	if err != nil {
		return err
	}
	b.table, b.rules = table, append(b.rules[:len(b.rules):len(b.rules)], table.Match)
	if b.cache != nil {
		b.cache.RememberRules(b.rules)
		b.cache.match = table.Match
	}
	return nil
}

// open makes the cache and its store, and runs them until close.
func (b *bed) open(disk store.DiskConfig) {
	t := b.t
	cfg := store.Config{Memory: store.MemoryConfig{Bytes: 64 << 20}, Prepare: Prepare}
	if disk.Path != "" {
		cfg.Disk = []store.DiskConfig{disk}
	}
	tiered, err := store.Open(cfg, nil)
	if err != nil {
		t.Fatal(err)
	}
	var kept Keeper = tiered
	for _, wrap := range b.wrap {
		kept = wrap(kept)
	}
	b.replay(tiered, func() {
		b.cache = New(Config{Store: kept, Origin: b.origin, Match: b.table.Match,
			Direct: func(ctx context.Context, _, target string) context.Context {
				return context.WithValue(ctx, targetKey{}, target)
			}})
		b.cache.RememberRules(b.rules)
	})
	ctx, cancel := context.WithCancel(context.Background())
	ran := make(chan error, 2)
	go func() { ran <- tiered.Run(ctx) }()
	go func() { ran <- b.cache.Run(ctx) }()
	b.close = func() {
		b.cache.Close()
		cancel()
		for range 2 {
			if err := <-ran; err != nil && !errors.Is(err, context.Canceled) {
				t.Error("Run:", err)
			}
		}
		if err := tiered.Close(); err != nil {
			t.Error("store.Close:", err)
		}
		if n := b.origin.bodies.open.Load(); n != 0 {
			t.Errorf("%d bodies of the origin's were not closed", n)
		}
	}
}

type targetKey struct{}

type answerFunc func(*http.Request) (*http.Response, error)

// scriptedOrigin answers from a script and remembers what it was asked.
type scriptedOrigin struct {
	mu       sync.Mutex
	answers  map[string]answerFunc // by path; "" for all
	requests int
	last     *http.Request
	bodies   bodies
}

func (o *scriptedOrigin) RoundTrip(r *http.Request) (*http.Response, error) {
	path, _ := splitTarget(r.Context().Value(targetKey{}).(string))
	o.mu.Lock()
	o.requests++
	o.last = r
	answer := o.answers[path]
	if answer == nil {
		answer = o.answers[""]
	}
	o.mu.Unlock()
	if r.Body != nil {
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			return nil, err
		}
	}
	resp, err := answer(r)
	if err == nil {
		o.bodies.watch(resp)
	}
	return resp, err
}

// scripted parses an origin's answer. {date} is the time of the answer, {date-1h}
// an hour before. X-Delay: 1s delays it, X-Cut breaks its body off.
func scripted(data []byte) answerFunc {
	return func(r *http.Request) (*http.Response, error) {
		text := string(data)
		for {
			before, rest, ok := strings.Cut(text, "{date")
			if !ok {
				break
			}
			shift, after, _ := strings.Cut(rest, "}")
			d := time.Duration(0)
			if shift != "" {
				var err error
				if d, err = time.ParseDuration(shift); err != nil {
					return nil, err
				}
			}
			text = before + httpDate(time.Now().Add(d)) + after
		}
		in := textproto.NewReader(bufio.NewReader(strings.NewReader(text)))
		line, err := in.ReadLine()
		if err != nil {
			return nil, err
		}
		resp := &http.Response{Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Request: r}
		if _, err := fmt.Sscan(line, &resp.StatusCode); err != nil {
			return nil, err
		}
		h, err := in.ReadMIMEHeader()
		if err != nil && err != io.EOF {
			return nil, err
		}
		body, err := io.ReadAll(in.R)
		body = bytes.TrimSuffix(body, []byte("\n"))
		if coding := h.Get("X-Encode"); coding != "" {
			body = inCoding(coding, body)
		}
		resp.Header, resp.ContentLength = http.Header(h), int64(len(body))
		resp.Header.Set("Content-Length", fmt.Sprint(len(body)))
		if r.Method == http.MethodHead || resp.StatusCode == 304 {
			body = nil
		}
		resp.Body = io.NopCloser(bytes.NewReader(body))
		if delay := h.Get("X-Delay"); delay != "" {
			d, err := time.ParseDuration(delay)
			if err != nil {
				return nil, err
			}
			time.Sleep(d)
		}
		if cut := h.Get("X-Cut"); cut != "" { // breaks off after the body
			resp.ContentLength += 100
			resp.Body = io.NopCloser(io.MultiReader(bytes.NewReader(body), errReader{}))
		}
		return resp, err
	}
}

type errReader struct{}

func (errReader) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

// recorder is a client: it keeps what net/http would have sent.
type recorder struct {
	header  http.Header
	status  int
	sent    http.Header
	early   []http.Header
	body    bytes.Buffer
	aborted bool
	at      time.Time       // of the header
	slow    func()          // called before each write
	gone    context.Context // writes fail when it is done
}

func (w *recorder) Header() http.Header { return w.header }

func (w *recorder) WriteHeader(status int) {
	switch {
	case status < 200 && status != 101:
		w.early = append(w.early, w.header.Clone())
	case w.status == 0:
		w.status, w.sent, w.at = status, w.header.Clone(), time.Now()
	}
}

func (w *recorder) Write(p []byte) (int, error) {
	if w.status == 0 {
		w.WriteHeader(200)
	}
	if w.slow != nil {
		w.slow()
	}
	if w.gone != nil && w.gone.Err() != nil {
		return 0, w.gone.Err()
	}
	return w.body.Write(p)
}

func (w *recorder) Flush() {}

func (b *bed) request(method, target string, fields ...Field) *Request {
	rt, err := b.table.Match("a.test", target)
	if err != nil {
		b.t.Fatal(target, err)
	}
	authority := cmp.Or(b.authority, "a.test")
	return &Request{Method: method, Scheme: "https", Authority: authority, Host: strings.TrimSuffix(strings.ToLower(authority), ":443"), Target: target,
		Fields: fields, Client: netip.MustParseAddrPort("192.0.2.7:1234"), Proto: HTTP2, Route: rt}
}

// do sends a request the way an engine does.
func (b *bed) do(ctx context.Context, r *Request) *recorder {
	w := &recorder{header: http.Header{}}
	b.serve(ctx, w, r)
	return w
}

func (b *bed) serve(ctx context.Context, w *recorder, r *Request) {
	if hit, ok := b.cache.Lookup(r); ok {
		defer hit.Release()
		for _, f := range hit.AppendFields(nil) {
			w.header.Add(f.Name, f.Value)
		}
		w.WriteHeader(hit.Status)
		if r.Method != "HEAD" {
			_, _ = w.Write(hit.Body())
		}
		return
	}
	hr, _ := http.NewRequestWithContext(NewContext(ctx, r), r.Method, "https://a.test/", strings.NewReader("upload"))
	hr.ProtoMajor, hr.Proto = 2, "HTTP/2.0"
	defer func() {
		if p := recover(); p == http.ErrAbortHandler {
			w.aborted = true
		} else if p != nil {
			panic(p)
		}
	}()
	b.cache.ServeHTTP(w, hr)
}

func runStory(t *testing.T, story *txtar.Archive, disk bool) {
	files := map[string][]byte{}
	for _, f := range story.Files {
		files[f.Name] = f.Data
	}
	var host route.Host
	if err := yaml.Load(files["route.yaml"], &host); err != nil && files["route.yaml"] != nil {
		t.Fatal("route.yaml:", err)
	}
	b := newBed(t, host, disk)
	lines := strings.Split(string(story.Comment), "\n")
	for i := 0; i < len(lines); i++ {
		line := strings.TrimRight(lines[i], " ")
		if line == "" || line[0] == '#' {
			continue
		}
		var fields []Field
		for i+1 < len(lines) && strings.HasPrefix(lines[i+1], "  ") {
			i++
			name, value, _ := strings.Cut(strings.TrimSpace(lines[i]), ":")
			fields = append(fields, Field{strings.ToLower(name), strings.TrimSpace(value)})
		}
		verb, rest, _ := strings.Cut(line, " ")
		if err := b.step(verb, rest, fields, files); err != nil {
			t.Errorf("line %d: %s: %v", i+1, line, err)
		}
	}
}

func (b *bed) step(verb, rest string, fields []Field, files map[string][]byte) error {
	arg, value, _ := strings.Cut(rest, " ")
	switch verb {
	case "origin":
		b.origin.mu.Lock()
		defer b.origin.mu.Unlock()
		if arg == "down" {
			b.origin.answers[value] = func(*http.Request) (*http.Response, error) { return nil, errors.New("down") }
			return nil
		}
		if files[arg] == nil {
			return errors.New("no such file")
		}
		b.origin.answers[value] = scripted(files[arg])
	case "rules":
		var host route.Host
		if err := yaml.Load(files[arg], &host); err != nil {
			return err
		}
		return b.apply(host)
	case "authority":
		b.authority = arg
	case "purge", "sweep", "restart", "crash", "fence", "unfence":
		if !strings.HasPrefix(arg, "/") {
			return b.purgeStep(verb, strings.Fields(rest))
		}
		fallthrough
	case "get", "head", "post", "put", "delete", "options":
		r := b.request(strings.ToUpper(verb), arg, fields...)
		r.HasBody = verb == "post" || verb == "put"
		b.last = b.do(context.Background(), r)
		synctest.Wait()
	case "want":
		return b.want(arg, value)
	case "lacks":
		if v, ok := b.last.sent[http.CanonicalHeaderKey(arg)]; ok {
			return fmt.Errorf("got %q", v)
		}
	case "requests", "saw", "unseen", "seen-like":
		return b.origin.check(verb, arg, value)
	case "sleep":
		d, err := time.ParseDuration(arg)
		time.Sleep(d)
		return err
	default:
		return errors.New("no such step")
	}
	return nil
}

func (b *bed) want(key, value string) error {
	var got string
	switch key {
	case "status":
		got = fmt.Sprint(b.last.status)
	case "body":
		got = b.last.body.String()
	case "decoded":
		got = decoded(b.last)
	case "aborted":
		got = fmt.Sprint(b.last.aborted)
	default:
		got = strings.Join(b.last.sent.Values(key), ", ")
	}
	if got != value {
		return fmt.Errorf("got %q", got)
	}
	return nil
}

func (o *scriptedOrigin) check(verb, arg, value string) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch verb {
	case "requests":
		n := o.requests
		o.requests = 0
		if fmt.Sprint(n) != arg {
			return fmt.Errorf("the origin saw %d", n)
		}
	case "saw":
		got := strings.Join(o.last.Header.Values(arg), ", ")
		if arg == ":method" {
			got = o.last.Method
		}
		if got != value {
			return fmt.Errorf("the origin saw %q", got)
		}
	case "seen-like":
		got := strings.Join(o.last.Header.Values(arg), ", ")
		if ok, err := path.Match(value, got); err != nil || !ok {
			return fmt.Errorf("the origin saw %q", got)
		}
	case "unseen":
		if got, ok := o.last.Header[http.CanonicalHeaderKey(arg)]; ok && got != nil {
			return fmt.Errorf("the origin saw %q", got)
		}
	}
	return nil
}
