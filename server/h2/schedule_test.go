package h2

import (
	"fmt"
	"net/http"
	"slices"
	"testing"

	"golang.org/x/net/http2"
)

func TestParsePriority(t *testing.T) {
	for value, want := range map[string]priority{
		"":                     {3, true},
		"u=0":                  {0, true},
		"u=7, i":               {7, false},
		"i":                    {3, false},
		"u=5;a=b,\ti=?1 , x=2": {5, false},
		"i=?0, u=1":            {1, true},
		"u=8, u=-1, u=11, i=1": {3, true},
		"U=1, I":               {3, true},
	} {
		if got := parsePriority(value); got != want {
			t.Errorf("%q: %v, want %v", value, got, want)
		}
	}
}

// asked is a request of TestOrder: its priority field, "-" for none.
type asked struct{ path, priority string }

// TestOrder: whose DATA goes first, once the connection's window opens after all
// were asked for.
func TestOrder(t *testing.T) {
	const size = 3 * frameBytesMax
	o := cached(t, sized)
	inner := o.handler
	o.handler = func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/handler" { // as large, but written by a handler
			_, _ = w.Write(make([]byte, size))
			return
		}
		inner(w, r)
	}
	e := start(t, o)
	stored := fmt.Sprintf("/a-%d", size)
	warm(t, e.inClear(), stored, "/b-65535")
	update := func(id byte, value string) func(w *wire) {
		return raw(kindPriorityUpdate, 0, 0, append([]byte{0, 0, 0, id}, value...)...)
	}
	for _, test := range []struct {
		name  string
		asked []asked
		more  func(w *wire)
		first func(w *wire)
		want  []uint32 // streams of the frames
	}{
		{"nobody says anything: all share", []asked{{stored, "-"}, {stored, "-"}, {stored, "-"}}, nil, nil, []uint32{3, 5, 7, 3, 5, 7, 3, 5, 7}},
		{"urgency first", []asked{{stored, "u=5"}, {stored, "u=1"}, {stored, "-"}}, nil, nil, []uint32{5, 5, 5, 7, 7, 7, 3, 3, 3}},
		{"not incremental: one after the other", []asked{{stored, "u=3"}, {stored, "u=3"}, {stored, "u=3"}}, nil, nil, []uint32{3, 3, 3, 5, 5, 5, 7, 7, 7}},
		{"incremental: shared", []asked{{stored, "i"}, {stored, "i"}}, nil, nil, []uint32{3, 5, 3, 5, 3, 5}},
		{"a PRIORITY_UPDATE for an open stream", []asked{{stored, "u=3"}, {stored, "u=3"}}, update(5, "u=2"), nil, []uint32{5, 5, 5, 3, 3, 3}},
		{"a PRIORITY_UPDATE before the request", []asked{{stored, "u=3"}, {stored, "u=3"}}, nil, update(5, "u=2"), []uint32{5, 5, 5, 3, 3, 3}},
		{"both kinds of one urgency take turns", []asked{{stored, "u=3"}, {stored, "i"}}, nil, nil, []uint32{3, 5, 3, 5, 3, 5}},
		{"handlers and hits alike", []asked{{"/handler", "u=4"}, {stored, "u=3"}}, nil, nil, []uint32{5, 5, 5, 3, 3, 3}},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := e.dial(t, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 20})
			w.get(1, "/b-65535") // takes all of the connection's window
			for read := 0; read < windowDefault; {
				until(w, func(f *http2.DataFrame) bool { read += len(f.Data()); return true })
			}
			if test.first != nil {
				test.first(w)
			}
			for i, a := range test.asked {
				var more []string
				if a.priority != "-" {
					more = []string{"priority", a.priority}
				}
				id := uint32(2*i + 3)
				w.get(id, a.path, more...)
				until(w, func(f *http2.HeadersFrame) bool { return f.StreamID == id })
			}
			if test.more != nil {
				test.more(w)
			}
			w.send(func() error { return w.framer.WriteWindowUpdate(0, 1<<20) })
			var got []uint32
			for len(got) < len(test.want) {
				until(w, func(f *http2.DataFrame) bool { got = append(got, f.StreamID); return true })
			}
			if !slices.Equal(got, test.want) {
				t.Errorf("%v, want %v", got, test.want)
			}
		})
	}
}
