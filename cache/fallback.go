package cache

// fallback.go answers where the origin fails and nothing stale may be sent: from the
// route's other origin, or with its page. Nothing of either is stored.

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"time"
)

// failing says whether what came of a fetch is a failure that another origin may make
// good: no answer, or one of a gateway that has none (RFC 9110 15.6.3 to 15.6.5).
func failing(resp *http.Response, err error) bool {
	return err != nil || resp.StatusCode == http.StatusBadGateway ||
		resp.StatusCode == http.StatusServiceUnavailable || resp.StatusCode == http.StatusGatewayTimeout
}

// fallBack asks the route's other origin in the place of one that has failed so. It
// returns nil where that is no help: what failed first is told then. proxy is what
// Proxy-Status says of it.
func (c *Cache) fallBack(ctx context.Context, r *Request, asIs bool, early func(int, []Field), resp *http.Response, err error) (stand *http.Response, fields []Field, proxy string) {
	rt := r.Route
	if rt.Fallback == "" || rt.Fallback == rt.Origin || !failing(resp, err) || ctx.Err() != nil ||
		r.HasBody || r.Method != http.MethodGet && r.Method != http.MethodHead {
		return nil, nil, ""
	}
	out := c.outgoingTo(ctx, r, asIs, rt.Fallback)
	out.early = early
	stand, fields, failed := c.forward(&out)
	if failing(stand, failed) {
		if failed == nil {
			_ = stand.Body.Close() // nothing in it is wanted
			failed = errors.New("status " + strconv.Itoa(stand.StatusCode))
		}
		c.stats.FallbackErrors.Add(1)
		c.log.Warn("cache: the fallback fails, too", "host", r.Host, "origin", rt.Fallback, "err", failed)
		return nil, nil, ""
	}
	proxy = c.name
	if err == nil {
		proxy += "; received-status=" + strconv.Itoa(resp.StatusCode)
		_ = resp.Body.Close() // nothing in it is wanted
		err = errors.New("status " + strconv.Itoa(resp.StatusCode))
	} else if token := errorToken(err); token != "" {
		proxy += "; error=" + token
	}
	c.stats.Fallbacks.Add(1)
	c.log.Warn("cache: fetch failed, answered by the fallback", "host", r.Host, "origin", rt.Origin, "fallback", rt.Fallback, "err", err)
	return stand, fields, proxy + "; next-hop=" + quoteForwarded(rt.Fallback) // a token, or quoted (RFC 9209 2.1.2)
}

func errorToken(err error) string {
	var failed originError
	if errors.As(err, &failed) {
		token, _ := failed.ProxyError()
		return token
	}
	return ""
}

// failingFetch is failing for what a fill has fetched.
func failingFetch(resp *fetched, err error) bool {
	if err != nil {
		return true
	}
	return failing(resp.Response, nil)
}

// fallBack is that of a fill; true: it has an answer, for its first client alone.
func (f *fill) fallBack(resp *fetched, err error) bool {
	if p := f.prior(); f.slice != nil && f.slice.of != nil || p != nil && p.usableOnError(time.Now().UnixNano()) {
		return false // stale comes first; a part of what is stored is another's nowhere else
	}
	var first *http.Response
	if resp != nil {
		first = resp.Response
	}
	c, sent := f.cache, time.Now()
	stand, fields, proxy := c.fallBack(f.ctx, f.request, false, f.addEarly, first, err)
	if stand == nil {
		return false
	}
	f.proxy, f.fwdStatus, f.slice = proxy, stand.StatusCode, nil
	f.passOn(&fetched{stand, c.receive(f.request, stand, fields, sent)}, detailFallback)
	return true
}

// detailFallback is what Cache-Status says of answers of another origin, detailPage
// of the route's page.
const (
	detailFallback = "fallback"
	detailPage     = "error-page"
)

// sendPage answers with the route's page; false where there is none.
func (x *exchange) sendPage(status int, token string, more ...Field) bool {
	rt := x.r.Route
	if rt.Page == nil {
		return false
	}
	if rt.PageStatus != 0 {
		status = rt.PageStatus
	}
	proxy := x.cache.name
	if token != "" {
		proxy += "; error=" + token
	}
	x.cache.stats.Pages.Add(1)
	x.r.Outcome.Detail = detailPage
	x.writeHeader(status, applyRules(append([]Field{
		{"content-type", rt.PageType},
		{"content-length", strconv.Itoa(len(rt.Page))},
		{"cache-control", "no-store"},
		{"date", httpDate(time.Now())},
		{"proxy-status", proxy},
		x.cache.statusField(x.r),
	}, more...), rt))
	if x.r.Method != http.MethodHead {
		x.writeAll(rt.Page)
	}
	return true
}
