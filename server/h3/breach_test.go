package h3

// breach_test.go breaks RFC 9114, RFC 9204 and RFC 9218 in every way that ends a
// connection or a request. Tests are named after the section; docs/http.md has
// the table.

import (
	"fmt"
	"testing"

	"github.com/quic-go/quic-go"

	"edgecdn/cache"
)

// connectionBreach ends the connection with code.
type connectionBreach struct {
	section, name string
	do            func(c *talk)
	code          quic.ApplicationErrorCode
}

// control has the test say something on its control stream, after SETTINGS.
func control(b ...[]byte) func(c *talk) {
	return func(c *talk) { c.uni(streamControl, append([][]byte{frame(frameSettings, nil)}, b...)...) }
}

// settings has the test send SETTINGS.
func settings(ns ...uint64) func(c *talk) {
	return func(c *talk) { c.uni(streamControl, frame(frameSettings, varints(ns...))) }
}

// request has the test send bytes on a request stream, and end it.
func ask(b ...[]byte) func(c *talk) { return func(c *talk) { c.ask(b...) } }

func encoder(b ...byte) func(c *talk) { return func(c *talk) { c.uni(streamEncoder, b) } }
func decoder(b ...byte) func(c *talk) { return func(c *talk) { c.uni(streamDecoder, b) } }

// block asks with a field section of one's own.
func block(b ...byte) func(c *talk) { return ask(frame(frameHeaders, b)) }

var good = headersFrame(getFields("/h/")...)

var post = headersFrame(fieldsOf("POST", "/h/read")...)

