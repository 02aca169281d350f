package origin

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// TestRoom: what a request was made of serves the next one, and is left to nobody while
// somebody may still know it.
func TestRoom(t *testing.T) {
	_, cfg := scripted(t, "h1")
	f := open(t, cfg)
	var room any
	ask := func(ctx context.Context, method, target string, body io.Reader) (*http.Response, []Field) {
		t.Helper()
		r, err := http.NewRequestWithContext(ctx, method, "http://client.example/", body)
		if err != nil {
			t.Fatal(err)
		}
		resp, fields, err := f.Forward(r, "o", target, nil, false, nil, &room)
		if err != nil {
			t.Fatal(err)
		}
		return resp, fields
	}
	var first any
	for i := range 20 { // lengths and fields differ, so that what is left over would show
		ctx, stop := context.WithCancel(t.Context())
		size, value := (20-i)*700, strings.Repeat(string(rune('a'+i)), 60-3*i)
		resp, fields := ask(ctx, "GET", fmt.Sprintf("/_origin/respond?size=%d&header=X-V:%s&trailer=X-End:%d", size, value, i), nil)
		if i > 0 && resp != &first.(*call).link.resp {
			t.Fatal("it was not used again")
		}
		if room != nil {
			t.Fatal("left before the end of the body")
		}
		got, err := io.ReadAll(resp.Body)
		if err != nil || len(got) != size {
			t.Fatal(len(got), err)
		}
		want(t, "field", firstOf(fields, "x-v"), value)
		want(t, "trailer", resp.Trailer.Get("X-End"), fmt.Sprint(i))
		resp.Body.Close()
		if room == nil || i > 0 && room != first {
			t.Fatalf("request %d left %v", i, room)
		}
		first = room
		stop() // ends nothing any more
	}
	resp, _ := ask(t.Context(), "GET", "/_origin/respond?status=304", nil)
	resp.Body.Close()
	if room != first {
		t.Error("an answer without a body left nothing")
	}
	resp, _ = ask(t.Context(), "GET", "/_origin/respond?size=100000", nil)
	resp.Body.Close()
	if room != nil {
		t.Error("left with a body that was given up")
	}
	resp, _ = ask(t.Context(), "POST", "/_origin/echo", bytes.NewReader(make([]byte, 100)))
	_, _ = io.Copy(io.Discard, resp.Body) // what it is does not matter
	resp.Body.Close()
	if room != nil {
		t.Error("left though it had a body to send")
	}
}

// TestRoomOfHedge: the other try may go on for a while.
func TestRoomOfHedge(t *testing.T) {
	f := among(t, func(cfg *Config) { cfg.Hedging = Hedging{Enabled: true, DelayMin: time.Millisecond} },
		serve(t).address, serve(t).address)
	for range 2 * delaySamples {
		resp, err := f.do("GET", "/", nil)
		finish(t, resp, err)
	}
	var room any
	for range 3 {
		resp, _, err := f.Forward(f.request(t.Context(), "GET", "/", nil), "o", "/", nil, false, nil, &room)
		finish(t, resp, err)
		if room != nil {
			t.Fatal("left by a request that may have been at two endpoints")
		}
	}
}
