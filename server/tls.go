package server

// tls.go says how hands are shaken: one immutable tls.Config for each way, made
// with the configuration and chosen by the name that a client asks for.

import (
	"crypto/tls"
	"fmt"
	"sync/atomic"
)

// TLS says which certificates to show, and to whom.
type TLS struct {
	// Certificates by name in them. Files that change are read again within
	// seconds. Several for one name are tried in order: the first whose key the
	// client can use is shown. None: a development certificate is made under the
	// data directory, good for loopback only, unless acme has names.
	Certificates []Certificate `yaml:"certificates"`
	// Unknown says what clients get that ask for a name in no certificate, or for
	// none: first shows the first of certificates, refuse ends the handshake with
	// the alert unrecognized_name, and a name shows the certificate for it.
	// Default first.
	Unknown string `yaml:"unknown"`
	// ACME has certificates from an authority by itself. A name that files have
	// a certificate for too is shown those first.
	ACME ACME `yaml:"acme"`
}

// Certificate is a chain and its key, both in PEM files.
type Certificate struct {
	// Cert is the file of the chain, the leaf first.
	Cert string `yaml:"cert"`
	// Key is the file of the leaf's private key.
	Key string `yaml:"key"`
}

// What TLS.Unknown may say beside a name.
const (
	unknownFirst  = "first"
	unknownRefuse = "refuse"
)

// certificatesMax bounds what is looked at every few seconds.
const certificatesMax = 10_000

func (t *TLS) validate(report func(path, problem string)) {
	if len(t.Certificates) > certificatesMax {
		report("certificates", fmt.Sprintf("%d certificates are too many: at most %d", len(t.Certificates), certificatesMax))
		return
	}
	t.ACME.validate(func(path, problem string) { report("acme."+path, problem) })
	for i, certificate := range t.Certificates {
		if certificate.Cert == "" {
			report(fmt.Sprintf("certificates[%d].cert", i), "is missing: name the PEM file of the chain")
		}
		if certificate.Key == "" {
			report(fmt.Sprintf("certificates[%d].key", i), "is missing: name the PEM file of the private key")
		}
	}
}

// TLSStats counts what handshakes and certificates come to. Handshakes that fail
// are counted by gate.Stats.
type TLSStats struct {
	// Resumed counts connections over TCP that a session ticket made cheap.
	Resumed atomic.Uint64
	// UnknownNames counts handshakes for a name in no certificate, or for none.
	UnknownNames atomic.Uint64
	// Reloaded counts certificates whose files changed and were read again.
	Reloaded atomic.Uint64
	// Obtained counts certificates had by ACME, NotObtained attempts in vain.
	Obtained, NotObtained atomic.Uint64
	// ReloadsFailed counts changed files that could not be read: the certificate
	// before stays.
	ReloadsFailed atomic.Uint64
}

// way is how hands are shaken for some hosts.
type way struct{ tcp, quic *tls.Config }

// handshakes are the ways under one configuration, by the file of the hosts'
// client_ca, "" for hosts without.
type handshakes map[string]way

// newHandshakes makes the ways for the certificates that hold at each handshake.
func (s *Server) newHandshakes(authorities map[string]*clientAuthority) handshakes {
	config := func(authority *clientAuthority, least uint16, protocols ...string) *tls.Config {
		c := &tls.Config{MinVersion: least, NextProtos: protocols, GetCertificate: s.certificate}
		if authority != nil {
			c.ClientAuth, c.ClientCAs = tls.RequireAndVerifyClientCert, authority.pool
		}
		return c
	}
	ways := handshakes{}
	add := func(file string, authority *clientAuthority) {
		ways[file] = way{tcp: config(authority, tls.VersionTLS12, "h2", "http/1.1"), quic: config(authority, tls.VersionTLS13, "h3")}
	}
	add("", nil)
	for file, authority := range authorities {
		add(file, authority)
	}
	return ways
}

// certificate is a tls.Config's GetCertificate.
func (s *Server) certificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	chosen, known := s.live.Load().certificates.choose(hello, s.acme.Load())
	if !known {
		s.stats.TLS.UnknownNames.Add(1)
	}
	return chosen, nil // neither makes crypto/tls say unrecognized_name
}

// tlsConfig returns what a listener shakes hands with. It only asks which way
// holds now: suites, versions and the exchange of keys, hybrid with ML-KEM
// included, are crypto/tls's own.
func (s *Server) tlsConfig(quic bool) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			if !quic {
				if challenge := s.alpnChallenge(hello); challenge != nil {
					return challenge, nil
				}
			}
			file := s.clientCA(hello.ServerName)
			chosen, ok := s.live.Load().ways[file]
			if !ok {
				// In the middle of a reload: who comes again finds it done.
				return nil, fmt.Errorf("server: client_ca %s is not loaded", file)
			}
			if quic {
				return chosen.quic, nil
			}
			return chosen.tcp, nil
		},
	}
}
