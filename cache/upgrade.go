package cache

// upgrade.go relays a change of protocol over HTTP/1.1, such as WebSocket
// (RFC 9110 7.8): the request with its Upgrade, the 101, then bytes both ways.

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"time"
)

func (x *exchange) upgrade() {
	x.r.Outcome = Outcome{Fwd: FwdBypass, Detail: "upgrade"}
	protocol, _ := x.r.Field("upgrade")
	if x.r.HasBody || !strings.EqualFold(protocol, "websocket") {
		// h2c and the rest are not offered on; the request stands without (RFC 9110 7.8).
		x.conds.upgrade = false
		x.pass(FwdBypass, "upgrade-ignored")
		return
	}
	ctx, cancel := context.WithCancel(x.hr.Context())
	defer cancel()
	defer context.AfterFunc(x.cache.background, cancel)()
	out := x.cache.outgoing(ctx, x.r, true)
	out.fields = append(out.fields, Field{"connection", "Upgrade"}, Field{"upgrade", protocol})
	resp, fields, err := x.cache.forward(&out)
	if err != nil {
		x.cache.stats.FetchErrors.Add(1)
		x.failFetch(err)
		return
	}
	if resp.StatusCode != http.StatusSwitchingProtocols {
		_, sized := fieldValue(fields, "content-length")
		x.relay(resp, x.cache.responseFields(resp, fields, time.Now()), sized)
		return
	}
	x.tunnel(ctx, resp, fields, protocol)
}

// tunnel hands both connections to each other until one ends.
func (x *exchange) tunnel(ctx context.Context, resp *http.Response, fields []Field, protocol string) {
	origin, ok := resp.Body.(io.ReadWriteCloser)
	if told, _ := fieldValue(fields, "upgrade"); !ok || !strings.EqualFold(told, protocol) {
		_ = resp.Body.Close() // nothing in it is wanted
		x.fail(http.StatusBadGateway, "http_upgrade_failed", "the origin switched to a protocol that was not asked for")
		return
	}
	defer func() { _ = origin.Close() }() // the tunnel has ended
	fields = append(x.cache.responseFields(resp, fields, time.Now()), x.cache.statusField(x.r))
	h := x.w.Header()
	h.Set("Connection", "Upgrade")
	h.Set("Upgrade", protocol)
	x.writeHeader(http.StatusSwitchingProtocols, fields)
	conn, buffered, err := http.NewResponseController(x.w).Hijack()
	if err != nil {
		x.cache.log.Warn("cache: upgrade", "err", err)
		panic(http.ErrAbortHandler)
	}
	defer func() { _ = conn.Close() }() // the tunnel has ended
	stop := context.AfterFunc(ctx, func() { _ = conn.Close(); _ = origin.Close() })
	defer stop()
	done := make(chan error, 2)
	go func() { done <- copyTunnel(origin, buffered.Reader) }()
	go func() { done <- copyTunnel(conn, origin) }()
	<-done
	_ = conn.SetDeadline(time.Now()) // wakes the other direction
	_ = origin.Close()
	<-done
}

func copyTunnel(to io.Writer, from io.Reader) error {
	_, err := io.Copy(to, from)
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}
