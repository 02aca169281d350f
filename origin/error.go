package origin

// error.go names what can go wrong with an origin, in the tokens of RFC 9209 2.3,
// and tells which of them an error of net/http is.

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"time"
)

// Kind is a Proxy-Status error type (RFC 9209 2.3). It is the same in responses,
// logs and metric labels.
type Kind string

// The kinds that occur here.
const (
	KindInternal           Kind = "proxy_internal_error"
	KindNotFound           Kind = "destination_not_found"
	KindUnavailable        Kind = "destination_unavailable"
	KindUnroutable         Kind = "destination_ip_unroutable"
	KindDNS                Kind = "dns_error"
	KindDNSTimeout         Kind = "dns_timeout"
	KindRefused            Kind = "connection_refused"
	KindTerminated         Kind = "connection_terminated"
	KindConnectTimeout     Kind = "connection_timeout"
	KindReadTimeout        Kind = "connection_read_timeout"
	KindWriteTimeout       Kind = "connection_write_timeout"
	KindConnectionLimit    Kind = "connection_limit_reached"
	KindTLS                Kind = "tls_protocol_error"
	KindCertificate        Kind = "tls_certificate_error"
	KindAlert              Kind = "tls_alert_received"
	KindRequest            Kind = "http_request_error"
	KindResponseIncomplete Kind = "http_response_incomplete"
	KindHeaderSize         Kind = "http_response_header_section_size"
	KindTransferCoding     Kind = "http_response_transfer_coding"
	KindResponseTimeout    Kind = "http_response_timeout"
	KindUpgrade            Kind = "http_upgrade_failed"
	KindProtocol           Kind = "http_protocol_error"
)

const kinds = 22

// Kinds lists every kind, for those who count errors by it.
var Kinds = [kinds]Kind{
	KindInternal, KindNotFound, KindUnavailable, KindUnroutable, KindDNS, KindDNSTimeout, KindRefused, KindTerminated,
	KindConnectTimeout, KindReadTimeout, KindWriteTimeout, KindConnectionLimit, KindTLS, KindCertificate, KindAlert,
	KindRequest, KindResponseIncomplete, KindHeaderSize, KindTransferCoding, KindResponseTimeout, KindUpgrade, KindProtocol,
}

func (k Kind) index() int {
	for i := range Kinds {
		if Kinds[i] == k {
			return i
		}
	}
	return 0
}

// Status returns the status to answer with when a request failed so.
func (k Kind) Status() int {
	switch k {
	case KindInternal, KindNotFound:
		return http.StatusInternalServerError
	case KindRequest:
		return http.StatusBadRequest
	case KindUnavailable, KindConnectionLimit:
		return http.StatusServiceUnavailable
	case KindDNSTimeout, KindConnectTimeout, KindReadTimeout, KindWriteTimeout, KindResponseTimeout:
		return http.StatusGatewayTimeout
	}
	return http.StatusBadGateway
}

// Error says why an origin gave no response, or why its body broke off. What the
// caller itself ended (context.Canceled) is no Error.
type Error struct {
	Kind Kind
	Err  error

	unsent  bool          // no endpoint has seen a byte of the request
	refused bool          // by ourselves: nobody was asked
	after   time.Duration // when asking again may help; 0 if nobody knows
}

// Error names the kind and the cause.
func (e *Error) Error() string { return "origin: " + string(e.Kind) + ": " + e.Err.Error() }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// ProxyError returns the error type for Proxy-Status and the status that fits.
func (e *Error) ProxyError() (token string, status int) { return string(e.Kind), e.Kind.Status() }

// RetryAfter returns when asking again may help; 0 if nobody knows.
func (e *Error) RetryAfter() time.Duration { return e.after }

func errorf(kind Kind, format string, args ...any) *Error {
	return &Error{Kind: kind, Err: fmt.Errorf(format, args...)}
}

// unsent marks an error: no endpoint has seen a byte of the request.
func unsent(err error) error {
	if e := (*Error)(nil); errors.As(err, &e) {
		e.unsent = true
	}
	return err
}

// connectKind tells errors that come before a connection stands: of names,
// addresses, TCP and TLS.
func connectKind(err error) Kind {
	var (
		dns         *net.DNSError
		certificate *tls.CertificateVerificationError
		record      tls.RecordHeaderError
	)
	switch {
	case errors.As(err, &dns) && dns.IsTimeout:
		return KindDNSTimeout
	case dns != nil:
		return KindDNS
	case errors.Is(err, syscall.ECONNREFUSED):
		return KindRefused
	case errors.Is(err, syscall.ENETUNREACH), errors.Is(err, syscall.EHOSTUNREACH):
		return KindUnroutable
	case errors.As(err, &certificate):
		return KindCertificate
	case alert(err):
		return KindAlert
	case errors.As(err, &record), strings.Contains(err.Error(), "tls: "):
		return KindTLS
	case timeout(err):
		return KindConnectTimeout
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return KindTerminated
	}
	return KindUnavailable
}

// alert says whether the other side ended the connection with a TLS alert. With
// TLS 1.3 it may come after our side of the handshake is through.
func alert(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "remote error" // as crypto/tls wraps it
}

func timeout(err error) bool {
	var t interface{ Timeout() bool }
	return errors.As(err, &t) && t.Timeout() || errors.Is(err, context.DeadlineExceeded)
}

// headerKind tells errors on a standing connection before the response's header
// has been read. net/http has no types for most of them: its texts are pinned by
// tests against origins that misbehave.
func headerKind(err error) Kind {
	text := err.Error()
	switch {
	case strings.Contains(text, "response headers exceeded"), strings.Contains(text, "response header list larger"):
		return KindHeaderSize
	case alert(err):
		return KindAlert
	case strings.Contains(text, "unsupported transfer encoding"):
		return KindTransferCoding
	case errors.Is(err, io.ErrUnexpectedEOF):
		return KindResponseIncomplete
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE), errors.Is(err, io.EOF),
		errors.Is(err, net.ErrClosed), strings.Contains(text, "server closed idle connection"),
		strings.Contains(text, "client connection lost"), strings.Contains(text, "server sent GOAWAY"):
		return KindTerminated
	case timeout(err):
		return KindReadTimeout
	}
	return KindProtocol
}

// bodyKind tells errors in the middle of a response's body.
func bodyKind(err error) Kind {
	text := err.Error()
	switch {
	case errors.Is(err, syscall.ECONNRESET), strings.Contains(text, "client connection lost"):
		return KindTerminated
	case strings.Contains(text, "chunk"):
		return KindTransferCoding
	case timeout(err):
		return KindReadTimeout
	}
	return KindResponseIncomplete
}
