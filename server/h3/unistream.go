package h3

// unistream.go reads the peer's unidirectional streams (RFC 9114 6.2): control,
// QPACK encoder and decoder, and others, which are ignored.

import (
	"bufio"
	"context"
	"errors"
	"io"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/quicvarint"
)

const (
	// controlPayloadMax bounds frames on the control stream that are read whole:
	// settings, and PRIORITY_UPDATE.
	controlPayloadMax = 4 << 10
	// streamsAhead is how far beyond the limit of streams a PRIORITY_UPDATE may
	// look: the limit moves when streams end, before we know of the new ones.
	streamsAhead = 128
	// settingsMax is how many settings a peer may send.
	settingsMax = 64
)

func (c *conn) acceptUni() {
	for {
		s, err := c.quic.AcceptUniStream(context.Background())
		if err != nil {
			return
		}
		c.work.Go(func() { c.fail(c.readUni(s)) })
	}
}

// readUni serves one stream. It returns nil where the stream, or the whole
// connection, just ended.
func (c *conn) readUni(s *quic.ReceiveStream) error {
	b := bufio.NewReaderSize(s, 512)
	kind, err := quicvarint.Read(b)
	if err != nil {
		return c.heard() // ended before its type was known (RFC 9114 6.2)
	}
	switch kind {
	case streamControl, streamEncoder, streamDecoder:
		if c.seen.Or(1<<kind)&(1<<kind) != 0 {
			return violation(codeStreamCreationError, "a second control, encoder or decoder stream")
		}
	case streamPush:
		return violation(codeStreamCreationError, "a push stream from a client")
	default:
		s.CancelRead(codeStreamCreationError)
		return c.heard()
	}
	switch kind {
	case streamControl:
		err = c.readControl(b)
	case streamEncoder:
		err = c.readEncoder(b)
	case streamDecoder:
		err = c.readDecoder(b)
	}
	var broken *connectionError
	var reset *quic.StreamError
	switch {
	case errors.As(err, &broken):
		return err
	case err == io.EOF, errors.As(err, &reset):
		return violation(codeClosedCriticalStream, "a critical stream was closed") // RFC 9114 6.2.1, RFC 9204 4.2
	}
	return nil // the connection is gone
}

// readControl reads frames until the stream ends.
func (c *conn) readControl(b *bufio.Reader) error {
	control := controlState{conn: c, goaway: 1<<62 - 1}
	for first := true; ; first = false {
		kind, err := quicvarint.Read(b)
		if err != nil {
			return ended(err)
		}
		length, err := quicvarint.Read(b)
		if err != nil {
			return ended(err)
		}
		if first && kind != frameSettings {
			return violation(codeMissingSettings, "the control stream does not begin with SETTINGS")
		}
		if err := control.frame(b, kind, length, first); err != nil {
			return err
		}
	}
}

// ended makes one of the ways in which a stream ends in the middle.
func ended(err error) error {
	if err == io.ErrUnexpectedEOF {
		return io.EOF
	}
	return err
}

// controlState is what has been said on the peer's control stream.
type controlState struct {
	conn          *conn
	goaway        uint64 // the lowest push ID so far
	pushes        uint64 // the highest MAX_PUSH_ID so far
	pushesAllowed bool
	payload       []byte
}

func (s *controlState) frame(b *bufio.Reader, kind, length uint64, first bool) error {
	switch {
	case kind == frameSettings && first, kind == framePriorityRequest, kind == framePriorityPush,
		kind == frameGoaway, kind == frameMaxPushID, kind == frameCancelPush:
	case kind == frameSettings, kind == frameData, kind == frameHeaders, kind == framePushPromise, reservedFrame(kind):
		return violation(codeFrameUnexpected, "unexpected frame on the control stream")
	default:
		return s.skip(b, length)
	}
	if length > controlPayloadMax {
		return violation(codeExcessiveLoad, "a frame on the control stream is too long")
	}
	if cap(s.payload) < int(length) {
		s.payload = make([]byte, length)
	}
	s.payload = s.payload[:length]
	if _, err := io.ReadFull(b, s.payload); err != nil {
		return ended(err)
	}
	switch kind {
	case frameSettings:
		return s.conn.readSettings(s.payload)
	case framePriorityRequest, framePriorityPush:
		return s.priorityUpdate(kind)
	}
	return s.identifier(kind)
}

// skip reads past an unknown frame. Long ones cost what many short ones do.
func (s *controlState) skip(b *bufio.Reader, length uint64) error {
	for {
		if err := s.conn.heard(); err != nil {
			return err
		}
		n := min(length, controlPayloadMax)
		if _, err := b.Discard(int(n)); err != nil {
			return ended(err)
		}
		if length -= n; length == 0 {
			return nil
		}
	}
}

