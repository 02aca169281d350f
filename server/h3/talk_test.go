package h3

// talk_test.go speaks HTTP/3 by hand, rightly or wrongly.

import (
	"bufio"
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/quicvarint"

	"edgecdn/cache"
)

// talk is a connection.
type talk struct {
	t       testing.TB
	q       *quic.Conn
	control *bufio.Reader // the server's, once its SETTINGS have been read
}

func newTalk(t testing.TB, q *quic.Conn) *talk { return &talk{t: t, q: q} }

// bounded returns a context that ends when a test has waited long enough.
func (c *talk) bounded() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), soon)
	c.t.Cleanup(cancel)
	return ctx
}

// settings reads the server's SETTINGS and returns them.
func (c *talk) settings() map[uint64]uint64 {
	c.t.Helper()
	s, err := c.q.AcceptUniStream(c.bounded())
	if err != nil {
		c.t.Fatal(err)
	}
	_ = s.SetReadDeadline(time.Now().Add(soon))
	c.control = bufio.NewReader(s)
	if kind := c.varint(); kind != streamControl {
		c.t.Fatalf("the first stream is of type %#x", kind)
	}
	kind, payload := c.frame()
	if kind != frameSettings {
		c.t.Fatalf("the control stream begins with %#x", kind)
	}
	got := map[uint64]uint64{}
	for len(payload) > 0 {
		id, n, _ := quicvarint.Parse(payload)
		value, m, err := quicvarint.Parse(payload[n:])
		if err != nil {
			c.t.Fatal(err)
		}
		got[id] = value
		payload = payload[n+m:]
	}
	return got
}

func (c *talk) varint() uint64 {
	c.t.Helper()
	n, err := quicvarint.Read(c.control)
	if err != nil {
		c.t.Fatal(err)
	}
	return n
}

// frame reads one from the server's control stream.
func (c *talk) frame() (kind uint64, payload []byte) {
	c.t.Helper()
	kind = c.varint()
	payload = make([]byte, c.varint())
	if _, err := io.ReadFull(c.control, payload); err != nil {
		c.t.Fatal(err)
	}
	return kind, payload
}

// goaway reads the next GOAWAY.
func (c *talk) goaway() uint64 {
	c.t.Helper()
	if c.control == nil {
		c.settings()
	}
	kind, payload := c.frame()
	id, n, err := quicvarint.Parse(payload)
	if kind != frameGoaway || err != nil || n != len(payload) {
		c.t.Fatalf("frame %#x with %x, want GOAWAY", kind, payload)
	}
	return id
}

// wantClosed waits for the server to close the connection.
func (c *talk) wantClosed(code quic.ApplicationErrorCode) {
	c.t.Helper()
	select {
	case <-c.q.Context().Done():
	case <-c.bounded().Done():
		c.t.Fatalf("the connection was not closed, want %#x", uint64(code))
	}
	var closed *quic.ApplicationError
	if err := context.Cause(c.q.Context()); !errors.As(err, &closed) || !closed.Remote || closed.ErrorCode != code {
		c.t.Fatalf("closed with %v, want %#x", err, uint64(code))
	}
}

// wantAlive has the connection answer a request.
func (c *talk) wantAlive() {
	c.t.Helper()
	s := c.open()
	s.write(headersFrame(getFields("/h/alive")...))
	s.close()
	if resp := s.response(); resp.status() != "200" {
		c.t.Fatalf("%+v", resp)
	}
}

// uni opens a stream of a type and writes on it.
func (c *talk) uni(kind uint64, b ...[]byte) *quic.SendStream {
	c.t.Helper()
	s, err := c.q.OpenUniStreamSync(c.bounded())
	if err != nil {
		c.t.Fatal(err)
	}
	_ = s.SetWriteDeadline(time.Now().Add(soon))
	_, _ = s.Write(quicvarint.Append(nil, kind))
	for _, b := range b {
		_, _ = s.Write(b) // the server may have closed the connection, which the test looks for
	}
	return s
}

// stream is a request.
type stream struct {
	*quic.Stream
	t  testing.TB
	in *bufio.Reader
}

func (c *talk) open() *stream {
	c.t.Helper()
	s, err := c.q.OpenStreamSync(c.bounded())
	if err != nil {
		c.t.Fatal(err)
	}
	_ = s.SetDeadline(time.Now().Add(soon))
	return &stream{s, c.t, bufio.NewReader(s)}
}

// ask sends a whole request.
func (c *talk) ask(b ...[]byte) *stream {
	c.t.Helper()
	s := c.open()
	s.write(b...)
	s.close()
	return s
}