func connectionBreaches() []connectionBreach {
	breaches := []connectionBreach{
		{"4.1", "DATA before HEADERS", ask(dataFrame("x"), good), codeFrameUnexpected},
		{"4.1", "DATA after trailers", ask(post, dataFrame("x"), headersFrame(cache.Field{Name: "a", Value: "b"}), dataFrame("y")), codeFrameUnexpected},
		{"4.1", "HEADERS after trailers", ask(post, dataFrame("x"), headersFrame(cache.Field{Name: "a", Value: "b"}), headersFrame(cache.Field{Name: "a", Value: "b"})), codeFrameUnexpected},
		{"5.2", "GOAWAY with a higher identifier", control(frame(frameGoaway, varints(4)), frame(frameGoaway, varints(8))), codeIDError},
		{"6.2", "a critical stream type twice: control", func(c *talk) { control()(c); control()(c) }, codeStreamCreationError},
		{"6.2.1", "control stream without SETTINGS first", func(c *talk) { c.uni(streamControl, frame(frameGoaway, varints(0))) }, codeMissingSettings},
		{"6.2.1", "control stream begins with an unknown frame", func(c *talk) { c.uni(streamControl, frame(0x21, nil)) }, codeMissingSettings},
		{"6.2.1", "control stream closed", func(c *talk) { _ = c.uni(streamControl, frame(frameSettings, nil)).Close() }, codeClosedCriticalStream},
		{"6.2.1", "control stream closed before SETTINGS", func(c *talk) { _ = c.uni(streamControl).Close() }, codeClosedCriticalStream},
		{"6.2.2", "push stream from a client", func(c *talk) { c.uni(streamPush, varints(0)) }, codeStreamCreationError},
		{"7.1", "stream ends in the payload of HEADERS", ask(good[:len(good)-1]), codeFrameError},
		{"7.1", "stream ends in the length of a frame", ask([]byte{frameHeaders, 0x40}), codeFrameError},
		{"7.1", "stream ends in the payload of DATA", ask(post, dataFrame("four")[:4]), codeFrameError},
		{"7.1", "stream ends in an unknown frame", ask(post, frame(0x21, []byte("four"))[:4]), codeFrameError},
		{"7.1", "GOAWAY with bytes left over", control(frame(frameGoaway, []byte{0, 0})), codeFrameError},
		{"7.1", "GOAWAY without its identifier", control(frame(frameGoaway, nil)), codeFrameError},
		{"7.1", "MAX_PUSH_ID with bytes left over", control(frame(frameMaxPushID, []byte{0, 0})), codeFrameError},
		{"7.1", "CANCEL_PUSH cut short", control(frame(frameCancelPush, []byte{0x40})), codeFrameError},
		{"7.1", "SETTINGS cut within a setting", func(c *talk) { c.uni(streamControl, frame(frameSettings, []byte{0x21})) }, codeFrameError},
		{"7.2.1", "DATA on the control stream", control(dataFrame("x")), codeFrameUnexpected},
		{"7.2.2", "HEADERS on the control stream", control(good), codeFrameUnexpected},
		{"7.2.3", "CANCEL_PUSH on a request stream", ask(frame(frameCancelPush, varints(0)), good), codeFrameUnexpected},
		{"7.2.3", "CANCEL_PUSH of what was never promised", control(frame(frameCancelPush, varints(0))), codeIDError},
		{"7.2.4", "SETTINGS on a request stream", ask(frame(frameSettings, nil), good), codeFrameUnexpected},
		{"7.2.4", "SETTINGS twice", control(frame(frameSettings, nil)), codeFrameUnexpected},
		{"7.2.4", "a setting twice", settings(0x21, 0, 0x21, 0), codeSettingsError},
		{"7.2.5", "PUSH_PROMISE on a request stream", ask(frame(framePushPromise, varints(0))), codeFrameUnexpected},
		{"7.2.5", "PUSH_PROMISE on the control stream", control(frame(framePushPromise, varints(0))), codeFrameUnexpected},
		{"7.2.6", "GOAWAY on a request stream", ask(frame(frameGoaway, varints(0)), good), codeFrameUnexpected},
		{"7.2.7", "MAX_PUSH_ID on a request stream", ask(frame(frameMaxPushID, varints(0)), good), codeFrameUnexpected},
		{"7.2.7", "MAX_PUSH_ID goes down", control(frame(frameMaxPushID, varints(4)), frame(frameMaxPushID, varints(3))), codeIDError},
		{"RFC 8441 3", "SETTINGS_ENABLE_CONNECT_PROTOCOL of 2", settings(settingExtendedConnect, 2), codeSettingsError},

		{"RFC 9204 2.2", "required insert count", block(0x01, 0x00, 0xd1), codeDecompressionFailed},
		{"RFC 9204 2.2", "a dynamic line", block(0x00, 0x00, 0x80), codeDecompressionFailed},
		{"RFC 9204 2.2", "a dynamic name", block(0x00, 0x00, 0x40, 0x00), codeDecompressionFailed},
		{"RFC 9204 2.2", "a dynamic line after the base", block(0x00, 0x00, 0x10), codeDecompressionFailed},
		{"RFC 9204 2.2", "a dynamic name after the base", block(0x00, 0x00, 0x00, 0x00), codeDecompressionFailed},
		{"RFC 9204 2.2", "a field section without lines or prefix", block(), codeDecompressionFailed},
		{"RFC 9204 2.2", "trailers that cannot be decoded", ask(post, frame(frameHeaders, []byte{0, 0, 0x80})), codeDecompressionFailed},
		{"RFC 9204 3.1", "a static line that there is not", block(0x00, 0x00, 0xff, 36), codeDecompressionFailed},
		{"RFC 9204 3.1", "a static name that there is not", block(0x00, 0x00, 0x5f, 84, 0x00), codeDecompressionFailed},
		{"RFC 9204 4.1.1", "an integer beyond 62 bits", block(0x00, 0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f), codeDecompressionFailed},
		{"RFC 9204 4.1.2", "a string longer than the section", block(0x00, 0x00, 0x51, 0x05, 'a'), codeDecompressionFailed},
		{"RFC 9204 4.1.2", "invalid Huffman code", block(0x00, 0x00, 0x51, 0x84, 0xff, 0xff, 0xff, 0xff), codeDecompressionFailed},
		{"RFC 9204 4.2", "a second encoder stream", func(c *talk) { encoder()(c); encoder()(c) }, codeStreamCreationError},
		{"RFC 9204 4.2", "a second decoder stream", func(c *talk) { decoder()(c); decoder()(c) }, codeStreamCreationError},
		{"RFC 9204 4.2", "encoder stream closed", func(c *talk) { _ = c.uni(streamEncoder).Close() }, codeClosedCriticalStream},
		{"RFC 9204 4.2", "decoder stream closed", func(c *talk) { _ = c.uni(streamDecoder).Close() }, codeClosedCriticalStream},
		{"RFC 9204 4.3.1", "a capacity beyond what was allowed", encoder(0x21), codeEncoderStreamError},
		{"RFC 9204 4.3.1", "a capacity beyond 62 bits", encoder(0x3f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f), codeEncoderStreamError},
		{"RFC 9204 4.3.2", "an insert with a static name", encoder(0xc0, 0x00), codeEncoderStreamError},
		{"RFC 9204 4.3.3", "an insert with a literal name", encoder(0x41, 'a', 0x00), codeEncoderStreamError},
		{"RFC 9204 4.3.4", "a duplicate", encoder(0x00), codeEncoderStreamError},
		{"RFC 9204 4.4.1", "an acknowledgement of a section without references", decoder(0x80), codeDecoderStreamError},
		{"RFC 9204 4.4.2", "a cancellation of a stream beyond 62 bits", decoder(0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f), codeDecoderStreamError},
		{"RFC 9204 4.4.3", "an increment of 0", decoder(0x00), codeDecoderStreamError},
		{"RFC 9204 4.4.3", "an increment beyond what was inserted", decoder(0x01), codeDecoderStreamError},
		{"RFC 9204 4.5.1", "a negative base", block(0x00, 0x80, 0xd1), codeDecompressionFailed},

		{"RFC 9218 7.2", "PRIORITY_UPDATE on a request stream", ask(frame(framePriorityRequest, varints(0)), good), codeFrameUnexpected},
		{"RFC 9218 7.2", "PRIORITY_UPDATE without an identifier", control(frame(framePriorityRequest, nil)), codeFrameError},
		{"RFC 9218 7.2", "PRIORITY_UPDATE of a stream that is no request", control(frame(framePriorityRequest, varints(1))), codeIDError},
		{"RFC 9218 7.2", "PRIORITY_UPDATE beyond the streams allowed", control(frame(framePriorityRequest, varints(1<<20))), codeIDError},
		{"RFC 9218 7.2", "PRIORITY_UPDATE of a push", control(frame(framePriorityPush, varints(0))), codeIDError},
	}
	for _, id := range []uint64{0x0, 0x2, 0x3, 0x4, 0x5} {
		breaches = append(breaches, connectionBreach{"7.2.4.1", fmt.Sprintf("setting %#x of HTTP/2", id), settings(id, 0), codeSettingsError})
	}
	for _, kind := range []uint64{0x2, 0x6, 0x8, 0x9} {
		breaches = append(breaches,
			connectionBreach{"7.2.8", fmt.Sprintf("frame %#x of HTTP/2 on a request stream", kind), ask(frame(kind, nil), good), codeFrameUnexpected},
			connectionBreach{"7.2.8", fmt.Sprintf("frame %#x of HTTP/2 in a body", kind), ask(post, frame(kind, nil)), codeFrameUnexpected},
			connectionBreach{"7.2.8", fmt.Sprintf("frame %#x of HTTP/2 on the control stream", kind), control(frame(kind, nil)), codeFrameUnexpected})
	}
	return breaches
}

