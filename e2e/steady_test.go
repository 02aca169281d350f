package e2e

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/coder/websocket"
)

const steadyConfig = `server: {http: ["{http}"], https: ["{https}"], access_log: {format: "off"}, limits: {connections: 4VERSION}, h2c: true}
admin: {listen: "{admin}"}
data: "{data}"
origins: {site: {url: "ORIGIN"}}
hosts: [{names: ["*"], origin: site, response: {set: {X-Version: "VERSION"}}}]
`

// Reloads under load, twenty of them or a hundred with EDGE_FULL, cost nobody anything: no request fails, downloads go
// on, and so does a WebSocket.
func TestReloadsUnderLoad(t *testing.T) {
	o := startOrigin(t)
	text := strings.Replace(steadyConfig, "ORIGIN", o.url, 1)
	n, file := startConfigured(t, strings.ReplaceAll(text, "VERSION", "000"))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	conn, _, err := websocket.Dial(ctx, "ws://"+n.http+"/_origin/ws", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.CloseNow()
	reloads, pause := 20, "100ms"
	if os.Getenv("EDGE_FULL") != "" {
		reloads, pause = 100, "400ms"
	}
	const size = 2_000_000
	var downloads, load sync.WaitGroup
	for _, protocol := range everyProtocol {
		c := newClient(t, n, protocol)
		resp, err := c.Do(c.request(t, "GET", respond("size", fmt.Sprint(size), "chunks", "25", "chunk_delay", pause, "for", protocol), nil))
		if err != nil {
			t.Fatal(err)
		}
		downloads.Go(func() {
			defer resp.Body.Close()
			hash := sha256.New()
			if _, err := io.Copy(hash, resp.Body); err != nil || hex.EncodeToString(hash.Sum(nil)) != patternSum(size) {
				t.Errorf("%s: download: %v", protocol, err)
			}
		})
	}
	var answered atomic.Int64
	v := &victim{node: n, small: "/video/1kB.bin", big: "/video/1MB.bin"}
	for _, protocol := range everyProtocol {
		c := newClient(t, n, protocol)
		load.Go(func() { v.useWell(ctx, t, c, &answered) })
	}
	watcher := newClient(t, n, "h1")
	for version := 1; version <= reloads; version++ {
		writeFile(t, file+".new", n.fill(strings.ReplaceAll(text, "VERSION", fmt.Sprintf("%03d", version))))
		if err := os.Rename(file+".new", file); err != nil {
			t.Fatal(err)
		}
		n.signal(t, syscall.SIGHUP)
		eventually(t, fmt.Sprintf("version %d is in force", version), func() bool {
			return watcher.get(t, v.small).Header.Get("X-Version") == fmt.Sprintf("%03d", version)
		})
		message := "version " + strconv.Itoa(version)
		if err := conn.Write(ctx, websocket.MessageText, []byte(message)); err != nil {
			t.Fatalf("WebSocket: %v", err)
		}
		if _, got, err := conn.Read(ctx); err != nil || string(got) != message {
			t.Fatalf("WebSocket: %q, %v", got, err)
		}
	}
	downloads.Wait()
	cancel()
	load.Wait()
	t.Logf("%d requests answered", answered.Load())
	if got := metric(t, n, "edge_config_reload_failures_total"); got != 0 || answered.Load() < 20 {
		t.Errorf("%v reloads failed, %d requests answered", got, answered.Load())
	}
}
