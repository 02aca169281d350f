package h2

// strict_test.go holds the engine to the tables of docs/http.md: each row's
// requests and frames, and what they are answered.

import (
	"encoding/binary"
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/http2"

	"edgecdn/server/gate"
)

// strictCase is a row of a table and what it is about.
type strictCase struct {
	row, verdict, section string
	inputs                []func(w *wire)
}

// lines are requests on stream 1 that differ from a good one in what changes say:
// "name=value" lines that replace those of a name or are added at the end, and
// "-name" that are left out. The request ends with its header.
func lines(requests ...string) (all []func(w *wire)) {
	for _, changes := range requests {
		all = append(all, func(w *wire) { w.headers(1, true, changed(changes)...) })
	}
	return all
}

func changed(changes string) (pairs []string) {
	good := []string{":method", "GET", ":scheme", "http", ":authority", "a.test", ":path", "/"}
	added := []string{}
	for change := range strings.SplitSeq(changes, "|") {
		if name, ok := strings.CutPrefix(change, "-"); ok {
			i := slices.Index(good, name)
			good = slices.Delete(good, i, i+2)
			continue
		}
		cut := strings.IndexByte(change[min(1, len(change)):], '=') + 1
		if cut <= 0 {
			continue
		}
		name, value := change[:cut], change[cut+1:]
		if i := slices.Index(good, name); i >= 0 && i%2 == 0 {
			good[i+1] = value
			continue
		}
		added = append(added, strings.TrimPrefix(name, "+"), value)
	}
	return append(good, added...)
}

// frames are frames as they stand; ids are those of streams opened before by a
// request without an end.
func raw(kind http2.FrameType, flags http2.Flags, id uint32, payload ...byte) func(w *wire) {
	return func(w *wire) {
		w.send(func() error { return w.framer.WriteRawFrame(kind, flags, id, payload) })
	}
}

// then does one thing after the other.
func then(steps ...func(w *wire)) func(w *wire) {
	return func(w *wire) {
		for _, step := range steps {
			step(w)
		}
	}
}

// open begins a request on stream 1; ended has one answered.
func open(w *wire) { w.post(1, "/wait") }

func ended(w *wire) {
	w.get(1, "/")
	until(w, func(f *http2.DataFrame) bool { return f.StreamID == 1 && f.StreamEnded() })
}

func block(id uint32, flags http2.Flags, bytes ...byte) func(w *wire) {
	return raw(http2.FrameHeaders, flags, id, bytes...)
}

func number(n uint32) []byte { return binary.BigEndian.AppendUint32(nil, n) }

func setting(id uint16, value uint32) func(w *wire) {
	return raw(http2.FrameSettings, 0, 0, appendSetting(nil, id, value)...)
}

func withLength(length string, parts ...string) func(w *wire) {
	return func(w *wire) {
		w.post(1, "/wait", "content-length", length)
		for i, part := range parts {
			w.send(func() error { return w.framer.WriteData(1, i == len(parts)-1, []byte(part)) })
		}
	}
}

func trailer(pairs ...string) func(w *wire) {
	return then(open, func(w *wire) { w.headers(1, true, pairs...) })
}

const (
	passed       = "passed"
	ignored      = "ignored"
	badStream    = "stream error PROTOCOL_ERROR"
	badConn      = "connection error PROTOCOL_ERROR"
	badSize      = "connection error FRAME_SIZE_ERROR"
	badHPACK     = "connection error COMPRESSION_ERROR"
	badFlow      = "connection error FLOW_CONTROL_ERROR"
	badStreamEnd = "stream error STREAM_CLOSED"
)

var strictCases = slices.Concat(requestCases, frameCases)

