package gate

// decide.go takes a request from its header to what becomes of it: understood,
// matched, judged, looked up inline. All protocols share it. It never blocks.

import (
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"edgecdn/access"
	"edgecdn/cache"
	"edgecdn/internal/authority"
	"edgecdn/internal/unit"
	"edgecdn/route"
)

// Decide says what becomes of the request. After Handle everything in the
// Exchange is its own and a handler's slot is taken, which End gives back.
func (x *Exchange) Decide() Decision {
	g, req := x.door.Gate, &x.Request
	limits := g.limits.Load()
	switch {
	case x.HeaderBytes > int(limits.HeaderBytes):
		g.stats.HeadersRefused.Add(1)
		return x.Refuse(http.StatusRequestHeaderFieldsTooLarge, "the header is longer than "+limits.HeaderBytes.String())
	case len(req.Fields) > limits.HeaderFields:
		g.stats.HeadersRefused.Add(1)
		return x.Refuse(http.StatusRequestHeaderFieldsTooLarge, "more than "+strconv.Itoa(limits.HeaderFields)+" header fields")
	case req.Method == http.MethodConnect:
		return x.deny(g.seam.Judge(nil, req.Method, req.Client.Addr()))
	}
	switch p := x.understand(); p {
	case "":
	case problemScheme:
		return x.Refuse(http.StatusMisdirectedRequest, string(p))
	default:
		g.stats.Malformed.Add(1)
		return x.Refuse(http.StatusBadRequest, string(p))
	}
	if x.proof() {
		return SendReply
	}
	verdict, decided := x.admit()
	if decided {
		return SendReply
	}
	if verdict.Action == access.Allow && !req.HasBody && (req.Method == http.MethodGet || req.Method == http.MethodHead) {
		var ok bool
		if x.Hit, ok = g.seam.Lookup(req); ok {
			x.Status = x.Hit.Status
			return SendHit
		}
	}
	if most := x.bodyBytesMax(); x.ContentLength > most && req.HasBody {
		g.stats.BodiesRefused.Add(1)
		return x.Refuse(http.StatusRequestEntityTooLarge, "the content is longer than "+unit.Bytes(most).String())
	}
	if x.early() {
		// Replayed bytes may cost a hit, but never reach an origin (RFC 8470 5.1).
		g.stats.Early.Add(1)
		return x.Refuse(http.StatusTooEarly, "not in early data: ask again when the handshake is done")
	}
	if g.stats.HandlersBusy.Add(1) > int64(limits.Handlers) {
		g.stats.HandlersBusy.Add(-1)
		g.stats.HandlersRefused.Add(1)
		x.Reply.Fields = append(x.Reply.Fields, cache.Field{Name: "retry-after", Value: "1"})
		return x.Refuse(http.StatusServiceUnavailable, "too many requests at work")
	}
	x.slot = true
	x.Own()
	return Handle
}

// proof answers who validates a host's name for a certificate, before any route:
// redirects to https and client certificates would be in the way.
func (x *Exchange) proof() bool {
	g, req := x.door.Gate, &x.Request
	if x.TLS != nil || req.Method != http.MethodGet || !strings.HasPrefix(req.Target, ChallengePath) || g.seam.Challenge == nil {
		return false
	}
	answer, ok := g.seam.Challenge(req.Host, req.Target)
	if ok {
		x.Reply.Fields = append(x.Reply.Fields, cache.Field{Name: "cache-control", Value: "no-store"})
		x.plain(http.StatusOK, answer)
	}
	return ok
}

// bodyBytesMax is how long the request's body may be.
func (x *Exchange) bodyBytesMax() int64 {
	if r := x.Request.Route; r != nil && r.BodyBytes > 0 {
		return r.BodyBytes
	}
	return int64(x.door.Limits().BodyBytes)
}

// early says whether the request came in early data, to us or to a proxy before us.
func (x *Exchange) early() bool {
	if x.Request.EarlyData {
		return true
	}
	value, ok := x.Request.Field("early-data")
	return ok && value == "1"
}

// understand settles Host and Target. Where something is wrong both stay as sent,
// for the log.
func (x *Exchange) understand() problem {
	req := &x.Request
	req.Host = req.Authority
	named, target, p := parseTarget(req.Method, req.Target, req.Scheme)
	if p != "" {
		return p
	}
	if named != "" {
		if req.Proto != cache.HTTP1 {
			return problemTarget // RFC 9113 8.3.1, RFC 9114 4.3.1
		}
		req.Authority = named // RFC 9112 3.2.2
	}
	host, ok := authority.Parse(req.Authority, req.Scheme)
	if !ok {
		return problemHost
	}
	if x.OtherHost != "" {
		if other, ok := authority.Parse(x.OtherHost, req.Scheme); !ok || other != host {
			return problemHostTwice
		}
	}
	req.Host, req.Target = host, target
	return ""
}

