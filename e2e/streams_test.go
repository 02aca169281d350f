package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
)

func TestWebSocket(t *testing.T) {
	n := startEdge(t, startOrigin(t))
	for _, url := range []string{"ws://" + n.http, "wss://" + n.https} {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		transport := newTransport(t, n, "h1").(*http.Transport)
		conn, _, err := websocket.Dial(ctx, url+"/_origin/ws", &websocket.DialOptions{
			HTTPClient:   &http.Client{Transport: transport},
			Subprotocols: []string{"echo"},
		})
		if err != nil {
			t.Fatalf("%s: %v", url, err)
		}
		defer conn.CloseNow()
		if conn.Subprotocol() != "echo" {
			t.Errorf("%s: subprotocol %q", url, conn.Subprotocol())
		}
		conn.SetReadLimit(1 << 20)
		for _, message := range []string{"", "one", strings.Repeat("long ", 20_000)} {
			if err := conn.Write(ctx, websocket.MessageText, []byte(message)); err != nil {
				t.Fatalf("%s: %v", url, err)
			}
			if _, got, err := conn.Read(ctx); err != nil || string(got) != message {
				t.Fatalf("%s: sent %d bytes, got %d back, %v", url, len(message), len(got), err)
			}
		}
		if err := conn.Close(websocket.StatusNormalClosure, ""); err != nil {
			t.Errorf("%s: close: %v", url, err)
		}
	}
}

// Extended CONNECT is refused on purpose for now (RFC 8441, RFC 9220).
func TestNoConnect(t *testing.T) {
	n := startEdge(t, startOrigin(t))
	for _, protocol := range []string{"h2", "h3"} {
		c := newClient(t, n, protocol)
		req, err := http.NewRequest(http.MethodConnect, c.base, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := c.Transport.RoundTrip(req)
		if err != nil {
			t.Errorf("%s: CONNECT: %v", protocol, err)
			continue
		}
		resp.Body.Close()
		if resp.StatusCode != 501 {
			t.Errorf("%s: CONNECT answered %d", protocol, resp.StatusCode)
		}
	}
}

// Events arrive one by one while the response goes on, and the origin hears of
// it when the client leaves.
func TestServerSentEvents(t *testing.T) {
	o := startOrigin(t)
	n := startEdge(t, o)
	for _, protocol := range protocols {
		c := newClient(t, n, protocol)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		resp, err := c.Do(c.request(t, "GET", "/_origin/sse?interval=200ms&count=10000", nil).WithContext(ctx))
		if err != nil {
			t.Fatalf("%s: %v", protocol, err)
		}
		defer resp.Body.Close()
		if got := resp.Header.Get("Content-Type"); got != "text/event-stream" {
			t.Errorf("%s: Content-Type %q", protocol, got)
		}
		lines := bufio.NewScanner(resp.Body)
		seen := 0
		for seen < 3 && lines.Scan() {
			if strings.HasPrefix(lines.Text(), "data: event ") {
				seen++
			}
		}
		if seen < 3 {
			t.Errorf("%s: %d events, then %v", protocol, seen, lines.Err())
		}
		cancel()
		eventually(t, protocol+": the origin is left alone when the client leaves", func() bool { return originActive(t, o) == 0 })
	}
}

func originActive(t *testing.T, o *sampleOrigin) int64 {
	t.Helper()
	resp, err := (&http.Client{Timeout: 10 * time.Second}).Get(o.url + "/_origin/stats")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var stats struct{ Active int64 }
	if err := json.NewDecoder(resp.Body).Decode(&stats); err != nil {
		t.Fatal(err)
	}
	return stats.Active
}
