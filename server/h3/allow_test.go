package h3

// allow_test.go does what RFC 9114, RFC 9204 and RFC 9218 allow, however odd.

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"edgecdn/cache"
)

// reading is a handler that reads the body and says what it was told.
func reading(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	fmt.Fprintf(w, "%s %s host=%s body=%q length=%d cookie=%q trailer=%v te=%q", r.Method, r.RequestURI, r.Host, body, r.ContentLength, r.Header["Cookie"], r.Trailer, r.Header["Te"])
}

// allowed is a request that is answered.
type allowed struct {
	section, name string
	request       [][]byte
	status, want  string
}

func allowedRequests() []allowed {
	grease := frame(0x1f*5+0x21, []byte("grease"))
	return []allowed{
		{"4.1", "a plain request", [][]byte{good}, "200", "GET /h/ host=edge.test body=\"\" length=0"},
		{"4.1", "a body without content-length", [][]byte{post, dataFrame("ab"), dataFrame("cd")}, "200", `body="abcd" length=-1`},
		{"4.1", "an empty body", [][]byte{post}, "200", `body="" length=0`},
		{"4.1", "a GET with a body", [][]byte{good, dataFrame("ab")}, "200", `body="ab" length=-1`},
		{"4.1", "trailers", [][]byte{post, dataFrame("ab"), headersFrame(cache.Field{Name: "sum", Value: "1"})}, "200", `trailer=map[Sum:[1]]`},
		{"4.1", "trailers without a body", [][]byte{good, headersFrame(cache.Field{Name: "sum", Value: "1"})}, "200", `trailer=map[Sum:[1]]`},
		{"RFC 9110 6.5.1", "trailers that say how a message is processed are left out", [][]byte{post, dataFrame("ab"), headersFrame(cache.Field{Name: "sum", Value: "1"}, cache.Field{Name: "authorization", Value: "x"})}, "200", `trailer=map[Sum:[1]]`},
		{"RFC 9110 10.1.1", "an expectation that is not understood", with("expect", "wonders"), "417", ""},
		{"4.1", "empty DATA frames", [][]byte{post, dataFrame(""), dataFrame("ab"), dataFrame("")}, "200", `body="ab"`},
		{"4.1", "empty DATA frames and nothing else", [][]byte{good, dataFrame(""), dataFrame("")}, "200", `body=""`},
		{"4.2", "te: trailers", with("te", "trailers"), "200", "GET"},
		{"4.2.1", "many cookies are one", with("cookie", "a=1", "x", "y", "cookie", "b=2", "cookie", "c=3"), "200", `cookie=["a=1; b=2; c=3"]`},
		{"4.3.1", "host instead of authority", only(":method", "GET", ":scheme", "https", ":path", "/h/", "host", "edge.test"), "200", "host=edge.test"},
		{"4.3.1", "host and the same authority", with("host", "edge.test"), "200", "host=edge.test"},
		{"4.3.1", "a scheme that is not served", only(":method", "GET", ":scheme", "http", ":authority", "edge.test", ":path", "/h/"), "421", ""},
		{"4.3.1", "a scheme in upper case", only(":method", "GET", ":scheme", "HTTPS", ":authority", "edge.test", ":path", "/h/"), "200", "GET"},
		{"4.3.1", "OPTIONS *", only(":method", "OPTIONS", ":scheme", "https", ":authority", "edge.test", ":path", "*"), "200", "OPTIONS *"},
		{"4.3.1", "an authority with userinfo", only(":method", "GET", ":scheme", "https", ":authority", "me@edge.test", ":path", "/h/"), "400", ""},
		{"4.3.1", "a path without a slash", only(":method", "GET", ":scheme", "https", ":authority", "edge.test", ":path", "h/"), "400", ""},
		{"4.4", "CONNECT is refused", only(":method", "CONNECT", ":authority", "edge.test:443"), "501", ""},
		{"RFC 9220 3", "extended CONNECT is refused", only(":method", "CONNECT", ":protocol", "websocket", ":scheme", "https", ":authority", "edge.test", ":path", "/h/"), "501", ""},
		{"9", "unknown frames before, between and after", [][]byte{grease, post, grease, dataFrame("ab"), grease, dataFrame("c"), grease, headersFrame(cache.Field{Name: "sum", Value: "1"}), grease}, "200", `body="abc"`},
		{"9", "a long unknown frame", [][]byte{frame(0x21, make([]byte, 10_000)), post, frame(0x21, make([]byte, 10_000)), dataFrame("ab")}, "200", `body="ab"`},
		{"RFC 9000 16", "lengths longer than they need be", [][]byte{append([]byte{0x40, frameHeaders, 0x80, 0, 0, byte(len(good) - 2)}, good[2:]...)}, "200", "GET /h/"},
		{"RFC 9204 4.5.1", "a delta base", [][]byte{frame(frameHeaders, append([]byte{0, 5}, good[4:]...))}, "200", "GET /h/"},
		{"RFC 9204 4.5.4", "a literal that is never indexed", [][]byte{frame(frameHeaders, append(append([]byte{}, good[2:]...), 0x75, 3, 'a', '=', '1'))}, "200", `cookie=["a=1"]`},
		{"RFC 9204 4.1.1", "an integer with padding", [][]byte{frame(frameHeaders, append(append([]byte{}, good[2:]...), 0x27, 0x80, 0x80, 0x00, 'l', 'e', 'n', 'g', 't', 'h', 'y', 1, 'x'))}, "200", "GET"},
		{"RFC 9218 5", "a priority that cannot be read", with("priority", "u=9, \"", "priority", "i=?7"), "200", "GET"},
	}
}