var requestCases = []strictCase{
	{"field name in upper case", badStream, "8.2", lines("Accept=a", "a-B=c")},
	{"field name that is empty or no token", badStream, "8.2.1", lines("+=a", "a b=c", "a(=b", "\xc3\xa4=b", "a\x00=b", "a:b=c")},
	{"NUL, CR, LF or other controls in a field value", badStream, "8.2.1", lines("a=b\x00c", "a=b\rc", "a=b\nc", "a=b\x01c", "a=b\x7f", ":path=/\x00", ":authority=a\n")},
	{"whitespace around a field value", badStream, "8.2.1", lines("a= b", "a=b ", "a=\tb", "a=b\t", "a= ", ":path=/ ")},
	{"empty field value, tabs and bytes beyond ASCII in one", passed, "8.2.1", lines("a=", "a=b\tc", "a=\xc3\xa4")},
	{"connection, proxy-connection, keep-alive, transfer-encoding or upgrade", badStream, "8.2.2", lines("connection=close", "proxy-connection=close", "keep-alive=a", "transfer-encoding=chunked", "transfer-encoding=identity", "upgrade=h2c")},
	{"te that says more than trailers", badStream, "8.2.2", lines("te=gzip", "te=trailers, gzip", "te=")},
	{"te of trailers", passed, "8.2.2", lines("te=trailers", "te=Trailers")},
	{"several cookie fields", passed + " as one", "8.2.3", lines("cookie=a=1|cookie=b=2")},
	{"pseudo-header field unknown, of a response, twice, or after others", badStream, "8.3", lines(":a=b", ":status=200", "+:path=/", "+:method=GET", "+:scheme=http", "+:authority=a.test", "-:path|a=b|:path=/")},
	{":method, :scheme or :path missing or empty", badStream, "8.3.1", lines("-:method", "-:scheme", "-:path", ":method=", ":scheme=", ":path=")},
	{"method that is no token", badStream, "8.3.1", lines(":method=G T", ":method=G(T", ":method=\xc3\xa4")},
	{"method in lower case", passed + ", as the unknown method that it is", "8.3.1", lines(":method=get")},
	{":path without a slash, with a fragment, or beyond ASCII", "400", "8.3.1", lines(":path=a", ":path=http://a.test/", ":path=/#a", ":path=/\xc3\xa4", ":path=/a b", ":path=?a")},
	{":path of an asterisk, but not of OPTIONS", "400", "8.3.1", lines(":path=*")},
	{":path of an asterisk with OPTIONS", passed, "8.3.1", lines(":path=*|:method=OPTIONS")},
	{":scheme that is not the connection's", "421", "RFC 9110 7.4", lines(":scheme=https", ":scheme=ftp")},
	{"neither :authority nor host", "400", "8.3.1", lines("-:authority")},
	{"host instead of :authority", passed, "8.3.1", lines("-:authority|host=a.test")},
	{"host beside the same :authority", passed, "8.3.1", lines("host=A.test:80", "host=a.test")},
	{"host beside another :authority", "400", "8.3.1", lines("host=b.test", "host=a.test:81")},
	{"host that is empty, or twice", badStream, "RFC 9110 7.2", lines("host=", "-:authority|host=", "host=a.test|host=a.test", "-:authority|host=a.test|host=b.test")},
	{":authority with userinfo, path, list, escape or bad port", "400", "8.3.1", lines(":authority=u@a.test", ":authority=a.test/b", ":authority=a.test,b.test", ":authority=a%2etest", ":authority=a.test:x", ":authority=")},
	{"expect other than 100-continue", "417", "RFC 9110 10.1.1", lines("expect=a", "expect=100-continue, a")},
	{"CONNECT", "501", "8.5", []func(w *wire){func(w *wire) { w.headers(1, true, ":method", "CONNECT", ":authority", "a.test:443") }}},
	{"CONNECT with :scheme or :path, or without :authority", badStream, "8.5", lines(":method=CONNECT", ":method=CONNECT|-:path", ":method=CONNECT|-:path|-:scheme|-:authority")},
	{"extended CONNECT (:protocol)", "501; it is not offered", "RFC 8441 4", lines(":method=CONNECT|:protocol=websocket")},
	{":protocol with another method", badStream, "RFC 8441 4", lines(":protocol=websocket")},
	{"content-length that is empty, signed, a list, hexadecimal or huge", badStream, "8.1.1", lines("content-length=", "content-length=+0", "content-length=-0", "content-length=0, 0", "content-length=0x0", "content-length=9223372036854775808")},
	{"content-length twice, even the same", badStream, "8.1.1", lines("content-length=0|content-length=0", "content-length=0|content-length=1")},
	{"content-length of 0 without content", passed, "8.1.1", lines("content-length=0")},
	{"content-length other than what comes", badStream, "8.1.1", append(lines("content-length=1"), withLength("3", "ab"), withLength("3", "ab", "cd"), withLength("0", "a"),
		func(w *wire) { withLength("3", "a", "")(w) }, func(w *wire) { w.post(1, "/wait", "content-length", "3"); w.headers(1, true, "a", "b") })},
	{"trailer section without END_STREAM", badStream, "8.1", []func(w *wire){then(open, func(w *wire) { w.headers(1, false, "a", "b") })}},
	{"trailer section with pseudo-header fields, host, content-length or fields of the connection", badStream, "8.1", []func(w *wire){trailer(":path", "/"), trailer("host", "a.test"), trailer("content-length", "0"), trailer("connection", "close"), trailer("A", "b")}},
	{"trailer section that says how messages are framed, routed or processed", passed + " without those fields", "RFC 9110 6.5.1", []func(w *wire){func(w *wire) {
		w.post(1, "/trailers")
		w.headers(1, true, "authorization", "a", "x-sum", "b", "cache-control", "no-store")
	}}},
	{"more header bytes or fields than limits allow", "431", "RFC 6585 5", lines("a="+strings.Repeat("b", 3000), strings.Repeat("a=b|", 17), strings.Repeat("a="+strings.Repeat("c", 150)+"|", 15)+":path=/")},
	{"more streams than limits.streams", "stream error REFUSED_STREAM", "5.1.2", []func(w *wire){func(w *wire) {
		for id := uint32(3); id <= 11; id += 2 {
			w.get(id, "/wait")
		}
		w.get(13, "/wait")
	}}},
}