// identifier reads the frames that carry nothing but one number.
func (s *controlState) identifier(kind uint64) error {
	id, n, err := quicvarint.Parse(s.payload)
	if err != nil || n != len(s.payload) {
		return violation(codeFrameError, "a frame on the control stream has an odd length")
	}
	switch kind {
	case frameCancelPush:
		return violation(codeIDError, "CANCEL_PUSH of a push that was never promised") // RFC 9114 7.2.3
	case frameMaxPushID:
		if s.pushesAllowed && id < s.pushes {
			return violation(codeIDError, "MAX_PUSH_ID went down") // RFC 9114 7.2.7
		}
		s.pushes, s.pushesAllowed = id, true
	case frameGoaway:
		if id > s.goaway {
			return violation(codeIDError, "the identifier of GOAWAY went up") // RFC 9114 5.2
		}
		s.goaway = id
	}
	return s.conn.heard() // we push nothing: none of it matters
}

func (s *controlState) priorityUpdate(kind uint64) error {
	id, n, err := quicvarint.Parse(s.payload)
	if err != nil {
		return violation(codeFrameError, "PRIORITY_UPDATE without an identifier")
	}
	if kind == framePriorityPush {
		return violation(codeIDError, "PRIORITY_UPDATE of a push that was never promised") // RFC 9218 7.2
	}
	return s.conn.reprioritise(quic.StreamID(id), string(s.payload[n:]))
}

// readSettings judges the peer's settings. One changes what we send, the length that
// it allows of field sections: nothing is
// ever put into a dynamic table, and no extension is used unasked.
func (c *conn) readSettings(b []byte) error {
	seen := make(map[uint64]bool, 8)
	for len(b) > 0 {
		id, n, err := quicvarint.Parse(b)
		if err != nil {
			return violation(codeFrameError, "SETTINGS ends within a setting")
		}
		b = b[n:]
		value, n, err := quicvarint.Parse(b)
		if err != nil {
			return violation(codeFrameError, "SETTINGS ends within a setting")
		}
		b = b[n:]
		switch {
		case seen[id]:
			return violation(codeSettingsError, "a setting came twice") // RFC 9114 7.2.4
		case id == 0x0 || id >= 0x2 && id <= 0x5:
			return violation(codeSettingsError, "a setting of HTTP/2") // RFC 9114 7.2.4.1
		case id == settingExtendedConnect && value > 1:
			return violation(codeSettingsError, "SETTINGS_ENABLE_CONNECT_PROTOCOL is neither 0 nor 1") // RFC 8441 3
		}
		if id == settingMaxFieldSectionSize {
			c.allowSections(value)
		}
		if seen[id] = true; len(seen) > settingsMax {
			return violation(codeExcessiveLoad, "too many settings")
		}
	}
	return nil
}

// readEncoder reads the instructions of the peer's encoder (RFC 9204 4.3). With
// our capacity of 0 the only one that is no error sets that capacity.
func (c *conn) readEncoder(b *bufio.Reader) error {
	for {
		first, err := b.ReadByte()
		if err != nil {
			return err
		}
		if first&0xe0 != 0x20 {
			return violation(codeEncoderStreamError, "an entry for a dynamic table of capacity 0")
		}
		capacity, err := readIntegerFrom(b, first, 5)
		switch {
		case err == errQPACK || err == nil && capacity != 0:
			return violation(codeEncoderStreamError, "a dynamic table larger than was allowed")
		case err != nil:
			return err
		}
		if err := c.heard(); err != nil {
			return err
		}
	}
}

// readDecoder reads the instructions of the peer's decoder (RFC 9204 4.4). As no
// field section of ours refers to a dynamic table, only cancellations make sense.
func (c *conn) readDecoder(b *bufio.Reader) error {
	for {
		first, err := b.ReadByte()
		if err != nil {
			return err
		}
		if first&0xc0 != 0x40 {
			return violation(codeDecoderStreamError, "an acknowledgement of what was never sent")
		}
		switch _, err := readIntegerFrom(b, first, 6); {
		case err == errQPACK:
			return violation(codeDecoderStreamError, "a stream identifier is too large")
		case err != nil:
			return err
		}
		if err := c.heard(); err != nil {
			return err
		}
	}
}

// readIntegerFrom reads the rest of a prefixed integer.
func readIntegerFrom(b *bufio.Reader, first byte, bits uint) (uint64, error) {
	buf := append(make([]byte, 0, integerBytesMax), first)
	for {
		n, used := readInteger(buf, bits)
		switch {
		case used > 0:
			return n, nil
		case used < 0:
			return 0, errQPACK
		}
		next, err := b.ReadByte()
		if err != nil {
			return 0, err
		}
		buf = append(buf, next)
	}
}
