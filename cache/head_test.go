package cache

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"edgecdn/cache/store"
	"edgecdn/route"
)

// HEAD on a miss is answered by the header of a GET, before its body has come, and
// what comes is stored.
func TestHeadStartsAFill(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		body, in := io.Pipe()
		b.origin.answers[""] = answering(200, body, 8, "Cache-Control", "max-age=60", "ETag", `"1"`)
		head := b.do(context.Background(), b.request("HEAD", "/a"))
		if head.status != 200 || head.sent.Get("Content-Length") != "8" || head.body.Len() > 0 {
			t.Error(head.status, head.sent)
		}
		go func() { _, _ = in.Write([]byte("halffull")); _ = in.Close() }()
		if get := b.do(context.Background(), b.request("GET", "/a")); get.body.String() != "halffull" || b.origin.requests != 1 {
			t.Error(get.status, get.body.String(), b.origin.requests)
		}
	})
}

// All who ask at once share one fetch, whichever of them is first; where its answer
// may not be stored, each HEAD goes on as a HEAD.
func TestHeadsCollapse(t *testing.T) {
	for control, want := range map[string]int{"max-age=60": 1, "private": 100} {
		inBubble(t, func(t *testing.T, b *bed) {
			gets := 0
			b.origin.answers[""] = func(r *http.Request) (*http.Response, error) {
				time.Sleep(time.Second)
				b.origin.mu.Lock()
				defer b.origin.mu.Unlock()
				if r.Method == http.MethodGet {
					gets++
				}
				return answering(200, bytes.NewReader([]byte("body")), 4, "Cache-Control", control, "Content-Length", "4")(r)
			}
			var wg sync.WaitGroup
			for range 100 {
				wg.Go(func() {
					w := b.do(context.Background(), b.request("HEAD", "/a"))
					if w.status != 200 || w.body.Len() > 0 || w.sent.Get("Content-Length") != "4" {
						t.Error(w.status, w.sent, w.body.Len())
					}
				})
			}
			wg.Wait()
			if b.origin.requests != want || gets != 1 {
				t.Errorf("%s: %d requests, %d of them GET", control, b.origin.requests, gets)
			}
		})
	}
}

// newLargeBed has room on disk for what is larger than abandonMax, over an origin
// that has such a thing and sends the whole of it only.
func newLargeBed(t *testing.T, etag string) (*bed, *ranging) {
	b := newBedOn(t, route.Host{}, store.DiskConfig{Path: t.TempDir(), Bytes: 4 << 30})
	o := &ranging{size: abandonMax + 16<<20, etag: etag, noRanges: true}
	b.origin.answers[""] = o.answer
	return b, o
}

// HEAD of what is large costs no more of its body than a bound: none where it may
// not be stored, a slice where it can be had in parts, and where it is stored whole
// the fetch ends when more is missing than would be fetched for nobody.
func TestHeadCostsNoBody(t *testing.T) {
	for _, tt := range []struct {
		name   string
		fields []string // instead of the origin's own
		served int64
	}{
		{"private", []string{"Cache-Control", "private"}, 0},
		{"slices", nil, sliceBytes + copyBytes},
		{"whole", []string{"Accept-Ranges", "none"}, copyBytes},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b, o := newLargeBed(t, `"v1"`)
				b.origin.answers[""] = func(r *http.Request) (*http.Response, error) {
					resp, err := o.answer(r)
					for i := 0; i < len(tt.fields); i += 2 {
						resp.Header.Set(tt.fields[i], tt.fields[i+1])
					}
					// Time passes when all others wait: the client has left, whoever is slow.
					body := resp.Body
					resp.Body = io.NopCloser(readerFunc(func(p []byte) (int, error) {
						time.Sleep(time.Millisecond)
						return body.Read(p)
					}))
					return resp, err
				}
				w := b.do(context.Background(), b.request("HEAD", "/video"))
				time.Sleep(time.Second) // for as much of the body as is wanted
				synctest.Wait()
				if w.status != 200 || w.sent.Get("Content-Length") != fmt.Sprint(o.size) || w.aborted {
					t.Error(w.status, w.sent, w.aborted)
				}
				if o.served > tt.served || b.cache.stats.Fills.Load() != 0 || b.cache.stats.Truncated.Load() != 0 {
					t.Errorf("%d bytes of the body were fetched, %d fills under way, %d broken off",
						o.served, b.cache.stats.Fills.Load(), b.cache.stats.Truncated.Load())
				}
			})
		})
	}
}

// A fetch that nobody reads any more is not joined while it breaks off.
func TestNobodyJoinsWhatIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBedOn(t, route.Host{}, store.DiskConfig{Path: t.TempDir(), Bytes: 4 << 30})
		gate := make(chan struct{})
		b.origin.answers[""] = func(r *http.Request) (*http.Response, error) {
			breaking := readerFunc(func([]byte) (int, error) { <-gate; return 0, io.ErrUnexpectedEOF })
			return answering(200, breaking, abandonMax+1, "Cache-Control", "max-age=60")(r)
		}
		b.do(context.Background(), b.request("HEAD", "/a"))
		synctest.Wait()
		b.origin.answers[""] = answering(200, bytes.NewReader([]byte("new")), 3, "Cache-Control", "max-age=60")
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if w := b.do(ctx, b.request("GET", "/a")); w.aborted || w.body.String() != "new" {
			t.Error(w.aborted, w.body.String())
		}
		close(gate)
	})
}