func TestAllowedRequests(t *testing.T) {
	e := start(t, setup{handler: reading})
	c := newTalk(t, e.dial())
	for _, tt := range allowedRequests() {
		t.Run(tt.section+" "+tt.name, func(t *testing.T) {
			c.t = t
			resp := c.ask(tt.request...).response()
			if resp.status() != tt.status || !strings.Contains(resp.body, tt.want) {
				t.Errorf("%s %q, want %s %q", resp.status(), resp.body, tt.status, tt.want)
			}
		})
	}
}

// odd is something beside requests that leaves the connection as it is.
type odd struct {
	section, name string
	do            func(c *talk)
}

func allowedElsewhere() []odd {
	return []odd{
		{"5.2", "GOAWAY that goes down", control(frame(frameGoaway, varints(8)), frame(frameGoaway, varints(8)), frame(frameGoaway, varints(4)))},
		{"6.2", "no streams of the client's at all", func(*talk) {}},
		{"6.2", "a stream closed before its type", func(c *talk) {
			s, err := c.q.OpenUniStreamSync(c.bounded())
			if err != nil {
				c.t.Fatal(err)
			}
			_, _ = s.Write([]byte{0x40})
			_ = s.Close()
		}},
		{"6.2", "a stream reset before its type", func(c *talk) {
			s, err := c.q.OpenUniStreamSync(c.bounded())
			if err != nil {
				c.t.Fatal(err)
			}
			_, _ = s.Write([]byte{0x40})
			s.CancelWrite(codeNoError)
		}},
		{"6.2.3", "unknown streams", func(c *talk) {
			for i := range uint64(40) {
				_ = c.uni(0x21+0x1f*i, []byte("whatever")).Close()
			}
		}},
		{"7.2.4", "unknown settings", settings(0x21, 0, 0x33, 1, 1<<40, 1<<60)},
		{"7.2.4", "settings that concern us not", settings(settingTableCapacity, 4096, settingBlockedStreams, 100, settingMaxFieldSectionSize, 65536, settingExtendedConnect, 1)},
		{"7.2.7", "MAX_PUSH_ID that goes up", control(frame(frameMaxPushID, varints(0)), frame(frameMaxPushID, varints(0)), frame(frameMaxPushID, varints(7)))},
		{"9", "unknown frames on the control stream", control(frame(0x21, nil), frame(0x21+0x1f, make([]byte, 10_000)))},
		{"RFC 9204 4.3.1", "a capacity of 0", encoder(0x20, 0x20)},
		{"RFC 9204 4.4.2", "the cancellation of a stream", decoder(0x40, 0x7f, 0x10)},
		{"RFC 9218 7.2", "PRIORITY_UPDATE before and after the request", func(c *talk) {
			control(frame(framePriorityRequest, append(varints(0), "u=1, i"...)), frame(framePriorityRequest, append(varints(8), "u=0"...)), frame(framePriorityRequest, append(varints(0), "\x00no list"...)))(c)
		}},
	}
}

// TestAllowedElsewhere does odd things beside requests, and then makes some.
func TestAllowedElsewhere(t *testing.T) {
	e := start(t, setup{})
	for _, tt := range allowedElsewhere() {
		t.Run(tt.section+" "+tt.name, func(t *testing.T) {
			c := newTalk(t, e.dial())
			tt.do(c)
			c.wantAlive()
			c.wantAlive()
		})
	}
}

