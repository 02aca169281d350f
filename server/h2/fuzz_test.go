package h2

import (
	"encoding/hex"
	"io"
	"log/slog"
	"net"
	"net/http"
	"testing"
	"time"

	"edgecdn/access"
	"edgecdn/cache"
	"edgecdn/route"
	"edgecdn/server/gate"
)

// FuzzConnection has a connection read anything: it must neither panic nor hang,
// nor keep more than its bounds, and every exchange that began must end.
func FuzzConnection(f *testing.F) {
	settings := appendHeader(nil, 0, kindSettings, 0, 0)
	request := append(appendHeader(nil, len(plainRequest), kindHeaders, 5, 1), plainRequest...)
	upload := append(appendHeader(nil, len(plainRequest), kindHeaders, 4, 1), plainRequest...)
	for _, parts := range [][][]byte{
		{},
		{settings, request},
		{settings, request, appendRST(nil, 1, codeCancel)},
		{settings, upload, append(appendHeader(nil, 5, kindData, 1, 1), "hello"...)},
		{settings, upload, append(appendHeader(nil, 7, kindData, 9, 1), 2, 'a', 'b', 'c', 'd', 0, 0)},
		{settings, upload, append(appendHeader(nil, 4, kindHeaders, 5, 1), 0, 1, 'a', 0)},
		{appendSetting(appendHeader(nil, 6, kindSettings, 0, 0), settingInitialWindow, 0), request, appendWindowUpdate(nil, 1, 3), appendWindowUpdate(nil, 0, 1<<20)},
		{settings, appendHeader(nil, 1, kindHeaders, 0, 1), {0x82}, appendHeader(nil, 3, kindContinuation, 4, 1), {0x86, 0x84, 0x41}},
		{settings, append(appendHeader(nil, 8, kindPriorityUpdate, 0, 0), "\x00\x00\x00\x01u=0,"...), request},
		{settings, append(appendHeader(nil, 8, kindPing, 0, 0), "12345678"...), appendGoAway(nil, 0, codeNo)},
	} {
		var all []byte
		for _, part := range parts {
			all = append(all, part...)
		}
		f.Add(all)
	}
	table, err := route.NewTable([]route.Host{{Names: []string{"*"}, Policy: route.Policy{Origin: "o"}}})
	if err != nil {
		f.Fatal(err)
	}
	seam := gate.Seam{
		Match: table.Match, Judge: access.New().Judge, Lookup: func(*cache.Request) (cache.Hit, bool) { return cache.Hit{}, false },
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			n, _ := io.Copy(io.Discard, r.Body)
			_, _ = w.Write(make([]byte, min(n*100, 1<<20)+10))
		}),
	}
	limits := gate.Limits{StallTimeout: 50 * time.Millisecond, IdleTimeout: 50 * time.Millisecond, HeaderTimeout: 50 * time.Millisecond, Streams: 8, HeaderBytes: 4096}
	g, err := gate.New(seam, limits, gate.AccessLog{Format: "off"}, slog.New(slog.DiscardHandler))
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		var stats Stats
		e := New(&gate.Door{Gate: g, Scheme: "http"}, &stats)
		client, server := net.Pipe()
		done := make(chan struct{})
		c := newConn(e, server, nil)
		e.enter(c)
		go func() {
			defer close(done)
			defer e.leave(c)
			c.run()
		}()
		go func() { _, _ = io.Copy(io.Discard, client) }()
		_ = client.SetDeadline(time.Now().Add(patience))
		if _, err := client.Write(append([]byte(preface), in...)); err == nil {
			c.mu.Lock()
			if n := c.pending(); n > pendingBytesMax+inlineBytes || len(c.streams)+c.orphans > 8 || cap(c.block) > 3*frameBytesMax || cap(c.hpack.arena) > 2*tableBytesMax {
				t.Errorf("pending %d, streams %d, block %d, table %d", n, len(c.streams)+c.orphans, cap(c.block), cap(c.hpack.arena))
			}
			c.mu.Unlock()
		}
		_ = client.Close()
		select {
		case <-done:
		case <-time.After(patience):
			t.Fatalf("hangs on\n%s", hex.Dump(in))
		}
		eventually(t, "the end of all exchanges", func() bool { return g.Inflight() == 0 })
	})
}
