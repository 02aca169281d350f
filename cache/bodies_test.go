package cache

import (
	"io"
	"net/http"
	"sync/atomic"
	"testing"
)

// bodies counts the bodies of an origin's responses that are not closed: each holds a
// connection.
type bodies struct{ open atomic.Int64 }

// watch counts the body of a response.
func (c *bodies) watch(resp *http.Response) {
	if _, tunnel := resp.Body.(io.Writer); tunnel || resp.Body == nil || resp.Body == http.NoBody {
		return
	}
	c.open.Add(1)
	resp.Body = &watchedBody{ReadCloser: resp.Body, of: c}
}

type watchedBody struct {
	io.ReadCloser
	of     *bodies
	closed atomic.Bool
}

func (b *watchedBody) Close() error {
	if b.closed.CompareAndSwap(false, true) {
		b.of.open.Add(-1)
	}
	return b.ReadCloser.Close()
}

// TestPartOfWhatIsNotStored: a range of something that may not be stored, from an
// origin that answers with the whole, or with an error, holds no connection.
func TestPartOfWhatIsNotStored(t *testing.T) {
	bothTiers(t, func(t *testing.T, disk bool) {
		b, o := newRangingBed(t, 900<<10, disk)
		o.noRanges = true
		status := 200
		b.origin.answers[""] = func(r *http.Request) (*http.Response, error) {
			resp, err := o.answer(r)
			resp.StatusCode = status
			resp.Header.Set("Cache-Control", "no-store")
			return resp, err
		}
		for _, status = range []int{200, 404} {
			path := map[int]string{200: "/a", 404: "/b"}[status]
			w := b.do(t.Context(), b.request("GET", path, Field{"range", "bytes=1000-1009"}))
			if n := b.origin.bodies.open.Load(); w.status != status || n != 0 {
				t.Errorf("status %d, want %d; %d bodies left open", w.status, status, n)
			}
		}
	})
}
