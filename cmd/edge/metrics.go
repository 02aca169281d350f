package main

// What each room counts, as metrics: named edge_ROOM_what, in base units, and
// described for people in docs/metrics.md (a test compares the two). Labels take
// values from bounded sets only: protocols, outcomes, tiers, configured names.

import (
	"runtime"
	"strconv"
	"sync/atomic"
	"time"

	"edgecdn/access"
	"edgecdn/admin"
	"edgecdn/cache"
	"edgecdn/server/gate"
)

// protocolNames are label values by cache.Proto - 1.
var protocolNames = [...]string{"h1", "h2", "h3"}

// samples gives all metrics of the node.
func (n *node) samples(to func(admin.Sample)) {
	emit := emitter(to)
	emit.build()
	ready := 0.0
	if len(n.notReady()) == 0 {
		ready = 1
	}
	emit.gauge("edge_ready", "1 while the node wants traffic, as /readyz says.", ready)
	emit.config(n.configStatus())
	emit.admin(n.admin.Stats())
	if n.state.now() == starting {
		return // the rooms are being made
	}
	if n.dns != nil {
		emit.dns(n.dns.Stats(), n.dns.Connections())
	}
	if n.server == nil {
		return // DNS alone
	}
	if n.cluster != nil {
		emit.cluster(n.cluster.Members(), n.cluster.Stats())
	}
	front := n.server.Stats()
	emit.server(front.Gate)
	emit.access(n.access.Stats())
	emit.h1(front.H1)
	emit.h2(front.H2)
	emit.h3(front.H3)
	emit.tls(front.TLS)
	emit.certificates(n.server.Certificates(), n.server.MissingCertificates())
	emit.cache(n.cache.Stats())
	emit.purges(n.purges.Stats(), n.spread)
	kept := n.store.Stats()
	emit.store(kept)
	emit.disk(kept.Disk)
	for name, s := range n.origin.Stats() {
		emit.origin(name, s)
	}
	for name, p := range n.origin.Pools() {
		emit.pool(name, p.State(), p.Stats())
	}
}

// emitter names samples shortly.
type emitter func(admin.Sample)

func (emit emitter) counter(name, help string, value uint64, labels ...admin.Label) {
	emit(admin.Sample{Name: name, Help: help, Kind: admin.Counter, Value: float64(value), Labels: labels})
}

func (emit emitter) gauge(name, help string, value float64, labels ...admin.Label) {
	emit(admin.Sample{Name: name, Help: help, Kind: admin.Gauge, Value: value, Labels: labels})
}

// byProtocol gives a counter for each protocol.
func (emit emitter) byProtocol(name, help string, values *[len(protocolNames)]atomic.Uint64) {
	for i := range values {
		emit.counter(name, help, values[i].Load(), admin.Label{Name: "protocol", Value: protocolNames[i]})
	}
}

// seconds makes the buckets cumulative, as Prometheus has them. counts has one
// more than bounds.
func (emit emitter) seconds(name, help string, bounds []time.Duration, counts []atomic.Uint64, sum int64, labels ...admin.Label) {
	s := admin.Sample{Name: name, Help: help, Kind: admin.Histogram, Labels: labels, Sum: time.Duration(sum).Seconds()}
	for i := range counts {
		s.Count += counts[i].Load()
		if i < len(bounds) {
			s.Buckets = append(s.Buckets, admin.Bucket{LE: bounds[i].Seconds(), Count: s.Count})
		}
	}
	emit(s)
}

