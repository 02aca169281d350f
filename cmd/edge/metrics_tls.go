package main

// What is to be known of TLS: how long certificates last, and what handshakes come to.

import (
	"edgecdn/admin"
	"edgecdn/server"
)

func (emit emitter) tls(s *server.TLSStats) {
	emit.counter("edge_tls_resumed_total", "TLS connections over TCP that a session ticket made cheap.", s.Resumed.Load())
	emit.counter("edge_tls_unknown_names_total", "TLS handshakes for a name in no certificate, or for none.", s.UnknownNames.Load())
	emit.counter("edge_tls_certificate_reloads_total", "Certificates read again because their files changed.", s.Reloaded.Load())
	emit.counter("edge_tls_acme_obtained_total", "Certificates had from the ACME authority, renewals included.", s.Obtained.Load())
	emit.counter("edge_tls_acme_failures_total", "Attempts to have a certificate from the ACME authority that failed.", s.NotObtained.Load())
	emit.counter("edge_tls_certificate_reload_failures_total", "Changed certificates that could not be read; the one before stays in force.", s.ReloadsFailed.Load())
}

func (emit emitter) certificates(all []server.CertificateStatus, missing int) {
	emit.gauge("edge_tls_acme_missing_certificates", "Names configured for ACME that there is no certificate for.", float64(missing))
	for _, c := range all {
		emit.gauge("edge_tls_certificate_expiry_timestamp_seconds", "When the certificate in force ends, by the first name in it and the kind of its key.",
			float64(c.NotAfter.Unix()), admin.Label{Name: "name", Value: c.Name}, admin.Label{Name: "key", Value: c.Key})
	}
}