func (s *stream) write(b ...[]byte) {
	for _, b := range b {
		_, _ = s.Write(b) // a failure shows in what the test looks for
	}
}

func (s *stream) close() { _ = s.Close() }

// answer is what came back.
type answer struct {
	informed []map[string]string
	header   map[string]string
	body     string
	trailer  map[string]string
}

func (a *answer) status() string { return a.header[":status"] }

// response reads the answer to its end.
func (s *stream) response() *answer {
	s.t.Helper()
	a, err := s.read()
	if err != nil {
		s.t.Fatalf("stream %d: %v (so far %+v)", s.StreamID(), err, a)
	}
	return a
}

// head reads up to the final header.
func (s *stream) head() *answer {
	s.t.Helper()
	a := &answer{}
	for a.header == nil {
		if err := s.next(a); err != nil {
			s.t.Fatalf("stream %d: %v", s.StreamID(), err)
		}
	}
	return a
}

func (s *stream) read() (*answer, error) {
	a := &answer{}
	for {
		if err := s.next(a); err != nil {
			if err == io.EOF && a.header != nil {
				err = nil
			}
			return a, err
		}
	}
}

func (s *stream) next(a *answer) error {
	kind, err := quicvarint.Read(s.in)
	if err != nil {
		return err
	}
	length, err := quicvarint.Read(s.in)
	if err != nil {
		return err
	}
	payload := make([]byte, length)
	if _, err := io.ReadFull(s.in, payload); err != nil {
		return err
	}
	switch kind {
	case frameData:
		a.body += string(payload)
	case frameHeaders:
		fields, err := decodeFields(payload)
		switch {
		case err != nil:
			return err
		case a.header != nil:
			a.trailer = fields
		case strings.HasPrefix(fields[":status"], "1"):
			a.informed = append(a.informed, fields)
		default:
			a.header = fields
		}
	}
	return nil
}

// decodeFields makes a map of a field section.
func decodeFields(b []byte) (map[string]string, error) {
	s := section{rest: b}
	if err := s.prefix(); err != nil {
		return nil, err
	}
	fields := map[string]string{}
	for len(s.rest) > 0 {
		name, value, err := s.next()
		if err != nil {
			return nil, err
		}
		fields[name] += value
	}
	return fields, nil
}

// wantReset waits for the server to reset the response.
func (s *stream) wantReset(code quic.StreamErrorCode) {
	s.t.Helper()
	_, err := s.read()
	var reset *quic.StreamError
	if !errors.As(err, &reset) || !reset.Remote || reset.ErrorCode != code {
		s.t.Fatalf("stream %d: %v, want a reset with %#x", s.StreamID(), err, uint64(code))
	}
}

// wantStopped waits for the server to stop reading the request.
func (s *stream) wantStopped(code quic.StreamErrorCode) {
	s.t.Helper()
	select {
	case <-s.Context().Done():
	case <-time.After(soon):
		s.t.Fatalf("stream %d was not stopped", s.StreamID())
	}
	var stopped *quic.StreamError
	if err := context.Cause(s.Context()); !errors.As(err, &stopped) || !stopped.Remote || stopped.ErrorCode != code {
		s.t.Fatalf("stream %d: %v, want it stopped with %#x", s.StreamID(), err, uint64(code))
	}
}

func frame(kind uint64, payload []byte) []byte {
	b := quicvarint.Append(quicvarint.Append(nil, kind), uint64(len(payload)))
	return append(b, payload...)
}

func dataFrame(body string) []byte { return frame(frameData, []byte(body)) }

func varints(ns ...uint64) (b []byte) {
	for _, n := range ns {
		b = quicvarint.Append(b, n)
	}
	return b
}

// headersFrame has a field section of literals and static lines.
func headersFrame(fields ...cache.Field) []byte {
	return frame(frameHeaders, appendFields([]byte{0, 0}, fields))
}

// getFields is a plain request.
func getFields(path string, more ...cache.Field) []cache.Field { return fieldsOf("GET", path, more...) }

func fieldsOf(method, path string, more ...cache.Field) []cache.Field {
	return append([]cache.Field{
		{Name: ":method", Value: method}, {Name: ":scheme", Value: "https"},
		{Name: ":authority", Value: "edge.test"}, {Name: ":path", Value: path},
	}, more...)
}

// usual are fields that browsers send.
var usual = []cache.Field{
	{Name: "user-agent", Value: "Mozilla/5.0 (X11; Linux x86_64)"}, {Name: "accept", Value: "*/*"},
	{Name: "accept-encoding", Value: "gzip, deflate, br"}, {Name: "cookie", Value: "a=1"},
}
