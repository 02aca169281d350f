package h2

// dispatch.go is what frames of requests do: HEADERS, CONTINUATION, DATA and
// RST_STREAM. A frame is whole when it comes here, but for DATA.

import "encoding/binary"

// continuationsMax is how many CONTINUATION frames one header block may have.
const continuationsMax = 64

// frame does what a frame says.
func (c *conn) frame(h *frameHeader, payload []byte) {
	switch {
	case !c.greeted && (h.kind != kindSettings || h.has(flagAck)): // RFC 9113 3.4
		c.fail(codeProtocol, "the first frame is not SETTINGS")
		return
	case c.blockOf != 0 && (h.kind != kindContinuation || h.stream != c.blockOf): // RFC 9113 6.10
		c.fail(codeProtocol, "a header block is interrupted")
		return
	}
	switch h.kind {
	case kindData:
		c.beginData(h, payload)
	case kindHeaders:
		c.headersFrame(h, payload)
	case kindContinuation:
		c.continuationFrame(h, payload)
	case kindRST:
		c.rstFrame(h, payload)
	case kindPriority:
		c.priorityFrame(h, payload)
	case kindSettings:
		c.settingsFrame(h, payload)
	case kindPushPromise:
		c.fail(codeProtocol, "PUSH_PROMISE from a client")
	case kindPing:
		c.pingFrame(h, payload)
	case kindGoAway:
		c.goAwayFrame(h, payload)
	case kindWindowUpdate:
		c.windowFrame(h, payload)
	case kindPriorityUpdate:
		c.priorityUpdateFrame(h, payload)
	default:
		c.flooded(floodUnknown) // else ignored (RFC 9113 4.1)
	}
}

// unpad cuts padding off; false where it is longer than the payload.
func unpad(h *frameHeader, payload []byte) ([]byte, bool) {
	if !h.has(flagPadded) {
		return payload, true
	}
	if len(payload) == 0 || int(payload[0]) > len(payload)-1 {
		return nil, false
	}
	return payload[1 : len(payload)-int(payload[0])], true
}

func (c *conn) headersFrame(h *frameHeader, payload []byte) {
	if h.stream%2 == 0 { // 0, or one that only a server may open
		c.fail(codeProtocol, "HEADERS on a stream that is not the client's")
		return
	}
	payload, ok := unpad(h, payload)
	if !ok {
		c.fail(codeProtocol, "padding is longer than its frame")
		return
	}
	c.selfDep = false
	if h.has(flagPriority) {
		if len(payload) < 5 {
			c.fail(codeFrameSize, "HEADERS is too short for its priority")
			return
		}
		c.selfDep = binary.BigEndian.Uint32(payload)&streamIDMax == h.stream
		payload = payload[5:]
	}
	c.blockEnd = h.has(flagEndStream)
	if h.has(flagEndHeaders) {
		c.headerBlock(h.stream, payload)
		return
	}
	if len(payload) == 0 && c.flooded(floodEmpty) {
		return
	}
	c.blockOf, c.extra = h.stream, 0
	c.block = append(c.block[:0], payload...)
	c.partialBy = c.now.Add(c.door.Limits().HeaderTimeout)
}

func (c *conn) continuationFrame(h *frameHeader, payload []byte) {
	if c.blockOf == 0 {
		c.fail(codeProtocol, "CONTINUATION without a header block")
		return
	}
	c.extra++
	// A block that is twice as long as the fields that it may hold is refused
	// without reading on: it would be answered 431 at best.
	if c.extra > continuationsMax || len(c.block)+len(payload) > 2*int(c.door.Limits().HeaderBytes)+frameBytesMax {
		c.engine.stats.HeaderFloods.Add(1)
		c.end(codeCalm, "an endless header block")
		return
	}
	if len(payload) == 0 && c.flooded(floodEmpty) {
		return
	}
	c.block = append(c.block, payload...)
	if h.has(flagEndHeaders) {
		id := c.blockOf
		c.blockOf = 0
		c.headerBlock(id, c.block)
		if cap(c.block) > frameBytesMax {
			c.block = nil
		}
	}
}

// headerBlock decodes a whole header block, whatever becomes of it: the table must
// stay that of the client.
func (c *conn) headerBlock(id uint32, block []byte) {
	s := c.streams[id]
	limits := c.door.Limits()
	c.header.reset(s != nil, int(limits.HeaderBytes), limits.HeaderFields)
	var err error
	switch c.text, err = c.hpack.decode(block, c.text, &c.header); err {
	case nil:
	case errExpands:
		c.engine.stats.HeaderFloods.Add(1)
		c.end(codeCalm, err.Error())
		return
	default:
		c.fail(codeCompression, err.Error())
		return
	}
	switch {
	case s != nil:
		c.trailers(s)
	case id <= c.lastID:
		c.headersAfterEnd(id)
	case c.drain == drainFinal: // RFC 9113 6.8: not ours any more
		c.lastID = id
		c.remember(id, true)
	default:
		c.lastID, c.answeredID = id, id
		c.request(id)
	}
	if cap(c.text) > 4*frameBytesMax {
		c.text = nil
	}
}