func (emit emitter) server(s *gate.Stats) {
	for _, host := range s.Hosts() {
		for p := range host.Requests {
			for o := range host.Requests[p] {
				// Most combinations never happen; they are left out.
				if n := host.Requests[p][o].Load(); n > 0 {
					emit.counter("edge_requests_total", "Requests answered, by configured host (empty: no host matched), protocol and outcome.", n,
						admin.Label{Name: "host", Value: host.Name}, admin.Label{Name: "protocol", Value: protocolNames[p]}, admin.Label{Name: "outcome", Value: cache.Tokens[o]})
				}
			}
		}
	}
	for p := range s.Status {
		for class := range s.Status[p] {
			emit.counter("edge_responses_total", "Responses sent, by protocol and class of status.", s.Status[p][class].Load(),
				admin.Label{Name: "protocol", Value: protocolNames[p]}, admin.Label{Name: "status", Value: strconv.Itoa(class+1) + "xx"})
		}
	}
	for o := range s.Latency {
		h := &s.Latency[o]
		emit.seconds("edge_request_duration_seconds", "Time from the request's header read to the last byte written, by outcome.",
			gate.LatencyBounds[:], h.Buckets[:], h.Sum.Load(), admin.Label{Name: "outcome", Value: cache.Tokens[o]})
	}
	emit.byProtocol("edge_response_body_bytes_total", "Body bytes sent to clients.", &s.BytesSent)
	emit.byProtocol("edge_request_body_bytes_total", "Body bytes received from clients.", &s.BytesReceived)
	emit.byProtocol("edge_connections_accepted_total", "Client connections accepted.", &s.ConnectionsAccepted)
	for p := range s.ConnectionsOpen {
		emit.gauge("edge_connections", "Client connections open.", float64(s.ConnectionsOpen[p].Load()), admin.Label{Name: "protocol", Value: protocolNames[p]})
	}
	emit.gauge("edge_handlers", "Handlers at work on requests that memory could not answer.", float64(s.HandlersBusy.Load()))
	for _, refused := range []struct {
		reason string
		count  *atomic.Uint64
	}{{"handlers", &s.HandlersRefused}, {"header_bytes", &s.HeadersRefused}, {"early_data", &s.Early}, {"malformed", &s.Malformed}, {"access", &s.Denied}, {"body_bytes", &s.BodiesRefused}} {
		emit.counter("edge_requests_refused_total", "Requests refused before anything was looked up, by reason.", refused.count.Load(),
			admin.Label{Name: "reason", Value: refused.reason})
	}
	emit.counter("edge_responses_aborted_total", "Responses that broke off in the middle.", s.Aborted.Load())
	emit.counter("edge_messages_stalled_total", "Messages cut because the client took or sent nothing for limits.stall_timeout.", s.Stalled.Load())
	emit.counter("edge_panics_total", "Panics while answering a request; each is a defect of edge and is in the log.", s.Panics.Load())
	emit.counter("edge_accept_failures_total", "Connections that the system could not give us, for want of file descriptors or memory.", s.AcceptFailures.Load())
	emit.counter("edge_tls_handshake_failures_total", "TLS handshakes over TCP that came to nothing.", s.HandshakesFailed.Load())
	for i, name := range gate.RefusalNames {
		emit.counter("edge_connections_refused_total", "Connections closed at once because a limit was met, by limit.", s.ConnectionsRefused[i].Load(),
			admin.Label{Name: "limit", Value: name})
	}
	const proxy, proxyHelp = "edge_proxy_protocol_refused_total", "Connections refused because of their PROXY header: missing or malformed, or from a source that is not trusted."
	emit.counter(proxy, proxyHelp, s.ProxyRefused.Load(), admin.Label{Name: "reason", Value: "malformed"})
	emit.counter(proxy, proxyHelp, s.ProxyUntrusted.Load(), admin.Label{Name: "reason", Value: "untrusted"})
	emit.gauge("edge_tls_handshakes", "TLS handshakes under way, over TCP and QUIC.", float64(s.HandshakesBusy.Load()))
	emit.counter("edge_quic_retries_total", "QUIC clients asked to prove their address.", s.Retries.Load())
	emit.counter("edge_access_log_dropped_total", "Access log lines dropped because the writer was behind.", s.LogDropped.Load())
	emit.counter("edge_access_log_errors_total", "Access log lines that could not be written.", s.LogErrors.Load())
}

func (emit emitter) access(s *access.Stats) {
	const name, help = "edge_access_denied_total", "Requests refused because of who asks: by address, by rate."
	emit.counter(name, help, s.Addresses.Load(), admin.Label{Name: "reason", Value: "address"})
	emit.counter(name, help, s.Rates.Load(), admin.Label{Name: "reason", Value: "rate"})
}

func (emit emitter) admin(s *admin.Stats) {
	emit.counter("edge_admin_requests_total", "Requests on the admin listener.", s.Requests.Load())
	for _, refused := range []struct {
		reason string
		count  *atomic.Uint64
	}{{"host", &s.HostRefused}, {"token", &s.AuthFailures}, {"rate", &s.RateLimited}, {"scope", &s.Forbidden}, {"token_rate", &s.TokenLimited}} {
		emit.counter("edge_admin_refused_total", "Requests refused on the admin listener, by reason.", refused.count.Load(),
			admin.Label{Name: "reason", Value: refused.reason})
	}
	emit.counter("edge_admin_addresses_full_total", "Failures to show a token from more addresses than are told apart.", s.FailuresFull.Load())
	emit.counter("edge_admin_purges_total", "Purges made by the API and by the method PURGE.", s.PurgesAccepted.Load())
	emit.counter("edge_admin_purges_refused_total", "Purges refused, by the API and by the method PURGE, after a token was shown.", s.PurgesRefused.Load())
	emit.gauge("edge_admin_watchers", "Streams of purge events that are open.", float64(s.Watchers.Load()))
	emit.counter("edge_admin_watchers_refused_total", "Streams of purge events refused because too many were open.", s.WatchersRefused.Load())
	emit.counter("edge_admin_audit_errors_total", "Lines that could not be written to the audit log.", s.AuditErrors.Load())
	emit.counter("edge_admin_connections_refused_total", "Connections closed at once on the admin listener because too many were open.", s.ConnectionsRefused.Load())
}

func (emit emitter) build() {
	emit.gauge("edge_build_info", "Always 1; the labels say what runs.", 1,
		admin.Label{Name: "version", Value: version}, admin.Label{Name: "go", Value: runtime.Version()})
}

func (emit emitter) config(st admin.ConfigStatus) {
	emit.gauge("edge_config_loaded_timestamp_seconds", "When the configuration in force was put in force.", float64(st.Loaded.UnixMilli())/1000)
	emit.counter("edge_config_reloads_total", "Reloads of the configuration that went well.", st.Reloads)
	emit.counter("edge_config_reload_failures_total", "Reloads that were refused; the configuration before them stays in force.", st.Failures)
	failed := 0.0
	if st.LastError != "" {
		failed = 1
	}
	emit.gauge("edge_config_last_reload_failed", "1 when the last reload was refused.", failed)
}
