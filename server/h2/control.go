package h2

// control.go is what frames of the connection do: SETTINGS, PING, GOAWAY,
// WINDOW_UPDATE and priorities; and how we say hello and goodbye.

import "encoding/binary"

// drainPing is the content of the PING that shows that a client has read GOAWAY.
const drainPing = "edge end"

// hint is a priority that came before its request.
type hint struct {
	id   uint32
	prio priority
}

// greet is our preface (RFC 9113 3.4). SETTINGS_ENABLE_CONNECT_PROTOCOL is not in
// it: clients would open WebSockets here instead of over HTTP/1.1, and be refused.
func (c *conn) greet() {
	limits := c.door.Limits()
	b := c.begin()
	start := len(b)
	b = appendHeader(b, 0, kindSettings, 0, 0)
	b = appendSetting(b, settingStreams, uint32(c.streamMax))
	b = appendSetting(b, settingInitialWindow, streamWindow)
	b = appendSetting(b, settingHeaderList, uint32(int(limits.HeaderBytes)+entryOverhead*limits.HeaderFields))
	b = appendSetting(b, settingNoPriorities, 1)
	appendHeader(b[:start], len(b)-start-headerSize, kindSettings, 0, 0)
	c.commit(appendWindowUpdate(b, 0, connWindow-windowDefault))
}

func (c *conn) settingsFrame(h *frameHeader, payload []byte) {
	switch {
	case h.stream != 0:
		c.fail(codeProtocol, "SETTINGS on a stream")
		return
	case h.has(flagAck) && len(payload) > 0 || len(payload)%6 != 0:
		c.fail(codeFrameSize, "SETTINGS of a wrong size")
		return
	}
	first := !c.greeted
	c.greeted = true
	if c.flooded(floodSettings) || h.has(flagAck) {
		return
	}
	for ; len(payload) > 0; payload = payload[6:] {
		id, value := binary.BigEndian.Uint16(payload), binary.BigEndian.Uint32(payload[2:])
		if reason, why := c.setting(id, value, first); reason != codeNo {
			c.fail(reason, why)
			return
		}
	}
	c.commit(appendHeader(c.begin(), 0, kindSettings, flagAck, 0))
}

// setting puts one setting of the client's in force.
func (c *conn) setting(id uint16, value uint32, first bool) (code, string) {
	switch id {
	case settingTableSize:
		// We never use the table. A client that has made it smaller must hear so
		// at the start of the next header block.
		c.tableUpdate = true
	case settingPush, settingConnect:
		if value > 1 {
			return codeProtocol, "a setting that must be 0 or 1"
		}
	case settingNoPriorities:
		if value > 1 || !first && c.noPriorities != value+1 { // RFC 9218 2.1
			return codeProtocol, "an invalid or changed SETTINGS_NO_RFC7540_PRIORITIES"
		}
		c.noPriorities = value + 1
	case settingInitialWindow:
		if value > windowMax {
			return codeFlowControl, "an initial window beyond 2^31-1"
		}
		return c.moveWindows(int64(value))
	case settingFrameSize:
		if value < frameBytesMax || value > 1<<24-1 {
			return codeProtocol, "a frame size out of bounds"
		}
	}
	return codeNo, ""
}

// moveWindows puts a new initial window in force, for open streams too (RFC 9113 6.9.2).
func (c *conn) moveWindows(initial int64) (code, string) {
	delta := initial - c.initialWindow
	c.initialWindow = initial
	for _, s := range c.streams {
		if s.window += delta; s.window > windowMax {
			return codeFlowControl, "a stream's window beyond 2^31-1"
		}
		c.offer(s)
	}
	return codeNo, ""
}

// offer puts a stream among those that are served, or takes it away, by what it
// has and may send.
func (c *conn) offer(s *stream) {
	if len(s.data) > 0 && s.window > 0 {
		c.schedule.add(s)
	} else {
		c.schedule.remove(s)
	}
}

func (c *conn) pingFrame(h *frameHeader, payload []byte) {
	switch {
	case h.stream != 0:
		c.fail(codeProtocol, "PING on a stream")
	case len(payload) != 8:
		c.fail(codeFrameSize, "PING of a wrong size")
	case h.has(flagAck):
		if c.drain == drainTold && string(payload) == drainPing {
			c.goAwayFinally()
			return
		}
		c.flooded(floodPing)
	case !c.flooded(floodPing):
		c.commit(append(appendHeader(c.begin(), 8, kindPing, flagAck, 0), payload...))
	}
}

