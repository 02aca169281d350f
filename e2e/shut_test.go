package e2e

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// Handlers that wait for windows, many to a stored response that is still being
// filled, while the collector runs all the time: what it frees too early ends the
// process within seconds.
func TestCollectorWithShutWindows(t *testing.T) {
	t.Setenv("E2E_ORIGIN", startOrigin(t).url)
	t.Setenv("GOGC", "5")
	t.Setenv("GOMAXPROCS", "8")
	n, _ := startConfigured(t, strings.NewReplacer("stall_timeout: 2s", "stall_timeout: 500ms", "bytes: 64MiB", "bytes: 16MiB").Replace(attackConfig))
	v := &victim{node: n, tls: trust(t, n)}
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Second)
	defer cancel()
	var clients sync.WaitGroup
	var round atomic.Int64
	for range 4 {
		clients.Go(func() {
			for ctx.Err() == nil && n.running() {
				v.shut(ctx, round.Add(1))
			}
		})
	}
	clients.Wait()
	unharmed(t, n)
	if round.Load() < 8 {
		t.Errorf("only %d connections", round.Load())
	}
}

// shut asks for four new URLs many times, lets nothing through, and after a while
// opens the windows, resets half of the streams and closes.
func (v *victim) shut(ctx context.Context, round int64) {
	conn, err := dialTLS(ctx, v.node, v.tls, "h2")
	if err != nil {
		return
	}
	defer conn.Close()
	out := bufio.NewWriterSize(conn, 16<<10)
	f := &h2Flood{Framer: http2.NewFramer(out, conn)}
	f.encoder = hpack.NewEncoder(&f.block)
	_, _ = out.WriteString(http2.ClientPreface) // errors come at Flush
	_ = f.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
	read := make(chan struct{})
	go func() { defer close(read); io.Copy(io.Discard, conn) }()
	for i := range int64(100) {
		f.headers(f.next(), fmt.Sprintf("/video/1MB.bin?n=%d", round*4+i%4), true)
	}
	_ = out.Flush() // where it fails the connection is over, which shows below
	select {
	case <-ctx.Done():
	case <-time.After(time.Duration(400+round%7*50) * time.Millisecond):
	}
	if round%3 == 0 {
		_ = f.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 30_000})
		for i := range uint32(50) {
			_ = f.WriteRSTStream(i*2+1, http2.ErrCodeCancel)
			_ = f.WriteWindowUpdate(0, 100_000)
		}
		_ = out.Flush()
	}
	conn.Close()
	<-read
}
