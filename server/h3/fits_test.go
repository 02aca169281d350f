package h3

import (
	"net/http"
	"strings"
	"testing"
)

// No header is sent that is longer than what the client's
// SETTINGS_MAX_FIELD_SECTION_SIZE allows (RFC 9114 4.2.2).
func TestSectionSizes(t *testing.T) {
	handler := func(w http.ResponseWriter, r *http.Request) {
		long := strings.Repeat("x", 3000)
		switch r.URL.Path {
		case "/h/hint":
			w.Header().Set("Link", long)
			w.WriteHeader(http.StatusEarlyHints)
			w.Header().Del("Link")
		case "/h/trailer":
			w.Header().Set(http.TrailerPrefix+"Sum", long)
		case "/h/long":
			w.Header().Set("X-Long", long)
		}
		_, _ = w.Write([]byte("content"))
	}
	for _, tt := range []struct {
		name, path string
		most       uint64
		status     string // "": reset
		body       string
	}{
		{"no bound that matters", "/h/long", 1 << 40, "200", "content"},
		{"fits", "/h/long", 4000, "200", "content"},
		{"too long", "/h/long", 1000, "500", ""},
		{"a short one", "/h/", 1000, "200", "content"},
		{"an early hint", "/h/hint", 1000, "200", "content"},
		{"trailers", "/h/trailer", 1000, "200", "content"},
		{"not even a 500", "/h/long", 50, "", ""},
		{"a hit", "/1000", 150, "500", ""},
		{"a hit that fits", "/1000", 4000, "200", string(content(1000))},
		{"not even a 500 for a hit", "/1000", 50, "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := start(t, setup{handler: handler})
			if !strings.HasPrefix(tt.path, "/h/") { // into memory
				client := e.client()
				get(t, client, tt.path)
				client.CloseIdleConnections()
				eventually(t, "the connection is gone", func() bool { return e.connections() == 0 })
			}
			c := newTalk(t, e.dial())
			settings(settingMaxFieldSectionSize, tt.most)(c)
			eventually(t, "the settings have arrived", func() bool { return e.sectionMax() == tt.most+1 })
			for range 2 {
				s := c.ask(headersFrame(getFields(tt.path)...))
				if tt.status == "" {
					s.wantReset(codeInternalError)
					continue
				}
				if a := s.response(); a.status() != tt.status || a.body != tt.body {
					t.Errorf("%s, %d bytes, want %s and %d", a.status(), len(a.body), tt.status, len(tt.body))
				}
			}
			if short := e.stats.SectionsTooLong.Load() == 0; short != (tt.status == "200") {
				t.Errorf("%d counted", e.stats.SectionsTooLong.Load())
			}
		})
	}
}