func (c *conn) goAwayFrame(h *frameHeader, payload []byte) {
	switch {
	case h.stream != 0:
		c.fail(codeProtocol, "GOAWAY on a stream")
	case len(payload) < 8:
		c.fail(codeFrameSize, "GOAWAY is too short")
	case c.drain != drainFinal:
		c.goAwayFinally() // no request will come
	default:
		c.flooded(floodUnknown)
	}
}

// goAway begins a drain: requests that are on their way are still answered.
func (c *conn) goAway() {
	c.drain, c.drainBy, c.newcomer = drainTold, c.now.Add(drainGrace), false
	b := appendGoAway(c.begin(), streamIDMax, codeNo)
	c.commit(append(appendHeader(b, 8, kindPing, 0, 0), drainPing...))
}

// goAwayFinally says which requests were the last.
func (c *conn) goAwayFinally() {
	c.drain = drainFinal
	c.commit(appendGoAway(c.begin(), c.answeredID, codeNo))
}

func (c *conn) windowFrame(h *frameHeader, payload []byte) {
	if len(payload) != 4 {
		c.fail(codeFrameSize, "WINDOW_UPDATE of a wrong size")
		return
	}
	if c.flooded(floodWindow) {
		return
	}
	n := int64(binary.BigEndian.Uint32(payload) & windowMax)
	if h.stream == 0 {
		switch {
		case n == 0:
			c.fail(codeProtocol, "a WINDOW_UPDATE of nothing")
		case c.window+n > windowMax:
			c.fail(codeFlowControl, "the connection's window beyond 2^31-1")
		default:
			c.window += n
		}
		return
	}
	if c.untouched(h.stream) {
		c.fail(codeProtocol, "WINDOW_UPDATE on an idle stream")
		return
	}
	s := c.streams[h.stream]
	switch {
	case s == nil: // of a response that has ended
	case n == 0:
		c.reset(h.stream, codeProtocol, "a WINDOW_UPDATE of nothing")
	case s.window+n > windowMax:
		c.reset(h.stream, codeFlowControl, "a stream's window beyond 2^31-1")
	default:
		s.window += n
		c.offer(s)
	}
}

// priorityFrame checks a frame of the scheme that RFC 9113 5.3 has given up.
func (c *conn) priorityFrame(h *frameHeader, payload []byte) {
	switch {
	case h.stream == 0:
		c.fail(codeProtocol, "PRIORITY on no stream")
	case c.flooded(floodPriority):
	case len(payload) != 5:
		c.reset(h.stream, codeFrameSize, "PRIORITY of a wrong size")
	case binary.BigEndian.Uint32(payload)&streamIDMax == h.stream:
		c.reset(h.stream, codeProtocol, "a stream that depends on itself")
	}
}

// priorityUpdateFrame changes the priority of a response (RFC 9218 7.1).
func (c *conn) priorityUpdateFrame(h *frameHeader, payload []byte) {
	switch {
	case h.stream != 0:
		c.fail(codeProtocol, "PRIORITY_UPDATE on a stream")
		return
	case len(payload) < 4:
		c.fail(codeFrameSize, "PRIORITY_UPDATE is too short")
		return
	case c.flooded(floodPriority):
		return
	}
	id := binary.BigEndian.Uint32(payload) & streamIDMax
	if id%2 == 0 { // none, or a push, of which there are none
		c.fail(codeProtocol, "PRIORITY_UPDATE for a stream that is not the client's")
		return
	}
	prio := parsePriority(string(payload[4:]))
	if s := c.streams[id]; s != nil {
		c.schedule.remove(s)
		s.prio = prio
		c.offer(s)
		return
	}
	if id > c.lastID {
		c.hints[c.hintAt%len(c.hints)] = hint{id, prio}
		c.hintAt++
	}
}

// hinted returns the priority that was announced for a request.
func (c *conn) hinted(id uint32, prio priority) priority {
	for i := range c.hints {
		if c.hints[i].id == id {
			return c.hints[i].prio
		}
	}
	return prio
}
