package h2

import (
	"runtime"
	"strings"
	"testing"

	"golang.org/x/net/http2"
)

// TestExpandingBlocks: a block whose bytes each stand for a large entry of the table
// neither fills memory nor keeps a processor busy, whatever the entry is.
func TestExpandingBlocks(t *testing.T) {
	for _, test := range []struct{ what, name, value string }{
		{"value", "x-bomb", strings.Repeat("b", 3900)},
		{"name", strings.Repeat("b", 3900), ""},
		{"unknown pseudo-header field", ":" + strings.Repeat("b", 3900), ""},
	} {
		t.Run(test.what, func(t *testing.T) {
			e := start(t, setup{})
			w := e.dial(t)
			w.get(1, "/", "x-before", "1")
			until(w, func(f *http2.HeadersFrame) bool { return f.StreamID == 1 })
			bomb := append(w.encode(test.name, test.value), make([]byte, 12_000)...)
			for i := len(bomb) - 12_000; i < len(bomb); i++ {
				bomb[i] = 0x80 | 62 // 47 MB in all
			}
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			w.send(func() error { return w.framer.WriteRawFrame(http2.FrameHeaders, 5, 3, bomb) })
			if reason, said := w.goneWith(); !said || reason != http2.ErrCodeEnhanceYourCalm {
				t.Errorf("ended with %v", reason)
			}
			runtime.ReadMemStats(&after)
			if n := after.TotalAlloc - before.TotalAlloc; n > 4<<20 {
				t.Errorf("%d bytes allocated", n)
			}
			if n := e.stats.HeaderFloods.Load(); n != 1 {
				t.Errorf("%d floods counted", n)
			}
		})
	}
}