// headersAfterEnd is for HEADERS on a stream that is no more.
func (c *conn) headersAfterEnd(id uint32) {
	switch known, byUs := c.wasClosed(id); {
	case byUs: // sent before our RST_STREAM came
		c.flooded(floodEmpty)
	case known:
		c.fail(codeStreamClosed, "HEADERS on a closed stream") // RFC 9113 5.1
	default:
		c.fail(codeProtocol, "a stream identifier that goes backwards") // RFC 9113 5.1.1
	}
}

func (c *conn) rstFrame(h *frameHeader, payload []byte) {
	switch {
	case len(payload) != 4:
		c.fail(codeFrameSize, "RST_STREAM of a wrong size")
		return
	case h.stream == 0 || c.untouched(h.stream):
		c.fail(codeProtocol, "RST_STREAM on an idle stream")
		return
	}
	if c.flooded(floodReset) {
		return
	}
	if s := c.streams[h.stream]; s != nil {
		c.drop(s, errReset)
		c.remember(h.stream, false)
	}
}

// untouched says whether a stream is idle.
func (c *conn) untouched(id uint32) bool { return id%2 == 0 || id > c.lastID }

// remember notes that a stream has closed.
func (c *conn) remember(id uint32, byUs bool) {
	value := id << 1
	if byUs {
		value |= 1
	}
	c.closed[c.closedAt%closedMax] = value
	c.closedAt++
}

// wasClosed says whether a stream is known to have closed, and whether we reset it.
func (c *conn) wasClosed(id uint32) (known, byUs bool) {
	for _, value := range c.closed {
		if value>>1 == id {
			return true, value&1 != 0
		}
	}
	return false, false
}

// reset is a stream error: it ends a stream, if it is open, and tells the client so.
// What the client has provoked counts as if it had reset the stream itself.
func (c *conn) reset(id uint32, reason code, why string) {
	if c.flooded(floodReset) {
		return
	}
	c.engine.stats.StreamErrors.Add(1)
	if s := c.streams[id]; s != nil {
		c.drop(s, errReset)
	}
	c.remember(id, true)
	c.commit(appendRST(c.begin(), id, reason))
	c.door.Log().Debug("HTTP/2 stream reset", "client", c.client, "reason", why)
}

// beginData takes the header of a DATA frame, and its padding length.
func (c *conn) beginData(h *frameHeader, payload []byte) {
	length, padding := h.length, 0
	if h.has(flagPadded) {
		if len(payload) == 0 || int(payload[0]) >= length { // RFC 9113 6.1
			c.fail(codeProtocol, "padding is longer than its frame")
			return
		}
		padding = int(payload[0])
		length -= 1 + padding
	}
	switch {
	case h.stream == 0 || c.untouched(h.stream):
		c.fail(codeProtocol, "DATA on an idle stream")
		return
	case int64(h.length) > c.received:
		c.fail(codeFlowControl, "DATA beyond the connection's window")
		return
	case length == 0 && !h.has(flagEndStream) && c.flooded(floodEmpty):
		return
	}
	c.received -= int64(h.length)
	c.giveBack(h.length - length) // what is padding has been read
	c.dataLeft, c.padLeft, c.dataEnd = length, padding, h.has(flagEndStream)
	c.dataTo = c.dataStream(h, length)
	if c.dataLeft == 0 {
		c.endData()
	}
}

// dataStream returns the stream that DATA is for, nil where it is not wanted.
func (c *conn) dataStream(h *frameHeader, length int) *stream {
	s := c.streams[h.stream]
	switch {
	case s == nil:
		if known, byUs := c.wasClosed(h.stream); !known || !byUs {
			c.reset(h.stream, codeStreamClosed, "DATA on a closed stream")
		}
		return nil
	case s.received:
		c.reset(h.stream, codeStreamClosed, "DATA after the end of the request")
		return nil
	case int64(h.length) > s.quota:
		c.reset(h.stream, codeFlowControl, "DATA beyond the stream's window")
		return nil
	}
	s.quota -= int64(h.length)
	s.giveBack(h.length - length)
	if s.length >= 0 && (int64(length) > s.length || c.dataEnd && int64(length) < s.length) {
		c.reset(h.stream, codeProtocol, "content of another length than announced")
		return nil
	}
	if s.length >= 0 {
		s.length -= int64(length)
	}
	return s
}

// takeData takes what has come of a DATA frame and returns how much that was.
func (c *conn) takeData(b []byte) int {
	n := min(len(b), c.dataLeft)
	if n > 0 {
		c.dataLeft -= n
		if s := c.dataTo; s != nil {
			s.takeBody(b[:n])
		} else {
			c.giveBack(n)
		}
		if c.dataLeft == 0 {
			c.endData()
		}
	}
	padding := min(len(b)-n, c.padLeft)
	c.padLeft -= padding
	return n + padding
}

// endData is called when all of a DATA frame but its padding has come.
func (c *conn) endData() {
	if s := c.dataTo; s != nil && c.dataEnd {
		s.endBody()
	}
	c.dataTo = nil
}

// giveBack lets the client send n bytes more on the connection, not always at once.
func (c *conn) giveBack(n int) {
	c.credit += int64(n)
	if c.credit >= connWindow/4 {
		c.commit(appendWindowUpdate(c.begin(), 0, uint32(c.credit)))
		c.received += c.credit
		c.credit = 0
	}
}