// admit finds the route and asks whether the request may go on. decided: it is
// answered already.
func (x *Exchange) admit() (v access.Verdict, decided bool) {
	g, req := x.door.Gate, &x.Request
	matched, err := g.seam.Match(req.Host, req.Target)
	switch {
	case errors.Is(err, route.ErrNoHost):
		x.Refuse(http.StatusMisdirectedRequest, "this host is not served here")
		return v, true
	case errors.Is(err, route.ErrAmbiguous):
		g.stats.Malformed.Add(1)
		x.Refuse(http.StatusBadRequest, "the path can be read in two ways")
		return v, true
	case err != nil:
		x.Refuse(http.StatusNotFound, "nothing is served under this path")
		return v, true
	}
	req.Route = matched
	if matched.ClientCA != "" && x.TLS != nil && !g.seam.Proven(matched.ClientCA, x.TLS) {
		g.stats.Denied.Add(1)
		// The client comes again with a connection of its own to this host (RFC 9110 15.5.20).
		x.Refuse(http.StatusMisdirectedRequest, "this host wants a client certificate, which this connection was not asked for: connect to it by its name")
		return v, true
	}
	if location, status, ok := matched.Redirect(req.Scheme, req.Host, req.Target); ok {
		x.redirect(location, status)
		return v, true
	}
	if matched.ClientCA != "" && x.TLS == nil {
		g.stats.Denied.Add(1)
		x.Refuse(http.StatusForbidden, "this host wants a client certificate: ask over https")
		return v, true
	}
	if matched.Origin == "" { // only redirects, and none applied
		x.Refuse(http.StatusNotFound, "nothing is served under this path")
		return v, true
	}
	if v = g.seam.Judge(matched, req.Method, req.Client.Addr()); v.Action == access.Deny {
		x.deny(v)
		return v, true
	}
	if req.Method == http.MethodOptions && x.lastHop() {
		x.Reply.Fields = append(x.Reply.Fields, cache.Field{Name: "allow", Value: matched.AllowField()})
		x.Refuse(http.StatusOK, "answered by the edge, as Max-Forwards asks")
		return v, true
	}
	return v, false
}

// lastHop says whether the request may not be forwarded (RFC 9110 7.6.2).
func (x *Exchange) lastHop() bool {
	value, ok := x.Request.Field("max-forwards")
	n, err := strconv.ParseUint(value, 10, 64)
	return ok && err == nil && n == 0
}

func (x *Exchange) redirect(location string, status int) {
	x.Reply.Fields = append(x.Reply.Fields, cache.Field{Name: "location", Value: location})
	x.reply(status, "see "+location)
}

func (x *Exchange) deny(v access.Verdict) Decision {
	x.door.stats.Denied.Add(1)
	if v.Allow != "" {
		x.Reply.Fields = append(x.Reply.Fields, cache.Field{Name: "allow", Value: v.Allow})
	}
	if v.RetryAfter > 0 {
		seconds := int64((v.RetryAfter + time.Second - 1) / time.Second)
		x.Reply.Fields = append(x.Reply.Fields, cache.Field{Name: "retry-after", Value: strconv.FormatInt(seconds, 10)})
	}
	return x.Refuse(v.Status, v.Reason)
}

// Refuse makes Reply an error of ours, which nobody stores. Engines use it for
// what they find wrong with a request themselves.
func (x *Exchange) Refuse(status int, reason string) Decision {
	x.Reply.Fields = append(x.Reply.Fields, cache.Field{Name: "cache-control", Value: "no-store"})
	x.Reply.Close = status == http.StatusBadRequest // RFC 9112 9.6
	return x.reply(status, reason)
}

func (x *Exchange) reply(status int, text string) Decision {
	return x.plain(status, strconv.Itoa(status)+" "+http.StatusText(status)+": "+text+"\n")
}

func (x *Exchange) plain(status int, body string) Decision {
	x.Status, x.Reply.Status = status, status
	x.Reply.Fields = append(x.Reply.Fields,
		cache.Field{Name: "content-type", Value: "text/plain; charset=utf-8"},
		cache.Field{Name: "x-content-type-options", Value: "nosniff"},
		cache.Field{Name: "content-length", Value: strconv.Itoa(len(body))})
	if x.Request.Method != http.MethodHead {
		x.Reply.Body = body
	}
	return SendReply
}
