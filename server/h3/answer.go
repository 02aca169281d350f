package h3

// answer.go sends hits and short replies: one write where the client's windows
// take them.

import (
	"net/http"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/quicvarint"

	"edgecdn/cache"
)

const (
	// atOnceMax is the longest answer that is copied into quic-go's queue instead
	// of being sent from where it is stored, by a goroutine that waits for it.
	// Streams times this much is what one connection can make us hold.
	atOnceMax = 16 << 10
	// packetMax is what goes into one packet, and what quic-go takes without
	// waiting or allocating: the header and the start of a long body.
	packetMax = 1452
	// headersHead is the head of a HEADERS frame: its type, and its length in four
	// bytes whatever it is (RFC 9000 16 allows more than are needed).
	headersHead = 1 + 4
)

// send sends the hit or the reply.
func (r *request) send(wait bool) error {
	if !r.composed {
		r.composed = true
		if r.compose() != nil {
			r.x.Aborted = true
			r.Abort()
			r.stage = stageDone
			return nil
		}
		if r.urged {
			r.stream.SetPriority(r.priority.urgency, r.priority.incremental)
		}
	}
	if !wait {
		switch err := r.stream.TryWriteAll(r.out); err {
		case nil:
		case quic.ErrWouldBlock:
			r.conn.engine.stats.Blocked.Add(1)
			return errAgain
		default:
			return err
		}
		r.x.Written = r.copied
		r.out = r.out[:0]
		if len(r.rest) > 0 {
			return errAgain
		}
	} else {
		if _, err := r.write(r.out); err != nil {
			return err
		}
		n, err := r.write(r.rest)
		r.x.Written = r.copied + int64(n)
		if err != nil {
			return err
		}
	}
	r.stage = stageDone
	return r.stream.Close()
}

// compose fills r.out, and r.rest with what is too long to be copied.
func (r *request) compose() error {
	at := r.startHeaders()
	if !r.hit {
		r.composeReply()
		if err := r.endHeaders(at); err != nil || r.curt {
			return err
		}
		r.out = appendData(r.out, int64(len(r.x.Reply.Body)))
		r.out, r.copied = append(r.out, r.x.Reply.Body...), int64(len(r.x.Reply.Body))
		return nil
	}
	r.composeHit()
	if err := r.endHeaders(at); err != nil || r.curt || r.x.Request.Method == http.MethodHead {
		return err
	}
	body := r.x.Hit.Body()
	r.out = appendData(r.out, int64(len(body)))
	if len(r.out)+len(body) > atOnceMax {
		n := min(max(packetMax-len(r.out), 0), len(body))
		r.rest, body = body[n:], body[:n]
	}
	r.out, r.copied = append(r.out, body...), int64(len(body))
	return nil
}

// appendData begins a DATA frame, if there is anything for it.
func appendData(b []byte, length int64) []byte {
	if length == 0 {
		return b
	}
	return quicvarint.Append(append(b, frameData), uint64(length))
}

func (r *request) composeHit() {
	hit := &r.x.Hit
	if block := hit.Block(cache.HTTP3); block != nil {
		r.out = append(r.out, block...)
		r.fields = hit.AppendTail(r.fields[:0])
		for i := range r.fields {
			r.out = appendPlain(r.out, r.fields[i].Name, r.fields[i].Value)
		}
		return
	}
	r.fields = hit.AppendFields(r.fields[:0])
	r.out = Encode(r.out, hit.Status, r.fields)
}

func (r *request) composeReply() {
	r.out = Encode(r.out, r.x.Reply.Status, r.x.Reply.Fields)
	var date [len(http.TimeFormat)]byte
	r.out = appendPlain(r.out, "date", text(time.Now().UTC().AppendFormat(date[:0], http.TimeFormat)))
}

// startHeaders leaves room for the frame's head.
func (r *request) startHeaders() (at int) {
	at = len(r.out)
	r.out = append(r.out, make([]byte, headersHead)...)
	return at
}

// endHeaders adds what every response of ours has.
func (r *request) endHeaders(at int) error {
	r.out = append(r.out, r.conn.engine.altSvc...)
	if hsts := r.x.HSTS(); hsts != "" {
		r.out = appendPlain(r.out, "strict-transport-security", hsts)
	}
	err := r.curtail(at)
	r.endFrame(at)
	return err
}

// endFrame puts the frame's head where room was left.
func (r *request) endFrame(at int) {
	if len(r.out) == at { // nothing may be said
		return
	}
	length := len(r.out) - at - headersHead
	r.out[at] = frameHeaders
	_ = quicvarint.AppendWithLen(r.out[at+1:at+1], uint64(length), 4)
}
