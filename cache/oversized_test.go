package cache

import (
	"bytes"
	"context"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
)

// What is too large to be kept, or to be a key, passes: it fails nobody.
func TestOversizedPasses(t *testing.T) {
	long := strings.Repeat("x", 40<<10)
	for _, tt := range []struct {
		name, target string
		fields       []Field  // of the request
		header       []string // of the response
		status       [2]string
	}{
		{"target", "/" + long, nil, nil, [2]string{"edge; fwd=request", "edge; fwd=request"}},
		{"header", "/a", nil, []string{"X-Long", strings.Repeat(long, 4)},
			[2]string{"edge; fwd=uri-miss; detail=store-full", "edge; fwd=uri-miss; detail=hit-for-miss"}},
		{"variant", "/a", []Field{{"cookie", long}}, []string{"Vary", "Cookie"},
			[2]string{"edge; fwd=uri-miss; ttl=60; stored", "edge; hit; ttl=60"}},
		{"names", "/a", nil, []string{"Vary", strings.Repeat(long, 4)},
			[2]string{"edge; fwd=uri-miss; detail=store-full", "edge; fwd=uri-miss; detail=hit-for-miss"}},
		{"group", "/a", nil, []string{"Cache-Tag", long},
			[2]string{"edge; fwd=uri-miss; detail=too-many-groups", "edge; fwd=uri-miss; detail=hit-for-miss"}},
		{"tag", "/a", []Field{{"if-none-match", `"` + long + `"`}}, []string{"Etag", `"` + long + `"`},
			[2]string{"edge; fwd=uri-miss; fwd-status=200; ttl=60; stored", "edge; hit; ttl=60"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, b *bed) {
				b.origin.answers[""] = func(r *http.Request) (*http.Response, error) {
					return answering(200, bytes.NewReader([]byte("body")), 4, append([]string{"Cache-Control", "max-age=60"}, tt.header...)...)(r)
				}
				for i, want := range tt.status {
					w := b.do(context.Background(), b.request("GET", tt.target, tt.fields...))
					synctest.Wait() // a 304 does not wait for the fill's end
					if got := w.sent.Get("Cache-Status"); got != want || w.status != 304 && w.body.String() != "body" {
						t.Errorf("%d: %d %q, %d bytes", i, w.status, got, w.body.Len())
					}
				}
			})
		})
	}
}
