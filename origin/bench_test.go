package origin

import (
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"edgecdn/cmd/origin/script"
)

// BenchmarkRoundTrip costs a miss on the way to the origin: 1 kB over a kept
// HTTP/1.1 connection. The scripted origin's own work is in it.
func BenchmarkRoundTrip(b *testing.B) {
	server := httptest.NewServer(script.New())
	b.Cleanup(server.Close)
	transport, err := New(map[string]Config{"o": {URL: server.URL}}, nil)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(transport.Close)
	r, err := http.NewRequestWithContext(WithTarget(b.Context(), "o", "/_origin/respond?size=1000"), "GET", "http://client.example/", nil)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		resp, err := transport.RoundTrip(r)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, resp.Body); err != nil {
			b.Fatal(err)
		}
		resp.Body.Close()
	}
}
