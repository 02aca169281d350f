package cache

import (
	"context"
	"io"
	"net/http"
	"testing"
	"testing/synctest"
)

// Who has the whole body may ask again at once, and then finds it stored: the
// last byte waits for the commit.
func TestWholeBodyMeansStored(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		body, in := io.Pipe()
		b.origin.answers[""] = answering(200, body, 8, "Cache-Control", "max-age=60")
		w := &recorder{header: http.Header{}}
		served := make(chan struct{})
		go func() {
			defer close(served)
			b.serve(context.Background(), w, b.request("GET", "/a"))
		}()
		_, _ = in.Write([]byte("allthere"))
		synctest.Wait()
		if got := w.body.String(); got != "allther" {
			t.Errorf("before the end of the fetch the client has %q", got)
		}
		_ = in.Close()
		<-served
		if got := w.body.String(); got != "allthere" {
			t.Errorf("the client has %q", got)
		}
		if again := b.do(context.Background(), b.request("GET", "/a")); again.sent.Get("Cache-Status") != "edge; hit; ttl=60" {
			t.Errorf("the next one: %s", again.sent.Get("Cache-Status"))
		}
	})
}