var frameCases = []strictCase{
	{"preface that is none", badConn, "3.4", []func(w *wire){func(w *wire) {
		nc := w.nc
		*w = *w.again()
		_ = nc.Close()
		w.send(func() error { _, err := w.nc.Write([]byte("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n")); return err })
	}}},
	{"first frame that is not SETTINGS", badConn, "3.4", []func(w *wire){func(w *wire) {
		nc := w.nc
		*w = *w.again()
		_ = nc.Close()
		w.send(func() error { _, err := w.nc.Write([]byte(preface)); return err })
		w.get(1, "/")
	}}},
	{"frame of unknown type, unknown flags, reserved bit", ignored, "4.1", []func(w *wire){raw(0x42, 0xff, 0, 1, 2, 3), raw(0x42, 0, 77), raw(http2.FramePing, 0xfe, 1<<31, 1, 2, 3, 4, 5, 6, 7, 8)}},
	{"frame larger than SETTINGS_MAX_FRAME_SIZE", badSize, "4.2", []func(w *wire){raw(http2.FramePing, 0, 0, make([]byte, frameBytesMax+1)...), then(open, raw(http2.FrameData, 0, 1, make([]byte, frameBytesMax+1)...))}},
	{"header block that HPACK does not know", badHPACK, "4.3", []func(w *wire){block(1, 5, 0x80), block(1, 5, 0xbe), block(1, 5, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f), block(1, 5, 0x3f, 0xe2, 0x1f), block(1, 5, 0x82, 0x20), block(1, 5, 0x20, 0x20, 0x20),
		block(1, 5, 0x00, 0x05, 'a'), block(1, 5, 0x00, 0x81, 0xff, 0x01, 'a'), block(1, 5, 0x40), block(1, 5, 0x7f)}},
	{"HEADERS or DATA on stream 0, or on an even one", badConn, "5.1.1", []func(w *wire){raw(http2.FrameHeaders, 5, 0, 0x82), raw(http2.FrameData, 0, 0, 1), raw(http2.FrameHeaders, 5, 2, 0x82), raw(http2.FrameData, 0, 2, 1)}},
	{"stream identifier that goes backwards", badConn, "5.1.1", []func(w *wire){func(w *wire) { w.get(5, "/wait"); w.get(3, "/") }}},
	{"DATA, RST_STREAM or WINDOW_UPDATE on an idle stream", badConn, "5.1", []func(w *wire){raw(http2.FrameData, 0, 1, 1), raw(http2.FrameRSTStream, 0, 1, 0, 0, 0, 0), raw(http2.FrameWindowUpdate, 0, 1, 0, 0, 0, 1)}},
	{"HEADERS or DATA after END_STREAM, while the answer is on its way", badStreamEnd, "5.1", []func(w *wire){func(w *wire) { w.get(1, "/wait"); raw(http2.FrameData, 0, 1, 1)(w) }, func(w *wire) { w.get(1, "/wait"); w.headers(1, true, "a", "b") }}},
	{"DATA on a closed stream", badStreamEnd, "5.1", []func(w *wire){then(ended, raw(http2.FrameData, 0, 1, 1))}},
	{"HEADERS on a closed stream", "connection error STREAM_CLOSED", "5.1", []func(w *wire){then(ended, block(1, 5, 0x82))}},
	{"RST_STREAM, WINDOW_UPDATE or PRIORITY on a closed stream", ignored, "5.1", []func(w *wire){then(ended, raw(http2.FrameRSTStream, 0, 1, 0, 0, 0, 8), raw(http2.FrameWindowUpdate, 0, 1, 0, 0, 0, 1), raw(http2.FramePriority, 0, 1, 0, 0, 0, 3, 1))}},
	{"padding that is as long as its frame", badConn, "6.1", []func(w *wire){then(open, raw(http2.FrameData, 8, 1, 2, 0)), then(open, raw(http2.FrameData, 8, 1)), raw(http2.FrameHeaders, 0xd, 1, 9, 0x82)}},
	{"DATA beyond the connection's window", badFlow, "6.9", []func(w *wire){func(w *wire) {
		for i := range uint32(5) {
			w.post(1+2*i, "/wait")
			for range streamWindow / frameBytesMax {
				quick(http2.FrameData, 0, 1+2*i, make([]byte, frameBytesMax)...)(w)
			}
		}
	}}},
	{"DATA beyond the stream's window", "stream error FLOW_CONTROL_ERROR", "6.9", []func(w *wire){then(open, func(w *wire) {
		for range streamWindow/frameBytesMax + 1 {
			raw(http2.FrameData, 0, 1, make([]byte, frameBytesMax)...)(w)
		}
	})}},
	{"HEADERS that is too short for its priority", badSize, "6.2", []func(w *wire){raw(http2.FrameHeaders, 0x25, 1, 0, 0)}},
	{"stream that depends on itself", badStream, "RFC 7540 5.3.1", []func(w *wire){raw(http2.FramePriority, 0, 1, 0, 0, 0, 1, 1), raw(http2.FrameHeaders, 0x25, 1, 0, 0, 0, 1, 1, 0x82, 0x86, 0x84, 0x41, 1, 'a')}},
	{"PRIORITY on stream 0", badConn, "6.3", []func(w *wire){raw(http2.FramePriority, 0, 0, 0, 0, 0, 3, 1)}},
	{"PRIORITY of a wrong size", "stream error FRAME_SIZE_ERROR", "6.3", []func(w *wire){then(open, raw(http2.FramePriority, 0, 1, 1))}},
	{"RST_STREAM, SETTINGS, PING, WINDOW_UPDATE or GOAWAY of a wrong size", badSize, "6", []func(w *wire){then(open, raw(http2.FrameRSTStream, 0, 1, 1)), raw(http2.FrameSettings, 0, 0, 1), raw(http2.FrameSettings, 1, 0, 0, 0, 0, 0, 0, 0), raw(http2.FramePing, 0, 0, 1), raw(http2.FrameWindowUpdate, 0, 0, 1), raw(http2.FrameGoAway, 0, 0, 1)}},
	{"SETTINGS, PING or GOAWAY on a stream; RST_STREAM on none", badConn, "6", []func(w *wire){then(open, raw(http2.FrameSettings, 0, 1)), then(open, raw(http2.FramePing, 0, 1, 1, 2, 3, 4, 5, 6, 7, 8)), then(open, raw(http2.FrameGoAway, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0)), raw(http2.FrameRSTStream, 0, 0, 0, 0, 0, 0)}},
	{"setting out of its bounds", badConn, "6.5.2", []func(w *wire){setting(settingPush, 2), setting(settingFrameSize, 16383), setting(settingFrameSize, 1<<24), setting(settingConnect, 2), setting(settingNoPriorities, 2)}},
	{"SETTINGS_NO_RFC7540_PRIORITIES that comes late", badConn, "RFC 9218 2.1", []func(w *wire){setting(settingNoPriorities, 1)}},
	{"initial window, or window that it moves, beyond 2^31-1", badFlow, "6.9.2", []func(w *wire){setting(settingInitialWindow, 1<<31), then(open, raw(http2.FrameWindowUpdate, 0, 1, number(windowMax-windowDefault)...), setting(settingInitialWindow, windowDefault+1))}},
	{"unknown setting", ignored, "6.5.2", []func(w *wire){setting(0xabc, 7)}},
	{"PUSH_PROMISE", badConn, "8.4", []func(w *wire){then(open, raw(http2.FramePushPromise, 4, 1, 0, 0, 0, 2))}},
	{"WINDOW_UPDATE of 0 on the connection", badConn, "6.9", []func(w *wire){raw(http2.FrameWindowUpdate, 0, 0, 0, 0, 0, 0)}},
	{"WINDOW_UPDATE of 0 on a stream", badStream, "6.9", []func(w *wire){then(open, raw(http2.FrameWindowUpdate, 0, 1, 0, 0, 0, 0))}},
	{"WINDOW_UPDATE beyond 2^31-1 on the connection", badFlow, "6.9.1", []func(w *wire){raw(http2.FrameWindowUpdate, 0, 0, number(windowMax)...)}},
	{"WINDOW_UPDATE beyond 2^31-1 on a stream", "stream error FLOW_CONTROL_ERROR", "6.9.1", []func(w *wire){then(open, raw(http2.FrameWindowUpdate, 0, 1, number(windowMax)...))}},
	{"CONTINUATION that continues nothing, or is interrupted", badConn, "6.10", []func(w *wire){raw(http2.FrameContinuation, 4, 1, 0x82), then(ended, raw(http2.FrameContinuation, 4, 1, 0x82)), then(block(1, 0, 0x82), raw(http2.FramePing, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8)), then(block(1, 0, 0x82), raw(http2.FrameContinuation, 4, 3, 0x82)), then(block(1, 0, 0x82), block(1, 4, 0x82))}},
	{"PRIORITY_UPDATE on a stream, or for none of the client's", badConn, "RFC 9218 7.1", []func(w *wire){then(open, raw(kindPriorityUpdate, 0, 1, 0, 0, 0, 1, 'u', '=', '1')), raw(kindPriorityUpdate, 0, 0, 0, 0, 0, 2), raw(kindPriorityUpdate, 0, 0, 0, 0, 0, 0)}},
	{"PRIORITY_UPDATE that is too short", badSize, "RFC 9218 7.1", []func(w *wire){raw(kindPriorityUpdate, 0, 0, 0, 0, 1)}},
	{"PRIORITY_UPDATE whose value nobody understands", ignored, "RFC 9218 4", []func(w *wire){raw(kindPriorityUpdate, 0, 0, 0, 0, 0, 1, 'u', '=', '9', ',', ';')}},
}

