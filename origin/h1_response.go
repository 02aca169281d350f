package origin

// h1_response.go reads the header of an answer, and judges it: what two readers
// could understand in two ways is refused (docs/origins.md lists the cases).

import (
	"net/http"
	"net/textproto"
	"strings"
	"time"

	wire "edgecdn/internal/h1"
)

// chunkedCoding is what http.Response says of a body in chunks. Nobody changes it.
var chunkedCoding = []string{"chunked"}

// answer reads informational responses and the final header.
func (x *h1Exchange) answer() error {
	for informed := 0; ; informed++ {
		fields, err := x.readHead()
		if err != nil {
			return err
		}
		status := x.head.Status
		if status >= 200 || status == http.StatusSwitchingProtocols {
			return x.begin(fields)
		}
		if informed == informationalMax {
			return errorf(KindProtocol, "more than %d informational responses", informationalMax)
		}
		if status == http.StatusContinue && x.upload != nil {
			x.upload.proceed(true)
		}
		if early := x.request.early; early != nil {
			early(status, fields)
		} else if trace := x.request.trace; trace != nil && trace.Got1xxResponse != nil {
			if err := trace.Got1xxResponse(status, textproto.MIMEHeader(mapOf(fields))); err != nil {
				return errorf(KindInternal, "informational response: %w", err)
			}
		}
	}
}

// readHead reads one header section. Its strings point into the exchange's section, that
// of 1xx responses only until the next one.
func (x *h1Exchange) readHead() ([]Field, error) {
	for from := x.r; ; {
		end, next, fault := wire.SectionEnd(x.in[:x.w], from)
		if fault != 0 {
			return nil, fault
		}
		if end > 0 {
			x.section = append(x.section[:0], x.in[x.r:end]...)
			section := x.section
			x.r = end
			fields, fault := wire.ReadResponse(&x.head, x.room.fields[:0], section, fieldsMax)
			if fault != 0 {
				return nil, fault
			}
			return fields, nil
		}
		if from == x.r && !couldBeHTTP(x.in[x.r:x.w]) {
			return nil, wire.FaultVersion // else a foreign protocol would be waited for
		}
		from = next
		if moved, err := x.more(); err != nil {
			return nil, err
		} else {
			from -= moved
		}
	}
}

// couldBeHTTP says whether b may be the start of an answer.
func couldBeHTTP(b []byte) bool {
	const start = "HTTP/"
	return strings.HasPrefix(start, string(b[:min(len(b), len(start))]))
}

// more reads once behind what is there, making room first; moved is how far the
// bytes have been shifted to the front.
func (x *h1Exchange) more() (moved int, err error) {
	switch {
	case x.w < len(x.in):
	case x.r > 0:
		moved = x.r
		x.w = copy(x.in, x.in[x.r:x.w])
		x.r = 0
	case len(x.in) >= headerBytesMax:
		return 0, errorf(KindHeaderSize, "the header or trailer section is longer than %d bytes", headerBytesMax)
	default:
		larger := make([]byte, min(2*len(x.in), headerBytesMax))
		copy(larger, x.in[:x.w])
		x.in = larger
	}
	n, err := x.conn.nc.Read(x.in[x.w:])
	x.w += n
	if n > 0 {
		err = nil
	}
	return moved, err
}

// begin judges the final header and makes the response of it.
func (x *h1Exchange) begin(fields []Field) error {
	head, r := &x.head, x.request.Request
	framing, fault := head.Body(r.Method)
	if fault != 0 {
		return fault
	}
	x.resp = http.Response{
		StatusCode: head.Status, Status: statusLine(head), ProtoMajor: 1, ProtoMinor: head.Minor, Proto: "HTTP/1.1",
		Body: http.NoBody, Request: r, ContentLength: framing,
	}
	if head.Minor == 0 {
		x.resp.Proto = "HTTP/1.0"
	}
	if cap(x.fields) < len(fields) {
		x.fields = make([]Field, 0, len(fields)+8) // the cache adds some of its own
	}
	x.fields = append(x.fields[:0], fields...)
	x.conn.used = true
	x.guard.Lock()
	x.answered = true
	x.guard.Unlock()
	if x.upload != nil {
		x.upload.proceed(false)
	}
	x.client.stats.HeaderTime.observe(time.Since(x.start))
	x.framing = framing
	if head.Status == http.StatusSwitchingProtocols {
		return x.switchProtocols()
	}
	switch framing {
	case wire.Chunked:
		x.resp.TransferEncoding, x.resp.ContentLength = chunkedCoding, -1
		x.announce()
	case wire.ToClose:
		x.resp.ContentLength = -1
	case 0:
		if r.Method == http.MethodHead && head.Status != http.StatusNoContent && head.Status != http.StatusNotModified {
			x.resp.ContentLength = head.Length // -1 where it says none
		}
		x.finish(x.persistent())
		return nil
	}
	x.left = framing
	x.resp.Body = x
	return nil
}

func statusLine(head *wire.Response) string {
	if text := http.StatusText(head.Status); text == head.Reason || head.Reason == "" {
		return text // nobody reads it; it costs nothing so
	}
	return head.Reason
}

// announce moves the names in Trailer to where net/http has them.
func (x *h1Exchange) announce() {
	kept := x.fields[:0]
	for _, f := range x.fields {
		if f.Name != "trailer" {
			kept = append(kept, f)
			continue
		}
		for name := range strings.SplitSeq(f.Value, ",") {
			name = textproto.CanonicalMIMEHeaderKey(strings.Trim(name, " \t"))
			if !wire.IsToken(name) || !wire.TrailerField(strings.ToLower(name)) {
				continue
			}
			if x.resp.Trailer == nil {
				x.resp.Trailer = http.Header{}
			}
			x.resp.Trailer[name] = nil
		}
	}
	x.fields = kept
}

// persistent says whether the connection can be used again once the body has been
// read. What lies behind it in the buffer was asked for by nobody.
func (x *h1Exchange) persistent() bool {
	return x.r == x.w && x.framing != wire.ToClose && x.head.Persistent(x.head.Minor) && !x.request.Close &&
		!hasClose(x.request.fields)
}

func hasClose(fields []Field) bool {
	for _, f := range fields {
		if !strings.EqualFold(f.Name, "connection") {
			continue
		}
		for member := range strings.SplitSeq(f.Value, ",") {
			if strings.EqualFold(strings.Trim(member, " \t"), "close") {
				return true
			}
		}
	}
	return false
}
