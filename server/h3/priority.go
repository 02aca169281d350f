package h3

// priority.go is RFC 9218: how urgent a response is, said in a request's field
// or later in a PRIORITY_UPDATE frame. quic-go's scheduler does the rest.

import (
	"strings"

	"github.com/quic-go/quic-go"
)

type priority struct {
	urgency     int8
	incremental bool
}

// priorityDefault is what holds where nothing is said (RFC 9218 4).
var priorityDefault = priority{urgency: 3}

// parsePriority reads a Priority field value. It is a hint: members that cannot
// be read leave their default.
func parsePriority(value string) priority {
	p := priorityDefault
	for member := range strings.SplitSeq(value, ",") {
		member, _, _ = strings.Cut(strings.Trim(member, " \t"), ";")
		switch key, item, _ := strings.Cut(member, "="); key {
		case "u":
			if len(item) == 1 && item[0] >= '0' && item[0] <= '7' {
				p.urgency = int8(item[0] - '0')
			}
		case "i":
			p.incremental = item == "" && member == "i" || item == "?1"
		}
	}
	return p
}

// reprioritise puts a PRIORITY_UPDATE in force, or remembers it for a request
// that is still to come.
func (c *conn) reprioritise(id quic.StreamID, value string) error {
	limits := c.limits()
	if err := c.heard(); err != nil {
		return err
	}
	p := parsePriority(value)
	c.mu.Lock()
	defer c.mu.Unlock()
	if id%4 != 0 || int64(id/4) >= c.requests+int64(limits.Streams)+streamsAhead {
		return violation(codeIDError, "PRIORITY_UPDATE for a stream that cannot be") // RFC 9218 7.2
	}
	if stream, ok := c.lasting[id]; ok {
		stream.SetPriority(p.urgency, p.incremental)
		return nil
	}
	if id < c.next {
		return nil // answered
	}
	if _, known := c.priorities[id]; !known && len(c.priorities) >= limits.Streams {
		c.engine.stats.PrioritiesDropped.Add(1)
		return nil
	}
	if c.priorities == nil {
		c.priorities = map[quic.StreamID]priority{}
	}
	c.priorities[id] = p
	return nil
}