func TestConnectionErrors(t *testing.T) {
	e := start(t, setup{handler: reading})
	for _, tt := range connectionBreaches() {
		t.Run(tt.section+" "+tt.name, func(t *testing.T) {
			before := e.stats.ConnectionErrors.Load()
			c := newTalk(t, e.dial())
			tt.do(c)
			c.wantClosed(tt.code)
			eventually(t, "its count", func() bool { return e.stats.ConnectionErrors.Load() == before+1 })
		})
	}
}

// streamBreach ends one request with code and leaves the connection alone.
type streamBreach struct {
	section, name string
	request       [][]byte
	code          quic.StreamErrorCode
}

// with is a GET with fields added.
func with(pairs ...string) [][]byte {
	var more []cache.Field
	for i := 0; i < len(pairs); i += 2 {
		more = append(more, cache.Field{Name: pairs[i], Value: pairs[i+1]})
	}
	return [][]byte{headersFrame(getFields("/h/", more...)...)}
}

// only is a request of these fields.
func only(pairs ...string) [][]byte {
	var fields []cache.Field
	for i := 0; i < len(pairs); i += 2 {
		fields = append(fields, cache.Field{Name: pairs[i], Value: pairs[i+1]})
	}
	return [][]byte{headersFrame(fields...)}
}

