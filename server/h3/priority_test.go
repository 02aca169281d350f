package h3

import (
	"io"
	"net/http"
	"sync/atomic"
	"testing"

	"github.com/quic-go/quic-go"

	"edgecdn/cache"
)

// TestOrder has the urgent one of two answers go first, hit or not, whether the
// field or a PRIORITY_UPDATE says so (RFC 9218 5, 7, 10).
func TestOrder(t *testing.T) {
	const size = 300_000
	for _, tt := range []struct {
		name, path, first, second, update string
	}{
		{"hits", "/300000", "u=7", "u=0", ""},
		{"handlers", "/h/", "u=7", "u=0", ""},
		{"hits, told before", "/300000", "u=1", "u=7", "u=0"},
		{"handlers, told before", "/h/", "u=1", "u=7", "u=0"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, n *network) {
				e := start(t, setup{network: n, handler: func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(content(size)) }})
				newTalk(t, e.dial()).ask(headersFrame(getFields("/300000")...)).response()
				c := newTalk(t, e.dial(func(q *quic.Config) {
					q.InitialConnectionReceiveWindow, q.MaxConnectionReceiveWindow = 16<<10, 16<<10
					q.InitialStreamReceiveWindow, q.MaxStreamReceiveWindow = 1<<20, 1<<20
				}))
				if tt.update != "" {
					before := e.stats.Ignored.Load()
					control(frame(framePriorityRequest, append(varints(4), tt.update...)))(c)
					eventually(t, "the update read", func() bool { return e.stats.Ignored.Load() > before })
				}
				request := func(priority string) []byte {
					return headersFrame(getFields(tt.path, cache.Field{Name: "priority", Value: priority})...)
				}
				slow := c.ask(request(tt.first))
				slow.head()
				fast := c.ask(request(tt.second))
				var got atomic.Int64
				done := make(chan struct{})
				go func() {
					defer close(done)
					buf := make([]byte, 1000)
					for {
						n, err := slow.in.Read(buf)
						got.Add(int64(n))
						if err != nil {
							return
						}
					}
				}()
				if _, err := io.CopyN(io.Discard, fast.in, 20_000); err != nil { // it is being written
					t.Fatal(err)
				}
				before := got.Load()
				if n, err := io.Copy(io.Discard, fast.in); err != nil || n < size-20_000 {
					t.Errorf("%d bytes, %v", n, err)
				}
				// What is under way when it is overtaken: one window of the connection.
				// Shared evenly it would have as much as the other.
				if took := got.Load() - before; took > size/4 {
					t.Errorf("the other one had %d of %d bytes in the meantime", took, size)
				}
				<-done
			})
		})
	}
}