// verdict returns what the edge says to what has been sent.
func (w *wire) verdict(want string) string {
	if want == ignored {
		raw(http2.FramePing, 0, 0, []byte("is it ok")...)(w)
	}
	for {
		switch f := w.read().(type) {
		case nil:
			return "closed without a word"
		case *http2.GoAwayFrame:
			return "connection error " + f.ErrCode.String()
		case *http2.RSTStreamFrame:
			if f.ErrCode != http2.ErrCodeNo {
				return "stream error " + f.ErrCode.String()
			}
		case *http2.HeadersFrame:
			if status := w.field(":status"); status != "200" {
				return status
			}
			return passed
		case *http2.PingFrame:
			if string(f.Data[:]) == "is it ok" {
				return ignored
			}
		}
	}
}

func TestStrict(t *testing.T) {
	e := start(t, setup{
		limits: gate.Limits{HeaderBytes: 2048, HeaderFields: 16, Streams: 5},
		handler: func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/wait" {
				<-r.Context().Done()
				return
			}
			if _, err := io.Copy(io.Discard, r.Body); err != nil || r.URL.Path == "/trailers" && fmt.Sprint(r.Trailer) != "map[X-Sum:[b]]" {
				w.WriteHeader(http.StatusTeapot)
			}
			_, _ = io.WriteString(w, "content")
		},
	})
	documented := map[string]string{}
	page, err := os.ReadFile("../../docs/http.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(page), "\n## HTTP/2\n")
	section, _, _ = strings.Cut(section, "\n### Floods")
	for _, m := range regexp.MustCompile(`(?m)^\| (.*?) \| (.*?) \| (.*?) \|$`).FindAllStringSubmatch(section, -1) {
		if m[1] != "case" {
			documented[m[1]] = m[2] + " | " + m[3]
		}
	}
	for _, c := range strictCases {
		if want := c.verdict + " | " + c.section; documented[c.row] != want {
			t.Errorf("docs/http.md lacks\n| %s | %s |", c.row, want)
		}
		delete(documented, c.row)
		word, _, _ := strings.Cut(c.verdict, ",")
		word, _, _ = strings.Cut(word, ";")
		word, _, _ = strings.Cut(word, " as one")
		word, _, _ = strings.Cut(word, " without")
		for i, input := range c.inputs {
			t.Run(fmt.Sprint(c.row, i), func(t *testing.T) {
				w := e.dial(t)
				defer w.nc.Close()
				input(w)
				if got := w.verdict(word); got != word {
					t.Errorf("%s, want %s", got, word)
				}
			})
		}
	}
	for row := range documented {
		t.Errorf("docs/http.md speaks of %q, which is not tested", row)
	}
}

// again is a connection like w on which nothing has been said.
func (w *wire) again() *wire {
	return (&edge{t: w.t, http: w.nc.RemoteAddr().String()}).dialBare(w.t)
}