func posted(length string, frames ...[]byte) [][]byte {
	return append([][]byte{headersFrame(fieldsOf("POST", "/h/read", cache.Field{Name: "content-length", Value: length})...)}, frames...)
}

func streamBreaches() []streamBreach {
	const m, s, a, p = ":method", ":scheme", ":authority", ":path"
	breaches := []streamBreach{
		{"4.1", "a stream without a request", nil, codeRequestIncomplete},
		{"4.1", "a stream of unknown frames only", [][]byte{frame(0x21, []byte("x"))}, codeRequestIncomplete},
		{"4.1.2", "content-length above the body", posted("5", dataFrame("four")), codeMessageError},
		{"4.1.2", "content-length below the body", posted("3", dataFrame("four")), codeMessageError},
		{"4.1.2", "content-length below the body of two frames", posted("7", dataFrame("four"), dataFrame("four")), codeMessageError},
		{"4.1.2", "content-length without a body", with("content-length", "5"), codeMessageError},
		{"4.1.2", "content-length that is no number", with("content-length", "+5"), codeMessageError},
		{"4.1.2", "content-length empty", with("content-length", ""), codeMessageError},
		{"4.1.2", "content-length list", with("content-length", "0, 0"), codeMessageError},
		{"4.1.2", "content-length beyond 63 bits", with("content-length", "9999999999999999999"), codeMessageError},
		{"4.1.2", "two differing content-lengths", with("content-length", "0", "content-length", "1"), codeMessageError},
		{"4.1.2", "two content-lengths", with("content-length", "0", "content-length", "0"), codeMessageError},
		{"4.2", "upper case in a name", with("Accept", "x"), codeMessageError},
		{"4.2", "upper case at the end of a name", with("accepT", "x"), codeMessageError},
		{"4.2", "an empty name", with("", "x"), codeMessageError},
		{"4.2", "a space in a name", with("a b", "x"), codeMessageError},
		{"4.2", "a colon in a name", with("a:b", "x"), codeMessageError},
		{"4.2", "a byte beyond ASCII in a name", with("a\xe9", "x"), codeMessageError},
		{"4.2", "connection", with("connection", "close"), codeMessageError},
		{"4.2", "keep-alive", with("keep-alive", "5"), codeMessageError},
		{"4.2", "proxy-connection", with("proxy-connection", "close"), codeMessageError},
		{"4.2", "transfer-encoding", with("transfer-encoding", "chunked"), codeMessageError},
		{"4.2", "upgrade", with("upgrade", "h2c"), codeMessageError},
		{"4.2", "te other than trailers", with("te", "gzip"), codeMessageError},
		{"4.3", "an unknown pseudo-header field", with(":secret", "x"), codeMessageError},
		{"4.3", "a pseudo-header field of responses", with(":status", "200"), codeMessageError},
		{"4.3", "a pseudo-header field after a regular one", only(m, "GET", s, "https", a, "edge.test", "accept", "x", p, "/h/"), codeMessageError},
		{"4.3", "a pseudo-header field in trailers", [][]byte{post, headersFrame(cache.Field{Name: p, Value: "/"})}, codeMessageError},
		{"4.3", "a connection-specific field in trailers", [][]byte{post, headersFrame(cache.Field{Name: "connection", Value: "close"})}, codeMessageError},
		{"4.3", "content-length in trailers", [][]byte{post, headersFrame(cache.Field{Name: "content-length", Value: "0"})}, codeMessageError},
		{"4.3", "host in trailers", [][]byte{post, headersFrame(cache.Field{Name: "host", Value: "edge.test"})}, codeMessageError},
		{"4.3", "upper case in trailers", [][]byte{post, headersFrame(cache.Field{Name: "Sum", Value: "1"})}, codeMessageError},
		{"4.3.1", "no method", only(s, "https", a, "edge.test", p, "/h/"), codeMessageError},
		{"4.3.1", "no scheme", only(m, "GET", a, "edge.test", p, "/h/"), codeMessageError},
		{"4.3.1", "no path", only(m, "GET", s, "https", a, "edge.test"), codeMessageError},
		{"4.3.1", "an empty path", only(m, "GET", s, "https", a, "edge.test", p, ""), codeMessageError},
		{"4.3.1", "two methods", with(m, "GET"), codeMessageError},
		{"4.3.1", "two methods at the front", only(m, "GET", m, "GET", s, "https", a, "edge.test", p, "/h/"), codeMessageError},
		{"4.3.1", "two schemes", only(m, "GET", s, "https", s, "https", a, "edge.test", p, "/h/"), codeMessageError},
		{"4.3.1", "two paths", only(m, "GET", s, "https", a, "edge.test", p, "/h/", p, "/h/"), codeMessageError},
		{"4.3.1", "two authorities", only(m, "GET", s, "https", a, "edge.test", a, "edge.test", p, "/h/"), codeMessageError},
		{"4.3.1", "a method that is no token", only(m, "G T", s, "https", a, "edge.test", p, "/h/"), codeMessageError},
		{"4.3.1", "neither authority nor host", only(m, "GET", s, "https", p, "/h/"), codeMessageError},
		{"4.3.1", "an empty authority", only(m, "GET", s, "https", a, "", p, "/h/"), codeMessageError},
		{"4.3.1", "an empty host", only(m, "GET", s, "https", p, "/h/", "host", ""), codeMessageError},
		{"4.3.1", "host against authority", with("host", "other.test"), codeMessageError},
		{"4.3.1", "two hosts", with("host", "edge.test", "host", "edge.test"), codeMessageError},
		{"4.4", "CONNECT with a path", only(m, "CONNECT", a, "edge.test:443", p, "/h/"), codeMessageError},
		{"4.4", "CONNECT with a scheme", only(m, "CONNECT", a, "edge.test:443", s, "https"), codeMessageError},
		{"4.4", "CONNECT without authority", only(m, "CONNECT"), codeMessageError},
		{"RFC 9220 3", "extended CONNECT without a path", only(m, "CONNECT", ":protocol", "websocket", s, "https", a, "edge.test"), codeMessageError},
		{"RFC 9220 3", "extended CONNECT without authority", only(m, "CONNECT", ":protocol", "websocket", s, "https", p, "/h/"), codeMessageError},
		{"RFC 9220 3", ":protocol without CONNECT", only(m, "GET", ":protocol", "websocket", s, "https", a, "edge.test", p, "/h/"), codeMessageError},
	}
	for _, value := range []string{"a\x00b", "a\nb", "a\rb", "a\x1fb", "a\x7fb", " a", "a ", "\ta"} {
		breaches = append(breaches, streamBreach{"10.3", fmt.Sprintf("value %q", value), with("x", value), codeMessageError})
	}
	return breaches
}

func TestStreamErrors(t *testing.T) {
	e := start(t, setup{handler: reading})
	c := newTalk(t, e.dial())
	for _, tt := range streamBreaches() {
		t.Run(tt.section+" "+tt.name, func(t *testing.T) {
			before := e.stats.StreamErrors.Load()
			c.t = t
			c.ask(tt.request...).wantReset(tt.code)
			eventually(t, "its count", func() bool { return e.stats.StreamErrors.Load() == before+1 })
		})
	}
	c.t = t
	c.wantAlive()
}