// TestSettings has ours say what holds (RFC 9114 7.2.4, RFC 9204 5, RFC 9220 3).
func TestSettings(t *testing.T) {
	e := start(t, setup{})
	c := newTalk(t, e.dial())
	got := c.settings()
	for id, want := range map[uint64]uint64{settingTableCapacity: 0, settingBlockedStreams: 0, settingExtendedConnect: 1, settingMaxFieldSectionSize: 32 << 10} {
		if value, ok := got[id]; !ok || value != want {
			t.Errorf("setting %#x is %d, %v, want %d", id, value, ok, want)
		}
	}
	unknown := 0
	for id := range got {
		if id == 0 || id >= 2 && id <= 5 {
			t.Errorf("setting %#x is HTTP/2's", id)
		}
		if id >= 0x21 && (id-0x21)%0x1f == 0 {
			unknown++
		}
	}
	if unknown == 0 {
		t.Errorf("no setting that must be ignored in %v (RFC 9114 7.2.4.1)", got)
	}
}

// TestAnswers has what the server sends in order and lower case (RFC 9114 4.1, 4.2).
func TestAnswers(t *testing.T) {
	e := start(t, setup{handler: func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Link", "</a>; rel=preload")
		w.WriteHeader(http.StatusEarlyHints)
		w.Header().Set("Connection", "close")
		w.Header().Set("Transfer-Encoding", "chunked")
		w.Header().Set("Trailer", "Sum")
		_, _ = io.WriteString(w, "body")
		w.Header().Set("Sum", "1")
	}})
	c := newTalk(t, e.dial())
	resp := c.ask(good).response()
	if len(resp.informed) != 1 || resp.informed[0][":status"] != "103" || resp.informed[0]["link"] == "" {
		t.Errorf("informed %v", resp.informed)
	}
	if resp.status() != "200" || resp.body != "body" || resp.trailer["sum"] != "1" {
		t.Errorf("%+v", resp)
	}
	for name := range resp.header {
		if name != strings.ToLower(name) {
			t.Errorf("%s is not in lower case", name)
		}
	}
	for _, name := range []string{"connection", "transfer-encoding"} {
		if value, ok := resp.header[name]; ok {
			t.Errorf("%s: %s was sent (RFC 9114 4.2)", name, value)
		}
	}
}

// TestStopsReading has a response that needs no more of the request say so
// (RFC 9114 4.1): STOP_SENDING with H3_NO_ERROR after the answer.
func TestStopsReading(t *testing.T) {
	e := start(t, setup{})
	c := newTalk(t, e.dial())
	s := c.open()
	s.write(post, dataFrame("not read"))
	if resp := s.response(); resp.status() != "200" {
		t.Errorf("%+v", resp)
	}
	s.wantStopped(codeNoError)
	c.wantAlive()
}

// TestContinue has 100 come when the handler reads, and only then (RFC 9110 10.1.1).
func TestContinue(t *testing.T) {
	for _, reads := range []bool{true, false} {
		e := start(t, setup{handler: func(w http.ResponseWriter, r *http.Request) {
			if reads {
				reading(w, r)
			}
		}})
		c := newTalk(t, e.dial())
		s := c.open()
		s.write(headersFrame(fieldsOf("POST", "/h/", cache.Field{Name: "expect", Value: "100-continue"}, cache.Field{Name: "content-length", Value: "4"})...))
		if reads {
			a := &answer{}
			if err := s.next(a); err != nil || len(a.informed) != 1 || a.informed[0][":status"] != "100" {
				t.Fatalf("%+v, %v", a, err)
			}
			s.write(dataFrame("four"))
			s.close()
		}
		resp := s.response()
		if resp.status() != "200" || len(resp.informed) != 0 || strings.Contains(resp.body, `"four"`) != reads {
			t.Errorf("reads %v: %+v", reads, resp)
		}
	}
}

// TestClientResets has a client's reset reach the handler (RFC 9114 4.1.1).
func TestClientResets(t *testing.T) {
	begun, failed := make(chan error), make(chan error, 1)
	e := start(t, setup{handler: func(w http.ResponseWriter, r *http.Request) {
		begun <- nil
		_, err := io.Copy(io.Discard, r.Body)
		<-r.Context().Done()
		failed <- err
	}})
	c := newTalk(t, e.dial())
	s := c.open()
	s.write(post, dataFrame("half"))
	wait(t, begun)
	s.CancelWrite(codeRequestCancelled)
	s.CancelRead(codeRequestCancelled)
	if err := wait(t, failed); err == nil {
		t.Error("the body ended well")
	}
	eventually(t, "its count", func() bool { return e.stats.Resets.Load() == 1 })
}
